"""What can go wrong, as exceptions with fields.

All are `panta.Error`, and have `stream`, `step`, `variable` and `rank`: where it happened, or
`None`. Where Python has a word for what went wrong, they are that too: a `ShapeError` is a
`ValueError`, a `SelectionError` an `IndexError`. The message says what went wrong, where, and
what to try.
"""

from typing import Any


class Error(Exception):
    """Any error of Panta.

    Attributes:
        stream: the stream it happened in, as it was opened.
        step: the number of the step it happened in, or which it speaks of.
        variable: the name of the variable.
        rank: the rank within its group.
    """

    def __init__(
        self,
        message: str = "",
        *,
        stream: str | None = None,
        step: int | None = None,
        variable: str | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(message)
        self.stream = stream
        self.step = step
        self.variable = variable
        self.rank = rank

    def __str__(self) -> str:
        # Not KeyError's, which would show the message in quotes.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(error: type[Error], arguments: tuple[Any, ...], fields: dict[str, Any]) -> Error:
    made = error(*arguments)
    made.__dict__.update(fields)
    return made


class ArgumentError(Error, ValueError):
    """An argument is none of those that can be; says which."""


class ClosedError(Error, ValueError):
    """A handle was closed, a step let go or ended, a span is over."""


class InUseError(Error, RuntimeError):
    """Another thread uses the handle while a call on it runs."""


class OpenError(Error):
    """A stream cannot be opened."""


class ConfigError(OpenError, ValueError):
    """The name, URL or a parameter is wrong; names the nearest that is right."""


class NotFoundError(OpenError, FileNotFoundError):
    """Nothing answered to that name by the deadline."""


class BusyError(OpenError):
    """Another writer holds the stream."""


class CommunicatorError(OpenError):
    """The ranks of the group could not find each other."""


class DefinitionError(Error, ValueError):
    """A variable's definition contradicts itself."""


class RedefinedError(Error, ValueError):
    """A variable's definition contradicts an earlier one."""


class UnknownVariable(Error, KeyError):
    """There is no such variable; names the nearest there is."""


class StepOpenError(Error, RuntimeError):
    """A step has begun and not ended."""


class NoStepError(Error, RuntimeError):
    """No step has begun."""


class StepTooLarge(Error, ValueError):
    """A step holds more than the stream's limit."""


class DisagreementError(Error):
    """The ranks of the writer disagree about a variable."""


class DTypeError(Error, TypeError):
    """Elements are of another type than the variable's, or of none there is."""


class ShapeError(Error, ValueError):
    """An array does not fit the variable, or the selection."""


class SelectionError(Error, IndexError):
    """An index reaches outside the array, or is of no kind that can be read."""


class NoSuchBlock(Error, IndexError):
    """The variable has no such block."""


class NotCovered(Error, ValueError):
    """Nobody put some of the cells, and the variable has no fill value."""


class ChecksumError(Error):
    """Bytes have changed since they were put."""


class InDoubtError(Error):
    """It is not known whether the step was sealed; open the stream and look."""


class OverlapError(Error, ValueError):
    """Blocks of a variable overlap, and the stream forbids it."""


class NotReady(Error, TimeoutError):
    """No step came by the deadline; the writer is alive, ask again."""


class WriterLost(Error, ConnectionError):
    """The writer died; `step` is the last that it sealed."""


class RolledBack(Error):
    """The writer restarted from an older step; `step` is the last that still holds. Ask again
    for those that follow it."""


class Trimmed(Error):
    """The step is no longer held; `step` is the oldest that is."""


class WouldDeadlock(Error):
    """This reader's own detached steps hold the whole limit; close some."""


class IoError(Error, OSError):
    """The operating system refused something."""


class DeadlineError(Error, TimeoutError):
    """A wait ended at its deadline."""


class InterruptedWait(Error, InterruptedError):
    """A wait was ended by `interrupt()`. Ctrl-C raises `KeyboardInterrupt` instead."""


class RankLost(Error, ConnectionError):
    """A rank of this group died."""


class RankFailed(Error):
    """A rank of this group failed, `rank`; the same error comes out on every rank."""


class PeerLost(Error, ConnectionError):
    """A server, writer or other peer is gone."""


class RefusedError(Error):
    """A peer said no, or a step is given up because a put in it had failed."""


class CorruptError(Error):
    """Bytes are not what was written."""


class UnsupportedError(Error, NotImplementedError):
    """The engine cannot do this; says what to do instead."""


class FencedError(Error):
    """A later writer has taken the stream over."""


# Written out, since whoever checks types reads it.
__all__ = [
    "ArgumentError",
    "BusyError",
    "ChecksumError",
    "ClosedError",
    "CommunicatorError",
    "ConfigError",
    "CorruptError",
    "DTypeError",
    "DeadlineError",
    "DefinitionError",
    "DisagreementError",
    "Error",
    "FencedError",
    "InDoubtError",
    "InUseError",
    "InterruptedWait",
    "IoError",
    "NoStepError",
    "NoSuchBlock",
    "NotCovered",
    "NotFoundError",
    "NotReady",
    "OpenError",
    "OverlapError",
    "PeerLost",
    "RankFailed",
    "RankLost",
    "RedefinedError",
    "RefusedError",
    "RolledBack",
    "SelectionError",
    "ShapeError",
    "StepOpenError",
    "StepTooLarge",
    "Trimmed",
    "UnknownVariable",
    "UnsupportedError",
    "WouldDeadlock",
    "WriterLost",
]
