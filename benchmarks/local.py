# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel", "numpy", "uv"]
# [tool.uv.sources]
# audmodel = { path = ".." }
# ///
r"""Publish and load on a file-system repository, beside audmodel 1.5.3.

Compared are, in turns and with medians over all rounds:

* publish and load of audmodel 1.5.3, in an environment of its own
* publish and load of this version for several numbers of workers
* load by this version of what 1.5.3 published
* ``cp -r`` of the extracted folder

for a model with one large file of float32 weights,
and for one with many small files.
Every run is a process of its own that times the function call alone.
What a run has written is removed right after it,
so that every run finds as much free memory as the one before.
Many small files are removed at the end of a round,
since creating files right after removing many is slow on some file systems.
A virtual machine may hand memory that is free back to its host,
and whoever comes next waits until it is there again, ``cp`` as well.
So memory is taken and freed right before each run,
unless ``--cold`` asks for the machine as it is.

"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


CALL = """
import json, sys, time
import audmodel
action, host, root, cache, workers = sys.argv[1:]
repository = audmodel.Repository("models", host, "file-system")
audmodel.config.REPOSITORIES = [repository]
options = {} if workers == "0" else {"num_workers": int(workers)}
audmodel.versions("00000000")  # imports what is imported when it is used
start = time.perf_counter()
if action == "publish":
    audmodel.publish(root, "m", {}, "1.0.0", repository=repository, **options)
else:
    uid = audmodel.uid("m", {}, "1.0.0")
    audmodel.load(uid, cache_root=cache, **options)
