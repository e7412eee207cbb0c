"""Kill clients of an S3 storage before and after each of their requests.

What a server got it may have done, though nobody is there to learn of it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
import itertools
import os
from pathlib import Path
import random
import shutil
import signal
import threading
import time
from typing import Any

import pytest

import audmodel
from tests.backends import seaweedfs
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.proxy import Forward
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.conftest import ROOT
from tests.reliability.remote import Remote
from tests.reliability.remote import remote
from tests.reliability.strace import MODULES
from tests.reliability.strace import Tracer


# Of each family of faults
pytestmark = pytest.mark.sample(1)


Count = Callable[[str, int], None]
# Prepares a run of some code, and gives its arguments
Prepare = Callable[[], dict[str, Any]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracer]:
    """Processes that have imported everything, and met no server yet."""
    environment = {
        "PYTHONPATH": str(ROOT),
        "MINIO_ACCESS_KEY": seaweedfs.ACCESS_KEY,
        "MINIO_SECRET_KEY": seaweedfs.SECRET_KEY,
    }
    modules = [
        *MODULES,
        "audmodel.core.backend.s3.backend",
        "audmodel.core.backend.s3.client",
    ]
    folder = tmp_path_factory.mktemp("client")
    with Tracer(environment, folder, modules=modules) as client:
        yield client


class Killer:
    """Proxy that kills the client at one of its requests.

    Args:
        number: number of the request, from 0
        late: whether the server gets the request before

    """

    def __init__(self, number: int | None = None, *, late: bool = False) -> None:
        self._number = number
        self._late = late
        self._process = 0
        self._seen = itertools.count()
        self._busy = 0
        self._is_dead = False
        self._changed = threading.Condition()

    def aim(self, process: int) -> None:
        self._process = process

    def __call__(self, _: Request, forward: Forward) -> Response | None:
        with self._changed:
            if self._is_dead:
                return None
            is_last = next(self._seen) == self._number
            self._is_dead = is_last
            self._busy += 1
        try:
            if not is_last:
                return forward()
            if self._late:
                forward()
            os.kill(self._process, signal.SIGKILL)
            return None
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def settle(self) -> None:
        """Wait until the server has done all that it was asked for."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._busy, timeout=30)


@dataclass
class Deaths:
    """Clients that die.

    Attributes:
        storage: repository
        client: what runs the code
        chance: decides what is tried if there is little time, and when
        torture: how much is tried
        count: learns of it

    """

    storage: Remote
    client: Tracer
    chance: random.Random
    torture: int
    count: Count

    def of(self, code: str, prepare: Prepare) -> Iterator[tuple[bool, Any]]:
        """Run code until its client dies, in all ways.

        Args:
            code: body of a function
            prepare: prepares the next run, gives arguments of the code

        Yields:
            whether it was killed, and its arguments

        """
        start = time.monotonic()
        arguments = prepare()
        with self.storage.fault(None) as requests:
            run = self.client.run(code, **arguments)
        seconds = time.monotonic() - start
        assert run.error is None, run
        yield False, arguments
        points = list(itertools.product(range(len(requests)), (False, True)))
        if not self.torture:
            # The first one leaves nothing, whatever the others do
            points = [points[0], *self.chance.sample(points[1:], 2)]
        for number, late in points * max(1, self.torture):
            yield self._kill(code, prepare(), Killer(number, late=late))
        for _ in range(20 * self.torture):
            after = self.chance.uniform(0.001, seconds)
            yield self._kill(code, prepare(), Killer(), after)

    def _kill(
        self, code: str, arguments: Any, killer: Killer, after: float | None = None
    ) -> tuple[bool, Any]:
        with self.storage.fault(killer):
            run = self.client.run(code, started=killer.aim, after=after, **arguments)
            killer.settle()
        assert run.was_killed or run.error is None, run
        kind = "before and after each request" if after is None else "at random times"
        self.count(f"kills of clients of S3, {kind}", run.was_killed)
        return run.was_killed, arguments


@pytest.fixture
def deaths(
    client: Tracer,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    chance: random.Random,
    torture: int,
    count: Count,
) -> Iterator[Deaths]:
    with remote("s3", monkeypatch, tmp_path) as storage:
        yield Deaths(storage, client, chance, torture, count)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("is_seeded", [False, True])
