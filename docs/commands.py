"""Directive that describes all commands as the command line knows them."""

import argparse
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from audmodel.cli.command import EXIT_CODES
from audmodel.cli.parser import COMMANDS
from audmodel.cli.parser import add_common
from audmodel.cli.parser import sentence


class Commands(SphinxDirective):
    """Describe every command, its arguments, and an example."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for command in COMMANDS:
            parser = argparse.ArgumentParser(
                prog=f"audmodel {command.name}",
                add_help=False,
                formatter_class=lambda prog: argparse.HelpFormatter(prog, width=76),
            )
            command.add_arguments(parser)
            lines += [
                f".. _{parser.prog.replace(' ', '-')}:",
                "",
                parser.prog,
                "~" * len(parser.prog),
                "",
                literal(f"{sentence(command.summary)} {command.description}"),
                "",
                *block(parser.format_usage().removeprefix("usage: "), "text"),
                *arguments(parser),
                "Example:",
                "",
                *block(f"$ {continued(command.example)}", "console"),
            ]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class CommonArguments(SphinxDirective):
    """Describe the arguments that every command has."""

    def run(self) -> list[nodes.Node]:
        parser = argparse.ArgumentParser(prog="audmodel", add_help=False)
        add_common(parser)
        return self.parse_text_to_nodes("\n".join(arguments(parser)))


class ExitCodes(SphinxDirective):
    """List all exit codes."""

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "    :header-rows: 1", ""]
        for code, text in {"Code": "Meaning", **EXIT_CODES}.items():
            lines += [f"    * - {code}", f"      - {text}"]
        return self.parse_text_to_nodes("\n".join(lines))


def arguments(parser: argparse.ArgumentParser) -> list[str]:
    lines = [f".. program:: {parser.prog}", ""]
    for action in parser._actions:  # noqa: SLF001
        value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
        names = [f"{name} {value}".strip() for name in action.option_strings]
        text = (action.help or "").replace("%%", "%")
        lines += [
            f".. option:: {', '.join(names) or value}",
            "",
            f"    {literal(text)}",
            "",
        ]
    return lines


def block(text: str, language: str) -> list[str]:
    indented = [f"    {line}".rstrip() for line in text.splitlines()]
    return [f".. code-block:: {language}", "", *indented, ""]


def continued(command: str, width: int = 60) -> str:
    """Command that goes on in the next line where it is long."""
    lines = [""]
    for words in re.split(" (?=--)", command):
        if lines[-1] and len(f"{lines[-1]} {words}") > width:
            lines.append(f">     {words}")
        else:
            lines[-1] = f"{lines[-1]} {words}".lstrip()
    return " \\\n".join(lines)


def literal(text: str) -> str:
    """Text with options, patterns and placeholders as they are typed."""
    text = re.sub(r"'([^' ]*[^A-Za-z' ][^']*)'", r"``\1``", text)
    return re.sub(r"(?<![\w`-])(--[a-z][\w-]*|[A-Z]+[:=][A-Z:]+)", r"``\1``", text)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("audmodel-commands", Commands)
    app.add_directive("audmodel-common-arguments", CommonArguments)
    app.add_directive("audmodel-exit-codes", ExitCodes)
    return {"parallel_read_safe": True}
