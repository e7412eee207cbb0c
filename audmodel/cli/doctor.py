r"""Find out what keeps an installation from working."""

from __future__ import annotations

import argparse

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli.command import CACHE
from audmodel.cli.command import FAILED
from audmodel.cli.command import OK
from audmodel.cli.command import REPOSITORY
from audmodel.cli.command import Command
from audmodel.cli.command import Result
from audmodel.cli.command import UsageError


# Exit codes by topic, those of repositories have their names
_CODES = {"versions": FAILED, "settings": FAILED, "cache": CACHE}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "repository",
        metavar="REPOSITORY",
        nargs="?",
        help="the only repository to check: label or name of a configured one, "
        "or BACKEND:HOST:NAME",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="test the storage of REPOSITORY by objects that are removed again",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure how many workers keep a repository busy, "
        "which reads up to 260 MB of each",
    )
    arguments.cache_root(parser)


def _doctor(args: argparse.Namespace) -> Result:
    if args.write and args.repository is None:
        raise UsageError("--write needs REPOSITORY, the one that it writes to")
    report = audmodel.doctor(
        args.repository,
        write=args.write,
        measure=args.measure,
        cache_root=args.cache_root,
    )
    first = next(iter(report.failed), None)
    code = OK if first is None else _CODES.get(first.topic, REPOSITORY)
    return Result({"ok": report.ok, **output.record(report)}, str(report), code)


DOCTOR = Command(
    "doctor",
    "check installation, settings, cache and repositories",
    _arguments,
    _doctor,
    "audmodel doctor --json",
    "It shows each setting with where it comes from, how each repository is reached "
    "and what its storage can do, and the state of the cache. "
    "It shows no secrets, and writes to no repository without --write.",
)
