"""Kill at every call to the operating system that changes the disk.

Nobody may ever see part of a model, and nobody has to tidy up: whatever is
done next succeeds and leaves nothing of the dead one.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
from pathlib import Path
import random
import shutil
import time
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.reliability.strace import CHANGING
from tests.reliability.strace import SYNCING
from tests.reliability.strace import Run
from tests.reliability.strace import Tracer


# Of each family of faults
pytestmark = pytest.mark.sample(1)


Count = Callable[[str, int], None]


@dataclass
class Place:
    """A repository and a cache that are as they were, again and again.

    Attributes:
        root: folder that both are in
        models: folders of two models of one ID
        repository: the repository

    """

    root: Path
    models: list[Path]
    repository: audmodel.Repository

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def keep(self) -> None:
        """Keep everything as it is now."""
        self.cache.mkdir(exist_ok=True)
        shutil.copytree(self.root, self._kept)

    def restore(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self._kept, self.root)

    @property
    def _kept(self) -> Path:
        return self.root.with_name("kept")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    models = [tmp_path / "model-0", tmp_path / "model-1"]
    pattern = random.Random(3)
    for number, model in enumerate(models):
        (model / "log").mkdir(parents=True)
        # Parts of their own, and small files that share a request
        (model / "large").write_bytes(pattern.randbytes(4_500_000))
        (model / "log" / "a").write_bytes(b"a" * 5000)
        (model / f"of-{number}").write_bytes(b"")
        (model / "run.sh").write_bytes(b"#!/bin/sh\n")
        (model / "run.sh").chmod(0o755)
    root = tmp_path / "place"
    (root / "host" / "models").mkdir(parents=True)
    repository = audmodel.Repository("models", str(root / "host"), "file-system")
    audmodel.config.REPOSITORIES = [repository]
    audmodel.config.CACHE_ROOT = str(root / "cache")
    return Place(root, models, repository)


def publish(place: Place, number: int = 0, version: str = "1.0.0") -> str:
    return audmodel.publish(
        str(place.models[number]),
        "torch",
        {},
        version,
        author=str(number),
        meta={"of": number},
    )


@dataclass
class Deaths:
    """Runs of code that are killed.

    Attributes:
        place: what is restored before each
        tracer: what runs the code
        chance: decides when, if not at a certain call
        torture: how much is tried
        count: learns of it

    """

    place: Place
    tracer: Tracer
    chance: random.Random
    torture: int
    count: Count

    def of(self, name: str, code: str, **arguments: Any) -> Iterator[Run]:
        """Runs that were killed before one call each, and at random times.

        Args:
            name: what it does
            code: what is killed
            **arguments: arguments of the code

        Yields:
            what became of each

        """
        self.place.keep()
        complete = self.tracer.run(code, watch=CHANGING + SYNCING, **arguments)
        assert complete.error is None, complete
        # Threads count for themselves, the first to reach a number is killed
        points = sorted({call.point for call in complete.calls if call.is_changing})
        assert len(points) > 5
        # They take turns in another order each time
        for call, number in points * (1 + self.torture):
            self.place.restore()
            inject = f"{call}:signal=KILL:when={number}"
            yield self._killed(
                f"{name}, at each call", code, inject=inject, **arguments
            )
        if not self.torture:
            return
        self.place.restore()
        start = time.monotonic()
        self.tracer.run(code, **arguments)
        seconds = time.monotonic() - start
        for _ in range(30 * self.torture):
            self.place.restore()
            after = self.chance.uniform(0.001, seconds)
            yield self._killed(
                f"{name}, at random times", code, after=after, **arguments
            )

    def _killed(self, what: str, code: str, **arguments: Any) -> Run:
        run = self.tracer.run(code, **arguments)
        assert run.was_killed or run.error is None, run
        self.count(f"kills of {what}", run.was_killed)
        return run


@pytest.fixture
def deaths(
    place: Place, tracer: Tracer, chance: random.Random, torture: int, count: Count
) -> Deaths:
    return Deaths(place, tracer, chance, torture, count)


def is_empty_of_temporaries(place: Place) -> bool:
    return not [path for path in place.root.rglob("*~*") if "kept" not in str(path)]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("state", ["empty", "resumed", "unverified", "seeded"])
def test_load(
    state: str,
    workers: int,
    place: Place,
    deaths: Deaths,
) -> None:
    uid = publish(place)
    folder = place.cache.joinpath(*uid.split("-"))
    expected = files(place.models[0])
    if state == "resumed":
        staging = folder.with_name(".1.0.0~left")
        shutil.copytree(place.models[0], staging)
        (staging / "large").write_bytes(bytes(4_500_000))
        (staging / "log" / "a").unlink()
    elif state == "unverified":
        audmodel.load(uid)
        marker = folder.with_name(".1.0.0.unsynced")
        marker.write_text("another start:" + marker.read_text().partition(":")[2])
        (folder / "log" / "a").write_bytes(bytes(5000))
    elif state == "seeded":
        with (place.models[0] / "large").open("r+b") as file:
            file.seek(4_400_000)
            file.write(b"another end")
        audmodel.load(publish(place, version="0.9.0"))
    code = """
        return audmodel.load(args["uid"], num_workers=args["workers"])
    """
    absent = 0
    for _ in deaths.of("load", code, uid=uid, workers=workers):
        unverified = state == "unverified" and folder.exists()
        if unverified and files(folder) != expected:
            # Not mended yet, but known
            assert "another start" in marker.read_text()
        elif folder.exists():
            assert files(folder) == expected
        else:
            absent += 1
        # One attempt takes over the files of another one
        assert len(list(folder.parent.glob(".1.0.0~*"))) <= 2
        start = time.monotonic()
        assert audmodel.load(uid, timeout=1) == str(folder)
        assert time.monotonic() - start < 5
        assert files(folder) == expected
        assert (folder / "run.sh").stat().st_mode & 0o100
        assert audmodel.header(uid)["author"] == "0"
        assert is_empty_of_temporaries(place)
    assert absent


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("state", ["new", "other version", "hard links"])
def test_load_to_a_folder(
    state: str,
    workers: int,
    place: Place,
    deaths: Deaths,
) -> None:
    uid = publish(place)
    to = place.root / "deployed"
    expected, before = files(place.models[0]), {}
    audmodel.load(uid)
    if state == "other version":
        audmodel.load(publish(place, 1, "2.0.0"), to=str(to))
        (to / "mine").write_bytes(b"mine")
        before = files(to)
    code = """
        return audmodel.load(
            args["uid"],
            to=args["to"],
            force=True,
            hardlinks=args["hardlinks"],
            num_workers=args["workers"],
        )
    """
    unfinished = 0
    for _ in deaths.of(
        "load to a folder",
        code,
        uid=uid,
        to=str(to),
        hardlinks=state == "hard links",
        workers=workers,
    ):
        # Each file is the old or the new one, and none is lost
        for name, data in files(to).items() if to.exists() else ():
            if not name.startswith(".audmodel~"):
                assert data in (before.get(name), expected.get(name))
        assert all((to / name).exists() for name in before)
        unfinished += not to.exists() or files(to) != {**before, **expected}
        assert audmodel.load(uid, to=str(to), force=True) == str(to)
        assert files(to) == {**before, **expected}
        assert (to / "run.sh").stat().st_mode & 0o100
        assert audmodel.verify(uid).ok
        assert is_empty_of_temporaries(place)
    assert unfinished


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("state", ["empty", "other version", "dead publisher"])
def test_publish(
    state: str,
    workers: int,
    place: Place,
    deaths: Deaths,
) -> None:
    others = {}
    if state == "other version":
        publish(place, version="0.9.0")
        audmodel.set_alias("best", audmodel.uid("torch", {}, "0.9.0"))
        others = content(place.repository)
    elif state == "dead publisher":
        run = deaths.tracer.run(
            PUBLISH,
            inject="link:signal=KILL:when=3",
            root=str(place.models[1]),
            number=1,
            workers=1,
        )
        assert run.was_killed
    uid = audmodel.uid("torch", {}, "1.0.0")
    arguments = {"root": str(place.models[0]), "number": 0, "workers": workers}
    absent = 0
    for _ in deaths.of("publish", PUBLISH, **arguments):
        winner = 0
        if not audmodel.exists(uid):
            absent += 1
            assert [v for v in audmodel.versions(uid) if v == "1.0.0"] == []
            # Something else, so that nothing of the dead one shines through
            winner = 1
            start = time.monotonic()
            assert publish(place, winner) == uid
            assert time.monotonic() - start < 5
            left = [
                path
                for path in place.root.rglob("*")
                if "~" in path.name or ".claim" in path.name
            ]
            assert not left, left
        assert files(audmodel.load(uid)) == files(place.models[winner])
        assert audmodel.author(uid) == str(winner)
        assert audmodel.meta(uid) == {"of": winner}
        # The alias comes last, and points to the model or to where it did
        targets = {uid} | {audmodel.uid("torch", {}, "0.9.0")} if others else {uid}
        try:
            assert audmodel.resolve_alias("best") in targets
        except audmodel.errors.AliasNotFoundError:
            assert not others
        audmodel.set_alias("best", uid)
        assert audmodel.aliases(uid) == ["best"]
        now = content(place.repository)
        for path, data in others.items():
            if "alias" not in path:
                assert now[path] == data
    assert absent


PUBLISH = """
    return audmodel.publish(
        args["root"],
        "torch",
        {},
        "1.0.0",
        author=str(args["number"]),
        meta={"of": args["number"]},
        alias="best",
        num_workers=args["workers"],
    )