seconds = time.perf_counter() - start
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) // 1024 for line in file if "VmHWM" in line)
print(json.dumps([seconds, peak]))
"""


MODELS = ("weights", "files")


class Bench:
    r"""Runs and their results.

    Args:
        folder: folder for everything that is written
        model: folder of the model
        old: Python with audmodel 1.5.3
        clean_at_once: whether to remove what a run has written right after it
        warm: bytes of memory to take and free before each run

    """

    def __init__(
        self, folder: Path, model: Path, old: str, clean_at_once: bool, warm: int
    ) -> None:
        self.folder = folder
        self.warm = warm
        self.clean_at_once = clean_at_once
        self.model = model
        self.old = old
        self.times: dict[str, list[float]] = {}
        self.peaks: dict[str, int] = {}
        self._count = 0

    def call(
        self, label: str, python: str, action: str, host: str, workers: int
    ) -> None:
        r"""Run one publish or load."""
        self._count += 1
        cache = self.folder / f"cache-{self._count}"
        repository = self.folder / host
        if action == "publish":
            repository = self.folder / f"{host}-{self._count}"
        (repository / "models").mkdir(parents=True, exist_ok=True)
        self.warm_up()
        arguments = [action, repository, self.model, cache, str(workers)]
        result = subprocess.run(
            [python, "-c", CALL, *map(str, arguments)],
            check=True,
            capture_output=True,
            text=True,
            cwd=self.folder,
        )
        seconds, peak = json.loads(result.stdout.splitlines()[-1])
        self.times.setdefault(label, []).append(seconds)
        self.peaks[label] = max(peak, self.peaks.get(label, 0))
        if action == "publish":
            keep = self.folder / host
            if not keep.exists():
                repository.rename(keep)
        if self.clean_at_once:
            self.clean()

    def copy(self) -> None:
        r"""Copy the model folder with cp."""
        self._count += 1
        self.warm_up()
        start = time.perf_counter()
        target = self.folder / f"copy-{self._count}"
        subprocess.run(["cp", "-r", self.model, target], check=True)
        self.times.setdefault("cp -r", []).append(time.perf_counter() - start)
        if self.clean_at_once:
            self.clean()

    def warm_up(self) -> None:
        r"""Let the machine have the memory that files will take."""
        path = self.folder / "warm"
        with path.open("wb") as file:
            for _ in range(self.warm >> 20):
                file.write(bytes(1 << 20))
        path.unlink()

    def clean(self) -> None:
        r"""Remove what a round has left."""
        for pattern in ("cache-*", "copy-*", "new-*", "old-*"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path)

    def report(self, title: str) -> None:
        r"""Print medians and ratios."""
        print(f"\n{title}\n")
        print("| what | median s | min | max | 1.5.3 / this | this / cp | peak MB |")
        print("|---|---|---|---|---|---|---|")
        medians = {label: statistics.median(t) for label, t in self.times.items()}
        for label, times in sorted(self.times.items()):
            base = medians["publish 1.5.3" if "publish" in label else "load 1.5.3"]
            print(
                f"| {label} | {medians[label]:.2f} | {min(times):.2f} "
                f"| {max(times):.2f} | {base / medians[label]:.1f} "
                f"| {medians[label] / medians['cp -r']:.2f} "
                f"| {self.peaks.get(label, 0)} |",
                flush=True,
            )


def make_weights(folder: Path, size: int) -> None:
    r"""Make a model with one file of float32 weights."""
    import numpy as np

    folder.mkdir()
    generator = np.random.default_rng(0)
    with (folder / "model.bin").open("wb") as file:
        for start in range(0, size, 64_000_000):
            count = min(64_000_000, size - start) // 4
            weights = generator.standard_normal(count, dtype=np.float32)
            file.write((0.02 * weights).tobytes())


def make_small_files(folder: Path, count: int) -> None:
    r"""Make a model with many files of 10 KB, half of it compressible."""
    for number in range(count):
        path = folder / f"{number // 500:03d}" / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(5_000) + b"weights " * 625)


def run(bench: Bench, rounds: int, workers: list[int], publish: bool) -> None:
    r"""Run everything in turns, in another order in each round.

    What runs right after something that took much memory
    may have to wait until the machine has it back.
    """
    new = sys.executable
    publications = [("publish 1.5.3", bench.old, "publish", "old", 0)]
    publications += [
        (f"publish, {n} workers", new, "publish", "new", n) for n in workers
    ]
    loads = [("load 1.5.3", bench.old, "load", "old", 0)]
    for n in workers:
        loads.append((f"load, {n} workers", new, "load", "new", n))
        loads.append((f"load of 1.5.3's archive, {n} workers", new, "load", "old", n))
    order = random.Random(0)
    for number in range(rounds + 1):
        # The first round makes what is loaded, and warms up memory and disk
        calls = loads + (publications if publish or number == 0 else [])
        calls.sort(key=lambda call: call[2] == "load")
        if number:
            order.shuffle(calls)
        for call in calls:
            bench.call(*call)
        bench.copy()
        bench.clean()
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        if number == 0:
            bench.times.clear()


def main() -> None:
    r"""Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1_000_000_000, help="bytes")
    parser.add_argument("--files", type=int, default=10_000, help="small files")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), help="what to load"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--only-load", action="store_true")
    parser.add_argument("--cold", action="store_true", help="do not warm up memory")
    parser.add_argument(
        "--old",
        default=os.environ.get("AUDMODEL_1_5_3_PYTHON", ".venv-1.5.3/bin/python"),
        help="Python with audmodel 1.5.3",
    )
    options = parser.parse_args()
    old = os.path.abspath(options.old)
    titles = {
        "weights": f"One file of {options.size} bytes of float32 weights",
        "files": f"{options.files} files of 10 KB",
    }
    for make in options.models:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model = folder / "model"
            if make == "weights":
                make_weights(model, options.size)
            else:
                make_small_files(model, options.files)
            size = sum(path.stat().st_size for path in model.rglob("*.bin"))
            warm = 0 if options.cold else size + (256 << 20)
            bench = Bench(folder, model, old, make == "weights", warm)
            run(bench, options.rounds, options.workers, not options.only_load)
            bench.report(titles[make])


if __name__ == "__main__":
    main()
