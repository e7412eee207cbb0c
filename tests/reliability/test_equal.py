"""Every road leads to the same answer, and it is the right one.

Random calls are made on all backends at once, each by some road:
the Python function, the command line, or a process with the command line.
The answers are compared with each other, with what the files on the disk say,
and with dictionaries that hold what was published.

``SEED`` tries the same once more.
What a step does follows from the seed and the number of the step,
so that ``STEPS=3,17,20`` tries whether fewer steps fail as well.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
from dataclasses import dataclass
import io
import itertools
import json
import os
from pathlib import Path
import random
import re
import shutil
from typing import Any
import uuid

import pytest

import audmodel
from audmodel.core.backend.reader import TAIL
from tests.behaviour.backends import BACKENDS
from tests.behaviour.backends import files
from tests.reliability.roads import CACHE
from tests.reliability.roads import FOLDER
from tests.reliability.roads import REPOSITORY
from tests.reliability.roads import SOURCE
from tests.reliability.roads import TARGET
from tests.reliability.roads import Call
from tests.reliability.roads import Outcome
from tests.reliability.roads import World
from tests.reliability.roads import ask
from tests.reliability.roads import record


PART = 4 << 20
NAMES = (
    "a",
    "b.txt",
    "B/upper",
    ".hidden",
    ".git/config",
    "-dash",
    "--help",
    "with space",
    "'quoted\"",
    "[a].txt",
    "star*",
    "what?",
    "ä/ö/ü",
    "日本語.bin",
    "deep/er/and/deep/er",
    "deep/file",
    "x~",
    "+files",
    "1.0.0.header.yaml",
    "%41",
    "é" * 60,
    "n" * 200,
)
SIZES = (0, 1, 100, 1000, 70_000)
LARGE = (300_000, PART - 1, PART, PART + 1, PART + 300_000)
# From oldest to newest
VERSIONS = ("1.0.0", "1.0.0-prod", "2.0.0", "10.0.0")
VALUES = (
    None,
    True,
    False,
    0,
    -1,
    2**70,
    0.1,
    -0.0,
    1e-300,
    1e300,
    "",
    "text",
    "1.0",
    "yes",
    "null",
    " space ",
    "two\nlines\n",
    "tab\t",
    "ä ö 日本 😀",
    "'\"`",
    "- a: b",
    "#",
    "2026-01-31",
    "\x85\u2028",
)
KEYS = ("a", "b", "c d", "ä", "yes", "1", "")
DAMAGES = (
    *["missing", "truncated", "changed"] * 2,
    "folder",
    "link",
    "mode",
    "extra",
)


@dataclass
class Model:
    """What was published."""

    content: dict[str, bytes]
    programs: set[str]
    header: dict[str, Any]
    meta: dict[str, Any]

    @property
    def names(self) -> list[str]:
        return sorted(self.content)


def content_of(kind: str, size: int, chance: random.Random) -> bytes:
    if kind == "noise":
        return chance.randbytes(size)
    if kind == "zeros":
        return bytes(size)
    return (f"line {chance.random()}\n".encode() * (size // 6 + 1))[:size]


def dictionary(chance: random.Random, depth: int = 2) -> dict[str, Any]:
    """Some data as parameters and metadata have it."""
    result: dict[str, Any] = {}
    for key in chance.sample(KEYS, chance.randint(0, 3)):
        kind = chance.randint(0, 3) if depth else 3
        if kind == 0:
            result[key] = dictionary(chance, depth - 1)
        elif kind == 1:
            result[key] = [*chance.choices(VALUES, k=2), dictionary(chance, depth - 1)]
        else:
            result[key] = chance.choice(VALUES)
    return result


def merged(old: Any, new: Any) -> Any:
    """What dictionaries say together, the new one goes first."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {
            key: merged(old[key], new[key])
            if key in old and key in new
            else {**old, **new}[key]
            for key in {**old, **new}
        }
    return new


