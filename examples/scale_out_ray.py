# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel>=2.0", "ray>=2.9"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Run a function over a long list on a Ray cluster.

Ray has no executor, and needs none: ``RayExecutor`` below is one.
``ray.init()`` starts a cluster of processes of this machine,
``ray.init(address="auto")`` uses the one that the machine belongs to.

Run it with ``uv run examples/scale_out_ray.py``.

"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures import Future
import os
from typing import Any

import ray

from audmodel.parallel import MultiWorker
from audmodel.parallel import flatten_reduction


class RayExecutor(Executor):
    """Runs calls as Ray tasks, with options of these like ``num_gpus``."""

    def __init__(self, **options: Any) -> None:
        self.task = ray.remote(**{"num_cpus": 1, **options})(carry_out)

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Start a call."""
        future: Future[Any] = self.task.remote(fn, args, kwargs).future()
        return future


def carry_out(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return function(*args, **kwargs)


def squares(numbers: list[int]) -> list[tuple[int, int]]:
    return [(number**2, os.getpid()) for number in numbers]


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    with MultiWorker(
        squares,
        n_processes=8,
        reduction=flatten_reduction,
        executor=RayExecutor(),
    ) as parallel_squares:
        results = parallel_squares(list(range(1000)))
    ray.shutdown()
    assert [square for square, _ in results] == [number**2 for number in range(1000)]
    print(f"{len(results)} squares by {len({pid for _, pid in results})} processes")


if __name__ == "__main__":
    main()
