r"""Describe a model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any
from typing import TypeVar
import warnings

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli.command import Command
from audmodel.cli.command import Result
from audmodel.errors import AudmodelError


_T = TypeVar("_T")


def _info(args: argparse.Namespace) -> Result:
    from audmodel.core.api.access import quick_readme
    from audmodel.core.api.identity import full_id

    # All calls see the same model, even if its alias is moved meanwhile
    uid = full_id(args.uid, args.cache_root, args.lookup)
    where = {"repository": args.lookup, "cache_root": args.cache_root}
    header = audmodel.header(uid, **where)
    provenance = audmodel.provenance(uid, **where)
    repository = audmodel.repository(uid, **where)
    data = {
        "uid": uid,
        "name": header["name"],
        "subgroup": header["subgroup"],
        "version": header["version"],
        "parameters": header["parameters"],
        "author": header["author"],
        "date": header["date"],
        "size": _attempt("size", audmodel.size, uid, where),
        "provenance": provenance,
        "aliases": audmodel.aliases(uid, **where),
        "repository": repository.name,
        "url": audmodel.url(uid, **where),
        "readme": _attempt("README.md", quick_readme, uid, where) or "",
    }
    shown = {
        **data,
        "parameters": arguments.as_pairs(header["parameters"]),
        "aliases": ", ".join(data["aliases"]),
        "provenance": _provenance(provenance),
        "size": output.size(data["size"]),
    }
    text = output.fields({name: shown[name] for name in shown if name != "readme"})
    card = "\n".join(line.expandtabs(4) for line in data["readme"].splitlines())
    return Result(data, f"{text}\n\n{card}" if card else text)


def _attempt(
    what: str, get: Callable[..., _T], uid: str, where: dict[str, Any]
) -> _T | None:
    r"""What depends on the archive, ``None`` if that cannot be read."""
    try:
        return get(uid, **where)
    except (AudmodelError, OSError) as error:
        # The rest is known
        warnings.warn(f"Its {what} cannot be shown. {error}", stacklevel=2)
        return None


def _provenance(found: audmodel.Provenance) -> str:
    r"""What is known, in one line."""
    date = f"{found.date:%Y-%m-%d %H:%M:%S} UTC" if found.date else None
    commit = found.commit and f"commit {found.commit}"
    return ", ".join(filter(None, (date, found.client, commit, found.url)))


INFO = Command(
    "info",
    "show name, parameters, size, aliases, origin and README.md of a model",
    arguments.model,
    _info,
    "audmodel info 3e120e8d-1.0.0",
    "Storages that cannot read a part of an archive show no README.md "
    "until the model is in the cache.",
)


def _files(args: argparse.Namespace) -> Result:
    files = audmodel.files(args.uid, repository=args.lookup, cache_root=args.cache_root)
    rows = [
        (output.size(file.size), output.size(file.compressed_size), file.path)
        for file in files
    ]
    return Result(files, output.table(("size", "compressed", "path"), rows))


FILES = Command(
    "files",
    "list the files of a model",
    arguments.model,
    _files,
    "audmodel files 3e120e8d-1.0.0",
    "Only the directory of the archive is fetched.",
)


def _versions_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "uid", metavar="UID", help="model ID, with or without version, or alias"
    )
    arguments.lookup(parser)


def _versions(args: argparse.Namespace) -> Result:
    versions = audmodel.versions(args.uid, repository=args.lookup)
    return Result(versions, "\n".join(versions))


VERSIONS = Command(
    "versions",
    "list the versions of a model, from oldest to newest",
    _versions_arguments,
    _versions,
    "audmodel versions 3e120e8d",
    "If there are none, nothing is printed.",
)
