"""LAMMPS on two ranks, coupled live to the analysis through a server and directly: the result is
that of the same over a file.

Run by scripts/test-python-examples.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).resolve().parent
DEADLINE_SECONDS = 240
RUN = ["--cells", "6", "--steps", "160", "--every", "8"]


def server(directory):
    """A server of Panta's command, and the URL of a stream on it."""
    command = [os.environ["PANTA_COMMAND"], "serve", "--listen", "127.0.0.1:0",
               "--key", directory / "key"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("serving at"):
            address = line.split()[2].rstrip(",;")
            break
    return process, f"staging:melt@{address}?key={directory / 'key'}&retain_steps=64"


def couple(url, directory):
    """The two programs, started apart; gives what the analysis found and said."""
    environment = dict(os.environ, PANTA_URL_MELT=url, OMP_NUM_THREADS="1")
    analysis = subprocess.Popen([sys.executable, HERE / "analysis.py", "--output", directory],
                                env=environment, stdout=subprocess.PIPE, text=True)
    try:
        mpiexec = pathlib.Path(sys.executable).with_name("mpiexec")
        subprocess.run([mpiexec, "-n", "2", sys.executable, HERE / "simulation.py", *RUN],
                       env=environment, check=True, timeout=DEADLINE_SECONDS)
        said, _ = analysis.communicate(timeout=DEADLINE_SECONDS)
        assert analysis.returncode == 0
    finally:
        analysis.kill()
    return dict(np.load(directory / "rdf.npz")), said


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of runs through a server, from program to program, and through a file."""
    directory = tmp_path_factory.mktemp("melt")
    process, url = server(directory)
    try:
        live = couple(url, directory / "live")
    finally:
        process.terminate()
        process.wait()
    direct = couple(f"stream:melt?contact={directory / 'contact'}", directory / "direct")
    return live, direct, couple(f"file:{directory / 'melt.panta'}", directory / "file"), directory


def test_the_result_does_not_depend_on_what_carries_the_steps(results):
    (live, _), (direct, _), (file, _), _ = results
    assert live.keys() == direct.keys() == file.keys()
    for name, values in file.items():
        np.testing.assert_array_equal(values, live[name], err_msg=name)
        np.testing.assert_array_equal(values, direct[name], err_msg=name)


def test_every_atom_comes_along_whoever_owns_it(results):
    (live, said), *_ = results
    assert live["owned"].shape == (21, 2) and (live["owned"].sum(axis=1) == 864).all()
    assert len(np.unique(live["owned"][:, 0])) > 1, "atoms change hands"
    assert said.count("864 atoms") == 21


def test_a_crystal_melts(results):
    (live, _), *_, directory = results
    radii = (np.arange(120) + 0.5) * 4 / 120
    crystal, liquid = live["rdf"][0], live["rdf"][-1]
    assert crystal.max() > 10 and crystal[(radii > 1.2) & (radii < 1.5)].max() == 0
    peak = radii[liquid.argmax()]
    assert 1.0 < peak < 1.2 and 2 < liquid.max() < 4
    assert liquid[(radii > 1.3) & (radii < 1.6)].min() > 0.2, "between the shells, too"
    assert abs(liquid[radii > 3].mean() - 1) < 0.05
    assert live["temperature"][0] == pytest.approx(3) and 1 < live["temperature"][-1] < 2
    assert (directory / "live" / "rdf.png").stat().st_size > 20_000
