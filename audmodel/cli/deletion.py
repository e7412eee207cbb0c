r"""Delete models."""

from __future__ import annotations

import argparse

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli.command import Command
from audmodel.cli.command import Result


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "uid", metavar="UID", nargs="+", help="IDs of models, with version"
    )
    parser.add_argument(
        "--aliases",
        action="store_true",
        help="delete the aliases that point to the models as well",
    )
    arguments.dry_run(parser, "list what would be deleted, and delete nothing")
    arguments.repository(
        parser, "where the models are, by default the first configured one"
    )


def _delete(args: argparse.Namespace) -> Result:
    models = audmodel.delete(
        args.uid,
        repository=args.repository,
        aliases=args.aliases,
        dry_run=args.dry_run,
    )
    rows = [
        (model.uid, ", ".join(model.aliases), model.repository.name) for model in models
    ]
    return Result(models, output.table(("uid", "aliases", "repository"), rows))


DELETE = Command(
    "delete",
    "delete models from a repository, and list them",
    _arguments,
    _delete,
    "audmodel delete 3e120e8d-1.0.0 --dry-run",
    "A model that aliases point to is deleted only with --aliases. "
    "If one of the models cannot be deleted, none is. "
    "Models in caches stay, see 'audmodel cache rm'.",
)
