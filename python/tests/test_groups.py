"""Several ranks: threads, processes, and communicators that Python has."""

import threading

import numpy as np
import pytest

import panta


def in_threads(comms, act):
    """Runs `act` with each communicator in a thread of its own; raises what any raised."""
    results = [None] * len(comms)

    def run(place, comm):
        try:
            results[place] = act(comm)
        except BaseException as error:  # noqa: BLE001, handed on below
            results[place] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(comms)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class ByHand:
    """A communicator in Python: ranks of one process meet at a barrier."""

    def __init__(self, rank, meeting, parts):
        self.rank, self.size, self.meeting, self.parts = rank, len(parts), meeting, parts

    def allgather(self, own):
        self.parts[self.rank] = own
        self.meeting.wait(60)
        gathered = list(self.parts)
        self.meeting.wait(60)
        return gathered


def by_hand(size):
    meeting, parts = threading.Barrier(size), [None] * size
    return [ByHand(rank, meeting, parts) for rank in range(size)]


@pytest.mark.parametrize("group", [panta.Comm.threads, by_hand])
def test_a_group_writes_and_another_reads_one_array(url, group):
    def write(comm):
        with panta.Writer(url, comm) as w:
            assert (w.rank, w.size) == (comm.rank, comm.size)
            w.define("u", "f8", (6, 4))
            w.define("p", "i8", (None,))
            for n in range(3):
                with w.step() as s:
                    rows = np.full((2, 4), 10.0 * n + w.rank)
                    s.put("u", rows, (2 * w.rank, 0))
                    s.put("p", np.arange(w.rank + n))
        return w

    def read(comm):
        sums = []
        with panta.Reader(url, comm) as r:
            for step in r:
                u = step["u"][:, r.rank::r.size]
                np.testing.assert_array_equal(u[:, 0], np.repeat([0, 1, 2], 2) + 10 * step.number)
                sums.append((u.shape[1], step["p"].shape[0]))
        return sums

    in_threads(group(3), write)
    assert in_threads(group(2), read) == [[(2, 3), (2, 6), (2, 9)]] * 2


def test_a_failure_of_one_rank_is_the_failure_of_all(url):
    def write(comm):
        with panta.Writer(url, comm) as w:
            w.define("u", "f8", 4)
            with pytest.raises(panta.Error) as error, w.step() as s:
                s.put("u", np.zeros(2 if w.rank == 0 else 9))
            with w.step() as s:
                s.put("u", np.full(2, 1.0), 2 * w.rank)
        return [error.value]

    (first,), (second,) = in_threads(panta.Comm.threads(2), write)
    assert isinstance(first, panta.RankFailed) and first.rank == 1
    assert isinstance(second, panta.ShapeError)
    with panta.Reader(url) as r:
        assert [step["u"][...].sum() for step in r] == [4]


def test_processes_find_each_other_by_their_environment(script, url, tmp_path):
    text = """
import sys, numpy as np, panta
with panta.Writer(sys.argv[1], panta.Comm.procs()) as w:
    w.define("u", "i4", w.size)
    with w.step() as s:
        s.put("u", np.array([w.rank], "i4"), w.rank)
"""
    (tmp_path / "meet").mkdir()
    ranks = [script(text, url, PANTA_RANK=rank, PANTA_SIZE=3, PANTA_RENDEZVOUS=tmp_path / "meet")
             for rank in range(3)]
    for rank in ranks:
        rank.ended()
    with panta.Reader(url) as r:
        assert r.next_step()["u"][...].tolist() == [0, 1, 2]


def test_what_a_communicator_raises_is_the_cause(url):
    class Broken(ByHand):
        def allgather(self, own):
            raise ZeroDivisionError("on purpose")

    with pytest.raises(panta.Error, match="comm.*on purpose") as error:
        panta.Writer(url, Broken(0, None, [None, None]))
    assert isinstance(error.value.__cause__, ZeroDivisionError)

    class Stopped(Broken):
        def allgather(self, own):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        panta.Reader(url, Stopped(0, None, [None, None]))

    class Short(Broken):
        def allgather(self, own):
            return [own]

    with pytest.raises(panta.Error, match="1 parts from 2 ranks"):
        panta.Writer(url, Short(0, None, [None, None]))


@pytest.mark.parametrize("comm", [3, "world", object()])
def test_what_is_no_communicator_is_refused_by_name(url, comm):
    with pytest.raises(ValueError, match="`comm` is"):
        panta.Writer(url, comm)


class LikeMpi4py:
    """As far as it is looked at before anything is gathered."""

    def __init__(self, is_freed):
        self.is_freed = is_freed

    def __bool__(self):
        return not self.is_freed

    def Iallgather(self, *_):
        raise AssertionError("not before its ranks are known")

    def Dup(self):
        raise AssertionError("not before its ranks are known")

    def Get_rank(self):
        raise RuntimeError("MPI_ERR_COMM: invalid communicator")


@pytest.mark.parametrize("is_freed, says", [
    (True, "`comm` is MPI.COMM_NULL: it was freed"),
    (False, "`comm` is no communicator of MPI.*MPI_ERR_COMM"),
])
def test_a_communicator_that_was_freed_is_refused_by_name(url, is_freed, says):
    for open_it in (panta.Writer, panta.Reader):
        with pytest.raises(panta.ArgumentError, match=says):
            open_it(url, LikeMpi4py(is_freed))


def test_an_environment_without_a_group_is_an_error(script):
    tried = script("import panta\ntry: panta.Comm.procs()\nexcept panta.Error as e: print(e)",
                   PANTA_RANK="x", PANTA_SIZE=2)
    assert "PANTA_RANK" in tried.ended()
    with pytest.raises(ValueError, match="size"):
        panta.Comm.threads(0)
