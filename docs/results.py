"""Directive that shows what a benchmark has measured, as it was committed."""

import csv
import datetime
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


class Results(SphinxDirective):
    """Show how a benchmark was made, its plot, and its table."""

    required_arguments = 1
    option_spec: ClassVar = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        folder = RESULTS / name
        table = folder / "results.csv"
        for file in (folder / "about.rst", table):
            self.env.note_dependency(str(file))
        with table.open(newline="") as file:
            rows = [readable(row) for row in csv.DictReader(file)]
        lines = [
            (folder / "about.rst").read_text(encoding="utf-8"),
            f".. image:: ../benchmarks/results/{name}/results.svg",
            f"    :alt: {self.options['alt']}",
            "",
            ".. list-table::",
            "    :header-rows: 1",
            "    :class: results",
            "",
        ]
        for cells in (rows[0], *(row.values() for row in rows)):
            marks = ("* -", *["  -"] * (len(rows[0]) - 1))
            lines += [
                f"    {mark} {cell}" for mark, cell in zip(marks, cells, strict=True)
            ]
        return self.parse_text_to_nodes("\n".join(lines))


def readable(row: dict[str, str]) -> dict[str, str]:
    """Figures as precise as they are worth, in few and short columns."""
    found: dict[str, str] = {}
    for name, value in row.items():
        match name:
            case "num_workers":
                found["workers"] = value
            case "num_iter":
                found["rounds"] = value
            case "elapsed(avg)":
                found["seconds"] = f"{seconds(value):.2f}"
            case "elapsed(std)":
                if int(row["num_iter"]) > 1:
                    found["seconds"] += f" ± {seconds(value):.2f}"
            case "bytes":
                found["MB"] = f"{int(value) / 1e6:.1f}" if value else ""
            case "peak memory":
                found["peak MB"] = value.removesuffix(" MB")
            case _:
                found[name] = value
    return found


def seconds(elapsed: str) -> float:
    """Seconds of hours, minutes and seconds."""
    hours, minutes, rest = elapsed.split(":")
    return datetime.timedelta(
        hours=int(hours), minutes=int(minutes), seconds=float(rest)
    ).total_seconds()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
