"""What is done wrong is an error of Python that names it, never a crash."""

import copy
import pickle

import numpy as np
import pytest

import panta


@pytest.fixture
def writer(url):
    with panta.Writer(url) as w:
        w.define("u", "f8", (4, 6))
        w.define("n", "i8")
        w.define("mask", "?", 3)
        yield w


class OnDevice:
    """As an array in memory of a device looks."""

    def __init__(self, device=None):
        self.device = device
        if device is None:
            self.__cuda_array_interface__ = {"shape": (4, 6), "typestr": "<f8", "version": 3,
                                             "data": (1, False)}

    def __getattr__(self, name):
        if name == "__dlpack_device__" and self.device is not None:
            return lambda: self.device
        raise AttributeError(name)


@pytest.mark.parametrize("value, error, says", [
    ([[1.0, 2.0], [3.0]], ValueError, "array.*inhomogeneous"),
    (np.zeros(6), ValueError, r"`array` has shape \[6\], and `u` 2 dimensions"),
    (np.zeros((4, 7)), ValueError, "reach outside dimension 1, which has 6"),
    (np.zeros((4, 6), "f4"), TypeError, "elements are f32, the variable is defined as f64"),
    (np.zeros((4, 6), "f2"), TypeError, "`array` has elements of type float16"),
    (np.zeros((4, 6), ">f8"), TypeError, "`array` has elements of foreign byte order"),
    (np.zeros((4, 6), object), TypeError, "`array` has elements of type object"),
    (np.zeros((4, 6), "M8[s]"), TypeError, "`array` has elements of type datetime64"),
    (OnDevice(), NotImplementedError, "`array` is in memory of a device .CUDA.*copy it to the host"),
    (OnDevice((2, 0)), NotImplementedError, "`array` is in memory of a device .DLPack device 2:0"),
    ("text", TypeError, "`array`.*str"),
    (np.full((4, 6), 1j).tolist(), TypeError, "complex128 would be cut to float64"),
    (np.ma.masked_less(np.arange(24.0).reshape(4, 6), 3), TypeError, "`array` has masked.*array.filled"),
    (None, TypeError, "`array`.*NoneType"),
    (object(), TypeError, "`array`.*object"),
])
def test_what_cannot_be_put_is_an_error_that_names_it(writer, value, error, says):
    with pytest.raises(error, match=says) as raised, writer.step() as s:
        s.put("u", value)
    assert isinstance(raised.value, panta.Error)
    with writer.step() as s:
        s.put("u", np.zeros((4, 6)))


@pytest.mark.parametrize("act, error, says", [
    (lambda w: w.define("v", None), TypeError, "`dtype` is None, which is no type"),
    (lambda w: w.define("v", ">f8"), TypeError, r"`dtype`.*foreign.*numpy.dtype\(dtype\)"),
    (lambda w: w.define("v", "f8", kind="local array", ndim=-1), ValueError, "`ndim` is -1"),
    (lambda w: w.define("v", "f8", 4, chunk=(-1,)), ValueError, r"`chunk` is \(-1,\)"),
    (lambda w: w.define("v", "f8", 4, dims=(1,)), TypeError, r"`dims` is \(1,\); it is a list of names"),
    (lambda w: w.define("v", "f8", 4, coordinates=2), TypeError, "`coordinates` is 2"),
    (lambda w: w.define("v", "f4", 4, fill=1e300), ValueError, "`fill`.*too large for float32"),
    (lambda w: w.define("v", "f8", 4, attributes={"a": object()}), TypeError, "the attribute `a`"),
    (lambda w: w.define("v", "f8", 4, attributes={1: 2}), TypeError, "`attributes` has the key 1"),
    (lambda w: w.set_shape("u", [-1, 6]), ValueError, r"`shape` is \[-1, 6\]"),
    (lambda w: w.step(bytes=-1), ValueError, "`bytes` is -1"),
    (lambda w: w.set_attribute("a", 2**64), ValueError, "the attribute `a` is 18446744073709551616"),
    # As floating-point numbers they would be others.
    (lambda w: w.set_attribute("a", [2**63 + 1, -1]), ValueError, "the attribute `a`.*no type"),
    (lambda w: w.set_attribute("a", np.datetime64("2020")), TypeError, "the attribute `a`"),
    (lambda w: panta.Writer("null:", resume=True), ValueError, "`resume` is True"),
    (lambda w: panta.Writer("null:", resume=-1), ValueError, "`resume` is -1"),
    (lambda w: panta.Reader(w.name, at=-1), ValueError, "`at` is -1; it is a number from 0"),
    (lambda w: panta.Reader(w.name, after=1.0), ValueError, "`after` is 1.0"),
    (lambda w: panta.Reader(w.name, deadline=1e300), ValueError, "`deadline` is 1e300 seconds"),
    (lambda w: panta.Comm.threads(-1), ValueError, "`size` is -1"),
])
def test_an_argument_that_cannot_be_is_an_error_that_names_it(writer, act, error, says):
    with pytest.raises(error, match=says) as raised:
        act(writer)
    assert isinstance(raised.value, panta.Error)
    # Nothing was defined by half.
    writer.define("v", "i2", (3, 1), attributes=dict(a=1))


