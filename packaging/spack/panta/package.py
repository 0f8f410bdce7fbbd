# A recipe for Spack, to be put into packages/panta of a repository of one's own.
# Not run by this project's tests, which have no Spack: a starting point.
#
# SPDX-License-Identifier: MIT OR Apache-2.0
from spack.package import *


class Panta(MakefilePackage):
    """In-situ streaming I/O for parallel simulations."""

    homepage = "https://example.org/panta"  # where the project is hosted
    license("MIT OR Apache-2.0")

    version("main", branch="main")

    depends_on("c", type="build")
    depends_on("rust@1.95:", type="build")

    # libpanta links no MPI and no Fortran runtime: both are the user's, whose compilers
    # build what lies in share/panta/fortran and include/panta_mpi.h. So neither is
    # a dependency, and one installation serves every MPI and every Fortran compiler.

    def build(self, spec, prefix):
        pass  # cargo builds while it installs

    def install(self, spec, prefix):
        make("install", f"PREFIX={prefix}")

    def setup_run_environment(self, env):
        env.set("PANTA_ROOT", self.prefix)
