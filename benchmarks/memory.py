"""Peak memory of publishing and loading, each in a process of its own.

python benchmarks/memory.py [megabytes] [num_workers]

"""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
import zipfile


STEP = """
import sys, time
import audmodel

step, host, cache, what, num_workers = sys.argv[1:]
repository = audmodel.Repository("models", host, "file-system")
audmodel.config.REPOSITORIES = [repository]
audmodel.config.CACHE_ROOT = cache
start = time.monotonic()
if step.startswith("publish"):
    level = int(step.removeprefix("publish"))
    result = audmodel.publish(
        what, "torch", {"level": level}, "1.0.0", repository=repository,
        compression=level, num_workers=int(num_workers),
    )
else:
    result = audmodel.load(what, num_workers=int(num_workers))
seconds = time.monotonic() - start
# Unlike the peak that getrusage() tells, this one is not the parent's
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) for line in file if "VmHWM" in line)
print(result, peak // 1024, seconds)
"""


def run(step: str, *arguments: object) -> tuple[str, int]:
    """Run a step, print and give its memory, and give its result."""
    result = subprocess.run(
        [sys.executable, "-c", STEP, step, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    value, memory, seconds = result.stdout.split()
    print(f"{step:10} {int(memory):5} MB peak {float(seconds):7.1f} s", flush=True)
    return value, int(memory)


def make_model(root: Path, megabytes: int) -> None:
    """One large file, half of which shrinks."""
    root.mkdir()
    block = os.urandom(2**19) + os.urandom(2**10) * 2**9
    with (root / "weights").open("wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(8, "little"))
            file.write(block[8:])
    (root / "model.yaml").write_text("small")


def make_old(archive: Path, root: Path, method: int = zipfile.ZIP_DEFLATED) -> None:
    """Replace an archive by one of an earlier release, without an index."""
    with zipfile.ZipFile(archive, "w", method, compresslevel=1) as replaced:
        for path in sorted(root.iterdir()):
            replaced.write(path, path.name)
    host = archive.parents[4]
    [header] = host.rglob(f"{archive.stem}.header.yaml")
    lines = header.read_text().splitlines(keepends=True)
    start = lines.index("archive:\n")
    del lines[start : start + 3]
    header.write_text("".join(lines))


def main(megabytes: int, num_workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, host, cache = (Path(folder, n) for n in ("model", "host", "cache"))
        (host / "models").mkdir(parents=True)
        make_model(root, megabytes)
        print(f"{megabytes} MB, {num_workers} workers")
        for level in (0, 1, 6):
            uid, _ = run(f"publish{level}", host, cache, root, num_workers)
            loaded, _ = run("load", host, cache, uid, num_workers)
            shutil.rmtree(loaded)
            if level < 6:
                shutil.rmtree(host)
                (host / "models").mkdir(parents=True)
        print("Archive of an earlier release:")
        [archive] = host.rglob("*.zip")
        make_old(archive, root)
        run("load", host, cache, uid, num_workers)


if __name__ == "__main__":
    main(*map(int, [*sys.argv[1:], *("512", "4")[len(sys.argv) - 1 :]]))
