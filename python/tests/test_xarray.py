"""Streams as datasets of xarray."""

import concurrent.futures
import multiprocessing
import pickle

import numpy as np
import pytest

import panta

xr = pytest.importorskip("xarray")
import panta.xarray  # noqa: E402

STEPS, SHAPE = 4, (6, 4)


def field(step):
    return np.arange(24.0).reshape(SHAPE) + 100 * step


def write(url, timed=True):
    """A stream of two blocks a step."""
    with panta.Writer(url) as w:
        w.set_attribute("title", "a run")
        w.define("y", "f8", 6, dims=["y"], unit="m")
        w.define("area", "f4", SHAPE, dims=("y", "x"))
        w.define("u", "f8", SHAPE, dims=("y", "x"), unit="K", coordinates=["area"],
                 attributes={"long_name": "temperature"})
        w.define("p", "i8", (None, 3))
        w.define("dt", "f8")
        w.define("label", str)
        w.define("rank", "i4", kind="local value")
        w.define("raw", "f8", 3)
        for n in range(STEPS):
            with w.step(time=0.5 * n if timed else None) as s:
                if n == 0:
                    s.put("y", np.linspace(0, 1, 6))
                    s.put("area", np.ones(SHAPE, "f4"))
                u = field(n)
                s.put("u", u[:3])
                s.put("u", u[3:], (3, 0))
                s.put("p", np.full((n + 1, 3), n))
                s.put("dt", 0.5)
                s.put("label", f"step {n}")
                s.put("rank", 1)
                s.put("rank", 2)
                s.put("raw", np.arange(3.0))


@pytest.fixture
def stream(url):
    write(url)
    return url


@pytest.fixture
def run(stream):
    with pytest.warns(UserWarning, match="`p` is left out: its shape changes") as warned:
        opened = xr.open_dataset(stream, engine="panta")
    assert len(warned) == 1
    return opened


def test_a_stream_is_a_dataset_along_time(run):
    assert dict(run.sizes) == {"time": STEPS, "y": 6, "x": 4, "rank_dim_0": 2, "raw_dim_0": 3}
    assert set(run.data_vars) == {"u", "dt", "label", "rank", "raw"}
    assert set(run.coords) == {"time", "step", "y", "area"}
    assert run.attrs == {"title": "a run"}
    assert run.u.dims == ("time", "y", "x")
    assert run.u.attrs == {"long_name": "temperature", "units": "K"}
    assert run.y.attrs == {"units": "m"} and run.area.dims == ("y", "x")
    assert run.time.values.tolist() == [0, 0.5, 1, 1.5]
    assert run.step.values.tolist() == [0, 1, 2, 3]
    assert run.label.values.tolist() == ["step 0", "step 1", "step 2", "step 3"]
    assert run["rank"].values.tolist() == [[1, 2]] * 4
    for n in range(STEPS):
        np.testing.assert_array_equal(run.u[n], field(n))
    np.testing.assert_array_equal(run.u.sel(time=1.5, y=0.2, method="nearest"), field(3)[1])


def test_it_is_read_only_where_it_is_asked(stream, run, monkeypatch):
    asked = []
    get = panta.xarray.StepSource.get

    def watched(source, variable, index, out=None):
        result = get(source, variable, index, out)
        asked.append((source.number, variable, np.shape(result)))
        return result

    monkeypatch.setattr(panta.xarray.StepSource, "get", watched)
    part = run.u.isel(time=2, y=slice(None, None, -2))[:, 1]
    assert asked == []
    np.testing.assert_array_equal(part, field(2)[::-2, 1])
    assert asked == [(2, "u", (3,))]


@pytest.mark.parametrize("index", [
    np.s_[1:3, ::2, -1], np.s_[::-1, 0], np.s_[[0, 2], :, [3, 1]], np.s_[3], np.s_[:0],
    np.s_[2:0:-1, [True, False] * 3],
])
def test_any_index_gives_what_numpy_gives(run, index):
    whole = np.stack([field(n) for n in range(STEPS)])
    index = index if isinstance(index, tuple) else (index,)
    wanted = whole
    for axis, item in reversed(list(enumerate(index))):
        wanted = wanted[(slice(None),) * axis + (item,)]
    np.testing.assert_array_equal(run.u[index], wanted)


