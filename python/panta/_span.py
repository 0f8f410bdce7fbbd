"""Arrays over memory that a step lends, and that are over when it ends.

numpy's arrays hold bare addresses. So that none is used after the step, a lease knows every
array of this class over its memory. When the step ends it points each at a few bytes that
never go away, read-only and as floats no numbers, and turns it into an `EndedSpan`, whose every
use is an error (but for `np.asarray`, which numpy does by itself, and which shows those bytes).
Views of other classes (`np.asarray(span)`, `memoryview(span)`) escape this: they keep the
lease, and with it the memory, which may be used again for a later step.
"""

import weakref

import numpy as np

from ._panta import redirect
from .errors import ClosedError


class Lease:
    """Knows the arrays over one span's memory, and ends them."""

    def __init__(self, first, size_bytes, what, memory):
        self.first = first
        self.size_bytes = size_bytes
        self.what = what
        self.memory = memory
        self.arrays = {}

    def track(self, array):
        """Remembers an array that may lie in the memory."""
        array._lease = self
        key = id(array)
        self.arrays[key] = weakref.ref(array, lambda _: self.arrays.pop(key, None))

    def end(self):
        """Ends all arrays in the memory."""
        for reference in list(self.arrays.values()):
            array = reference()
            if array is None:
                continue
            array._lease = None
            if redirect(array, self.first, self.size_bytes):
                array._what = self.what
                array.__class__ = EndedSpan
        self.arrays.clear()


class SpanArray(np.ndarray):
    """A writable array over memory of the transport, from `WriterStep.span`.

    It, and every slice of it, is over when the step ends: any use then raises `ClosedError`.
    Results of arithmetic are arrays of their own, and stay.
    """

    _lease = None

    def __array_finalize__(self, parent):
        lease = getattr(parent, "_lease", None)
        if lease is not None:
            lease.track(self)

    def __array_wrap__(self, array, context=None, return_scalar=False):
        plain = array.view(np.ndarray) if type(array) is SpanArray and array.base is None else array
        return plain[()] if return_scalar else plain


def _over(self, *_arguments, **_keywords):
    what = np.ndarray.__getattribute__(self, "__dict__").get("_what", "the span has ended")
    raise ClosedError(f"{what}; copy what is to be kept, or put an array instead")


class EndedSpan(SpanArray):
    """What becomes of a `SpanArray` when its step ends."""

    def __getattribute__(self, name):
        if name in ("__class__", "__dict__"):
            return np.ndarray.__getattribute__(self, name)
        _over(self)

    def __repr__(self):
        return "<panta.SpanArray that has ended>"

    __str__ = __repr__
    __array_finalize__ = None
    for _name in ("getitem", "setitem", "len", "iter", "contains", "bool", "int", "float",
                  "complex", "index", "array_ufunc", "array_function", "array_wrap", "copy",
                  "deepcopy", "reduce", "reduce_ex", "format"):
        locals()[f"__{_name}__"] = _over
    del _name
