"""Writes or reads the stream of the scenario `languages`:
    languages.py write|read URL STEPS WRITERS
with its place in its group in the environment."""

import sys

import numpy as np

import panta
from cells import bits, block, cells

ARRAYS = {"volume": ("f8", (4, 5, 6), ("z", "y", "x")), "plane": ("i4", (6, 10), ("y", "x")),
          "wave": ("c16", (8,), ("x",)), "flags": ("?", (4, 3), ("y", "x"))}
ROW = 3
role, url, steps, writers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def rows_of(rank, step):
    """How many rows of `rows` a rank puts in a step."""
    return (2 * rank + step) % 4


def rows(step):
    """Those of all ranks."""
    return block("f8", "rows", step, (sum(rows_of(rank, step) for rank in range(writers)), ROW))


def count(step):
    return cells("i8", bits("count", step, np.array(0))).item()


def write():
    with panta.Writer(url, panta.Comm.procs()) as out:
        assert out.size == writers
        for name, (dtype, shape, dims) in ARRAYS.items():
            out.define(name, dtype, shape, dims=dims, unit="K")
        out.define("rows", "f8", (None, ROW))
        out.define("count", "i8")
        out.define("title", str)
        out.set_attribute("answer", 42)
        for number in range(steps):
            with out.step(time=0.5 * number) as step:
                for name, (dtype, shape, _) in ARRAYS.items():
                    first = shape[0] * out.rank // writers
                    part = slice(first, shape[0] * (out.rank + 1) // writers)
                    start = (first,) + (0,) * (len(shape) - 1)
                    step.put(name, block(dtype, name, number, shape)[part], start)
                first = sum(rows_of(rank, number) for rank in range(out.rank))
                step.put("rows", rows(number)[first:first + rows_of(out.rank, number)])
                if out.rank == 0:
                    step.put("count", count(number))
                    step.put("title", f"title {number} ω")


def read():
    seen = 0
    with panta.Reader(url, panta.Comm.procs()) as inp:
        for step in inp:
            assert (step.number, step.time) == (seen, 0.5 * seen)
            for name, (dtype, shape, dims) in ARRAYS.items():
                assert (step[name].dims, step[name].unit) == (dims, "K"), name
                np.testing.assert_array_equal(step[name][...], block(dtype, name, seen, shape))
            whole = block("f8", "volume", seen, (4, 5, 6))
            np.testing.assert_array_equal(step["volume"][1:3, 2:5, 1:5], whole[1:3, 2:5, 1:5])
            np.testing.assert_array_equal(step["rows"][...], rows(seen))
            assert step["count"].value == count(seen)
            assert step["title"].value == f"title {seen} ω"
            assert step.attributes == {"answer": 42}
            seen += 1
    assert seen == steps


write() if role == "write" else read()
