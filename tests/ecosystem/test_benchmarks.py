"""Benchmarks work, and what they measure with tells the truth."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
import csv
import functools
import http.client
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from typing import Any

import pytest

from benchmarks.common import models
from benchmarks.common.link import Link
from tests.conftest import ROOT


# Scripts ---------------------------------------------------------------------

SCRIPTS = [
    *("load", "publish", "small_files", "round_trips", "memory", "movers", "scale"),
    *("delta", "bf16"),
]
COLUMNS = {
    "num_iter",
    "elapsed(avg)",
    "elapsed(std)",
    "speedup",
    "bytes",
    "peak memory",
    "requests",
}


@functools.cache
def fonts() -> str:
    """Where matplotlib notes the fonts of this machine, which takes it seconds."""
    folder = tempfile.mkdtemp(prefix="audmodel-fonts-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def run(name: str, python: Path, output: Path, *arguments: str) -> list[dict[str, str]]:
    result = subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / f"{name}.py",
            "--quick",
            "--output",
            output,
            *arguments,
        ],
        env={
            **os.environ,
            "AUDMODEL_RELEASED_PYTHON": str(python),
            "MPLCONFIGDIR": fonts(),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Benchmark" in result.stderr
    for end in ("svg", "png"):
        assert (output / f"results.{end}").stat().st_size > 1000
    table = (output / "results.md").read_text().split("\n\n")[-1]
    assert table in result.stdout
    assert f"benchmarks/{name}.py --quick" in (output / "about.rst").read_text()
    with (output / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() >= COLUMNS
    assert all(float(row["speedup"]) > 0 for row in rows)
    return rows


def test_load_from_s3_over_a_limited_link(
    released_python: Path, tmp_path: Path
) -> None:
    rows = run("load", released_python, tmp_path, "--rate", "20", "--size", "2")
    assert [(row["loaded by"], row["published by"]) for row in rows] == [
        ("1.5.3", "1.5.3"),
        ("2.0.0", "2.0.0"),
        ("2.0.0", "1.5.3"),
    ]
    for row in rows:
        assert int(row["bytes"]) > 1_500_000
        assert int(row["requests"]) > 0


@pytest.mark.parametrize("name", ["load", "publish", "small_files", "memory"])
def test_folder(name: str, released_python: Path, tmp_path: Path) -> None:
    rows = run(name, released_python, tmp_path, "--backend", "file-system")
    assert all(row["requests"] == "" for row in rows)
    by = [" ".join(row.values()) for row in rows]
    assert any("1.5.3" in line for line in by)
    assert any("2.0.0" in line for line in by)
    assert any("cp -r" in line for line in by) == (name != "memory")


def test_own_repository_keeps_what_was_published(
    released_python: Path, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    (host / "models").mkdir(parents=True)
    repository = ("--repository", "models", str(host), "file-system")
    run("load", released_python, tmp_path / "output", "--size", "1", *repository)
    assert len(list(host.rglob("*.zip"))) == 2


def test_round_trips(released_python: Path, tmp_path: Path) -> None:
    rows = run("round_trips", released_python, tmp_path)
    again = [row for row in rows if row["operation"] == "load again"]
    assert {row["requests"] for row in again} == {"0"}
    assert {row["latency"] for row in rows} == {"0 ms", "5 ms"}


def test_movers(released_python: Path, tmp_path: Path) -> None:
    rows = run("movers", released_python, tmp_path, "--size", "2")
    programs = {row["program"] for row in rows}
    assert programs >= {
        *("audmodel 1.5.3", "audmodel 2.0.0, 2 workers"),
        *("s5cmd", "boto3", "huggingface_hub"),
    }
    assert all(int(row["bytes"]) > 1_500_000 for row in rows)


def test_delta(released_python: Path, tmp_path: Path) -> None:
    rows = run("delta", released_python, tmp_path)
    size = {
        (row["operation"], row["edit"], row["by"].partition(" ")[0], row["known"]): int(
            row["bytes"]
        )
        for row in rows
    }
    for operation, other in (("load", "rsync"), ("publish", "hf-xet,")):
        all_of_it = size[operation, "header grows", "audmodel", "nothing"]
        changed = size[operation, "header grows", "audmodel", "first version"]
        assert changed < 0.1 * all_of_it
        if other != "rsync" or shutil.which("rsync"):
            assert size[operation, "header grows", other, "first version"] > 0


def test_delta_of_a_file(released_python: Path, tmp_path: Path) -> None:
    options = ("--formats", "file", "--size", "40", "--operations", "load")
    rows = run(
        "delta", released_python, tmp_path, *options, "--edits", "1 % at the end"
    )
    share = {(row["by"], row["known"]): row["share"] for row in rows}
    assert float(share["audmodel 2.0.0", "first version"].rstrip("%")) < 20


def test_bf16(released_python: Path, tmp_path: Path) -> None:
    rows = run("bf16", released_python, tmp_path)
    size = {
        row["weights"]: int(row["bytes"]) for row in rows if row["operation"] == "load"
    }
    assert 0.7 * size["stored"] < size["deflated"] < 0.9 * size["stored"]


def test_scale(released_python: Path, tmp_path: Path) -> None:
    rows = run("scale", released_python, tmp_path)
    size = {
        row["caches"]: int(row["bytes"]) for row in rows if row["version"] == "2.0.0"
    }
    # Processes that share a cache fetch a model once
    assert size["a cache each"] == pytest.approx(2 * size["one cache"], rel=0.1)
    with (tmp_path / "limits.csv").open(newline="") as file:
        assert [row["machines"] for row in csv.DictReader(file)][-1] == "10,000"


def test_catalog() -> None:
    script = ROOT / "benchmarks" / "catalog.py"
    command = [sys.executable, str(script), "--models", "30"]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = [" ".join(line.split()) for line in output.stdout.splitlines()]
    changed = next(n for n, line in enumerate(lines) if line.startswith("one model"))
    assert lines[changed + 1] == "1 files written"
    assert any(line.startswith("models(catalog=True)") for line in lines)
    assert lines[-1].startswith("search")


@pytest.mark.parametrize("name", [*SCRIPTS, "catalog", "parallel", "pools"])
def test_script_says_what_it_needs(name: str) -> None:
    text = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    block = re.match(r"# /// script\n((#.*\n)+?)# ///\n", text)
    assert block is not None
    metadata = tomllib.loads(re.sub("(?m)^# ?", "", block.group(1)))
    source = metadata["tool"]["uv"]["sources"]["audmodel"]
    assert source == {"path": "..", "editable": True}
    needed = {re.split(r"[\[>=]", name)[0] for name in metadata["dependencies"]}
    assert "audmodel" in needed


# What they measure with ------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("case", "lines"),
    [
        (
            "killed in a call",
            {
                "killed in a call audmodel BrokenProcessPool",
                "killed in a call spawn BrokenProcessPool",
                "killed in a call, next call audmodel works",
                "killed in a call, next call spawn fails",
            },
        ),
        (
            "killed program",
            {
                "killed program, processes left audmodel 0",
                "killed program, processes left spawn 5",
            },
        ),
    ],
)
def test_pools(case: str, lines: set[str]) -> None:
    output = subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / "pools.py",
            "--rounds=1",
            f"--only={case}",
            "--pools",
            "audmodel",
            "spawn",
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert lines <= {" ".join(line.split()) for line in output.splitlines()}


@pytest.fixture
def echo() -> Iterator[str]:
    """Host and port of a server that answers with what it gets."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def ask(connection: http.client.HTTPConnection, body: bytes | None = None) -> bytes:
    connection.request("GET" if body is None else "POST", "/", body)
    return connection.getresponse().read()


