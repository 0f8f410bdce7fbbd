"""The page that watches the Gray-Scott example, run against a live simulation.

Run by scripts/test-python-examples.
"""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DEADLINE_SECONDS = 240


def test_the_page_draws_a_run_as_it_comes(tmp_path):
    environment = dict(os.environ, PANTA_URL_GRAY_SCOTT=f"file:{tmp_path / 'gray_scott.panta'}",
                       PICTURE=str(tmp_path / "gray_scott.png"))
    page = subprocess.Popen([sys.executable, HERE / "gray_scott_live.py"], env=environment,
                            cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        # One rank needs no mpirun, whichever MPI it was built with.
        subprocess.run([os.environ["GRAY_SCOTT_COMMAND"], "--size", "32", "--steps", "300",
                        "--output-every", "30"], env=environment, cwd=tmp_path, check=True,
                       timeout=DEADLINE_SECONDS)
        said, _ = page.communicate(timeout=DEADLINE_SECONDS)
    finally:
        page.kill()
    assert page.returncode == 0
    steps = [line for line in said.splitlines() if line.endswith("filled")]
    assert len(steps) == 11 and steps[-1].startswith("step 10, t = 300")
    assert (tmp_path / "gray_scott.png").stat().st_size > 50_000
