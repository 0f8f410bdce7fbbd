#!/usr/bin/env python3
"""Reads and checks Panta datasets with nothing but Python and numpy; and zstd, where blocks
are compressed (of Python 3.14, or the module zstandard).

Written from docs/format.md alone, so that files outlive the library.

    panta_reader.py DATASET [--list]            variables, steps, attributes
    panta_reader.py DATASET --verify            every byte that has a checksum
    panta_reader.py DATASET --compare OTHER     the same steps, variables, values?
    panta_reader.py DATASET --dump VAR STEP OUT.npy

Ends with 0, or with 1 and the reason on stderr.
"""

import argparse
import os
import re
import struct
import sys

import numpy as np

PAGE = TILE = 4096
FRAME = 262144
VERSION = 1
COMPRESSED = 2
OPEN, STEP, CLOSE = 1, 2, 3
ROLES = {"commits": 1, "meta": 2, "data": 3, "index": 4}
DTYPES = {
    1: "<i1", 2: "<i2", 3: "<i4", 4: "<i8", 5: "<u1", 6: "<u2", 7: "<u4", 8: "<u8",
    9: "<f4", 10: "<f8", 11: "<c8", 12: "<c16", 13: "|b1", 14: None,
}
KINDS = {1: "global array", 2: "local array", 3: "joined array", 4: "global value", 5: "local value"}


class Damaged(Exception):
    """A file is not what was written: says which, where and what."""


# ---------------------------------------------------------------- CRC32C

