"""Whatever happens in whatever order, the registry is what a dictionary says.

Two clients with caches of their own publish, load, change and tidy up, some of
their calls end early, caches are damaged, machines lose power. After each step
every model that was published is what it was, and nothing else is there.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any

import hypothesis
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.stateful import invariant
from hypothesis.stateful import precondition
from hypothesis.stateful import rule
from hypothesis.stateful import run_state_machine_as_test
import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.cache import marker as marker_module
from audmodel.core.repository import claim_record
from audmodel.core.repository import claims
from tests.behaviour.backends import file_system
from tests.behaviour.backends import files
from tests.behaviour.backends import s3


# Of each family of faults
pytestmark = pytest.mark.sample(1)


VERSIONS = strategies.sampled_from(["1.0.0", "1.1.0", "2.0.0"])
ALIASES = strategies.sampled_from(["best", "small"])
CLIENTS = strategies.sampled_from([0, 1])
KEYS = strategies.sampled_from(["a", "b"])
NUMBERS = strategies.integers(0, 9)

# Calls of a backend that a client may die at
CALLS = ("create_object", "replace_object", "write_object", "delete_object")


class DeathError(BaseException):
    """The client dies, whatever it wanted to do next."""


class Steps(RuleBasedStateMachine):
    """All steps that can be taken."""

    place: audmodel.Repository
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.root = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.name = f"n{type(self).steps}"
        self.prefix = f"{os.urandom(4).hex()}-"
        self.models: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, str] = {}
        self.starts = 0
        self._boot_id = disk.boot_id
        marker_module._verified.clear()

    def teardown(self) -> None:
        disk.boot_id = self._boot_id
        self.stack.close()

    # ------------------------------------------------------------ helpers

    def cache(self, client: int) -> str:
        return str(self.root / f"cache-{client}")

    def uid(self, version: str) -> str:
        return audmodel.uid("torch", {"of": self.prefix}, version)

    def folder(self, client: int, version: str) -> Path:
        return Path(self.cache(client)).joinpath(*self.uid(version).split("-"))

    def model(self, number: int) -> tuple[str, dict[str, bytes]]:
        root = self.root / f"model-{number}"
        content = {
            "a": bytes([number]) * 3000 * number,
            f"sub/of-{number}": b"",
            "large": bytes([number, 255]) * 200_000,
        }
        for name, data in content.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(root), content

    @contextlib.contextmanager
    def death(self, after: int, *, done: bool) -> Iterator[list[str]]:
        """Let the client die at a call of the backend.

        Its process is gone as well, so nobody takes its claim for alive.
        """
        made: list[str] = []
        cls: Any = type(self.backend())
        dead = False

        def dying(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(
                backend: ObjectBackend, path: str, *args: Any, **kwargs: Any
            ) -> Any:
                nonlocal dead
                if dead:
                    raise DeathError
                made.append(name)
                if len(made) > after:
                    dead = True
                    if done:
                        original(backend, path, *args, **kwargs)
                    raise DeathError
                return original(backend, path, *args, **kwargs)

            return call

        with pytest.MonkeyPatch.context() as patch:
            dump = claim_record.dump
            patch.setattr(
                claim_record,
                "dump",
                lambda *args, **kwargs: dump(*args, **kwargs).replace(
                    b"\nstart: ", b"\nstart: x"
                ),
            )
            for name in CALLS:
                patch.setattr(cls, name, dying(name, getattr(cls, name)))
            with contextlib.suppress(DeathError):
                yield made

    def backend(self) -> ObjectBackend:
        with self.place.connect() as backend:
            return backend

    # ------------------------------------------------------------ repository

    @rule(version=VERSIONS, number=NUMBERS, alias=strategies.none() | ALIASES)
    def publish(self, version: str, number: int, alias: str | None) -> None:
        root, content = self.model(number)
        arguments = (root, "torch", {"of": self.prefix}, version)
        meta = {"of": number}
        if version in self.models:
            with pytest.raises(audmodel.errors.ModelExistsError):
                audmodel.publish(*arguments, meta=meta)
            return
        name = self.prefix + alias if alias else None
        audmodel.publish(*arguments, meta=meta, alias=name, num_workers=2)
        self.models[version] = {"content": content, "meta": meta}
        if alias:
            self.aliases[alias] = version

    @rule(
        version=VERSIONS,
        number=NUMBERS,
        after=strategies.integers(0, 6),
        done=strategies.booleans(),
    )
    def publisher_dies(self, version: str, number: int, after: int, done: bool) -> None:
        if version in self.models:
            return
        root, content = self.model(number)
        with self.death(after, done=done):
            audmodel.publish(
                root, "torch", {"of": self.prefix}, version, meta={"of": number}
            )
        if audmodel.exists(self.uid(version)):
            self.models[version] = {"content": content, "meta": {"of": number}}

    @precondition(lambda self: self.models)
    @rule(
        data=strategies.data(), key=KEYS, number=NUMBERS, replace=strategies.booleans()
    )
    def update(
        self, data: strategies.DataObject, key: str, number: int, replace: bool
    ) -> None:
        version = data.draw(strategies.sampled_from(sorted(self.models)))
        meta = self.models[version]["meta"]
        expected = {key: number} if replace else {**meta, key: number}
        result = audmodel.update_meta(self.uid(version), {key: number}, replace=replace)
        assert result == expected
        self.models[version]["meta"] = expected

    @precondition(lambda self: self.models)
    @rule(
        data=strategies.data(),
        alias=ALIASES,
        after=strategies.integers(0, 4) | strategies.just(99),
        done=strategies.booleans(),
    )
    def move_alias(
        self, data: strategies.DataObject, alias: str, after: int, done: bool
    ) -> None:
        version = data.draw(strategies.sampled_from(sorted(self.models)))
        with self.death(after, done=done) as made:
            audmodel.set_alias(self.prefix + alias, self.uid(version))
        if len(made) <= after:
            self.aliases[alias] = version
            return
        # It was moved, or it was not
        before = self.aliases.get(alias)
        try:
            target = audmodel.resolve_alias(self.prefix + alias)
        except audmodel.errors.AliasNotFoundError:
            assert before is None
            return
        if target == self.uid(version):
            self.aliases[alias] = version
        else:
            assert before is not None
            assert target == self.uid(before)

    # ------------------------------------------------------------ caches

    @rule(client=CLIENTS, version=VERSIONS, workers=strategies.integers(1, 3))
    def load(self, client: int, version: str, workers: int) -> None:
        if version not in self.models:
            with pytest.raises(audmodel.errors.ModelNotFoundError):
                audmodel.load(self.uid(version), cache_root=self.cache(client))
            return
        root = audmodel.load(
            self.uid(version), cache_root=self.cache(client), num_workers=workers
        )
        assert root == str(self.folder(client, version))
        assert files(root) == self.models[version]["content"]
        assert not list(Path(root).parent.glob(f".{version}~*"))

    @precondition(lambda self: self.models)
    @rule(data=strategies.data(), client=CLIENTS, writes=strategies.integers(0, 5))
    def loader_dies(
        self, data: strategies.DataObject, client: int, writes: int
    ) -> None:
        version = data.draw(strategies.sampled_from(sorted(self.models)))
        pwrite, left = os.pwrite, writes

        def write(*args: Any) -> int:
            nonlocal left
            left -= 1
            if left < 0:
                raise DeathError
            return pwrite(*args)

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(DeathError):
            patch.setattr(os, "pwrite", write)
            audmodel.load(self.uid(version), cache_root=self.cache(client))

    @rule(client=CLIENTS, version=VERSIONS)
    def evict(self, client: int, version: str) -> None:
        shutil.rmtree(self.folder(client, version), ignore_errors=True)

    @rule(
        client=CLIENTS,
        version=VERSIONS,
        name=strategies.sampled_from(["a", "large"]),
        length=strategies.integers(0, 500_000),
    )
    def lose_power(self, client: int, version: str, name: str, length: int) -> None:
        self.starts += 1
        start = f"start-{self.starts}"
        disk.boot_id = lambda: start  # type: ignore[assignment]
        marker_module._verified.clear()
        # What was loaded before may not have reached the disk, if nobody
        # has looked at it since an earlier start
        folder = self.folder(client, version)
        if folder.with_name(f".{version}.unsynced").exists() and folder.exists():
            path = folder / name
            size = path.stat().st_size
            os.truncate(path, min(length, size))
            os.truncate(path, size)

    @rule(client=CLIENTS, version=VERSIONS, junk=strategies.binary(max_size=20))
    def spoil(self, client: int, version: str, junk: bytes) -> None:
        """Write into what is only a copy, or not finished."""
        folder = self.folder(client, version)
        paths = [folder.with_name(f"{version}.header.yaml")]
        for staging in folder.parent.glob(f".{version}~*"):
            paths += [path for path in staging.rglob("*") if path.is_file()]
        for path in paths:
            if path.exists():
                path.write_bytes(junk)

    # ------------------------------------------------------------ what holds

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        type(self).steps += 1
        assert audmodel.versions(self.uid("1.0.0").split("-")[0]) == sorted(self.models)
        for version, model in self.models.items():
            uid = self.uid(version)
            assert audmodel.meta(uid, cache_root=self.cache(0)) == model["meta"]
            pointing = [a for a, target in self.aliases.items() if target == version]
            listed = audmodel.aliases(uid, cache_root=self.cache(0))
            assert listed == sorted(self.prefix + alias for alias in pointing)
        for alias, version in self.aliases.items():
            assert audmodel.resolve_alias(self.prefix + alias) == self.uid(version)

    @invariant()
    def loaded_models_are_whole(self) -> None:
        for version, model in self.models.items():
            folder = self.folder(1, version)
            marker = folder.with_name(f".{version}.unsynced")
            is_known = not marker.exists() or marker.read_text().startswith(
                disk.boot_id() + ":"
            )
            if folder.exists() and is_known:
                assert files(folder) == model["content"]


@pytest.mark.parametrize("backend", ["file-system", "s3"])
def test_registry_is_a_dictionary(
    backend: str,
    request: pytest.FixtureRequest,
    cache: Path,
    seed: int,
    torture: int,
    count: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A publisher from before the power failed may be one on another machine
    monkeypatch.setattr(claims, "TIMEOUT", 0.05)
    monkeypatch.setattr(claims, "_POLL_INTERVAL", 0.01)
    enter = {"file-system": file_system, "s3": s3}[backend]
    examples, length = (15, 20) if backend == "file-system" else (3, 15)
    if torture:
        examples, length = (200, 80) if backend == "file-system" else (20, 50)
    with enter(request) as place:
        audmodel.config.REPOSITORIES = [place]
        Steps.place = place
        Steps.steps = 0
        machine = hypothesis.seed(seed)(Steps)
        run_state_machine_as_test(
            machine,
            settings=hypothesis.settings(
                max_examples=examples * (torture or 1),
                stateful_step_count=length,
                deadline=None,
                # A failure is printed as it is, to make it smaller takes long
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            ),
        )
    count(
        f"random steps compared with a dictionary ({backend})",
        Steps.steps,
    )
