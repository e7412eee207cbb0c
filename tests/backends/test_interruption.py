"""Whoever is interrupted ends soon, whatever the server does."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import pytest

import audmodel
from tests.backends import seaweedfs
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.conftest import ROOT


MIB = 1024 * 1024
# What is cleaned up has a second and a half, the rest is for a busy machine.
# Without an end, a request would take 20 s and be repeated for 30 s
SOON = 5.0

pytestmark = pytest.mark.usefixtures("unmeasured")

SCRIPT = """
import sys
import audmodel

host, name, backend, action, what, cache, num_workers = sys.argv[1:]
repository = audmodel.Repository(name, host, backend)
audmodel.config.REPOSITORIES = [repository]
options = {"cache_root": cache, "num_workers": int(num_workers)}
if action == "load":
    audmodel.load(what, **options)
elif action == "load several":
    audmodel.load(what.split(), **options)
elif action == "open":
    with audmodel.open(what, "weights", **options) as file:
        file.read()
elif action == "look up":
    audmodel.config.REPOSITORIES = [repository, repository]
    audmodel.exists(what)
elif action == "models":
    audmodel.models(**options)
elif action == "command":
    from audmodel.cli.main import run
    sys.argv[1:] = ["publish", what, "--name", "torch", "--version", "1.0.0"]
    run()
else:
    audmodel.publish(
        what, "torch", {}, "1.0.0", compression=0, num_workers=int(num_workers)
    )
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_bytes(os.urandom(MIB) * 48)
    return root


@contextlib.contextmanager
def running(
    repository: audmodel.Repository, action: str, what: str, cache: Path, workers: int
) -> Iterator[subprocess.Popen[str]]:
    """A process that uses a repository."""
    where = (repository.host, repository.name, repository.backend)
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", SCRIPT, *where),
            *(action, what, str(cache), str(workers)),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal, and give exit status and error messages."""
    start = time.monotonic()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - start < SOON
    return process.returncode, stderr


def hang_when(
    proxy: Proxy, condition: Callable[[Request], bool], *, after: int | None
) -> threading.Event:
    """Let answers stop after some bytes, or never begin, once one was asked for."""
    begun = threading.Event()

    def fault(request: Request, forward: Forward) -> Response | None:
        # Whatever comes next is not answered either
        if not begun.is_set() and not condition(request):
            return forward()
        begun.set()
        if after is None:
            proxy.released.wait(60)
            return None
        response = forward()
        response.stall_after = after
        return response

    proxy.fault = fault
    return begun


@pytest.mark.thorough
@pytest.mark.parametrize("after", [None, 1000])
@pytest.mark.parametrize("num_workers", [1, 4])
def test_loading_from_a_server_that_hangs(
    keys: None,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    proxy: Proxy,
    model: Path,
    tmp_path: Path,
    num_workers: int,
    after: int | None,
) -> None:
    repository = audmodel.Repository(bucket, weed.url, "s3")
    uid = audmodel.publish(
        str(model), "torch", {}, "1.0.0", repository=repository, compression=0
    )
    behind = audmodel.Repository(bucket, proxy.url, "s3")
    begun = hang_when(
        proxy,
        lambda request: request.headers.get("range", "").startswith("bytes=0-"),
        after=after,
    )
    with running(behind, "load", uid, tmp_path / "cache", num_workers) as process:
        assert begun.wait(60)
        time.sleep(0.3)
        _, stderr = end(process, signal.SIGINT)
    assert stderr.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("action", "asked"),
    [
        ("load several", "header.yaml"),
        ("load several", ".zip"),
        ("open", "bytes=8"),
        ("look up", "header.yaml"),
        ("models", "header.yaml"),
    ],
)
def test_reading_from_a_server_that_hangs(
    keys: None,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    proxy: Proxy,
    tmp_path: Path,
    action: str,
    asked: str,
) -> None:
    repository = audmodel.Repository(bucket, weed.url, "s3")
    size = 24 * MIB if action == "open" else 2 * MIB
    root = tmp_path / "model"
    root.mkdir()
    uids = []
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        (root / "weights").write_bytes(os.urandom(MIB) * (size // MIB))
        uids.append(
            audmodel.publish(
                *(str(root), "torch", {}, version), repository=repository, compression=0
            )
        )
    behind = audmodel.Repository(bucket, proxy.url, "s3")
    begun = hang_when(
        proxy,
        lambda request: (
            asked in request.path or asked in request.headers.get("range", "")
        ),
        after=None,
    )
    what = " ".join(uids) if action == "load several" else uids[0]
    with running(behind, action, what, tmp_path / "cache", 3) as process:
        assert begun.wait(60)
        time.sleep(0.3)
        _, stderr = end(process, signal.SIGINT)
    assert stderr.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("action", "num_workers"), [("publish", 1), ("publish", 4), ("command", 1)]
)
def test_publishing_to_a_server_that_hangs(
    keys: None,
    bucket: str,
    proxy: Proxy,
    model: Path,
    tmp_path: Path,
    action: str,
    num_workers: int,
    number: signal.Signals,
) -> None:
    repository = audmodel.Repository(bucket, proxy.url, "s3")
    begun = hang_when(proxy, lambda request: "partNumber=2" in request.path, after=None)
    with running(repository, action, str(model), tmp_path, num_workers) as process:
        assert begun.wait(60)
        time.sleep(0.3)
        status, stderr = end(process, number)
    if number == signal.SIGTERM or action == "command":
        assert status == -number
    else:
        assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert "Traceback" not in stderr or action == "publish"


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_publishing_to_s3_leaves_nothing_behind(
    keys: None,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    proxy: Proxy,
    model: Path,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    begun = threading.Event()

    def slow(request: Request, forward: Forward) -> Response | None:
        if "partNumber=" in request.path:
            begun.set()
            proxy.released.wait(0.5)
        return forward()

    proxy.fault = slow
    repository = audmodel.Repository(bucket, proxy.url, "s3")
    with running(repository, "publish", str(model), tmp_path, 2) as process:
        assert begun.wait(60)
        end(process, number)
    client = weed.client()
    assert client.list_objects_v2(Bucket=bucket).get("Contents", []) == []
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_publishing_to_a_folder_leaves_nothing_behind(
    model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    host = tmp_path / "host"
    (host / "models").mkdir(parents=True)
    # Large enough to be at work for some time
    with (model / "weights").open("r+b") as file:
        file.truncate(4096 * MIB)
    repository = audmodel.Repository("models", str(host), "file-system")
    with running(repository, "publish", str(model), tmp_path, 2) as process:
        while not list(host.rglob("*claim*")):
            time.sleep(0.01)
            assert process.poll() is None
        end(process, number)
    assert [path for path in host.rglob("*") if path.is_file()] == []
