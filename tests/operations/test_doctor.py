"""The doctor looks at everything, and what is broken ends none of its checks."""

from __future__ import annotations

from collections.abc import Iterator
import datetime
import errno
import fcntl
import os
from pathlib import Path
import threading
import time
from typing import Any

import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.cache import checkup as cache_checkup
from audmodel.core.diagnosis import Check
from audmodel.core.operations import doctor
from audmodel.core.operations import measuring
from audmodel.core.operations import versions
from audmodel.core.operations.examining import Examination
from audmodel.core.repository import settings
from tests.behaviour.backends import Plain
from tests.behaviour.backends import publish
from tests.cli.conftest import configure
from tests.conftest import python as python
from tests.processes import Interpreter
from tests.users import let_in
from tests.users import needs_root


# Not the same everywhere, as what the environment holds is redacted wherever it is
SECRET = "cAnArY7f3aQ9"
IN_FILE = "fIlE5g2kLm8"
IN_HOST = "hOsT4d9pQr1"


def found(report: audmodel.DoctorReport, topic: str) -> dict[str, audmodel.Diagnosis]:
    """Checks of a topic by their name."""
    return {each.name: each for each in report.diagnoses if each.topic == topic}


# Settings ------------------------------------------------------------------


def test_where_settings_come_from(home: Path, tmp_path: Path) -> None:
    os.environ["AUDMODEL_OFFLINE"] = "1"
    (tmp_path / "models").mkdir()
    path = configure(home, f"cache_root: {tmp_path}/from-file\n")
    seen = found(audmodel.doctor(), "settings")
    assert str(path) in seen["file"].seen
    assert seen["cache_root"].seen == f"'{tmp_path}/from-file' ('{path}')"
    assert seen["repository"].seen.endswith("(default)")
    audmodel.config.CACHE_ROOT = str(tmp_path / "from-code")
    audmodel.config.REPOSITORIES = [
        audmodel.Repository(
            "models", tmp_path, "file-system", label="mine", unprotected=True
        )
    ]
    seen = found(audmodel.doctor(), "settings")
    assert seen["cache_root"].seen == f"'{tmp_path}/from-code' (code)"
    text = f"mine: file-system:{tmp_path}:models (code, unprotected)"
    assert seen["repository"].seen == text
    os.environ["AUDMODEL_CACHE_ROOT"] = str(tmp_path / "from-environment")
    os.environ["AUDMODEL_REPOSITORIES"] = f"file-system:{tmp_path}:models"
    configure(home, "")
    seen = found(audmodel.doctor(), "settings")
    assert seen["cache_root"].seen.endswith("from-environment' (AUDMODEL_CACHE_ROOT)")
    assert seen["repository"].seen.endswith("models (AUDMODEL_REPOSITORIES)")
    assert seen["AUDMODEL_CACHE_ROOT"].state == "ok"


def test_a_variable_with_a_typo(repository: audmodel.Repository) -> None:
    os.environ["AUDMODEL_CACHE"] = SECRET
    report = audmodel.doctor()
    assert report.ok
    typo = found(report, "settings")["AUDMODEL_CACHE"]
    assert typo.state == "warning"
    assert "AUDMODEL_CACHE_ROOT" in typo.advice
    assert SECRET not in str(report)


@pytest.mark.parametrize(
    "text",
    [
        "cache_root: [1\n",
        f'repositories: [{{name: a, host: "https://u:{SECRET}@host", backend: 1}}]',
    ],
)
def test_broken_configuration(home: Path, text: str) -> None:
    path = configure(home, text)
    report = audmodel.doctor()
    first = report.failed[0]
    assert (first.topic, first.name) == ("settings", "file")
    assert str(path) in first.seen
    assert found(report, "settings")["repositories"].state == "unknown"
    assert found(report, "cache")["folder"].state == "unknown"
    assert found(report, "versions")["audmodel"].state == "ok"
    assert SECRET not in str(report)


