r"""Let a shell complete commands, options, models, aliases and repositories.

The shell runs the command with a variable set, and argcomplete tells it
what may come next. It is imported for nothing else.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NoReturn

from audmodel.cli.command import Command
from audmodel.cli.command import Result
from audmodel.errors import MissingPackageError


# What a shell sets that wants to know what may come next
VARIABLE = "_ARGCOMPLETE"
# argcomplete needs compdef, which a shell has only after compinit
_ZSH = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i; }\n"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell",
        metavar="SHELL",
        choices=("bash", "zsh", "fish"),
        help="bash, zsh or fish",
    )


def _completion(args: argparse.Namespace) -> Result:
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError as error:
        raise MissingPackageError(
            "Completion needs the package argcomplete. "
            "Install it with pip install 'audmodel[completion]'."
        ) from error
    script = shellcode(["audmodel"], use_defaults=False, shell=args.shell).strip("\n")
    if args.shell == "zsh":
        script = _ZSH + script
    return Result({"shell": args.shell, "script": script}, script, verbatim=True)


COMPLETION = Command(
    "completion",
    "print a script that lets a shell complete commands, models and aliases",
    _arguments,
    _completion,
    'eval "$(audmodel completion bash)"',
    "Put the line of the example into the configuration of your shell, "
    "e.g. ~/.bashrc. For fish it is 'audmodel completion fish | source'.",
)


def complete(parser: argparse.ArgumentParser) -> NoReturn:
    r"""Tell the shell what may come next, and end the process."""
    try:
        import argcomplete
        from argcomplete.completers import DirectoriesCompleter
        from argcomplete.completers import FilesCompleter
    except ImportError:
        raise SystemExit(1) from None  # the user is told by 'audmodel completion'
    files, folders = FilesCompleter(), DirectoriesCompleter()
    _attach(parser, {**_COMPLETERS, "FILE": files, "FOLDER": folders})
    # It ends the process, and with it threads that wait for a repository
    argcomplete.autocomplete(
        parser,
        always_complete_options=False,
        default_completer=_nothing,  # type: ignore[arg-type]  # any callable will do
    )
    raise SystemExit(1)


def _attach(
    parser: argparse.ArgumentParser, completers: dict[str, Callable[..., Iterable[str]]]
) -> None:
    r"""Give each argument what completes it: its name in messages says what it is."""
    # A parser has no public way to list its arguments
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for child in action.choices.values():
                _attach(child, completers)
        elif isinstance(action.metavar, str):
            kind, _, _ = action.metavar.partition("|")
            if kind in completers:
                vars(action)["completer"] = completers[kind]


def _models(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return _names(prefix, parsed_args, models=True)


def _aliases(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return _names(prefix, parsed_args, models=False)


def _names(prefix: str, args: argparse.Namespace, *, models: bool) -> list[str]:
    from audmodel.core.api.names import known_names

    # What was typed so far may name the repository, or the cache
    typed = (getattr(args, name, None) for name in ("lookup", "repository", "source"))
    return known_names(
        prefix,
        models=models,
        repository=next(filter(None, typed), None),
        cache_root=getattr(args, "cache_root", None),
    )


def _repositories(**_: Any) -> list[str]:
    from audmodel.core.api.names import known_repositories

    return known_repositories()


def _nothing(**_: Any) -> Iterable[str]:
    return ()


_COMPLETERS: dict[str, Callable[..., Iterable[str]]] = {
    "UID": _models,
    "ALIAS": _aliases,
    "REPOSITORY": _repositories,
}