def test_link_counts_requests_and_bytes(echo: str) -> None:
    # A body that looks like requests is none
    body = b"GET / HTTP/1.1\r\n\r\n" * 20_000
    with Link(echo) as link:
        connection = http.client.HTTPConnection(link.host)
        assert ask(connection) == b""
        link.forget()
        for sent in (body, None, b"", body):
            assert ask(connection, sent) == (sent or b"")
        connection.close()
        assert link.requests == 4
        assert 2 * len(body) < link.sent < 2 * len(body) + 1000
        assert 2 * len(body) < link.received < 2 * len(body) + 1000


def test_link_counts_requests_that_come_in_pieces(echo: str) -> None:
    with Link(echo) as link:
        connection = http.client.HTTPConnection(link.host)
        connection.connect()
        for piece in (b"POST / HT", b"TP/1.1\r\nContent-Le", b"ngth: 4\r\n\r", b"\nab"):
            connection.sock.sendall(piece)
            time.sleep(0.02)
        connection.sock.sendall(b"cdGET / HTTP/1.1\r\n\r\n")
        answers = b""
        while answers.count(b"\r\n\r\n") < 2:
            answers += connection.sock.recv(1000)
        connection.close()
        assert link.requests == 2


def test_link_has_latency(echo: str) -> None:
    with Link(echo, latency=0.05) as link:
        connection = http.client.HTTPConnection(link.host)
        start = time.monotonic()
        ask(connection)
        opened = time.monotonic()
        ask(connection)
        end = time.monotonic()
        connection.close()
    assert opened - start >= 0.1
    assert end - opened >= 0.05


def seconds_side_by_side(link: Link, body: bytes) -> float:
    """How long four connections take that send, and get back, the same at once."""
    connections = [http.client.HTTPConnection(link.host) for _ in range(4)]
    start = time.monotonic()
    threads = [threading.Thread(target=ask, args=(c, body)) for c in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    for connection in connections:
        connection.close()
    return seconds


def test_link_limits_each_connection(echo: str) -> None:
    with Link(echo, rate=2_500_000) as link:
        seconds = seconds_side_by_side(link, bytes(1_000_000))
    # There and back, side by side with the others
    assert 0.75 <= seconds < 2.4


def test_link_limits_all_connections_together(echo: str) -> None:
    with Link(echo, total=2_500_000) as link:
        seconds = seconds_side_by_side(link, bytes(500_000))
    # What comes back may begin before everything is there
    assert 0.75 <= seconds < 2.4


def test_link_without_server_breaks_the_connection() -> None:
    with Link("127.0.0.1:1") as link:
        connection = http.client.HTTPConnection(link.host, timeout=10)
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            ask(connection)


@pytest.mark.parametrize("dtype", list(models.DTYPES))
@pytest.mark.parametrize("shards", [1, 3])
def test_weights_have_the_size_that_was_asked_for(
    tmp_path: Path, dtype: str, shards: int
) -> None:
    root = models.make_weights(tmp_path / "model", 120_000, dtype, shards)
    weights = list(root.glob("*.bin"))
    assert len(weights) == shards
    assert sum(path.stat().st_size for path in weights) == 120_000


def test_what_differs_is_found(tmp_path: Path) -> None:
    root = models.make_weights(tmp_path / "model", 1000)
    models.check_same(root, root)
    other = models.make_weights(tmp_path / "other", 1000)
    (other / "weights.bin").write_bytes(bytes(1000))
    with pytest.raises(RuntimeError, match="not what was published"):
        models.check_same(root, other)
    (other / "weights.bin").unlink()
    with pytest.raises(FileNotFoundError):
        models.check_same(root, other)
