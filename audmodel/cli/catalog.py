r"""Build a catalogue."""

from __future__ import annotations

import argparse

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli.command import Command
from audmodel.cli.command import Result
from audmodel.errors import ConfigurationError


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.repository(parser, "the repository to show, the first one by default")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument(
        "--output",
        metavar="FOLDER",
        help="folder for the pages, empty, missing, or with a catalogue",
    )
    group.add_argument(
        "--publish",
        action="store_true",
        help="store the pages in the repository itself, in the folder _catalog",
    )
    parser.add_argument(
        "--title", help="title of the pages, by default the name of the repository"
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="write all pages, changed or not"
    )
    arguments.num_workers(parser)
    arguments.cache_root(parser)


def _build(args: argparse.Namespace) -> Result:
    repository = args.repository
    if repository is None:
        if not audmodel.config.REPOSITORIES:
            raise ConfigurationError("No repository is configured.")
        repository = audmodel.config.REPOSITORIES[0]
    catalog = audmodel.build_catalog(
        repository,
        args.output,
        publish=args.publish,
        title=args.title,
        rebuild=args.rebuild,
        cache_root=args.cache_root,
        num_workers=args.num_workers,
        verbose=args.verbose,
    )
    return Result(catalog, output.fields(output.record(catalog)))


CATALOG = Command(
    "catalog",
    "build web pages that show all models of a repository",
    _arguments,
    _build,
    "audmodel catalog --output site",
    "The pages need neither a server nor a network. "
    "Only those are written whose models changed since the last time.",
)
