#!/usr/bin/env python3
"""Panta beside other libraries that do the same job, in one run.

    benches/peers/run.py [--rounds 3] [--sizes 1KiB,64KiB,1MiB,64MiB] [--panta PATH]

Makes a virtual environment with the packages of requirements.txt and compiles
adios.cpp against the ADIOS2 in it, both under target/peers; builds `panta` unless told
where it is. Then every contender is run in turn, again and again (A B A B), each as
two processes of its own, and one table of medians is printed. Everything that arrives
is looked at. What is compared, and what is not, stands in README.md beside this file.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MEMORY = "/dev/shm"
LIMIT_S = 180
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def size_of(text):
    for unit, scale in UNITS.items():
        if text.endswith(unit):
            return int(text[: -len(unit)]) * scale
    return int(text)


def text_of(size):
    for unit, scale in reversed(UNITS.items()):
        if size % scale == 0:
            return f"{size // scale} {unit}"
    return f"{size} B"


def warm_of(size, is_file):
    """Steps before those that are timed; a stream's memory is made in them. As `panta bench` has it."""
    return 0 if is_file or size < 4 << 20 else 32


def steps_of(size):
    """Steps asked for one by one, and steps that follow as fast as they can."""
    if size <= 1 << 14:
        return 500, 10_000
    if size <= 1 << 18:
        return 300, 3_000
    return (100, 300) if size <= 1 << 22 else (4, 12)


