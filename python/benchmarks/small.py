"""What a put and a get of 1 KiB cost in Python: beside `small.rs`, which is the same loop.

    cargo run --release -p panta-python --example small
    pip install ./python && python python/benchmarks/small.py
"""

import statistics
import tempfile
import time

import numpy as np

import panta

BLOCKS, CELLS, STEPS = 1000, 128, 30

with tempfile.TemporaryDirectory() as directory:
    url = f"file:{directory}/small.panta"
    block, out = np.ones(CELLS), np.zeros(CELLS)
    puts, gets, fresh = [], [], []
    with panta.Writer(url) as w:
        w.define("u", "f8", BLOCKS * CELLS)
        for _ in range(STEPS):
            s = w.step()
            began = time.perf_counter()
            for n in range(BLOCKS):
                s.put("u", block, n * CELLS)
            s.end()
            puts.append((time.perf_counter() - began) / BLOCKS)
    with panta.Reader(url) as r:
        for step in r:
            began = time.perf_counter()
            for n in range(BLOCKS):
                step.get("u", slice(n * CELLS, (n + 1) * CELLS), out=out)
            gets.append((time.perf_counter() - began) / BLOCKS)
            u = step["u"]
            began = time.perf_counter()
            for n in range(BLOCKS):
                u[n * CELLS:(n + 1) * CELLS]
            fresh.append((time.perf_counter() - began) / BLOCKS)

put, get, new = (statistics.median(times) * 1e6 for times in (puts, gets, fresh))
print(f"put {put:.2f} us, get {get:.2f} us, get into a new array {new:.2f} us")
