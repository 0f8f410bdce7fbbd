"""Progress by hand: no thread is started, and what is to be done is done in calls."""

import os
import select
import threading

import pytest

import panta


def threads():
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_no_thread_is_started_and_calls_do_it_all(tmp_path, transport):
    url = f"stream:by_hand?contact={tmp_path / 'c'}&transport={transport}&rendezvous=0"
    before = threads()
    seen = []

    def read():
        with panta.Reader(url, progress="manual", silence=600) as reader:
            for step in reader:
                reader.progress()
                seen.append(step["n"].value)

    with panta.Writer(url, progress="manual", silence=600) as writer:
        writer.define("n", "i8")
        assert threads() == before
        with writer.step() as step:
            step["n"] = 1
        reader = threading.Thread(target=read)
        reader.start()
        # The descriptor says that there is a reader, whom nobody else lets in.
        ready, _, _ = select.select([writer], [], [], 60)
        assert ready == [writer]
        while not seen:
            writer.progress()
        assert threads() == before + 1
        with writer.step() as step:
            step["n"] = 2
    reader.join()
    assert seen == [1, 2]
    with pytest.raises(panta.errors.Error):
        writer.progress()


@pytest.mark.parametrize("keywords", [
    {"progress": "manual"}, {"silence": 5.0}, {"progress": "threads", "silence": 5.0},
    {"progress": "manually", "silence": 5.0}, {"progress": "manual", "silence": -1.0},
])
def test_what_makes_no_sense_is_an_error(url, keywords):
    with pytest.raises(panta.errors.ArgumentError):
        panta.Writer(url, **keywords)
    with pytest.raises(panta.errors.ArgumentError):
        panta.Reader(url, **keywords)