def test_numbers_of_a_list_that_would_become_infinite_are_refused(writer):
    writer.define("f", "f4", 2)
    with pytest.raises(ValueError, match="`array`.*too large for float32"), writer.step() as s:
        s.put("f", [1e300, 0])
    with writer.step() as s:
        s.put("f", [np.inf, np.nan])


@pytest.mark.parametrize("start, says", [
    ((0,), r"`start` is \(0,\).*of which `u` has 2"), (-1, "`start` is -1"), ((0, 0.5), "`start` is"),
])
def test_a_start_that_cannot_be_is_an_error_that_names_it(writer, start, says):
    with pytest.raises(panta.ShapeError, match=says), writer.step() as s:
        s.put("u", np.zeros((4, 6)), start)


@pytest.mark.parametrize("block", [-1, 2**40, "0", 1])
def test_a_block_that_is_not_there_is_an_index_error(writer, url, block):
    with writer.step() as s:
        s.put("u", np.zeros((4, 6)))
    with panta.Reader(url) as r:
        step = r.next_step()
        u = step["u"]
        for use in (lambda: u.block(block), lambda: step.get("u", block=block), lambda: u.view(block)):
            with pytest.raises((panta.NoSuchBlock, panta.UnsupportedError), match="block"):
                use()


class RaisesArray:
    def __array__(self, *_, **__):
        raise ZeroDivisionError("on purpose")


class RaisesDlpack:
    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_):
        raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize("value", [RaisesArray(), RaisesDlpack()])
def test_what_an_array_raises_is_the_cause_and_the_step_is_given_up(writer, url, value):
    with pytest.raises(panta.ArgumentError, match="`array`.*on purpose") as error:
        with writer.step() as s:
            s.put("n", 1)
            s.put("u", value)
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    with writer.step() as s:
        s.put("n", 2)
    with panta.Reader(url) as r:
        assert r.next_step()["n"].value == 2


def test_what_belongs_to_a_closed_reader_says_so(writer, url):
    with writer.step() as s:
        s.put("u", np.zeros((4, 6)))
    r = panta.Reader(url)
    step = r.next_step()
    u = step["u"]
    r.close()
    for use in (lambda: u[0, 0], lambda: step["u"], lambda: step.get("u"), lambda: u.view(),
                lambda: step.get_many({"u": np.s_[0]})):
        with pytest.raises(panta.ClosedError, match="let go"):
            use()


def test_a_step_that_was_let_go_is_an_error_whatever_is_asked_of_it(writer, url):
    for _ in range(2):
        with writer.step() as s:
            s.put("u", np.zeros((4, 6)))
    with panta.Reader(url) as r:
        step = r.next_step()
        u, number = step["u"], step.number
        r.next_step()
        for use in (step.detach, step.keys, step.values, step.items, step.__enter__,
                    lambda: step.attributes, lambda: len(step), lambda: list(step),
                    lambda: "u" in step, lambda: step["u"], lambda: step.get("u"),
                    lambda: step.get_many({}), lambda: u[...], lambda: np.asarray(u),
                    lambda: u.block(0), lambda: u.blocks, lambda: u.view()):
            with pytest.raises(panta.ClosedError, match=f"step {number} was let go.*detach") as error:
                use()
            assert error.value.step == number
        # What it was is still known.
        assert (step.number, step.epoch, u.name, u.shape) == (number, 1, "u", (4, 6))
        assert "let go" in repr(step)
        step.close()