def _tables():
    """Tables for eight bytes at a time: TABLES[k][b] is byte b with k zero bytes after it."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    tables = [table.astype(np.uint32)]
    for _ in range(7):
        last = tables[-1]
        tables.append(tables[0][last & 0xFF] ^ (last >> 8))
    return np.array(tables, dtype=np.uint32)


TABLES = _tables()
# Pairs of bytes at once, for many tiles side by side: half the look-ups.
_LOW = np.arange(65536) & 0xFF
_HIGH = np.arange(65536) >> 8
PAIRS = [TABLES[k][_LOW] ^ TABLES[k - 1][_HIGH] for k in (7, 5, 3, 1)]
_ROWS = TABLES.tolist()
_BYTE = _ROWS[0]


def crc32c(data, crc=0):
    """CRC32C of one string of bytes."""
    data = memoryview(data)
    crc ^= 0xFFFFFFFF
    whole = len(data) // 8 * 8
    t0, t1, t2, t3, t4, t5, t6, t7 = _ROWS
    for low, high in struct.iter_unpack("<II", data[:whole]):
        low ^= crc
        crc = (t7[low & 255] ^ t6[(low >> 8) & 255] ^ t5[(low >> 16) & 255] ^ t4[low >> 24]
               ^ t3[high & 255] ^ t2[(high >> 8) & 255] ^ t1[(high >> 16) & 255] ^ t0[high >> 24])
    for byte in data[whole:]:
        crc = _BYTE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def crc32c_rows(rows):
    """CRC32C of every row of a (n, 8 k) array of bytes, all rows side by side."""
    words = np.ascontiguousarray(rows).view("<u2")
    crc = np.full(len(rows), 0xFFFFFFFF, dtype=np.uint32)
    for at in range(0, words.shape[1], 4):
        low = words[:, at] ^ (crc & 0xFFFF).astype(np.uint16)
        middle = words[:, at + 1] ^ (crc >> 16).astype(np.uint16)
        crc = (PAIRS[0][low] ^ PAIRS[1][middle]
               ^ PAIRS[2][words[:, at + 2]] ^ PAIRS[3][words[:, at + 3]])
    return crc ^ np.uint32(0xFFFFFFFF)


def tile_crcs(data):
    """CRC32C of each tile of a block."""
    whole = len(data) // TILE
    if whole < 20:
        # Side by side pays only for many.
        tiles = (data[at:at + TILE] for at in range(0, len(data), TILE))
        return np.array([crc32c(tile) for tile in tiles], dtype=np.uint32)
    crcs = []
    for first in range(0, whole, 4096):
        last = min(whole, first + 4096)
        rows = np.frombuffer(data, np.uint8, (last - first) * TILE, first * TILE)
        crcs.append(crc32c_rows(rows.reshape(-1, TILE)))
    if len(data) % TILE:
        crcs.append(np.array([crc32c(data[whole * TILE:])], dtype=np.uint32))
    return np.concatenate(crcs) if crcs else np.empty(0, np.uint32)


# ---------------------------------------------------------------- fields

class Fields:
    """Takes fields off a string of bytes."""

    def __init__(self, data, where):
        self.data, self.at, self.where = data, 0, where

    def fail(self, problem):
        raise Damaged(f"{self.where}, byte {self.at} of it: {problem}")

    def take(self, count):
        if count > len(self.data) - self.at:
            self.fail(f"{count} bytes expected, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def u8(self):
        return self.number("B")

    def u32(self):
        return self.number("I")

    def u64(self):
        return self.number("Q")

    def bytes(self):
        return bytes(self.take(self.u32()))

    def text(self):
        try:
            return self.bytes().decode("utf-8")
        except UnicodeDecodeError:
            self.fail("a text is not UTF-8")

    def list(self, one):
        return [one() for _ in range(self.u32())]

    def end(self):
        if self.at != len(self.data):
            self.fail(f"{len(self.data) - self.at} bytes too many")


def unpack(packed, size, number):
    """The bytes that a frame of numbers of `number` bytes stands for."""
    if len(packed) == size:
        return packed
    try:
        try:
            from compression import zstd
            planes = zstd.decompress(packed)
        except ImportError:
            import zstandard
            planes = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except ImportError:
        raise Damaged("blocks are compressed: install the module zstandard") from None
    except Exception as error:
        raise Damaged(f"no zstd frame: {error}") from error
    if len(planes) != size:
        raise Damaged(f"{len(planes)} bytes come out, not {size}")
    return np.frombuffer(planes, np.uint8).reshape(number, -1).T.tobytes()


def definition(f):
    d = {"name": f.text(), "dtype": f.u8(), "kind": f.u8(), "axis": f.u8(), "shape": f.list(f.u64),
         "dims": f.list(f.text), "unit": f.text(), "coordinates": f.list(f.text),
         "fill": f.bytes(), "chunk": f.list(f.u64), "accuracy": None}
    if d["kind"] & 64:
        d["kind"] -= 64
        kind, bound = f.u8(), f.number("d")
        if kind not in (1, 2) or not 0 < bound < (float("inf"), 1)[kind - 1] or d["dtype"] not in (9, 10, 11, 12):
            f.fail(f"`{d['name']}` has accuracy {kind}, {bound}")
        d["accuracy"] = (("absolute", "relative")[kind - 1], bound)
    if d["dtype"] not in DTYPES or d["kind"] not in KINDS:
        f.fail(f"`{d['name']}` has element type {d['dtype']}, shape kind {d['kind']}")
    return d


def attribute(f):
    key = (f.text(), f.text())
    kind = f.u8()
    one = {1: lambda: f.number("q"), 2: f.u64, 3: lambda: f.number("d"), 4: f.text}
    if kind in one:
        return key, one[kind]()
    if kind - 4 in one:
        return key, f.list(one[kind - 4])
    f.fail(f"no attribute type has code {kind}")


def schema(f):
    variables = f.list(lambda: definition(f))
    return {"variables": variables, "attributes": dict(f.list(lambda: attribute(f)))}


def block(f):
    return {"rank": f.u32(), "order": f.u32(), "start": f.list(f.u64), "count": f.list(f.u64)}


def layout(f):
    return f.list(lambda: {"variable": f.u32(), "blocks": f.list(lambda: block(f))})


def payload(f):
    def number():
        forms = {1: "q", 2: "Q", 3: "d"}
        kind = f.u8()
        if kind not in forms:
            f.fail(f"no kind of number has code {kind}")
        return f.number(forms[kind])

    kind = f.u8()
    if kind == 0:
        return None
    if kind == 1:
        return number(), number(), f.u64()
    if kind == 2:
        return f.bytes()
    f.fail(f"no payload has code {kind}")


def record(f):
    head = {"epoch": f.u64(), "step": f.u64(), "wall_ns": f.u64(), "has_time": f.u8(), "time": f.number("d")}
    return {**head, "schema": f.u64(), "layout": f.u64(),
            "payloads": f.list(lambda: f.list(lambda: payload(f)))}


# ---------------------------------------------------------------- files

class File:
    """One file of the dataset; its first page is checked at once."""

    def __init__(self, directory, name, role, epoch=0, rank=0):
        self.name, self.path = name, os.path.join(directory, name)
        try:
            self.file = open(self.path, "rb")
        except OSError as error:
            raise Damaged(f"{name}: {error.strerror}") from error
        self.length = os.fstat(self.file.fileno()).st_size
        page = self.read(0, PAGE, "the first page")
        newest = COMPRESSED if role in (ROLES["data"], ROLES["index"]) else VERSION
        self.version = check_page(page, b"PANTAFIL", f"{name}, first page", newest)
        (found_role, self.instance, found_epoch, found_rank, mark, tile, page_bytes) = struct.unpack_from(
            "<I16sQIIII", page, 12)
        if (mark, tile, page_bytes) != (0x0A0B0C0D, TILE, PAGE):
            raise Damaged(f"{name}: byte order, tile or page size is not that of this format")
        if (found_role, found_epoch, found_rank) != (role, epoch, rank):
            raise Damaged(f"{name}: says it is role {found_role}, epoch {found_epoch}, rank {found_rank}")
        self.crc = struct.unpack_from("<I", page, PAGE - 4)[0]

    def read(self, offset, length, what):
        if offset + length > self.length:
            raise Damaged(f"{self.name} at byte {offset}: the file ends before the {length} bytes of {what}")
        self.file.seek(offset)
        return self.file.read(length)


def check_page(page, magic, where, newest=VERSION):
    crc, stored = crc32c(page[:PAGE - 4]), struct.unpack_from("<I", page, PAGE - 4)[0]
    if crc != stored:
        raise Damaged(f"{where}: checksum {crc:#010x}, stored is {stored:#010x}")
    if page[:8] != magic:
        raise Damaged(f"{where}: begins with {page[:8]!r}, not {magic!r}")
    version = struct.unpack_from("<I", page, 8)[0]
    if not VERSION <= version <= newest:
        raise Damaged(f"{where}: format version {version}, this program reads {VERSION} to {newest}")
    return version


def parse_commit(page, where):
    check_page(page, b"PANTACMT", where)
    names = ("kind", "instance", "sequence", "epoch", "step", "page", "pages", "previous",
             "segment_count", "here", "has_time", "wall_ns", "time")
    commit = dict(zip(names, struct.unpack_from("<I16sQQQIIIIIIQd", page, 12)))
    commit["parts"] = [struct.unpack_from("<QQI", page, at) for at in (96, 120, 144)]
    if commit["here"] > 97 or commit["page"] >= commit["pages"] or commit["kind"] not in (OPEN, STEP, CLOSE):
        raise Damaged(f"{where}: kind {commit['kind']}, page {commit['page']} of {commit['pages']}")
    commit["segments"] = [struct.unpack_from("<IIQQQQ", page, 192 + 40 * at) for at in range(commit["here"])]
    commit["crc"] = struct.unpack_from("<I", page, PAGE - 4)[0]
    return commit


class Dataset:
    """The steps of a dataset that hold."""

    def __init__(self, directory):
        self.directory = directory
        self.commits = File(directory, "commits", ROLES["commits"])
        self.meta = File(directory, "meta", ROLES["meta"])
        self.instance = self.commits.instance
        if self.meta.instance != self.instance:
            raise Damaged("meta: is of another dataset than commits")
        self.files, self.parts, self.sections = {}, {}, {}
        self.records, self.tail = self.read_records()
        self.steps, self.closed = self.apply()

    def read_records(self):
        """All whole records, and what is wrong with the first page that is not."""
        records, partial, at, chain = [], None, 1, self.commits.crc
        whole_pages = self.commits.length // PAGE
        while at < whole_pages:
            where = f"commits, page at byte {at * PAGE}"
            try:
                page = parse_commit(self.commits.read(at * PAGE, PAGE, "a page"), where)
                if page["instance"] != self.instance or page["sequence"] != at:
                    raise Damaged(f"{where}: is page {page['sequence']} of a dataset or place that is not this")
                if page["previous"] != chain:
                    raise Damaged(f"{where}: does not continue the page before it")
                if page["page"] != (partial["page"] + 1 if partial else 0):
                    raise Damaged(f"{where}: page {page['page']} of its record comes out of order")
                if partial and any(page[key] != partial[key] for key in ("kind", "epoch", "step", "pages",
                                                                         "segment_count", "parts")):
                    raise Damaged(f"{where}: is of another record than the page before it")
            except Damaged as problem:
                return records, problem
            chain, at = page["crc"], at + 1
            if partial:
                page["segments"] = partial["segments"] + page["segments"]
            partial = page
            if page["page"] + 1 == page["pages"]:
                if len(page["segments"]) != page["segment_count"]:
                    raise Damaged(f"{where}: the record has {len(page['segments'])} segments")
                records.append(page)
                partial = None
        if partial:
            return records, Damaged(f"commits at byte {at * PAGE}: the file ends within a record")
        if self.commits.length % PAGE:
            return records, Damaged(f"commits at byte {at * PAGE}: the file ends within a page")
        return records, None

    def apply(self):
        """The steps that hold after all records."""
        steps, epoch, next_step, closed, writing = [], 0, 0, False, False
        for commit in self.records:
            where = f"commits, page at byte {commit['sequence'] * PAGE}"
            if commit["kind"] == OPEN:
                if commit["epoch"] <= epoch or commit["step"] > next_step:
                    raise Damaged(f"{where}: epoch {commit['epoch']} cannot begin at step {commit['step']}")
                epoch, next_step, writing, closed = commit["epoch"], commit["step"], True, False
                steps = [step for step in steps if step["step"] < next_step]
                continue
            if commit["epoch"] != epoch or not writing:
                raise Damaged(f"{where}: a record of epoch {commit['epoch']} out of place")
            if commit["kind"] == CLOSE:
                writing, closed, next_step = False, True, max(next_step, commit["step"])
            else:
                if commit["step"] < next_step:
                    raise Damaged(f"{where}: step {commit['step']} where {next_step} is next")
                next_step = commit["step"] + 1
                steps.append(commit)
        return steps, closed

    # ---- parts, sections, blocks

    def part(self, place, kind):
        """Digest and body of a part of meta, checked."""
        if (place, kind) in self.parts:
            return self.parts[place, kind]
        offset, length, crc = place
        where = f"meta at byte {offset}"
        data = self.meta.read(offset, length, "a part")
        found = crc32c(data)
        if found != crc:
            raise Damaged(f"{where}: checksum {found:#010x}, the commit record says {crc:#010x}")
        f = Fields(data, where)
        if f.take(8) != b"PANTAPRT" or (f.u32(), f.u32()) != (kind, 0):
            raise Damaged(f"{where}: no part of kind {kind} begins there")
        body_length, digest = f.u64(), f.u64()
        body = f.take(body_length)
        if any(f.take(-body_length % 8)):
            raise Damaged(f"{where}: the padding is not zero")
        f.end()
        g = Fields(body, where)
        parsed = {1: schema, 2: layout, 3: record}[kind](g)
        g.end()
        if kind != 3:
            self.parts[place, kind] = digest, parsed
        return digest, parsed

    def describe(self, commit):
        """Schema, layout and record of a step."""
        (schema_name, the_schema), (layout_name, the_layout), (_, the_record) = (
            self.part(place, kind) for kind, place in enumerate(commit["parts"], 1))
        where = f"step {commit['step']}"
        if (the_record["schema"], the_record["layout"]) != (schema_name, layout_name):
            raise Damaged(f"{where}: its record names another schema or layout than its commit record")
        if (the_record["epoch"], the_record["step"]) != (commit["epoch"], commit["step"]):
            raise Damaged(f"{where}: its record is of step {the_record['step']}")
        if (the_record["has_time"], the_record["time"]) != (commit["has_time"], commit["time"]):
            raise Damaged(f"{where}: its record and its commit record differ in time")
        if [len(entry["blocks"]) for entry in the_layout] != [len(these) for these in the_record["payloads"]]:
            raise Damaged(f"{where}: its record does not fit its layout")
        return the_schema, the_layout, the_record

    def file(self, kind, epoch, rank):
        key = (kind, epoch, rank)
        if key not in self.files:
            file = File(self.directory, f"{kind}.{epoch:04}.{rank:04}", ROLES[kind], epoch, rank)
            if file.instance != self.instance:
                raise Damaged(f"{file.name}: is of another dataset than commits")
            self.files[key] = file
        return self.files[key]

    def section(self, commit, segment):
        """One rank's index section of one step: {order: (variable, offset, bytes, crcs, bytes in
        the file, (bytes, crc) of each frame or None)}."""
        rank, crc, offset, length, data_offset, data_length = segment
        key = (commit["epoch"], commit["step"], rank)
        if key in self.sections:
            return self.sections[key]
        file = self.file("index", commit["epoch"], rank)
        where = f"{file.name} at byte {offset}"
        data = file.read(offset, length, "a section")
        found = crc32c(data[:-4])
        if not found == crc == struct.unpack("<I", data[-4:])[0]:
            raise Damaged(f"{where}: checksum {found:#010x}, the commit record says {crc:#010x}")
        f = Fields(data[:-4], where)
        head = (f.take(8), f.take(16), f.u64(), f.u64(), f.u32())
        compressed = file.version == COMPRESSED
        if head != (b"PANTAIDZ" if compressed else b"PANTAIDX", self.instance, commit["epoch"], commit["step"], rank):
            raise Damaged(f"{where}: the section is not the one that was named")
        count = f.u32()
        if (f.u64(), f.u64()) != (data_offset, data_length):
            raise Damaged(f"{where}: section and commit record differ in where the blocks are")
        entries = [struct.unpack("<IIQQQ", f.take(32)) + ((f.u64(),) if compressed else (None,))
                   for _ in range(count)]
        tiles = sum(-(-entry[3] // TILE) for entry in entries)
        crcs = np.frombuffer(f.take(4 * tiles), "<u4")
        frame_count = sum(-(-entry[3] // FRAME) for entry in entries) if compressed else 0
        listed = [struct.unpack("<II", f.take(8)) for _ in range(frame_count)]
        if tiles % 2 == 0 and f.u32() != 0:
            raise Damaged(f"{where}: the padding is not zero")
        f.end()
        blocks, first, last_order = {}, 0, -1
        for variable, order, at, size, first_tile, stored in entries:
            if first_tile != first or order <= last_order:
                raise Damaged(f"{where}: its blocks are out of order")
            frames = None
            if compressed:
                frames, listed = listed[:-(-size // FRAME)], listed[-(-size // FRAME):]
                if sum(length for length, _ in frames) != stored:
                    raise Damaged(f"{where}: the frames of a block are not as long as it is")
            stored = size if stored is None else stored
            if at < data_offset or at + stored > data_offset + data_length:
                raise Damaged(f"{where}: a block lies outside the step's bytes")
            first, last_order = first + -(-size // TILE), order
            blocks[order] = (variable, at, size, crcs[first_tile:first], stored, frames)
        self.sections[key] = blocks
        return blocks

    def block(self, commit, variable, place):
        """A block's cells, every tile checked."""
        segment = next((s for s in commit["segments"] if s[0] == place["rank"]), None)
        if segment is None:
            raise Damaged(f"step {commit['step']}: no segment of rank {place['rank']}")
        found = self.section(commit, segment).get(place["order"])
        dtype = np.dtype(DTYPES[variable["dtype"]])
        size = int(np.prod(place["count"], dtype=object)) * dtype.itemsize
        if found is None or found[2] != size:
            raise Damaged(f"step {commit['step']}, `{variable['name']}`: the index has no such block")
        file = self.file("data", commit["epoch"], place["rank"])
        _, offset, _, crcs, stored, frames = found
        data = file.read(offset, stored, f"a block of `{variable['name']}`")
        if frames is not None:
            data = self.unpacked(data, frames, size, dtype, f"{file.name} at byte {offset}")
        wrong = np.flatnonzero(tile_crcs(data) != crcs)
        if wrong.size:
            raise Damaged(f"{file.name} at byte {offset + int(wrong[0]) * TILE}: tile {wrong[0]} of a block of "
                          f"`{variable['name']}`, step {commit['step']}, does not fit its checksum")
        return np.frombuffer(data, dtype).reshape(place["count"])

    def unpacked(self, data, frames, size, dtype, where):
        """A block's bytes out of its frames."""
        parts, at = [], 0
        for place, (length, crc) in enumerate(frames):
            try:
                if crc32c(data[at:at + length]) != crc:
                    raise Damaged("it does not fit its checksum")
                parts.append(unpack(data[at:at + length], min(FRAME, size - place * FRAME),
                                    dtype.itemsize // (2 if dtype.kind == "c" else 1)))
            except Damaged as problem:
                raise Damaged(f"{where}, frame {place} at byte {at} of it: {problem}") from None
            at += length
        return b"".join(parts)

    # ---- what users ask for

    def variables(self, commit):
        """{name: (definition, blocks, payloads)} of the step."""
        the_schema, the_layout, the_record = self.describe(commit)
        found = {}
        for entry, payloads in zip(the_layout, the_record["payloads"]):
            if entry["variable"] >= len(the_schema["variables"]):
                raise Damaged(f"step {commit['step']}: the layout names variable {entry['variable']}")
            variable = the_schema["variables"][entry["variable"]]
            found[variable["name"]] = (variable, entry["blocks"], payloads)
        return found

    def read(self, commit, name, start=None, count=None):
        """A box of an array, (cells, covered); or all values, or a local array's blocks."""
        try:
            variable, blocks, payloads = self.variables(commit)[name]
        except KeyError:
            raise Damaged(f"step {commit['step']} has no variable `{name}`") from None
        kind = variable["kind"]
        if kind in (4, 5):
            return values(variable, payloads), None
        if kind == 2:
            return [self.block(commit, variable, place) for place in blocks], None
        shape = list(variable["shape"])
        if kind == 3:
            shape[variable["axis"]] = sum(place["count"][variable["axis"]] for place in blocks)
        start = [0] * len(shape) if start is None else list(start)
        count = [n - s for n, s in zip(shape, start)] if count is None else list(count)
        if any(s + c > n for s, c, n in zip(start, count, shape)):
            raise Damaged(f"the box at {start} of {count} cells is outside `{name}` of shape {shape}")
        cells = np.zeros(count, DTYPES[variable["dtype"]])
        if variable["fill"]:
            cells[...] = np.frombuffer(variable["fill"], cells.dtype)[0]
        covered = np.zeros(count, bool)
        for place in blocks:
            low = [max(a, b) for a, b in zip(start, place["start"])]
            high = [min(s + c, b + n) for s, c, b, n in zip(start, count, place["start"], place["count"])]
            if any(a >= b for a, b in zip(low, high)):
                continue
            there = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start))
            here = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, place["start"]))
            cells[there] = self.block(commit, variable, place)[here]
            covered[there] = True
        return cells, covered

    def verify(self):
        """Every byte that a record names; notes on bytes that none does."""
        notes = []
        if self.tail is not None:
            raise Damaged(f"a torn or damaged tail of the log: {self.tail}")
        if not self.closed:
            notes.append("not closed: the writer lives, or died")
        meta_end, ends = PAGE, {}
        for commit in self.records:
            if commit["kind"] != STEP:
                continue
            if any(commit["segments"][at][0] >= commit["segments"][at + 1][0]
                   for at in range(len(commit["segments"]) - 1)):
                raise Damaged(f"step {commit['step']}: its segments are out of order")
            for offset, length, _ in commit["parts"]:
                if offset > meta_end:
                    raise Damaged(f"meta at byte {meta_end}: {offset - meta_end} bytes belong to nothing")
                meta_end = max(meta_end, offset + length)
            self.verify_blocks(commit, ends)
        tails = [(self.meta, meta_end)]
        tails += [(self.file(kind, epoch, rank), end) for (kind, epoch, rank), end in ends.items()]
        for file, end in tails:
            if file.length > end:
                notes.append(f"{file.name}: {file.length - end} bytes at byte {end} belong to no step")
        self.verify_others(ends)
        return notes

    def verify_blocks(self, commit, ends):
        epoch = commit["epoch"]
        wanted = {}
        for variable, blocks, _ in self.variables(commit).values():
            if variable["kind"] in (4, 5):
                continue
            for place in blocks:
                self.block(commit, variable, place)
                wanted.setdefault(place["rank"], set()).add(place["order"])
        for segment in commit["segments"]:
            rank, _, offset, length, data_offset, data_length = segment
            for kind, begin, size in (("index", offset, length), ("data", data_offset, data_length)):
                end = ends.get((kind, epoch, rank), PAGE)
                if begin != end:
                    raise Damaged(f"{kind}.{epoch:04}.{rank:04}: step {commit['step']} begins at byte {begin}, "
                                  f"the last one ended at {end}")
                ends[kind, epoch, rank] = begin + size
            blocks = self.section(commit, segment)
            if set(blocks) != wanted.pop(rank, set()):
                raise Damaged(f"step {commit['step']}: index and layout of rank {rank} differ")
            data = self.file("data", epoch, rank)
            at = data_offset
            extents = sorted((found[1], found[1] + found[4]) for found in blocks.values())
            for begin, end in [*extents, (data_offset + data_length,) * 2]:
                gap = data.read(at, max(begin - at, 0), "padding")
                if gap.strip(b"\0"):
                    raise Damaged(f"{data.name} at byte {at}: the padding before byte {begin} is not zero")
                at = max(at, end)
        if wanted:
            raise Damaged(f"step {commit['step']}: no segment of ranks {sorted(wanted)}")

    def verify_others(self, ends):
        """The lock, cursors, and that no file is there that means nothing."""
        for name in sorted(os.listdir(self.directory)):
            path = os.path.join(self.directory, name)
            segment = re.fullmatch(r"(data|index)\.(\d{4,})\.(\d{4,})", name)
            if segment:
                key = (segment[1], int(segment[2]), int(segment[3]))
                if key not in ends:
                    self.file(*key)
            elif name == "lock":
                check_lock(open(path, "rb").read())
            elif name == "cursors":
                for cursor in sorted(os.listdir(path)):
                    if not cursor.endswith(".new"):
                        check_cursor(cursor, open(os.path.join(path, cursor), "rb").read(), self.instance)
            elif name not in ("commits", "meta", "commits.new"):
                raise Damaged(f"{name}: no file of a dataset")