def test_unknown_backend(repository: audmodel.Repository) -> None:
    other = audmodel.Repository("models", "tape", "tape")
    audmodel.config.REPOSITORIES = [other, repository]
    report = audmodel.doctor()
    (failed,) = report.failed
    assert (failed.topic, failed.name) == (repr(other), "configuration")
    assert found(report, repr(repository))["reachable"].state == "ok"


# Secrets -------------------------------------------------------------------


def test_no_secret_is_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(
        home,
        f"""
        repositories:
        - {{name: a, host: "https://user:{IN_HOST}@127.0.0.1:1", backend: s3}}
        - {{name: b, host: "user:{IN_HOST}@127.0.0.1:1", backend: artifactory}}
        - {{name: c, host: "http://u:{IN_HOST}://a@127.0.0.1:1", backend: s3}}
        - {{name: d, host: "x", backend: leaking}}
        - {{name: e, host: "https://127.0.0.1:1", backend: s3}}
        """,
    )
    folder = home / ".config" / "audbackend"
    folder.mkdir()
    (folder / "minio.cfg").write_text(
        f"[127.0.0.1:1]\naccess_key = access{IN_FILE}\nsecret_key = {IN_FILE}\n"
        f"region = eu\nsse_kms_key_id = {IN_FILE}\n"
    )
    for name in ("MINIO_SECRET_KEY_OTHER", "ARTIFACTORY_API_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, f"{name}-{SECRET}")
    monkeypatch.setenv("https_proxy", f"http://user:p{SECRET}@127.0.0.1:1")
    monkeypatch.setenv("AUDMODEL_TOKEN", SECRET)

    class Leaking(Plain):
        def _open(self) -> None:
            raise RuntimeError(f"login failed: {SECRET} https://user:{SECRET}@host")

    audmodel.Repository.register("leaking", Leaking)
    report = audmodel.doctor()
    text = str(report)
    for secret in (SECRET, IN_FILE, IN_HOST):
        assert secret not in text
        assert secret not in repr(report)
    assert "region = eu" in text
    assert "credentials: '~/.config/audbackend/minio.cfg'" in text
    assert "http://***@127.0.0.1:1 (https_proxy)" in text
    assert "login failed: ***" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Cannot reach https://user:geheim@host/a", "Cannot reach https://***@host/a"),
        ("key is abcdefgh", "key is ***"),
        ("/home/a@b", "/home/a@b"),
    ],
)
def test_texts_of_others(text: str, shown: str) -> None:
    os.environ["MY_API_KEY"] = "abcdefgh"
    os.environ["EMPTY_TOKEN"] = ""
    assert settings.redacted(text) == shown


# Repositories --------------------------------------------------------------


def test_offline(repository: audmodel.Repository) -> None:
    remote = audmodel.Repository("models", "https://127.0.0.1:1", "s3")
    audmodel.config.REPOSITORIES = [repository, remote]
    os.environ["AUDMODEL_OFFLINE"] = "1"
    report = audmodel.doctor()
    assert report.ok, str(report)
    assert found(report, repr(remote))["reachable"].state == "unknown"
    assert found(report, repr(remote))["encryption"].state == "ok"


@pytest.mark.out_of_reach
def test_no_network(home: Path) -> None:
    report = audmodel.doctor()
    (failed,) = report.failed
    assert failed.name == "reachable"
    assert "audmodel-public" in failed.topic
    assert found(report, failed.topic)["credentials"].state == "ok"


def test_default_repository_that_is_made_later(home: Path) -> None:
    audmodel.config.REPOSITORIES = audmodel.config.REPOSITORIES[:1]
    report = audmodel.doctor()
    assert report.ok, str(report)
    assert "first publication" in str(report)
    assert list(home.iterdir()) == []


