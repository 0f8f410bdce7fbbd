"""What holds of files holds of servers, and of programs that run at the same time."""

import signal
import threading

import numpy as np
import pytest

import panta

WRITER = """
import sys, numpy as np, panta
with panta.Writer(sys.argv[1]) as w:
    w.define("u", "f8", (8, 6), dims=("y", "x"), unit="K")
    print("opened", flush=True)
    for n in range(int(sys.argv[2])):
        with w.step(time=0.5 * n) as s:
            s.span("u", (0, 0), (4, 6))[:] = n
            s.put("u", np.full((4, 6), n + 0.5)[:, ::-1], (4, 0))
"""


def field(n):
    return np.repeat([float(n), n + 0.5], 4)[:, None] * np.ones(6)


def test_a_stream_is_read_while_it_is_written(staging, script):
    writer = script(WRITER, staging, 20)
    with panta.Reader(staging) as r:
        assert r.engine.engine == "staging"
        for n, step in enumerate(r):
            np.testing.assert_array_equal(step["u"][::-1, 1:3], field(n)[::-1, 1:3])
            kept = step.detach() if n == 0 else kept
    assert n == 19
    np.testing.assert_array_equal(kept["u"][...], field(0))
    writer.ended()


def test_a_live_stream_is_a_dataset_and_a_row_of_them(staging, script):
    xr = pytest.importorskip("xarray")
    import pickle

    import panta.xarray
    writer = script(WRITER, staging, 6)
    for n, dataset in enumerate(panta.xarray.iterate(staging)):
        assert (int(dataset.step), float(dataset.time), dataset.u.attrs) == (n, n / 2, {"units": "K"})
        np.testing.assert_array_equal(dataset.u, field(n))
        if n == 2:
            sent = pickle.dumps(dataset.isel(y=slice(2, 6)))
    assert n == 5
    np.testing.assert_array_equal(pickle.loads(sent).u, field(2)[2:6])
    run = xr.open_dataset(staging, engine="panta", chunks={})
    assert run.u.dims == ("time", "y", "x") and run.u.chunks == ((1,) * 6, (4, 4), (6,))
    np.testing.assert_array_equal(run.u, [field(n) for n in range(6)])
    last = xr.open_dataset(staging, engine="panta", step="latest")
    np.testing.assert_array_equal(last.u, field(5))
    writer.ended()


def test_ctrl_c_ends_a_wait_for_a_server(staging, script):
    waits = script("""
import sys, time, panta
with panta.Writer(sys.argv[1]) as w, panta.Reader(sys.argv[1]) as r:
    try:
        print("waits", flush=True)
        r.next_step(deadline=60)
    except KeyboardInterrupt:
        print("interrupted", time.monotonic_ns(), flush=True)
    w.define("n", "i8")
    with w.step() as s:
        s["n"] = 1
    assert r.next_step()["n"].value == 1
""", staging)
    assert waits.line() == "waits"
    threading.Event().wait(0.1)
    waits.process.send_signal(signal.SIGINT)
    assert waits.line().startswith("interrupted")
    waits.ended()


def test_a_writer_that_died_is_an_error_with_the_last_step(staging, script):
    writer = script(WRITER.replace("with panta.Writer", "import os\nwith panta.Writer")
                    + "    os._exit(9)\n", staging, 3)
    with panta.Reader(staging) as r:
        with pytest.raises(panta.WriterLost) as error:
            assert [step.number for step in r] == [0, 1, 2]
        assert error.value.step == 2
    writer.ended(status=9)


def test_interpreters_that_end_with_handles_open_do_so_quietly(staging, script):
    ends = script("""
import sys, panta
w = panta.Writer(sys.argv[1])
w.define("u", "f8", 3)
s = w.step()
u = s.span("u")
s.end()
r = panta.Reader(sys.argv[1])
step = r.next_step().detach()
variable = step["u"]
s = w.step()
""", staging)
    assert ends.ended() == ""