def check_lock(text):
    if not text:
        return
    found = re.fullmatch(rb"(pid \d+ host [^\n]*) crc32c ([0-9a-f]{8})\n", text)
    if not found or crc32c(found[1]) != int(found[2], 16):
        raise Damaged("lock: does not say who holds it")


def check_cursor(name, data, instance):
    if len(data) != 48 or data[:8] != b"PANTACUR" or struct.unpack_from("<I", data, 8)[0] != VERSION:
        raise Damaged(f"cursors/{name}: no cursor of this format")
    if crc32c(data[:44]) != struct.unpack_from("<I", data, 44)[0]:
        raise Damaged(f"cursors/{name}: its checksum does not fit")
    if data[12:28] != instance:
        raise Damaged(f"cursors/{name}: is of another dataset")


def values(variable, payloads):
    """The values of a global or local value."""
    if any(not isinstance(raw, bytes) for raw in payloads):
        raise Damaged(f"`{variable['name']}`: an array came where a value is")
    form = DTYPES[variable["dtype"]]
    if form is None:
        found = [raw.decode("utf-8") for raw in payloads]
    else:
        found = [np.frombuffer(raw, form)[0] for raw in payloads]
    return found[-1:] if variable["kind"] == 4 else found


# ---------------------------------------------------------------- commands

