"""Python and the other languages read each other, each in processes of its own."""

import os
import shutil
import subprocess

import numpy as np
import pytest

import panta
from cells import bits, block, cells
from conftest import skip

STEPS = 10


def text(variable, step, index):
    return f"{variable} {step}·{index} " + "ω" * int(bits(variable, step, index) % np.uint64(7))


TYPES = {"i8": "i1", "i16": "i2", "i32": "i4", "i64": "i8", "u8": "u1", "u16": "u2", "u32": "u4",
         "u64": "u8", "f32": "f4", "f64": "f8", "complex64": "c8", "complex128": "c16", "bool": "?"}
ARRAYS = {"line f64": (17,), "cube f64": (4, 5, 6), "four f64": (5, 4, 2, 5),
          "four complex64": (2, 3, 4, 5), "line i16": (101,), **{f"plane {t}": (6, 10) for t in TYPES}}


def field(name, step):
    return block(TYPES[name.split()[1]], name, step, ARRAYS[name])


@pytest.fixture
def rust(built, program, tmp_path):
    """Starts the ranks of a role of the scenarios in Rust."""

    def start(role, url, size=1, **arguments):
        meet = tmp_path / role.split("::")[1]
        meet.mkdir()
        words = [f"{key}={value}" for key, value in arguments.items()]
        ranks = []
        for rank in range(size):
            place = dict(os.environ, PANTA_RANK=str(rank), PANTA_SIZE=str(size),
                         PANTA_RENDEZVOUS=str(meet))
            ranks.append(program(built / "panta-scenario", *role.split("::"), url, *words, env=place))
        return ranks

    return start


@pytest.fixture(params=["file", "staging", "stream"])
def stream(request, tmp_path):
    """A stream in a file, one on a server, and one from program to program."""
    if request.param == "stream":
        return f"stream:run?contact={tmp_path / 'contact'}&retain_steps=64"
    return request.getfixturevalue({"file": "url"}.get(request.param, request.param))


@pytest.mark.parametrize("writers", [1, 3])
def test_python_reads_every_type_that_rust_writes(stream, rust, writers):
    ranks = rust("layouts::types_writer", stream, writers, steps=STEPS, writers=writers)
    with panta.Reader(stream) as r:
        for number, step in enumerate(r):
            assert (step.number, step.time) == (number, 0.5 * number)
            assert len(step) == len(ARRAYS) + 2 + 2 * len(TYPES)
            for name in ARRAYS:
                wanted, u = field(name, number), step[name]
                assert (u.dtype, u.unit, u.dims[-1]) == (wanted.dtype, "m s-1", "x")
                np.testing.assert_array_equal(u[...], wanted)
                np.testing.assert_array_equal(u[..., ::-2], wanted[..., ::-2])
            for name, dtype in TYPES.items():
                wanted = cells(dtype, bits(name, number, np.arange(writers)))
                np.testing.assert_array_equal(step[f"local {name}"][...], wanted)
                wanted = cells(dtype, bits(name, number, np.array(1000)))
                assert step[f"global {name}"].value == wanted.item()
            assert step["title"].value == text("title", number, 0)
            assert list(step["host"]) == [text("host", number, n) for n in range(writers)]
    assert number == STEPS - 1
    for rank in ranks:
        rank.ended()


@pytest.mark.parametrize("readers", [1, 2])
def test_rust_reads_every_type_that_python_writes(stream, rust, readers):
    ranks = rust("layouts::types_reader", stream, readers, steps=STEPS, writers=1)
    with panta.Writer(stream) as w:
        for name, shape in ARRAYS.items():
            dims = ("t", "z", "y", "x")[4 - len(shape):]
            w.define(name, TYPES[name.split()[1]], shape, dims=dims, unit="m s-1")
        w.define("title", str)
        w.define("host", str, kind="local value")
        for name, dtype in TYPES.items():
            w.define(f"global {name}", dtype)
            w.define(f"local {name}", dtype, kind="local value")
        for number in range(STEPS):
            with w.step(time=0.5 * number) as s:
                for name in ARRAYS:
                    s.put(name, field(name, number))
                s.put("title", text("title", number, 0))
                s.put("host", text("host", number, 0))
                for name, dtype in TYPES.items():
                    s.put(f"global {name}", cells(dtype, bits(name, number, np.array(1000))))
                    s.put(f"local {name}", cells(dtype, bits(name, number, np.array(0))))
    for rank in ranks:
        rank.ended()


def test_rust_reads_rows_that_python_joins(stream, rust):
    (rank,) = rust("arrays::joined_reader", stream, writers=3)
    counts = lambda step: [(writer * 2 + step) % 4 for writer in range(3)]
    with panta.Writer(stream) as w:
        w.define("rows", "f8", (None, 3))
        for step in range(5):
            first = 0
            with w.step(time=0.5 * step) as s:
                for count in counts(step):
                    index = np.arange(3 * first, 3 * (first + count))
                    s.put("rows", cells("f8", bits("rows", step, index)).reshape(count, 3))
                    first += count
    rank.ended()


def c_program(repository, built, tmp_path, name):
    """A program of docs/c.md, compiled; as its own test does."""
    text, take = [], False
    for line in (repository / "docs/c.md").read_text().splitlines():
        if line.startswith("```"):
            take = line == f"```c {name}"
        elif take:
            text.append(line)
    source = tmp_path / name
    source.write_text("\n".join(text))
    library = tmp_path / "lib"
    library.mkdir(exist_ok=True)
    shutil.copy(built / "libpanta_c.so", library / "libpanta.so.0")
    (library / "libpanta.so").symlink_to("libpanta.so.0")
    if not shutil.which("cc"):
        skip("cc is not installed")
    program = tmp_path / name.removesuffix(".c")
    subprocess.run(["cc", "-std=c99", source, f"-I{repository / 'include'}", f"-L{library}",
                    "-lpanta", f"-Wl,-rpath,{library}", "-o", program], check=True)
    return program


def test_c_reads_what_python_writes(repository, built, program, tmp_path, stream):
    analysis = program(c_program(repository, built, tmp_path, "analysis.c"), cwd=tmp_path,
                       env=dict(os.environ, PANTA_URL_RUN42=stream))
    with panta.Writer(stream) as w:
        w.define("u", "f8", (64, 32), dims=("y", "x"), unit="K")
        y, x = np.mgrid[:64, :32]
        for n in range(5):
            with w.step(time=0.1 * n) as s:
                u = np.asfortranarray(100.0 * n + y + 0.01 * x)
                s.put("u", u[:40])
                s.put("u", u[40:], (40, 0))
    said = analysis.ended().splitlines()
    assert len(said) == 5
    assert said[-1] == "step 4 at 0.4: mean of column 10 is 431.60 K"


def test_python_reads_what_c_writes(repository, built, program, tmp_path, stream):
    simulation = program(c_program(repository, built, tmp_path, "simulation.c"), cwd=tmp_path,
                         env=dict(os.environ, PANTA_URL_RUN42=stream))
    y, x = np.mgrid[:64, :32]
    with panta.Reader(stream) as r:
        for n, step in enumerate(r):
            u = step["u"]
            np.testing.assert_allclose(u[...], 100.0 * n + y + 0.01 * x)
            assert (u.dims, u.unit, u.attributes) == (("y", "x"), "K", {"long_name": "temperature"})
    assert n == 4
    simulation.ended()
