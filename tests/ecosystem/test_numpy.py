"""Values of NumPy are stored as what they are worth, and files are read by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import audmodel
from audmodel import parallel
from audmodel.core.yaml import document
from audmodel.errors import InvalidInputError
from tests.behaviour.backends import publish


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.uint8(3), 3),
    ],
)
def test_numbers_are_stored(value: object, stored: object) -> None:
    result = document.load(document.dump({"a": value}, "it"), "it")["a"]
    assert result == stored
    assert type(result) is type(stored)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(3),
        np.datetime64("2026-01-01"),
        # NumPy counts it as an integer, in each unit
        np.timedelta64(5, "s"),
        np.timedelta64(5, "ns"),
    ],
)
def test_arrays_and_times_are_refused(value: object) -> None:
    for data in ({"a": value}, {"a": [{"b": value}]}):
        with pytest.raises(InvalidInputError, match=r"meta\['a'\].* is of type"):
            document.dump(data, "meta")


def test_arrays_are_read_from_an_opened_file(
    repository: audmodel.Repository, tmp_path: Path
) -> None:
    root = tmp_path / "model"
    root.mkdir()
    np.save(root / "numbers.npy", np.arange(1_500_000, dtype="float32"))
    uid = publish(root)
    with audmodel.open(uid, "numbers.npy", num_workers=2) as file:
        assert np.load(file)[1_400_000] == 1_400_000


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint32])
def test_numbers_of_workers_may_be_those_of_numpy(kind: Any) -> None:
    worker = parallel.MultiWorker(len, kind(1))
    assert worker.n_processes == 1
    assert list(parallel.prefetch(abs, [-1], num_workers=kind(2))) == [1]
    assert parallel.FlowStep(parallel.BaseTaskHandler(), kind(2)).batch_size == 2


def test_durations_may_be_those_of_numpy() -> None:
    seconds: Any = np.float32(60)
    assert parallel.MultiWorker(len, 2, timeout=seconds).timeout == 60
    assert parallel.FlowStep(parallel.BaseTaskHandler(), 2, seconds).batch_timeout == 60
