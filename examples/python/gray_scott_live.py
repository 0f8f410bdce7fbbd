# %% [markdown]
# # A simulation, watched while it runs
#
# The Gray-Scott example simulates two chemicals in a cube and publishes them as the stream
# `gray_scott`. This page follows that stream and draws it, step by step. Run it cell by cell in
# an editor or a notebook, or as a whole:
#
#     mpirun -n 4 gray_scott --size 64 --steps 3000 &
#     python gray_scott_live.py
#
# Where the stream comes from is not this page's business: `PANTA_URL_GRAY_SCOTT` or `panta.toml`
# says it, for both.

# %%
import os
import sys

import matplotlib

if not hasattr(sys, "ps1") and "ipykernel" not in sys.modules:
    matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import panta

STREAM = "gray_scott"
THRESHOLD = 0.1
PICTURE = os.environ.get("PICTURE", "gray_scott.png")

# %% [markdown]
# ## The picture
#
# On the left the middle plane of `v` as it is now; on the right a line through that plane over
# time, and how much of the cube the pattern has filled.


# %%
class Picture:
    """The run so far, in four axes."""

    def __init__(self):
        self.figure = plt.figure(figsize=(11, 5.6), layout="constrained")
        grid = self.figure.add_gridspec(2, 2, width_ratios=(1.15, 1))
        self.plane, self.line, self.filled = (
            self.figure.add_subplot(where) for where in (grid[:, 0], grid[0, 1], grid[1, 1]))
        self.bar = None
        self.times, self.fractions, self.peaks, self.lines = [], [], [], []

    def add(self, time, plane, fraction, peak):
        """Takes a step in, and draws anew."""
        self.times.append(time)
        self.fractions.append(100 * fraction)
        self.peaks.append(peak)
        self.lines.append(plane[plane.shape[0] // 2])
        for axes in (self.plane, self.line, self.filled):
            axes.clear()
        colours = {"cmap": "magma", "vmin": 0, "vmax": 0.4}
        image = self.plane.imshow(plane, origin="lower", interpolation="bilinear", **colours)
        self.plane.axhline(plane.shape[0] // 2, color="w", lw=0.8, ls=":", alpha=0.7)
        self.plane.set(xlabel="x [cells]", ylabel="y [cells]")
        self.plane.set_title(f"v in the middle plane, t = {time:g}", loc="left")
        if self.bar is None:
            self.bar = self.figure.colorbar(image, ax=self.plane, shrink=0.8, label="v", pad=0.02)

        edges = np.append(self.times, time + (time - self.times[-2] if len(self.times) > 1 else 1))
        cells = np.arange(plane.shape[1] + 1)
        self.line.pcolormesh(edges, cells, np.transpose(self.lines), **colours)
        self.line.set(ylabel="x [cells]", xlim=(self.times[0], edges[-1]))
        self.line.tick_params(labelbottom=False)
        self.line.set_title("along the dotted line, over time", loc="left")

        self.filled.plot(self.times, self.fractions, color="#b5367a", lw=2)
        self.filled.fill_between(self.times, self.fractions, color="#b5367a", alpha=0.15, lw=0)
        self.filled.set(xlabel="time", ylabel=f"cells with v > {THRESHOLD:g} [%]",
                        xlim=(self.times[0], edges[-1]), ylim=0)
        self.filled.set_title(f"filled: {self.fractions[-1]:.1f} %, "
                              f"highest v: {self.peaks[-1]:.2f}", loc="left")
        self.filled.spines[["top", "right"]].set_visible(False)
        self.figure.savefig(PICTURE, dpi=130)


# %% [markdown]
# ## The run
#
# Each step is drawn as it comes. The plane is read by itself: what is not asked for is not moved.
# The largest value is known without reading anything.

# %%
picture = Picture()
with panta.Reader(STREAM) as run:
    carrier = run.engine.engine
    for step in run:
        v = step["v"]
        middle = v[v.shape[0] // 2]
        filled = float(np.mean(v[...] > THRESHOLD))
        picture.add(step.time, middle, filled, v.max)
        print(f"step {step.number}, t = {step.time:g}: {100 * filled:.2f} % filled", flush=True)

# %% [markdown]
# ## The same with xarray
#
# The steps that are still held (a file holds all, a direct stream none once it is over) are one
# dataset, along time.

# %%
try:
    import xarray as xr
except ImportError:
    xr = None
if xr is None or carrier == "stream":
    print("that is all" + ("" if xr else "; with xarray there would be more"))
else:
    whole = xr.open_dataset(os.environ.get("PANTA_URL_GRAY_SCOTT", STREAM), engine="panta")
    print(whole)
    middles = whole.v.isel(z=whole.sizes["z"] // 2)
    print("mean of v in the middle plane:", middles.mean(("y", "x")).values.round(4))
