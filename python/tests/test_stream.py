"""Streams from program to program: what holds of files holds of them, and no copy at all."""

import gc
import signal
import threading

import numpy as np
import pytest

import panta

MEBIBYTES = 64
SHAPE = (MEBIBYTES, 1 << 17)

WRITER = """
import sys, numpy as np, panta
url, steps, shape = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3])
with panta.Writer(url) as w:
    w.define("u", "f8", shape, dims=("y", "x"), unit="K")
    for n in range(steps):
        with w.step(time=0.5 * n) as s:
            u = s.span("u")
            u[:] = n + np.arange(shape[1])
    print("copied", w.copies.bytes, flush=True)
"""


@pytest.fixture
def stream(tmp_path):
    """A stream between programs of this host."""
    return f"stream:run?contact={tmp_path / 'contact'}&limit=1GiB&deadline=30s"


def field(n, shape=SHAPE):
    return np.broadcast_to(n + np.arange(float(shape[1])), shape)


def test_64_mebibytes_cross_without_a_copy_end_to_end(stream, script):
    writer = script(WRITER, stream, 3, SHAPE)
    with panta.Reader(stream) as r:
        for n, step in enumerate(r):
            u = step["u"].view()
            assert u.nbytes == MEBIBYTES << 20 and not u.flags.writeable and not u.flags.owndata
            np.testing.assert_array_equal(u[::7, 5:9], field(n)[::7, 5:9])
            assert u[-1, -1] == n + SHAPE[1] - 1
            del u
        assert n == 2
        assert r.copies.bytes == 0, "none on the reader's side"
        assert r.engine.engine == "stream"
    assert writer.line() == "copied 0", "and none on the writer's"
    writer.ended()


def test_a_view_stays_beyond_its_step_and_reader_and_is_let_go_with_the_last_array(stream, script):
    writer = script(WRITER, stream, 3, (4, 6))
    with panta.Reader(stream) as r:
        u = r.next_step()["u"].view()
        part = u[1:, ::2]
        r.next_step()
        r.next_step()
        assert r.next_step() is None
    writer.ended()
    del u, r
    gc.collect()
    np.testing.assert_array_equal(part, field(0, (4, 6))[1:, ::2])
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 1
    lent = np.from_dlpack(part)
    assert np.shares_memory(lent, part) and memoryview(part).readonly


def test_views_count_against_the_limit(stream, script):
    small = stream.replace("limit=1GiB", "limit=256KiB") + "&retain_steps=2"
    writer = script(WRITER, small, 8, (16, 512))  # 64 KiB a step
    held = []
    with panta.Reader(small) as r:
        with pytest.raises(panta.WouldDeadlock):
            for _ in range(8):
                step = r.next_step()
                held.append(step["u"].view())
        first = held[0][0, 0]
        del step
        held.clear()
        rest = [int(step["u"][0, 0]) for step in r]
    assert first == 0 and rest[-1] == 7
    writer.ended()


def test_boxes_and_strides_are_copied_once(stream, script):
    writer = script(WRITER, stream, 2, (64, 512))
    with panta.Reader(stream) as r:
        for n, step in enumerate(r):
            before = r.copies.bytes
            got = step["u"][::-2, 3:400:5]
            np.testing.assert_array_equal(got, field(n, (64, 512))[::-2, 3:400:5])
            assert r.copies.bytes - before == got.nbytes
    writer.ended()


def test_arrays_that_are_put_cross_and_may_be_changed_afterwards(stream, script):
    writer = script("""
import sys, numpy as np, panta
with panta.Writer(sys.argv[1]) as w:
    w.define("u", "f8", (8, 6))
    u = np.zeros((6, 8)).T
    for n in range(10):
        u[:] = n
        with w.step() as s:
            s.put("u", u)
        u[:] = -1
""", stream)
    with panta.Reader(stream) as r:
        assert [step["u"][...].sum() for step in r] == [48.0 * n for n in range(10)]
    writer.ended()


def test_threads_of_one_program_are_coupled(stream):
    def write():
        with panta.Writer(stream) as w:
            w.define("n", "i8")
            for n in range(20):
                with w.step() as s:
                    s["n"] = n

    writes = threading.Thread(target=write)
    writes.start()
    with panta.Reader(stream) as r:
        assert [step["n"].value for step in r] == list(range(20))
    writes.join()


OPENED = """w = panta.Writer(url.replace("limit=1GiB", "limit=64KiB"))
r = panta.Reader(url)
w.define("u", "u1", 40_000)
def write():
    with w.step() as s:
        s.put("u", np.zeros(40_000, "u1"))
"""


