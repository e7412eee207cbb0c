"""An executor of any kind does the work, like that of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
from typing import Any
import uuid

from distributed import Client
from distributed import LocalCluster
import pytest

import audmodel
from audmodel.parallel import MultiWorker
from audmodel.parallel import average_reduction
from audmodel.parallel import flatten_reduction


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Client of a cluster of several processes."""
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as local_cluster,
        Client(local_cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield client


def leave_trace(items: list[str], folder: str) -> list[str]:
    for item in items:
        (Path(folder) / f"{item}-{uuid.uuid4().hex}").touch()
    return items


def echo(items: list[Any], **kwargs: Any) -> list[Any]:
    return [(item, kwargs) for item in items]


def process_ids(items: list[Any]) -> list[int]:
    return [os.getpid() for _ in items]


def mean(items: list[float]) -> float:
    return sum(items) / len(items)


def fail(items: list[int]) -> None:
    raise KeyError(items[0])


def read_model(
    items: list[str],
    uid: str,
    repository: audmodel.Repository,
    cache_root: str,
) -> list[tuple[str, int, int]]:
    audmodel.config.REPOSITORIES = [repository]
    root = audmodel.load(uid, cache_root=cache_root, num_workers=2)
    return [(item, (Path(root) / item).stat().st_size, os.getpid()) for item in items]


def test_models_are_loaded_on_the_workers(
    cluster: Any,
    model_folder: Path,
    repository: audmodel.Repository,
    tmp_path: Path,
) -> None:
    uid = audmodel.publish(str(model_folder), "onnx", {"rate": 16000}, "1.0.0")
    files = ["model.yaml", "model.onnx", "readme.txt", "log/eval.yaml"] * 3
    with MultiWorker(
        read_model,
        n_processes=5,
        reduction=flatten_reduction,
        executor=cluster.get_executor(),
    ) as parallel_read:
        results = parallel_read(
            files,
            uid,
            repository=repository,
            cache_root=str(tmp_path / "cache-of-workers"),
        )
    assert [(name, size) for name, size, _ in results] == [
        (name, (model_folder / name).stat().st_size) for name in files
    ]
    assert os.getpid() not in {process for _, _, process in results}


def test_several_processes_share_the_work(cluster: Any) -> None:
    with MultiWorker(
        process_ids,
        n_processes=20,
        reduction=flatten_reduction,
        executor=cluster.get_executor(),
    ) as parallel_ids:
        assert len(set(parallel_ids(list(range(100))))) == 2


def test_equal_elements_are_each_processed(cluster: Any, tmp_path: Path) -> None:
    with MultiWorker(
        leave_trace,
        n_processes=4,
        reduction=flatten_reduction,
        executor=cluster.get_executor(),
    ) as parallel_trace:
        for calls in (1, 2):
            assert parallel_trace(["same"] * 4, str(tmp_path)) == ["same"] * 4
            assert len(list(tmp_path.iterdir())) == calls * 4


def test_arguments_belong_to_the_function(cluster: Any) -> None:
    kwargs = {"key": 1, "priority": "low", "retries": 0, "workers": ["a"], "pure": 2}
    # What looks like a task of Dask is none
    items = [(len, "abc"), {"x": (sum, [1, 2])}, "x"]
    with MultiWorker(
        echo,
        n_processes=2,
        reduction=flatten_reduction,
        executor=cluster.get_executor(),
    ) as parallel_echo:
        assert parallel_echo(items, **kwargs) == [(item, kwargs) for item in items]


def test_average_is_weighted(cluster: Any) -> None:
    with MultiWorker(
        mean,
        n_processes=3,
        verbose=True,
        reduction=average_reduction,
        executor=cluster.get_executor(),
    ) as parallel_mean:
        assert parallel_mean([1.0, 2.0, 3.0, 10.0]) == 4.0


def test_failure_is_raised_and_the_cluster_goes_on(cluster: Any) -> None:
    executor = cluster.get_executor()
    with MultiWorker(fail, n_processes=9, executor=executor) as parallel_fail:
        for _ in range(2):
            with pytest.raises(KeyError):
                parallel_fail(list(range(9)))
    assert executor.submit(int, "3").result() == 3
