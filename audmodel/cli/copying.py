r"""Copy models from one repository to another one."""

from __future__ import annotations

import argparse

import audmodel
from audmodel.cli import arguments
from audmodel.cli import listing
from audmodel.cli import output
from audmodel.cli.command import Command
from audmodel.cli.command import Result


def _places(parser: argparse.ArgumentParser) -> None:
    for option, dest, what in (
        ("--from", "source", "repository that has the models"),
        ("--to", "target", "repository that gets them"),
    ):
        parser.add_argument(
            option,
            dest=dest,
            metavar="REPOSITORY",
            required=True,
            help=f"{what}: label or name of a configured one, or BACKEND:HOST:NAME",
        )
    parser.add_argument(
        "--aliases",
        action="store_true",
        help="set the aliases of the models as well, "
        "and keep those that point to other models in the target",
    )
    parser.add_argument(
        "--move-aliases",
        action="store_true",
        help="set the aliases, and move those that point to other models",
    )
    arguments.dry_run(parser, "list what would be copied, and copy nothing")
    arguments.num_workers(parser)


def _copy_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.uids(parser)
    _places(parser)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="read the archives that the target has, and store damaged ones again",
    )


def _copy(args: argparse.Namespace) -> Result:
    return _result(
        audmodel.copy(
            args.uid,
            args.source,
            args.target,
            aliases=args.aliases,
            move_aliases=args.move_aliases,
            repair=args.repair,
            dry_run=args.dry_run,
            num_workers=args.num_workers,
            verbose=args.verbose,
        )
    )


COPY = Command(
    "copy",
    "copy models from one repository to another one, and list them",
    _copy_arguments,
    _copy,
    "audmodel copy 3e120e8d-1.0.0 --from models --to file-system:/media/disk:models",
    "A copy has the same ID. What the target has already is not copied again. "
    "With --aliases, an alias that points to another model in the target is kept. "
    "--move-aliases moves it.",
)


def _sync_arguments(parser: argparse.ArgumentParser) -> None:
    listing.conditions(parser)
    _places(parser)
    parser.add_argument(
        "--both",
        action="store_true",
        help="copy in both directions",
    )
    arguments.cache_root(parser)


def _sync(args: argparse.Namespace) -> Result:
    return _result(
        audmodel.sync(
            args.source,
            args.target,
            **listing.given_conditions(args),
            both=args.both,
            aliases=args.aliases,
            move_aliases=args.move_aliases,
            dry_run=args.dry_run,
            cache_root=args.cache_root,
            num_workers=args.num_workers,
            verbose=args.verbose,
        )
    )


SYNC = Command(
    "sync",
    "copy all models that another repository lacks, and list them",
    _sync_arguments,
    _sync,
    "audmodel sync --from models --to file-system:/media/disk:models --dry-run",
    "A model has to match all conditions that are given. Nothing is deleted.",
)


def _result(models: list[audmodel.CopiedModel]) -> Result:
    columns = {
        "uid": [model.uid for model in models],
        "size": [output.size(model.size) for model in models],
        "copied": ["yes" if model.copied else "no" for model in models],
        "aliases": [", ".join(model.aliases) for model in models],
        "kept": [", ".join(model.kept) for model in models],
        "target": [model.target.name for model in models],
    }
    if not any(columns["kept"]):
        del columns["kept"]
    rows = list(zip(*columns.values(), strict=True))
    return Result(models, output.table(tuple(columns), rows))
