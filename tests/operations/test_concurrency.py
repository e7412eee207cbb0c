"""Many processes at once, and processes that are killed."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import errno
import os
from pathlib import Path
import socket
import subprocess
import time
from typing import Any
from typing import ClassVar

import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.objects import StoredObject
from audmodel.core.repository import claim_record
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document
from audmodel.errors import ModelExistsError
from audmodel.errors import PublishConflictError
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.processes import Interpreter
from tests.threads import only_here


@pytest.fixture(autouse=True)
def claims_are_looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_POLL_INTERVAL", 0.05)


# Several processes ---------------------------------------------------------


@pytest.mark.thorough
def test_aliases_are_consistent_in_the_end(
    repository: audmodel.Repository, python: Interpreter, model_folder: Path
) -> None:
    uids = [publish(model_folder, version=f"{n}.0.0") for n in range(3)]
    code = """
        barrier("start")
        for n in range(8):
            for alias in ("a", "b", "c"):
                audmodel.set_alias(alias, args["uids"][(args["number"] + n) % 3])
        audmodel.set_alias(f"own-{args['number']}", args["uids"][0])
    """
    python.run_many(code, 8, uids=uids)
    for alias in ("a", "b", "c"):
        target = audmodel.resolve_alias(alias)
        assert [uid for uid in uids if alias in audmodel.aliases(uid)] == [target]
    own = [alias for alias in audmodel.aliases(uids[0]) if alias.startswith("own-")]
    assert own == [f"own-{number}" for number in range(8)]
    # Also in what earlier releases read
    for n, uid in enumerate(uids):
        short = uid.split("-")[0]
        path = f"/_uid/{short}.aliases/{n}.0.0/{short}.aliases-{n}.0.0.yaml"
        lines = content(repository)[path].decode().split()
        assert sorted(set(lines) - {"aliases:", "-", "[]"}) == audmodel.aliases(uid)


def test_readers_see_old_or_new_but_nothing_else(
    repository: audmodel.Repository, python: Interpreter, model_folder: Path
) -> None:
    uids = [publish(model_folder, version=f"{n}.0.0", meta={"n": n}) for n in range(2)]
    audmodel.set_alias("best", uids[0])
    code = """
        barrier("start")
        if args["number"] == 0:
            for n in range(30):
                audmodel.set_alias("best", args["uids"][n % 2])
                audmodel.update_meta(args["uids"][0], {"n": n, "filler": "x" * n * 100})
            open(os.path.join(args["folder"], "done"), "w").close()
        else:
            while not os.path.exists(os.path.join(args["folder"], "done")):
                assert audmodel.resolve_alias("best") in args["uids"]
                meta = audmodel.meta(args["uids"][0])
                assert len(meta.get("filler", "")) in (0, meta["n"] * 100)
                assert os.path.isdir(audmodel.load("best"))
    """
    python.run_many(code, 3, uids=uids)


def test_threads_of_a_new_process(
    repository: audmodel.Repository, python: Interpreter, model_folder: Path
) -> None:
    uid = publish(model_folder)
    code = """
        from concurrent.futures import ThreadPoolExecutor
        import sys
        sys.setswitchinterval(1e-6)
        def ask(number):
            return [audmodel.exists(args["uid"]), audmodel.load(args["uid"])]
        with ThreadPoolExecutor(16) as executor:
            return list(executor.map(ask, range(16)))
    """
    assert python.run(code, uid=uid) == [[True, audmodel.load(uid)]] * 16


# Publishers that stop ------------------------------------------------------


def claim_path(uid: str) -> str:
    short, version = uid.split("-")
    return f"/_uid/{short}/{version}/{uid}.claim.yaml"


STOP = """
    import signal
    import socket
    from audmodel.core.repository import claims
    from audmodel.core.backend.filesystem import FileSystem
    claims.RENEW_INTERVAL = 0.1
    if args["signal"] == "SIGSTOP":
        # On this machine it would be seen to be alive
        socket.gethostname = lambda: "elsewhere"
    class Stopping(FileSystem):
        def write_object(self, path, chunks, **kwargs):
            if args["when"] == "before " + path[-3:]:
                self.stop()
            if args["when"] == "within " + path[-3:]:
                chunks = list(chunks)
                self.stop()
            etag = super().write_object(path, chunks, **kwargs)
            if args["when"] == "after " + path[-3:]:
                self.stop()
            return etag
        def create_object(self, path, data):
            kind = path.split(".")[-2]
            if args["when"] == "before " + kind:
                self.stop()
            created = super().create_object(path, data)
            if args["when"] == "after " + kind:
                self.stop()
            return created
        def stop(self):
            os.kill(os.getpid(), getattr(signal, args["signal"]))
    audmodel.Repository.register("file-system", Stopping)
    audmodel.publish(args["root"], "torch", {}, "1.0.0", meta={"a": 1})
