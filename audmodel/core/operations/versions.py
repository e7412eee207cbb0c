r"""Versions of this package, of what it depends on, and of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
import os
import platform
import re
import sys

from audmodel.core.diagnosis import Check
from audmodel.core.diagnosis import Outcome
from audmodel.core.diagnosis import failed
from audmodel.core.diagnosis import ok
from audmodel.core.diagnosis import unknown


# Packages below those that audmodel asks for, which send the requests
_BELOW = ("botocore", "requests", "urllib3")
_NAME = re.compile(r"[\w.-]+")


def checks() -> Iterator[Check]:
    r"""Checks of the installation."""
    yield "audmodel", _package
    yield "Python", _python
    yield "platform", _platform
    yield "packages", _packages


def _package() -> Iterator[Outcome]:
    # The version is kept by the package, which was imported before this module
    package = sys.modules["audmodel"]
    place = os.path.dirname(package.__file__ or "")
    yield ok("audmodel", f"{package.__version__} in '{place}'")


def _python() -> Iterator[Outcome]:
    name, version = platform.python_implementation(), platform.python_version()
    yield ok("Python", f"{name} {version}, '{sys.executable}'")


def _platform() -> Iterator[Outcome]:
    yield ok("platform", f"{platform.platform()}, {cores()} cores")


def cores() -> int:
    r"""Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _packages() -> Iterator[Outcome]:
    try:
        needed = metadata.requires("audmodel") or []
    except metadata.PackageNotFoundError:
        yield unknown("packages", "audmodel is not installed, but imported from files")
        return
    names = [_NAME.match(text) for text in needed if "extra ==" not in text]
    wanted = [match[0] for match in names if match]
    found = {name: _version(name) for name in dict.fromkeys([*wanted, *_BELOW])}
    shown = [f"{name} {version}" for name, version in found.items() if version]
    yield ok("packages", ", ".join(shown))
    missing = [name for name, version in found.items() if not version]
    if missing:
        advice = f"Install them: pip install {' '.join(missing)}"
        yield failed("packages", f"missing are {', '.join(missing)}", advice)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
