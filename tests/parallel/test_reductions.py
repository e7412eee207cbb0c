"""One value is made of what workers returned."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
import statistics
from typing import Any

import numpy as np
import pytest

from audmodel import parallel
from audmodel.parallel import ReductionComposition
from audmodel.parallel import average_reduction
from audmodel.parallel import flatten_reduction
from audmodel.parallel import histogram_reduction
from audmodel.parallel import max_reduction


def weighted_or_not(results: list[Any], weights: Any = None) -> Any:
    return results, weights


@pytest.mark.parametrize("name", ["average", "min", "max", "bitwise_and", "bitwise_or"])
def test_nothing_has_no(name: str) -> None:
    with pytest.raises(ValueError, match="no results"):
        getattr(parallel, f"{name}_reduction")([])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("flatten", []),
        ("sum", 0),
        ("product", 1),
        ("histogram", {}),
        ("string_concatenation", ""),
    ],
)
def test_nothing_is_neutral(name: str, expected: Any) -> None:
    assert getattr(parallel, f"{name}_reduction")([]) == expected


@pytest.mark.parametrize(
    ("name", "results", "expected"),
    [
        ("flatten", [[1, [2]], (), "ab", iter([3])], [1, [2], "a", "b", 3]),
        ("sum", [1, 2.5, -1], 2.5),
        ("average", [1, 2, 6], 3),
        ("average", [Fraction(1, 3), Fraction(2, 3)], Fraction(1, 2)),
        ("histogram", [3, 1, 3], {3: 2, 1: 1}),
        ("histogram", [{"a": 1, "b": 0}, {"a": 2}], {"a": 3, "b": 0}),
        ("product", [2, 0.5, 8], 8),
        ("string_concatenation", ["b", "", "a"], "ba"),
        ("bitwise_and", [0b1110, 0b0111, 0b1101], 0b0100),
        ("bitwise_and", [{1, 2}, {2, 3}], {2}),
        ("bitwise_or", [0b1000, 0b0001], 0b1001),
        ("bitwise_or", [5], 5),
        ("min", [2, 1, 3], 1),
        ("max", [2, 3, 1], 3),
    ],
)
def test_reduction(name: str, results: list[Any], expected: Any) -> None:
    assert getattr(parallel, f"{name}_reduction")(results) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sum", [4, 6]), ("average", [2, 3]), ("product", [3, 8]), ("bitwise_or", [3, 6])],
)
def test_arrays_are_reduced_element_by_element(name: str, expected: list[int]) -> None:
    arrays = [np.array([1, 2]), np.array([3, 4])]
    result = getattr(parallel, f"{name}_reduction")(arrays)
    np.testing.assert_array_equal(result, expected)
    # The arrays belong to the caller
    np.testing.assert_array_equal(arrays[0], [1, 2])


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], []])
def test_weights_must_match_the_results(weights: list[int]) -> None:
    with pytest.raises(ValueError, match=f"2 results, but there are {len(weights)}"):
        average_reduction([1, 2], weights)


def test_weights_must_not_cancel_out() -> None:
    with pytest.raises(ValueError, match="zero"):
        average_reduction([1, 2], [0, 0])


def test_average_is_weighted() -> None:
    assert average_reduction([1.0, 4.0], weights=[3, 1]) == 1.75
    np.testing.assert_array_equal(
        average_reduction([np.array([0.0, 4.0]), np.array([4.0, 0.0])], [3, 1]),
        [1, 3],
    )


@pytest.mark.parametrize(
    ("results", "weights", "expected"),
    [
        ([np.float16(100), np.float16(200)], [3000, 2000], np.float16(140)),
        ([np.float16(60000)] * 2, None, np.float16(60000)),
        ([np.uint8(200)] * 2, [2, 2], np.float64(200)),
        ([np.uint8(200)] * 2, None, np.float64(200)),
        ([np.int8(100), np.int8(-100)], [300, 100], np.float64(50)),
        ([np.True_, np.False_], [1, 3], np.float64(0.25)),
        ([np.float32(1), np.float32(4)], [2, 1], np.float32(2)),
        ([np.float16(1), np.float32(4)], [2, 1], np.float32(2)),
        ([np.uint8(250), 251], [1, 1], np.float64(250.5)),
        ([np.int8(100)] * 2, np.array([200, 100], "u1"), np.float64(100)),
        ([np.float32(1), np.float32(4)], np.array([200, 100]), np.float32(2)),
        ([np.float32(100)] * 2, np.array([60000] * 2, "f2"), np.float32(100)),
        ([1, 4], np.array([200, 100], "u1"), 2.0),
        ([np.full(2, 200, "u1")] * 2, [2, 2], np.full(2, 200.0)),
        ([np.full(2, 100, "f2")] * 2, [3000, 2000], np.full(2, 100, "f2")),
    ],
)
def test_average_of_small_types(results: Any, weights: Any, expected: Any) -> None:
    average = average_reduction(results, weights)
    np.testing.assert_array_equal(average, expected, strict=True)


@pytest.mark.parametrize(
    ("name", "numpy_function"),
    [("sum", np.sum), ("product", np.prod)],
)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u8", "f4", "?"])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_small_types_are_reduced_as_by_numpy(
    name: str,
    numpy_function: Any,
    dtype: str,
    shape: Any,
) -> None:
    results = [np.full(shape, 120, dtype)[()]] * 3
    np.testing.assert_array_equal(
        getattr(parallel, f"{name}_reduction")(results),
        numpy_function(results, axis=0),
        strict=True,
    )


@pytest.mark.parametrize("name", ["sum", "product"])
@pytest.mark.parametrize(
    "results",
    [
        [np.uint8(1), np.int64(2**53 + 1)],
        [np.int64(2**53 + 1), np.uint32(1)],
        [np.uint8(200), np.int8(100)],
        [np.full(2, 200, "u1"), np.full(2, -100, "i2")],
    ],
)
def test_signed_and_unsigned_integers_stay_exact(name: str, results: Any) -> None:
    expected = getattr(parallel, f"{name}_reduction")(
        [result.astype("O") if result.ndim else int(result) for result in results]
    )
    np.testing.assert_array_equal(
        getattr(parallel, f"{name}_reduction")(results),
        np.array(expected, "i8")[()],
        strict=True,
    )


class Missing:
    """An integer of a library other than NumPy, one that is not there."""

    dtype = np.dtype("i1")

    def __add__(self, other: Any) -> Missing:
        return self

    __radd__ = __mul__ = __rmul__ = __truediv__ = __add__

    def astype(self, dtype: Any) -> Any:
        raise ValueError("cannot convert NA to integer")


@pytest.mark.parametrize("name", ["sum", "product", "average"])
def test_types_of_other_libraries_are_theirs(name: str) -> None:
    missing = Missing()
    assert getattr(parallel, f"{name}_reduction")([missing, missing]) is missing


def test_histogram_leaves_its_input_alone() -> None:
    results = [{"a": 1}, {"a": 1}]
    assert histogram_reduction(results) == {"a": 2}
    assert results == [{"a": 1}, {"a": 1}]


def test_composition_refuses_what_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="must be callable, but is 'max'"):
        ReductionComposition([flatten_reduction, "max"])  # type: ignore[list-item]


def test_composition_applies_one_after_the_other() -> None:
    composition = ReductionComposition([flatten_reduction, sorted, tuple])
    assert composition([[3, 1], [2]]) == (1, 2, 3)


def test_composition_of_nothing_changes_nothing() -> None:
    assert ReductionComposition()([1, 2]) == [1, 2]


def test_compositions_nest_and_say_what_they_are() -> None:
    inner = ReductionComposition([flatten_reduction])
    composition = ReductionComposition([inner, max_reduction])
    assert composition([[1], [3, 2]]) == 3
    assert repr(composition).startswith("ReductionComposition([ReductionComposition([")


@pytest.mark.parametrize(
    "reductions",
    [[average_reduction], [ReductionComposition([average_reduction]), float]],
)
def test_composition_passes_weights_to_the_first(
    reductions: list[Callable[..., Any]],
) -> None:
    assert ReductionComposition(reductions)([1, 4], weights=[2, 1]) == 2


def test_composition_passes_weights_to_nobody_else() -> None:
    composition = ReductionComposition([list, weighted_or_not])
    assert composition([1, 4], weights=[2, 1]) == ([1, 4], None)


@pytest.mark.parametrize("function", [max, min])
def test_builtins_that_do_not_tell_their_parameters_compose(
    function: Callable[..., Any],
) -> None:
    assert ReductionComposition([function])([2, 2], weights=[2, 1]) == 2


def test_weighted_functions_of_others_get_the_weights() -> None:
    composition = ReductionComposition([statistics.fmean])
    assert composition([1, 4], weights=[2, 1]) == 2