def same(a, b):
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b


def compare(one, other):
    """The first difference in what the two datasets hold, or None."""
    numbers = [[step["step"] for step in dataset.steps] for dataset in (one, other)]
    if numbers[0] != numbers[1]:
        return f"steps {numbers[0]} and {numbers[1]}"
    for a, b in zip(one.steps, other.steps):
        where = f"step {a['step']}"
        if (a["has_time"], a["time"]) != (b["has_time"], b["time"]):
            return f"{where}: times {a['time']} and {b['time']}"
        if one.describe(a)[0]["attributes"] != other.describe(b)[0]["attributes"]:
            return f"{where}: the attributes differ"
        left, right = one.variables(a), other.variables(b)
        if sorted(left) != sorted(right):
            return f"{where}: variables {sorted(left)} and {sorted(right)}"
        for name, (mine, _, _) in left.items():
            theirs = right[name][0]
            fixed = ("dtype", "kind", "axis", "shape", "dims", "unit", "fill", "accuracy")
            if any(mine[key] != theirs[key] for key in fixed):
                return f"{where}: `{name}` is defined differently"
            if not all(same(x, y) for x, y in zip(one.read(a, name), other.read(b, name))):
                return f"{where}: `{name}` has different values"
    return None


def show(dataset):
    for commit in dataset.steps:
        the_schema = dataset.describe(commit)[0]
        time = f" time {commit['time']}" if commit["has_time"] else ""
        print(f"step {commit['step']} epoch {commit['epoch']}{time}")
        for name, (variable, blocks, _) in dataset.variables(commit).items():
            dtype = DTYPES[variable["dtype"]] or "text"
            unit = f" [{variable['unit']}]" if variable["unit"] else ""
            unit += " rounded, {} {:g}".format(*variable["accuracy"]) if variable["accuracy"] else ""
            print(f"  {name}{unit}: {KINDS[variable['kind']]} {dtype} {variable['shape']}, {len(blocks)} blocks")
        for (variable, name), value in the_schema["attributes"].items():
            print(f"  @{variable + '.' if variable else ''}{name} = {value!r}")
    print("closed" if dataset.closed else "not closed")


