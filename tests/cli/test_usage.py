"""A command line that is not understood says what was meant, and how to write it."""

from __future__ import annotations

import re
import shlex

import pytest

import audmodel
from audmodel.cli.parser import COMMANDS
from audmodel.cli.parser import GROUPS
from tests.cli.conftest import Call


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("laod",), "load"),
        (("publsh", "x"), "publish"),
        (("aliases",), "alias"),
        (("cache", "purne"), "prune"),
        (("meta", "updat"), "update"),
        (("completion", "bahs"), "bash"),
    ],
)
def test_a_word_with_a_typo(call: Call, words: tuple[str, ...], meant: str) -> None:
    answer = call(*words)
    assert (answer.code, answer.out) == (2, "")
    assert f"Did you mean '{meant}'?" in answer.err


def test_a_word_like_no_other_has_no_suggestion(call: Call) -> None:
    answer = call("xyzzy")
    assert answer.code == 2
    assert "Did you mean" not in answer.err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_wrong_option_shows_the_usage_of_the_command(
    call: Call, command: audmodel.cli.command.Command
) -> None:
    example = re.sub(r"^eval .\$\(|\).$| >.*", "", command.example)
    answer = call(*shlex.split(example)[1:], "--jsn")
    assert answer.code == 2
    assert answer.err.startswith(f"usage: audmodel {command.name} [-h]")
    assert "unrecognized arguments: --jsn" in answer.err
    assert "Did you mean '--json'?" in answer.err


def test_audmodel_alone_lists_the_commands(call: Call) -> None:
    answer = call()
    assert (answer.code, answer.out) == (2, "")
    for command in COMMANDS:
        word = command.name.split()[0]
        assert re.search(rf"^    {word}\b", answer.err, re.MULTILINE)
    assert "COMMAND" in answer.err


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_alone_lists_its_commands(call: Call, group: str) -> None:
    answer = call(group)
    assert (answer.code, answer.out) == (2, "")
    for command in COMMANDS:
        first, *rest = command.name.split()
        if first == group:
            assert re.search(rf"^    {rest[0]}\b", answer.err, re.MULTILINE)


def test_prune_without_limit(call: Call, uid: str) -> None:
    audmodel.load(uid)
    answer = call("cache", "prune")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("usage: audmodel cache prune")
    assert "one of --max-age and --max-size is required" in answer.err
    assert "max_age" not in answer.err
    assert audmodel.cached()


@pytest.mark.parametrize("number", ["10", "1.5", "0", "10 "])
@pytest.mark.parametrize("option", ["--max-size", "--max-age"])
def test_a_limit_has_a_unit(call: Call, uid: str, option: str, number: str) -> None:
    audmodel.load(uid)
    answer = call("cache", "prune", option, number)
    assert (answer.code, answer.out) == (2, "")
    assert f"argument {option}: '{number}' has no unit" in answer.err
    assert audmodel.cached()
