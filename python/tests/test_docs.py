"""docs/python.md is run as it stands: its programs coupled, its sessions line by line.

The program for MPI is run by the tests of the examples, which have one.
"""

import doctest
import os
import subprocess

import pytest

pytest.importorskip("xarray")

LAST = "step 4 at 0.4: mean of column 10 is 431.60 K"


@pytest.fixture
def page(repository):
    """The fences of the page: what they say they are, and their text."""
    fences, text = [], None
    for line in (repository / "docs/python.md").read_text().splitlines(keepends=True):
        if line.startswith("```"):
            if text is None:
                kind, text = line[3:].strip(), []
            else:
                fences.append((kind, "".join(text)))
                text = None
        elif text is not None:
            text.append(line)
    return fences


def program(page, name):
    return "".join(text for kind, text in page if kind == f"python {name}")


def test_the_programs_of_the_page_run_coupled(page, script):
    analysis = script(program(page, "analysis.py"))
    script(program(page, "simulation.py")).ended()
    said = analysis.ended().splitlines()
    assert len(said) == 5 and said[-1] == LAST


def test_the_command_that_couples_them_is_that_of_the_page(page, tmp_path):
    (command,) = [text for kind, text in page if kind == "sh" and "analysis.py" in text]
    for name in ("simulation.py", "analysis.py"):
        (tmp_path / name).write_text(program(page, name))
    ran = subprocess.run(["bash", "-euc", command], cwd=tmp_path, text=True, timeout=60,
                         stdin=subprocess.DEVNULL, capture_output=True)
    assert ran.returncode == 0 and LAST in ran.stdout, ran.stdout + ran.stderr


def test_the_sessions_of_the_page_say_what_it_says_they_do(page, script, tmp_path, monkeypatch):
    script(program(page, "simulation.py")).ended()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PANTA_URL_RUN42", raising=False)
    sessions = [text for kind, text in page if kind == "python" and text.startswith(">>>")]
    assert len(sessions) > 6 and sum(kind == "python" for kind, _ in page) == len(sessions)
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False)
    test = parser.get_doctest("\n".join(sessions), {}, "docs/python.md", None, 0)
    said = []
    runner.run(test, out=said.append)
    assert runner.tries > 20 and runner.failures == 0, "".join(said)


def test_what_the_page_links_to_is_there(repository):
    import re
    for link in re.findall(r"\]\(([^)#]+)", (repository / "docs/python.md").read_text()):
        assert (repository / "docs" / link).exists(), link
    assert os.path.isdir(repository / "examples/lammps")
