r"""Arguments that several commands have, and how they are read."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from collections.abc import Mapping
import datetime
import re
from typing import Any


_DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {
    f"{prefix}{unit}": base**power
    for unit, base in (("b", 1000), ("ib", 1024))
    for power, prefix in enumerate(("", "k", "m", "g", "t"))
}


def uid(parser: argparse.ArgumentParser) -> None:
    r"""One model."""
    parser.add_argument("uid", metavar="UID", help="model ID or alias")


def model(parser: argparse.ArgumentParser) -> None:
    r"""One model, and where to look for it."""
    uid(parser)
    cache_root(parser)
    lookup(parser)


def uids(parser: argparse.ArgumentParser) -> None:
    r"""One or several models."""
    parser.add_argument("uid", metavar="UID", nargs="+", help="model IDs or aliases")


def cache_root(parser: argparse.ArgumentParser) -> None:
    r"""The cache to use."""
    parser.add_argument(
        "--cache-root",
        metavar="FOLDER",
        help="cache folder, instead of the configured one",
    )


def repository(
    parser: argparse.ArgumentParser, purpose: str, dest: str = "repository"
) -> None:
    r"""The repository to use."""
    parser.add_argument(
        "--repository",
        dest=dest,
        metavar="REPOSITORY",
        help=f"{purpose}: label or name of a configured one, or BACKEND:HOST:NAME, "
        "e.g. s3:localhost:9000:models or file-system:/data:models",
    )


def author(parser: argparse.ArgumentParser) -> None:
    r"""Who moves an alias."""
    parser.add_argument(
        "--author", help="author to store in the history, by default the user's name"
    )


def lookup(parser: argparse.ArgumentParser) -> None:
    r"""Where models are looked up."""
    repository(parser, "the only repository to search", "lookup")


def num_workers(parser: argparse.ArgumentParser) -> None:
    r"""Number of parallel workers."""
    parser.add_argument(
        "--num-workers",
        metavar="N",
        type=_workers,
        default=None,
        help="number of parallel workers, or 'auto' (default) "
        "for a number that suits the machine",
    )


def timeout(parser: argparse.ArgumentParser) -> None:
    r"""How long to wait for other processes."""
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=_wait,
        default="4h",
        help="how long to wait for another process that uses the same model, "
        "e.g. 30s or 10m, or 'forever' (default: 4h)",
    )


def dry_run(parser: argparse.ArgumentParser, help: str) -> None:  # noqa: A002
    r"""Whether to report only what would be done."""
    parser.add_argument("--dry-run", action="store_true", help=help)


def as_pairs(values: Mapping[str, Any]) -> str:
    r"""Values as ``KEY=VALUE``."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a positive integer nor 'auto'"
        )
    return int(text)


def _wait(text: str) -> float | None:
    r"""Seconds to wait, ``None`` is forever."""
    return None if text == "forever" else duration(text).total_seconds()


def date(text: str) -> datetime.date:
    r"""Date that a user gives."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date like 2026-01-31"
        ) from error


def moment(text: str) -> datetime.datetime:
    r"""Time that a user gives, in the time zone of this machine without another."""
    try:
        return datetime.datetime.fromisoformat(text).astimezone()
    except (OverflowError, ValueError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time like 2026-01-31T12:00 or 2026-01-31T12:00Z"
        ) from error


def duration(text: str) -> datetime.timedelta:
    r"""Time that a user gives, e.g. ``'30d'``."""
    number, factor = _measure(text, _DURATIONS, "a time like 90m, 12h or 30d", "smhd")
    try:
        return datetime.timedelta(seconds=number * factor)
    except OverflowError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is too long") from error


def bytes_(text: str) -> int:
    r"""Number of bytes that a user gives, e.g. ``'10GB'``."""
    units = ("MB", "GB", "GiB")
    number, factor = _measure(text, _SIZES, "a size like 500MB, 10GB or 1TiB", units)
    return int(number * factor)


def _measure(
    text: str, units: Mapping[str, int], example: str, usual: Iterable[str]
) -> tuple[float, int]:
    r"""Number and factor of its unit."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)", text)
    if match is not None and not match[2]:
        *others, last = (f"{text}{unit}" for unit in usual)
        raise argparse.ArgumentTypeError(
            f"{text!r} has no unit, write {', '.join(others)} or {last}"
        )
    if match is None or match[2].lower() not in units:
        raise argparse.ArgumentTypeError(f"{text!r} is not {example}")
    return float(match[1]), units[match[2].lower()]
