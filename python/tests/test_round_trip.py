"""What is put is what is got."""

import numpy as np
import pytest

import panta

DTYPES = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "c8", "c16", "?"]


def some(dtype, shape, seed=1):
    """Values of a type that use all its bits."""
    random = np.random.default_rng(seed)
    if dtype == "?":
        return random.integers(0, 2, shape).astype(bool)
    values = random.integers(0, 255, (*shape, np.dtype(dtype).itemsize), dtype="u1")
    values = values.view(dtype)[..., 0]
    return np.where(np.isfinite(values), values, np.ones((), dtype))


def one_step(url, definitions, puts):
    """Writes one step, and gives it."""
    with panta.Writer(url) as w:
        for name, (dtype, arguments) in definitions.items():
            w.define(name, dtype, **arguments)
        with w.step(time=0.5) as s:
            for name, value, *start in puts:
                s.put(name, value, *start)
    with panta.Reader(url) as r:
        return r.next_step().detach()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_comes_back_bit_for_bit(url, dtype):
    a = some(dtype, (5, 7))
    step = one_step(url, {"a": (dtype, {"shape": a.shape})}, [("a", a)])
    got = step["a"][...]
    assert got.dtype == a.dtype == step["a"].dtype
    assert got.tobytes() == a.tobytes()


@pytest.mark.parametrize("view", [
    lambda a: a[::2, 1:-1], lambda a: a[::-1, ::-3], lambda a: a.T, np.asfortranarray,
    lambda a: a[3:4, :0], lambda a: np.broadcast_to(a[0], a.shape), lambda a: a[:, None, :][:, 0],
])
def test_strided_arrays_are_put_without_a_temporary(url, view):
    a = view(some("f8", (8, 9)))
    with panta.Writer(url) as w:
        w.define("a", "f8", a.shape)
        with w.step() as s:
            s.put("a", a)
        assert w.copies.bytes <= a.nbytes, "one copy at most: into the file's pages"
    with panta.Reader(url) as r:
        np.testing.assert_array_equal(r.next_step()["a"][...], a)
        assert r.copies.bytes <= a.nbytes, "one copy at most: into the result"


def test_at_most_one_copy_a_side_of_a_large_array(url):
    a = np.arange(8 << 20, dtype="f8").reshape(512, -1)
    with panta.Writer(url + "?limit=256MiB") as w:
        w.define("a", "f8", a.shape)
        with w.step() as s:
            s.put("a", a)
        assert w.copies.bytes <= a.nbytes and w.engine.engine == "file"
    with panta.Reader(url) as r:
        out = np.empty_like(a)
        assert r.next_step().get("a", out=out) is out
        assert r.copies.bytes <= a.nbytes == 64 << 20
    assert np.array_equal(out, a)


def test_blocks_of_several_puts_make_one_array(url):
    a = some("i4", (6, 4))
    puts = [("a", a[:2], (0, 0)), ("a", a[2:, :3], (2, 0)), ("a", a[2:, 3:], [2, 3])]
    step = one_step(url, {"a": ("i4", {"shape": (6, 4)})}, puts)
    np.testing.assert_array_equal(step["a"][...], a)
    blocks = step["a"].blocks
    assert [(b.start, b.count) for b in blocks] == [
        ((0, 0), (2, 4)), ((2, 0), (4, 3)), ((2, 3), (4, 1))]
    assert [b.min for b in blocks] == [a[:2].min(), a[2:, :3].min(), a[2:, 3:].min()]
    assert (step["a"].min, step["a"].max) == (a.min(), a.max())
    np.testing.assert_array_equal(step["a"].block(1)[1:, 0], a[3:, 0])


def test_cells_that_nobody_put_have_the_fill_value_or_are_an_error(url):
    shape = {"shape": (4,)}
    definitions = {"a": ("f8", shape | {"fill": -1}), "b": ("f8", shape)}
    step = one_step(url, definitions, [("a", [1.0], 1), ("b", [1.0], 1)])
    assert step["a"][...].tolist() == [-1, 1, -1, -1]
    assert (step["a"].fill, step["b"].fill) == (-1, None)
    with pytest.raises(panta.NotCovered) as error:
        step["b"][...]
    assert (error.value.variable, error.value.step) == ("b", 0)
    assert step["b"][1:2].tolist() == [1]


