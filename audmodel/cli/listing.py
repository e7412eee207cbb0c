r"""Models in repositories."""

from __future__ import annotations

import argparse
from typing import Any

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli import values
from audmodel.cli.command import Command
from audmodel.cli.command import Result


def conditions(parser: argparse.ArgumentParser) -> None:
    r"""Which models are wanted."""
    for name in ("name", "subgroup", "alias", "author"):
        parser.add_argument(
            f"--{name}",
            metavar="PATTERN",
            help=f"only models with this {name}, where '*' stands for any characters",
        )
    parser.add_argument(
        "--params",
        metavar="FILE|KEY=VALUE",
        action="append",
        default=[],
        help="only models with these parameters, given as to the command publish: "
        "YAML or JSON file, '-' for stdin, or one parameter; may be repeated",
    )


def given_conditions(args: argparse.Namespace) -> dict[str, Any]:
    r"""Which models the user wants, as arguments of a function."""
    return {
        "name": args.name,
        "subgroup": args.subgroup,
        "params": values.read_values(args.params),
        "alias": args.alias,
        "author": args.author,
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    conditions(parser)
    parser.add_argument(
        "--sizes",
        action="store_true",
        help="ask the storage for sizes that headers lack, "
        "those of models of audmodel 1.x, with one request for each",
    )
    parser.add_argument(
        "--catalog",
        action="store_true",
        help="read headers from the list of a published catalogue, if there is one",
    )
    arguments.num_workers(parser)
    arguments.cache_root(parser)
    arguments.lookup(parser)


def _list(args: argparse.Namespace) -> Result:
    models = audmodel.models(
        **given_conditions(args),
        sizes=args.sizes,
        repository=args.lookup,
        catalog=args.catalog,
        cache_root=args.cache_root,
        num_workers=args.num_workers,
        verbose=args.verbose,
    )
    rows = [
        (
            model.uid,
            output.size(model.size),
            model.name,
            model.subgroup,
            ", ".join(model.aliases),
            model.date,
            model.author,
            arguments.as_pairs(model.parameters),
        )
        for model in models
    ]
    titles = ("uid", "size", "name", "subgroup", "aliases", "date", "author")
    return Result(models, output.table((*titles, "parameters"), rows))


LIST = Command(
    "ls",
    "list models, with sizes, aliases, date, author and parameters",
    _arguments,
    _list,
    "audmodel ls --subgroup 'emotion.*' --params sampling_rate=16000",
    "A model has to match all conditions that are given. "
    "The size is that of the archive, as far as the header names it.",
)
