"""Make one value of what the workers of a fan-out returned.

A reduction takes the list of results, one for each chunk of the input,
in the order of the input.
Any callable that takes a list can serve as one.
If it has a parameter ``weights``,
``MultiWorker`` passes the lengths of the chunks in it.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import math
import operator
import sys
from typing import Any
from typing import TypeVar


T = TypeVar("T")


class ReductionComposition:
    """Reductions applied one after the other.

    The first one gets the results,
    each further one what the one before it returned.

    Args:
        reductions: reductions in the order they are applied.
            Without any, results are returned as they are

    Raises:
        TypeError: if one of them cannot be called

    Examples:
        >>> flat_maximum = ReductionComposition([flatten_reduction, max_reduction])
        >>> flat_maximum([[1, 5], [3]])
        5

    """

    def __init__(self, reductions: Iterable[Callable[..., Any]] = ()) -> None:
        self.reductions = tuple(reductions)
        for reduction in self.reductions:
            if not callable(reduction):
                raise TypeError(f"A reduction must be callable, but is {reduction!r}.")

    def __call__(
        self,
        results: Sequence[Any],
        weights: Sequence[float] | None = None,
    ) -> Any:
        """Apply the reductions.

        Args:
            results: what the workers returned
            weights: weight of each result,
                passed to the first reduction if that takes weights.
                The others see values that are no longer one per worker

        Returns:
            what the last reduction returns

        """
        if not self.reductions:
            return results
        first, *others = self.reductions
        value = reduce_results(first, results, weights)
        for reduction in others:
            value = reduction(value)
        return value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.reductions)!r})"


def reduce_results(
    reduction: Callable[..., Any],
    results: Sequence[Any],
    weights: Sequence[float] | None,
) -> Any:
    """Call a reduction, with weights if it takes them.

    Args:
        reduction: any callable that takes a list
        results: what the workers returned
        weights: weight of each result

    Returns:
        what the reduction returns

    """
    import inspect

    try:
        takes_weights = "weights" in inspect.signature(reduction).parameters
    except ValueError:
        # Builtins such as max() do not tell
        takes_weights = False
    if takes_weights and weights is not None:
        return reduction(results, weights=weights)
    return reduction(results)


def flatten_reduction(results: Iterable[Iterable[T]]) -> list[T]:
    """One list of the elements of all lists, in order.

    Args:
        results: lists

    Returns:
        their elements

    Examples:
        >>> flatten_reduction([[1, 2], [], [3]])
        [1, 2, 3]

    """
    return [element for result in results for element in result]


def sum_reduction(results: Iterable[Any]) -> Any:
    """Sum of the results.

    Small integers of NumPy are added up as ``numpy.sum`` does it,
    in 64 bits.

    Args:
        results: numbers, or arrays of one shape

    Returns:
        their sum, ``0`` if there are none

    Examples:
        >>> sum_reduction([1, 2, 3])
        6

    """
    return sum(_in_64_bits(results))


def average_reduction(
    results: Sequence[Any],
    weights: Sequence[float] | None = None,
) -> Any:
    """Average of averages.

    Workers may get chunks of different length.
    For the average over all elements,
    the average of each chunk has to count as often as the chunk has elements,
    hence the weights.

    The average has the type that ``numpy.mean`` gives it:
    ``float64`` for integers of NumPy,
    and that of the results for its floats.

    Args:
        results: numbers, or arrays of one shape
        weights: how much each result counts,
            by default all the same

    Returns:
        their average

    Raises:
        ValueError: if there are no results,
            if there is not one weight for each result,
            or if the weights sum up to zero

    Examples:
        >>> average_reduction([1.0, 4.0])
        2.5
        >>> average_reduction([1.0, 4.0], weights=[2, 1])
        2.0

    """
    _check_not_empty("average", results)
    if weights is None:
        weights = [1] * len(results)
    if len(weights) != len(results):
        raise ValueError(
            f"There must be one weight for each of the {len(results)} results, "
            f"but there are {len(weights)}."
        )
    numbers = [_as_own_number(weight) for weight in weights]
    total = sum(numbers)
    if total == 0:
        raise ValueError("The weights of an average must not sum up to zero.")
    average = sum(map(operator.mul, map(_as_float, results), numbers)) / total
    if all(_numpy_type(result) == "f2" for result in results):
        average = average.astype("f2")
    return average


def histogram_reduction(results: Iterable[Any]) -> dict[Any, int]:
    """How often each value occurs.

    Workers that count themselves return histograms;
    those are added up.

    Args:
        results: values that can be keys of a dictionary,
            or dictionaries from values to counts

    Returns:
        counts, in the order in which values occur first

    Examples:
        >>> histogram_reduction(["cat", "dog", "cat"])
        {'cat': 2, 'dog': 1}
        >>> histogram_reduction([{"cat": 2}, {"dog": 1, "cat": 1}])
        {'cat': 3, 'dog': 1}

    """
    counts: dict[Hashable, int] = {}
    for result in results:
        part = result if isinstance(result, Mapping) else {result: 1}
        for value, count in part.items():
            counts[value] = counts.get(value, 0) + count
    return counts


def product_reduction(results: Iterable[Any]) -> Any:
    """Product of the results.

    Small integers of NumPy are multiplied as ``numpy.prod`` does it,
    in 64 bits.

    Args:
        results: numbers, or arrays of one shape

    Returns:
        their product, ``1`` if there are none

    Examples:
        >>> product_reduction([2, 3, 4])
        24

    """
    return math.prod(_in_64_bits(results))


def string_concatenation_reduction(results: Iterable[str]) -> str:
    """All strings in one, in order.

    Args:
        results: strings

    Returns:
        the strings one after the other

    Examples:
        >>> string_concatenation_reduction(["par", "all", "el"])
        'parallel'

    """
    return "".join(results)


def bitwise_and_reduction(results: Sequence[Any]) -> Any:
    """What all results have in common, bit by bit.

    Args:
        results: integers, sets, or arrays of one shape

    Returns:
        the results combined with ``&``

    Raises:
        ValueError: if there are no results

    Examples:
        >>> bitwise_and_reduction([0b110, 0b011])
        2

    """
    _check_not_empty("bitwise and", results)
    return functools.reduce(operator.and_, results)


def bitwise_or_reduction(results: Sequence[Any]) -> Any:
    """What any of the results has, bit by bit.

    Args:
        results: integers, sets, or arrays of one shape

    Returns:
        the results combined with ``|``

    Raises:
        ValueError: if there are no results

    Examples:
        >>> bitwise_or_reduction([0b100, 0b001])
        5

    """
    _check_not_empty("bitwise or", results)
    return functools.reduce(operator.or_, results)


def min_reduction(results: Sequence[Any]) -> Any:
    """Smallest result.

    Args:
        results: values that can be ordered

    Returns:
        the first of the smallest

    Raises:
        ValueError: if there are no results

    Examples:
        >>> min_reduction([3, 1, 2])
        1

    """
    _check_not_empty("minimum", results)
    return min(results)


def max_reduction(results: Sequence[Any]) -> Any:
    """Largest result.

    Args:
        results: values that can be ordered

    Returns:
        the first of the largest

    Raises:
        ValueError: if there are no results

    Examples:
        >>> max_reduction([3, 1, 2])
        3

    """
    _check_not_empty("maximum", results)
    return max(results)


def _check_not_empty(name: str, results: Sequence[Any]) -> None:
    if len(results) == 0:
        raise ValueError(f"There is no {name} of no results.")


def _in_64_bits(results: Iterable[Any]) -> list[Any]:
    """Integers of NumPy in a type that sums and products fit into."""
    results = list(results)
    types = [_numpy_type(result) for result in results]
    # With signed ones, unsigned ones of 64 bits would become inexact floats
    unsigned = "i8" if any(kind[:1] == "i" for kind in types) else "u8"
    wider = dict.fromkeys(("i1", "i2", "i4"), "i8")
    wider |= dict.fromkeys(("u1", "u2", "u4"), unsigned)
    return [
        result.astype(wider[kind]) if kind in wider else result
        for result, kind in zip(results, types)
    ]


def _as_float(result: Any) -> Any:
    """A number of NumPy in a type that can be weighted."""
    numpy_type = _numpy_type(result)
    if numpy_type[:1] in ("b", "i", "u"):
        return result.astype("f8")
    return result.astype("f4") if numpy_type == "f2" else result


def _as_own_number(weight: Any) -> Any:
    """A number of Python, which neither overflows nor changes a type of NumPy."""
    return weight.item() if _numpy_type(weight) else weight


def _numpy_type(result: Any) -> str:
    """Kind and number of bytes of a number or array of NumPy, like ``i8``.

    Empty for anything else,
    like a series of pandas, whose integers may be missing.

    """
    dtype = getattr(result, "dtype", None)
    numpy = sys.modules.get("numpy")
    if dtype is None or numpy is None:
        return ""
    if not isinstance(result, numpy.generic | numpy.ndarray):
        return ""
    return f"{dtype.kind}{dtype.itemsize}"