def test_backend_that_hangs(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    class Hanging(Plain):
        def _exists(self, path: str) -> bool:
            return released.wait(60)

    audmodel.Repository.register("hanging", Hanging)
    Hanging.create("host", "models")
    hanging = audmodel.Repository("models", "host", "hanging")
    audmodel.config.REPOSITORIES = [hanging, repository]

    def hasty(topic: str, checks: Iterator[Check], seconds: float) -> Examination:
        return Examination(topic, checks, 1.5 if topic == repr(hanging) else seconds)

    monkeypatch.setattr(doctor, "Examination", hasty)
    start = time.monotonic()
    try:
        report = audmodel.doctor()
    finally:
        released.set()
        Hanging.delete("host", "models")
    assert time.monotonic() - start < 10
    (failed,) = report.failed
    assert (failed.topic, failed.name) == (repr(hanging), "reachable")
    assert "did not end within 1.5 s" in failed.seen
    assert found(report, repr(repository))["reachable"].state == "ok"


def test_error_in_a_check(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise KeyError("x")

    monkeypatch.setattr(versions, "_python", broken)
    report = audmodel.doctor()
    (failed,) = report.failed
    assert (failed.topic, failed.name) == ("versions", "Python")
    assert "KeyError" in failed.seen
    assert found(report, "versions")["platform"].state == "ok"


def test_an_interruption_ends_all_checks() -> None:
    ended = []

    class Interrupted(Examination):
        def result(self) -> list[audmodel.Diagnosis]:
            raise KeyboardInterrupt

        def cancel(self) -> None:
            ended.append(self)

    examinations = [Interrupted("a", iter([]), 10), Interrupted("b", iter([]), 10)]
    with pytest.raises(KeyboardInterrupt):
        doctor._results(*examinations)
    assert ended == examinations


def test_share_is_not_taken_for_a_disk(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "is_shared", lambda path: True)
    seen = found(audmodel.doctor(), repr(repository))
    assert seen["conditional writes"].state == "unknown"
    assert "--write" in seen["conditional writes"].advice
    assert seen["clock"].state == "unknown"
    seen = found(audmodel.doctor(repository, write=True), repr(repository))
    assert seen["clock"].state == "ok"


def test_damaged_archive(repository: audmodel.Repository, model_folder: Path) -> None:
    uid = publish(model_folder)
    (path,) = Path(repository.host).rglob("*.zip")
    path.write_bytes(path.read_bytes()[:-30] + bytes(30))
    (failed,) = audmodel.doctor().failed
    assert failed.name == "ranges"
    assert uid in failed.seen


def test_write_needs_a_repository(repository: audmodel.Repository) -> None:
    with pytest.raises(audmodel.errors.InvalidInputError, match="'repository'"):
        audmodel.doctor(write=True)


# Cache ---------------------------------------------------------------------


def test_cache(
    repository: audmodel.Repository, cache: Path, model_folder: Path
) -> None:
    seen = found(audmodel.doctor(), "cache")
    assert "does not exist yet" in seen["folder"].seen
    assert not cache.exists()
    audmodel.load(publish(model_folder))
    seen = found(audmodel.doctor(), "cache")
    assert seen["locks"].state == "ok"
    assert seen["models"].seen.startswith("1 with 16.")
    # The disk may be full
    assert {each.state for each in seen.values() if each.name != "room"} == {"ok"}
    assert (
        found(audmodel.doctor(cache_root="/nowhere"), "cache")["models"].seen[0] == "0"
    )


@pytest.mark.parametrize("below", ["", "below"])
def test_file_in_place_of_the_cache(
    repository: audmodel.Repository, cache: Path, below: str
) -> None:
    cache.touch()
    (failed,) = audmodel.doctor(cache_root=str(cache / below)).failed
    assert (failed.topic, failed.name) == ("cache", "folder")
    assert "AUDMODEL_CACHE_ROOT" in failed.advice


@pytest.mark.parametrize(
    ("mode", "state", "advice"),
    [
        (0o700, "ok", ""),
        (0o2775, "ok", ""),
        (0o775, "warning", "chmod g+s"),
        (0o777, "warning", "chmod o-w"),
    ],
)
def test_who_can_write(
    repository: audmodel.Repository, cache: Path, mode: int, state: str, advice: str
) -> None:
    cache.mkdir()
    cache.chmod(mode)
    access = found(audmodel.doctor(), "cache")["access"]
    assert access.state == state
    assert advice in access.advice
    assert f"mode {mode:o}" in access.seen


def test_little_room(
    repository: audmodel.Repository, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_checkup, "_LITTLE", 2**62)
    room = found(audmodel.doctor(), "cache")["room"]
    assert (room.state, "prune" in room.advice) == ("warning", True)


@pytest.mark.parametrize("number", [0, errno.ENOLCK])
def test_locks_that_do_not_work(
    repository: audmodel.Repository,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def flock(fd: int, operation: int) -> None:
        if number:
            raise OSError(number, os.strerror(number))

    cache.mkdir()
    monkeypatch.setattr(fcntl, "flock", flock)
    locks = found(audmodel.doctor(), "cache")["locks"]
    assert locks.state == "warning"
    assert list(cache.iterdir()) == []


def test_loads_that_were_interrupted(
    repository: audmodel.Repository, cache: Path, model_folder: Path
) -> None:
    uid = publish(model_folder)
    short, version = uid.split("-")
    attempt = cache / short / f".{version}~0123456789abcdef"
    attempt.mkdir(parents=True)
    (attempt / "file").write_bytes(b"x" * 5000)
    assert found(audmodel.doctor(), "cache")["attempts"].state == "ok"
    long_ago = datetime.datetime.now().timestamp() - 3 * 86400
    for path in (attempt / "file", attempt):
        os.utime(path, (long_ago, long_ago))
    attempts = found(audmodel.doctor(), "cache")["attempts"]
    assert attempts.state == "warning"
    assert uid in attempts.seen
    assert "audmodel cache rm" in attempts.advice


@needs_root
def test_read_only_cache(
    repository: audmodel.Repository, cache: Path, python: Interpreter, tmp_path: Path
) -> None:
    cache.mkdir()
    let_in(tmp_path)
    code = """
    import tempfile
    from tests.users import NOBODY, become
    audmodel.doctor(cache_root=tempfile.gettempdir())
    become(NOBODY)
    report = audmodel.doctor(cache_root=args["cache_root"])
    return report.ok, {x.name: x.state for x in report.diagnoses if x.topic == "cache"}
    """
    ok, states = python.run(code)
    assert ok
    assert (states["access"], states["locks"]) == ("warning", "unknown")


# Speed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speeds", "cores", "expected"),
    [
        ({1: 35e6, 2: 70e6, 4: 140e6, 8: 280e6, 16: 290e6}, 2, 8),
        ({1: 1e9, 2: 1e9, 4: 1e9}, 2, 2),
        ({1: 1e9, 2: 1e9, 4: 1e9}, 96, 16),
        ({1: 10.0, 2: 20.0, 4: 40.0, 8: 80.0, 16: 160.0}, 2, 16),
    ],
)
def test_recommended_number_of_workers(
    speeds: dict[int, float], cores: int, expected: int
) -> None:
    assert measuring.recommended(speeds, cores) == expected


def test_measuring_stops_where_workers_do_not_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def speed(reader: object, workers: int, block: int) -> float:
        return min(workers, 3) * 1e6

    monkeypatch.setattr(measuring, "_block_size", lambda _: 1)
    monkeypatch.setattr(measuring, "_speed", speed)
    reader: Any = None
    assert list(measuring.speeds(reader)) == [1, 2, 4, 8, 16]
    monkeypatch.setattr(measuring, "_speed", lambda *_: 1e6)
    assert list(measuring.speeds(reader)) == [1, 2, 4]
    monkeypatch.setattr(measuring, "_ALL", -1.0)
    assert list(measuring.speeds(reader)) == [1]
