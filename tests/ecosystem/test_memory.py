"""Memory depends on workers and parts, not on the model."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import sys
import zipfile

from benchmarks.common.bench import Client


MB = 1_000_000
LIMIT = 250


def test_memory_of_publishing_and_loading(tmp_path: Path) -> None:
    root, host, cache = (tmp_path / name for name in ("model", "host", "cache"))
    (host / "models").mkdir(parents=True)
    make_model(root, 512)

    def call(function: str, *arguments: object) -> str:
        where = ["models", str(host), "file-system"]
        with Client(sys.executable, where, cache, {}) as client:
            sample = client.call(function, *arguments, num_workers=4)
        assert sample.peak / MB < LIMIT
        return sample.value

    uid = call("publish", root, "torch", {}, "1.0.0")
    shutil.rmtree(call("load", uid))
    [archive] = host.rglob("*.zip")
    make_old(archive, root)
    call("load", uid)
    shutil.rmtree(tmp_path)


def make_model(root: Path, megabytes: int) -> None:
    """One large file, half of which shrinks."""
    root.mkdir()
    block = os.urandom(2**19) + os.urandom(2**10) * 2**9
    with (root / "weights").open("wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(8, "little"))
            file.write(block[8:])
    (root / "model.yaml").write_text("small")


def make_old(archive: Path, root: Path) -> None:
    """Replace an archive by one of an earlier release, without an index."""
    # Deflating it takes long, and is what benchmarks do
    with zipfile.ZipFile(archive, "w") as replaced:
        for path in sorted(root.iterdir()):
            replaced.write(path, path.name)
    host = archive.parents[4]
    [header] = host.rglob(f"{archive.stem}.header.yaml")
    lines = header.read_text().splitlines(keepends=True)
    start = lines.index("archive:\n")
    del lines[start : start + 3]
    header.write_text("".join(lines))