def test_numbers_are_rounded_within_the_accuracy_and_the_array_is_left_alone(url):
    a = np.linspace(0.1, 97.3, 1000)
    put = a.copy()
    definitions = {
        "near": ("f8", {"shape": a.shape, "absolute_accuracy": 1e-2}),
        "digits": ("f4", {"shape": a.shape, "relative_accuracy": 1e-3}), "exact": ("f8", {"shape": a.shape})}
    step = one_step(url, definitions, [("near", put), ("digits", put.astype("f4")), ("exact", put)])
    assert np.array_equal(put, a) and np.array_equal(step["exact"][...], a)
    near, digits = step["near"][...], step["digits"][...].astype("f8")
    assert 5e-3 < np.abs(near - a).max() <= 1e-2
    assert 3e-4 < np.abs(digits / a.astype("f4") - 1).max() <= 1e-3
    assert (step["near"].max, step["near"].absolute_accuracy) == (near.max(), 1e-2)
    assert (step["digits"].relative_accuracy, step["exact"].absolute_accuracy) == (1e-3, None)
    with panta.Writer(url) as w:
        for accuracy in ({"absolute_accuracy": 0}, {"relative_accuracy": 1}, {"relative_accuracy": float("nan")}):
            with pytest.raises(panta.DefinitionError):
                w.define("bad", "f8", (3,), **accuracy)
        with pytest.raises(panta.DefinitionError, match="exactly"):
            w.define("bad", "i4", (3,), absolute_accuracy=1)
        with pytest.raises(ValueError, match="not both"):
            w.define("bad", "f8", (3,), absolute_accuracy=1, relative_accuracy=0.1)


def test_joined_local_and_single_values(url):
    definitions = {
        "joined": ("f4", {"shape": (None, 3)}), "local": ("i8", {"kind": "local array", "ndim": 1}),
        "dt": (float, {}), "rank": ("i4", {"kind": "local value"}), "flag": (bool, {}),
        "label": (str, {}), "names": (str, {"kind": "local value"}),
    }
    puts = [
        ("joined", np.zeros((2, 3), "f4")), ("joined", np.ones((1, 3), "f4")),
        ("local", [1, 2, 3]), ("local", np.arange(2)), ("dt", 0.25), ("rank", 7), ("rank", 8),
        ("flag", True), ("label", "schön"), ("names", "a"), ("names", "b"),
    ]
    step = one_step(url, definitions, puts)
    assert list(step) == list(definitions) == step.keys()
    assert step["joined"][:, 0].tolist() == [0, 0, 1] and step["joined"].joined_axis == 0
    assert step["local"].block(1)[...].tolist() == [0, 1]
    assert (step["dt"].value, float(step["dt"]), step["dt"][()]) == (0.25, 0.25, 0.25)
    assert step["rank"][...].tolist() == [7, 8] == step["rank"].value.tolist()
    assert (step["flag"].value, step["label"].value, step["label"][()]) == (True, "schön", "schön")
    assert step["names"].value.tolist() == ["a", "b"] and step["names"][1] == "b"
    assert [step[name].kind for name in ("joined", "local", "dt", "rank")] == [
        "joined array", "local array", "global value", "local value"]
    with pytest.raises(panta.ShapeError, match="block"):
        step["local"][...]


def test_values_are_true_or_not_and_arrays_of_several_elements_are_neither(url):
    definitions = {"on": (bool, {}), "off": (bool, {}), "n": ("i4", {}), "a": ("f8", {"shape": 2}),
                   "none": ("f8", {"shape": 0}), "label": (str, {})}
    puts = [("on", True), ("off", False), ("n", 3), ("a", [1.0, 0.0]), ("none", []), ("label", "")]
    step = one_step(url, definitions, puts)
    assert step["on"] and not step["off"] and step["n"] and not step["label"]
    for name in ("a", "none"):
        with pytest.raises(ValueError, match="elements, whose truth is ambiguous"):
            bool(step[name])


def test_one_side_and_one_name_need_no_list_and_a_nan_is_no_time(url):
    with panta.Writer(url) as w:
        w.define("a", "f8", 4, dims="x", chunk=2, coordinates="x")
        w.set_shape("a", 3)
        with w.step(time=float("nan")) as s:
            s["a"] = [1.0, 2, 3]
    with panta.Reader(url) as r:
        step = r.next_step()
        assert step.time is None and (step["a"].dims, step["a"].coordinates) == (("x",), ("x",))


