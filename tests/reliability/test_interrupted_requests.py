"""Publishers are interrupted while a request is under way, and leave nothing."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import itertools
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

import audmodel
from audmodel import errors
from audmodel.core.repository import claims
from tests.backends import seaweedfs
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.conftest import keys as keys
from tests.backends.conftest import weed as weed
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.backends.proxy import first
from tests.backends.proxy import lose_response
from tests.conftest import ROOT


# Of each family of faults
pytestmark = pytest.mark.sample(1)


Count = Callable[[str, int], None]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Requests of a publication, and which of them begins an upload
REQUESTS = 15
BEGIN = 4
# Seconds that a request takes that is interrupted
SLOW = 0.3
# Two seconds, and something for a busy machine
SOON = 5.0

# Publishes one model for each line that it reads, in a process of its own
PUBLISHERS = """
import faulthandler, os, signal, sys, traceback
import audmodel
import audmodel.core.operations.publishing, audmodel.core.repository.lookup
import boto3
from audmodel.core.backend.s3 import upload as s3_upload

host, name, root = sys.argv[1:]
# The smallest size that storages take
s3_upload.PART_SIZE = 5 << 20
audmodel.config.REPOSITORIES = [audmodel.Repository(name, host, "s3")]
for line in sys.stdin:
    version, workers = line.split()
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Who does not end says where it waits, before the test is given up
        faulthandler.dump_traceback_later(40, exit=True)
        code = 0
        try:
            audmodel.publish(
                root, "torch", {}, version,
                alias=f"alias-{version}", compression=0, num_workers=int(workers),
            )
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Interruption:
    """Sends a signal while a request is under way.

    Args:
        number: number of the request
        what: signal
        late: whether the server has done its work by then

    """

    def __init__(self, number: int, what: signal.Signals, *, late: bool) -> None:
        self.seen: list[str] = []
        # When the signal was sent
        self.sent: float | None = None
        self._number = number
        self._what = what
        self._late = late
        self._lock = threading.Lock()
        self._pid = 0
        self._known = threading.Event()
        self._running = 0

    def tell(self, pid: int) -> None:
        self._pid = pid
        self._known.set()

    def __call__(self, request: Request, forward: Forward) -> Response | None:
        with self._lock:
            self._running += 1
            number = len(self.seen)
            self.seen.append(f"{request.method} {request.path}")
        try:
            if number != self._number:
                return forward()
            response = forward() if self._late else None
            assert self._known.wait(10)
            self.sent = time.monotonic()
            os.kill(self._pid, self._what)
            time.sleep(SLOW)
            return response or forward()
        finally:
            with self._lock:
                self._running -= 1

    def settle(self) -> None:
        """Wait until the server has nothing to do any more."""
        while self._running:
            time.sleep(0.01)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_bytes(random.Random(1).randbytes(12 << 20))
    return root


class Publishers:
    """Publications, each in a process of its own.

    Args:
        process: process that starts them

    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, version: str, workers: int, interruption: Interruption) -> int:
        """Publish a model, and give the exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{version} {workers}\n")
        self._process.stdin.flush()
        interruption.tell(int(self._process.stdout.readline()))
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def publishers(url: str, bucket: str, model: Path) -> Iterator[Publishers]:
    """Start publications on demand."""
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHERS, url, bucket, str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as process:
        try:
            yield Publishers(process)
        finally:
            process.kill()


