"""What the doctor says of storages behind HTTP."""

from __future__ import annotations

import datetime
import email.utils
import os
from pathlib import Path
import re
import time

import pytest

import audmodel
from audmodel.core.operations import doctor
from audmodel.core.operations import measuring
from tests.backends import proxy as faults
from tests.backends import rclone
from tests.backends import seaweedfs
from tests.backends.forget import forget_servers
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.backends.seaweedfs import CANARY
from tests.behaviour.backends import publish


def ahead(seconds: float) -> str:
    """Date that a server with another clock sends."""
    now = datetime.datetime.now(datetime.UTC)
    return email.utils.format_datetime(
        now + datetime.timedelta(seconds=seconds), usegmt=True
    )


def found(
    repository: audmodel.Repository, *, write: bool = False
) -> dict[str, audmodel.Diagnosis]:
    """Checks of a repository by their name."""
    report = audmodel.doctor(repository, write=write)
    assert CANARY not in repr(report)
    return {x.name: x for x in report.diagnoses if x.topic == repr(repository)}


@pytest.fixture
def repository(
    keys: None, bucket: str, proxy: Proxy, tmp_path: Path
) -> audmodel.Repository:
    """Repository on S3 behind a proxy that can lie."""
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")
    audmodel.config.REPOSITORIES = [audmodel.Repository(bucket, proxy.url, "s3")]
    return audmodel.config.REPOSITORIES[0]


# Clock ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "state", "text"),
    [
        (0, "ok", "the same as"),
        (-30, "ok", "s behind"),
        (200, "warning", "s ahead of"),
        (-4000, "failed", "s behind"),
    ],
)
def test_clock(
    repository: audmodel.Repository, proxy: Proxy, seconds: int, state: str, text: str
) -> None:
    proxy.fault = faults.change(Date=ahead(seconds))
    clock = found(repository)["clock"]
    assert clock.state == state
    assert text in clock.seen


def test_clock_that_is_why_requests_are_refused(
    repository: audmodel.Repository, proxy: Proxy
) -> None:
    proxy.fault = faults.s3_error(403, "RequestTimeTooSkewed", Date=ahead(2000))
    checks = found(repository)
    assert checks["reachable"].state == checks["clock"].state == "failed"
    assert " s ahead of" in checks["clock"].seen


@pytest.mark.parametrize("date", [None, "yesterday", "Mon, 1 Jan 2024 00:00:00 -0000"])
def test_no_clock(
    repository: audmodel.Repository, proxy: Proxy, date: str | None
) -> None:
    proxy.fault = faults.change(Date=date)
    assert found(repository)["clock"].state == "unknown"


def test_date_of_a_copy_is_no_clock(
    repository: audmodel.Repository, proxy: Proxy
) -> None:
    proxy.fault = faults.change(Date=ahead(-4000), Age="4000")
    assert found(repository)["clock"].state == "unknown"


# Who, and how --------------------------------------------------------------


def test_where_credentials_come_from(
    repository: audmodel.Repository, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = "MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
    assert found(repository)["credentials"].seen == origin
    monkeypatch.setenv("MINIO_ACCESS_KEY_127_0_0_1", seaweedfs.ACCESS_KEY)
    seen = found(repository)["credentials"].seen
    assert seen == "MINIO_ACCESS_KEY_127_0_0_1 and MINIO_SECRET_KEY"
    for name in ("MINIO_ACCESS_KEY", "MINIO_ACCESS_KEY_127_0_0_1", "MINIO_SECRET_KEY"):
        monkeypatch.delenv(name)
    assert found(repository)["credentials"].seen.startswith("none, ")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.SECRET_KEY)
    assert found(repository)["credentials"].seen == "env of the AWS tools"
    folder = home / ".config" / "audbackend"
    folder.mkdir(parents=True)
    host = repository.host.removeprefix("http://")
    (folder / "minio.cfg").write_text(
        f"[{host}]\naccess_key = {seaweedfs.ACCESS_KEY}\n"
        f"secret_key = {seaweedfs.SECRET_KEY}\nread_timeout = 9\n"
    )
    checks = found(repository)
    assert checks["credentials"].seen == "'~/.config/audbackend/minio.cfg'"
    assert checks["setting"].seen.startswith("read_timeout = 9 (")
    assert checks["reachable"].state == "ok"


