"""Progress counts what goes over the wire, on every storage."""

from __future__ import annotations

from pathlib import Path

import pytest

import audmodel
from audmodel import Progress
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import text
from tests.behaviour.backends import content
from tests.behaviour.backends import publish


MIB = 1 << 20
FILES = {"large": noise(12 * MIB), "text": text(5 * MIB), "small": b"small"}


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    monkeypatch.setattr("audmodel.core.progress.views.Function.interval", 0)
    return []


def archive_size(repository: audmodel.Repository) -> int:
    """Bytes of the largest archive."""
    stored = content(repository).items()
    return max(len(data) for path, data in stored if path.endswith(".zip"))


def test_publish_and_load(
    repository: audmodel.Repository, tmp_path: Path, states: list[Progress]
) -> None:
    root = make_folder(tmp_path / "model", FILES)
    uid = publish(root, num_workers=2, progress=states.append)
    size = archive_size(repository)
    last = states[-1]
    assert (last.done, last.transferred, last.total) == (size, size, size)
    assert states[0].total == sum(map(len, FILES.values())) > size
    states.clear()
    audmodel.load(uid, num_workers=2, progress=states.append)
    last = states[-1]
    assert last.done == last.transferred == last.total
    assert size - MIB < last.total < size


@pytest.mark.sample(3)
def test_copy(
    repository: audmodel.Repository, tmp_path: Path, states: list[Progress]
) -> None:
    (tmp_path / "other" / "others").mkdir(parents=True)
    other = audmodel.Repository("others", str(tmp_path / "other"), "file-system")
    audmodel.config.REPOSITORIES = [other]
    uid = publish(make_folder(tmp_path / "model", FILES))
    size = archive_size(other)
    audmodel.copy(uid, other, repository, num_workers=2, progress=states.append)
    last = states[-1]
    assert (states[0].total, last.total, last.done) == (size, size, size)
    assert last.transferred + last.copied == size
    # An extension of audbackend tells nothing before its end
    if not (last.copied or repository.backend == "plain"):
        assert len({state.done for state in states}) > 2


@pytest.mark.sample(3)
def test_new_version_tells_what_the_storage_copied(
    repository: audmodel.Repository, tmp_path: Path, states: list[Progress]
) -> None:
    files = {"a.bin": noise(28 * MIB), "b.bin": noise(5 * MIB, 1)}
    publish(make_folder(tmp_path / "1", files), compression=0, num_workers=2)
    changed = {**files, "b.bin": noise(5 * MIB, 2)}
    root = make_folder(tmp_path / "2", changed)
    more = {"version": "2.0.0", "compression": 0, "num_workers": 2}
    publish(root, progress=states.append, **more)
    last = states[-1]
    size = archive_size(repository)
    assert (last.done, last.total) == (size, size)
    if "S3" in repository.backend.upper():
        assert last.copied > 15 * MIB
    assert last.transferred >= 5 * MIB
