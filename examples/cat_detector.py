# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel>=2.0", "numpy>=2.0"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Detect cats in images of many callers, in batches.

The detector stands in for a model on a GPU:
a batch of images takes it less time than the same images one by one.
Twenty tasks that arrive at once have to be done
in the time of one batch, and little more.

Run it with ``uv run examples/cat_detector.py``.

"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np

from audmodel.parallel import BaseTask
from audmodel.parallel import BaseTaskHandler
from audmodel.parallel import Flow
from audmodel.parallel import FlowStep


# this constant is only needed for an example
TASKS_BATCH_SIZE = 20


class ArrayFieldTask(BaseTask):
    """An image and what was detected in it."""

    def __init__(self, array: np.ndarray[Any, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.array = array
        self.result: np.bool | None = None


class CatDetector:
    """GPU model emulator that predicts the presence of a cat in the image."""

    IMAGE_PROCESS_TIME = 0.01
    BATCH_REDUCTION_FACTOR = 0.7
    OVERHEAD_TIME = 0.02
    BATCH_PROCESS_TIME = (
        IMAGE_PROCESS_TIME * TASKS_BATCH_SIZE * BATCH_REDUCTION_FACTOR + OVERHEAD_TIME
    )

    def predict(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Always says that there is a cat in the image."""
        batch_size = images.shape[0]
        if batch_size == 1:
            time.sleep(self.IMAGE_PROCESS_TIME)
        else:
            time.sleep(
                self.IMAGE_PROCESS_TIME * batch_size * self.BATCH_REDUCTION_FACTOR
            )
        return np.ones(batch_size, dtype=bool)


class CatDetectorHandler(BaseTaskHandler):
    """Looks for cats in all images of a batch at once."""

    def handle(self, *tasks: ArrayFieldTask) -> None:
        """Set the results of a batch."""
        images = np.array([task.array for task in tasks])
        predicts = CatDetector().predict(images)
        for task, predict in zip(tasks, predicts):
            task.result = predict


def get_tasks_batch(batch_size: int = TASKS_BATCH_SIZE) -> list[ArrayFieldTask]:
    return [ArrayFieldTask(np.array([1, 2, 3])) for _ in range(batch_size)]


async def process_tasks(flow: Flow, tasks: list[ArrayFieldTask]) -> None:
    await asyncio.gather(*(flow.process(task) for task in tasks))


async def main() -> None:
    tasks_batch = get_tasks_batch()
    flow_with_batch_handler = Flow(
        FlowStep(CatDetectorHandler(), batch_size=TASKS_BATCH_SIZE)
    )
    flow_with_batch_handler.start()

    # checks if there are no results
    assert not any(task.result for task in tasks_batch)
    # one batch takes 0.14 s, the same tasks one by one take 0.2 s
    start = time.perf_counter()
    await asyncio.wait_for(
        process_tasks(flow_with_batch_handler, tasks_batch),
        timeout=CatDetector.BATCH_PROCESS_TIME,
    )
    print(f"one full batch:          {time.perf_counter() - start:.3f} s")
    # checks if all results are set
    assert all(task.result for task in tasks_batch)

    await flow_with_batch_handler.stop()

    tasks_batch = get_tasks_batch()
    flow_with_batch_handler = Flow(
        FlowStep(CatDetectorHandler(), batch_size=2 * TASKS_BATCH_SIZE)
    )
    flow_with_batch_handler.start()

    # nobody waits for the batch to be full
    start = time.perf_counter()
    await asyncio.wait_for(
        process_tasks(flow_with_batch_handler, tasks_batch),
        timeout=CatDetector.BATCH_PROCESS_TIME + 0.01,
    )
    print(f"one batch, half as full: {time.perf_counter() - start:.3f} s")

    await flow_with_batch_handler.stop()


if __name__ == "__main__":
    asyncio.run(main())