def test_a_step_that_was_detached_in_time_is_kept(writer, url):
    for n in range(2):
        with writer.step() as s:
            s.put("n", n)
    with panta.Reader(url) as r:
        kept = r.next_step().detach()
        r.next_step()
        with kept.detach() as step:
            assert step["n"].value == 0
    with pytest.raises(panta.ClosedError, match="let go"):
        kept["n"]


@pytest.mark.parametrize("start", [(0,), (0, 0, 0), (-1, 0), (0, 1), ("a", 0), 1.5, 0])
def test_a_start_that_does_not_fit_is_an_error_with_its_place(writer, url, start):
    with pytest.raises(panta.ShapeError) as error, writer.step() as s:
        s.put("u", np.zeros((4, 6)), start)
    raised = error.value
    assert raised.stream == url and raised.variable == "u"


def test_values_are_checked_too(writer):
    for value, error in [("a", TypeError), (1.5, TypeError), ([1, 2], ValueError), (None, TypeError),
                         (np.float64(1), TypeError), (2**70, ValueError), (np.int32(1), TypeError)]:
        with pytest.raises(error) as raised, writer.step() as s:
            s.put("n", value)
        assert isinstance(raised.value, panta.Error), raised.value
    with pytest.raises(panta.ShapeError, match="no `start`"), writer.step() as s:
        s.put("n", 1, 0)


def test_bytes_that_are_no_booleans_are_not_written(writer):
    with pytest.raises(panta.DTypeError, match="mask"), writer.step() as s:
        s.put("mask", np.array([0, 1, 2], "u1").view("?"))


def test_an_unknown_variable_is_a_key_error_and_names_the_nearest(writer, url):
    with pytest.raises(KeyError, match="`uu`.*define it first"), writer.step() as s:
        s.put("uu", 1)
    with writer.step() as s:
        s.put("n", 1)
    with panta.Reader(url) as r:
        step = r.next_step()
        with pytest.raises(KeyError, match="there is no such variable; did you mean `n`") as error:
            step["nn"]
        raised = error.value
        assert (raised.stream, raised.step, raised.variable, raised.rank) == (url, 1, "nn", 0)
        assert "u" not in step and "n" in step and 3 not in step


def test_a_put_that_failed_makes_the_step_fail_even_if_its_error_is_caught(writer):
    with pytest.raises(panta.RefusedError, match="a put had failed.*f32"), writer.step() as s:
        s.put("n", 1)
        with pytest.raises(panta.DTypeError):
            s.put("u", np.zeros((4, 6), "f4"))


@pytest.mark.parametrize("arguments, error", [
    (("u", "f4", (4, 6)), panta.RedefinedError),
    (("v", "f8", (None, None)), panta.ArgumentError),
    (("v", "f8", (-1,)), panta.ArgumentError),
    (("v", "f8", "ab"), panta.ArgumentError),
    (("", "f8", (1,)), panta.DefinitionError),
    (("v", str, (1,)), panta.DefinitionError),
    (("v", "nonsense"), panta.DTypeError),
    (("v", "f2"), panta.DTypeError),
    (("v", "f8", (2**40, 2**40)), panta.DefinitionError),
])
def test_a_definition_that_cannot_be_is_refused(writer, arguments, error):
    with pytest.raises(error):
        writer.define(*arguments)


def test_keywords_that_contradict_each_other_are_refused(writer, url):
    for keywords in [dict(shape=3, dims=["a", "b"]), dict(kind="local value", shape=3),
                     dict(kind="cube"), dict(kind="local array"), dict(kind="global array"),
                     dict(shape=3, chunk=[0]), dict(shape=3, kind="joined array"), dict(ndim=2)]:
        with pytest.raises(ValueError):
            writer.define("v", "f8", **keywords)
    with pytest.raises(ValueError, match="one of"):
        panta.Reader(url, at=1, start="latest")
    with pytest.raises(ValueError, match="'newest'"):
        panta.Reader(url, start="newest")
    with pytest.raises(ValueError, match="deadline"):
        panta.Reader(url, deadline=-1)
    with pytest.raises(ValueError, match="resume"):
        panta.Writer(url, resume="first")
    with pytest.raises(panta.DTypeError, match="`bad`"):
        writer.set_attribute("bad", object())


