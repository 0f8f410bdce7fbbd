"""Streams as datasets of xarray.

    import xarray as xr

    run = xr.open_dataset("file:run42.panta", engine="panta")     # all steps, along time
    last = xr.open_dataset("run42", engine="panta", step="latest")  # one of them

    for dataset in panta.xarray.iterate("run42"):                 # as they come
        ...

Variables come with the names of their dimensions, their coordinates, `units` and attributes.
Nothing is read until it is asked for; with `chunks={}` dask's chunks are the blocks that the
writers put, of whatever lengths these have along each dimension. Blocks that do not make a grid
give chunks of the largest one's size. Arrays can be sent to other processes, which open the
stream by its URL and the step's number: the step must then still be held, as a file holds all
of them.
"""

import bisect
import collections
import os
import threading
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from . import Reader, Step
from .errors import ArgumentError, ClosedError, NotReady, Trimmed

STEPS_KEPT = 16
"""How many steps a process that was sent arrays keeps open."""

_SCHEMES = ("file:", "staging:", "stream:", "inline:")


class _Steps:
    """The steps that were opened by number, the last few of them."""

    def __init__(self):
        self.lock = threading.Lock()
        self.held = collections.OrderedDict()

    def step(self, url, number, epoch):
        key = (os.getpid(), url, number, epoch)
        with self.lock:
            if key in self.held:
                self.held.move_to_end(key)
                return self.held[key]
        with Reader(url, at=number) as reader:
            found = reader.next_step()
            if found is None or (found.number, found.epoch) != (number, epoch):
                raise Trimmed(f"stream `{url}`: step {number} is no longer held", stream=url,
                              step=None if found is None else found.number)
            found.detach()
        with self.lock:
            self.held[key] = found
            while len(self.held) > STEPS_KEPT:
                self.held.popitem(last=False)
        return found


_steps = _Steps()


class StepSource:
    """A step that can be had again in another process: by URL, number and epoch."""

    def __init__(self, url, step):
        self.url, self.number, self.epoch = url, step.number, step.epoch
        self.live, self.process = step, os.getpid()

    def get(self, variable, index, out=None):
        """Reads from the step at hand while that is held, else from one opened anew."""
        # The child of a fork cannot use its parent's.
        if self.live is not None and self.process == os.getpid():
            try:
                return self.live.get(variable, index, out=out)
            except ClosedError:
                self.live = None
        step = _steps.step(self.url, self.number, self.epoch)
        return step.get(variable, index, out=out)

    def __getstate__(self):
        return {**self.__dict__, "live": None}


class _LazyArray(BackendArray):
    """A variable of one step (`dimensions` as the variable's), or of several along a first
    dimension."""

    def __init__(self, sources, variable, is_stacked):
        self.sources, self.name, self.is_stacked = sources, variable.name, is_stacked
        self.shape = (len(sources),) * is_stacked + tuple(variable.shape)
        self.dtype = np.dtype(variable.dtype)

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key):
        if not self.is_stacked:
            return self.sources[0].get(self.name, key)
        which, rest = key[0], key[1:]
        if not isinstance(which, slice):
            return self.sources[which].get(self.name, rest)
        parts = [source.get(self.name, rest) for source in self.sources[which][:1]]
        shape = np.shape(parts[0]) if parts else np.empty(self.shape[1:], "?")[rest].shape
        result = np.empty((len(self.sources[which]), *shape), self.dtype)
        for place, source in enumerate(self.sources[which]):
            if place == 0:
                result[0] = parts[0]
            elif shape:
                source.get(self.name, rest, out=result[place])
            else:
                result[place] = source.get(self.name, rest)
        return result

    def __dask_tokenize__(self):
        return [(s.url, s.number, s.epoch) for s in self.sources], self.name, self.is_stacked


def _chunks(variable, dims):
    """Sides of chunks that follow the blocks: of differing lengths where the blocks make a
    grid, and else those of the largest block."""
    blocks = [block for block in variable.blocks if all(block.count)]
    if not blocks:
        return {dim: -1 for dim in dims}
    cuts = []
    for axis, side in enumerate(variable.shape):
        places = {0, side}
        for block in blocks:
            places |= {block.start[axis], block.start[axis] + block.count[axis]}
        cuts.append(sorted(places))
    # A block that a line of the grid cuts lies like a brick.
    is_grid = all(
        cut[bisect.bisect_left(cut, start) + 1] == start + count
        for block in blocks for cut, start, count in zip(cuts, block.start, block.count))
    chunks = {}
    for axis, (dim, cut) in enumerate(zip(dims, cuts)):
        sides = tuple(int(side) for side in np.diff(cut))
        if not is_grid:
            chunks[dim] = int(max(block.count[axis] for block in blocks))
        elif all(side == sides[0] for side in sides[:-1]) and sides[-1] <= sides[0]:
            # One size and the rest, as zarr wants it, and as a number is shorter.
            chunks[dim] = sides[0]
        else:
            chunks[dim] = sides
    return chunks


