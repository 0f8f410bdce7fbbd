"""Numbers and lists as arrays of the type that a variable has."""

import numpy as np

_RANKS = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}


def convert(value, dtype):
    """`value` as an array of `dtype`, if that loses nothing but digits: no fraction, no sign,
    no imaginary part, and nothing that is no number."""
    if value is None:
        raise TypeError("None is no number")
    natural = np.asarray(value)
    rank = _RANKS.get(natural.dtype.kind)
    if natural.size and rank is None and natural.dtype != object:
        raise TypeError(f"elements of type {natural.dtype} are no {dtype}")
    if natural.size and rank is not None and rank > _RANKS[dtype.kind]:
        raise TypeError(f"elements of type {natural.dtype} would be cut to {dtype}")
    with np.errstate(over="ignore"):
        made = np.asarray(value, dtype)
    if rank is not None and dtype.kind in "fc" and not np.array_equal(np.isfinite(made), np.isfinite(natural)):
        raise OverflowError(f"a number is too large for {dtype}")
    return made
