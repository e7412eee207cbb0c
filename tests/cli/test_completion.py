"""Shells complete commands, options, models, aliases and repositories."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import pty
import re
import select
import shutil
import socket
import subprocess
import sys
import time

import pytest

import audmodel
from tests.cli.conftest import Call
from tests.cli.conftest import configure
from tests.cli.conftest import environment
from tests.cli.test_process import shell
from tests.conftest import ROOT
from tests.parts import skip_without


def complete(line: str) -> list[str]:
    """What bash offers for the last word of a line."""
    result = shell(
        'eval "$(audmodel completion bash)"; '
        f"COMP_LINE='{line}'; COMP_POINT={len(line)}; "
        '_python_argcomplete audmodel; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert (result.returncode, result.stderr) == (0, "")
    return [word.strip() for word in result.stdout.splitlines() if word]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("audmodel pu", ["publish"]),
        ("audmodel alias ", ["set", "ls", "resolve", "log", "rollback", "rm"]),
        ("audmodel alias set prod --ca", ["--cache-root"]),
        ("audmodel publish alias --comp", ["--compression"]),
        ("audmodel publish x --suspicious r", ["refuse"]),
        ("audmodel completion z", ["zsh"]),
        ("audmodel ls --name ", []),
        ("audmodel load x --nothing", []),
    ],
)
def test_words_of_the_command_line(line: str, expected: list[str]) -> None:
    assert complete(line) == expected


def test_models_aliases_and_repositories(
    call: Call, uid: str, home: Path, place: audmodel.Repository, model_folder: Path
) -> None:
    newer = uid.replace("1.0.0", "2.0.0")
    call("publish", model_folder, *MODEL, "--version", "2.0.0")
    configure(
        home,
        f"""
        cache_root: {home}/cache
        repositories:
        - {{name: models, host: {place.host}, backend: file-system, label: team}}
        - {{name: nowhere, host: {place.host}, backend: file-system}}
        """,
    )
    assert complete("audmodel load ") == [uid, newer, "small"]
    assert complete(f"audmodel info {uid[:5]}") == [uid, newer]
    assert complete(f"audmodel delete {uid} {uid[:8]}-2") == [newer]
    assert complete("audmodel copy sm") == ["small"]
    assert complete("audmodel alias log ") == ["small"]
    assert complete("audmodel publish x --alias s") == ["small"]
    assert complete("audmodel load x --repository ") == ["team", "nowhere"]
    assert complete("audmodel copy x --from t") == ["team"]
    # Nothing is there, or nothing is meant
    assert complete("audmodel load --repository nowhere ") == []
    assert complete("audmodel load --repository nobody ") == []
    configure(home, "cache_root: [")
    assert complete("audmodel load ") == complete("audmodel load x --repository ") == []


MODEL = (
    *("--name", "onnx", "--subgroup", "emotion.cnn"),
    *("--params", "model=cnn10", "--params", "sampling_rate=16000"),
)


def test_models_in_the_cache(uid: str, home: Path, tmp_path: Path) -> None:
    audmodel.load(uid)
    configure(home, f"cache_root: {tmp_path}/cache\nrepositories: []\n")
    assert complete("audmodel cache rm ") == [uid]
    assert complete(f"audmodel cache rm --cache-root {tmp_path}/other ") == []


def test_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "meta.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert complete("audmodel publish m") == ["models/"]
    words = "audmodel publish models --meta m"
    assert set(complete(words)) == {"models/", "meta.yaml"}


# Network -------------------------------------------------------------------


@pytest.fixture
def silent(home: Path, uid: str, place: audmodel.Repository) -> Iterator[None]:
    """A repository on a host that does not respond, beside one that does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        configure(
            home,
            f"""
            cache_root: {home}/cache
            repositories:
            - {{name: silent, host: "http://127.0.0.1:{port}", backend: s3}}
            - {{name: models, host: {place.host}, backend: file-system}}
            """,
        )
        yield