def test_load(workers: int, is_seeded: bool, deaths: Deaths) -> None:
    storage = deaths.storage
    # Two parts, of which another model has the first one, and a small file
    root = storage.model(4_500_000)
    other = None
    if is_seeded:
        other = publish(root, params={}, version=storage.version())
        with (root / "weights").open("r+b") as file:
            file.seek(4_400_000)
            file.write(b"another end")
    uid = publish(root, version=storage.version())
    expected = files(root)
    code = """
        return audmodel.load(args["uid"], num_workers=args["workers"])
    """
    absent = 0

    def prepare() -> dict[str, Any]:
        cache = storage.cache()
        if other:
            audmodel.load(other, cache_root=cache)
        return {"uid": uid, "workers": workers, "cache_root": cache}

    planned = audmodel.plan_load(uid, cache_root=prepare()["cache_root"])
    assert (planned.bytes < 1_000_000) == is_seeded

    for was_killed, arguments in deaths.of(code, prepare):
        cache = Path(arguments["cache_root"])
        folder = cache.joinpath(*uid.split("-"))
        assert was_killed or folder.exists()
        assert not folder.exists() or files(folder) == expected
        absent += not folder.exists()
        assert files(audmodel.load(uid, cache_root=str(cache), timeout=1)) == expected
        if other:
            assert audmodel.verify(other, cache_root=str(cache)).ok
        assert not list(cache.rglob("*~*"))
        shutil.rmtree(cache)
    assert absent


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("has_base", [False, True])
def test_publish(workers: int, has_base: bool, deaths: Deaths) -> None:
    storage = deaths.storage
    roots = [storage.model(8_000_000) for _ in range(2)]
    expected = [files(root) for root in roots]
    base = publish(roots[0], params={}, version=storage.version()) if has_base else None
    # Several parts
    code = """
        from audmodel.core.backend.s3 import upload as s3_upload
        from audmodel.core.operations import base
        s3_upload.PART_SIZE = 5 << 20
        base._LARGE = 1000
        return audmodel.publish(
            args["root"],
            "torch",
            {},
            args["version"],
            author="0",
            meta={"of": 0},
            alias=f"best-{args['version']}",
            num_workers=args["workers"],
            base=args["base"],
        )
    """
    absent = 0

    def prepare() -> dict[str, Any]:
        return {
            "root": str(roots[0]),
            "version": storage.version(),
            "workers": workers,
            "base": base,
        }

    for was_killed, arguments in deaths.of(code, prepare):
        version = arguments["version"]
        uid, alias = audmodel.uid("torch", {}, version), f"best-{version}"
        winner = 0
        if not audmodel.exists(uid):
            absent += 1
            assert was_killed
            assert version not in audmodel.versions(uid)
            # Something else, so that nothing of the dead one shines through
            winner = 1
            start = time.monotonic()
            publish(roots[1], params={}, version=version, author="1", meta={"of": 1})
            assert time.monotonic() - start < 5
        cache = storage.cache()
        assert files(audmodel.load(uid, cache_root=cache)) == expected[winner]
        shutil.rmtree(cache)
        assert audmodel.author(uid) == str(winner)
        assert audmodel.meta(uid) == {"of": winner}
        # The alias comes last, and points to the model if there is one
        try:
            assert audmodel.resolve_alias(alias) == uid
        except audmodel.errors.AliasNotFoundError:
            assert was_killed
        audmodel.set_alias(alias, uid)
        assert audmodel.aliases(uid) == [alias]
    assert absent
    audmodel.leftovers(storage.repository, remove=True, min_age=0)
    assert audmodel.leftovers(storage.repository, min_age=0) == []


