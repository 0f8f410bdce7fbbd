"""In-situ streaming I/O for parallel simulations.

A simulation *puts* blocks of n-dimensional arrays, step by step; analyses, started on their
own, *get* the boxes they want, while both run. What carries the steps is a URL, not a line of
code: see `Writer`.

    import numpy as np
    import panta

    with panta.Writer("run42") as w:
        w.define("u", "f8", (4, 6), dims=("y", "x"), unit="K")
        for n in range(3):
            with w.step(time=0.1 * n) as s:
                s.put("u", np.full((4, 6), float(n)))

    with panta.Reader("run42") as r:
        for step in r:
            print(step.number, step["u"][:, 2].sum())

`panta.xarray` opens streams as datasets of xarray; `panta.errors` lists what can go wrong.
"""

from . import errors
from ._panta import (
    Block,
    Comm,
    Copies,
    Engine,
    PushCounts,
    Reader,
    Step,
    Variable,
    Writer,
    WriterStep,
    __version__,
)
from ._span import SpanArray
from .errors import *  # noqa: F403
from .errors import Error

__all__ = [
    "Block",
    "Comm",
    "Copies",
    "Engine",
    "Error",
    "PushCounts",
    "Reader",
    "SpanArray",
    "Step",
    "Variable",
    "Writer",
    "WriterStep",
    "__version__",
    "errors",
    *errors.__all__,
]