def test_steps_without_a_time_lie_along_their_numbers(url):
    write(url, timed=False)
    with pytest.warns(UserWarning):
        run = xr.open_dataset(url, engine="panta")
    assert run.u.dims == ("step", "y", "x") and "time" not in run.variables


@pytest.mark.parametrize("step, number", [(0, 0), (2, 2), ("latest", STEPS - 1)])
def test_one_step_is_a_dataset(stream, step, number):
    dataset = xr.open_dataset(stream, engine="panta", step=step)
    assert dataset.u.dims == ("y", "x") and dataset.p.shape == (number + 1, 3)
    assert (dataset.step, dataset.time, dataset.dt, dataset.label) == (
        number, 0.5 * number, 0.5, f"step {number}")
    np.testing.assert_array_equal(dataset.u, field(number))


def test_a_step_that_is_not_there_is_an_error(stream):
    with pytest.raises(panta.Error):
        xr.open_dataset(stream, engine="panta", step=9, deadline=0.01)
    with pytest.raises(ValueError, match="step"):
        xr.open_dataset(stream, engine="panta", step="first")
    with pytest.raises(FileNotFoundError):
        xr.open_dataset(stream + "x?deadline=1ms", engine="panta")


def test_a_file_is_opened_by_its_path_too(stream, tmp_path):
    opened = xr.open_dataset(tmp_path / "run.panta", step=1, drop_variables=["p", "none"])
    np.testing.assert_array_equal(opened.u, field(1))
    assert "p" not in opened


def test_a_stream_is_iterated_as_it_comes(url):
    with panta.Writer(url) as w:
        w.define("u", "f8", SHAPE, dims=("y", "x"))
        datasets = panta.xarray.iterate(url)
        for n in range(3):
            with w.step(time=n) as s:
                s.put("u", field(n))
            dataset = next(datasets)
            assert (dataset.step, dataset.time, dataset.u.max()) == (n, n, field(n).max())
    assert list(datasets) == []
    # The step was let go, but a file holds it.
    np.testing.assert_array_equal(dataset.u, field(2))


def test_chunks_follow_the_blocks(stream):
    pytest.importorskip("dask")
    with pytest.warns(UserWarning):
        run = xr.open_dataset(stream, engine="panta", chunks={})
    assert run.u.chunks == ((1,) * STEPS, (3, 3), (4,))
    assert float(run.u.mean()) == np.mean([field(n) for n in range(STEPS)])
    one = xr.open_dataset(stream, engine="panta", step=1, chunks={})
    assert one.u.chunks == ((3, 3), (4,)) and one.p.chunks == ((2,), (3,))


def put_boxes(url, shape, boxes):
    """One step, with a cell's number as its value."""
    whole = np.arange(np.prod(shape), dtype="f8").reshape(shape)
    with panta.Writer(url) as w:
        w.define("u", "f8", shape, dims=("y", "x"))
        with w.step(time=0.0) as s:
            for rows, columns in boxes:
                s.put("u", whole[slice(*rows), slice(*columns)], (rows[0], columns[0]))
    return whole


def pairs(cuts):
    return list(zip(cuts, cuts[1:]))


def test_chunks_are_as_unequal_as_the_blocks(url):
    pytest.importorskip("dask")
    boxes = [(rows, columns) for rows in pairs((0, 4, 5, 10)) for columns in pairs((0, 2, 9))]
    whole = put_boxes(url, (10, 9), boxes)
    one = xr.open_dataset(url, engine="panta", step=0, chunks={})
    assert one.u.chunks == ((4, 1, 5), (2, 7))
    np.testing.assert_array_equal(one.u, whole)
    run = xr.open_dataset(url, engine="panta", chunks={})
    assert run.u.chunks == ((1,), (4, 1, 5), (2, 7))
    np.testing.assert_array_equal(run.u[0, 3:8, 1:], whole[3:8, 1:])


def test_chunks_of_joined_rows_are_those_of_each_put(url):
    pytest.importorskip("dask")
    with panta.Writer(url) as w:
        w.define("p", "f8", (None, 3), dims=("particle", "axis"))
        with w.step() as s:
            for rows in (2, 5, 0, 1):
                s.put("p", np.full((rows, 3), rows, "f8"))
    one = xr.open_dataset(url, engine="panta", step=0, chunks={})
    assert one.p.chunks == ((2, 5, 1), (3,))
    assert one.p.sum() == 3 * (4 + 25 + 1)


