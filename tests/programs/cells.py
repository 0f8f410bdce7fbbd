"""The data of the scenarios, as tests/src/cells.rs makes them: a function of
(variable, step, global index)."""

import numpy as np

MASK = (1 << 64) - 1


def bits(variable, step, indices):
    """64 bits for each index."""
    seed = 0xCBF29CE484222325
    for byte in variable.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        value = np.asarray(indices, "u8") + np.uint64(step * 0x9E3779B97F4A7C15 & MASK)
        value = (value * np.uint64(0xD1342543DE82EF95)) ^ np.uint64(seed)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))


def cells(dtype, bits):
    """Values of those bits."""
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        half = np.dtype(f"f{dtype.itemsize // 2}")
        shift = np.uint64(24 if half.itemsize == 4 else 32)
        made = np.empty(np.shape(bits), dtype)
        made.real, made.imag = cells(half, bits), cells(half, bits << shift)
        return made
    if dtype == "f8":
        return (bits >> np.uint64(11)).astype("f8") * 1e-9 - 1e6
    if dtype == "f4":
        return (bits >> np.uint64(40)).astype("f4") - np.float32(8e6)
    if dtype == "?":
        return (bits >> np.uint64(63)).astype("?")
    unsigned = (bits >> np.uint64(64 - 8 * dtype.itemsize)).astype(f"u{dtype.itemsize}")
    return unsigned.view(dtype)


def block(dtype, variable, step, shape):
    """The cells of a whole array."""
    return cells(dtype, bits(variable, step, np.arange(np.prod(shape)))).reshape(shape)