def _dims(variable):
    return variable.dims or tuple(f"{variable.name}_dim_{n}" for n in range(variable.ndim))


def _attributes(variable):
    attributes = variable.attributes
    if variable.unit:
        attributes.setdefault("units", variable.unit)
    return attributes


def _is_dimension(variable):
    return variable.dims == (variable.name,)


def _skip(name, why):
    warnings.warn(f"the variable `{name}` is left out: {why}", stacklevel=4)


def _variable(sources, variable, along):
    """A variable of xarray: of one step if `along` is None, else of all along that."""
    dims, attributes = _dims(variable), _attributes(variable)
    if variable.kind in ("global value", "local value"):
        # Values come with the step, and cost nothing to read.
        value = [source.get(variable.name, ...) for source in sources]
        value = np.array(value) if along else value[0]
        return xr.Variable((along,) * (along is not None) + dims, value, attributes)
    data = indexing.LazilyIndexedArray(_LazyArray(sources, variable, along is not None))
    chunks = _chunks(variable, dims)
    if along:
        dims, chunks = (along, *dims), {along: 1, **chunks}
    return xr.Variable(dims, data, attributes, encoding={"preferred_chunks": chunks})


def _why_not(variable):
    """Why a variable has no place in a dataset by itself; None if it has."""
    if variable.kind == "local array":
        return ("it is a local array, whose blocks do not make one; read them by "
                "step[name].block(i)[...]")
    if len(set(variable.dims)) < len(variable.dims):
        return f"dimensions of one name, {variable.dims}; define it with others"
    return None


def _fitting(variables):
    """The variables but for those to which a dimension has another length than to one before;
    what holds a dimension's coordinates goes first."""
    sizes, kept = {}, set()
    for name in sorted(variables, key=lambda name: variables[name].dims != (name,)):
        for dim, side in variables[name].sizes.items():
            if sizes.setdefault(dim, (side, name))[0] != side:
                length, other = sizes[dim]
                _skip(name, f"its dimension `{dim}` has {side} cells, that of `{other}` {length}; "
                            f"define it with another name, or open with drop_variables='{other}'")
                break
        else:
            kept.add(name)
    return {name: made for name, made in variables.items() if name in kept}


def _dataset(variables, coordinates, attributes):
    variables = _fitting(variables)
    names = {name for listed in coordinates for name in listed if name in variables}
    names |= {name for name, made in variables.items() if made.dims == (name,)}
    data = {name: made for name, made in variables.items() if name not in names}
    return xr.Dataset(data, {name: variables[name] for name in names}, attributes)


def of_step(step: Step, url: str, drop: Collection[str] = ()) -> xr.Dataset:
    """One step as a dataset, read as it is asked for.

    The step's number and time are the scalar coordinates `step` and `time`. `url` is what
    another process, to which the dataset is sent, opens the stream by; `drop` names what is left out.
    """
    source = StepSource(url, step)
    variables = {}
    for name, variable in step.items():
        why = None if name in drop else _why_not(variable)
        if why:
            _skip(name, why)
        elif name not in drop:
            variables[name] = _variable([source], variable, None)
    dataset = _dataset(variables, (v.coordinates for v in step.values()), step.attributes)
    about = {"step": step.number} | ({} if step.time is None else {"time": step.time})
    return dataset.assign_coords({k: v for k, v in about.items() if k not in dataset.variables})


def iterate(name: str, comm: Any = None, **options: Any) -> Iterator[xr.Dataset]:
    """The steps of a stream as datasets, as they come; `options` are those of `panta.Reader`.

    A dataset is for the time until the next one is asked for: the step is then let go, so
    that the writer has room. What is to be kept is loaded (`dataset.load()`). Where the step
    is held by other means, as in a file, the dataset goes on working.
    """
    with Reader(name, comm, **options) as reader:
        for step in reader:
            yield of_step(step, name)


