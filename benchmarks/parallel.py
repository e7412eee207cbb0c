# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "aqueduct>=1.15",
#     "audmodel>=2.0",
#     "numpy>=2.0",
#     "workercontext>=0.1.1",
# ]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Compare MultiWorker with workercontext, and Flow with aqueduct.

Each case runs in a fresh process,
ours and theirs by turns,
and the median of all rounds counts.
Run it with ``uv run benchmarks/parallel.py``.

"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np


SECONDS = "s"
RATE = "tasks/s"
OURS = "audmodel"


# Functions of the cases, which worker processes import ---------------------


def spectrograms(files: list[str], folder: str, frame: int) -> None:
    for file in files:
        frames = np.load(file).reshape(-1, frame)
        magnitudes = np.abs(np.fft.rfft(frames * np.hanning(frame)))
        np.save(os.path.join(folder, os.path.basename(file)), magnitudes)


def copied(numbers: list[int]) -> list[int]:
    return numbers[:]


def energy(numbers: list[int]) -> float:
    return float(sum(number * number for number in numbers))


def multi_worker(library: str) -> tuple[Any, Any, Any]:
    if library == OURS:
        from audmodel import parallel

        return (
            parallel.MultiWorker,
            parallel.flatten_reduction,
            parallel.sum_reduction,
        )
    from workercontext import MultiWorker
    from workercontext.reductions import flatten_reduction
    from workercontext.reductions import sum_reduction

    return MultiWorker, flatten_reduction, sum_reduction


def recordings(library: str, number: int) -> dict[str, float]:
    worker_class, _, _ = multi_worker(library)
    with tempfile.TemporaryDirectory() as root:
        folder = os.path.join(root, "spectrograms")
        os.mkdir(folder)
        noise = np.random.default_rng(0).uniform(-1, 1, 512 * 1000)
        files = [os.path.join(root, f"{index}.npy") for index in range(number)]
        for file in files:
            np.save(file, noise)
        start = time.perf_counter()
        worker = worker_class(spectrograms, n_processes=2, batched_arg="files")
        with worker as parallel:
            parallel(files, folder, 512)
            first = time.perf_counter()
            parallel(files, folder, 512)
            second = time.perf_counter()
        assert len(os.listdir(folder)) == number
    return {"open and first call": first - start, "next call": second - first}


def short_lists(library: str, number: int) -> dict[str, float]:
    worker_class, flatten, add = multi_worker(library)
    starts = []
    calls = []
    for function, reduction, numbers in (
        (copied, flatten, list(range(300))),
        (energy, add, list(range(300))),
    ):
        start = time.perf_counter()
        worker = worker_class(
            function,
            n_processes=16,
            batched_arg="numbers",
            reduction=reduction,
        )
        with worker as parallel:
            parallel(numbers)
            starts.append(time.perf_counter() - start)
            # Processes that still start would slow down what follows
            time.sleep(1)
            for _ in range(number):
                start = time.perf_counter()
                parallel(numbers)
                calls.append(time.perf_counter() - start)
    return {
        "open and first call": statistics.mean(starts),
        "next call": statistics.median(calls),
    }


# Flows ---------------------------------------------------------------------


def flow_classes(library: str) -> tuple[Any, Any, Any, Any]:
    if library == OURS:
        from audmodel.parallel import BaseTask
        from audmodel.parallel import BaseTaskHandler
        from audmodel.parallel import Flow
        from audmodel.parallel import FlowStep
    else:
        import logging

        logging.disable()
        from aqueduct.flow import Flow
        from aqueduct.flow import FlowStep
        from aqueduct.handler import BaseTaskHandler
        from aqueduct.task import BaseTask
    return Flow, FlowStep, BaseTaskHandler, BaseTask


