# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "audmodel>=2.0",
#     "numpy>=2.0",
#     "onnx>=1.17",
#     "onnxruntime>=1.19",
# ]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Publish a model, load it, and serve it to many callers in batches.

Everything a model goes through in one script:
a small network is made and published,
loaded with several workers,
and served with onnxruntime behind a flow.
In the end it says how many requests per second
different batch sizes are good for.

Run it with ``uv run examples/serve_onnx.py``.
It needs no configuration and no network,
and works in a temporary folder that is removed in the end.

"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from itertools import pairwise
import os
import tempfile
import time
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper
import onnxruntime

import audmodel
from audmodel.parallel import BaseTask
from audmodel.parallel import BaseTaskHandler
from audmodel.parallel import Flow
from audmodel.parallel import FlowStep


FEATURES = 256
HIDDEN = 1024
CLASSES = 8


def make_model(path: str) -> None:
    """Store a network with two hidden layers."""
    generator = np.random.default_rng(0)
    sizes = [FEATURES, HIDDEN, HIDDEN, CLASSES]
    nodes = []
    weights = []
    value = "features"
    for number, (rows, columns) in enumerate(pairwise(sizes)):
        matrix = generator.normal(scale=rows**-0.5, size=(rows, columns))
        weights.append(
            numpy_helper.from_array(matrix.astype(np.float32), f"weights-{number}")
        )
        nodes.append(
            helper.make_node("MatMul", [value, f"weights-{number}"], [f"sum-{number}"])
        )
        is_last = number == len(sizes) - 2
        value = "scores" if is_last else f"hidden-{number}"
        nodes.append(
            helper.make_node(
                "Softmax" if is_last else "Relu", [f"sum-{number}"], [value]
            )
        )
    graph = helper.make_graph(
        nodes,
        "classifier",
        [
            helper.make_tensor_value_info(
                "features", TensorProto.FLOAT, [None, FEATURES]
            )
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, CLASSES])],
        weights,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)


class Request(BaseTask):
    """What a caller sends, and gets back."""

    def __init__(self, features: np.ndarray[Any, Any]) -> None:
        self.features = features
        self.scores: np.ndarray[Any, Any] | None = None


class Classifier(BaseTaskHandler):
    """Runs a published model."""

    def __init__(self, uid: str, cache_root: str) -> None:
        self.uid = uid
        self.cache_root = cache_root

    def on_start(self) -> None:
        """Load the model, once, before the first request."""
        root = audmodel.load(self.uid, cache_root=self.cache_root, num_workers=4)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.path.join(root, "model.onnx"),
            options,
            providers=["CPUExecutionProvider"],
        )

    def handle(self, *tasks: Request) -> None:
        """Compute the scores of a batch in one go."""
        features = np.stack([task.features for task in tasks])
        (scores,) = self.session.run(["scores"], {"features": features})
        for task, task_scores in zip(tasks, scores):
            task.scores = task_scores


async def serve(
    handler: Classifier,
    batch_size: int,
    inputs: np.ndarray[Any, Any],
    callers: int,
) -> tuple[list[Request], float]:
    """Answer all requests of some callers that send one after the other."""
    requests = [Request(features) for features in inputs]
    left: Iterator[Request] = iter(requests)

    async def call(flow: Flow) -> None:
        for request in left:
            await flow.process(request, timeout=30)

    async with Flow(FlowStep(handler, batch_size=batch_size)) as flow:
        # The first run takes longer
        await flow.process(Request(inputs[0]))
        start = time.perf_counter()
        await asyncio.gather(*(call(flow) for _ in range(callers)))
        seconds = time.perf_counter() - start
    return requests, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a model in batches.")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--callers", type=int, default=64)
    arguments = parser.parse_args()
    inputs = np.random.default_rng(1).normal(size=(arguments.requests, FEATURES))
    inputs = inputs.astype(np.float32)

    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "host", "models"))
        audmodel.config.REPOSITORIES = [
            audmodel.Repository("models", os.path.join(folder, "host"), "file-system")
        ]
        root = os.path.join(folder, "model")
        os.mkdir(root)
        make_model(os.path.join(root, "model.onnx"))
        uid = audmodel.publish(root, "onnx", {"classes": CLASSES}, "1.0.0")
        print(f"published {uid}")

        handler = Classifier(uid, os.path.join(folder, "cache"))
        for batch_size in (1, 8, 32):
            requests, seconds = asyncio.run(
                serve(handler, batch_size, inputs, arguments.callers)
            )
            (expected,) = handler.session.run(["scores"], {"features": inputs})
            scores = np.stack(
                [request.scores for request in requests if request.scores is not None]
            )
            assert np.allclose(scores, expected, atol=1e-5)
            rate = len(requests) / seconds
            print(f"batch size {batch_size:2}: {rate:7.0f} requests per second")


if __name__ == "__main__":
    main()
