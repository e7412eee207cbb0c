"""Which tests a run takes: the quick ones, the rest, or all of them.

``make test`` takes the quick part, ``make test-all`` all.
A test belongs to the rest if it is marked with ``thorough``.
A test marked with ``sample(n)`` has many parameters, a family:
the quick part takes ``n`` of them, spread over the whole family.
Tests in ``tests/ecosystem`` need packages that the quick part does not install.
"""

from __future__ import annotations

from collections import Counter
from collections import defaultdict
from pathlib import Path
from typing import NoReturn

import pytest


ECOSYSTEM = Path(__file__).parent / "ecosystem"
_MISSING = "Not installed: "


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part",
        choices=["quick", "rest", "all"],
        default="quick",
        help="Which tests to take: the quick ones, the rest, or all.",
    )


def _part(config: pytest.Config) -> str:
    return str(config.getoption("--part"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import what needs packages that are not there."""
    return True if _part(config) == "quick" and collection_path == ECOSYSTEM else None


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    part = _part(config)
    # To name a test is to want it, whichever part it belongs to
    if part == "all" or any("::" in argument for argument in config.args):
        return
    quick = _quick(items)
    taken = [item for item in items if (item in quick) == (part == "quick")]
    config.hook.pytest_deselected(items=[item for item in items if item not in taken])
    items[:] = taken


def _quick(items: list[pytest.Item]) -> set[pytest.Item]:
    """Tests of the quick part."""
    quick = set()
    families: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.path.is_relative_to(ECOSYSTEM) or item.get_closest_marker("thorough"):
            continue
        if item.get_closest_marker("sample"):
            families[item.nodeid.partition("[")[0]].append(item)
        else:
            quick.add(item)
    for family in families.values():
        marker = family[0].get_closest_marker("sample")
        assert marker is not None
        (number,) = marker.args
        quick.update(family[k * len(family) // number] for k in range(number))
    return quick


# Programs --------------------------------------------------------------------


def skip_without(program: str) -> NoReturn:
    """Skip a test since a program is not installed, which the last line tells."""
    pytest.skip(f"{_MISSING}{program}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say in the last line which programs were missing, and what that left out."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or not hasattr(reporter, "stats"):
        return
    missing: Counter[str] = Counter()
    for report in reporter.stats.get("skipped", []):
        _, _, reason = report.longrepr
        _, found, program = reason.partition(_MISSING)
        if found:
            missing[program] += 1
    programs = ", ".join(
        f"{program} ({number} tests left out)"
        for program, number in sorted(missing.items())
    )
    reporter.write_line(f"Missing programs: {programs or 'none'}")