def detect(clips: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A model that takes 7 ms for a clip."""
    time.sleep(0.007 * len(clips))
    return np.ones(len(clips), dtype=bool)


def make_flow(
    library: str,
    predict: Callable[[np.ndarray[Any, Any]], Any],
    batch_size: int,
    process: bool = False,
) -> tuple[Any, Any]:
    flow_class, step_class, handler_base, task_base = flow_classes(library)

    class Task(task_base):  # type: ignore[misc]
        def __init__(self, array: np.ndarray[Any, Any]) -> None:
            super().__init__()
            self.array = array
            self.result = None

    class Handler(handler_base):  # type: ignore[misc]
        def handle(self, *tasks: Any) -> None:
            results = predict(np.array([task.array for task in tasks]))
            for task, result in zip(tasks, results):
                task.result = result

    # Processes look for them here
    for class_ in (Task, Handler):
        class_.__qualname__ = class_.__name__
        globals()[class_.__name__] = class_
    options = {"process": True} if process else {}
    return flow_class(step_class(Handler(), batch_size=batch_size, **options)), Task


def one_batch(library: str, number: int) -> dict[str, float]:
    async def main() -> dict[str, float]:
        times: dict[str, list[float]] = {"batch size 20": [], "batch size 40": []}
        for batch_size in (20, 40):
            flow, task_class = make_flow(library, detect, batch_size)
            flow.start()
            for _ in range(number):
                tasks = [task_class(np.zeros(100, np.float32)) for _ in range(20)]
                start = time.perf_counter()
                await asyncio.gather(*(flow.process(task) for task in tasks))
                times[f"batch size {batch_size}"].append(time.perf_counter() - start)
                assert all(task.result for task in tasks)
            await flow.stop()
        return {name: statistics.median(values) for name, values in times.items()}

    return asyncio.run(main())


def count(clips: np.ndarray[Any, Any]) -> list[int]:
    return [1] * len(clips)


def throughput(library: str, number: int) -> dict[str, float]:
    async def main() -> dict[str, float]:
        rates = {}
        for batch_size in (1, 32):
            flow, task_class = make_flow(library, count, batch_size)
            flow.start()
            tasks = [task_class(np.zeros(1000, np.float32)) for _ in range(number)]
            left = iter(tasks)

            async def call(flow: Any = flow, left: Any = left) -> None:
                for task in left:
                    await flow.process(task)

            start = time.perf_counter()
            await asyncio.gather(*(call() for _ in range(64)))
            rates[f"batch size {batch_size}"] = number / (time.perf_counter() - start)
            assert all(task.result for task in tasks)
            await flow.stop()
        return rates

    return asyncio.run(main())


Case = tuple[Callable[[str, int], dict[str, float]], list[str], str, int]

CASES: dict[str, Case] = {
    "spectrograms of {} recordings, 2 processes": (
        recordings,
        [OURS, "workercontext"],
        SECONDS,
        400,
    ),
    "lists of 300 numbers, 16 processes, {} calls": (
        short_lists,
        [OURS, "workercontext"],
        SECONDS,
        20,
    ),
    "20 tasks at once, {} times": (one_batch, [OURS, "aqueduct"], SECONDS, 5),
    "64 callers, {} tasks, empty model": (
        throughput,
        [OURS, "aqueduct"],
        RATE,
        2000,
    ),
}


def run(case: str, library: str) -> dict[str, float]:
    output = subprocess.run(
        [sys.executable, __file__, "--run", case, library],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare with prior art.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="see that it works")
    parser.add_argument("--only", default="", help="part of the name of a case")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        case, library = arguments.run
        function, _, _, number = CASES[case]
        print(json.dumps(function(library, number)))
        return
    if arguments.quick:
        arguments.rounds = 1
    for case, (_, libraries, unit, number) in CASES.items():
        if arguments.only not in case:
            continue
        results: dict[str, list[dict[str, float]]] = {name: [] for name in libraries}
        for round_number in range(arguments.rounds):
            for turn in range(len(libraries)):
                library = libraries[(round_number + turn) % len(libraries)]
                results[library].append(run(case, library))
        print(case.format(number))
        digits = 4 if unit == SECONDS else 0
        for measure in results[OURS][0]:
            for library in libraries:
                values = [result[measure] for result in results[library]]
                print(
                    f"  {measure:20} {library:28} "
                    f"{statistics.median(values):10.{digits}f} {unit:8} "
                    f"({min(values):.{digits}f} to {max(values):.{digits}f})"
                )


if __name__ == "__main__":
    main()