@pytest.mark.thorough
def test_set_alias(deaths: Deaths) -> None:
    storage = deaths.storage
    root = storage.model(1000)
    *uids, other = (publish(root, version=storage.version()) for _ in range(3))
    code = "audmodel.set_alias(args['alias'], args['uid'])"
    is_moved = itertools.cycle([True, False])

    def prepare() -> dict[str, Any]:
        alias = f"alias-{storage.version()}"
        is_new = not next(is_moved)
        if not is_new:
            audmodel.set_alias(alias, uids[0])
        return {"alias": alias, "uid": uids[1], "is_new": is_new}

    for was_killed, arguments in deaths.of(code, prepare):
        alias = arguments["alias"]
        target = None
        try:
            target = audmodel.resolve_alias(alias)
        except audmodel.errors.AliasNotFoundError:
            assert arguments["is_new"]
        assert target == uids[1] or was_killed
        holders = [uid for uid in uids if alias in audmodel.aliases(uid)]
        assert holders == ([target] if target else [])
        audmodel.set_alias(alias, uids[1])
        assert [audmodel.aliases(uid) for uid in uids] == [[], [alias]]
        audmodel.set_alias(alias, other)


@pytest.mark.thorough
def test_update_meta(deaths: Deaths) -> None:
    uid = publish(deaths.storage.model(1000), version=deaths.storage.version())
    code = "audmodel.update_meta(args['uid'], {'b': args['b']})"
    numbers = itertools.count(1)

    def prepare() -> dict[str, Any]:
        number = next(numbers)
        audmodel.update_meta(uid, {"a": number, "b": 0})
        return {"uid": uid, "b": number}

    for was_killed, arguments in deaths.of(code, prepare):
        number = arguments["b"]
        meta = audmodel.meta(uid)
        assert meta["a"] == number
        assert meta["b"] == number or (was_killed and meta["b"] == 0)
        assert audmodel.update_meta(uid, {"b": number})["b"] == number


@pytest.mark.thorough
def test_delete(deaths: Deaths) -> None:
    storage = deaths.storage
    roots = [storage.model(1000) for _ in range(2)]
    code = "audmodel.delete(args['uid'], aliases=True)"

    def prepare() -> dict[str, Any]:
        version = storage.version()
        uid = publish(roots[0], version=version, alias=f"best-{version}")
        return {"uid": uid, "version": version}

    finishes = itertools.cycle(["delete", "publish", "clean up"])
    absent = 0
    for was_killed, arguments in deaths.of(code, prepare):
        uid, version = arguments["uid"], arguments["version"]
        exists = audmodel.exists(uid)
        absent += not exists
        assert was_killed or not exists
        cache = storage.cache()
        if exists:
            loaded = audmodel.load(f"best-{version}", cache_root=cache)
            assert files(loaded) == files(roots[0])
            shutil.rmtree(cache)
        finish = next(finishes)
        start = time.monotonic()
        if finish == "publish" and not exists:
            publish(roots[1], version=version)
            assert files(audmodel.load(uid, cache_root=cache)) == files(roots[1])
        elif finish == "clean up":
            audmodel.leftovers(storage.repository, remove=True, min_age=0)
        assert time.monotonic() - start < 5
        try:
            audmodel.delete(uid, aliases=True)
        except audmodel.errors.ModelNotFoundError:
            assert not exists
        assert content(storage.repository) == {}
    assert absent


@pytest.mark.thorough
def test_copy(deaths: Deaths, tmp_path: Path) -> None:
    place = deaths.storage
    (tmp_path / "source" / "models").mkdir(parents=True)
    source = audmodel.Repository("models", str(tmp_path / "source"), "file-system")
    root = place.model(9_000_000)
    code = """
        target = audmodel.config.REPOSITORIES[0]
        source = audmodel.Repository("models", args["source"], "file-system")
        audmodel.copy(args["uid"], source, target, num_workers=2)
    """
    absent = 0

    def prepare() -> dict[str, Any]:
        uid = publish(root, version=place.version(), repository=source)
        return {"uid": uid, "source": source.host}

    for was_killed, arguments in deaths.of(code, prepare):
        uid = arguments["uid"]
        exists = audmodel.exists(uid)
        absent += not exists
        assert was_killed or exists
        start = time.monotonic()
        [copied] = audmodel.copy(uid, source, place.repository, num_workers=2)
        assert time.monotonic() - start < 8
        assert copied.copied != exists
        cache = place.cache()
        assert files(audmodel.load(uid, cache_root=cache)) == files(root)
        shutil.rmtree(cache)
    assert absent
    audmodel.leftovers(place.repository, remove=True, min_age=0)
    assert content(place.repository) == content(source)
