"""Times put and get of 1 KiB through Python; see main.rs. Prints nanoseconds of both.

With two more arguments it makes so many puts and gets, and prints nothing: what is counted
then is the difference of two runs.
"""

import sys
import time

import numpy as np

import panta

CELLS, CALLS, ROUNDS = 128, 200, 200


def puts(step, field, calls):
    for _ in range(calls):
        step.put("u", field)


def gets(step, field, calls):
    for _ in range(calls):
        step.get("u", block=0, out=field)


def best(act, step, field):
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        act(step, field, CALLS)
        times.append((time.perf_counter_ns() - began) / CALLS)
    return min(times)


url, *counts = sys.argv[1:]
field = np.zeros(CELLS)
put = float("inf")
with panta.Writer(url) as out:
    out.define("u", "f8", kind="local array", ndim=1)
    if counts:
        # Given up, so that its end does nothing with what was put.
        step = out.step(time=0.0)
        puts(step, field, int(counts[0]))
        step.abort()
    for _ in range(1 if counts else ROUNDS):
        with out.step(time=0.0) as step:
            began = time.perf_counter_ns()
            puts(step, field, 1 if counts else CALLS)
            put = min(put, (time.perf_counter_ns() - began) / CALLS)
with panta.Reader(url) as steps:
    step = steps.next_step()
    if counts:
        gets(step, field, int(counts[1]))
    else:
        print(f"{put:.0f} {best(gets, step, field):.0f}")
