r"""Publish and load models."""

from __future__ import annotations

import argparse
from typing import Any

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli import signing
from audmodel.cli import values
from audmodel.cli.command import Command
from audmodel.cli.command import Result
from audmodel.cli.command import UsageError
from audmodel.errors import InvalidInputError


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "root", metavar="FOLDER", help="folder with the files of the model"
    )
    parser.add_argument(
        "--name", required=True, help="name of the model, e.g. its framework"
    )
    parser.add_argument("--version", required=True, help="version, e.g. 1.0.0")
    parser.add_argument(
        "--params",
        metavar="FILE|KEY=VALUE",
        action="append",
        default=[],
        help="parameters of the model: YAML or JSON file, '-' for stdin, "
        "or one parameter whose value is read as JSON or YAML; "
        "may be repeated, later ones override earlier ones",
    )
    parser.add_argument(
        "--meta",
        metavar="FILE|KEY=VALUE",
        action="append",
        default=[],
        help="metadata, given like parameters",
    )
    parser.add_argument("--subgroup", help="subgroup, e.g. emotion.cnn")
    parser.add_argument(
        "--alias", metavar="ALIAS", help="alias that points to the model afterwards"
    )
    parser.add_argument("--author", help="author, by default the user's name")
    parser.add_argument(
        "--date",
        metavar="YYYY-MM-DD",
        type=arguments.date,
        help="date of publication, by default today",
    )
    parser.add_argument(
        "--compression",
        metavar="LEVEL",
        type=int,
        choices=range(10),
        default=1,
        help="0 stores files, 1 (default) compresses files that shrink by three "
        "tenths or more, 2 to 9 compress all files that shrink",
    )
    arguments.repository(
        parser, "where to publish, by default the first configured one"
    )
    arguments.num_workers(parser)
    arguments.dry_run(parser, "show what would be sent, and publish nothing")
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        help="leave out files and folders that match, in the syntax of .gitignore, "
        "in addition to the patterns in the file .audmodelignore; may be repeated",
    )
    parser.add_argument(
        "--suspicious",
        choices=("warn", "refuse", "allow"),
        default="warn",
        help="what to do about files that are seldom meant to be published, "
        "such as credentials or .git (default: warn)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--exist-ok",
        action="store_true",
        help="succeed if the model exists with the same files, "
        "and let the alias point to it",
    )
    existing.add_argument(
        "--repair",
        action="store_true",
        help="store the files of an existing model again if they were lost or damaged; "
        "the folder has to hold the same files",
    )
    parser.add_argument(
        "--base",
        metavar="UID|newest|none",
        default="newest",
        help="model of the same repository from which an S3 storage copies parts, "
        "by default the newest version of the model",
    )
    parser.add_argument(
        "--source",
        metavar="KEY=VALUE|none",
        action="append",
        help="what the model was made from: commit=..., url=..., or none; "
        "may be repeated; by default read from the variables of a CI system",
    )
    parser.add_argument(
        "--tmp-root",
        metavar="FOLDER",
        help="folder for temporary files, "
        "used for Artifactory and backends that can only store files",
    )

    signing.key(parser, "--sign", "sign the model with this key")


def _publish(args: argparse.Namespace) -> Result:
    model = (
        args.root,
        args.name,
        values.read_values(args.params),
        args.version,
    )
    options = {
        "alias": args.alias,
        "author": args.author,
        "compression": args.compression,
        "date": args.date,
        "meta": values.read_values(args.meta),
        "subgroup": args.subgroup,
        "repository": args.repository,
        "base": None if args.base == "none" else args.base,
        "exist_ok": args.exist_ok,
        "exclude": args.exclude,
        "suspicious": args.suspicious,
        "source": _source(args.source),
    }
    if args.dry_run and args.repair:
        raise UsageError("--dry-run does not tell what --repair would do")
    if args.dry_run:
        return _publish_plan(audmodel.plan_publish(*model, **options))
    uid = audmodel.publish(
        *model,
        **options,
        num_workers=args.num_workers,
        tmp_root=args.tmp_root,
        verbose=args.verbose,
        repair=args.repair,
        sign=args.sign,
        passphrase=signing.passphrase,
    )
    return Result({"uid": uid, "alias": args.alias}, uid)


def _source(items: list[str] | None) -> dict[str, str] | None:
    r"""Source that a user gives, as text."""
    if items is None or items == ["none"]:
        return None if items is None else {}
    pairs = [item.partition("=") for item in items]
    for item, (_, equals, _value) in zip(items, pairs, strict=True):
        if not equals:
            raise InvalidInputError(
                f"--source {item!r} has to be commit=..., url=..., or 'none' alone."
            )
    return {key: value for key, _, value in pairs}


