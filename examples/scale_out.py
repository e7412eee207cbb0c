# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel>=2.0", "distributed>=2024.8", "numpy>=2.0"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Run a model over a long list on a Dask cluster.

The cluster of this example consists of processes of this machine.
With the address of a real one in ``Client(...)``
the same code runs on as many machines as the cluster has;
what the machines need to have in common is the repository.

Run it with ``uv run examples/scale_out.py``.

"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

from distributed import Client
from distributed import LocalCluster
from distributed import get_worker
import numpy as np

import audmodel
from audmodel.parallel import MultiWorker
from audmodel.parallel import average_reduction
from audmodel.parallel import flatten_reduction


def classify(
    inputs: list[list[float]],
    uid: str,
    repository: audmodel.Repository,
    cache_root: str,
) -> list[tuple[int, str]]:
    """Class of each input, and the name of the worker that computed it."""
    # A worker starts with the configuration of its machine
    audmodel.config.REPOSITORIES = [repository]
    # Workers of one machine share a cache:
    # one of them loads the model, the others use the same files
    root = audmodel.load(uid, cache_root=cache_root, num_workers=2)
    weights = np.load(os.path.join(root, "weights.npy"))
    classes = np.argmax(np.array(inputs) @ weights, axis=1)
    return [(int(number), str(get_worker().name)) for number in classes]


def mean_square(inputs: list[list[float]]) -> float:
    return float(np.mean(np.square(inputs)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify on a cluster.")
    parser.add_argument("--inputs", type=int, default=1001)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(64, 10))
    inputs = generator.normal(size=(arguments.inputs, 64))

    with tempfile.TemporaryDirectory() as folder:
        # Storage that all machines can reach, here a folder
        os.makedirs(os.path.join(folder, "host", "models"))
        repository = audmodel.Repository(
            "models",
            os.path.join(folder, "host"),
            "file-system",
        )
        model = os.path.join(folder, "model")
        os.mkdir(model)
        np.save(os.path.join(model, "weights.npy"), weights)
        uid = audmodel.publish(
            model,
            "linear",
            {"classes": 10},
            "1.0.0",
            repository=repository,
        )

        with (
            LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=arguments.workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster) as client,  # type: ignore[no-untyped-call]
        ):
            executor = client.get_executor()
            start = time.perf_counter()
            with MultiWorker(
                classify,
                # More parts than workers,
                # so that a slow worker does not hold up the others
                n_processes=4 * arguments.workers,
                reduction=flatten_reduction,
                executor=executor,
            ) as parallel_classify:
                results = parallel_classify(
                    inputs.tolist(),
                    uid,
                    repository=repository,
                    cache_root=os.path.join(folder, "cache"),
                )
            seconds = time.perf_counter() - start

            with MultiWorker(
                mean_square,
                n_processes=4 * arguments.workers,
                reduction=average_reduction,
                executor=executor,
            ) as parallel_mean_square:
                average = parallel_mean_square(inputs.tolist())

        classes = [number for number, _ in results]
        assert classes == np.argmax(inputs @ weights, axis=1).tolist()
        assert abs(average - mean_square(inputs.tolist())) < 1e-12
        workers = {worker for _, worker in results}
        print(f"{len(classes)} inputs in {seconds:.2f} s on {len(workers)} workers")
        print(f"mean square of all inputs: {average:.4f}")


if __name__ == "__main__":
    main()
