"""Files that are seldom meant to be published, and those that are."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

import audmodel
from audmodel.core.operations import suspicious
from audmodel.core.operations.folder import scan
from audmodel.errors import FileChangedError
from audmodel.errors import InvalidFolderError
from audmodel.errors import InvalidInputError
from tests.behaviour.backends import content
from tests.behaviour.backends import publish


# Nothing here is the key of anything, and no scanner should take it for one
KEY = "-----BEGIN {}PRIVATE " + "KEY-----\n{}MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\n"
ACCESS_KEY = "AKIA" + "Z7QGTV2MHWNP4C6D"


def found(root: Path) -> dict[str, str]:
    return {file.path: file.reason for file in suspicious.find(scan(str(root)).files)}


def write(root: Path, name: str, text: str | bytes = "x") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("name", "path", "reason"),
    [
        (".git/config", ".git/", "version control"),
        ("sub/.git/objects/ab/cd", "sub/.git/", "version control"),
        ("sub/.git", "sub/.git", "version control"),
        (".svn/entries", ".svn/", "version control"),
        (".venv/bin/python", ".venv/", "installed packages"),
        ("code/__pycache__/a.pyc", "code/__pycache__/", "files of a tool"),
        (".cache/huggingface/download/a.lock", ".cache/", "files of a tool"),
        (".DS_Store", ".DS_Store", "files of a tool"),
        (".aws/credentials", ".aws/", "credentials"),
        (".ssh/known_hosts", ".ssh/", "credentials"),
        (".env", ".env", "credentials"),
        ("conf/.env.production", "conf/.env.production", "credentials"),
        (".netrc", ".netrc", "credentials"),
        ("credentials.json", "credentials.json", "credentials"),
        ("client_secret_12.json", "client_secret_12.json", "credentials"),
        ("minio.cfg", "minio.cfg", "credentials"),
        ("id_rsa", "id_rsa", "credentials"),
        ("ID_ED25519", "ID_ED25519", "credentials"),
        ("server.p12", "server.p12", "credentials"),
    ],
)
def test_names(tmp_path: Path, name: str, path: str, reason: str) -> None:
    write(tmp_path, name)
    write(tmp_path, "model.onnx")
    assert found(tmp_path) == {path: reason}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("server.pem", KEY.format("", ""), "private key"),
        ("a/server.key", KEY.format("RSA ", ""), "private key"),
        ("key", KEY.format("OPENSSH ", ""), "private key"),
        (
            "old.pem",
            KEY.format("RSA ", "Proc-Type: 4,ENCRYPTED\n\n"),
            "private key",
        ),
        ("sa.json", json.dumps({"private_key": KEY.format("", "")}), "private key"),
        ("train.yaml", f"key: {ACCESS_KEY}\n", "access key"),
        ("run.sh", f"export AWS_ACCESS_KEY_ID={ACCESS_KEY}", "access key"),
        ("notes.md", "token: " + "ghp_" + "a1B2" * 9, "access token"),
        ("demo.ipynb", '"' + "hf_" + "aBcDeF" * 5 + 'aBcD"', "access token"),
    ],
)
def test_content(tmp_path: Path, name: str, text: str, reason: str) -> None:
    write(tmp_path, name, text)
    assert found(tmp_path) == {name: reason}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", '{"architectures": ["BertModel"], "token": "[CLS]"}'),
        ("tokenizer.json", '{"model": {"vocab": {"key": 1, "AKIA": 2, "hf_": 3}}}'),
        ("vocab.txt", "[PAD]\nsecret\npassword\nprivate key\nghp\n"),
        ("merges.txt", "a b\n"),
        ("special_tokens_map.json", "{}"),
        ("README.md", "-----BEGIN PRIVATE " + "KEY-----\n...\n"),
        ("README.rst", "Set AKIA" + "IOSFODNN7EXAMPLE in your environment."),
        ("ca.pem", "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC"),
        ("server.pub.pem", "-----BEGIN PUBLIC KEY-----\nMIIEvQIBADANBgkqhkiG9w0BA"),
        ("id_rsa.pub", "ssh-rsa AAAA me@host"),
        ("embeddings/id_rsa_speakers.npy", b"\x93NUMPY"),
        (".env.example", "TOKEN="),
        (".gitignore", "*.pyc"),
        (".gitattributes", "*.bin filter=lfs"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}"),
        ("keys.npz", b"PK\3\4"),
        ("environment.yml", "name: base"),
        ("base64.txt", "QUtJ" + ACCESS_KEY + "QUtJ"),
        ("binary.txt", KEY.format("", "").encode() + b"\0"),
        ("log/train.log", ACCESS_KEY),
    ],
)
def test_ordinary_files_give_no_alarm(
    tmp_path: Path, name: str, text: str | bytes
) -> None:
    write(tmp_path, name, text)
    assert found(tmp_path) == {}


def test_only_small_text_files_are_read_and_not_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "large.txt", ACCESS_KEY + " " * (64 << 10))
    write(tmp_path, "model.bin", ACCESS_KEY)
    assert found(tmp_path) == {}
    write(tmp_path, "a.txt")
    write(tmp_path, "b.txt", ACCESS_KEY)
    assert found(tmp_path) == {"b.txt": "access key"}
    monkeypatch.setattr(suspicious, "_SEARCHED", 1)
    write(tmp_path, "c/.env")
    assert found(tmp_path) == {"c/.env": "credentials"}


def test_file_that_changes_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    files = scan(str(tmp_path)).files
    write(tmp_path, "a.txt", "longer")
    with pytest.raises(FileChangedError):
        suspicious.find(files)


# What is done about them -----------------------------------------------------


@pytest.fixture
def leaky_folder(model_folder: Path) -> Path:
    write(model_folder, ".git/config")
    write(model_folder, "conf/.env")
    return model_folder


def test_warning_before_anything_is_stored(
    repository: audmodel.Repository,
    leaky_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored: list[int] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.WARNING:
                stored.append(len(content(repository)))

    logging.getLogger("audmodel").addHandler(handler := Handler())
    try:
        uid = publish(leaky_folder)
    finally:
        logging.getLogger("audmodel").removeHandler(handler)
    assert stored == [0]
    [message] = [each.getMessage() for each in caplog.records if each.levelno > 20]
    assert "'.git/' (version control), 'conf/.env' (credentials)." in message
    assert str(leaky_folder) in message
    assert Path(audmodel.load(uid), "conf/.env").exists()


def test_refused(repository: audmodel.Repository, leaky_folder: Path) -> None:
    for call in (audmodel.publish, audmodel.plan_publish):
        with pytest.raises(InvalidFolderError, match=r"'conf/\.env' \(credentials\)"):
            call(str(leaky_folder), "torch", {}, "1.0.0", suspicious="refuse")
    assert content(repository) == {}
    # What is left out is not published
    publish(leaky_folder, suspicious="refuse", exclude=[".git", ".env"])


def test_allowed(
    repository: audmodel.Repository,
    leaky_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(leaky_folder, suspicious="allow")
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_plan_names_them(repository: audmodel.Repository, leaky_folder: Path) -> None:
    planned = audmodel.plan_publish(
        str(leaky_folder), "torch", {}, "1.0.0", exclude=".git"
    )
    assert planned.excluded == (".git/",)
    assert planned.suspicious == (audmodel.SuspiciousFile("conf/.env", "credentials"),)


@pytest.mark.parametrize("value", ["ignore", "", None, True])
def test_value_that_is_not_known(model_folder: Path, value: object) -> None:
    with pytest.raises(InvalidInputError, match="'warn', 'refuse' or 'allow'"):
        publish(model_folder, suspicious=value)


def test_many_are_counted(tmp_path: Path) -> None:
    for number in range(13):
        write(tmp_path, f"{number:02}/.env")
    message = suspicious.message("root", suspicious.find(scan(str(tmp_path)).files))
    assert "'09/.env' (credentials), and 3 more. Leave it out" in message
    assert "10/.env" not in message
