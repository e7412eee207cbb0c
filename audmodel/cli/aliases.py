r"""Names that point to models."""

from __future__ import annotations

import argparse

import audmodel
from audmodel.cli import arguments
from audmodel.cli.command import Command
from audmodel.cli.command import Result


def _set_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("alias", metavar="ALIAS", help="name to set or to move")
    arguments.uid(parser)
    arguments.cache_root(parser)
    arguments.lookup(parser)


def _set(args: argparse.Namespace) -> Result:
    audmodel.set_alias(args.alias, args.uid, cache_root=args.cache_root)
    uid = audmodel.resolve_alias(args.alias, cache_root=args.cache_root)
    return Result({"alias": args.alias, "uid": uid}, uid)


SET = Command(
    "alias set",
    "let an alias point to a model, and print the ID of the model",
    _set_arguments,
    _set,
    "audmodel alias set prod 3e120e8d-1.0.0",
    "An alias that points to another model is moved.",
)


def _list(args: argparse.Namespace) -> Result:
    names = audmodel.aliases(args.uid, cache_root=args.cache_root)
    return Result(names, "\n".join(names))


LIST = Command(
    "alias list",
    "list the aliases that point to a model",
    arguments.model,
    _list,
    "audmodel alias list 3e120e8d-1.0.0",
)


def _resolve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("alias", metavar="ALIAS", help="name of the alias")
    arguments.lookup(parser)


def _resolve(args: argparse.Namespace) -> Result:
    uid = audmodel.resolve_alias(args.alias)
    return Result({"alias": args.alias, "uid": uid}, uid)


RESOLVE = Command(
    "alias resolve",
    "print the ID of the model that an alias points to",
    _resolve_arguments,
    _resolve,
    "audmodel alias resolve prod",
)