@pytest.mark.parametrize("before, wait", [
    ("", "panta.Reader(url)"), ("w = panta.Writer(url); w.define('n', 'i8')", "w.step()"),
    (OPENED + "write()", "write()"), (OPENED + "write(); kept = r.next_step()", "w.close()"),
    (OPENED + "import panta.xarray; each = panta.xarray.iterate(url)", "next(each)"),
], ids=["no writer", "no reader", "no room", "closing", "iterating"])
def test_ctrl_c_ends_the_waits_for_the_other_side(stream, script, before, wait):
    waits = script(f"""
import os, sys, time, numpy as np, panta
url = sys.argv[1]
{before}
try:
    print("waits", flush=True)
    {wait}
except KeyboardInterrupt:
    print("interrupted", time.monotonic_ns(), flush=True)
    # What is open may have somebody to wait for.
    os._exit(0)
""", stream)
    assert waits.line() == "waits"
    threading.Event().wait(0.2)
    waits.process.send_signal(signal.SIGINT)
    assert waits.line().startswith("interrupted")
    waits.ended()


def test_a_live_stream_is_a_row_of_datasets(stream, script):
    pytest.importorskip("xarray")
    import panta.xarray
    writer = script(WRITER, stream, 4, (8, 6))
    for n, dataset in enumerate(panta.xarray.iterate(stream)):
        assert (int(dataset.step), float(dataset.time), dataset.u.units) == (n, n / 2, "K")
        np.testing.assert_array_equal(dataset.u, field(n, (8, 6)))
    assert n == 3
    writer.ended()


def test_a_step_that_is_gone_is_an_error_to_who_was_sent_it(stream, script):
    pytest.importorskip("xarray")
    import pickle

    import panta.xarray
    writer = script(WRITER, stream, 1, (8, 6))
    with panta.Reader(stream) as r:
        source = panta.xarray.StepSource(stream.replace("=30s", "=10ms"), r.next_step())
        assert source.get("u", (0, 0)) == 0
        sent = pickle.dumps(source)
        assert r.next_step() is None
    writer.ended()
    with pytest.raises(panta.NotFoundError):
        pickle.loads(sent).get("u", ...)


def test_frozen_selections_are_sent_along_with_steps(tmp_path, script):
    # The writer is few steps ahead, so that most come after they were asked for.
    url = f"stream:run?contact={tmp_path / 'contact'}&limit=100KiB&deadline=30s&transport=tcp"
    writer = script(WRITER, url, 12, (2, 1024))
    with panta.Reader(url) as r:
        r.freeze_selections()
        for n, step in enumerate(r):
            np.testing.assert_array_equal(step["u"][1], field(n, (2, 1024))[1])
        assert n == 11
        counts = r.push_counts
        assert counts.used > 0 and counts.used_bytes >= 8192 * counts.used
        assert counts.wasted_bytes <= counts.used_bytes
        assert r.metadata_bytes > 0 and r.fetched_bytes >= 0
        assert "used" in repr(counts)
    writer.line()
    writer.ended()


def test_a_deadline_may_be_set_later(stream):
    with panta.Writer(stream) as w:
        w.define("u", float)
        w.set_deadline(0.01)
        with pytest.raises(panta.errors.DeadlineError):
            w.step()
        with pytest.raises(panta.errors.ArgumentError):
            w.set_deadline(-1.0)
        assert w.metadata_bytes >= 0


FORKED = """
import multiprocessing, sys, numpy as np, panta, panta.xarray
url = sys.argv[1]
w = panta.Writer(url + "&rendezvous=0")
w.define("u", "f8", (3,))
with w.step(time=0.0) as s:
    s["u"] = np.arange(3.0)
r = panta.Reader(url)
step = r.next_step()
lazy = panta.xarray.of_step(step, url)

def child(said):
    def refused(act):
        try:
            act()
        except panta.Error as error:
            return "child of a fork" in str(error)
    said.put((refused(w.step), refused(r.next_step), refused(w.close), float(lazy.u.sum())))

context = multiprocessing.get_context("fork")
said = context.Queue()
process = context.Process(target=child, args=(said,))
process.start()
print(*said.get(timeout=60), flush=True)
process.join()
with w.step(time=1.0) as s:
    s["u"] = np.arange(3.0) + 1
print(step["u"][2], r.next_step()["u"][2], panta.Reader(url).next_step() is not None, flush=True)
r.close()
"""


def test_a_forked_worker_reads_for_itself_and_leaves_its_parents_stream_alone(stream, script):
    pytest.importorskip("xarray")
    program = script(FORKED, stream)
    assert program.line() == "True True True 3.0"
    assert program.line() == "2.0 3.0 True"
    program.ended()
