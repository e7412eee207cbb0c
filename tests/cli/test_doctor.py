"""The doctor on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import audmodel
from tests.cli.conftest import Call
from tests.cli.conftest import configure


def test_doctor(call: Call, uid: str, place: audmodel.Repository) -> None:
    answer = call("doctor")
    assert (answer.code, answer.err) == (0, "")
    titles = [line for line in answer.out.splitlines() if line[:1].strip()]
    assert titles == [
        *("versions", "settings", "cache", repr(place), "No check has failed."),
    ]
    assert f"  ok       audmodel: {audmodel.__version__} in " in answer.out
    for args in (("doctor", "models"), ("doctor", "models", "--write")):
        assert call(*args).code == 0


def test_doctor_for_programs(call: Call, uid: str, tmp_path: Path) -> None:
    data = call("doctor", "--json", "--measure", "--cache-root", tmp_path).data
    assert data["ok"] is True
    assert data["measurements"] == []
    checks = {(x["topic"], x["name"]): x for x in data["diagnoses"]}
    assert checks["cache", "folder"] == {
        "topic": "cache",
        "name": "folder",
        "state": "ok",
        "seen": f"'{tmp_path}'",
        "advice": "",
    }


@pytest.mark.parametrize(
    ("text", "code", "name"),
    [
        ("cache_root: [1", 1, "file"),
        ("repositories: [{name: a, host: /nowhere, backend: file-system}]", 4, "reach"),
        ("{cache_root: /dev/null, repositories: []}", 6, "folder"),
    ],
)
def test_exit_code_says_what_is_broken(
    call: Call, home: Path, text: str, code: int, name: str
) -> None:
    configure(home, text)
    answer = call("doctor")
    assert (answer.code, answer.err) == (code, "")
    assert f"  FAILED   {name}" in answer.out
    assert call("doctor", "--json").data["ok"] is False


def test_doctor_writes_only_to_a_repository_that_is_named(
    call: Call, place: audmodel.Repository
) -> None:
    answer = call("doctor", "--write")
    assert (answer.code, answer.out) == (2, "")
    assert "--write needs REPOSITORY" in answer.err


def test_doctor_keeps_secrets(call: Call, home: Path) -> None:
    configure(
        home,
        """
        repositories:
        - {name: a, host: "https://user:geheim@127.0.0.1:1", backend: s3}
        - {name: b, host: "user:geheim@127.0.0.1:1", backend: artifactory}
        """,
    )
    os.environ["MINIO_SECRET_KEY"] = os.environ["AUDMODEL_X"] = "geheim"
    os.environ["AWS_SESSION_TOKEN"] = os.environ["ARTIFACTORY_API_KEY"] = "geheim"
    os.environ["HTTPS_PROXY"] = "http://user:geheim@127.0.0.1:1"
    for args in ((), ("--json",), ("--debug",)):
        answer = call("doctor", *args)
        assert answer.code == 4
        assert "geheim" not in answer.out + answer.err
        assert "https://***@127.0.0.1:1" in answer.out