"""


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "when",
    ["after claim", "before zip", "within zip", "after zip", "after meta"],
)
def test_killed_publisher(
    repository: audmodel.Repository,
    python: Interpreter,
    model_folder: Path,
    tmp_path: Path,
    when: str,
) -> None:
    uid = audmodel.uid("torch", {}, "1.0.0")
    root = tmp_path / "killed"
    root.mkdir()
    (root / "file").write_bytes(b"of the dead")
    python.start(STOP, when=when, signal="SIGKILL", root=str(root)).errors()
    assert claim_path(uid) in content(repository)
    assert not audmodel.exists(uid)
    assert audmodel.versions(uid) == []
    # Nobody waits for the dead
    start = time.monotonic()
    assert audmodel.publish(str(model_folder), "torch", {}, "1.0.0") == uid
    assert time.monotonic() - start < 5
    assert files(audmodel.load(uid)) == files(model_folder)
    assert audmodel.meta(uid) == {}
    # No file is left of either, hidden ones included
    short = uid.split("-")[0]
    assert sorted(content(repository)) == [
        f"/_uid/{short}/1.0.0/{uid}.header.yaml",
        f"/_uid/{short}/1.0.0/{uid}.meta.yaml",
        f"/torch/{short}/1.0.0/{uid}.zip",
    ]


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "when",
    ["before zip", "after zip", "before meta", "after meta", "before header"],
)
def test_publisher_that_was_taken_for_dead(
    repository: audmodel.Repository,
    python: Interpreter,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    monkeypatch.setattr(claims, "TIMEOUT", 0.1)
    root = tmp_path / "stopped"
    root.mkdir()
    (root / "file").write_bytes(b"of the sleeper")
    process = python.start(STOP, when=when, signal="SIGSTOP", root=str(root))
    status = f"/proc/{process.process.pid}/status"
    deadline = time.monotonic() + 30
    while "T (stopped)" not in Path(status).read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    uid = audmodel.publish(str(model_folder), "torch", {}, "1.0.0", meta={"b": 2})
    before = content(repository)
    process.process.send_signal(18)
    errors = process.errors()
    assert "ModelExistsError" in errors or "PublishConflictError" in errors
    # The sleeper left everything of the other one alone
    assert content(repository) == before
    assert audmodel.meta(uid) == {"b": 2}
    assert files(audmodel.load(uid)) == files(model_folder)


def test_publisher_that_gives_signs_of_life(
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = audmodel.uid("torch", {}, "1.0.0")
    signs = iter(range(100))

    class Renewing(FileSystem):
        def read_object(self, path: str, limit: int) -> Any:
            if path == claim_path(uid):
                self.write_object(path, [f"host: other\nid: {next(signs)}\n".encode()])
            return super().read_object(path, limit)

    with repository.connect() as backend:
        backend.create_object(claim_path(uid), b"host: other\nid: 0\nprocess: 1\n")
    audmodel.Repository.register("file-system", Renewing)
    with pytest.raises(
        audmodel.errors.PublishConflictError, match=r"'other'.*at the mom"
    ):
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert list(content(repository)) == [claim_path(uid)]


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "claim",
    [
        b"host: other\nprocess: 1\nid: x\n",
        b"process: 99999999999999999999999\n",
        b"process: -1\n",
        b"process: [1]\n",
        b"garbage: [",
        b"",
    ],
)
def test_claim_of_another_machine_expires(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    claim: bytes,
) -> None:
    monkeypatch.setattr(claims, "TIMEOUT", 0.3)
    uid = audmodel.uid("torch", {}, "1.0.0")
    with repository.connect() as backend:
        backend.create_object(claim_path(uid), claim)
    start = time.monotonic()
    assert audmodel.publish(str(model_folder), "torch", {}, "1.0.0") == uid
    assert time.monotonic() - start > 0.3
    assert len([r for r in caplog.records if uid in r.getMessage()]) == 1
    assert files(audmodel.load(uid)) == files(model_folder)


def test_claim_that_goes_away_is_waited_for(
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = audmodel.uid("torch", {}, "1.0.0")
    reads = []

    class Finishing(FileSystem):
        def read_object(self, path: str, limit: int) -> Any:
            if path == claim_path(uid):
                reads.append(path)
                if len(reads) == 3:
                    self.delete_object(path, ANY)
            return super().read_object(path, limit)

    with repository.connect() as backend:
        backend.create_object(claim_path(uid), b"host: other\nprocess: 1\n")
    audmodel.Repository.register("file-system", Finishing)
    assert audmodel.publish(str(model_folder), "torch", {}, "1.0.0") == uid


@pytest.mark.parametrize("process", [2**22 + 1, 1])
def test_claim_of_a_container_with_the_same_host_name(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    process: int,
) -> None:
    # Its processes are alive, though they cannot be seen from here
    monkeypatch.setattr(claims, "TIMEOUT", 0.3)
    uid = audmodel.uid("torch", {}, "1.0.0")
    claim = f"host: {socket.gethostname()}\nprocess: {process}\nspace: other\n"
    with repository.connect() as backend:
        backend.create_object(claim_path(uid), claim.encode())
    start = time.monotonic()
    audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert time.monotonic() - start > 0.3


def test_claim_that_was_renewed_without_an_answer(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "RENEW_INTERVAL", -1.0)
    replace_object = FileSystem.replace_object
    calls = []

    def lose(self: FileSystem, path: str, data: bytes, etag: str) -> bool:
        done = replace_object(self, path, data, etag)
        calls.append(path)
        if len(calls) == 1:
            raise audmodel.errors.RepositoryError("There was no answer.")
        return done

    monkeypatch.setattr(FileSystem, "replace_object", lose)
    with pytest.raises(audmodel.errors.RepositoryError, match="no answer"):
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    # It is given up all the same
    assert content(repository) == {}
    uid = audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert audmodel.exists(uid)


def test_claim_that_an_interruption_left(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_object = FileSystem.create_object

    def interrupt_create(self: FileSystem, path: str, data: bytes) -> bool:
        create_object(self, path, data)
        raise KeyboardInterrupt

    def interrupt_delete(self: FileSystem, path: str, etag: str) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FileSystem, "create_object", interrupt_create)
        patch.setattr(FileSystem, "delete_object", interrupt_delete)
        with pytest.raises(KeyboardInterrupt):
            audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert len(content(repository)) == 1
    # The same process may try again, in a notebook for example
    uid = audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert audmodel.exists(uid)


def test_claim_that_took_long_to_read(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A publisher is watched before it is taken for dead."""
    monkeypatch.setattr(claims, "TIMEOUT", 0.3)
    uid = audmodel.uid("torch", {}, "1.0.0")
    read_object = FileSystem.read_object
    reads = []

    def slowly(self: FileSystem, path: str, limit: int) -> StoredObject | None:
        found = read_object(self, path, limit)
        if path == claim_path(uid):
            reads.append(path)
            if len(reads) == 1:
                time.sleep(0.5)
            else:
                # It shows that it is at work
                assert found is not None
                self.replace_object(path, b"host: another\na: 1\n", found.etag)
        return found

    with repository.connect() as backend:
        backend.create_object(claim_path(uid), b"host: another\n")
    monkeypatch.setattr(FileSystem, "read_object", slowly)
    with pytest.raises(PublishConflictError, match="publishes"):
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert not audmodel.exists(uid)