def dump(dataset, name, number, out):
    commit = next((step for step in dataset.steps if step["step"] == int(number)), None)
    if commit is None:
        raise Damaged(f"there is no step {number}")
    cells, covered = dataset.read(commit, name)
    if covered is not None and not covered.all():
        variable = dataset.variables(commit)[name][0]
        if not variable["fill"]:
            raise Damaged(f"step {number}, `{name}`: nobody put some of its cells")
    np.save(out, np.asarray(cells) if not isinstance(cells, list) or len(cells) != 1 else cells[0])


def main():
    parser = argparse.ArgumentParser(description="Reads and checks Panta datasets.")
    parser.add_argument("dataset")
    parser.add_argument("--list", action="store_true", help="variables, steps, attributes")
    parser.add_argument("--verify", action="store_true", help="check every byte")
    parser.add_argument("--compare", metavar="OTHER", help="whether both hold the same")
    parser.add_argument("--dump", nargs=3, metavar=("VAR", "STEP", "OUT.npy"))
    arguments = parser.parse_args()
    try:
        dataset = Dataset(arguments.dataset)
        if arguments.verify:
            for note in dataset.verify():
                print(f"note: {note}")
            print(f"{arguments.dataset}: {len(dataset.steps)} steps, every checksum fits")
        if arguments.compare:
            difference = compare(dataset, Dataset(arguments.compare))
            if difference:
                raise Damaged(f"{arguments.dataset} and {arguments.compare} differ: {difference}")
            print(f"{arguments.dataset} and {arguments.compare} hold the same")
        if arguments.dump:
            dump(dataset, *arguments.dump)
        if arguments.list or not (arguments.verify or arguments.compare or arguments.dump):
            show(dataset)
    except (Damaged, OSError) as problem:
        print(f"panta_reader: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
