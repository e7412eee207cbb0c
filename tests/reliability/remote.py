"""Storages behind a proxy that answers wrongly, and what users do with them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
from dataclasses import field
import itertools
from pathlib import Path
import random
import time
from typing import Any
from typing import TypeVar

import pytest

import audmodel
from audmodel import errors
from audmodel.core.backend.http import pace
from audmodel.core.repository import changes
from audmodel.core.repository import registry
from tests.backends import artifactory_server
from tests.backends import seaweedfs
from tests.backends.forget import forget_servers
from tests.backends.proxy import Proxy
from tests.behaviour.backends import files
from tests.behaviour.backends import publish


# Seconds that a call may take with the patience that tests have
LIMIT = 15.0

T = TypeVar("T")


@dataclass
class Remote:
    """A repository behind a proxy.

    Args:
        repository: the repository, the only one configured
        proxy: what is in front of it
        folder: folder for models and caches

    """

    repository: audmodel.Repository
    proxy: Proxy
    folder: Path
    numbers: Iterator[int]
    made: dict[str, Any] = field(default_factory=dict)

    def cache(self) -> str:
        """A cache that was not used before."""
        return str(self.folder / f"cache{next(self.numbers)}")

    def model(self, size: int = 400_000) -> Path:
        """A model folder with content that was not used before."""
        number = next(self.numbers)
        root = self.folder / f"model{number}"
        (root / "sub").mkdir(parents=True)
        chance = random.Random(number)
        (root / "weights").write_bytes(chance.randbytes(size))
        (root / "sub" / "text").write_bytes(b"text " * 5000)
        return root

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What was made before, or is made now, for attempts that do not use it up."""
        if name not in self.made:
            self.made[name] = make()
        made: T = self.made[name]
        return made

    def version(self) -> str:
        """A version that was not used before."""
        return f"{next(self.numbers)}.0.0"

    @contextlib.contextmanager
    def fault(self, fault: Callable[..., object] | None) -> Iterator[list[str]]:
        """The proxy answers wrongly for a while."""
        self.proxy.fault = fault  # type: ignore[assignment]
        try:
            with self.proxy.counting() as requests:
                yield requests
        finally:
            self.proxy.fault = None


