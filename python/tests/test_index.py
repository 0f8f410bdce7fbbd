"""What stands in brackets means what it means to numpy."""

import numpy as np
import pytest

import panta

SHAPE = (5, 1, 7, 4)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An array, and a variable that holds it."""
    url = f"file:{tmp_path_factory.mktemp('index') / 'run.panta'}"
    a = np.arange(np.prod(SHAPE), dtype="i4").reshape(SHAPE)
    with panta.Writer(url) as w:
        w.define("a", "i4", SHAPE)
        with w.step() as s:
            for half in (slice(0, 2), slice(2, 5)):
                s.put("a", a[half], (half.start, 0, 0, 0))
    with panta.Reader(url) as r:
        yield a, r.next_step()["a"]


def random_item(random, length):
    kind = random.integers(6)
    if kind == 0:
        return int(random.integers(-length, length))
    if kind == 1:
        return slice(None)
    bound = lambda: None if random.integers(3) == 0 else int(random.integers(-length - 2, length + 3))
    step = None if kind == 2 else int(random.choice([-9, -3, -2, -1, 1, 2, 3, 9]))
    return slice(bound(), bound(), step)


@pytest.mark.parametrize("seed", range(4))
def test_any_index_gives_what_numpy_gives(pair, seed):
    a, variable = pair
    random = np.random.default_rng(seed)
    for _ in range(150):
        index = [random_item(random, length) for length in SHAPE[:random.integers(5)]]
        if random.integers(2):
            cut = int(random.integers(len(index) + 1))
            tail = [random_item(random, n) for n in SHAPE[cut:][::-1][:random.integers(len(SHAPE) - cut + 1)][::-1]]
            index = [*index[:cut], Ellipsis, *tail]
        for _ in range(random.integers(3)):
            index.insert(int(random.integers(len(index) + 1)), None)
        index = tuple(index)
        wanted, got = a[index], variable[index]
        assert type(got) is type(wanted), index
        assert np.shape(got) == np.shape(wanted), index
        np.testing.assert_array_equal(got, wanted, err_msg=str(index))


def test_numbers_of_numpy_are_indices_and_a_single_one_needs_no_tuple(pair):
    a, variable = pair
    np.testing.assert_array_equal(variable[np.int8(-1)], a[-1])
    np.testing.assert_array_equal(variable[np.uint64(2), ..., np.array(3)], a[2, ..., 3])
    np.testing.assert_array_equal(variable[1:], a[1:])
    np.testing.assert_array_equal(np.asarray(variable), a)
    assert np.asarray(variable, dtype="f4").dtype == "f4"


@pytest.mark.parametrize("index, says", [
    (5, "index 5 is out of bounds for axis 0 with size 5"),
    ((0, 0, -8), "index -8 is out of bounds for axis 2 with size 7"),
    (10**30, "out of bounds"),
    ((0, 0, 0, 0, 0), "too many indices"),
    ((..., 0, ...), "single ellipsis"),
    ([0, 1], "index arrays"),
    (np.array([0, 1]), "index arrays"),
    (True, "bool"),
    (1.0, "float"),
    ("a", "str"),
])
def test_an_index_that_cannot_be_is_an_index_error_that_says_why(pair, index, says):
    with pytest.raises(IndexError, match=says) as error:
        pair[1][index]
    assert isinstance(error.value, panta.SelectionError)


def test_a_step_of_zero_is_what_it_is_to_numpy(pair):
    with pytest.raises(ValueError, match="zero"):
        pair[1][::0]
