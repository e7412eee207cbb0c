r"""Scripts that let a shell complete commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import shlex
from typing import NamedTuple

from audmodel.cli.command import Command
from audmodel.cli.command import Result


class _Words(NamedTuple):
    r"""Words that may follow a command, with their explanations."""

    command: str
    words: dict[str, str]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", metavar="SHELL", choices=list(_SCRIPTS), help="bash, zsh or fish"
    )


def _completion(args: argparse.Namespace) -> Result:
    script = _SCRIPTS[args.shell](list(_walk(args.all_commands, "")))
    return Result({"shell": args.shell, "script": script}, script, verbatim=True)


COMPLETION = Command(
    "completion",
    "print a script that completes commands and options in a shell",
    _arguments,
    _completion,
    'eval "$(audmodel completion bash)"',
    "Put the line of the example into the configuration of your shell, "
    "e.g. ~/.bashrc. For fish it is 'audmodel completion fish | source'.",
)


def _walk(parser: argparse.ArgumentParser, command: str) -> Iterator[_Words]:
    r"""Words that may follow each command."""
    words = {}
    children = {}
    # A parser has no public way to list its arguments
    for action in parser._actions:  # noqa: SLF001
        for option in action.option_strings:
            words[option] = action.help or ""
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            children = action.choices
            for choice in action._choices_actions:  # noqa: SLF001
                words[choice.dest] = choice.help or ""
        elif action.choices is not None and not action.option_strings:
            words.update((str(choice), "") for choice in action.choices)
    yield _Words(command, words)
    for name, child in children.items():
        yield from _walk(child, f"{command} {name}".strip())


def _bash(commands: list[_Words]) -> str:
    names = "|".join(shlex.quote(command) for command, _ in commands if command)
    cases = "\n".join(
        f"        {shlex.quote(command)}) words={shlex.quote(' '.join(words))} ;;"
        for command, words in commands
    )
    return f"""\
_audmodel() {{
    local command='' words='' word
    for word in "${{COMP_WORDS[@]:1:$((COMP_CWORD - 1))}}"; do
        case "${{command:+$command }}$word" in
        {names}) command="${{command:+$command }}$word" ;;
        esac
    done
    case "$command" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _audmodel audmodel"""


def _zsh(commands: list[_Words]) -> str:
    # bashcompinit needs compdef, which a shell has only after compinit
    return f"""\
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit -i; }}
autoload -Uz +X bashcompinit && bashcompinit
{_bash(commands)}"""


def _fish(commands: list[_Words]) -> str:
    lines = []
    for command, words in commands:
        seen = [f"__fish_seen_subcommand_from {name}" for name in command.split()]
        if not command:
            seen = ["__fish_use_subcommand"]
        elif not all(word.startswith("-") for word in words):
            names = [word for word in words if not word.startswith("-")]
            seen.append(f"not __fish_seen_subcommand_from {' '.join(names)}")
        condition = shlex.quote("; and ".join(seen))
        for word, text in words.items():
            if word.startswith("--"):
                what = f"-l {word[2:]}"
            elif word.startswith("-"):
                what = f"-s {word[1:]}"
            else:
                what = f"-f -a {word}"
            lines.append(
                f"complete -c audmodel -n {condition} {what} -d {shlex.quote(text)}"
            )
    return "\n".join(lines)


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
