r"""All commands, and the parser of their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import audmodel
from audmodel.cli import aliases
from audmodel.cli import cache
from audmodel.cli import completion
from audmodel.cli import configuration
from audmodel.cli import description
from audmodel.cli import listing
from audmodel.cli import metadata
from audmodel.cli import models
from audmodel.cli import repositories
from audmodel.cli import verification
from audmodel.cli.command import EXIT_CODES
from audmodel.cli.command import Command


COMMANDS: tuple[Command, ...] = (
    models.PUBLISH,
    models.LOAD,
    listing.LIST,
    description.INFO,
    description.FILES,
    description.VERSIONS,
    aliases.SET,
    aliases.LIST,
    aliases.RESOLVE,
    metadata.SHOW,
    metadata.UPDATE,
    verification.VERIFY,
    cache.LIST,
    cache.REMOVE,
    cache.PRUNE,
    verification.CACHE_VERIFY,
    repositories.CHECK,
    repositories.LEFTOVERS,
    configuration.CONFIG,
    completion.COMPLETION,
)

GROUPS = {
    "alias": "names that point to models",
    "meta": "what is known about models",
    "cache": "models that were loaded",
    "repository": "what there is to know about a repository, and to tidy up",
}


def build() -> argparse.ArgumentParser:
    r"""Parser of everything.

    Returns:
        parser, whose result holds the chosen command as ``command``

    """
    parser = _parser(
        argparse.ArgumentParser,
        prog="audmodel",
        description="Publish and load versioned models.",
        epilog="exit codes:\n"
        + "\n".join(f"  {code:3}  {text}" for code, text in EXIT_CODES.items()),
    )
    parser.add_argument(
        "--version", action="version", version=f"audmodel {audmodel.__version__}"
    )
    groups = {"": _subparsers(parser)}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        if group not in groups:
            groups[group] = _subparsers(
                _parser(
                    groups[""].add_parser,
                    group,
                    help=GROUPS[group],
                    description=sentence(GROUPS[group]),
                )
            )
        child = _parser(
            groups[group].add_parser,
            name,
            help=command.summary,
            description=f"{sentence(command.summary)} {command.description}".strip(),
            epilog=f"example:\n  {command.example}",
        )
        command.add_arguments(child)
        add_common(child)
        child.set_defaults(command=command, lookup=None)
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    r"""Add the arguments that every command has."""
    group = parser.add_argument_group("arguments of every command")
    group.add_argument("--json", action="store_true", help="print JSON on stdout")
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show progress even if stderr is no terminal",
    )
    group.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="show neither progress nor warnings, errors only",
    )
    group.add_argument(
        "--debug", action="store_true", help="show where an error comes from"
    )


def sentence(text: str) -> str:
    r"""Text with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction:  # type: ignore[type-arg]
    return parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="_", required=True
    )


def _parser(
    make: Callable[..., argparse.ArgumentParser], *args: str, **kwargs: object
) -> argparse.ArgumentParser:
    r"""Parser that wraps text where there are spaces, and guesses nothing."""
    return make(*args, **kwargs, allow_abbrev=False, formatter_class=_Formatter)


class _Formatter(argparse.HelpFormatter):
    r"""Wraps descriptions, and leaves examples alone."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(("example:", "exit codes:")):
            return text
        return super()._fill_text(text, width, indent)
