"""What a put and a get take beside their data: memory of their own, counted."""

import shutil
import subprocess

from conftest import skip

# What Python itself needs comes from arenas of its own, so that `malloc` is ours and numpy's.
PROGRAM = """
import ctypes, sys
import numpy as np
import panta

taken = ctypes.CDLL(sys.argv[2]).memory_taken
CALLS = 200
block, out = np.ones((1, 128)), np.empty((1, 128))

def cost(act):
    before = taken()
    for n in range(CALLS):
        act(n)
    return (taken() - before) / CALLS

with panta.Writer(sys.argv[1]) as w:
    w.define("u", "f8", (CALLS, 128))
    for _ in range(2):
        with w.step() as s:
            put = cost(lambda n: s.put("u", block, (n, 0)))
with panta.Reader(sys.argv[1]) as r:
    step = r.next_step()
    get = min(cost(lambda n: step.get("u", np.s_[n:n + 1, :], out=out)) for _ in range(2))
print(put, get)
"""


def test_a_put_and_a_get_take_little_memory_of_their_own(tmp_path, url, script, repository):
    if not shutil.which("cc"):
        skip("cc is not installed")
    counting = tmp_path / "counting.so"
    source = repository / "ffi/tests/programs/counting.c"
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", counting], check=True)
    counted = script(PROGRAM, url, counting, LD_PRELOAD=counting)
    put, get = map(float, counted.line().split())
    counted.ended()
    # Some lists grow with the puts of a step; the rest is none, and a copy of the selection.
    assert put < 1, "a put"
    assert get < 5, "a get"
