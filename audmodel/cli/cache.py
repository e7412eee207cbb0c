r"""List and remove models in the cache."""

from __future__ import annotations

import argparse

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli.command import Command
from audmodel.cli.command import Result
from audmodel.cli.command import UsageError


def _list(args: argparse.Namespace) -> Result:
    return _result(audmodel.cached(cache_root=args.cache_root))


LIST = Command(
    "cache ls",
    "list the models in the cache, with sizes and last use",
    arguments.cache_root,
    _list,
    "audmodel cache ls",
)


def _remove_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.uids(parser)
    arguments.dry_run(parser, "list what would be removed, and remove nothing")
    arguments.cache_root(parser)
    arguments.lookup(parser)


def _remove(args: argparse.Namespace) -> Result:
    return _result(
        audmodel.remove_cached(
            args.uid,
            dry_run=args.dry_run,
            repository=args.lookup,
            cache_root=args.cache_root,
        )
    )


REMOVE = Command(
    "cache rm",
    "remove models from the cache, and list them",
    _remove_arguments,
    _remove,
    "audmodel cache rm 3e120e8d-1.0.0",
    "An ID without version removes all versions. "
    "If one of the models is not in the cache, none is removed. "
    "It is an error if a process is loading the model; then the model is kept.",
)


def _prune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-age",
        metavar="TIME",
        type=arguments.duration,
        help="remove models that were not used for this time, e.g. 12h, 30d or 4w",
    )
    parser.add_argument(
        "--max-size",
        metavar="SIZE",
        type=arguments.bytes_,
        help="remove the least recently used models, "
        "until the rest is no larger than this, e.g. 500MB or 10GB",
    )
    arguments.dry_run(parser, "list what would be removed, and remove nothing")
    arguments.cache_root(parser)


def _prune(args: argparse.Namespace) -> Result:
    if args.max_age is None and args.max_size is None:
        raise UsageError("one of --max-age and --max-size is required")
    return _result(
        audmodel.prune_cache(
            max_age=args.max_age,
            max_size=args.max_size,
            dry_run=args.dry_run,
            cache_root=args.cache_root,
        )
    )


PRUNE = Command(
    "cache prune",
    "remove models from the cache that were not used lately, and list them",
    _prune_arguments,
    _prune,
    "audmodel cache prune --max-age 30d --max-size 100GB --dry-run",
    "Give at least one of the limits. Models that a process is loading are kept.",
)


def _result(models: list[audmodel.CachedModel]) -> Result:
    rows = [
        (
            model.uid,
            output.size(model.size),
            f"{model.last_used.astimezone():%Y-%m-%d %H:%M}",
            _state(model),
        )
        for model in models
    ]
    text = output.table(("uid", "size", "last used", "state"), rows)
    return Result(models, text)


def _state(model: audmodel.CachedModel) -> str:
    files = "some files" if model.partial else "whole"
    return f"{files}, unfinished" if model.unfinished else files
