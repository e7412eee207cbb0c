"""Options, tables and plots of the benchmarks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import datetime
import importlib.metadata
import os
from pathlib import Path
import platform
import shlex
import sys

from benchmarks.common import models
from benchmarks.common.bench import OURS
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Result
from benchmarks.common.store import BACKENDS


BENCHMARKS = Path(__file__).parents[1]
# Colours that can be told apart by everybody
COLOURS = ["#b3382c", "#1f6fb4", "#6c757d", "#e0a030", "#3a8f5c", "#8655a5"]

Row = dict[str, str]
Options = argparse.Namespace


def parser(description: str | None) -> argparse.ArgumentParser:
    """Parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(
        description=(description or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.add_argument("--iterations", type=int, default=5, help="rounds that count")
    made.add_argument(
        "--output",
        type=Path,
        default=BENCHMARKS / "output" / Path(sys.argv[0]).stem,
        help="folder for results",
    )
    made.add_argument("--quick", action="store_true", help="see that it works")
    return made


def parse(made: argparse.ArgumentParser, **quick: object) -> Options:
    """Parse the command line, with other defaults if it has to be quick."""
    if "--quick" in sys.argv[1:]:
        made.set_defaults(iterations=1, **quick)
    return made.parse_args()


def add_model(made: argparse.ArgumentParser) -> None:
    """Add the options of a model of weights."""
    made.add_argument("--size", type=float, default=1000, help="MB of weights")
    made.add_argument("--dtype", choices=models.DTYPES, default="float32")
    made.add_argument("--shards", type=int, default=1, help="files of weights")


def make_model(bench: Bench, options: Options) -> tuple[Path, str]:
    """Make the model of the options, and describe it."""
    size = int(options.size * models.MB)
    root = models.make_weights(
        bench.folder / "model", size, options.dtype, options.shards
    )
    bench.make_room(root)
    files = "1 file" if options.shards == 1 else f"{options.shards} files"
    return root, f"{options.size:g} MB of {options.dtype} weights in {files}"


def add_store(made: argparse.ArgumentParser) -> None:
    """Add the options of where models are."""
    made.add_argument("--rate", type=float, default=0, help="MB/s per connection")
    made.add_argument("--backend", choices=BACKENDS, default="s3")
    made.add_argument(
        "--repository",
        nargs=3,
        metavar=("NAME", "HOST", "BACKEND"),
        help="repository of yours",
    )


def limit(rate: float, total: float = 0) -> str:
    """What a link is like."""
    text = f", {rate:g} MB/s per connection" if rate else ""
    return text + (f", {total:g} MB/s in all" if total else "")


def machine() -> str:
    """On what the benchmark runs."""
    model = platform.processor() or platform.machine()
    memory = ""
    try:
        cpu = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(": ")[1] for line in cpu if "model name" in line)
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        memory = f", {pages / 2**30:.0f} GiB of memory"
    except (OSError, StopIteration, ValueError):
        pass
    return (
        f"{os.cpu_count()} cores ({model}){memory}, "
        f"{platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def versions(*packages: str) -> str:
    """Versions of packages, as far as they are installed."""
    found = []
    for package in ("audmodel", *packages):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def elapsed(seconds: float) -> str:
    """Time as hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=round(seconds, 6)))


def rows(results: Sequence[Result], *same: str) -> list[Row]:
    """Rows that tell how long something took, and what it took.

    Args:
        results: results of contenders
        same: labels; what is as fast as the first contender
            that shares them all has a speedup of one

    """
    found = []
    references: dict[tuple[str, ...], Result] = {}
    for result in results:
        key = tuple(result.labels[label] for label in same)
        reference = references.setdefault(key, result)
        found.append(_row(result, reference.mean / result.mean))
    return found


def _row(result: Result, speedup: float) -> Row:
    return {
        **result.labels,
        "num_iter": str(len(result.samples)),
        "elapsed(avg)": elapsed(result.mean),
        "elapsed(std)": elapsed(result.deviation),
        "speedup": f"{speedup:.1f}" if speedup > 0.1 else f"{speedup:.1g}",
        "bytes": _number(result.transferred),
        "peak memory": f"{result.peak / 1e6:.0f} MB" if result.peak else "",
        "requests": _number(result.requests),
    }


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def write(output: Path, rows: Sequence[Row], what: str, *packages: str) -> None:
    """Write and print a table.

    Args:
        output: folder for results
        rows: rows of the table
        what: a sentence that tells what was measured, and where
        packages: packages whose versions matter

    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    table = markdown(rows)
    command = f"uv run benchmarks/{Path(sys.argv[0]).name} {shlex.join(_arguments())}"
    about = f"{what}\nMachine: {machine()};\n{versions(*packages)}."
    (output / "results.md").write_text(f"{about}\n\n`{command.strip()}`\n\n{table}")
    (output / "about.rst").write_text(
        f"{about}\n\n.. code-block:: console\n\n    $ {command.strip()}\n"
    )
    print(f"{about}\n\n{table}\nWritten to {output}", flush=True)


def _arguments() -> list[str]:
    """Arguments but for the place of results."""
    arguments = sys.argv[1:]
    if "--output" in arguments:
        place = arguments.index("--output")
        del arguments[place : place + 2]
    return arguments


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as a table in Markdown."""
    names = list(rows[0])
    widths = [
        max(len(row[name]) for row in [dict(zip(names, names)), *rows])
        for name in names
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths))
        return f"| {' | '.join(padded)} |\n"

    rule = line(["-" * width for width in widths])
    return line(names) + rule + "".join(line([*row.values()]) for row in rows)


class Plot:
    """A plot in the style of all benchmarks.

    Args:
        title: title
        x: label of the x-axis
        y: label of the y-axis

    """

    def __init__(self, title: str, x: str, y: str) -> None:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot

        # The same figures give the same file, and text is read on a phone
        pyplot.rcParams.update({"svg.hashsalt": "audmodel", "font.size": 12})
        self._figure, self.axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
        self._ticks: set[float] = set()
        # A link is described in a line of its own
        self.axes.set_title(title.replace(", ", "\n"), loc="left", fontsize=13)
        self.axes.set_xlabel(x)
        self.axes.set_ylabel(y)
        for side in ("top", "right"):
            self.axes.spines[side].set_visible(False)
        self.axes.grid(axis="y", alpha=0.3)

    def line(
        self,
        label: str,
        results: Sequence[Result],
        column: str,
        value: Callable[[Result], float] | None = None,
    ) -> None:
        """Draw results by what is in a column: seconds, or another value."""
        colour = COLOURS[len(self.axes.containers) % len(COLOURS)]
        measured = [float(result.labels[column].split()[0]) for result in results]
        self._ticks.update(measured)
        self.axes.errorbar(
            measured,
            [value(result) if value else result.mean for result in results],
            yerr=None if value else [result.deviation for result in results],
            label=label,
            color=colour,
            marker="o",
            capsize=3,
        )

    def level(self, label: str, y: float) -> None:
        """Draw a level to compare with."""
        self.axes.axhline(y, label=label, color="#6c757d", linestyle="--")

    def bars(self, labels: Sequence[str], results: Sequence[Result]) -> None:
        """Draw the seconds of results as horizontal bars, the first one on top."""
        y = [result.mean for result in results]
        spread = [result.deviation for result in results]
        self._figure.set_figheight(1.2 + 0.45 * len(labels))
        places = range(len(labels))
        colours = [COLOURS[0 if f"audmodel {OURS}" in name else 2] for name in labels]
        bars = self.axes.barh(
            places, y, xerr=spread, color=colours, capsize=3, height=0.45
        )
        self.axes.bar_label(bars, fmt="%.2g", padding=5)
        self.axes.set_yticks([])
        # Names have all of the width above their bar
        for place, name in zip(places, labels, strict=True):
            self.axes.annotate(
                name,
                (0, place - 0.25),
                xytext=(3, 1),
                textcoords="offset points",
                fontsize=10,
            )
        self.axes.set_ylim(len(labels) - 0.5, -0.9)
        self.axes.grid(visible=False, axis="y")
        self.axes.grid(axis="x", alpha=0.3)

    def save(self, output: Path) -> None:
        """Write the plot as SVG and as PNG."""
        if self.axes.get_legend_handles_labels()[0]:
            self._figure.legend(loc="outside lower left", frameon=False, fontsize=10)
            self.axes.set_ylim(bottom=0)
            self.axes.set_xticks(sorted(self._ticks), minor=False)
            self.axes.xaxis.set_major_formatter("{x:g}")
        self._figure.savefig(output / "results.svg", metadata={"Date": None})
        self._figure.savefig(output / "results.png", dpi=110, metadata={"Software": ""})
