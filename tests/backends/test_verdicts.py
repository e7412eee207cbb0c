"""What was found out about a store is kept, believed with care, and cheap."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import stat
import time

import pytest

import audmodel
from audmodel import errors
from audmodel.core.backend import conditions
from audmodel.core.backend.s3 import verdicts
from audmodel.core.backend.s3.backend import S3
from audmodel.core.backend.s3.verdicts import Verdict
from tests.backends import proxy as faults
from tests.backends import seaweedfs
from tests.backends.forget import forget_servers
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.behaviour.backends import publish


STORE = ("https://host", "bucket", "Strange")
GOOD = Verdict("", compares_deletes=True)
# A server that does not say what it is
strange = faults.change(Server="Strange")


def kept(home: Path) -> list[Path]:
    """Files in which something is kept."""
    return list((home / ".cache" / "audmodel" / "stores").glob("*"))


# The file ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "verdict",
    [GOOD, Verdict("", False), Verdict("create if absent: 12 of 12 succeeded", False)],
)
def test_a_verdict_is_kept(home: Path, verdict: Verdict) -> None:
    assert verdicts.recall(*STORE) is None
    verdicts.remember(verdict, *STORE)
    assert verdicts.recall(*STORE) == verdict
    (path,) = kept(home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for other in (
        ("https://other", *STORE[1:]),
        (STORE[0], "other", STORE[2]),
        (*STORE[:2], "Other"),
    ):
        assert verdicts.recall(*other) is None


def test_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    verdicts.remember(GOOD, *STORE)
    assert len(list((tmp_path / "audmodel" / "stores").iterdir())) == 1
    assert verdicts.recall(*STORE) == GOOD


def change_owner(path: Path) -> None:
    os.chown(path, 12345, -1)


def as_link(path: Path) -> None:
    path.rename(path.with_suffix(".other"))
    path.symlink_to(path.with_suffix(".other"))


def as_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def aged(days: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        then = time.time() - days * 24 * 3600
        os.utime(path, (then, then))

    return change


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def about(store: object, wrong: object = "") -> Callable[[Path], object]:
    data = {"store": store, "wrong": wrong, "compares_deletes": True}
    return holding(json.dumps(data).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.chmod(0o620),
        lambda path: path.chmod(0o602),
        lambda path: path.parent.chmod(0o770),
        as_link,
        as_fifo,
        as_folder,
        aged(31),
        # The clock was wrong, or somebody wants it to be believed for ever
        aged(-2),
        holding(b""),
        holding(b"\xff\xfe"),
        holding(b"[" * 8000),
        holding(b"[]"),
        holding(b'{"store": ["https://host", "bucket", "Strange"]}'),
        holding(b" " * 10000 + b'{"store": [], "wrong": ""}'),
        about(list(STORE), 0),
        about(["https://host", "bucket", "Other"]),
        about("https://host"),
    ],
)
def test_what_others_could_have_written_is_not_believed(
    home: Path, change: Callable[[Path], object]
) -> None:
    verdicts.remember(GOOD, *STORE)
    (path,) = kept(home)
    change(path)
    assert verdicts.recall(*STORE) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("is_folder", [True, False])
def test_files_of_others_are_not_believed(home: Path, is_folder: bool) -> None:
    verdicts.remember(GOOD, *STORE)
    (path,) = kept(home)
    change_owner(path.parent if is_folder else path)
    assert verdicts.recall(*STORE) is None


@pytest.mark.parametrize("case", ["file", "relative", "long"])
def test_without_a_place_it_is_not_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    verdict = Verdict("x" * 10000, compares_deletes=False) if case == "long" else GOOD
    if case == "file":
        (home / ".cache").write_bytes(b"")
    if case == "relative":
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.chdir(home)
    verdicts.remember(verdict, *STORE)
    assert verdicts.recall(*STORE) is None
    assert not (home / "relative").exists()
    assert kept(home) == []


# Requests ---------------------------------------------------------------------


def requests_of_publishing(proxy: Proxy, root: Path, version: str) -> int:
    """Number of requests of a process that publishes."""
    forget_servers()
    with proxy.counting() as requests:
        publish(root, version=version)
    return len(requests)


def test_publishing_to_an_unknown_store_takes_one_request_more(
    counted: Proxy, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests_of_publishing(counted, model_folder, "1.0.0")
    known = requests_of_publishing(counted, model_folder, "2.0.0")
    counted.fault = strange
    first = requests_of_publishing(counted, model_folder, "3.0.0")
    assert first <= known + 26
    for version in ("4.0.0", "5.0.0"):
        assert requests_of_publishing(counted, model_folder, version) <= known + 1


@pytest.mark.thorough
def test_an_unknown_store_is_put_to_the_test_in_few_round_trips(
    counted: Proxy, model_folder: Path, home: Path
) -> None:
    """However far away it is."""
    latency = 0.2

    def seconds(version: str, server: str | None) -> float:
        def fault(request: Request, forward: Forward) -> Response | None:
            time.sleep(latency)
            response = forward()
            if server:
                response.replace("Server", server)
            return response

        counted.fault = fault
        start = time.monotonic()
        requests_of_publishing(counted, model_folder, version)
        return time.monotonic() - start

    seconds("1.0.0", None)
    known = seconds("2.0.0", None)
    unknown = []
    for number in range(3):
        unknown.append(seconds(f"3.{number}.0", "Strange"))
        (path,) = kept(home)
        path.unlink()
    # One after the other they take 26 round trips.
    # A busy server takes connections late
    assert min(unknown) < known + 9 * latency


@pytest.mark.thorough
def test_a_store_that_is_not_what_it_was(
    counted: Proxy, model_folder: Path, home: Path
) -> None:
    counted.fault = strange
    requests_of_publishing(counted, model_folder, "1.0.0")

    def careless(request: Request, forward: Forward) -> Response | None:
        # What is sent under a condition is stored, whatever is there
        if not {"if-match", "if-none-match"} & set(request.headers):
            return strange(request, forward)
        _, bucket, key = request.path.split("?")[0].split("/", 2)
        client = seaweedfs.shared().client()
        response = client.put_object(Bucket=bucket, Key=key, Body=request.body)
        return faults.status(200, ETag=response["ETag"], Server="Strange")(
            request, forward
        )

    counted.fault = careless
    (repository,) = audmodel.config.REPOSITORIES
    with pytest.raises(errors.UnprotectedRepositoryError):
        requests_of_publishing(counted, model_folder, "2.0.0")
    with S3(counted.url, repository.name) as backend:
        assert backend.list_objects(conditions.FOLDER) == []
        assert backend.list_objects("/_uid/") != []
    # It is asked again before it is refused again, as it may have been mended
    counted.fault = strange
    requests_of_publishing(counted, model_folder, "2.0.0")
    assert len(kept(home)) == 1


def test_a_careless_store_that_is_wanted_is_known_too(
    counted: Proxy, model_folder: Path
) -> None:
    (repository,) = audmodel.config.REPOSITORIES
    audmodel.config.REPOSITORIES = [
        audmodel.Repository(repository.name, repository.host, "s3", unprotected=True)
    ]

    def refuse(request: Request, forward: Forward) -> Response | None:
        if {"if-match", "if-none-match"} & set(request.headers):
            return faults.s3_error(501, "NotImplemented")(request, forward)
        return strange(request, forward)

    counted.fault = refuse
    first = requests_of_publishing(counted, model_folder, "1.0.0")
    second = requests_of_publishing(counted, model_folder, "2.0.0")
    assert second < first


def test_deletes_are_put_to_the_test(counted: Proxy, model_folder: Path) -> None:
    def blind(request: Request, forward: Forward) -> Response | None:
        if request.method == "DELETE" and request.headers.get("if-match"):
            _, bucket, key = request.path.split("?")[0].split("/", 2)
            seaweedfs.shared().client().delete_object(Bucket=bucket, Key=key)
            return faults.status(204, Server="Strange")(request, forward)
        return strange(request, forward)

    (repository,) = audmodel.config.REPOSITORIES
    for fault, is_blind in ((blind, True), (strange, False)):
        for path in kept(Path.home()):
            path.unlink()
        counted.fault = fault
        requests_of_publishing(counted, model_folder, f"{int(is_blind) + 1}.0.0")
        with S3(counted.url, repository.name) as backend:
            assert backend.deletes_blindly is is_blind
            assert backend.list_objects(conditions.FOLDER) == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("responses", ["lost", "twice"])
def test_a_verdict_is_not_spoilt_by_the_wire(
    counted: Proxy, model_folder: Path, responses: str
) -> None:
    def fault(request: Request, forward: Forward) -> Response | None:
        is_probe = conditions.FOLDER in request.path and request.method == "PUT"
        if is_probe and request.headers.get("if-none-match") and responses == "twice":
            forward()
        return strange(request, forward)

    lose = faults.first(
        3, faults.lose_response, when=lambda r: conditions.FOLDER in r.path
    )
    counted.fault = fault
    if responses == "lost":
        counted.fault = lambda request, forward: lose(
            request, lambda: strange(request, forward) or forward()
        )
    assert requests_of_publishing(counted, model_folder, "1.0.0")
