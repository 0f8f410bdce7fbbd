"""A melt of Lennard-Jones atoms in LAMMPS, which publishes them as it runs.

    mpiexec -n 2 python simulation.py --steps 160 --every 8

Where the stream `melt` goes is not this program's business: PANTA_URL_MELT or panta.toml says
it. Each rank puts the atoms that it owns at that moment: how many those are changes from step
to step, so the arrays are joined. Nothing is copied here: what is put is LAMMPS's own memory.
"""

import argparse

import numpy as np
from lammps import lammps
from mpi4py import MPI

import panta

SETUP = """
units lj
atom_style atomic
lattice fcc 0.8442
region box block 0 {cells} 0 {cells} 0 {cells}
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 3.0 87287 loop geom
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
neighbor 0.3 bin
neigh_modify every 20 delay 0 check no
fix 1 all nve
"""


def publish(out, md, time):
    """Puts what this rank owns as a step; collective."""
    owned = md.extract_setting("nlocal")
    # LAMMPS's arrays end in copies of the neighbours' atoms, which stay behind.
    atoms = {name: md.numpy.extract_atom(name)[:owned] for name in ("id", "x", "v")}
    low, high = md.extract_box()[:2]
    # What is a computation on all ranks is done before the step begins.
    temperature = md.get_thermo("temp")
    with out.step(time=time) as step:
        step.put("id", atoms["id"])
        step.put("position", atoms["x"])
        step.put("velocity", atoms["v"])
        step.put("owned", owned)
        if out.rank == 0:
            step.put("box", np.subtract(high, low))
            step.put("temperature", temperature)


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--stream", default="melt", help="name or URL (default: %(default)s)")
    words.add_argument("--cells", type=int, default=8, help="unit cells along a side")
    words.add_argument("--steps", type=int, default=160, help="time steps to run")
    words.add_argument("--every", type=int, default=8, help="time steps between two outputs")
    options = words.parse_args()

    world = MPI.COMM_WORLD
    md = lammps(comm=world, cmdargs=["-log", "none", "-screen", "none"])
    md.commands_string(SETUP.format(cells=options.cells))

    with panta.Writer(options.stream, world) as out:
        out.set_attribute("title", "a Lennard-Jones melt")
        out.set_attribute("lammps", md.version())
        out.define("id", "i4", (None,), dims=["atom"])
        out.define("position", "f8", (None, 3), dims=["atom", "axis"], unit="sigma")
        out.define("velocity", "f8", (None, 3), dims=["atom", "axis"], unit="sigma/tau")
        out.define("owned", "i4", kind="local value")
        out.define("box", "f8", 3, dims=["axis"], unit="sigma")
        out.define("temperature", "f8", unit="epsilon/k")
        md.command("run 0 post no")
        for done in range(0, options.steps + 1, options.every):
            publish(out, md, done * md.extract_global("dt"))
            if done < options.steps:
                md.command(f"run {options.every} post no")


if __name__ == "__main__":
    main()
