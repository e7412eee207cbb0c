"""Storages without conditional writes are recognised, each by its own mistake."""

from __future__ import annotations

import hashlib
import threading

import pytest

from audmodel.core.backend import conditions
from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.backend.objects import ObjectState
from audmodel.core.backend.objects import StoredObject


def races(data: bytes) -> bool:
    """Whether an object is that of one of several writers."""
    return data[:1].isdigit()


class Store:
    """Storage in memory that does what it should."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()

    @staticmethod
    def etag(data: bytes) -> str:
        return hashlib.md5(data).hexdigest()

    def etag_of(self, data: bytes) -> str:
        return self.etag(data)

    def read_object(self, path: str, limit: int) -> StoredObject | None:
        data = self.objects.get(path)
        return None if data is None else StoredObject(data, self.etag(data))

    def stat_object(self, path: str) -> ObjectState | None:
        raise NotImplementedError

    def create_object(self, path: str, data: bytes) -> bool:
        with self.lock:
            if path in self.objects:
                return False
            self.objects[path] = data
            return True

    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        with self.lock:
            if path not in self.objects or self.etag(self.objects[path]) != etag:
                return False
            self.objects[path] = data
            return True

    def delete_object(self, path: str, etag: str) -> bool:
        return self.objects.pop(path, None) is not None


class WithOtherEtags(Store):
    """Tags do not follow from the content alone, as with some encryption."""

    def etag_of(self, data: bytes) -> str:
        return "other"


class Overwriting(Store):
    def create_object(self, path: str, data: bytes) -> bool:
        self.objects[path] = data
        return True


class StoringThoseOfLosers(Store):
    def create_object(self, path: str, data: bytes) -> bool:
        won = super().create_object(path, data)
        self.objects[path] = data
        return won


class WithoutAnswers(Store):
    """All responses to one who creates are lost."""

    def create_object(self, path: str, data: bytes) -> bool:
        won = super().create_object(path, data)
        if not races(data):
            return won
        raise WriteUncertainError("There was no response.", None)


class BlockedWriters(WithoutAnswers):
    """Those who create wait for each other, and give up."""

    def create_object(self, path: str, data: bytes) -> bool:
        try:
            return super().create_object(path, data)
        except WriteUncertainError:
            raise RepositoryUnreachableError("It took too long.", None) from None


class StoringNothing(Store):
    def create_object(self, path: str, data: bytes) -> bool:
        return False if races(data) else super().create_object(path, data)


class ReplacingNothing(Store):
    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        return False


class ReplacingAnything(Store):
    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        if path not in self.objects:
            return False
        self.objects[path] = data
        return True


class ReplacingAtTheSameMoment(Store):
    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        if data == b"stale" or path not in self.objects:
            return False
        self.objects[path] = data
        return True


class ReplacingLate(Store):
    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        if data == b"stale":
            etag = self.etag(self.objects[path])
        return super().replace_object(path, data, etag)


class ReplacingWhatIsMissing(Store):
    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        if path not in self.objects:
            self.objects[path] = data
            return True
        return super().replace_object(path, data, etag)


class PretendingToReplaceWhatIsMissing(Store):
    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        return super().replace_object(path, data, etag) or path not in self.objects


class StoringWhatItRefuses(Store):
    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        if path not in self.objects:
            self.objects[path] = data
            return False
        return super().replace_object(path, data, etag)


class Unsupported(Store):
    def create_object(self, path: str, data: bytes) -> bool:
        raise conditions.UnsupportedError("no such header")

    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        raise conditions.UnsupportedError("no such header")


@pytest.mark.parametrize(
    ("store", "create", "replace", "missing"),
    [
        (Store(), True, True, True),
        (WithOtherEtags(), True, True, True),
        (Overwriting(), False, True, True),
        (StoringThoseOfLosers(), False, True, True),
        (WithoutAnswers(), True, True, True),
        (BlockedWriters(), True, True, True),
        (StoringNothing(), False, True, True),
        (ReplacingNothing(), True, False, True),
        (ReplacingAnything(), True, False, True),
        (ReplacingAtTheSameMoment(), True, False, True),
        (ReplacingLate(), True, False, True),
        (ReplacingWhatIsMissing(), True, True, False),
        (PretendingToReplaceWhatIsMissing(), True, True, False),
        (StoringWhatItRefuses(), True, True, False),
        (Unsupported(), False, False, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_storage(store: Store, create: bool, replace: bool, missing: bool) -> None:
    checks = conditions.check(store, racers=6, replacers=3)
    assert [check.name for check in checks] == [
        "create if absent",
        "replace if unchanged",
        "replace what is missing",
    ]
    assert [check.ok for check in checks] == [create, replace, missing]
    assert store.objects == {}


def test_winners_are_counted() -> None:
    created, replaced, _ = conditions.check(Store(), racers=6, replacers=3)
    assert created.seen == "1 of 6 concurrent writers succeeded"
    assert replaced.seen.startswith("1 of 3 concurrent writers succeeded")
    created, _, _ = conditions.check(Overwriting(), racers=6, replacers=3)
    assert created.seen == "6 of 6 concurrent writers succeeded"
    created, _, _ = conditions.check(StoringThoseOfLosers(), racers=6, replacers=3)
    assert created.seen == (
        "1 of 6 concurrent writers succeeded, but the object of another one is stored"
    )


@pytest.mark.parametrize("error", [RepositoryError, HiddenError])
def test_storage_that_fails_keeps_nothing(error: type[RepositoryError]) -> None:
    class Failing(Store):
        def replace_object(self, path: str, data: bytes, etag: str) -> bool:
            raise error("It failed.", None)

    store = Failing()
    with pytest.raises(error, match="It failed"):
        conditions.check(store, racers=6, replacers=3)
    assert store.objects == {}


def test_objects_that_cannot_be_removed_hide_no_error() -> None:
    class Failing(Store):
        def replace_object(self, path: str, data: bytes, etag: str) -> bool:
            raise RepositoryError("It failed.", None)

        def delete_object(self, path: str, etag: str) -> bool:
            if races(self.objects.get(path, b"")):
                return super().delete_object(path, etag)
            raise RepositoryError("It cannot be removed.", None)

    with pytest.raises(RepositoryError, match="It failed"):
        conditions.check(Failing(), racers=6, replacers=3)