class Roads:
    """All that can be asked."""

    def __init__(
        self,
        repositories: dict[str, audmodel.Repository],
        root: Path,
        name: str,
        fetched: list[int],
    ) -> None:
        self.root = root
        # No other sequence of steps has models of this name
        self.name = name
        self.worlds = [
            World(name, repository, root / f"cache-{name}")
            for name, repository in repositories.items()
        ]
        # Where is asked right now
        self.world = self.worlds[0]
        self.fetched = fetched
        self.chance = random.Random()
        self.asked = 0
        self.models: dict[str, Model] = {}
        self.aliases: dict[str, str] = {}
        # Where an alias points to, and would after one rollback after the other
        self.moves: dict[str, list[str]] = {}
        # Models that were copied, and the aliases of the copies
        self.copies: set[str] = set()
        self.copied_aliases: dict[str, str] = {}
        # Files whose content was changed in the cache
        self.changed: set[tuple[str, str]] = set()
        self.last = ""
        # File that was damaged in the last step
        self.damaged_file = ""
        # Of the last question: what was taken, and how many bytes it took
        self.roads: dict[str, str] = {}
        self.counts: dict[str, int] = {}

    def step(self, chance: random.Random) -> str:
        """Take one step.

        Returns:
            its name

        """
        self.chance = chance
        if not self.models:
            steps = [self.publish]
        elif self.damaged_file and chance.random() < 0.8:
            steps = [self.load, self.load, self.stream, self.open, self.verify]
        else:
            steps = [
                *[self.publish] * 2,
                self.update_meta,
                self.set_alias,
                self.rollback,
                self.resolve,
                self.copy,
                self.delete,
                *[self.describe] * 3,
                *[self.load] * 4,
                self.load_to_folder,
                *[self.stream] * 2,
                self.open,
                self.ask_for_no_file,
                self.verify,
                self.verify_remote,
                self.cached,
                self.remove_cached,
                self.prune_cache,
                self.work_offline,
                *[self.damage] * (6 if self.loaded() else 0),
            ]
        step = chance.choice(steps)
        step()
        if step != self.damage:
            self.damaged_file = ""
        self.check_caches()
        return step.__name__

    # ------------------------------------------------------------ helpers

    def ask(self, call: Call) -> Outcome:
        """Ask on all backends, and compare the answers."""
        outcomes: dict[str, Outcome] = {}
        for world in self.worlds:
            weights = [10, 10, 1] if call.command else [1, 0, 0]
            (road,) = self.chance.choices(["python", "main", "process"], weights)
            self.world = world
            self.fetched.clear()
            outcomes[world.name] = ask(world, call, road)
            self.roads[world.name] = road
            self.counts[world.name] = sum(self.fetched)
            self.asked += 1
        first, *others = outcomes.values()
        assert first.code in (0, 1, 3, 4, 5, 6), first
        for other in others:
            assert other[:2] == first[:2], (self.roads, outcomes)
            # The command line may suggest something
            short, long = sorted((first.message, other.message), key=len)
            assert long.startswith(short), (self.roads, outcomes)
            assert bool(short) == bool(long), (self.roads, outcomes)
        return first

    def value(self, call: Call) -> Any:
        """Ask for something that there is."""
        outcome = self.ask(call)
        assert outcome.code == 0, (self.roads, outcome)
        return outcome.value

    def some_model(self) -> str:
        """Mostly that of the last step, as what came before makes a difference."""
        is_free = not self.damaged_file and self.chance.random() < 0.3
        if self.last not in self.models or is_free:
            self.last = self.chance.choice(sorted(self.models))
        return self.last

    def given(self, uid: str) -> str:
        """ID of a model, or an alias."""
        aliases = [name for name, target in self.aliases.items() if target == uid]
        return self.chance.choice([uid, *sorted(aliases)])

    def patterns(self, uid: str) -> tuple[list[str] | None, list[str]]:
        """Patterns, and files that match them."""
        names = self.models[uid].names
        if self.chance.random() < 0.5:
            return None, names
        chosen = self.chance.sample(names, self.chance.randint(1, len(names)))
        if self.damaged_file in names and self.damaged_file not in chosen:
            chosen.append(self.damaged_file)
        return [escaped(name) for name in chosen], sorted(chosen)

    def workers(self) -> int:
        return self.chance.randint(1, 4)

    def folders(self, uid: str) -> Iterator[tuple[Path, Path]]:
        """Folders of the whole model, and of some of its files, in each cache."""
        for world in self.worlds:
            whole = world.cache.joinpath(*uid.split("-", 1))
            yield whole, whole.with_name(f".{whole.name}+files")

    def loaded(self) -> list[tuple[str, int, str]]:
        """Files that are in all caches, in the one folder or the other."""
        return [
            (uid, number, name)
            for uid, model in sorted(self.models.items())
            for number in (0, 1)
            for name in model.names
            if all(is_file(pair[number] / name) for pair in self.folders(uid))
        ]

    def has_attempts(self) -> bool:
        return any(list(world.cache.glob("*/.*~*")) for world in self.worlds)

    def check_files(self, uid: str, root: str, names: list[str]) -> None:
        """Files that were handed out are what was published, in all caches."""
        for world in self.worlds:
            folder = Path(root.replace("<cache>", str(world.cache)))
            for name in names:
                assert is_file(folder / name), folder / name
                self.check_content(uid, name, (folder / name).read_bytes())

    def check_content(self, uid: str, name: str, content: bytes) -> None:
        is_right = content == self.models[uid].content[name]
        assert is_right or (uid, name) in self.changed, (uid, name)

    def check_caches(self) -> None:
        """Nothing is wrong in a cache but what was damaged here."""
        for uid, model in self.models.items():
            for folder in itertools.chain.from_iterable(self.folders(uid)):
                for name, content in files(folder).items():
                    right = model.content.get(name)
                    if right is not None and len(content) == len(right):
                        self.check_content(uid, name, content)

    # ------------------------------------------------------------ publish

    def publish(self) -> None:
        chance, workers = self.chance, self.workers()
        version = chance.choice(VERSIONS)
        content, programs, root = self.folder()
        short = chance.randint(0, 1)
        params = {"short": short, **({"x": [1, {"": 0.5}], "ä": "1"} if short else {})}
        meta = dictionary(chance)
        level = chance.choice([0, 1, 6])
        alias = self.alias() if chance.random() < 0.3 else None
        (self.root / "params.json").write_text(json.dumps(params))
        (self.root / "meta.json").write_text(json.dumps(meta))
        outcome = self.ask(
            Call(
                lambda: audmodel.publish(
                    str(root),
                    self.name,
                    params,
                    version,
                    author="tester",
                    date="2026-01-31",
                    subgroup="a.b",
                    compression=level,
                    meta=meta,
                    alias=alias,
                    num_workers=workers,
                ),
                [
                    "publish",
                    str(root),
                    f"--name={self.name}",
                    f"--version={version}",
                    f"--params={self.root}/params.json",
                    f"--meta={self.root}/meta.json",
                    "--author=tester",
                    "--date=2026-01-31",
                    "--subgroup=a.b",
                    f"--compression={level}",
                    f"--num-workers={workers}",
                    *([] if alias is None else [f"--alias={alias}"]),
                    REPOSITORY,
                ],
                lambda data: data["uid"],
            )
        )
        shutil.rmtree(root)
        uid = audmodel.uid(self.name, params, version, subgroup="a.b")
        if not content:
            assert outcome.code == 1, outcome
        elif uid in self.models:
            assert outcome.code == 5, outcome
        else:
            assert outcome == Outcome(0, uid)
            header = {
                "name": self.name,
                "subgroup": "a.b",
                "version": version,
                "parameters": params,
                "author": "tester",
                "date": "2026-01-31",
            }
            self.models[uid] = Model(content, programs, header, meta)
            if alias is not None:
                self.move(alias, uid)

    def folder(self) -> tuple[dict[str, bytes], set[str], Path]:
        """Folder to publish, with empty folders that are left out."""
        chance, root = self.chance, self.root / "folder"
        (root / "empty" / "folder").mkdir(parents=True)
        content = {}
        programs = set()
        for number, name in enumerate(chance.sample(NAMES, chance.randint(0, 6))):
            is_large = number == 0 and chance.random() < 0.6
            size = chance.choice(LARGE if is_large else SIZES)
            kind = chance.choice(["noise", "noise", "zeros", "text"])
            content[name] = content_of(kind, size, chance)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content[name])
            if chance.random() < 0.3:
                programs.add(name)
                (root / name).chmod(0o755)
        return content, programs, root

    def alias(self) -> str:
        return f"{self.name}-{self.chance.choice(['best', 'small'])}"

    def update_meta(self) -> None:
        uid, new = self.some_model(), dictionary(self.chance)
        replace = self.chance.random() < 0.5
        path = self.root / "new.json"
        path.write_text(json.dumps(new))
        options = ["--replace"] if replace else []
        model = self.models[uid]
        model.meta = new if replace else merged(model.meta, new)
        call = Call(
            lambda: audmodel.update_meta(uid, new, replace=replace),
            ["meta", "update", uid, str(path), *options, CACHE, REPOSITORY],
        )
        assert self.value(call) == model.meta

    def set_alias(self) -> None:
        uid, name = self.some_model(), self.alias()

        def python() -> Any:
            audmodel.set_alias(name, uid)
            return uid

        call = Call(
            python,
            ["alias", "set", name, uid, CACHE, REPOSITORY],
            lambda data: data["uid"],
        )
        assert self.value(call) == uid
        self.move(name, uid)

    def move(self, name: str, uid: str) -> None:
        """Take note that an alias points to a model."""
        moves = self.moves.setdefault(name, [])
        if self.aliases.get(name) != uid:
            moves.append(uid)
        self.aliases[name] = uid

    def rollback(self) -> None:
        name = self.alias()
        outcome = self.ask(
            Call(
                lambda: audmodel.rollback(name),
                ["alias", "rollback", name, REPOSITORY],
                lambda data: data["uid"],
            )
        )
        moves = self.moves.get(name, [])
        if len(moves) < 2 or moves[-2] not in self.models:
            assert outcome[:2] == (1, None), outcome
            return
        moves.pop()
        self.aliases[name] = moves[-1]
        assert outcome == Outcome(0, moves[-1])

    # ------------------------------------------------------------ whole models

    def copy(self) -> None:
        uid, workers = self.some_model(), self.workers()
        given, with_aliases = self.given(uid), self.chance.random() < 0.5

        def python() -> Any:
            source, target = self.world.repository, self.world.other
            copied = audmodel.copy(
                [given], source, target, aliases=with_aliases, num_workers=workers
            )
            return read(map(record, copied))

        def read(copied: Iterable[dict[str, Any]]) -> Any:
            return [
                [model[key] for key in ("uid", "copied", "aliases")] for model in copied
            ]

        options = [f"--num-workers={workers}", *(["--aliases"] if with_aliases else [])]
        command = ["copy", given, SOURCE, TARGET, *options]
        lacking = [
            name
            for name, target in sorted(self.aliases.items())
            if target == uid and self.copied_aliases.get(name) != uid
        ]
        names = lacking if with_aliases else []
        expected = [[uid, uid not in self.copies, names]]
        assert self.value(Call(python, command, read)) == expected
        self.copies.add(uid)
        self.copied_aliases |= dict.fromkeys(names, uid)
        for world in self.worlds:
            world.enter()
            other = world.other
            assert audmodel.verify(uid, remote=True, repository=other).ok
            header = audmodel.header(uid, repository=world.repository)
            assert audmodel.header(uid, repository=other) == header
            assert audmodel.all_aliases(repository=other) == self.copied_aliases

    def delete(self) -> None:
        uid = self.some_model()
        with_aliases, is_dry = self.chance.random() < 0.7, self.chance.random() < 0.3
        options = ["--aliases"] * with_aliases + ["--dry-run"] * is_dry

        def python() -> Any:
            found = audmodel.delete(uid, aliases=with_aliases, dry_run=is_dry)
            return read(map(record, found))

        def read(deleted: Iterable[dict[str, Any]]) -> Any:
            return [[model["uid"], model["aliases"]] for model in deleted]

        names = sorted(name for name, target in self.aliases.items() if target == uid)
        outcome = self.ask(Call(python, ["delete", uid, *options, REPOSITORY], read))
        if names and not with_aliases:
            assert outcome.code == 5, outcome
            return
        assert outcome == Outcome(0, [[uid, names]])
        if is_dry:
            return
        for world in self.worlds:
            world.enter()
            assert not audmodel.exists(uid)
            if uid in self.copies:
                audmodel.delete(uid, aliases=True, repository=world.other)
            with contextlib.suppress(audmodel.errors.NotCachedError):
                audmodel.remove_cached(uid)
        self.check_removed(uid)
        del self.models[uid]
        self.copies.discard(uid)
        self.copied_aliases = {
            name: target
            for name, target in self.copied_aliases.items()
            if target != uid
        }
        for name in names:
            del self.aliases[name], self.moves[name]

    # ------------------------------------------------------------ describe

    def describe(self) -> None:
        uid = self.some_model()
        short, _, _ = uid.partition("-")
        model = self.models[uid]
        versions = [v for v in VERSIONS if f"{short}-{v}" in self.models]
        aliases = sorted(name for name, target in self.aliases.items() if target == uid)
        words = [uid, CACHE, REPOSITORY]
        call, expected = self.chance.choice(
            [
                (
                    Call(
                        lambda: audmodel.header(uid),
                        ["info", *words],
                        lambda info: {key: info[key] for key in model.header},
                    ),
                    model.header,
                ),
                (
                    Call(
                        lambda: audmodel.size(uid),
                        ["info", *words],
                        lambda info: info["size"],
                    ),
                    self.size(uid),
                ),
                (
                    Call(lambda: audmodel.meta(uid), ["meta", "show", *words]),
                    model.meta,
                ),
                (
                    Call(
                        lambda: audmodel.aliases(uid),
                        ["alias", "ls", *words],
                        lambda data: [item["alias"] for item in data],
                    ),
                    aliases,
                ),
                (
                    Call(
                        lambda: sizes(map(record, audmodel.files(uid))), read=sizes
                    )._replace(command=["files", *words]),
                    [[name, len(model.content[name])] for name in model.names],
                ),
                (
                    Call(
                        lambda: audmodel.versions(short),
                        ["versions", short, REPOSITORY],
                    ),
                    versions,
                ),
                (
                    Call(
                        lambda: sorted(m.uid for m in audmodel.models(name=self.name)),
                        ["ls", f"--name={self.name}", CACHE, REPOSITORY],
                        lambda data: sorted(model["uid"] for model in data),
                    ),
                    sorted(self.models),
                ),
            ]
        )
        assert self.value(call) == expected

    def size(self, uid: str) -> int:
        """Bytes of an archive, which is the same on all backends."""
        self.worlds[0].enter()
        return os.path.getsize(audmodel.url(uid))

    def resolve(self) -> None:
        name = self.alias()
        outcome = self.ask(
            Call(
                lambda: audmodel.resolve_alias(name),
                ["alias", "resolve", name, REPOSITORY],
                lambda data: data["uid"],
            )
        )
        expected = self.aliases.get(name)
        assert outcome[:2] == ((0, expected) if expected else (1, None)), outcome

    # ------------------------------------------------------------ load

    def load(self) -> None:
        uid, workers = self.some_model(), self.workers()
        given, (patterns, names) = self.given(uid), self.patterns(uid)
        is_list = self.chance.random() < 0.3
        planned = self.plan(uid, given, patterns, workers)

        def python() -> Any:
            if is_list:
                return audmodel.load([given], files=patterns, num_workers=workers)[0]
            return audmodel.load(given, files=patterns, num_workers=workers)

        options = [f"--file={pattern}" for pattern in patterns or ()]
        command = [
            "load",
            given,
            *options,
            f"--num-workers={workers}",
            CACHE,
            REPOSITORY,
        ]
        root = self.value(Call(python, command, lambda data: data[0]["path"]))
        self.check_files(uid, root, names)
        if planned is not None and self.roads["file-system"] != "process":
            # What lies in the end of the archive is not read again from a folder
            assert 0 <= planned - self.counts["file-system"] < TAIL
        assert self.plan(uid, given, patterns, workers) == 0

    def load_to_folder(self) -> None:
        uid, workers = self.some_model(), self.workers()
        given, (patterns, names) = self.given(uid), self.patterns(uid)
        for world in self.worlds:
            shutil.rmtree(world.folder, ignore_errors=True)

        def python() -> Any:
            folder = str(self.world.folder)
            return audmodel.load(given, files=patterns, to=folder, num_workers=workers)

        options = [f"--file={pattern}" for pattern in patterns or ()]
        options.append(f"--num-workers={workers}")
        command = ["load", given, *options, FOLDER, CACHE, REPOSITORY]
        call = Call(python, command, lambda data: data[0]["path"])
        # What is there already is no obstacle
        for _ in range(2):
            assert self.value(call) == "<folder>"
            for world in self.worlds:
                placed = files(world.folder)
                assert sorted(placed) == names
                for name, content in placed.items():
                    self.check_content(uid, name, content)

    def plan(
        self, uid: str, given: str, patterns: list[str] | None, workers: int
    ) -> int | None:
        """Bytes that a load from a folder fetches beside the end of the archive.

        It is ``None`` if that is an estimate.
        """
        transfers: list[dict[str, Any]] = []

        def read(transfer: dict[str, Any]) -> dict[str, Any]:
            transfers.append(transfer)
            # What is not finished, and storages without ranges, make a difference
            return {key: transfer[key] for key in ("uid", "files", "size")}

        def python() -> Any:
            return read(
                record(audmodel.plan_load(given, files=patterns, num_workers=workers))
            )

        options = [f"--file={pattern}" for pattern in patterns or ()]
        options += ["--dry-run", f"--num-workers={workers}"]
        command = ["load", given, *options, CACHE, REPOSITORY]
        self.value(Call(python, command, lambda data: read(data[0])))
        with_ranges = [
            transfer
            for world, transfer in zip(self.worlds, transfers, strict=True)
            if world.name != "plain"
        ]
        if not self.has_attempts():
            assert with_ranges == with_ranges[:1] * len(with_ranges)
        transfer = with_ranges[0]
        if not transfer["exact"]:
            return None
        self.worlds[0].enter()
        end = min(TAIL, os.path.getsize(audmodel.url(uid))) if transfer["bytes"] else 0
        return int(transfer["bytes"]) - end

    def stream(self) -> None:
        uid, workers = self.some_model(), self.workers()
        given, (patterns, names) = self.given(uid), self.patterns(uid)
        ahead = self.chance.choice([1, 2, 64])
        most = self.chance.choice([None, None, 0, 1, 2])

        def python() -> Any:
            paths = audmodel.stream(
                given, files=patterns, num_workers=workers, ahead=ahead
            )
            with contextlib.closing(paths):
                return list(itertools.islice(paths, most))

        paths = self.value(Call(python))
        assert len(paths) == len(names[:most])
        for path, name in zip(paths, names):
            assert path.endswith(f"/{name}")
            self.check_files(uid, path[: -len(name) - 1], [name])

    def open(self) -> None:
        uid, workers = self.some_model(), self.workers()
        given = self.given(uid)
        name = self.damaged_file or self.chance.choice(self.models[uid].names)
        content = self.models[uid].content[name]
        reads = [
            (
                self.chance.randint(0, len(content) + 10),
                self.chance.choice([0, 1, 1000, PART, -1]),
            )
            for _ in range(self.chance.randint(1, 4))
        ]

        def python() -> Any:
            pieces = []
            with audmodel.open(given, name, num_workers=workers) as file:
                assert file.size == len(content)
                for position, length in reads:
                    file.seek(position)
                    pieces.append(file.read(length))
            return pieces

        pieces = self.value(Call(python))
        truth = io.BytesIO(content)
        for (position, length), piece in zip(reads, pieces, strict=True):
            truth.seek(position)
            assert piece == truth.read(length) or (uid, name) in self.changed

    def ask_for_no_file(self) -> None:
        uid = self.some_model()
        for call in (
            Call(
                lambda: audmodel.load(uid, files="nothing"),
                ["load", uid, "--file=nothing", CACHE, REPOSITORY],
            ),
            Call(lambda: audmodel.plan_load(uid, files="nothing")),
            Call(lambda: list(audmodel.stream(uid, files="nothing"))),
            Call(lambda: audmodel.open(uid, "nothing")),
        ):
            outcome = self.ask(call)
            assert outcome.code == 1
            assert uid in outcome.message

    # ------------------------------------------------------------ caches

    def damage(self) -> None:
        uid, number, name = self.chance.choice(self.loaded())
        self.last = uid
        kind = self.chance.choice(DAMAGES)
        for folders in self.folders(uid):
            damage(folders[number], name, kind)
        self.damaged_file = name
        if kind == "changed":
            self.changed.add((uid, name))

    def verify(self) -> None:
        uid, workers = self.some_model(), self.workers()
        is_repair = self.chance.random() < 0.5

        def python() -> Any:
            [result] = audmodel.verify([uid], num_workers=workers, repair=is_repair)
            return {"ok": result.ok, **record(result)}

        options = [f"--num-workers={workers}", *(["--repair"] if is_repair else [])]
        command = ["verify", uid, *options, CACHE, REPOSITORY]
        expected = [self.damaged(uid, *folders) for folders in self.folders(uid)]
        outcome = self.ask(Call(python, command, lambda data: data[0]))
        if expected[0] is None:
            assert outcome[:2] == (1, None), outcome
            return
        found = {item["path"]: item["problem"] for item in outcome.value["damaged"]}
        assert expected == [found] * len(expected)
        assert outcome.value["ok"] is (is_repair or not found)
        assert outcome.value["repaired"] is (is_repair and bool(found))
        if is_repair:
            for folders in self.folders(uid):
                assert not self.damaged(uid, *folders)

    def damaged(self, uid: str, whole: Path, partial: Path) -> dict[str, str] | None:
        """What is wrong with a model in a cache, nothing if it is not there."""
        model = self.models[uid]
        folder = whole if whole.is_dir() else partial
        if not folder.is_dir():
            return None
        found = {}
        for name, content in model.content.items():
            path = folder / name
            if not os.path.lexists(path):
                if folder == whole:
                    found[name] = "missing"
            elif not is_file(path):
                found[name] = "kind"
            elif path.stat().st_size != len(content):
                found[name] = "size"
            elif path.read_bytes() != content:
                found[name] = "content"
            elif name in model.programs and not path.stat().st_mode & 0o100:
                found[name] = "mode"
        return found

    def verify_remote(self) -> None:
        uid = self.some_model()
        call = Call(
            lambda: audmodel.verify(uid, remote=True).ok,
            ["verify", uid, "--remote", CACHE, REPOSITORY],
            lambda data: data[0]["ok"],
        )
        assert self.value(call) is True

    def cached(self) -> None:
        call = Call(
            lambda: finished(map(record, audmodel.cached())),
            ["cache", "ls", CACHE],
            finished,
        )
        found = self.value(call)
        expected = {}
        for uid in self.models:
            for pair in self.folders(uid):
                # A model whose files were all removed is one that is damaged
                is_whole, is_partial = map(Path.is_dir, pair)
                if is_whole or is_partial:
                    # A file with two names counts once
                    sizes_of_files = inodes(pair[0]) | inodes(pair[1])
                    expected[uid] = sum(sizes_of_files.values()), not is_whole
        assert {m["uid"]: (m["size"], m["partial"]) for m in found} == expected

    def remove_cached(self) -> None:
        uid = self.some_model()
        call = Call(
            lambda: finished(map(record, audmodel.remove_cached([uid, uid]))),
            ["cache", "rm", uid, CACHE, REPOSITORY],
            finished,
        )
        if self.has_attempts():
            # They are not in all caches
            for world in self.worlds:
                ask(world, call, "python")
        else:
            assert self.ask(call).code in (0, 1)
        self.check_removed(uid)

    def prune_cache(self) -> None:
        is_dry = self.chance.random() < 0.5
        options = ["--dry-run"] if is_dry else []
        call = Call(
            lambda: finished(
                map(record, audmodel.prune_cache(max_size=0, dry_run=is_dry))
            ),
            ["cache", "prune", "--max-size=0B", *options, CACHE],
            finished,
        )
        found = {model["uid"] for model in self.value(call)}
        assert found <= set(self.models)
        if not is_dry:
            for uid in self.models:
                self.check_removed(uid)

    def check_removed(self, uid: str) -> None:
        for folder in itertools.chain.from_iterable(self.folders(uid)):
            assert not inodes(folder)
        self.changed = {item for item in self.changed if item[0] != uid}

    def work_offline(self) -> None:
        """What is in the cache can be used, nothing else is handed out."""
        uid, workers = self.some_model(), self.workers()
        patterns, names = self.patterns(uid)

        def stream() -> Any:
            paths = audmodel.stream(uid, files=patterns, num_workers=workers)
            pairs = zip(paths, names, strict=True)
            (root,) = {path.removesuffix(f"/{name}") for path, name in pairs}
            return root

        def load() -> Any:
            return audmodel.load(uid, files=patterns, num_workers=workers)

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AUDMODEL_OFFLINE", "1")
            # A folder needs no connection
            for world in self.worlds[1:]:
                for call in (load, stream):
                    outcome = ask(world, Call(call), "python")
                    if outcome.code:
                        assert "AUDMODEL_OFFLINE" in outcome.message, outcome
                    else:
                        self.check_files(uid, outcome.value, names)