def test_a_stream_that_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(panta.ConfigError, match="deadline"):
        panta.Writer(f"file:{tmp_path}/a.panta?deadlin=1s")
    with pytest.raises(panta.OpenError):
        panta.Reader("nonsense:a")
    with pytest.raises(FileNotFoundError, match="start the writer") as error:
        panta.Reader(f"file:{tmp_path}/a.panta?deadline=10ms")
    assert isinstance(error.value, panta.NotFoundError) and "a.panta" in error.value.stream
    with panta.Writer(f"file:{tmp_path}/b.panta"), pytest.raises(panta.BusyError):
        panta.Writer(f"file:{tmp_path}/b.panta")


def test_closed_handles_say_so(url):
    with panta.Writer(url) as w:
        w.define("n", "i8")
        with w.step() as s:
            s["n"] = 1
        with pytest.raises(panta.ClosedError, match="step 0 has ended"):
            s["n"] = 2
        with pytest.raises(panta.ClosedError):
            s.end()
    r = panta.Reader(url)
    r.close()
    r.close()
    w.close()
    assert w.closed and r.closed
    for use in (lambda: w.step(), lambda: w.define("a", "f8"), lambda: w.copies,
                lambda: r.next_step(), lambda: next(r), lambda: r.commit("a"), lambda: r.engine):
        with pytest.raises(panta.ClosedError, match="was closed"):
            use()


def test_a_step_within_a_step_is_an_error(writer):
    with writer.step(), pytest.raises(panta.StepOpenError) as error:
        writer.step()
    assert error.value.step == 0


def test_a_step_that_is_forgotten_is_given_up(writer, url):
    writer.step()
    with writer.step() as s:
        s["n"] = 5
    with panta.Reader(url) as r:
        assert r.next_step()["n"].value == 5


def test_where_results_go_is_checked(writer, url):
    with writer.step() as s:
        s.put("u", np.zeros((4, 6)))
    with panta.Reader(url) as r:
        step = r.next_step()
        read_only = np.zeros((4, 6))
        read_only.flags.writeable = False
        for out, error, says in [
            (np.zeros((4, 5)), ValueError, "`out` has shape"), (read_only, ValueError, "read-only"),
            (np.zeros((4, 6), "f4"), TypeError, "`out` holds f32"), ([0], TypeError, "`out` is"),
            (np.broadcast_to(np.zeros(6), (4, 6)), ValueError, "read-only"),
        ]:
            with pytest.raises(error, match=says):
                step.get("u", out=out)
        folded = np.lib.stride_tricks.as_strided(np.zeros(6), (4, 6), (0, 8))
        with pytest.raises(ValueError, match="overlap"):
            step.get("u", out=folded)
        with pytest.raises(panta.NoSuchBlock, match="no block 7"):
            step["u"].block(7)
        with pytest.raises(panta.UnsupportedError):
            step["u"].view()
        with pytest.raises(ValueError, match="view"):
            step["u"].__array__(copy=False)


def test_errors_can_be_sent_between_processes(url):
    with pytest.raises(panta.NotFoundError) as error:
        panta.Reader(url + "?deadline=0s")
    for twin in (pickle.loads(pickle.dumps(error.value)), copy.copy(error.value)):
        assert type(twin) is panta.NotFoundError
        assert (str(twin), twin.stream) == (str(error.value), error.value.stream)


def test_every_error_has_the_fields_and_says_what_it_is():
    for name in panta.errors.__all__:
        error = getattr(panta, name)
        assert issubclass(error, panta.Error) and error.__doc__
        made = error("why", stream="s", step=1, variable="v", rank=2)
        assert (str(made), made.stream, made.step, made.variable, made.rank) == (
            "why", "s", 1, "v", 2)


def test_a_handle_that_another_thread_uses_says_so(url, script):
    import threading
    with panta.Writer(url):
        r = panta.Reader(url)
        waits = threading.Thread(target=lambda: pytest.raises(panta.InterruptedWait, r.next_step))
        waits.start()
        while True:
            try:
                r.next_step(deadline=0)
            except panta.NotReady:
                continue
            except panta.InUseError as error:
                assert "another thread" in str(error)
                break
        r.interrupt()
        waits.join()
        r.clear_interrupt()
        with pytest.raises(panta.NotReady):
            r.next_step(deadline=0)
