"""Results that are NumPy's are reduced as NumPy does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audmodel import parallel
from audmodel.parallel import average_reduction


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


def test_average_of_arrays_is_weighted() -> None:
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