def prepare(directory):
    """The virtual environment and the program for ADIOS2; both are made once."""
    environment = directory / "venv"
    python = environment / "bin" / "python"
    requirements = (HERE / "requirements.txt").read_text()
    stamp = environment / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements:
        print("peers: making the virtual environment", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(install + ["-r", HERE / "requirements.txt"], check=True)
        stamp.write_text(requirements)
    found = subprocess.run(
        [python, "-c", "import adios2, os; print(os.path.dirname(adios2.__file__))"],
        check=True, capture_output=True, text=True,
    )
    adios2 = found.stdout.strip()
    program = directory / "adios"
    if not program.exists() or program.stat().st_mtime < (HERE / "adios.cpp").stat().st_mtime:
        compile_ = ["c++", "-O3", "-march=native", "-std=c++17", HERE / "adios.cpp", f"-I{adios2}/include"]
        link = [f"-L{adios2}", "-ladios2_cxx", "-ladios2_core", f"-Wl,-rpath,{adios2}", "-Wl,--allow-shlib-undefined"]
        subprocess.run(compile_ + link + ["-o", program], check=True)
    return python, program


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def both(writer, readers, place):
    """Runs a writer until it is ready, then its readers; what the readers say."""
    started = [subprocess.Popen(writer, stdout=subprocess.PIPE, text=True, cwd=place)]
    try:
        if started[0].stdout.readline().strip() != "ready":
            raise RuntimeError("the writer did not get ready")
        for reader in readers:
            started.append(subprocess.Popen(reader, stdout=subprocess.PIPE, text=True, cwd=place))
        said = [process.communicate(timeout=LIMIT_S)[0] for process in started[1:]]
        started[0].communicate(timeout=LIMIT_S)
        for process in started:
            if process.returncode:
                raise RuntimeError(f"a side ended with {process.returncode}")
        return [last_json(text) for text in said]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()


class Contender:
    """Something that carries steps; `pair` and `grid` give steps a second and more."""

    def __init__(self, name, language, pair, grid=None):
        self.name, self.language, self.pair, self.grid = name, language, pair, grid


def peer_pair(command, is_file):
    def run(size):
        paced, streamed = steps_of(size)
        steps = [str(count) for count in (paced, streamed, warm_of(size, is_file))]
        with tempfile.TemporaryDirectory(dir=MEMORY) as place:
            writer, reader = (command(role, place, size) + steps for role in ("writer", "reader"))
            (said,) = both(writer, [reader], place)
        return {"steps_per_s": streamed / said["seconds"], "p50_us": said["p50_us"], "open_ms": said["open_ms"]}

    return run


def adios_pair(program, engine, stream):
    return peer_pair(
        lambda role, place, size: [program, role, engine, f"{place}/{stream}", f"{place}/meeting", str(size)],
        is_file=engine == "BP5",
    )


def python_pair(python, peer):
    return peer_pair(
        lambda role, place, size: [python, HERE / "workers.py", role, peer, place, str(size)],
        is_file=peer == "h5py",
    )


def adios_grid(program, engine, stream):
    def run(size):
        warm, timed = 24, 8
        with tempfile.TemporaryDirectory(dir=MEMORY) as place:
            common = [engine, f"{place}/{stream}", f"{place}/meeting", str(size), str(warm), str(timed)]
            readers = [[program, "grid-reader", *common, str(rank)] for rank in range(2)]
            said = both([program, "grid-writer", *common], readers, place)
        return {"steps_per_s": timed / max(one["seconds"] for one in said)}

    return run


def panta_row(panta, workload, *arguments):
    command = [panta, "bench", workload, "--json", "--rounds", "1", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
    return last_json(done.stdout)


def panta_pair(panta, *arguments):
    def run(size):
        row = panta_row(panta, "pair", "--bytes", str(size), "--mode", "put+get", *arguments)
        return {"steps_per_s": row["steps_per_s"], "p50_us": row["p50_us"], "memcpy": row["memcpy_gb_per_s"]}

    return run


def panta_grid(panta, *arguments):
    def run(size):
        row = panta_row(panta, "redistribute", "--bytes", str(size), *arguments)
        return {"steps_per_s": row["steps_per_s"], "memcpy": row["memcpy_gb_per_s"]}

    return run


def contenders(panta, python, program):
    stream = ["--engine", "stream", "--transport"]
    return [
        Contender("panta stream: shm", "Rust", panta_pair(panta, *stream, "shm"), panta_grid(panta, *stream, "shm")),
        Contender("panta stream: tcp", "Rust", panta_pair(panta, *stream, "tcp"), panta_grid(panta, *stream, "tcp")),
        Contender("panta file:", "Rust", panta_pair(panta, "--engine", "file"), panta_grid(panta, "--engine", "file")),
        Contender("ADIOS2 SST over TCP", "C++", adios_pair(program, "SST", "bench"), adios_grid(program, "SST", "bench")),
        Contender("ADIOS2 BP5 followed", "C++", adios_pair(program, "BP5", "bench.bp")),
        Contender("iceoryx2", "Python", python_pair(python, "iceoryx2")),
        Contender("zenoh over TCP", "Python", python_pair(python, "zenoh")),
        Contender("h5py, SWMR", "Python", python_pair(python, "h5py")),
    ]


def measured(all_, kind, size, rounds):
    """Every contender once, then again: medians of each figure; None where it failed."""
    rows, memcpys = {one.name: [] for one in all_}, []
    for round_ in range(rounds):
        for one in all_:
            print(f"peers: {kind} {text_of(size)}, round {round_ + 1}: {one.name}", file=sys.stderr)
            try:
                row = getattr(one, kind)(size)
            except (RuntimeError, OSError, subprocess.SubprocessError, ValueError) as error:
                print(f"peers: {one.name} failed: {error}", file=sys.stderr)
                continue
            memcpys += [row["memcpy"]] if "memcpy" in row else []
            rows[one.name].append(row)
    middle = lambda one, key: statistics.median(row[key] for row in rows[one] if key in row)
    figures = {
        name: {key: middle(name, key) for key in taken[0]} if taken else None for name, taken in rows.items()
    }
    return figures, statistics.median(memcpys) if memcpys else None


def table(header, lines):
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    shown = lambda line: "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
    return "\n".join([shown(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(shown, lines)])


def three(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def report(all_, kind, size, figures, memcpy):
    best = max((row["steps_per_s"] for name, row in figures.items() if row and not name.startswith("panta")), default=None)
    lines = []
    for one in all_:
        row = figures[one.name]
        if row is None:
            lines.append([one.name, one.language, "failed", "", "", "", ""])
            continue
        speed = row["steps_per_s"] * size / 1e9
        p50 = three(row["p50_us"]) if "p50_us" in row else ""
        ratio = f"{speed / memcpy:.2f}" if memcpy else ""
        against = f"{row['steps_per_s'] / best:.2f}" if best else ""
        lines.append([one.name, one.language, three(row["steps_per_s"]), three(speed), ratio, against, p50])
    what = "1 writer → 1 reader" if kind == "pair" else "4 blocks → 2 readers, cut across"
    print(f"\n{what}, {text_of(size)} a step" + (f"; memcpy {memcpy:.1f} GB/s" if memcpy else ""))
    print(table(["", "from", "steps/s", "GB/s", "of memcpy", "of the best peer", "p50 µs"], lines), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="1KiB,64KiB,1MiB,64MiB")
    parser.add_argument("--grid", default="256MiB", help="bytes of a redistributed step; empty for none")
    parser.add_argument("--panta", type=pathlib.Path, help="the program; built in release if not given")
    parser.add_argument("--only", default="", help="contenders whose name has this in it, besides Panta's")
    parser.add_argument("--json", type=pathlib.Path, help="also writes every figure there")
    options = parser.parse_args()
    panta = options.panta
    if panta is None:
        subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "panta"], check=True, cwd=ROOT)
        panta = ROOT / "target" / "release" / "panta"
    directory = ROOT / "target" / "peers"
    directory.mkdir(parents=True, exist_ok=True)
    if not shutil.which("c++"):
        sys.exit("peers: no C++ compiler; install one, for example the package g++")
    all_ = contenders(panta.resolve(), *prepare(directory))
    all_ = [one for one in all_ if one.name.startswith("panta") or options.only in one.name]
    everything = []
    todo = [("pair", size_of(size)) for size in options.sizes.split(",") if size]
    todo += [("grid", size_of(options.grid))] if options.grid else []
    for kind, size in todo:
        able = [one for one in all_ if getattr(one, kind)]
        figures, memcpy = measured(able, kind, size, options.rounds)
        everything.append({"workload": kind, "bytes": size, "memcpy_gb_per_s": memcpy, "figures": figures})
        report(able, kind, size, figures, memcpy)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
