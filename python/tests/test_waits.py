"""Waits let others run, and end with Ctrl-C."""

import asyncio
import select
import signal
import threading
import time

import pytest

import panta

WAITING = """
import signal, sys, time
import panta

{before}
try:
    print("waits", flush=True)
    {wait}
except KeyboardInterrupt as error:
    # Whoever sent the signal said when, on a clock that processes share.
    print("interrupted", time.monotonic_ns(), flush=True)
    {after}
"""

OPENED = "w = panta.Writer(sys.argv[1])\nr = panta.Reader(sys.argv[1])"


@pytest.mark.parametrize("before, wait, after", [
    (OPENED, "r.next_step(deadline=60)", ""),
    (OPENED, "next(r)", "w.define('n', 'i8')\n    with w.step() as s: s['n'] = 1\n"
                        "    assert r.next_step()['n'].value == 1"),
    ("", "panta.Reader(sys.argv[1] + '?deadline=60s')", ""),
    ("", "panta.Writer(sys.argv[1] + '?deadline=60s', panta.Comm.procs())", ""),
], ids=["next_step", "iteration", "opening", "group"])
def test_ctrl_c_ends_every_wait(script, url, tmp_path, before, wait, after):
    (tmp_path / "meet").mkdir()
    waits = script(WAITING.format(before=before, wait=wait, after=after), url,
                   PANTA_RANK=0, PANTA_SIZE=2, PANTA_RENDEZVOUS=tmp_path / "meet")
    assert waits.line() == "waits"
    # Into the wait itself, if the machine is not too busy for that.
    threading.Event().wait(0.1)
    sent = time.monotonic_ns()
    waits.process.send_signal(signal.SIGINT)
    word, when = waits.line().split()
    assert word == "interrupted"
    waits.ended()
    # 100 ms are promised; a machine with other things to do gets a second.
    assert int(when) - sent < 1_000_000_000


def test_what_a_signal_handler_raises_comes_out_and_one_that_does_not_is_no_end(script, url):
    waits = script("""
import signal, sys
import panta

seen = []
def on_alarm(*_):
    seen.append(1)
    print("seen", flush=True)
    if len(seen) == 2:
        raise ZeroDivisionError("the handler's own")
signal.signal(signal.SIGUSR1, on_alarm)
w = panta.Writer(sys.argv[1])
r = panta.Reader(sys.argv[1])
try:
    print("waits", flush=True)
    r.next_step(deadline=60)
except ZeroDivisionError as error:
    print(error, flush=True)
w.define("n", "i8")
with w.step() as s:
    s["n"] = 1
assert r.next_step()["n"].value == 1
""", url)
    assert waits.line() == "waits"
    for _ in range(2):
        waits.process.send_signal(signal.SIGUSR1)
        assert waits.line() == "seen"
    assert waits.line() == "the handler's own"
    waits.ended()


def test_other_threads_run_while_one_waits(url):
    with panta.Writer(url) as w, panta.Reader(url) as r:
        w.define("n", "i8")
        got = []
        waits = threading.Thread(target=lambda: got.append(r.next_step(deadline=60)["n"].value))
        waits.start()
        # This thread could not come here if the other held on to the interpreter.
        with w.step() as s:
            s["n"] = 3
        waits.join()
        assert got == [3]


def test_an_interrupt_ends_the_waits_until_it_is_taken_back(url):
    with panta.Writer(url), panta.Reader(url) as r:
        r.interrupt()
        with pytest.raises(panta.InterruptedWait):
            r.next_step()
        with pytest.raises(InterruptedError):
            r.next_step()
        r.clear_interrupt()
        with pytest.raises(TimeoutError):
            r.next_step(deadline=0.01)


def test_a_wait_in_a_thread_of_asyncio_is_ended_by_an_interrupt(url):
    async def wait():
        with panta.Writer(url) as w, panta.Reader(url) as r:
            w.define("n", "i8")
            waits = asyncio.create_task(asyncio.to_thread(r.next_step, deadline=60))
            # The loop goes on meanwhile.
            with w.step() as s:
                s["n"] = 5
            assert (await waits)["n"].value == 5
            waits = asyncio.create_task(asyncio.to_thread(r.next_step, deadline=60))
            await asyncio.sleep(0)
            r.interrupt()
            with pytest.raises(panta.InterruptedWait):
                await waits

    asyncio.run(wait())


def take(r):
    """What is there: the values of `n`, and whether the stream has ended."""
    values = []
    try:
        while step := r.next_step(deadline=0):
            values.append(step["n"].value)
    except panta.NotReady:
        return values, False
    return values, True


@pytest.fixture(params=["file", "staging", "stream"])
def waited(request, tmp_path):
    if request.param == "stream":
        return f"stream:run?contact={tmp_path / 'contact'}"
    return request.getfixturevalue({"file": "url"}.get(request.param, request.param))


WRITER = """
import sys, panta
with panta.Writer(sys.argv[1]) as w:
    w.define("n", "i8")
    for n in range(5):
        with w.step() as s:
            s["n"] = n
"""


def test_a_reader_is_waited_for_with_select(waited, script):
    writer, got, ended = script(WRITER, waited), [], False
    with panta.Reader(waited) as r:
        assert r.fileno() == r.fileno() >= 0
        while not ended:
            readable, _, _ = select.select([r], [], [], 60)
            assert readable == [r]
            values, ended = take(r)
            got += values
    assert got == list(range(5))
    writer.ended()
    with pytest.raises(panta.ClosedError, match="reader was closed"):
        r.fileno()


def test_a_reader_is_waited_for_in_the_loop_of_asyncio_without_a_thread(waited, script):
    async def follow(r):
        loop, ends, got = asyncio.get_running_loop(), asyncio.Event(), []

        def readable():
            values, ended = take(r)
            got.extend(values)
            if ended:
                ends.set()

        loop.add_reader(r, readable)
        await asyncio.wait_for(ends.wait(), 60)
        loop.remove_reader(r)
        return got

    writer = script(WRITER, waited)
    with panta.Reader(waited) as r:
        assert asyncio.run(follow(r)) == list(range(5))
    writer.ended()
