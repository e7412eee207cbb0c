r"""Check, audit and tidy up repositories."""

from __future__ import annotations

import argparse

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli.command import DAMAGED
from audmodel.cli.command import OK
from audmodel.cli.command import REPOSITORY
from audmodel.cli.command import Command
from audmodel.cli.command import Result
from audmodel.errors import ConfigurationError


def _argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "repository",
        metavar="REPOSITORY",
        nargs="?",
        help="label or name of a configured one, the first by default, "
        "or BACKEND:HOST:NAME",
    )


def _repository(args: argparse.Namespace) -> audmodel.Repository | str:
    if args.repository is not None:
        return str(args.repository)
    if not audmodel.config.REPOSITORIES:
        raise ConfigurationError("No repository is configured.")
    return audmodel.config.REPOSITORIES[0]


def _check(args: argparse.Namespace) -> Result:
    from audmodel.core.api.arguments import one_repository

    repository = one_repository(_repository(args))
    report = audmodel.check_repository(repository)
    return Result(
        {"ok": report.ok, **output.record(report), "repository": repository},
        str(report),
        OK if report.ok else REPOSITORY,
    )


CHECK = Command(
    "repository check",
    "test whether a storage meets the requirements of audmodel",
    _argument,
    _check,
    "audmodel repository check s3:localhost:9000:models",
    "The check writes small objects, and removes them again. "
    "The repository has to exist.",
)


def _audit_arguments(parser: argparse.ArgumentParser) -> None:
    _argument(parser)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="rebuild lists of aliases that do not agree with the aliases",
    )
    arguments.num_workers(parser)


def _audit(args: argparse.Namespace) -> Result:
    found = audmodel.audit_repository(
        _repository(args),
        repair=args.repair,
        num_workers=args.num_workers,
        verbose=args.verbose,
    )
    return Result(
        found,
        "\n".join(output.printable(str(finding)) for finding in found),
        OK if all(finding.repaired for finding in found) else DAMAGED,
    )


AUDIT = Command(
    "repository audit",
    "find out whether the records of a repository are complete and consistent",
    _audit_arguments,
    _audit,
    "audmodel repository audit --repair",
    "It lists models without archive or metadata, aliases of missing models, "
    "records that cannot be read, and wrong lists of aliases, "
    "and says what to do. If there are none, it prints nothing.",
)


def _leftovers_arguments(parser: argparse.ArgumentParser) -> None:
    _argument(parser)
    parser.add_argument(
        "--min-age",
        metavar="TIME",
        type=arguments.duration,
        default="7d",
        help="list only objects that were stored at least this long ago, "
        "e.g. 12h or 30d (default: 7d)",
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="remove objects that are proven to be orphans",
    )
    parser.add_argument(
        "--unproven",
        action="store_true",
        help="with --remove: remove the other objects as well. "
        "Check the list first, a backup may be about to be restored",
    )


def _leftovers(args: argparse.Namespace) -> Result:
    found = audmodel.leftovers(
        _repository(args),
        remove=args.remove,
        min_age=args.min_age,
        unproven=args.unproven,
    )
    rows = [
        (left.date, left.kind, _yes(left.proven), _yes(left.removed), left.path)
        for left in found
    ]
    text = output.table(("date", "kind", "proven", "removed", "path"), rows)
    return Result(found, text)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


LEFTOVERS = Command(
    "repository leftovers",
    "list orphans: objects that dead publishers left in a repository",
    _leftovers_arguments,
    _leftovers,
    "audmodel repository leftovers --min-age 30d --remove",
    "Orphans take up space. Objects that are in use are never removed, "
    "and objects that may belong to a backup that is being restored are kept.",
)
