"""The program for MPI of docs/python.md, and what an mpi4py communicator does to a group.

Run by scripts/test-python-examples.
"""

import pathlib
import subprocess
import sys

import numpy as np
import panta

ROOT = pathlib.Path(__file__).resolve().parents[2]


def mpiexec(ranks, script, *arguments, **settings):
    command = [pathlib.Path(sys.executable).with_name("mpiexec"), "-n", str(ranks),
               sys.executable, script, *arguments]
    return subprocess.run([str(word) for word in command], timeout=120, **settings)


def test_the_program_for_mpi_of_the_page_runs(tmp_path):
    _, _, rest = (ROOT / "docs/python.md").read_text().partition("```python ranks.py\n")
    (tmp_path / "ranks.py").write_text(rest.partition("```")[0])
    mpiexec(3, tmp_path / "ranks.py", cwd=tmp_path, check=True)
    with panta.Reader(f"file:{tmp_path / 'ranks.panta'}") as steps:
        u = steps.next_step()["u"]
        assert [block.rank for block in u.blocks] == [0, 1, 2]
        np.testing.assert_array_equal(u[:, 0], np.repeat([0.0, 1, 2], 4))


def test_a_rank_that_does_not_come_is_an_error_and_no_hang(tmp_path):
    script = tmp_path / "late.py"
    script.write_text(f"""
from mpi4py import MPI
import panta

# The duplication is MPI's, and waits; what follows it does not.
world = MPI.COMM_WORLD
twin = world.Dup()
class Duplicated(MPI.Intracomm):
    def Dup(self):
        return MPI.Intracomm(twin)
if world.rank == 0:
    try:
        panta.Writer("file:{tmp_path / 'late.panta'}?deadline=300ms", Duplicated(world))
    except panta.Error as error:
        print(type(error.__cause__).__name__, error, flush=True)
        world.Abort(3)
world.Barrier()
""")
    done = mpiexec(2, script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "DeadlineError" in done.stdout and "is every rank" in done.stdout


def test_a_communicator_that_is_none_for_a_group_is_refused_by_name(tmp_path):
    script = tmp_path / "freed.py"
    script.write_text("""
from mpi4py import MPI
import panta

between = MPI.COMM_SELF.Create_intercomm(0, MPI.COMM_WORLD, 1 - MPI.COMM_WORLD.rank)
own = MPI.COMM_WORLD.Dup()
copy = MPI.Intracomm(own)
own.Free()
for comm, says in [(own, "`comm` is MPI.COMM_NULL: it was freed"),
                   (copy, "`comm` is no communicator of MPI: was it freed?"),
                   (between, "`comm` is an intercommunicator")]:
    try:
        panta.Writer("null:", comm)
    except panta.ArgumentError as error:
        assert says in str(error), error
    else:
        raise AssertionError(says)
""")
    mpiexec(2, script, cwd=tmp_path, check=True)