def test_a_host_that_does_not_respond_is_left_out(silent: None, uid: str) -> None:
    start = time.monotonic()
    assert complete("audmodel load ") == [uid, "small"]
    # Its requests take minutes until they are given up
    assert time.monotonic() - start < 20


def test_without_network(
    silent: None, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDMODEL_OFFLINE", "1")
    assert complete("audmodel load ") == [uid, "small"]


# Shells --------------------------------------------------------------------


def test_completion_of_fish(call: Call, uid: str, tmp_path: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:
        skip_without("fish")
    script = tmp_path / "completion"
    script.write_text(call("completion", "fish").out)
    run = (
        f'{sys.executable} -m audmodel $argv; end; source {script}; complete -C "{{}}"'
    )
    for line, expected in (("audmodel pub", "publish"), ("audmodel load ", "small")):
        result = subprocess.run(
            [fish, "--no-config", "-c", f"function audmodel; {run.format(line)}"],
            capture_output=True,
            text=True,
            check=True,
        )
        words = [found.split("\t")[0] for found in result.stdout.splitlines()]
        assert expected in words, result


@pytest.mark.parametrize("first", ["", "autoload -Uz compinit && compinit -i; "])
def test_completion_of_zsh_needs_no_preparation(
    call: Call, tmp_path: Path, first: str
) -> None:
    zsh = shutil.which("zsh")
    if zsh is None:
        skip_without("zsh")
    script = tmp_path / "completion"
    script.write_text(call("completion", "zsh").out)
    result = subprocess.run(
        [zsh, "-f", "-c", f'{first}source {script}; echo "$_comps[audmodel]"'],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "ZDOTDIR": str(tmp_path)},
    )
    assert (result.stderr, result.stdout) == ("", "_python_argcomplete\n")


def test_completion_of_zsh(call: Call, uid: str, tmp_path: Path) -> None:
    zsh = shutil.which("zsh")
    if zsh is None:
        skip_without("zsh")
    script = call("completion", "zsh").out
    function = f'audmodel() {{ {sys.executable} -m audmodel "$@" }}\n'
    (tmp_path / ".zshrc").write_text(f"PS1='> '\n{function}{script}")
    child, terminal = pty.fork()
    if child == 0:
        os.execve(zsh, [zsh, "-i"], environment(ZDOTDIR=str(tmp_path), TERM="dumb"))
    try:
        wait_for(terminal, "> ")
        os.write(terminal, b"audmodel alias reso\tsma\t")
        wait_for(terminal, "audmodel alias resolve small")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def wait_for(terminal: int, text: str) -> None:
    """Read until a text is shown, without what moves the cursor."""
    shown = ""
    end = time.monotonic() + 30
    while text not in re.sub(r"(\x1b\[[0-9;?]*[A-Za-z]|\s|\x08|\a)+", " ", shown):
        ready, _, _ = select.select([terminal], [], [], end - time.monotonic())
        assert ready, shown
        shown += os.read(terminal, 4096).decode(errors="replace")


def test_completion_of_unknown_shell(call: Call) -> None:
    answer = call("completion", "csh")
    assert (answer.code, answer.out) == (2, "")
    assert "csh" in answer.err


# argcomplete ---------------------------------------------------------------


def test_other_commands_do_not_import_it(place: audmodel.Repository) -> None:
    code = "import sys; from audmodel.cli import main; main(['ls'])"
    subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit('argcomplete' in sys.modules)"],
        check=True,
        env=environment(PYTHONPATH=str(ROOT)),
    )


def test_without_argcomplete(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("argcomplete", "argcomplete.shell_integration"):
        monkeypatch.setitem(sys.modules, name, None)
    answer = call("completion", "bash")
    assert (answer.code, answer.out) == (1, "")
    assert "pip install 'audmodel[completion]'" in answer.err
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit, match="1"):
        audmodel.cli.run()


def test_shells_that_complete_all_commands_find_the_mark() -> None:
    text = (ROOT / "audmodel" / "cli" / "__init__.py").read_text("utf-8")
    assert "PYTHON_ARGCOMPLETE_OK" in text[:1024]
