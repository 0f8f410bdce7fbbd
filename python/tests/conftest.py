"""What the tests have in common: a stream of their own, and programs beside them."""

import os
import pathlib
import subprocess
import sys

import pytest

DEADLINE_SECONDS = 60

# The data of the scenarios, which their programs in Python make as well.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests/programs"))


@pytest.fixture
def url(tmp_path):
    """A stream that nobody else has."""
    return f"file:{tmp_path / 'run.panta'}"


class Program:
    """A process beside the test: another rank, another side, another language."""

    def __init__(self, command, **settings):
        self.process = subprocess.Popen(
            [str(word) for word in command], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)

    def line(self):
        """The next line that it says."""
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"it said no more:\n{self.process.communicate()[1]}")
        return line.strip()

    def ended(self, status=0):
        """What it said, once it has ended as it should."""
        # Their standard input stays open: some take its end for a sign to stop.
        self.process.wait(timeout=DEADLINE_SECONDS)
        said, errors = self.process.communicate()
        assert self.process.returncode == status, f"{said}\n{errors}"
        return said

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def program():
    """Starts programs, and sees that none outlives the test."""
    started = []

    def start(*command, **settings):
        started.append(Program(command, **settings))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def script(program, tmp_path):
    """Starts a script of Python in a process of its own."""

    def start(text, *arguments, **environment):
        path = tmp_path / f"script{len(list(tmp_path.glob('script*')))}.py"
        path.write_text(text)
        variables = dict(os.environ, **{key: str(value) for key, value in environment.items()})
        return program(sys.executable, path, *arguments, cwd=tmp_path, env=variables)

    return start


def skip(what):
    """Skips a test for want of something; a failure where PANTA_CI is set."""
    if os.environ.get("PANTA_CI"):
        pytest.fail(f"{what}, and PANTA_CI is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def built(repository):
    """Where cargo left the programs and libraries that the tests run beside Python."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", repository / "target")) / "debug"
    for name in ("panta", "panta-scenario", "libpanta_c.so"):
        if not (target / name).exists():
            skip(f"{target / name} is not built; scripts/test-python builds it")
    return target


@pytest.fixture
def staging(built, program, tmp_path):
    """The URL of a stream on a server of its own."""
    server = program(built / "panta", "serve", "--listen", "127.0.0.1:0", "--key", tmp_path / "key")
    line = server.line()
    while not line.startswith("serving at"):
        line = server.line()
    address = line.split()[2].rstrip(",;")
    return f"staging:run@{address}?key={tmp_path / 'key'}&retain_steps=64"


@pytest.fixture(scope="session")
def repository():
    """The root of the repository."""
    return pathlib.Path(__file__).resolve().parents[2]