def test_only_one_of_two_keys(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MINIO_ACCESS_KEY")
    assert "only one of" in found(repository)["configuration"].seen


def test_credentials_that_are_refused(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIO_SECRET_KEY", f"wrong{CANARY}")
    reachable = found(repository)["reachable"]
    assert reachable.state == "failed"
    assert "does not accept the credentials" in reachable.seen


def test_reader_may_not_write(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY", seaweedfs.READER_ACCESS_KEY)
    monkeypatch.setenv("MINIO_SECRET_KEY", seaweedfs.READER_SECRET_KEY)
    assert audmodel.doctor(repository).ok
    assert "denied" in found(repository, write=True)["write"].seen


def test_artifactory(login: None, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = audmodel.Repository("models", "https://127.0.0.1:1", "artifactory")
    monkeypatch.setenv("ARTIFACTORY_API_KEY_127_0_0_1", CANARY)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", __file__)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{CANARY}@127.0.0.1:1")
    checks = found(repository)
    assert checks["credentials"].seen == (
        "ARTIFACTORY_USERNAME and ARTIFACTORY_API_KEY_127_0_0_1"
    )
    assert __file__ in checks["encryption"].seen
    assert checks["proxy"].seen == "http://***@127.0.0.1:1 (HTTPS_PROXY)"
    assert checks["reachable"].state == "failed"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert found(repository)["proxy"].seen == "none"


@pytest.mark.parametrize("backend", ["s3", "artifactory"])
def test_no_encryption(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDMODEL_OFFLINE", "1")
    far = audmodel.Repository("models", "http://192.0.2.1", backend)
    near = audmodel.Repository("models", "http://127.0.0.1:1", backend)
    assert found(far)["encryption"].state == "warning"
    assert found(near)["encryption"].state == "ok"


@pytest.mark.parametrize("backend", ["s3", "artifactory"])
def test_certificates_that_do_not_exist(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    repository = audmodel.Repository("models", "https://127.0.0.1:1", backend)
    assert "'/nowhere.pem'" in found(repository)["configuration"].seen


# What the storage can do -----------------------------------------------------


def test_what_was_found_out_before(
    repository: audmodel.Repository, proxy: Proxy, model_folder: Path
) -> None:
    proxy.fault = faults.change(Server="Strange")
    before = len(proxy.requests)
    assert found(repository)["conditional writes"].state == "unknown"
    assert {x.method for x in proxy.requests[before:]} <= {"GET", "HEAD"}
    publish(model_folder)
    assert found(repository)["conditional writes"].state == "ok"
    forget_servers()
    # Another process knows it from a file
    assert found(repository)["conditional writes"].state == "ok"
    assert found(repository)["copies"].state == "unknown"
    found(repository, write=True)
    assert found(repository)["copies"].state == "ok"


@pytest.mark.thorough
@pytest.mark.parametrize("unprotected", [False, True])
def test_careless_store(
    keys: None, tmp_path: Path, cache: Path, unprotected: bool
) -> None:
    with rclone.serve(tmp_path) as url:
        repository = audmodel.Repository(
            rclone.BUCKET, url, "s3", unprotected=unprotected
        )
        checks = found(repository, write=True)
    assert checks["create if absent"].state == ("warning" if unprotected else "failed")


def test_workers_make_up_for_latency(
    repository: audmodel.Repository,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "_STEP", 0.2)
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "weights").write_bytes(os.urandom(5_000_000))
    publish(folder)

    def slow(request: Request, forward: Forward) -> Response:
        time.sleep(0.05)
        return forward()

    proxy.fault = slow
    before = len(proxy.requests)
    (measured,) = audmodel.doctor(repository, measure=True).measurements
    assert measured.speeds[4] > 2 * measured.speeds[1]
    assert measured.num_workers >= 4
    read = [x.headers.get("range", "") for x in proxy.requests[before:]]
    sizes = [int(b) - int(a) + 1 for a, b in re.findall(r"=(\d+)-(\d+)", str(read))]
    assert sum(sizes) < 260_000_000


# Hosts that are down -----------------------------------------------------------


def test_port_at_which_nothing_listens(free_port: int) -> None:
    repository = audmodel.Repository("a", f"http://127.0.0.1:{free_port}", "s3")
    assert "nothing listens there" in found(repository)["reachable"].seen


@pytest.mark.parametrize("backend", ["s3", "artifactory"])
def test_server_that_does_not_respond(
    weed: seaweedfs.SeaweedFS,
    proxy: Proxy,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "_SECONDS", 2.0)
    proxy.fault = faults.change(stall_after=0)
    repository = audmodel.Repository("models", proxy.url, backend)
    start = time.monotonic()
    reachable = found(repository)["reachable"]
    assert time.monotonic() - start < 10
    assert reachable.state == "failed"
    assert "did not end within 2 s" in reachable.seen