def damage(folder: Path, name: str, kind: str) -> None:
    """Let something happen to a file in a cache."""
    path = folder / name
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        os.truncate(path, path.stat().st_size * 98 // 100)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "link":
        elsewhere = folder.parents[1] / f"elsewhere-{uuid.uuid4()}"
        path.replace(elsewhere)
        path.symlink_to(elsewhere)
    elif kind == "mode":
        path.chmod(0o644)
    elif kind == "extra":
        (folder / "extra").touch()
    elif size := path.stat().st_size:
        with path.open("r+b") as file:
            file.seek(size // 2)
            byte = file.read(1)
            file.seek(size // 2)
            file.write(bytes([byte[0] ^ 1]))


def is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def inodes(folder: Path) -> dict[int, int]:
    """Sizes of all files in a folder, by what tells them apart."""
    statuses = [path.stat() for path in folder.rglob("*") if is_file(path)]
    return {status.st_ino: status.st_size for status in statuses}


def sizes(found: Iterable[dict[str, Any]]) -> list[list[Any]]:
    return [[file["path"], file["size"]] for file in found]


def finished(models: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was loaded. Attempts depend on how fast workers were."""
    found = [
        {key: model[key] for key in ("uid", "path", "size", "partial")}
        for model in models
        if not model["unfinished"]
    ]
    return sorted(found, key=lambda model: str(model["uid"]))


def escaped(name: str) -> str:
    """Pattern that matches a name, and nothing else."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def test_all_roads_are_equal(
    request: pytest.FixtureRequest,
    cache: Path,
    tmp_path: Path,
    seed: int,
    torture: int,
    count: Callable[[str, int], None],
    fetched: list[int],
) -> None:
    sequences, length = (60 * torture, 60) if torture else (1, 30)
    chosen = os.environ.get("STEPS")
    numbers = range(length) if chosen is None else map(int, chosen.split(","))
    with contextlib.ExitStack() as stack:
        repositories = {
            name: stack.enter_context(enter(request))
            for name, enter in BACKENDS.items()
        }
        for sequence in range(sequences):
            root = tmp_path / f"sequence-{sequence}"
            root.mkdir()
            name = f"n{seed + sequence}"
            roads = Roads(repositories, root, name, fetched)
            for number in numbers:
                step = roads.step(random.Random(f"{seed + sequence}-{number}"))
                print(f"SEED={seed + sequence} step {number}: {step}")  # noqa: T201
            count("answers by several roads that were compared", roads.asked)
            shutil.rmtree(root)
