"""What shells rely on: streams, exit codes, signals."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
import pty
import resource
import signal
import subprocess
import sys
import termios
import tomllib
import warnings

import filelock
import pytest

import audmodel
from audmodel.cli import main
from audmodel.cli.output import size
from audmodel.cli.parser import COMMANDS
from tests.cli.conftest import Call
from tests.cli.conftest import command
from tests.cli.conftest import configure
from tests.cli.conftest import environment
from tests.conftest import ROOT


# Start ---------------------------------------------------------------------


def test_script_is_the_command_line() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    module, _, name = content["project"]["scripts"]["audmodel"].partition(":")
    result = subprocess.run(
        [sys.executable, "-c", f"import {module}; {module}.{name}()", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"audmodel {audmodel.__version__}\n"


def test_help_is_there_in_no_time() -> None:
    variables = environment()
    for name in [name for name in variables if name.startswith("COVERAGE_")]:
        del variables[name]

    def duration() -> float:
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command("--help"), env=variables, check=True, stdout=-3)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime

    # Time of the processor, the least of several, since the machine may be busy
    assert min(duration() for _ in range(7)) < 0.2


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_has_help_with_an_example(call: Call, name: str) -> None:
    answer = call(*name.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    assert f"audmodel {name}" in answer.out.partition("example:")[2]
    assert "--json" in answer.out


@pytest.mark.parametrize("args", [(), ("alias",), ("unknown",), ("alias", "unknown")])
def test_no_such_command(call: Call, args: tuple[str, ...]) -> None:
    answer = call(*args)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("usage: audmodel")


# Streams -------------------------------------------------------------------


def test_result_to_stdout_everything_else_to_stderr(
    run: Call, place: audmodel.Repository, model_folder: Path
) -> None:
    answer = run("publish", model_folder, "--name", "x", "--version=1.0.0", "-v")
    assert answer.code == 0
    assert answer.out == f"{audmodel.uid('x', {}, '1.0.0')}\n"
    assert "Publish" in answer.err
    answer = run("load", answer.out.strip(), "--verbose")
    assert os.listdir(answer.out.strip())
    assert "Load" in answer.err


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_for_people(uid: str, quiet: bool) -> None:
    """A bar is shown on a terminal, unless nobody wants it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    result = subprocess.run(
        command("load", uid, *(["--quiet"] if quiet else [])),
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    assert os.path.isdir(result.stdout.decode().strip())
    assert (b"Load" in shown) == (not quiet)
    assert (b"100%|" in shown) == (not quiet)


def test_values_from_stdin(
    run: Call, place: audmodel.Repository, model_folder: Path
) -> None:
    answer = run(
        *("publish", model_folder, "--name", "x", "--version", "1.0.0"),
        *("--params", "-"),
        stdin=None,
        input=b"a: 1\n",
    )
    assert audmodel.parameters(answer.out.strip()) == {"a": 1}
    answer = run("meta", "update", answer.out.strip(), "-", stdin=None, input=b"a: [")
    assert answer.code == 1
    assert "The input on stdin cannot be read" in answer.err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_paths_are_printed_as_they_are(
    run: Call, uid: str, tmp_path: Path, encoding: str
) -> None:
    root = os.fsdecode(os.fsencode(tmp_path) + b"/cache-\xff")
    answer = run(
        *("load", uid, "--cache-root", root),
        env=environment(PYTHONIOENCODING=encoding),
    )
    assert answer.code == 0
    assert os.listdir(answer.out.rstrip("\n"))
    assert answer.out.startswith(root)


@pytest.mark.sample(1)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_the_terminal_lacks(run: Call, uid: str, encoding: str) -> None:
    meta = {"who": "Zoë", "when": "9\u201310"}
    audmodel.update_meta(uid, meta, replace=True)
    variables = environment(PYTHONIOENCODING=encoding)
    answer = run("meta", "show", uid, env=variables)
    assert answer.code == 0
    # Whoever edits it gives it back as it is
    text = answer.out.encode("ascii")
    answer = run("meta", "update", uid, "-", "--replace", stdin=None, input=text)
    assert answer.code == 0
    assert audmodel.meta(uid) == meta


def test_result_for_a_program_that_calls_main(uid: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        assert main(["alias", "resolve", "small"]) == 0
    assert stream.getvalue() == f"{uid}\n"


SHELL = f'audmodel() {{ {sys.executable} -m audmodel "$@"; }}; '


def shell(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", SHELL + script], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("script", "codes"),
    [
        ("audmodel config > /dev/full; echo $?", "1"),
        ("audmodel --help > /dev/full; echo $?", "0"),
    ],
)
def test_output_that_nobody_takes(place: object, script: str, codes: str) -> None:
    result = shell(script)
    assert result.stdout == f"{codes}\n"
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr
    assert ("No space left" in result.stderr) == ("config > /dev/full" in script)


@pytest.mark.parametrize(("word", "code"), [("config", 141), ("--help", 0)])
def test_output_that_nobody_reads_any_longer(
    place: object, word: str, code: int
) -> None:
    theirs, ours = os.pipe()
    os.close(theirs)
    result = subprocess.run(
        command(word), stdout=ours, stderr=subprocess.PIPE, check=False
    )
    os.close(ours)
    assert (result.returncode, result.stderr) == (code, b"")


def test_nothing_is_done_without_a_place_for_the_result(
    place: audmodel.Repository, model_folder: Path
) -> None:
    result = shell(
        f"audmodel publish {model_folder} --name x --version 1.0.0 >&-; echo $?"
    )
    assert result.stdout == "1\n"
    assert "stdout is closed" in result.stderr
    assert list(Path(place.host, "models").iterdir()) == []


def test_closed_stderr(place: object) -> None:
    result = shell("audmodel load 12345678-1.0.0 2>&-; echo $?")
    assert (result.stdout, result.stderr) == ("1\n", "")


def test_stderr_that_nobody_reads(place: object) -> None:
    result = shell("audmodel load 12345678-1.0.0 2>/dev/full; echo $?")
    assert (result.stdout, result.stderr) == ("1\n", "")


# Errors --------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
def test_traceback_only_if_asked_for(
    run: Call, place: audmodel.Repository, debug: bool
) -> None:
    answer = run("load", "12345678-1.0.0", *(["--debug"] if debug else []))
    assert (answer.code, answer.out) == (1, "")
    assert ("Traceback" in answer.err) == debug
    assert "audmodel load: error: A model with ID '12345678-1.0.0'" in answer.err


def test_error_in_audmodel_itself(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def versions(uid: str, **options: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(audmodel, "versions", versions)
    answer = call("versions", "small")
    assert answer.code == 70
    assert "ZeroDivisionError: oops" in answer.err
    assert "please report" in answer.err


def test_error_without_words(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def versions(uid: str, **options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(audmodel, "versions", versions)
    answer = call("versions", "small")
    assert (answer.code, answer.err) == (
        1,
        "audmodel versions: error: PermissionError\n",
    )


def test_damaged_archive(call: Call, uid: str, place: audmodel.Repository) -> None:
    [archive] = Path(place.host).rglob("*.zip")
    content = bytearray(archive.read_bytes())
    content[100:200] = bytes(100)
    archive.write_bytes(content)
    answer = call("load", uid)
    assert (answer.code, answer.out) == (3, "")


def test_damaged_record(call: Call, uid: str, place: audmodel.Repository) -> None:
    [record] = Path(place.host).rglob("*.meta.yaml")
    record.write_text("a: [")
    assert call("meta", "show", uid).code == 3


@pytest.mark.sample(1)
@pytest.mark.parametrize("backend", ["s3", "artifactory"])
def test_repository_that_does_not_answer(run: Call, home: Path, backend: str) -> None:
    """A port that nobody listens at refuses at once."""
    configure(
        home,
        f"""
        repositories:
        - {{name: models, host: "http://127.0.0.1:9", backend: {backend}}}
        """,
    )
    answer = run("info", "12345678-1.0.0")
    assert (answer.code, answer.out) == (4, "")
    assert "Traceback" not in answer.err


def test_repository_that_is_left_out(
    call: Call, uid: str, home: Path, place: audmodel.Repository
) -> None:
    configure(
        home,
        f"""
        cache_root: {home}/cache
        repositories:
        - {{name: far, host: "http://127.0.0.1:9", backend: s3}}
        - {{name: models, host: {place.host}, backend: file-system}}
        """,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = call("alias", "resolve", "small")
        assert (answer.code, answer.out) == (0, f"{uid}\n")
        assert answer.err.startswith("audmodel alias resolve: warning: ")
        answer = call("alias", "resolve", "small", "-q")
    assert (answer.out, answer.err) == (f"{uid}\n", "")


def test_cache_in_use(run: Call, uid: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / uid[:8]
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".1.0.0.lock"):
        answer = run("load", uid, "--timeout", "2.5s")
    assert (answer.code, answer.out) == (6, "")
    assert "audmodel load: warning: Waiting for 2 s" in answer.err
    assert "lock" in answer.err.splitlines()[-1]


def test_cache_that_cannot_be_written(call: Call, uid: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = call("load", uid, "--cache-root", tmp_path / "file")
    assert (answer.code, answer.out) == (6, "")
    assert answer.err.startswith("audmodel load: error: The model cache")


# Signals -------------------------------------------------------------------


def start_waiting(uid: str, tmp_path: Path) -> subprocess.Popen[str]:
    """Start a load that waits for a lock, which the caller holds."""
    process = subprocess.Popen(
        command("load", uid),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stderr is not None
    assert "Waiting" in process.stderr.readline()
    return process


@pytest.mark.sample(1)
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        # A shell calls it 130, and ends its loop
        (signal.SIGINT, -signal.SIGINT, "audmodel load: interrupted\n"),
        # It calls this one 143
        (signal.SIGTERM, -signal.SIGTERM, ""),
    ],
)
def test_signals(
    uid: str, tmp_path: Path, number: signal.Signals, code: int, message: str
) -> None:
    folder = tmp_path / "cache" / uid[:8]
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / ".1.0.0.lock"):
        process = start_waiting(uid, tmp_path)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    assert err == message


def test_interrupted_in_this_process(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def versions(uid: str, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audmodel, "versions", versions)
    answer = call("versions", "small")
    assert (answer.code, answer.out) == (130, "")


# Numbers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (10**9, "1.0 GB"),
        (10**12, "1.0 TB"),
        (10**19, "10000 PB"),
    ],
)
def test_sizes(count: int, expected: str) -> None:
    assert size(count) == expected
