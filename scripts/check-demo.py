"""Checks that the runs of the demo agree bit for bit, and with the file.

Usage: check-demo.py FILE.panta SUMMARY.json...

The file is read by tests/panta_reader.py, which shares no code with Panta. For
each step it computes what the analysis computed (extremes, histogram, volume
fraction, checksum) from the array in the file; every summary must say exactly
that. Summaries come from runs over different engines.
"""

import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import panta_reader  # noqa: E402


def mix(value):
    """The finaliser of SplitMix64 on an array of uint64."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def checksum(field):
    """The wrapping sum over the cells of a hash of (index, bits)."""
    index = np.arange(field.size, dtype=np.uint64)
    bits = np.ascontiguousarray(field).reshape(-1).view(np.uint64)
    with np.errstate(over="ignore"):
        return f"{int(mix(mix(index) ^ bits).sum(dtype=np.uint64)):016x}"


def measure(field, threshold, bins):
    """What the analysis measures of one step, for a field of finite numbers."""
    low, high = field.min(), field.max()
    share = (field - low) / (high - low)
    places = np.minimum((share * bins).astype(np.int64), bins - 1)
    return {
        "min": float(low),
        "max": float(high),
        "histogram": np.bincount(places.reshape(-1), minlength=bins).tolist(),
        "volume_fraction": int((field > threshold).sum()) / field.size,
        "not_finite": 0,
        "checksum": checksum(field),
    }


def main(path, summaries):
    """Returns what differs, as lines; nothing if all is well."""
    wrong = []
    contents = {name: json.loads(pathlib.Path(name).read_text()) for name in summaries}
    number_of_steps = 0
    dataset = panta_reader.Dataset(path)
    for commit in dataset.steps:
        number, time = commit["step"], commit["time"]
        field, covered = dataset.read(commit, "v")
        number_of_steps += 1
        if not covered.all():
            wrong.append(f"{path}: step {number}: nobody put some of its cells")
        for name, summary in contents.items():
            found = next((step for step in summary["steps"] if step["step"] == number), None)
            if found is None:
                wrong.append(f"{name}: step {number} is missing")
                continue
            expected = measure(field, summary["threshold"], len(found["histogram"]))
            expected |= {"step": number, "time": time}
            for key, value in expected.items():
                if found[key] != value:
                    wrong.append(f"{name}: step {number}: {key} is {found[key]}, the file says {value}")
    for name, summary in contents.items():
        if len(summary["steps"]) != number_of_steps:
            wrong.append(f"{name}: {len(summary['steps'])} steps, the file holds {number_of_steps}")
    if number_of_steps == 0:
        wrong.append(f"{path}: no steps")
    if not wrong:
        print(f"check-demo: {number_of_steps} steps, bit-identical in {', '.join(summaries)} and the file")
    return wrong


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    differences = main(sys.argv[1], sys.argv[2:])
    if differences:
        sys.exit("\n".join(differences))