def test_claim_of_a_living_process(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "TIMEOUT", 0.3)
    uid = audmodel.uid("torch", {}, "1.0.0")
    claim = claim_record.dump("/a.zip", None)
    monkeypatch.setattr(claim_record, "own", {claim})
    with repository.connect() as backend:
        backend.create_object(claim_path(uid), claim)
    # It may only be slow, whatever it is doing
    with pytest.raises(PublishConflictError, match="publishes"):
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert not audmodel.exists(uid)


def test_claim_that_this_process_could_not_give_up(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = audmodel.uid("torch", {}, "1.0.0")
    with repository.connect() as backend:
        backend.create_object(claim_path(uid), claim_record.dump("/a.zip", None))
    assert audmodel.publish(str(model_folder), "torch", {}, "1.0.0") == uid


@contextlib.contextmanager
def running(*, dead: bool = False) -> Iterator[bytes]:
    """Claim of another process, which runs or has ended."""
    with subprocess.Popen(["sleep", "60"]) as process:
        claim = claim_of(process.pid, claim_record._process_start(process.pid))
        try:
            if dead:
                process.kill()
                process.wait()
            yield claim
        finally:
            process.kill()


def claim_of(process: object, start: object) -> bytes:
    """Claim that says it is of a process of this machine."""
    own = document.load(claim_record.dump("/a.zip", None), "it")
    return document.dump({**own, "process": process, "start": start}, "it")


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that shows nobody but oneself, as with ``hidepid=2``."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "self").symlink_to(str(os.getpid()))
    (folder / str(os.getpid())).symlink_to("/proc/self")
    monkeypatch.setattr(claim_record, "_PROCESSES", str(folder))
    return folder


@pytest.mark.parametrize("kind", ["hidden", "of another user"])
def test_living_process_that_cannot_be_seen(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    hidden: Path,
    kind: str,
) -> None:
    monkeypatch.setattr(claims, "TIMEOUT", 0.3)
    uid = audmodel.uid("torch", {}, "1.0.0")

    kill = os.kill

    def refuse(process: int, number: int) -> None:
        if number == 0:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        kill(process, number)

    if kind == "of another user":
        monkeypatch.setattr(os, "kill", refuse)
    with running() as claim, repository.connect() as backend:
        backend.create_object(claim_path(uid), claim)
        # It gives no sign of life, which has to be waited for
        start = time.monotonic()
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
        assert time.monotonic() - start > 0.3


def test_living_process_that_does_not_know_when_it_began() -> None:
    with running() as claim:
        process = document.load(claim, "it")["process"]
        assert claim_record.is_alive(claim) is True
        assert claim_record.is_alive(claim_of(process, None)) is None


def test_ended_process_on_a_machine_that_hides_them(
    repository: audmodel.Repository, model_folder: Path, hidden: Path
) -> None:
    uid = audmodel.uid("torch", {}, "1.0.0")
    with running(dead=True) as claim, repository.connect() as backend:
        backend.create_object(claim_path(uid), claim)
        start = time.monotonic()
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
        assert time.monotonic() - start < 5


def test_number_of_a_process_that_was_given_again(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = audmodel.uid("torch", {}, "1.0.0")
    with running() as claim, repository.connect() as backend:
        process = document.load(claim, "it")["process"]
        backend.create_object(claim_path(uid), claim_of(process, "1"))
        start = time.monotonic()
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("process", [0, -1, -(2**31), True, 2**31, 2**70, "1", None])
def test_numbers_that_no_process_has(
    monkeypatch: pytest.MonkeyPatch, process: object
) -> None:
    kill = os.kill

    def careful(process: int, number: int) -> None:
        assert process > 1
        assert number == 0
        kill(process, number)

    monkeypatch.setattr(os, "kill", careful)
    assert claim_record.is_alive(claim_of(process, "1")) is None


@pytest.mark.parametrize("processes", ["missing", "of other processes"])
def test_machine_that_does_not_tell_its_processes_apart(
    hidden: Path, processes: str
) -> None:
    # Another machine, or a container, may have the same host name
    (hidden / "self").unlink()
    if processes == "of other processes":
        (hidden / "self").symlink_to(str(os.getppid()))
        (hidden / str(os.getppid())).symlink_to("/proc/self")
    with running() as living, running(dead=True) as dead:
        assert claim_record.is_alive(living) is None
        assert claim_record.is_alive(dead) is None


def test_machine_that_does_not_tell_when_it_was_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disk, "boot_id", lambda: "")
    with running(dead=True) as claim:
        assert claim_record.is_alive(claim) is None


class Failing(FileSystem):
    """Cannot do some of what it is asked for."""

    refused: ClassVar[dict[str, str]] = {}

    def _check(self, action: str, path: str) -> None:
        if action in self.refused and self.refused[action] in path:
            raise audmodel.errors.RepositoryError(f"The host cannot {action} {path}.")

    def read_object(self, path: str, limit: int) -> StoredObject | None:
        self._check("read", path)
        return super().read_object(path, limit)

    def create_object(self, path: str, data: bytes) -> bool:
        self._check("create", path)
        return super().create_object(path, data)

    def delete_object(self, path: str, etag: str) -> bool:
        self._check("delete", path)
        return super().delete_object(path, etag)


@pytest.fixture
def failing(repository: audmodel.Repository) -> Iterator[type[Failing]]:
    audmodel.Repository.register("file-system", Failing)
    yield Failing
    Failing.refused = {}


def test_failed_publication_leaves_nothing(
    repository: audmodel.Repository, model_folder: Path, failing: type[Failing]
) -> None:
    failing.refused = {"create": "meta"}
    with pytest.raises(audmodel.errors.RepositoryError, match="cannot create"):
        publish(model_folder)
    assert content(repository) == {}


def test_failed_publication_that_does_not_know_whose_claim_it_is(
    repository: audmodel.Repository,
    model_folder: Path,
    failing: type[Failing],
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing.refused = {"create": "meta", "read": "claim"}
    with pytest.raises(audmodel.errors.RepositoryError, match="cannot create"):
        publish(model_folder)
    # What may be of somebody else stays
    assert ".zip" in caplog.text
    assert [path for path in content(repository) if path.endswith(".zip")]
    failing.refused = {}
    publish(model_folder)


def test_somebody_else_stores_metadata_at_the_same_moment(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    class Late(FileSystem):
        def replace_object(self, path: str, data: bytes, etag: str) -> bool:
            if path.endswith(".meta.yaml"):
                self.write_object(path, [b"of: other\n"])
            return super().replace_object(path, data, etag)

    audmodel.Repository.register("file-system", Late)
    with repository.connect() as backend:
        short = audmodel.uid("torch", {"sampling_rate": 16000})
        path = f"/_uid/{short}/1.0.0/{short}-1.0.0.meta.yaml"
        backend.create_object(path, b"of: somebody dead\n")
    uid = audmodel.uid("torch", {"sampling_rate": 16000}, "1.0.0")
    with pytest.raises(audmodel.errors.PublishConflictError, match=uid):
        publish(model_folder)
    assert list(content(repository).values()) == [b"of: other\n"]


def test_what_cannot_be_tidied_up_does_not_hide_the_error(
    repository: audmodel.Repository,
    model_folder: Path,
    failing: type[Failing],
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing.refused = {"delete": ""}
    uid = publish(model_folder)
    assert "claim" in caplog.text
    failing.refused = {}
    assert files(audmodel.load(uid)) == files(model_folder)


def test_alias_that_cannot_be_set_after_publication(
    repository: audmodel.Repository, model_folder: Path, failing: type[Failing]
) -> None:
    failing.refused = {"create": "_alias/"}
    with pytest.raises(audmodel.errors.RepositoryError, match="cannot create") as info:
        publish(model_folder, alias="best")
    (note,) = info.value.__notes__
    assert "was published" in note
    failing.refused = {}
    uid = audmodel.uid("torch", {"sampling_rate": 16000}, "1.0.0")
    assert uid in note
    assert files(audmodel.load(uid)) == files(model_folder)
    audmodel.set_alias("best", uid)
    assert audmodel.aliases(uid) == ["best"]


def test_object_that_others_change_all_the_time(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Busy(FileSystem):
        def replace_object(self, path: str, data: bytes, etag: str) -> bool:
            return False

    uid = publish(model_folder)
    monkeypatch.setattr(time, "sleep", only_here(time.sleep, lambda seconds: None))
    audmodel.Repository.register("file-system", Busy)
    with pytest.raises(audmodel.errors.RepositoryError, match="Try again later"):
        audmodel.update_meta(uid, {"a": 1})
    assert audmodel.meta(uid) == {}


def test_publisher_that_works_for_long_renews_its_claim(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renewals = []

    class Watching(FileSystem):
        def replace_object(self, path: str, data: bytes, etag: str) -> bool:
            renewals.append((path, data))
            return super().replace_object(path, data, etag)

    monkeypatch.setattr(claims, "RENEW_INTERVAL", 0.0)
    audmodel.Repository.register("file-system", Watching)
    uid = publish(model_folder)
    assert files(audmodel.load(uid)) == files(model_folder)
    assert len(renewals) > 2
    assert {path for path, _ in renewals} == {claim_path(uid)}
    # Each sign of life is another one
    assert len({data for _, data in renewals}) == len(renewals)
    assert not [path for path in content(repository) if "claim" in path]


class Stuck(FileSystem):
    """Has a claim that can neither be stored nor replaced."""

    def create_object(self, path: str, data: bytes) -> bool:
        return "claim" not in path and super().create_object(path, data)

    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        return "claim" not in path and super().replace_object(path, data, etag)


@pytest.mark.parametrize("claim", ["is a link to nothing", "is absent", "is of a dead"])
def test_claim_that_cannot_be_taken(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    claim: str,
) -> None:
    monkeypatch.setattr(claims, "TIMEOUT", 0.2)
    monkeypatch.setattr(claims, "RENEW_INTERVAL", 0.1)
    uid = audmodel.uid("torch", {}, "1.0.0")
    file = Path(repository.host, repository.name + claim_path(uid))
    if claim == "is a link to nothing":
        file.parent.mkdir(parents=True)
        file.symlink_to("nowhere")
    else:
        audmodel.Repository.register("file-system", Stuck)
    with running(dead=True) as data, repository.connect() as backend:
        if claim == "is of a dead":
            backend.write_object(claim_path(uid), [data])
    with pytest.raises(
        audmodel.errors.RepositoryError, match=r"claim\.yaml.*(neither|link to)"
    ) as info:
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert uid in str(info.value)
    assert not audmodel.exists(uid)
    # It can be removed by hand
    file.unlink(missing_ok=True)
    audmodel.Repository.register("file-system", FileSystem)
    assert audmodel.publish(str(model_folder), "torch", {}, "1.0.0") == uid


def test_two_wait_for_the_same_claim(
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = audmodel.uid("torch", {}, "1.0.0")

    class Slower(FileSystem):
        def create_object(self, path: str, data: bytes) -> bool:
            if path == claim_path(uid):
                self.write_object(path, [b"host: faster\nprocess: 1\n"])
            return super().create_object(path, data)

        def read_object(self, path: str, limit: int) -> StoredObject | None:
            stored = super().read_object(path, limit)
            # The one before gives its claim up while it is looked at
            if path == claim_path(uid) and not looks:
                looks.append(path)
                self.delete_object(path, ANY)
                return None
            return stored

    looks: list[str] = []
    audmodel.Repository.register("file-system", Slower)
    with pytest.raises(audmodel.errors.PublishConflictError, match="'faster'"):
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert list(content(repository)) == [claim_path(uid)]


def test_two_take_over_the_same_claim(
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = audmodel.uid("torch", {}, "1.0.0")

    class Slower(FileSystem):
        def replace_object(self, path: str, data: bytes, etag: str) -> bool:
            if path == claim_path(uid):
                self.write_object(path, [b"host: faster\nprocess: 1\n"])
            return super().replace_object(path, data, etag)

    with repository.connect() as backend:
        dead = claim_record.dump("/a.zip", None).replace(
            str(os.getpid()).encode(), str(2**22 + 1).encode()
        )
        backend.create_object(claim_path(uid), dead)
    audmodel.Repository.register("file-system", Slower)
    with pytest.raises(audmodel.errors.PublishConflictError, match="'faster'"):
        audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert list(content(repository)) == [claim_path(uid)]


# Guards of the claim -------------------------------------------------------


MODEL = ModelId(*audmodel.uid("torch", {"sampling_rate": 16000}, "1.0.0").split("-"))
ARCHIVE = layout.archive_path(MODEL, "torch")


@pytest.mark.parametrize("knows_etags", [True, False])
def test_claim_that_is_taken_while_it_is_renewed(
    repository: audmodel.Repository, knows_etags: bool
) -> None:
    class Taken(FileSystem):
        def etag_of(self, data: bytes) -> str:
            return super().etag_of(data) if knows_etags else "another"

        def replace_object(self, path: str, data: bytes, etag: str) -> bool:
            if etag != "another":
                self.write_object(path, [b"host: faster\n"])
            return super().replace_object(path, data, etag)

    audmodel.Repository.register("file-system", Taken)
    with (
        open_registry(repository) as registry,
        claims.claimed(registry, MODEL, ARCHIVE) as claim,
        pytest.raises(PublishConflictError, match="took over"),
    ):
        claim.renew()
    assert list(content(repository).values()) == [b"host: faster\n"]


def test_sleeper_that_wakes_up_before_the_next_one_is_done(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not store its header with the archive of the next one."""
    stored: list[str] = []
    theirs = {claim_path(str(MODEL)): b"host: next\n", ARCHIVE: b"PK of the next one"}

    class Sleeping(FileSystem):
        def create_object(self, path: str, data: bytes) -> bool:
            stored.append(path)
            created = super().create_object(path, data)
            if path.endswith(".meta.yaml"):
                for other, content_ in theirs.items():
                    self.write_object(other, [content_])
                # It was a long sleep
                monkeypatch.setattr(claims, "RENEW_INTERVAL", -1)
            return created

    audmodel.Repository.register("file-system", Sleeping)
    with pytest.raises(PublishConflictError, match="took over"):
        publish(model_folder)
    assert not [path for path in stored if path.endswith(".header.yaml")]
    assert theirs.items() <= content(repository).items()


def test_machine_that_is_paused_together_with_its_clock(
    repository: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not replace the metadata of who published in the meantime."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_bytes(b"of the one that took over")
    monkeypatch.setattr(claims, "_now", lambda: 0.0)
    monkeypatch.setattr(claims, "TIMEOUT", 0.1)
    monkeypatch.setattr(claim_record, "is_alive", lambda data: None)
    replace = claims.Claim.replace

    def late(claim: claims.Claim, path: str, data: bytes) -> None:
        monkeypatch.setattr(claims.Claim, "replace", replace)
        publish(other, meta={"by": "other"})
        replace(claim, path, data)

    monkeypatch.setattr(claims.Claim, "replace", late)
    with pytest.raises(ModelExistsError, match="exists already"):
        publish(model_folder, meta={"by": "paused"})
    assert files(audmodel.load(str(MODEL))) == files(other)
    assert audmodel.meta(str(MODEL)) == {"by": "other"}


def test_claim_that_could_not_be_deleted_does_not_block_this_process(
    repository: audmodel.Repository, model_folder: Path, failing: type[Failing]
) -> None:
    failing.refused = {"create": "meta", "delete": "claim"}
    with pytest.raises(audmodel.errors.RepositoryError, match="cannot create"):
        publish(model_folder)
    assert claim_path(str(MODEL)) in content(repository)
    failing.refused = {}
    start = time.monotonic()
    uid = publish(model_folder)
    assert time.monotonic() - start < 5
    assert files(audmodel.load(uid)) == files(model_folder)


def test_alias_that_moves_on_before_its_list_is_settled(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other one may have been killed right after it moved the alias."""
    uids = [publish(model_folder, version=f"{n}.0.0") for n in range(3)]
    audmodel.set_alias("best", uids[0])
    settle = Registry._settle

    def late(registry: Registry, model: ModelId, name: str) -> None:
        path = layout.alias_path(name)
        registry.backend.write_object(path, [f"uid: {uids[2]}\n".encode()])
        settle(registry, model, name)

    monkeypatch.setattr(Registry, "_settle", late)
    audmodel.set_alias("best", uids[1])
    with open_registry(repository) as registry:
        for uid in uids[:2]:
            assert registry.listed_aliases(ModelId(*uid.split("-"))) == []
    assert audmodel.resolve_alias("best") == uids[2]
