"""Packages read files of models through fsspec."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor
import functools
from multiprocessing import get_context
from pathlib import Path

import dask
import dask.bytes
import fsspec
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import audmodel
from tests.behaviour.backends import publish


TENSORS = {
    f"layer.{n}": np.random.default_rng(n).normal(size=(512, 512)).astype("float32")
    for n in range(8)
}


@pytest.fixture
def uid(repository: audmodel.Repository, tmp_path: Path) -> str:
    root = tmp_path / "model"
    root.mkdir()
    safetensors.numpy.save_file(TENSORS, root / "model.safetensors")
    np.savez(root / "statistics.npz", mean=np.arange(4), std=np.ones(4))
    (root / "names.txt").write_text("".join(f"{n}.wav\n" for n in range(1000)))
    return publish(root)


def test_safetensors_reads_bytes(uid: str) -> None:
    path = f"audmodel://{uid}/model.safetensors"
    with fsspec.open(path, num_workers=2) as file:
        tensors = safetensors.numpy.load(file.read())
    assert tensors.keys() == TENSORS.keys()
    assert all((tensors[name] == TENSORS[name]).all() for name in TENSORS)


def test_safetensors_opens_a_copy_that_fsspec_keeps(uid: str, tmp_path: Path) -> None:
    path = fsspec.open_local(
        f"simplecache::audmodel://{uid}/model.safetensors",
        simplecache={"cache_storage": str(tmp_path / "copies")},
        audmodel={"num_workers": 2},
    )
    with safetensors.safe_open(path, "numpy") as file:
        assert (file.get_tensor("layer.5") == TENSORS["layer.5"]).all()


def test_numpy_reads_an_array(uid: str) -> None:
    with fsspec.open(f"audmodel://{uid}/statistics.npz") as file:
        assert np.load(file)["mean"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("scheduler", "executor"),
    [
        ("threads", ThreadPoolExecutor),
        (
            "processes",
            functools.partial(ProcessPoolExecutor, mp_context=get_context("spawn")),
        ),
    ],
    ids=["threads", "processes"],
)
def test_dask_reads_blocks(
    uid: str,
    repository: audmodel.Repository,
    tmp_path: Path,
    scheduler: str,
    executor: Callable[[int], Executor],
) -> None:
    _, blocks = dask.bytes.read_bytes(
        f"audmodel://{uid}/*.txt",
        delimiter=b"\n",
        blocksize=1000,
        sample=False,
        repository=repository,
        cache_root=str(tmp_path / "cache"),
    )
    # Dask would keep a pool of its own
    with executor(2) as pool:
        read = dask.compute(*blocks[0], scheduler=scheduler, pool=pool)
    assert len(read) > 5
    assert b"".join(read) == (tmp_path / "model" / "names.txt").read_bytes()
