r"""All commands, and the parser of their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import sys
from typing import NoReturn
from typing import TypeVar

import audmodel
from audmodel.cli import aliases
from audmodel.cli import cache
from audmodel.cli import catalog
from audmodel.cli import completion
from audmodel.cli import configuration
from audmodel.cli import copying
from audmodel.cli import deletion
from audmodel.cli import description
from audmodel.cli import doctor
from audmodel.cli import listing
from audmodel.cli import metadata
from audmodel.cli import models
from audmodel.cli import output
from audmodel.cli import repositories
from audmodel.cli import signing
from audmodel.cli import verification
from audmodel.cli.command import EXIT_CODES
from audmodel.cli.command import USAGE
from audmodel.cli.command import Command
from audmodel.core.similar import did_you_mean


_P = TypeVar("_P", bound=argparse.ArgumentParser)

COMMANDS: tuple[Command, ...] = (
    models.PUBLISH,
    models.LOAD,
    copying.COPY,
    copying.SYNC,
    deletion.DELETE,
    listing.LIST,
    description.INFO,
    description.FILES,
    description.VERSIONS,
    aliases.SET,
    aliases.LIST,
    aliases.RESOLVE,
    aliases.LOG,
    aliases.ROLLBACK,
    aliases.REMOVE,
    metadata.SHOW,
    metadata.UPDATE,
    verification.VERIFY,
    signing.SIGN,
    cache.LIST,
    cache.REMOVE,
    cache.PRUNE,
    verification.CACHE_VERIFY,
    catalog.CATALOG,
    repositories.CHECK,
    repositories.AUDIT,
    repositories.LEFTOVERS,
    configuration.CONFIG,
    doctor.DOCTOR,
    completion.COMPLETION,
)

GROUPS = {
    "alias": "names that point to models",
    "meta": "metadata of models",
    "cache": "models in the cache",
    "repository": "check, audit and tidy up repositories",
}


class Parser(argparse.ArgumentParser):
    r"""Parser that suggests a correction for an unknown word."""

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        r"""Parse a command line.

        Args:
            argv: arguments, those of the process if it is ``None``

        Returns:
            values, among them ``command`` and ``parser``

        Raises:
            SystemExit: if the command line is not valid, after an error message,
                or if it asks for help

        """
        args, unknown = self.parse_known_args(argv)
        parser: Parser = args.parser
        if args.command is None and not unknown:
            parser.print_help(sys.stderr)
            parser.exit(USAGE)
        if unknown:
            hints = (did_you_mean(word, parser.options()) for word in unknown)
            hint = next(filter(None, hints), "")
            parser.error(f"unrecognized arguments: {' '.join(unknown)}.{hint}")
        return args

    def error(self, message: str) -> NoReturn:
        r"""End with a message about the command line.

        Raises:
            SystemExit: always

        """
        super().error(output.printable(message))

    def options(self) -> list[str]:
        r"""All options of this parser."""
        return [name for action in self._actions for name in action.option_strings]

    def _check_value(self, action: argparse.Action, value: object) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            known = map(str, action.choices or ())
            error.message += did_you_mean(str(value), known)
            raise


def build() -> Parser:
    r"""Parser of everything.

    Returns:
        parser, whose result holds the chosen command as ``command``,
        or ``None`` without one,
        the parser of this command as ``parser``,
        and the parser of all commands as ``all_commands``

    """
    parser = _parser(
        Parser,
        prog="audmodel",
        description="Publish and load versioned models.",
        epilog="exit codes:\n"
        + "\n".join(f"  {code:3}  {text}" for code, text in EXIT_CODES.items()),
    )
    parser.add_argument(
        "--version", action="version", version=f"audmodel {audmodel.__version__}"
    )
    parser.set_defaults(command=None, parser=parser, all_commands=parser)
    groups = {"": _subparsers(parser)}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        if group not in groups:
            child = _parser(
                groups[""].add_parser,
                group,
                help=GROUPS[group],
                description=sentence(GROUPS[group]),
            )
            child.set_defaults(command=None, parser=child)
            groups[group] = _subparsers(child)
        child = _parser(
            groups[group].add_parser,
            name,
            help=command.summary,
            description=f"{sentence(command.summary)} {command.description}".strip(),
            epilog=f"example:\n  {command.example}",
        )
        command.add_arguments(child)
        add_common(child)
        child.set_defaults(command=command, parser=child, lookup=None)
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    r"""Add the arguments that every command has."""
    group = parser.add_argument_group("arguments of every command")
    group.add_argument("--json", action="store_true", help="print JSON on stdout")
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show progress even if stderr is not a terminal",
    )
    group.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="show only errors, neither progress nor warnings",
    )
    group.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )


def sentence(text: str) -> str:
    r"""Text with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction:  # type: ignore[type-arg]
    return parser.add_subparsers(title="commands", metavar="COMMAND", dest="_")


def _parser(make: Callable[..., _P], *args: str, **kwargs: object) -> _P:
    r"""Parser that wraps text at spaces, and accepts no abbreviated options."""
    return make(*args, **kwargs, allow_abbrev=False, formatter_class=_Formatter)


class _Formatter(argparse.HelpFormatter):
    r"""Wraps descriptions, but not examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(("example:", "exit codes:")):
            return text
        return super()._fill_text(text, width, indent)
