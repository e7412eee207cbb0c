"""The suite runs on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import audmodel
from tests.behaviour.backends import BACKENDS


@pytest.fixture(params=BACKENDS)
def repository(
    request: pytest.FixtureRequest, cache: Path
) -> Iterator[audmodel.Repository]:
    """An empty repository, the only one configured."""
    with BACKENDS[request.param](request) as repository:
        audmodel.config.REPOSITORIES = [repository]
        yield repository


@pytest.fixture
def other_repository(
    request: pytest.FixtureRequest,
    repository: audmodel.Repository,
    tmp_path: Path,
) -> audmodel.Repository:
    """A second, empty repository, configured after the first one."""
    host = tmp_path / "other"
    (host / "others").mkdir(parents=True)
    other = audmodel.Repository("others", str(host), "file-system")
    audmodel.config.REPOSITORIES = [repository, other]
    return other
