"""The doctor says how a repository is, and changes nothing in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import audmodel
from audmodel.core.backend import conditions
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish


def states(
    report: audmodel.DoctorReport, repository: audmodel.Repository
) -> dict[str, str]:
    """State of each check of a repository."""
    return {
        each.name: each.state
        for each in report.diagnoses
        if each.topic == repr(repository)
    }


def test_nothing_has_failed(
    repository: audmodel.Repository, cache: Path, model_folder: Path
) -> None:
    uid = publish(model_folder, alias="best")
    audmodel.load(uid)
    stored, cached = content(repository), files(cache)
    report = audmodel.doctor()
    assert report.ok, str(report)
    assert content(repository) == stored
    assert files(cache) == cached
    found = states(report, repository)
    assert found["reachable"] == "ok"
    if repository.backend != "plain":
        assert found["clock"] == "ok"
        assert found["ranges"] == "ok"
    else:
        assert found["ranges"] == "warning"
    good = repository.backend in ("file-system", "s3")
    assert found["conditional writes"] == ("ok" if good else "warning")
    assert uid in str(report) or repository.backend == "plain"


def test_empty_repository(repository: audmodel.Repository) -> None:
    report = audmodel.doctor()
    assert report.ok, str(report)
    assert states(report, repository)["ranges"] in ("unknown", "warning")
    assert content(repository) == {}


def test_repository_that_does_not_exist(repository: audmodel.Repository) -> None:
    missing = audmodel.Repository("missing", repository.host, repository.backend)
    report = audmodel.doctor(missing)
    assert not report.ok
    (failed,) = report.failed
    assert (failed.topic, failed.name) == (repr(missing), "reachable")
    assert "missing" in failed.seen
    # The other checks went on
    assert {"versions", "settings", "cache"} < {x.topic for x in report.diagnoses}


def test_writes_where_it_may(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    publish(model_folder)
    stored = content(repository)
    report = audmodel.doctor(repository, write=True)
    assert report.ok, str(report)
    assert content(repository) == stored
    found = states(report, repository)
    assert set(conditions.NAMES) <= set(found)
    assert "unknown" not in [found[name] for name in conditions.NAMES]


@pytest.mark.parametrize("size", [1_000, 5_000_000])
def test_measures_what_is_large(
    repository: audmodel.Repository, tmp_path: Path, size: int
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "weights").write_bytes(os.urandom(size))
    uid = publish(folder)
    report = audmodel.doctor(repository, measure=True)
    assert report.ok, str(report)
    if repository.backend == "plain" or size < 2**22:
        assert report.measurements == ()
        return
    assert states(audmodel.doctor(), repository)["num_workers"] == "unknown"
    (found,) = report.measurements
    assert (found.uid, found.repository) == (uid, repository)
    assert list(found.speeds)[:2] == [1, 2]
    assert all(speed > 0 for speed in found.speeds.values())
    assert 1 <= found.num_workers <= 16
    assert f"num_workers: {found.num_workers} is recommended" in str(report)
