"""A record that was damaged in the storage is an error, and can be replaced."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import shutil
import time

import pytest

import audmodel
from audmodel import errors
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.repository.lookup import open_registry
from audmodel.core.uid import ModelId
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.proxy import Forward
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.behaviour.backends import publish
from tests.reliability.remote import Remote
from tests.reliability.remote import storage as storage


class Damage:
    """One byte of an object is another one until it is stored again.

    Args:
        end: end of the path of the object
        change: what happens to the content

    """

    def __init__(self, end: str, change: Callable[[bytes], bytes]) -> None:
        self._end = end
        self._change = change
        self.is_there = True

    def __call__(self, request: Request, forward: Forward) -> Response | None:
        response = forward()
        if request.path.partition("?")[0].endswith(self._end):
            self.is_there = self.is_there and request.method != "PUT"
            if self.is_there and request.method == "GET":
                response.body = self._change(response.body)
        return response


def flip(data: bytes) -> bytes:
    """What is still a document, with other content."""
    end = data.rstrip()
    other = b"2" if end.endswith(b"1") else b"1"
    return end[:-1] + other + data[len(end) :]


def spoil(data: bytes) -> bytes:
    """What is a document no more."""
    return b"\0" + data[1:]


@pytest.fixture
def uids(storage: Remote) -> list[str]:
    root = storage.model(1000)
    made = [publish(root, version=storage.version(), meta={"a": 1}) for _ in range(2)]
    audmodel.set_alias("alpha", made[0])
    return made


@pytest.mark.sample(1)
@pytest.mark.parametrize("change", [flip, spoil])
def test_alias(storage: Remote, uids: list[str], change: Callable[..., bytes]) -> None:
    damage = Damage("alpha-1.0.0.alias.yaml", change)
    with storage.fault(damage):
        with pytest.raises(errors.RepositoryError, match="checksum"):
            audmodel.resolve_alias("alpha")
        audmodel.set_alias("alpha", uids[1])
    assert not damage.is_there
    assert audmodel.resolve_alias("alpha") == uids[1]
    assert audmodel.aliases(uids[1]) == ["alpha"]


def test_alias_that_stays_what_it_was(storage: Remote, uids: list[str]) -> None:
    # Content that is right by chance, with a checksum that is not
    damage = Damage("alpha-1.0.0.alias.yaml", flip)
    with storage.fault(damage):
        audmodel.set_alias("alpha", uids[0])
    assert not damage.is_there
    assert audmodel.resolve_alias("alpha") == uids[0]


@pytest.mark.sample(1)
@pytest.mark.parametrize("change", [flip, spoil])
def test_metadata(
    storage: Remote, uids: list[str], change: Callable[..., bytes]
) -> None:
    damage = Damage(f"{uids[0]}.meta.yaml", change)
    with storage.fault(damage):
        with pytest.raises(errors.RepositoryError, match="checksum"):
            audmodel.meta(uids[0])
        # What is there cannot be kept
        with pytest.raises(errors.RepositoryError, match="checksum"):
            audmodel.update_meta(uids[0], {"b": 2})
        assert damage.is_there
        audmodel.update_meta(uids[0], {"b": 2}, replace=True)
    assert not damage.is_there
    assert audmodel.meta(uids[0]) == {"b": 2}


@pytest.mark.sample(1)
@pytest.mark.parametrize("change", [flip, spoil])
@pytest.mark.parametrize("which", [0, 1])
def test_list_of_aliases(
    storage: Remote, uids: list[str], change: Callable[..., bytes], which: int
) -> None:
    audmodel.set_alias("beta", uids[1])
    audmodel.set_alias("gamma", uids[0])
    short, _, version = uids[which].partition("-")
    damage = Damage(f"{short}.aliases-{version}.yaml", change)
    with storage.fault(damage):
        with pytest.raises(errors.RepositoryError, match="checksum"):
            audmodel.aliases(uids[which])
        audmodel.set_alias("alpha", uids[1])
    # It is made of what the aliases say
    assert not damage.is_there
    assert audmodel.aliases(uids[0]) == ["gamma"]
    assert audmodel.aliases(uids[1]) == ["alpha", "beta"]


@pytest.mark.sample(1)
def test_claim_of_a_dead_publisher(
    storage: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "TIMEOUT", 0.2)
    monkeypatch.setattr(claims, "_POLL_INTERVAL", 0.05)
    version = storage.version()
    uid = audmodel.uid("torch", {"sampling_rate": 16000}, version)
    short, _, version = uid.partition("-")
    with open_registry(storage.repository) as registry:
        path = layout.record_path(ModelId(short, version), "claim")
        assert registry.backend.create_object(path, b"host: a\nprocess: 1\n")
    damage = Damage(".claim.yaml", flip)
    with storage.fault(damage):
        assert publish(storage.model(1000), version=version) == uid
    assert audmodel.exists(uid)


@pytest.mark.sample(1)
def test_header(storage: Remote, uids: list[str]) -> None:
    with (
        storage.fault(Damage(f"{uids[0]}.header.yaml", flip)),
        pytest.raises(errors.RepositoryError, match="checksum"),
    ):
        audmodel.load(uids[0])


def test_damage_on_the_way(storage: Remote, uids: list[str]) -> None:
    left = [3]

    def change(data: bytes) -> bytes:
        left[0] -= 1
        return flip(data) if left[0] >= 0 else data

    with storage.fault(Damage("alpha-1.0.0.alias.yaml", change)):
        assert audmodel.resolve_alias("alpha") == uids[0]


# Odd files in a folder -------------------------------------------------------


@pytest.mark.parametrize("kind", [".meta.yaml", ".alias.yaml", ".aliases-1.0.0.yaml"])
def test_record_that_is_a_link_to_nothing(
    repository: audmodel.Repository, model_folder: Path, kind: str
) -> None:
    """It is neither there nor absent, so nobody else changes it."""
    uid = publish(model_folder, alias="best")
    [record] = Path(repository.host, repository.name).rglob(f"*{kind}")
    record.unlink()
    record.symlink_to("nowhere")
    changes: dict[str, Callable[[], object]] = {
        ".meta.yaml": lambda: audmodel.update_meta(uid, {"a": 1}),
        ".alias.yaml": lambda: audmodel.set_alias("best", uid),
        ".aliases-1.0.0.yaml": lambda: audmodel.set_alias("other", uid),
    }
    start = time.monotonic()
    with pytest.raises(errors.RepositoryError, match="link to 'nowhere'"):
        changes[kind]()
    assert time.monotonic() - start < 5


def test_folder_that_became_a_pipe(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    """Publishing fails, and does not wait for somebody to write into it."""
    uid = publish(model_folder)
    folder = Path(repository.host, repository.name, "_uid", *uid.split("-"))
    shutil.rmtree(folder)
    os.mkfifo(folder)
    with pytest.raises(errors.RepositoryError, match="exists"):
        publish(model_folder)