def test_blocks_that_do_not_make_a_grid_give_chunks_of_the_largest_size(url):
    pytest.importorskip("dask")
    bricks = [((row, row + 1), columns) for row in range(8)
              for columns in pairs(sorted({0, row, 8})) if columns[0] < columns[1]]
    whole = put_boxes(url, (8, 8), bricks)
    one = xr.open_dataset(url, engine="panta", step=0, chunks={})
    assert one.u.chunks == ((1,) * 8, (8,))
    np.testing.assert_array_equal(one.u, whole)


def total(dataset):
    return float(dataset.u.sum())


def test_lazy_arrays_work_in_other_processes(run, stream):
    one = xr.open_dataset(stream, engine="panta", step=2)
    assert total(pickle.loads(pickle.dumps(one))) == field(2).sum()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        sums = list(pool.map(total, [run.isel(time=n) for n in range(STEPS)] + [one]))
    assert sums == [field(n).sum() for n in (*range(STEPS), 2)]


def test_dask_in_other_processes_reads_by_itself(stream):
    pytest.importorskip("dask")
    one = xr.open_dataset(stream, engine="panta", step=3, chunks={})
    assert float(one.u.sum().compute(scheduler="processes", num_workers=2)) == field(3).sum()


@pytest.mark.parametrize("chunks", [None, {}])
def test_a_run_is_stored_as_zarr(stream, tmp_path, chunks):
    pytest.importorskip("zarr")
    with pytest.warns(UserWarning):
        run = xr.open_dataset(stream, engine="panta", chunks=chunks)
    run.to_zarr(tmp_path / "run.zarr", consolidated=False)
    back = xr.open_zarr(tmp_path / "run.zarr", consolidated=False)
    xr.testing.assert_identical(run.load(), back.load())


@pytest.mark.parametrize("chunks", [None, {}, {"y": 5, "x": -1}])
def test_blocks_of_unequal_sizes_are_stored_as_zarr(url, tmp_path, chunks):
    pytest.importorskip("zarr")
    whole = put_boxes(url, (10, 4), [(rows, (0, 4)) for rows in pairs((0, 4, 7, 10))])
    run = xr.open_dataset(url, engine="panta", chunks=chunks)
    if chunks == {}:
        # Zarr has chunks of one size only, and says so.
        with pytest.raises(ValueError, match="uniform chunk sizes"):
            run.to_zarr(tmp_path / "none.zarr", consolidated=False)
        run = run.chunk(y=4)
    run.to_zarr(tmp_path / "run.zarr", consolidated=False)
    back = xr.open_zarr(tmp_path / "run.zarr", consolidated=False)
    np.testing.assert_array_equal(back.u[0], whole)


def test_what_does_not_fit_the_rest_is_left_out_and_the_rest_is_there(url):
    """Cells and the faces between them are often said to lie along one `x`."""
    with panta.Writer(url) as w:
        w.define("faces", "f8", 5, dims="x")
        w.define("x", "f8", 4, dims="x")
        w.define("cells", "f8", 4, dims="x")
        w.define("tensor", "f8", (3, 3), dims=("k", "k"))
        for n in range(2):
            with w.step(time=float(n)) as s:
                s["faces"], s["x"], s["cells"] = np.zeros(5), np.arange(4.0), np.ones(4)
                s["tensor"] = np.eye(3)
    for options in ({}, {"step": 1}):
        with pytest.warns(UserWarning) as warned:
            run = xr.open_dataset(url, engine="panta", **options)
        said = sorted(str(each.message) for each in warned)
        assert len(said) == 2 and "`faces` is left out: its dimension `x` has 5 cells" in said[0]
        assert "`tensor` is left out: dimensions of one name" in said[1]
        assert set(run.variables) == {"step", "time", "x", "cells"} and run.cells.sum() == 4 * run.time.size
        # What is dropped is in nobody's way.
        with pytest.warns(UserWarning, match="`cells` is left out: its dimension `x` has 4 cells, that of `faces` 5"):
            run = xr.open_dataset(url, engine="panta", drop_variables=["x", "tensor"], **options)
        assert set(run.data_vars) == {"faces"}
    for dataset in panta.xarray.iterate(url):
        assert dataset.cells.sizes == {"x": 4}