@contextlib.contextmanager
def remote(
    name: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Iterator[Remote]:
    """An empty repository on a kind of storage.

    Args:
        name: ``'s3'`` or ``'artifactory'``

    """
    with contextlib.ExitStack() as stack:
        if name == "s3":
            server = seaweedfs.shared()
            monkeypatch.setenv("MINIO_ACCESS_KEY", seaweedfs.ACCESS_KEY)
            monkeypatch.setenv("MINIO_SECRET_KEY", seaweedfs.SECRET_KEY)
            proxy = stack.enter_context(Proxy(server.host))
            repository = audmodel.Repository(server.bucket(), proxy.url, "s3")
        else:
            user = artifactory_server.User(f"secret{seaweedfs.CANARY}")
            monkeypatch.setenv("ARTIFACTORY_USERNAME", "tester")
            monkeypatch.setenv("ARTIFACTORY_API_KEY", user.secret)
            other = stack.enter_context(artifactory_server.artifactory(tester=user))
            proxy = stack.enter_context(Proxy(other.host))
            url = f"{proxy.url}/artifactory"
            repository = audmodel.Repository("models", url, "artifactory")
        audmodel.config.REPOSITORIES = [repository]
        audmodel.config.CACHE_ROOT = str(folder / "cache")
        # What comes too slowly is given up soon
        monkeypatch.setattr(pace, "STANDSTILL", 0.5)
        yield Remote(repository, proxy, folder, itertools.count())
        forget_servers()


@pytest.fixture(params=["s3", "artifactory"])
def storage(
    request: pytest.FixtureRequest,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Remote]:
    """A repository on each kind of storage."""
    # A storage that always lies looks like many others who change the same
    monkeypatch.setattr(changes, "_ATTEMPTS", 10)
    monkeypatch.setattr(registry, "_ATTEMPTS", 10)
    with remote(request.param, monkeypatch, tmp_path) as storage:
        yield storage


# What users do -----------------------------------------------------------------

# Prepares something, and gives a call and a look at what became of it.
# The look gets the error of the call, ``None`` if there was none.
Look = Callable[[errors.AudmodelError | None], None]
Operation = Callable[[Remote], tuple[Callable[[], object], Look]]


def loading(storage: Remote) -> tuple[Callable[[], object], Look]:
    def make() -> tuple[Path, str]:
        root = storage.model()
        return root, publish(root, version=storage.version())

    root, uid = storage.once("loaded", make)
    cache = storage.cache()

    def call() -> object:
        return audmodel.load(uid, cache_root=cache, num_workers=2)

    def look(error: errors.AudmodelError | None) -> None:
        if error is not None:
            # Nothing is visible but whole models
            short, version = uid.split("-")
            assert not list(Path(cache).glob(f"*/{short}/{version}"))
        assert files(audmodel.load(uid, cache_root=cache)) == files(root)

    return call, look


def publishing(storage: Remote) -> tuple[Callable[[], object], Look]:
    root, version = storage.model(), storage.version()
    alias = f"alias{version}"
    uid = audmodel.uid("torch", {"sampling_rate": 16000}, version)

    def call() -> object:
        return publish(root, version=version, alias=alias, meta={"a": 1})

    def look(error: errors.AudmodelError | None) -> None:
        # Nobody else was there
        assert not isinstance(
            error, errors.ModelExistsError | errors.PublishConflictError
        )
        if error is None:
            assert audmodel.resolve_alias(alias) == uid
            assert audmodel.aliases(uid) == [alias]
        elif not audmodel.exists(uid):
            # Whatever was left does no harm
            assert publish(root, version=version, meta={"a": 1}) == uid
        cache = storage.cache()
        assert files(audmodel.load(uid, cache_root=cache)) == files(root)
        assert audmodel.meta(uid) == {"a": 1}

    return call, look


def moving(storage: Remote) -> tuple[Callable[[], object], Look]:
    def make() -> list[str]:
        root = storage.model(1000)
        return [publish(root, version=storage.version()) for _ in range(2)]

    alias = "moving"
    old, new = storage.once("moved", make)
    audmodel.set_alias(alias, old)

    def call() -> object:
        audmodel.set_alias(alias, new, cache_root=storage.cache())
        return None

    def look(error: errors.AudmodelError | None) -> None:
        target = audmodel.resolve_alias(alias)
        assert target == new or (error is not None and target == old)
        assert audmodel.aliases(target) == [alias]
        audmodel.set_alias(alias, new)
        assert audmodel.aliases(new) == [alias]
        assert audmodel.aliases(old) == []

    return call, look


def updating(storage: Remote) -> tuple[Callable[[], object], Look]:
    uid = storage.once(
        "updated", lambda: publish(storage.model(1000), version=storage.version())
    )
    audmodel.update_meta(uid, {"a": 1}, replace=True)

    def call() -> object:
        return audmodel.update_meta(uid, {"b": 2}, cache_root=storage.cache())

    def look(error: errors.AudmodelError | None) -> None:
        meta = audmodel.meta(uid, cache_root=storage.cache())
        assert meta == {"a": 1, "b": 2} or (error is not None and meta == {"a": 1})

    return call, look


OPERATIONS: dict[str, Operation] = {
    "load": loading,
    "publish": publishing,
    "set_alias": moving,
    "update_meta": updating,
}


def requests_of(storage: Remote, operation: Operation) -> int:
    """Number of requests that a call takes."""
    call, look = operation(storage)
    with storage.fault(None) as requests:
        call()
    look(None)
    return len(requests)


def attempt(
    storage: Remote, operation: Operation, fault: Callable[..., object]
) -> errors.AudmodelError | None:
    """Do something while the proxy answers wrongly, and look at the outcome."""
    call, look = operation(storage)
    # Each holds its body
    storage.proxy.requests.clear()
    start = time.monotonic()
    error = None
    with storage.fault(fault):
        try:
            call()
        except errors.AudmodelError as caught:
            error = caught
    assert time.monotonic() - start < LIMIT
    look(error)
    return error