def _held(name, options):
    """All steps that are held now, waiting for the first."""
    with Reader(name, **options) as reader:
        # Steps of a file hold nothing up, so they can be kept.
        keep = reader.engine.engine == "file"
        step = reader.next_step()
        while step is not None:
            yield step.detach() if keep else step
            try:
                step = reader.next_step(deadline=0)
            except NotReady:
                return


class _Seen:
    """A variable as it was in one step, all but its data."""

    def __init__(self, variable):
        for field in ("name", "kind", "dtype", "shape", "ndim", "dims", "unit", "coordinates",
                      "attributes", "blocks", "joined_axis"):
            setattr(self, field, getattr(variable, field))


def _stacked(name, options, drop):
    """All steps that are held, along their time, or their numbers if they have none."""
    sources, times, seen, attributes, values = [], [], {}, {}, {}
    for step in _held(name, options):
        source = StepSource(name, step)
        sources.append(source)
        times.append(step.time)
        attributes = step.attributes
        for variable in step.values():
            if variable.name in drop:
                continue
            if variable.kind in ("global value", "local value"):
                values[variable.name, step.number] = step.get(variable.name, ...)
            seen.setdefault(variable.name, []).append((source, _Seen(variable)))
    along = "step" if None in times or not times else "time"
    steps = [source.number for source in sources]
    variables = {"step": xr.Variable((along,), np.array(steps, "i8"))}
    if along == "time":
        variables["time"] = xr.Variable((along,), np.array(times, "f8"))
    coordinates = [set(variables)]
    coordinates += (each.coordinates for held in seen.values() for _, each in held)
    named = {name for listed in coordinates for name in listed}
    for held in seen.values():
        variable = held[-1][1]
        made = _stack(held, variable, along, sources, values, variable.name in named)
        if made is not None:
            variables.setdefault(variable.name, made)
    return _dataset(variables, coordinates, attributes)


def _stack(held, variable, along, sources, values, is_coordinate):
    name = variable.name
    if _why_not(variable):
        return _skip(name, _why_not(variable))
    # What says where the cells lie is often put once, in the first step.
    if _is_dimension(variable) or is_coordinate and len(held) < len(sources):
        return _variable([held[-1][0]], variable, None)
    if name in ("step", "time"):
        return _skip(name, f"`{name}` is that of the steps here; read it by one step")
    if len(held) < len(sources):
        return _skip(name, f"only {len(held)} of {len(sources)} steps have it; open with step=…")
    if len({each.shape for _, each in held}) > 1:
        return _skip(name, "its shape changes from step to step; open with step=…")
    if (name, sources[0].number) in values:
        stacked = np.array([values[name, source.number] for source in sources])
        return xr.Variable((along, *_dims(variable)), stacked, _attributes(variable))
    return _variable(sources, variable, along)


class PantaBackend(BackendEntrypoint):
    """`xr.open_dataset(url, engine="panta")`.

    Without `step` all steps that are held are opened, along `time` (their numbers, `step`, if
    they have no time); with `step` a number or "latest", that one. `deadline` is how long to
    wait for the first, in seconds; how long for the stream to be there says its URL
    (`?deadline=5s`). Variables that cannot be shown so are left out, with a
    warning that says why.
    """

    description = "Streams of Panta: simulations as they run, and what they leave in files"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "step", "deadline")

    def open_dataset(self, filename_or_obj, *, drop_variables=None, step=None, deadline=None):
        """Opens a stream; see the class."""
        name = os.fspath(filename_or_obj)
        if not name.startswith(_SCHEMES) and os.path.isdir(name):
            name = f"file:{name}"
        options = {"deadline": deadline}
        drop = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        if step is None:
            return _stacked(name, options, set(drop))
        return of_step(_one(name, step, options), name, set(drop))

    def guess_can_open(self, filename_or_obj):
        """Whether it is a URL of Panta's, or a directory that it wrote."""
        try:
            name = os.fspath(filename_or_obj)
        except TypeError:
            return False
        return name.startswith(_SCHEMES) or (name.endswith(".panta") and os.path.isdir(name))


def _one(name, step, options):
    if step == "latest":
        where = {"start": "latest"}
    elif isinstance(step, (int, np.integer)):
        where = {"at": int(step)}
    else:
        raise ArgumentError(f"`step` is {step!r}; it is a number or 'latest'")
    with Reader(name, **where, **options) as reader:
        found = reader.next_step()
        if found is None or ("at" in where and found.number != step):
            raise Trimmed(f"stream `{name}`: there is no step {step}", stream=name)
        return found.detach()
