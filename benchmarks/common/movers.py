"""Other programs that download the files of a model."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import json
import os
from pathlib import Path
import shutil
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from benchmarks.common import models
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Sample
from benchmarks.common.link import Link


_BOTO3 = """
import os, pathlib, sys, time
import boto3
url, bucket, target = sys.argv[1:]
client = boto3.client("s3", endpoint_url=url)
client.list_buckets()  # opens a connection
start = time.perf_counter()
for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
    for entry in page.get("Contents", []):
        path = pathlib.Path(target, entry["Key"])
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, entry["Key"], str(path))
print(time.perf_counter() - start)
"""

_SNAPSHOT = """
import sys, time
from huggingface_hub import snapshot_download
url, target = sys.argv[1:]
start = time.perf_counter()
snapshot_download("benchmark/model", endpoint=url, local_dir=target)
print(time.perf_counter() - start)
"""


_XET = """
import sys, time
import hf_xet
endpoint, *paths = sys.argv[1:]
for path in paths:
    start = time.perf_counter()
    commit = hf_xet.XetSession().new_upload_commit(endpoint=endpoint)
    commit.start_upload_file(path)
    metrics = commit.wait_to_finish().dedup_metrics
    print(metrics.total_bytes_uploaded, time.perf_counter() - start)
"""


def program(name: str) -> str | None:
    """Path of a program, if it is installed."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def upload(bench: Bench, bucket: str, root: Path) -> None:
    """Store the files of a model one by one."""
    client = bench.store.client
    for path in root.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), bucket, str(path.relative_to(root)))
    client.delete_object(Bucket=bucket, Key="room")


def s5cmd(bench: Bench, bucket: str, root: Path, link: Link | None) -> Sample:
    """Download all files with s5cmd."""

    def command(url: str, target: Path) -> list[str]:
        path = program("s5cmd") or "s5cmd"
        return [path, "--endpoint-url", url, "cp", f"s3://{bucket}/*", f"{target}/"]

    return _run(bench, root, link, command)


def rclone(bench: Bench, bucket: str, root: Path, link: Link | None) -> Sample:
    """Download all files with rclone, with as many streams as s5cmd and boto3."""

    def command(url: str, target: Path) -> list[str]:
        path = program("rclone") or "rclone"
        source = f":s3,provider=Other,env_auth=true,endpoint='{url}':{bucket}"
        streams = ["--multi-thread-streams", "10", "--multi-thread-cutoff", "8M"]
        return [path, "copy", source, str(target), "--transfers", "10", *streams]

    return _run(bench, root, link, command)


def boto3(bench: Bench, bucket: str, root: Path, link: Link | None) -> Sample:
    """Download one file after the other with boto3, in parts side by side."""

    def command(url: str, target: Path) -> list[str]:
        return [sys.executable, "-c", _BOTO3, url, bucket, str(target)]

    return _run(bench, root, link, command)


def snapshot(bench: Bench, bucket: str, root: Path, link: Link | None) -> Sample:
    """Download all files as from the Hugging Face Hub."""
    with _hub(bench, bucket, root, link) as url:
        return _run(
            bench,
            root,
            link,
            lambda _, target: [sys.executable, "-c", _SNAPSHOT, url, str(target)],
        )


def rsync(bench: Bench, first: Path, root: Path, link: Link, _: Link | None) -> Sample:
    """Bring a folder with a first version up to date with rsync.

    Args:
        bench: what the benchmark works with
        first: folder with the first version
        root: folder with the other version, which the daemon has
        link: link to the daemon

    """
    source = f"rsync://{link.host}/models/{root.relative_to(bench.folder)}/"
    with bench.temporary() as folder:
        target = folder / "target"
        shutil.copytree(first, target)
        bench.prepare(link)
        start = time.perf_counter()
        path = program("rsync") or "rsync"
        # Files of one size and time may differ
        options = ["--archive", "--ignore-times", "--delete"]
        subprocess.run([path, *options, source, f"{target}/"], check=True)
        seconds = time.perf_counter() - start
        models.check_same(root, target)
    return Sample(seconds, transferred=link.sent + link.received)


@contextlib.contextmanager
def rsync_daemon(folder: Path) -> Iterator[str]:
    """Host and port of a server of rsync that has a folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "rsync.conf"
    config.write_text(
        f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n"
        f"[models]\npath = {folder}\nread only = yes\n"
    )
    options = ["--daemon", "--no-detach", f"--config={config}", f"--port={port}"]
    command = [program("rsync") or "rsync", *options, "--address=127.0.0.1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    """Wait until a server accepts connections."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def xet(bench: Bench, first: Path, root: Path, _: Link | None) -> Sample:
    """Store two versions with hf-xet in a folder, and tell what the second one takes.

    The bytes are those that it would send.

    """
    seconds = 0.0
    transferred = 0
    with bench.temporary() as folder:
        environment = {**os.environ, "HOME": str(folder), "HF_HOME": str(folder)}
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            place = f"local://{folder / 'store'}"
            older = first / path.relative_to(root)
            bench.warm_up()
            done = subprocess.run(
                [sys.executable, "-c", _XET, place, older, path],
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            count, elapsed = done.stdout.split()[-2:]
            transferred += int(count)
            seconds += float(elapsed)
    return Sample(seconds, transferred=transferred)


def _run(
    bench: Bench,
    root: Path,
    link: Link | None,
    command: Callable[[str, Path], list[str]],
) -> Sample:
    """Run a command, and take the time of what tells none itself."""
    url = f"http://{link.host if link else bench.store.host}"
    with bench.temporary() as folder:
        target = folder / "target"
        target.mkdir()
        environment = {
            **os.environ,
            **bench.store.environment,
            "HF_HOME": str(folder / "hub"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            # The protocol of their servers
            "HF_HUB_DISABLE_XET": "1",
        }
        arguments = command(url, target)
        bench.prepare(link)
        start = time.perf_counter()
        done = subprocess.run(
            arguments, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        seconds = time.perf_counter() - start
        if arguments[0] == sys.executable:
            seconds = float(done.stdout.split()[-1])
        models.check_same(root, target)
    return Sample(seconds)


@contextlib.contextmanager
def _hub(bench: Bench, bucket: str, root: Path, link: Link | None) -> Iterator[str]:
    """A server that knows the files, and where to fetch them.

    As with the Hugging Face Hub, the files themselves are somewhere else:
    at the same server and behind the same link as for all others.

    """
    import boto3

    environment = bench.store.environment
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{link.host if link else bench.store.host}",
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )
    commit = "0" * 40
    names = [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer: object = [
                {
                    "type": "file",
                    "path": name,
                    "oid": commit,
                    "size": (root / name).stat().st_size,
                }
                for name in names
            ]
            if "/tree/" not in self.path:
                siblings = [{"rfilename": name} for name in names]
                answer = {"id": "benchmark/model", "sha": commit, "siblings": siblings}
            self._answer(200, {}, json.dumps(answer).encode())

        def do_HEAD(self) -> None:
            name = self.path.partition(f"/resolve/{commit}/")[2]
            place = {"Bucket": bucket, "Key": name}
            headers = {
                "Location": client.generate_presigned_url("get_object", Params=place),
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{name}"',
                "X-Linked-Size": str((root / name).stat().st_size),
            }
            self._answer(302, headers)

        def _answer(
            self, status: int, headers: dict[str, str], body: bytes = b""
        ) -> None:
            self.send_response(status)
            for item in headers.items():
                self.send_header(*item)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
