"""How hard to try, what chance decided, and what was tried in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
import os
from pathlib import Path
import random

import pytest

from tests.conftest import ROOT
from tests.reliability.strace import Tracer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests the time that they need to try more."""
    if _torture():
        for item in items:
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(1200 * _torture()))


@pytest.fixture(autouse=True)
def processes_are_unmeasured(unmeasured: None) -> None:
    """Most of these processes end by a signal, or are forks."""


def _torture() -> int:
    return int(os.environ.get("TORTURE", "0"))


def patience() -> float:
    """Seconds to wait for another process.

    Less than those that a test may take:
    when they are over the whole worker ends, which looks as if it had crashed.

    """
    return 100 + 1000 * _torture()


@pytest.fixture(scope="session")
def torture() -> int:
    """How much to try: 0 in ``make test``, 1 in ``make torture``, or more.

    ``TORTURE=10 make torture`` sets it to 10.

    """
    return _torture()


@pytest.fixture
def seed() -> int:
    """Seed of everything that chance decides, printed when a test fails.

    It is the same in each run, and another one in each ``make torture``.
    ``SEED`` sets it, for example to try once more what failed.

    """
    new = random.SystemRandom().getrandbits(32) if _torture() else 1
    seed = int(os.environ.get("SEED", new))
    print(f"SEED={seed}")  # noqa: T201
    return seed


@pytest.fixture
def chance(seed: int) -> random.Random:
    """Random numbers that are the same for the same seed."""
    return random.Random(seed)


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Count what was tried, for the figures that are printed in the end."""
    figures: dict[str, int] = {}
    record_property("figures", figures)

    def count(what: str, number: int = 1) -> None:
        figures[what] = figures.get(what, 0) + number

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what all tests together have tried."""
    figures: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for key, value in report.user_properties:
            if key == "figures":
                figures.update(value)
    if figures:
        terminalreporter.section("figures")
        for what, number in sorted(figures.items()):
            terminalreporter.write_line(f"{number:10,} {what}")


@pytest.fixture(scope="session")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracer]:
    """Run code whose calls to the operating system are watched or fail."""
    with Tracer({"PYTHONPATH": str(ROOT)}, tmp_path_factory.mktemp("strace")) as tracer:
        yield tracer


@pytest.fixture(scope="session")
def released_tracer(
    released_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tracer]:
    """The same with the released audmodel."""
    with Tracer(
        {"PYTHONSAFEPATH": "1"},
        tmp_path_factory.mktemp("strace"),
        python=released_python,
        modules=["audmodel.core.api", "shutil"],
    ) as tracer:
        yield tracer
