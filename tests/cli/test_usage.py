"""A command line that is not understood says what was meant, and how to write it."""

from __future__ import annotations

from pathlib import Path
import re
import shlex

import pytest

import audmodel
from audmodel.cli.parser import COMMANDS
from audmodel.cli.parser import GROUPS
from tests.cli.conftest import Call
from tests.cli.conftest import configure


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


def test_no_dry_run_of_a_repair(call: Call, model_folder: Path) -> None:
    options = ("--name", "torch", "--version", "1.0.0", "--repair", "--dry-run")
    answer = call("publish", str(model_folder), *options)
    assert (answer.code, answer.out) == (2, "")
    assert "--dry-run does not tell what --repair would do" in answer.err


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


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("cache", "prune", "--max-size", "20"), "write 20MB, 20GB or 20GiB"),
        (("cache", "prune", "--max-age", "30"), "write 30s, 30m, 30h or 30d"),
        (("repository", "leftovers", "--min-age", "7"), "write 7s, 7m, 7h or 7d"),
        (("load", "x", "--timeout", "60"), "write 60s, 60m, 60h or 60d"),
        (("verify", "x", "--timeout", "60"), "write 60s, 60m, 60h or 60d"),
    ],
)
def test_a_bare_number_shows_how_to_write_it(
    call: Call, words: tuple[str, ...], meant: str
) -> None:
    answer = call(*words)
    assert (answer.code, answer.out) == (2, "")
    assert f"'{words[-1]}' has no unit, {meant}" in answer.err


# Models, aliases, backends ---------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text", "meant"),
    [
        (("load",), "smal", "small"),
        (("load", "--json"), "smalll", "small"),
        (("info",), "samll", "small"),
        (("alias", "resolve"), "smal", "small"),
        (("alias", "set", "prod"), "smal", "small"),
        (("cache", "rm"), "smal", "small"),
        (("load",), "{other}-1.0.0", "{uid}"),
        (("info",), "{other}", "{short}"),
    ],
)
def test_a_model_with_a_typo(
    call: Call, uid: str, words: tuple[str, ...], text: str, meant: str
) -> None:
    short = uid.partition("-")[0]
    other = f"{(int(short, 16) + 1) % 16**8:08x}"
    names = {"uid": uid, "short": short, "other": other}
    answer = call(*words, text.format(**names))
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.endswith(f"Did you mean '{meant.format(**names)}'?\n")


def test_a_version_that_does_not_exist(call: Call, uid: str) -> None:
    missing = uid.replace("1.0.0", "1.0.1")
    answer = call("load", missing)
    assert (answer.code, answer.out) == (1, "")
    assert "Its versions are: 1.0.0." in answer.err
    with pytest.raises(audmodel.errors.ModelNotFoundError, match=r": 1\.0\.0\."):
        audmodel.load(missing)


def test_a_backend_with_a_typo(
    call: Call, home: Path, model_folder: Path, tmp_path: Path
) -> None:
    file = configure(home, "repositories: [{name: a, host: /b, backend: filesystem}]")
    for args in (("config",), ("load", "3e120e8d-1.0.0"), ("ls",)):
        answer = call(*args)
        assert (answer.code, answer.out) == (1, "")
        assert f"'{file}': 'filesystem' is not a registered backend" in answer.err
        assert answer.err.endswith("Did you mean 'file-system'?\n")
    answer = call("ls", "--repository", "s4:localhost:a")
    assert "Did you mean 's3'?" not in answer.err
    assert str(file) not in answer.err
