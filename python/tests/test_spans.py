"""Memory of the transport, computed into, and over with the step."""

import gc
import subprocess
import sys

import numpy as np
import pytest

import panta


@pytest.fixture
def writer(url):
    with panta.Writer(url) as w:
        w.define("u", "f8", (4, 6))
        w.define("mask", "?", 3)
        yield w


def test_what_is_computed_into_a_span_is_what_is_read(writer, url):
    with writer.step() as s:
        u = s.span("u")
        assert isinstance(u, np.ndarray) and u.flags.writeable and u.flags.c_contiguous
        assert (u.shape, u.dtype, u.sum()) == ((4, 6), np.dtype("f8"), 0)
        u[:] = np.arange(24).reshape(4, 6)
        u[1:3, ::2] += 100
        np.multiply(u[0], 2, out=u[0])
        u.T[-1] = -1
    assert writer.copies.bytes == 0, "no copy from a span to the file"
    wanted = np.arange(24.0).reshape(4, 6)
    wanted[1:3, ::2] += 100
    wanted[0] *= 2
    wanted[:, -1] = -1
    with panta.Reader(url) as r:
        np.testing.assert_array_equal(r.next_step()["u"][...], wanted)


def test_a_span_is_a_block_of_the_shape_asked_for(writer, url):
    with writer.step() as s:
        for row in range(4):
            s.span("u", (row, 0), (1, 6))[0] = row
    with panta.Reader(url) as r:
        assert r.next_step()["u"][:, 3].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("end", ["end", "abort", "close", "forget"])
def test_a_span_and_its_slices_are_over_when_the_step_is(url, end):
    w = panta.Writer(url)
    w.define("u", "f8", (4, 6))
    s = w.step()
    u = s.span("u")
    row, flat, turned = u[1], u.reshape(-1), u[::-1].T
    u[:] = 1
    own, total, copied = u + 1, u.sum(), u.copy()
    if end == "close":
        w.close()
    elif end == "forget":
        del s, w
        gc.collect()
    else:
        getattr(s, end)()
    for array in (u, row, flat, turned):
        for use in (lambda: array[0], lambda: array.sum(), lambda: array + 1, lambda: len(array),
                    lambda: array.fill(3), lambda: array.__setitem__(0, 1), lambda: list(array),
                    lambda: np.add(1, array), lambda: np.concatenate([array]), lambda: array.data,
                    lambda: array.__iadd__(1), lambda: array.tolist(), lambda: float(array),
                    lambda: np.copyto(array, 1), lambda: array.shape, lambda: bool(array)):
            with pytest.raises(panta.ClosedError, match="the span of `u` ended with step 0"):
                use()
        assert "ended" in repr(array) and isinstance(array, np.ndarray)
    # What was made of it, rather than a part of it, stays.
    assert (own.sum(), total, copied.sum()) == (48, 24, 24)
    # And where other views get past all that, there is nothing to take for data or to write to.
    beyond = np.asarray(u)
    assert np.isnan(beyond).all() and not beyond.flags.writeable


def test_a_span_of_what_must_be_checked_is_refused(writer):
    with pytest.raises(panta.UnsupportedError, match="booleans"), writer.step() as s:
        s.span("mask")
    with pytest.raises(panta.ShapeError), writer.step() as s:
        s.span("u", (0, 0), (5, 6))
    with pytest.raises(panta.UnknownVariable), writer.step() as s:
        s.span("v")


def test_a_step_that_ended_lends_nothing(writer):
    with writer.step() as s:
        pass
    with pytest.raises(panta.ClosedError):
        s.span("u")


@pytest.mark.parametrize("end", ["close", "forget"])
@pytest.mark.parametrize("engine", ["file", "stream"])
def test_a_plain_view_of_a_span_can_be_looked_at_when_the_writer_is_gone(tmp_path, engine, end):
    """In a process of its own: what would fail is a signal."""
    urls = {
        "file": f"file:{tmp_path}/s.panta",
        "stream": f"stream:s?contact={tmp_path}/s&rendezvous=0",
    }
    program = f"""
import gc, sys
import numpy as np
import panta

w = panta.Writer({urls[engine]!r})
w.define("u", "f8", (1 << 20,))
s = w.step()
u = s.span("u")
plain, lent = np.asarray(u), memoryview(u)
u[:] = 7
s.end()
if {end!r} == "close":
    w.close()
del s, w, u
gc.collect()
# Were the memory gone, this would most likely take its place.
others = [np.zeros(1 << 20) for _ in range(8)]
assert plain[::512].shape == (2048,) and np.asarray(lent)[-1] == plain[-1] == 7
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
