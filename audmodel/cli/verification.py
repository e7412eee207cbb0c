r"""Verify models."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli import signing
from audmodel.cli.command import DAMAGED
from audmodel.cli.command import FAILED
from audmodel.cli.command import OK
from audmodel.cli.command import Command
from audmodel.cli.command import Result
from audmodel.errors import AudmodelError


def _common_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.num_workers(parser)
    arguments.timeout(parser)
    arguments.cache_root(parser)
    arguments.lookup(parser)


def _repair(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--repair",
        action="store_true",
        help="fetch files that are damaged or missing, "
        "of large files only the damaged parts",
    )


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.uids(parser)
    group = parser.add_mutually_exclusive_group()
    _repair(group)
    group.add_argument(
        "--remote",
        action="store_true",
        help="verify archives in the repository, instead of files in the cache",
    )
    group.add_argument(
        "--signatures",
        action="store_true",
        help="verify the signatures in the repository, instead of files: "
        "exit code 3 if no trusted signer has signed a model",
    )
    _common_arguments(parser)


def _verify(args: argparse.Namespace) -> Result:
    if args.signatures:
        return signing.verify(args)
    found = audmodel.verify(args.uid, remote=args.remote, **_options(args))
    return Result(
        [_data(verification) for verification in found],
        _text(row for verification in found for row in _rows(verification)),
        OK if all(verification.ok for verification in found) else DAMAGED,
    )


VERIFY = Command(
    "verify",
    "compare models with the published ones",
    _verify_arguments,
    _verify,
    "audmodel verify 3e120e8d-1.0.0 --repair",
    "Files in the cache are compared with the directory of the archive. "
    "Exit code 0 means that all files are intact, or were repaired.",
)


def _cache_arguments(parser: argparse.ArgumentParser) -> None:
    _repair(parser)
    _common_arguments(parser)


def _cache(args: argparse.Namespace) -> Result:
    data: list[dict[str, object]] = []
    rows: list[tuple[str, ...]] = []
    code = OK
    models = audmodel.cached(cache_root=args.cache_root)
    for uid in dict.fromkeys(model.uid for model in models if not model.unfinished):
        try:
            verification = audmodel.verify(uid, **_options(args))
        except (AudmodelError, OSError) as error:
            # The other models can still be verified
            unknown = audmodel.Verification(uid, "", [], [])
            unverified = {"ok": None, "path": None, "error": str(error)}
            data.append({**_data(unknown), **unverified})
            rows.append((uid, "unknown", "", str(error)))
            code = code or FAILED
        else:
            data.append({**_data(verification), "error": None})
            rows += _rows(verification)
            code = code if verification.ok else DAMAGED
    return Result(data, _text(rows), code)


CACHE_VERIFY = Command(
    "cache verify",
    "compare all models in the cache with the published ones",
    _cache_arguments,
    _cache,
    "audmodel cache verify --repair",
    "A model is listed as unknown, with exit code 1, if neither the cache "
    "nor a repository tells what it should be.",
)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    r"""What the user wants, as arguments of a function."""
    return {
        "repair": args.repair,
        "repository": args.lookup,
        "cache_root": args.cache_root,
        "timeout": args.timeout,
        "num_workers": args.num_workers,
        "verbose": args.verbose,
    }


def _data(verification: audmodel.Verification) -> dict[str, object]:
    return {"ok": verification.ok, **output.record(verification)}


def _rows(verification: audmodel.Verification) -> Iterator[tuple[str, ...]]:
    r"""Rows that say what is wrong, or that all is right."""
    uid = verification.uid
    for file in verification.damaged:
        state = f"{file.problem}, repaired" if verification.repaired else file.problem
        details = f" ({file.details})" if file.details else ""
        yield uid, state, output.size(file.size), f"{file.path}{details}"
    for path in verification.extra:
        yield uid, "not part of the model", "", path
    if not verification.damaged:
        yield uid, "ok", "", ""


def _text(rows: Iterable[tuple[str, ...]]) -> str:
    return output.table(("uid", "state", "size", "file"), rows)
