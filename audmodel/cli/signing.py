r"""Sign models, and show who signed them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import getpass

import audmodel
from audmodel.cli import arguments
from audmodel.cli import output
from audmodel.cli.command import DAMAGED
from audmodel.cli.command import OK
from audmodel.cli.command import Command
from audmodel.cli.command import Result


def key(
    parser: argparse.ArgumentParser,
    option: str,
    purpose: str,
    *,
    required: bool = False,
) -> None:
    r"""The key that signs."""
    parser.add_argument(
        option,
        metavar="FILE",
        required=required,
        help=f"{purpose}: an Ed25519 key of OpenSSH, e.g. ~/.ssh/id_ed25519, "
        "or its public key if an SSH agent has the private one",
    )


def passphrase() -> str:
    r"""Passphrase of an encrypted key, which the user types."""
    return getpass.getpass("Passphrase of the key: ")


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.uids(parser)
    key(parser, "--key", "key that signs", required=True)
    arguments.cache_root(parser)
    arguments.lookup(parser)


def _sign(args: argparse.Namespace) -> Result:
    signed = [
        audmodel.sign(
            uid,
            args.key,
            passphrase=passphrase,
            repository=args.lookup,
            cache_root=args.cache_root,
        )
        for uid in args.uid
    ]
    return Result([{"uid": uid} for uid in signed], "\n".join(signed))


SIGN = Command(
    "sign",
    "sign models that exist, and print their IDs",
    _arguments,
    _sign,
    "audmodel sign 3e120e8d-1.0.0 --key ~/.ssh/id_ed25519",
    "Verify a model before you sign it: "
    "people who can write to the repository may have replaced it.",
)


def verify(args: argparse.Namespace) -> Result:
    r"""Verify the signatures of models."""
    where = {"repository": args.lookup, "cache_root": args.cache_root}
    found = {uid: audmodel.signatures(uid, **where) for uid in args.uid}
    data = [{"uid": uid, "signatures": each} for uid, each in found.items()]
    rows = [row for uid, each in found.items() for row in _rows(uid, each)]
    is_ok = all(any(one.trusted for one in each) for each in found.values())
    titles = ("uid", "state", "signer", "key", "problem")
    return Result(data, output.table(titles, rows), OK if is_ok else DAMAGED)


def _rows(uid: str, found: list[audmodel.Signature]) -> Iterator[tuple[str, ...]]:
    for one in found:
        state = "trusted" if one.trusted else "valid" if one.valid else "wrong"
        yield uid, state, one.signer, one.key, one.problem
    if not found:
        yield uid, "not signed", "", "", ""