def test_what_lends_its_memory_is_put(url):
    class Interface:
        def __init__(self, array):
            self.array = array
            self.__array_interface__ = array.__array_interface__

    class Lends:
        """As arrays of other libraries do, over DLPack."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **settings):
            return self.array.__dlpack__(**settings)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    a = np.arange(6, dtype="u1")
    shape = {"shape": 6}
    given = {"interface": Interface(a), "dlpack": Lends(a), "bytes": a.tobytes(),
             "memoryview": memoryview(a), "bytearray": bytearray(a), "list": a.tolist()}
    step = one_step(url, {name: ("u1", shape) for name in given}, list(given.items()))
    for name in given:
        assert step[name][...].tolist() == a.tolist(), name


def test_arrays_that_nobody_else_holds_are_kept_until_the_end(url):
    with panta.Writer(url) as w:
        w.define("a", "f8", 100_000)
        with w.step() as s:
            s.put("a", np.arange(1e5) * 2)
            for _ in range(8):
                np.full(100_000, -1.0)
    with panta.Reader(url) as r:
        assert r.next_step()["a"][...].sum() == 99_999e5


def test_results_go_into_arrays_of_any_strides(url):
    a = some("f8", (6, 7))
    step = one_step(url, {"a": ("f8", {"shape": a.shape})}, [("a", a)])
    for out in (np.zeros((6, 7), order="F"), np.zeros((12, 14))[::2, ::-2], np.zeros((7, 6)).T):
        step.get("a", out=out)
        np.testing.assert_array_equal(out, a)
    column = np.zeros(6)
    step.get("a", np.s_[::-1, 2], out=column)
    np.testing.assert_array_equal(column, a[::-1, 2])


def test_several_variables_are_read_at_once(url):
    a, b = some("f8", (6, 7)), some("i4", (9,))
    definitions = {"a": ("f8", {"shape": a.shape}), "b": ("i4", {"shape": b.shape}),
                   "t": (str, {}), "c": ("f8", {})}
    step = one_step(url, definitions, [("a", a), ("b", b), ("t", "x"), ("c", 2.0)])
    got = step.get_many({"a": np.s_[1:3, ::-1], "b": ..., "t": ..., "c": ()})
    np.testing.assert_array_equal(got["a"], a[1:3, ::-1])
    np.testing.assert_array_equal(got["b"], b)
    assert (got["t"], got["c"]) == ("x", 2.0)


def test_names_units_and_attributes_come_along(url):
    with panta.Writer(url) as w:
        w.define("x", "f8", 3, dims=["x"], unit="m")
        w.define("u", "f8", (2, 3), dims=("y", "x"), unit="K", coordinates=["x"],
                 attributes={"long_name": "temperature", "range": np.array([0.5, 2])})
        for name, value in [("seed", 2**63), ("n", -3), ("pi", np.float64(3.14)), ("on", True),
                            ("text", "ä"), ("list", [1, 2]), ("texts", ("a", "b"))]:
            w.set_attribute(name, value)
        w.set_attribute("note", "late", "x")
        with w.step() as s:
            s.put("x", [0.0, 1, 2])
            s.put("u", np.zeros((2, 3)))
    with panta.Reader(url) as r:
        step = r.next_step()
        u = step["u"]
        assert (u.dims, u.unit, u.coordinates, u.shape, u.ndim, u.size, u.nbytes, len(u)) == (
            ("y", "x"), "K", ("x",), (2, 3), 2, 6, 48, 2)
        assert u.attributes == {"long_name": "temperature", "range": [0.5, 2]}
        assert step["x"].attributes == {"note": "late"}
        assert step.attributes == {"seed": 2**63, "n": -3, "pi": 3.14, "on": 1, "text": "ä",
                                   "list": [1, 2], "texts": ["a", "b"]}


def test_a_shape_may_change_from_step_to_step(url):
    with panta.Writer(url) as w:
        w.define("a", "i4", 2)
        for n in (2, 5, 1):
            w.set_shape("a", [n])
            with w.step() as s:
                s["a"] = np.arange(n, dtype="i4")
    with panta.Reader(url) as r:
        assert [step["a"].shape for step in r] == [(2,), (5,), (1,)]


def write(url, numbers, **options):
    with panta.Writer(url, **options) as w:
        w.define("n", "i8")
        for n in numbers:
            with w.step(time=10.0 * n) as s:
                assert s.number == n
                s.put("n", n)


def numbers(url, **options):
    with panta.Reader(url, **options) as r:
        return [step["n"].value for step in r]


def test_a_reader_begins_where_it_is_told(url):
    write(url, range(5))
    assert numbers(url) == numbers(url, start="oldest") == [0, 1, 2, 3, 4]
    assert numbers(url, start="latest") == [4]
    assert numbers(url, at=2) == numbers(url, after=1) == numbers(url, at_time=15) == [2, 3, 4]


def test_a_cursor_goes_on_where_its_reader_left_off(url):
    write(url, range(5))
    with panta.Reader(url, cursor="mine") as r:
        assert r.next_step().number == 0
        r.next_step()
        r.commit("mine")
        kept = r.next_step().detach()
    assert numbers(url, cursor="mine") == [2, 3, 4]
    with panta.Reader(url) as r:
        r.next_step()
        r.commit("mine", kept)
    assert numbers(url, cursor="mine") == [3, 4]


def test_a_stream_is_resumed_after_its_last_step_or_an_earlier_one(url):
    write(url, range(3))
    write(url, [3, 4], resume="last")
    assert numbers(url) == [0, 1, 2, 3, 4]
    write(url, [2, 3], resume=1)
    with panta.Reader(url) as r:
        assert [(step.number, step.epoch) for step in r] == [(0, 1), (1, 1), (2, 3), (3, 3)]


def test_polling_says_that_nothing_is_there_yet_and_when_there_is(url):
    with panta.Writer(url) as w, panta.Reader(url) as r:
        w.define("n", "i8")
        for n in range(2):
            with pytest.raises(panta.NotReady):
                r.next_step(deadline=0)
            with w.step() as s:
                s["n"] = n
            assert r.next_step()["n"].value == n
        w.close()
        assert r.next_step() is None and list(r) == []


def test_a_loop_that_no_step_came_for_in_time_is_begun_again_where_it_stood(url):
    seen = []
    with panta.Writer(url) as w, panta.Reader(url, deadline=0) as r:
        w.define("n", "i8")
        for n in range(2):
            with w.step() as s:
                s["n"] = n
            with pytest.raises(panta.NotReady):
                for step in r:
                    seen.append(step["n"].value)
    assert seen == [0, 1]


def test_a_step_is_kept_if_it_is_detached_and_let_go_if_not(url):
    write(url, range(3))
    with panta.Reader(url) as r:
        first, second = r.next_step().detach(), r.next_step()
        variable = second["n"]
        r.next_step()
        assert first["n"].value == 0
        for use in (lambda: second["n"], lambda: variable[()], lambda: list(second)):
            with pytest.raises(panta.ClosedError, match="detach"):
                use()
    assert first["n"].value == 0
    first.close()
    with pytest.raises(panta.ClosedError):
        first.keys()


def test_an_exception_gives_the_step_up_and_the_writer_goes_on(url):
    with panta.Writer(url) as w:
        w.define("n", "i8")
        with pytest.raises(ZeroDivisionError), w.step() as s:
            s["n"] = 1 // 0
        with w.step() as s:
            s["n"] = 2
            s.end()
        s = w.step()
        s.abort()
        w.step()
        with w.step() as s:
            s["n"] = 3
    assert numbers(url) == [2, 3]


def test_definitions_that_are_frozen_stay_as_they_are(url):
    with panta.Writer(url) as w:
        w.define("u", "i4", 6)
        w.set_attribute("answer", 42)
        w.freeze_definitions()
        w.define("u", "i4", 6)
        for act in (lambda: w.define("v", "i4", 6), lambda: w.set_shape("u", [7]),
                    lambda: w.set_attribute("answer", 43)):
            with pytest.raises(panta.RedefinedError, match="definitions are frozen"):
                act()
        for number in range(2):
            with w.step() as s:
                s.put("u", np.full(6, number, "i4"))
    with pytest.raises(panta.ClosedError, match="was closed"):
        w.freeze_definitions()
    with panta.Reader(url) as r:
        assert [step["u"][...].tolist() for step in r] == [[0] * 6, [1] * 6]
