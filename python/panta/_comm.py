"""Communicators of Python's making, as Panta wants them: one gathering of byte strings.

mpi4py's are duplicated, so that nothing here meets the program's own messages, and asked
without blocking, so that a gathering has a deadline and Ctrl-C ends it. Any other object will
do that has `rank`, `size` and `allgather(object)`; it blocks as it likes.

MPI is used while a stream opens, and not afterwards. Panta links none.
"""

import struct
import time

from .errors import ArgumentError, DeadlineError

CONTRIBUTION_LIMIT_BYTES = 1 << 20
"""The longest that one rank's contribution may be; all are padded to the longest."""

_POLL_SECONDS = 0.0002


class _Plain:
    """A communicator that gathers objects."""

    def __init__(self, comm, rank, size):
        self.comm, self.rank, self.size = comm, int(rank), int(size)

    def allgather(self, own, seconds):
        return [bytes(part) for part in self.comm.allgather(own)]

    def release(self):
        pass


class _Mpi:
    """A communicator of mpi4py."""

    def __init__(self, comm):
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        if comm.Is_inter():
            raise ArgumentError(
                "`comm` is an intercommunicator, which lies between two groups; give that of one, "
                "or comm.Merge()")
        self.comm = comm.Dup()

    def allgather(self, own, seconds):
        until = time.monotonic() + seconds
        gathered = self._gather(struct.pack("<Q", len(own)), until, seconds)
        lengths = [length for (length,) in struct.iter_unpack("<Q", gathered)]
        longest = max(lengths)
        if longest > CONTRIBUTION_LIMIT_BYTES:
            raise ArgumentError(
                f"a rank contributed {longest} bytes at open; the limit is "
                f"{CONTRIBUTION_LIMIT_BYTES}")
        if longest == 0:
            return [b""] * self.size
        gathered = self._gather(own.ljust(longest, b"\0"), until, seconds)
        return [gathered[rank * longest:][:length] for rank, length in enumerate(lengths)]

    def _gather(self, own, until, seconds):
        sent, received = bytearray(own), bytearray(len(own) * self.size)
        request = self.comm.Iallgather(_bytes(sent), _bytes(received))
        while not request.Test():
            # A gathering that is given up stays with MPI, which cannot cancel it; the request
            # keeps both buffers in place, and is kept itself.
            if time.monotonic() >= until:
                _LEFT.append((request, sent, received))
                raise DeadlineError(
                    f"waited {seconds:.1f} s at open for the other ranks of `comm`; is every "
                    "rank of the group opening this stream?")
            try:
                time.sleep(_POLL_SECONDS)
            except BaseException:
                _LEFT.append((request, sent, received))
                raise
        return bytes(received)

    def release(self):
        self.comm.Free()


_LEFT = []


def _bytes(buffer):
    """A buffer, so that any MPI takes it as bytes."""
    from mpi4py import MPI

    return [buffer, MPI.BYTE]


def adapt(comm):
    """Adapts an argument `comm`; says what it could be if it is none."""
    if hasattr(comm, "Iallgather") and hasattr(comm, "Dup"):
        # What mpi4py has of no group, and of one that was freed, is false.
        if not comm:
            raise ArgumentError(
                "`comm` is MPI.COMM_NULL: it was freed, or this rank is not of its group, and "
                "does not open its streams")
        try:
            return _Mpi(comm)
        except ArgumentError:
            raise
        except Exception as error:
            raise ArgumentError(
                f"`comm` is no communicator of MPI: was it freed? {error}") from error
    rank, size = getattr(comm, "rank", None), getattr(comm, "size", None)
    if callable(getattr(comm, "allgather", None)) and rank is not None and size is not None:
        return _Plain(comm, rank, size)
    raise ArgumentError(
        f"`comm` is {type(comm)}; it can be None, a panta.Comm, a communicator of mpi4py, or an "
        "object with rank, size and allgather")
