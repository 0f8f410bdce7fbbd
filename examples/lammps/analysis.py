"""The radial distribution function of the melt, followed while LAMMPS runs.

    python analysis.py --output results

It waits for the stream `melt` if the simulation has not started. How many ranks that has it
need not know: it asks for the positions, and gets those of all atoms. It leaves `rdf.npz` and
`rdf.png`: how the order of the crystal goes, step by step, and what is left is a liquid.
"""

import argparse
import pathlib

import numpy as np

import panta

BINS, REACH = 120, 4.0
"""Into how many shells distances are counted, and up to which one, in sigma."""

ROWS = 256
"""How many atoms' distances to all others are worked out at once."""


def distribution(position, box):
    """g(r): how much denser the shells around an atom are than the whole, on average."""
    counts = np.zeros(BINS, "i8")
    scale = BINS / REACH
    for first in range(0, len(position), ROWS):
        between = position[first:first + ROWS, None] - position
        between -= box * np.round(between / box)
        shell = (np.sqrt(np.einsum("ijk,ijk->ij", between, between)) * scale).astype("i4")
        counts += np.bincount(shell[shell < BINS], minlength=BINS)
    # Each atom was counted with itself.
    counts[0] -= len(position)
    edges = np.linspace(0, REACH, BINS + 1)
    volumes = 4 / 3 * np.pi * np.diff(edges**3)
    density = len(position) / np.prod(box)
    return counts / (len(position) * density * volumes)


def follow(stream):
    """Every step's time, temperature, atoms of each rank, and g(r), as they come."""
    rows = []
    with panta.Reader(stream) as steps:
        for step in steps:
            got = step.get_many({name: ... for name in ("id", "position", "box", "temperature")})
            # The ranks' order changes with who owns what; the atoms' own does not.
            position = got["position"][np.argsort(got["id"])]
            rows.append((step.time, float(got["temperature"]), step["owned"].value,
                         distribution(position, got["box"])))
            print(f"step {step.number}, t = {step.time:.2f}: {len(position)} atoms of "
                  f"{'+'.join(map(str, rows[-1][2]))}, T = {rows[-1][1]:.3f}", flush=True)
    times, temperatures, owned, rdf = map(np.array, zip(*rows, strict=True))
    return {"time": times, "temperature": temperatures, "owned": owned, "rdf": rdf}


def draw(results, path):
    """The function over the run, and the temperature with it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    radii = (np.arange(BINS) + 0.5) * REACH / BINS
    times = results["time"]
    colours = plt.cm.viridis(np.linspace(0, 0.92, len(times)))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 4.2), layout="constrained", width_ratios=(2, 1))
    for time, colour, rdf in zip(times, colours, results["rdf"], strict=True):
        # The perfect crystal's peaks would hide all else.
        if time > 0:
            left.plot(radii, rdf, color=colour, lw=1.6)
    left.axhline(1, color="0.6", lw=0.8, ls=":")
    left.set(xlabel=r"$r\;[\sigma]$", ylabel=r"$g(r)$", xlim=(0.7, REACH), ylim=0)
    left.set_title("From the shells of a crystal to those of a liquid", loc="left")
    scale = plt.cm.ScalarMappable(plt.Normalize(times[0], times[-1]), "viridis")
    figure.colorbar(scale, ax=left, label=r"time $[\tau]$", pad=0.02)
    right.plot(times, results["temperature"], color="0.3", lw=1.2, zorder=1)
    right.scatter(times, results["temperature"], c=colours, s=30, zorder=2)
    right.set(xlabel=r"time $[\tau]$", ylabel=r"temperature $[\epsilon/k]$", ylim=0)
    right.set_title("What melting takes", loc="left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--stream", default="melt", help="name or URL (default: %(default)s)")
    words.add_argument("--output", type=pathlib.Path, default=".", help="where results go")
    options = words.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    results = follow(options.stream)
    np.savez(options.output / "rdf.npz", **results)
    draw(results, options.output / "rdf.png")


if __name__ == "__main__":
    main()