PUBLISH = Command(
    "publish",
    "publish a model, and print its ID",
    _publish_arguments,
    _publish,
    "audmodel publish ./model --name onnx --version 1.0.0 "
    "--params params.yaml --meta meta.yaml --alias prod --num-workers 8",
    "A model appears in the repository as a whole or not at all, "
    "and can be published only once.",
)


def _load_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.uids(parser)
    parser.add_argument(
        "--file",
        metavar="PATTERN",
        action="append",
        dest="files",
        help="load only files that match, e.g. '*.onnx' or 'config/'; "
        "may be repeated, each has to match a file",
    )
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        help="copy the model into this folder as well; "
        "an error if it has files of the same name with other content",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace files of the same name in the folder --to",
    )
    parser.add_argument(
        "--hardlinks",
        action="store_true",
        help="make hard links to the cache in the folder --to, which take no space; "
        "if you change such a file, you change the model in the cache",
    )
    arguments.dry_run(parser, "show what would be fetched, and load nothing")
    arguments.num_workers(parser)
    arguments.timeout(parser)
    arguments.cache_root(parser)
    arguments.lookup(parser)


def _load(args: argparse.Namespace) -> Result:
    from audmodel.core.api.identity import full_id

    if args.to is None and (args.force or args.hardlinks):
        raise UsageError("--force and --hardlinks need a folder: --to FOLDER")
    if args.to is not None and len(args.uid) > 1:
        raise UsageError("--to is the folder of one model, give one UID")
    if args.dry_run:
        return _plan(
            _transfers(
                args,
                files=args.files,
                repository=args.lookup,
                cache_root=args.cache_root,
                num_workers=args.num_workers,
            )
        )
    uids = args.uid
    if args.json:
        # Report the ID that is loaded, even if an alias is moved meanwhile
        uids = [full_id(uid, args.cache_root, args.lookup) for uid in args.uid]
    options = {
        "files": args.files,
        "repository": args.lookup,
        "cache_root": args.cache_root,
        "timeout": args.timeout,
        "num_workers": args.num_workers,
        "verbose": args.verbose,
    }
    if args.to is None:
        paths = audmodel.load(uids, **options)
    else:
        placed = {"to": args.to, "force": args.force, "hardlinks": args.hardlinks}
        paths = [audmodel.load(uids[0], **placed, **options)]
    data = [
        {"uid": uid, "alias": _alias(given), "path": path}
        for given, uid, path in zip(args.uid, uids, paths, strict=True)
    ]
    return Result(data, "\n".join(paths), verbatim=True)


LOAD = Command(
    "load",
    "load models into the cache, or a folder, and print where they are",
    _load_arguments,
    _load,
    "audmodel load 3e120e8d-1.0.0 --num-workers 8",
    "Models in the cache are not loaded again, "
    "and a load that was interrupted continues where it stopped.",
)


def _alias(given: str) -> str | None:
    r"""Alias that a user gave, if it is one."""
    from audmodel.core import uid as ids

    return given if isinstance(ids.parse(given), ids.Alias) else None


def _publish_plan(plan: audmodel.PublishPlan) -> Result:
    transfers = _plan([plan])
    rows = [("excluded", path, "") for path in plan.excluded]
    rows += [("suspicious", file.path, file.reason) for file in plan.suspicious]
    left = output.table(("state", "file", "reason"), rows)
    return Result(plan, "\n\n".join(filter(None, (transfers.text, left))))


def _transfers(args: argparse.Namespace, **options: Any) -> list[audmodel.Transfer]:
    r"""What a load would fetch."""
    uids: list[str] = args.uid
    if args.to is None:
        transfers: list[audmodel.Transfer] = audmodel.plan_load(uids, **options)
        return transfers
    [uid] = uids
    return [audmodel.plan_load(uid, to=args.to, force=args.force, **options)]


def _plan(transfers: list[audmodel.Transfer]) -> Result:
    rows = [
        (
            transfer.uid,
            transfer.files,
            output.size(transfer.size),
            output.size(transfer.copied),
            output.size(transfer.bytes),
            transfer.requests,
            "" if transfer.exact else "estimated",
        )
        for transfer in transfers
    ]
    titles = ("uid", "files", "size", "copied", "transfer", "requests", "")
    return Result(transfers, output.table(titles, rows))