"""


@pytest.mark.thorough
@pytest.mark.parametrize("state", ["new", "moved"])
def test_set_alias(
    state: str,
    place: Place,
    deaths: Deaths,
) -> None:
    uids = [publish(place, version=f"{n}.0.0") for n in range(2)]
    audmodel.set_alias("other", uids[0])
    if state == "moved":
        audmodel.set_alias("best", uids[0])
    code = "audmodel.set_alias('best', args['uid'])"
    for _ in deaths.of("set_alias", code, uid=uids[1]):
        target = None
        try:
            target = audmodel.resolve_alias("best")
            assert target in uids
        except audmodel.errors.AliasNotFoundError:
            assert state == "new"
        holders = [uid for uid in uids if "best" in audmodel.aliases(uid)]
        assert holders == ([target] if target else [])
        assert "other" in audmodel.aliases(uids[0])
        audmodel.set_alias("best", uids[1])
        assert audmodel.aliases(uids[0]) == ["other"]
        assert audmodel.aliases(uids[1]) == ["best"]
        # Whoever changes a record tidies up after who did so before
        for uid in uids:
            audmodel.set_alias("best", uid)
        assert is_empty_of_temporaries(place)


@pytest.mark.thorough
def test_update_meta(
    place: Place,
    deaths: Deaths,
) -> None:
    uid = publish(place)
    code = "audmodel.update_meta(args['uid'], {'b': 2})"
    for _ in deaths.of("update_meta", code, uid=uid):
        assert audmodel.meta(uid) in ({"of": 0}, {"of": 0, "b": 2})
        assert audmodel.update_meta(uid, {"c": 3})["c"] == 3
        assert audmodel.update_meta(uid, {"b": 2}) == {"of": 0, "b": 2, "c": 3}
        assert is_empty_of_temporaries(place)


@pytest.mark.thorough
@pytest.mark.parametrize("finish", ["delete", "publish", "clean up"])
def test_delete(finish: str, place: Place, deaths: Deaths) -> None:
    kept = publish(place, version="0.9.0")
    audmodel.set_alias("kept", kept)
    others = content(place.repository)
    uid = publish(place)
    audmodel.set_alias("best", uid)
    absent = 0
    for _ in deaths.of("delete", DELETE, uid=uid):
        if not audmodel.exists(uid):
            absent += 1
            with pytest.raises(audmodel.errors.ModelNotFoundError):
                audmodel.load(uid)
        else:
            assert files(audmodel.load("best")) == files(place.models[0])
            assert audmodel.meta("best") == {"of": 0}
            audmodel.remove_cached(uid)
        winner = finish_deletion(finish, place, uid)
        if winner is not None:
            assert files(audmodel.load(uid)) == files(place.models[winner])
            assert audmodel.meta(uid) == {"of": winner}
            audmodel.delete(uid, aliases=True)
        assert content(place.repository) == others
    assert absent


def finish_deletion(finish: str, place: Place, uid: str) -> int | None:
    """Finish a deletion whose process died.

    Returns:
        number of the model that is there in the end

    """
    exists = audmodel.exists(uid)
    start = time.monotonic()
    if finish == "publish":
        with contextlib.suppress(audmodel.errors.ModelExistsError):
            publish(place, 1)
    elif finish == "clean up":
        audmodel.leftovers(place.repository, remove=True, min_age=0)
    else:
        with contextlib.suppress(audmodel.errors.ModelNotFoundError):
            audmodel.delete(uid, aliases=True)
    assert time.monotonic() - start < 5
    if finish == "delete" or (finish == "clean up" and not exists):
        return None
    return 0 if exists else 1


DELETE = "audmodel.delete(args['uid'], aliases=True)"


@pytest.mark.thorough
@pytest.mark.parametrize("finish", ["copy", "publish", "clean up"])
def test_copy(finish: str, place: Place, deaths: Deaths, tmp_path: Path) -> None:
    (tmp_path / "source" / "models").mkdir(parents=True)
    source = audmodel.Repository("models", str(tmp_path / "source"), "file-system")
    target = place.repository
    uid = audmodel.publish(
        str(place.models[0]), "torch", {}, "1.0.0", repository=source, meta={"of": 0}
    )
    original = content(source)
    with source.connect() as backend:
        alias = f"uid: {uid}\n".encode()
        backend.create_object("/_alias/best/1.0.0/best-1.0.0.alias.yaml", alias)
    absent = 0
    for _ in deaths.of("copy", COPY, uid=uid, source=source.host, target=target.host):
        winner = 0
        exists = audmodel.exists(uid)
        if exists:
            assert content(target).items() >= original.items()
        else:
            absent += 1
            if finish == "clean up":
                audmodel.leftovers(target, remove=True, min_age=0)
            elif finish == "publish":
                start = time.monotonic()
                publish(place, 1)
                assert time.monotonic() - start < 5
                winner = 1
        if winner:
            with pytest.raises(audmodel.errors.ModelExistsError):
                audmodel.copy(uid, source, target)
        else:
            start = time.monotonic()
            audmodel.copy(uid, source, target, aliases=True)
            assert time.monotonic() - start < 5
            assert audmodel.resolve_alias("best") == uid
            assert content(target).items() >= original.items()
            # What comes after the header is not stored again
            assert exists or is_empty_of_temporaries(place)
        assert files(audmodel.load(uid)) == files(place.models[winner])
        assert audmodel.meta(uid) == {"of": winner}
    assert absent


COPY = """
    source, target = (
        audmodel.Repository("models", args[name], "file-system")
        for name in ("source", "target")
    )
    audmodel.copy(args["uid"], source, target, aliases=True, num_workers=2)
"""
