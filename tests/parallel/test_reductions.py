"""One value is made of what workers returned."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
import statistics
from typing import Any

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


@pytest.mark.sample(5)
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


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], []])
def test_weights_must_match_the_results(weights: list[int]) -> None:
    with pytest.raises(ValueError, match=f"2 results, but there are {len(weights)}"):
        average_reduction([1, 2], weights)


def test_weights_must_not_cancel_out() -> None:
    with pytest.raises(ValueError, match="zero"):
        average_reduction([1, 2], [0, 0])


def test_average_is_weighted() -> None:
    assert average_reduction([1.0, 4.0], weights=[3, 1]) == 1.75


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
