r"""Names that point to models."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli.command import Command
from audmodel.cli.command import Result


def _set_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("alias", metavar="ALIAS", help="name to set or to move")
    arguments.uid(parser)
    arguments.author(parser)
    arguments.cache_root(parser)
    arguments.lookup(parser)


def _set(args: argparse.Namespace) -> Result:
    where = {"repository": args.lookup, "cache_root": args.cache_root}
    audmodel.set_alias(args.alias, args.uid, author=args.author, **where)
    uid = audmodel.resolve_alias(args.alias, **where)
    return Result({"alias": args.alias, "uid": uid}, uid)


SET = Command(
    "alias set",
    "let an alias point to a model, and print the ID of the model",
    _set_arguments,
    _set,
    "audmodel alias set prod 3e120e8d-1.0.0",
    "An alias that points to another model is moved, "
    "which 'audmodel alias log' shows and 'audmodel alias rollback' undoes.",
)


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "uid",
        metavar="UID",
        nargs="?",
        help="model ID or alias, without it all aliases are listed with their models",
    )
    arguments.cache_root(parser)
    arguments.lookup(parser)


def _list(args: argparse.Namespace) -> Result:
    if args.uid is None:
        targets = audmodel.all_aliases(repository=args.lookup, num_workers=None)
        return _table(targets.items())
    from audmodel.core.api.identity import full_id

    # Both calls see the same model, even if its alias is moved meanwhile
    uid = full_id(args.uid, args.cache_root, args.lookup)
    names = audmodel.aliases(uid, repository=args.lookup, cache_root=args.cache_root)
    return Result(_data((name, uid) for name in names), "\n".join(names))


def _table(targets: Iterable[tuple[str, str]]) -> Result:
    r"""Aliases and their models."""
    rows = list(targets)
    return Result(_data(rows), output.table(("alias", "uid"), rows))


def _data(targets: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"alias": name, "uid": uid} for name, uid in targets]


LIST = Command(
    "alias ls",
    "list the aliases that point to a model, or all of them",
    _list_arguments,
    _list,
    "audmodel alias ls 3e120e8d-1.0.0",
)


def _resolve_arguments(parser: argparse.ArgumentParser) -> None:
    _alias(parser)
    parser.add_argument(
        "--at",
        metavar="TIME",
        type=arguments.moment,
        help="what it pointed to at this time, e.g. 2026-01-31T12:00Z",
    )
    arguments.lookup(parser)


def _alias(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("alias", metavar="ALIAS", help="name of the alias")


def _resolve(args: argparse.Namespace) -> Result:
    uid = audmodel.resolve_alias(args.alias, at=args.at, repository=args.lookup)
    return Result({"alias": args.alias, "uid": uid}, uid)


RESOLVE = Command(
    "alias resolve",
    "print the ID of the model that an alias points to",
    _resolve_arguments,
    _resolve,
    "audmodel alias resolve prod",
)


def _remove_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "alias", metavar="ALIAS", nargs="+", help="names of the aliases"
    )
    arguments.repository(
        parser, "where the aliases are, by default the first configured one"
    )


def _remove(args: argparse.Namespace) -> Result:
    uids = audmodel.delete_alias(args.alias, repository=args.repository)
    return _table(zip(args.alias, uids, strict=True))


REMOVE = Command(
    "alias rm",
    "delete aliases, and list them with the models that they pointed to",
    _remove_arguments,
    _remove,
    "audmodel alias rm prod",
    "The models stay. An alias of a model that does not exist can be deleted as well. "
    "If one of the aliases does not exist, none is deleted.",
)


def _log_arguments(parser: argparse.ArgumentParser) -> None:
    _alias(parser)
    arguments.lookup(parser)


def _log(args: argparse.Namespace) -> Result:
    moves = audmodel.alias_history(args.alias, repository=args.lookup)
    rows = [
        (
            f"{move.date:%Y-%m-%d %H:%M:%S}" if move.date else "unknown",
            move.uid,
            move.previous or "",
            move.author or "unknown",
            _notes(move),
        )
        for move in moves
    ]
    return Result(moves, output.table(("utc", "uid", "from", "author", ""), rows))


def _notes(move: audmodel.AliasMove) -> str:
    r"""What else is known of a move."""
    notes = ["rollback"] if move.rollback else []
    if move.date is None:
        notes.append("by audmodel 1.x or another program")
    return ", ".join([*notes, *([move.url] if move.url else [])])


LOG = Command(
    "alias log",
    "list the moves of an alias: who let it point to which model, and when",
    _log_arguments,
    _log,
    "audmodel alias log prod",
    "The last 30 moves are kept. audmodel 1.x removes them when it moves the alias.",
)


def _rollback_arguments(parser: argparse.ArgumentParser) -> None:
    _alias(parser)
    arguments.author(parser)
    arguments.lookup(parser)


def _rollback(args: argparse.Namespace) -> Result:
    uid = audmodel.rollback(args.alias, author=args.author, repository=args.lookup)
    return Result({"alias": args.alias, "uid": uid}, uid)


ROLLBACK = Command(
    "alias rollback",
    "undo the last move of an alias, and print the ID of its model",
    _rollback_arguments,
    _rollback,
    "audmodel alias rollback prod",
    "A rollback that follows a rollback goes one move further back.",
)
