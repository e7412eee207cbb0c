r"""Metadata of models."""

from __future__ import annotations

import argparse
from typing import Any

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli import values
from audmodel.cli.command import Command
from audmodel.cli.command import Result


def _show(args: argparse.Namespace) -> Result:
    return _result(
        audmodel.meta(args.uid, repository=args.lookup, cache_root=args.cache_root)
    )


SHOW = Command(
    "meta show",
    "show the metadata of a model, as YAML",
    arguments.model,
    _show,
    "audmodel meta show 3e120e8d-1.0.0 > meta.yaml",
)


def _update_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.uid(parser)
    parser.add_argument(
        "meta",
        metavar="FILE|KEY=VALUE",
        nargs="+",
        help="YAML or JSON file, '-' for stdin, "
        "or one field whose value is read as JSON or YAML",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="replace all fields, "
        "instead of merging nested dictionaries level by level",
    )
    arguments.cache_root(parser)
    arguments.lookup(parser)


def _update(args: argparse.Namespace) -> Result:
    return _result(
        audmodel.update_meta(
            args.uid,
            values.read_values(args.meta),
            replace=args.replace,
            repository=args.lookup,
            cache_root=args.cache_root,
        )
    )


UPDATE = Command(
    "meta update",
    "change the metadata of a model, and show it afterwards",
    _update_arguments,
    _update,
    'audmodel meta update 3e120e8d-1.0.0 uar=0.73 "data={emodb: {version: 1.1.1}}"',
    "If several people change different fields at the same time, all changes are kept.",
)


def _result(meta: dict[str, Any]) -> Result:
    from audmodel.core.yaml import document

    # YAML is UTF-8, but the terminal may have another encoding
    text = document.show(meta, ascii_only=not output.is_utf8())
    return Result(meta, text.rstrip("\n"))