@pytest.mark.thorough
def test_publish(
    keys: None,
    weed: seaweedfs.SeaweedFS,
    model: Path,
    chance: random.Random,
    torture: int,
    count: Count,
) -> None:
    """Whatever request is under way: nothing is left, or a whole model."""
    bucket = weed.bucket()
    client = weed.client()
    points = [
        *itertools.product(range(REQUESTS), SIGNALS, (False, True), (1, 3)),
    ]
    if not torture:
        # Nothing but the answer says what was begun
        begin = itertools.product([BEGIN], SIGNALS, (False, True), (3,))
        points = [*begin, *chance.sample(points, 4)]
    with (
        Proxy(weed.host) as proxy,
        publishers(proxy.url, bucket, model) as processes,
    ):
        for index, (number, what, late, workers) in enumerate(points):
            interruption = Interruption(number, what, late=late)
            proxy.fault = interruption
            version = f"{index}.0.0"
            status = processes.run(version, workers, interruption)
            assert interruption.sent is not None
            seconds = time.monotonic() - interruption.sent
            point = (interruption.seen[number], what.name, late, workers)
            assert status == (130 if what is signal.SIGINT else -what), point
            assert seconds < SOON, point
            interruption.settle()
            uploads = client.list_multipart_uploads(Bucket=bucket)
            assert uploads.get("Uploads", []) == [], point
            listing = client.list_objects_v2(Bucket=bucket).get("Contents", [])
            left = {entry["Key"] for entry in listing if version in entry["Key"]}
            if any(name.endswith(".header.yaml") for name in left):
                records = {name for name in left if not name.startswith("_alias")}
                assert len({name for name in records if "aliases" not in name}) == 3
            else:
                assert left == set(), point
            assert not any("claim" in name for name in left), point
    count("publications to S3 interrupted during a request, nothing left", len(points))


def test_the_next_publisher_removes_what_a_killed_one_uploaded(
    keys: None, weed: seaweedfs.SeaweedFS, model: Path
) -> None:
    bucket = weed.bucket()
    client = weed.client()
    alive = client.create_multipart_upload(Bucket=bucket, Key="somebody/elses")
    with (
        Proxy(weed.host) as proxy,
        publishers(proxy.url, bucket, model) as processes,
    ):
        for number in (BEGIN + 1, 100):
            interruption = Interruption(number, signal.SIGKILL, late=True)
            proxy.fault = interruption
            status = processes.run("1.0.0", 1, interruption)
            interruption.settle()
            found = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
            if number < 100:
                assert status == -signal.SIGKILL
                assert len(found) == 2
            else:
                assert status == 0
                assert [upload["UploadId"] for upload in found] == [alive["UploadId"]]


def test_a_publisher_that_was_given_up_learns_what_happened(
    keys: None,
    weed: seaweedfs.SeaweedFS,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = weed.client()
    bucket = weed.bucket()

    def give_up(request: Request, forward: Forward) -> Response | None:
        if "partNumber=2" in request.path:
            # Somebody else goes on, while this one sleeps
            monkeypatch.setattr(claims, "RENEW_INTERVAL", -1)
            [upload] = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
            where = {"Bucket": bucket, "Key": upload["Key"]}
            client.abort_multipart_upload(**where, UploadId=upload["UploadId"])
            for entry in client.list_objects_v2(Bucket=bucket)["Contents"]:
                client.put_object(Bucket=bucket, Key=entry["Key"], Body=b"a: other\n")
        return forward()

    with Proxy(weed.host) as proxy:
        proxy.fault = give_up
        repository = audmodel.Repository(bucket, proxy.url, "s3")
        with pytest.raises(errors.PublishConflictError, match="took over"):
            audmodel.publish(
                *(str(model), "torch", {}, "1.0.0"),
                repository=repository,
                compression=0,
            )
    [claim] = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert "claim" in claim["Key"]


@pytest.mark.parametrize("lost", [1, 2])
def test_an_upload_whose_beginning_nobody_learns_of(
    keys: None, hasty: None, weed: seaweedfs.SeaweedFS, model: Path, lost: int
) -> None:
    bucket = weed.bucket()
    with Proxy(weed.host) as proxy:
        repository = audmodel.Repository(bucket, proxy.url, "s3")
        proxy.fault = first(
            lost, lose_response, when=lambda request: request.path.endswith("?uploads")
        )
        audmodel.publish(
            *(str(model), "torch", {}, "1.0.0"), repository=repository, compression=0
        )
        assert (
            weed.client().list_multipart_uploads(Bucket=bucket).get("Uploads") is None
        )
        proxy.fault = first(
            10**6, lose_response, when=lambda request: request.path.endswith("?uploads")
        )
        with pytest.raises(errors.RepositoryUnreachableError):
            audmodel.publish(
                *(str(model), "torch", {}, "2.0.0"),
                repository=repository,
                compression=0,
            )
    assert weed.client().list_multipart_uploads(Bucket=bucket).get("Uploads") is None
