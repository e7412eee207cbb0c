"""Models are signed, and those that no trusted signer has signed are refused."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import shutil
import subprocess
import time
from typing import Any

import pytest

import audmodel
from audmodel.core.repository import layout
from audmodel.core.repository import signatures
from audmodel.core.uid import ModelId
from audmodel.errors import AudmodelError
from audmodel.errors import ConfigurationError
from audmodel.errors import InvalidInputError
from audmodel.errors import UntrustedModelError
from tests.parts import skip_without


PARAMS = {"sampling_rate": 16000}


def ssh(*arguments: str, stdin: bytes | None = None) -> str:
    """Run a program of OpenSSH."""
    if shutil.which(arguments[0]) is None:
        skip_without(arguments[0])
    result = subprocess.run(
        arguments, input=stdin, capture_output=True, timeout=20, check=True
    )
    return result.stdout.decode()


def make_key(folder: Path, name: str, kind: str = "ed25519", phrase: str = "") -> Path:
    path = folder / name
    ssh("ssh-keygen", "-q", "-t", kind, "-N", phrase, "-C", name, "-f", str(path))
    return path


def public(key: Path) -> str:
    return key.with_name(f"{key.name}.pub").read_text()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path, "alice")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_key(tmp_path, "mallory")


@pytest.fixture
def signers(tmp_path: Path, key: Path, repository: audmodel.Repository) -> Path:
    """Trusted signers of the repository: Alice alone."""
    path = tmp_path / "allowed_signers"
    path.write_text(f'# team\nalice@example.com namespaces="audmodel" {public(key)}')
    repository.trusted = str(path)
    return path


def publish(folder: Path, version: str = "1.0.0", **options: Any) -> str:
    return audmodel.publish(str(folder), "onnx", PARAMS, version, **options)


def root(repository: audmodel.Repository) -> Path:
    return Path(repository.host) / repository.name


def record(repository: audmodel.Repository, uid: str, kind: str) -> Path:
    short, _, version = uid.partition("-")
    return root(repository) / "_uid" / short / version / f"{uid}.{kind}"


def stored(repository: audmodel.Repository, uid: str) -> list[Path]:
    header = record(repository, uid, "header.yaml")
    return sorted(header.parent.glob("*.sig"))


def uses(uid: str) -> dict[str, Callable[[], object]]:
    """What has to refuse a model."""
    return {
        "load": lambda: audmodel.load(uid),
        "some": lambda: audmodel.load(uid, files="*.yaml"),
        "list": lambda: audmodel.load([uid]),
        "open": lambda: audmodel.open(uid, "model.yaml").close(),
        "stream": lambda: list(audmodel.stream(uid)),
        "files": lambda: audmodel.files(uid),
        "meta": lambda: audmodel.meta(uid),
        "parameters": lambda: audmodel.parameters(uid),
        "header": lambda: audmodel.header(uid),
        "readme": lambda: audmodel.readme(uid),
        "plan": lambda: audmodel.plan_load(uid),
    }


def assert_refused(uid: str, match: str | None = None) -> None:
    for use in uses(uid).values():
        with pytest.raises(UntrustedModelError, match=match):
            use()


def test_signed_model_is_used(model_folder: Path, key: Path, signers: Path) -> None:
    uid = publish(model_folder, sign=key)
    for use in uses(uid).values():
        use()
    (found,) = audmodel.signatures(uid)
    assert (found.signer, found.trusted) == ("alice@example.com", True)


def test_unsigned_model_is_refused_before_its_archive_is_fetched(
    model_folder: Path, signers: Path, repository: audmodel.Repository, key: Path
) -> None:
    uid = publish(model_folder)
    shutil.rmtree(root(repository) / "onnx")
    assert_refused(uid, "not signed")
    audmodel.sign(uid, key)
    assert audmodel.parameters(uid) == PARAMS


def test_unsigned_model_in_the_cache_is_refused(
    model_folder: Path, signers: Path, repository: audmodel.Repository
) -> None:
    uid = publish(model_folder)
    repository.trusted = None
    audmodel.load(uid)
    repository.trusted = str(signers)
    assert_refused(uid)


def test_signature_is_checked_without_repository(
    model_folder: Path,
    key: Path,
    other: Path,
    signers: Path,
    repository: audmodel.Repository,
) -> None:
    uid = publish(model_folder, sign=key)
    audmodel.load(uid)
    root(repository).rename(root(repository).with_name("gone"))
    assert os.listdir(audmodel.load(uid))
    assert audmodel.parameters(uid) == PARAMS
    signers.write_text(f"mallory {public(other)}")
    with pytest.raises(AudmodelError):
        audmodel.load(uid)


@pytest.mark.parametrize("spelling", ["object", "text", "name"])
def test_other_spelling_of_a_repository_is_checked(
    spelling: str, model_folder: Path, signers: Path, repository: audmodel.Repository
) -> None:
    uid = publish(model_folder)
    host = repository.host
    places: dict[str, audmodel.Repository | str] = {
        "object": audmodel.Repository("models", f"{host}/", "file-system"),
        "text": f"file-system:{host}:models",
        "name": "models",
    }
    with pytest.raises(UntrustedModelError):
        audmodel.load(uid, repository=places[spelling])


def test_ssh_keygen_accepts_a_signature(
    model_folder: Path, key: Path, signers: Path, repository: audmodel.Repository
) -> None:
    uid = publish(model_folder, sign=key)
    (signature,) = stored(repository, uid)
    verify = ("ssh-keygen", "-Y", "verify", "-f", str(signers))
    identity = ("-I", "alice@example.com", "-n", "audmodel", "-s", str(signature))
    content = record(repository, uid, "header.yaml").read_bytes()
    assert "Good" in ssh(*verify, *identity, stdin=content)


def test_signature_of_ssh_keygen_is_accepted(
    model_folder: Path, key: Path, signers: Path, repository: audmodel.Repository
) -> None:
    uid = publish(model_folder)
    plant(repository, uid, keygen_signature(key, repository, uid))
    assert audmodel.load(uid)


def keygen_signature(
    key: Path, repository: audmodel.Repository, uid: str, namespace: str = "audmodel"
) -> bytes:
    content = record(repository, uid, "header.yaml").read_bytes()
    sign = ("ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", namespace)
    return ssh(*sign, stdin=content).encode()


def plant(repository: audmodel.Repository, uid: str, content: bytes) -> None:
    """Store a signature, with write access to the repository alone."""
    path = record(repository, uid, f"{len(stored(repository, uid)):032x}.sig")
    path.write_bytes(content)


def forged(
    attack: str, repository: audmodel.Repository, uid: str, key: Path, other: Path
) -> str:
    """Change what is stored, as an attacker may; return the ID to use."""
    (path,) = stored(repository, uid)
    good = path.read_bytes()
    header = record(repository, uid, "header.yaml")
    wrong = {
        "truncated": good[: len(good) // 2],
        "garbage": good.replace(b"U1NIU0lH", b"U1NIU0lI"),
        "changed": good[:120] + bytes([good[120] ^ 1]) + good[121:],
        "huge": good + b"\n" * (8 << 20),
        "other namespace": keygen_signature(key, repository, uid, "git"),
        "other key": keygen_signature(other, repository, uid),
    }
    if attack in wrong:
        path.write_bytes(wrong[attack])
    elif attack == "strip":
        path.unlink()
    elif attack == "header":
        header.write_bytes(header.read_bytes().replace(b"16000", b"16001"))
    elif attack == "other model":
        uid = replayed(repository, uid, "00000000-1.0.0")
    elif attack == "older version":
        uid = replayed(repository, uid, uid.replace("1.0.0", "2.0.0"))
    return uid


ATTACKS = [
    "truncated",
    "garbage",
    "changed",
    "huge",
    "other namespace",
    "other key",
    "strip",
    "header",
    "other model",
    "older version",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused(
    attack: str,
    model_folder: Path,
    key: Path,
    other: Path,
    signers: Path,
    repository: audmodel.Repository,
) -> None:
    uid = publish(model_folder, sign=key)
    uid = forged(attack, repository, uid, key, other)
    for use in uses(uid).values():
        with pytest.raises(AudmodelError) as caught:
            use()
        # A header of another version is refused without a policy as well
        if attack != "older version":
            assert type(caught.value) is UntrustedModelError


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "line",
    [
        'alice valid-before="20200101Z" KEY',
        'alice valid-after="29990101" KEY',
        'alice namespaces="git,file" KEY',
        'alice namespaces="*,!audmodel" KEY',
        "",
    ],
)
def test_signer_is_revoked(
    line: str, kept: bool, model_folder: Path, key: Path, signers: Path
) -> None:
    uid = publish(model_folder, sign=key)
    if kept:
        audmodel.load(uid)
    signers.write_text(line.replace("KEY", public(key)))
    assert_refused(uid)


def test_other_subgroup_is_refused(
    model_folder: Path, key: Path, signers: Path, repository: audmodel.Repository
) -> None:
    uid = publish(model_folder, sign=key, subgroup="emotion.cnn")
    repository.trusted = {"speech.*": str(signers)}
    assert_refused(uid)


def test_other_algorithm_is_refused(
    tmp_path: Path,
    model_folder: Path,
    key: Path,
    signers: Path,
    repository: audmodel.Repository,
) -> None:
    uid = publish(model_folder)
    for kind in ("rsa", "ecdsa"):
        made = make_key(tmp_path, kind, kind)
        signers.write_text(f"alice {public(made)}")
        plant(repository, uid, keygen_signature(made, repository, uid))
        assert_refused(uid, "not 'ssh-ed25519'")
        with pytest.raises(InvalidInputError, match="ssh-ed25519"):
            audmodel.sign(uid, made)


def test_many_signatures_are_not_all_read(
    model_folder: Path, key: Path, signers: Path, repository: audmodel.Repository
) -> None:
    uid = publish(model_folder)
    for _ in range(signatures.MAX_COUNT):
        plant(repository, uid, b"garbage")
    (record(repository, uid, f"{'f' * 32}.sig")).write_bytes(
        keygen_signature(key, repository, uid)
    )
    assert_refused(uid)


def replayed(repository: audmodel.Repository, uid: str, victim: str) -> str:
    """Show one model, with archive, header and signature, under another ID."""
    source = record(repository, uid, "header.yaml").parent
    target = record(repository, victim, "header.yaml").parent
    target.mkdir(parents=True)
    for path in source.iterdir():
        shutil.copy(path, target / path.name.replace(uid, victim))
    old, new = (one.replace("-", "/") for one in (uid, victim))
    (root(repository) / "onnx" / new).mkdir(parents=True)
    shutil.copy(
        root(repository) / "onnx" / old / f"{uid}.zip",
        root(repository) / "onnx" / new / f"{victim}.zip",
    )
    return victim


def test_signature_of_another_model_is_not_trusted(
    model_folder: Path, key: Path, signers: Path, repository: audmodel.Repository
) -> None:
    uid = publish(model_folder, sign=key)
    [found] = audmodel.signatures(uid)
    assert found.trusted
    [found] = audmodel.signatures(replayed(repository, uid, "deadbeef-1.0.0"))
    assert (found.valid, found.trusted) == (True, False)
    assert found.problem == f"its header is that of '{uid}'"


def test_other_archive_is_refused(
    model_folder: Path, key: Path, signers: Path, repository: audmodel.Repository
) -> None:
    uid = publish(model_folder, sign=key)
    (model_folder / "model.yaml").write_bytes(b"evil")
    second = publish(model_folder, "2.0.0", sign=key)
    archives = {path.name: path for path in root(repository).rglob("*.zip")}
    shutil.copy(archives[f"{second}.zip"], archives[f"{uid}.zip"])
    with pytest.raises(audmodel.errors.ArchiveMismatchError):
        audmodel.load(uid)


def test_several_people_sign(
    model_folder: Path,
    key: Path,
    other: Path,
    signers: Path,
    repository: audmodel.Repository,
) -> None:
    uid = publish(model_folder, sign=other)
    for _ in range(2):
        audmodel.sign(uid, key)
    assert len(stored(repository, uid)) == 2
    found = {one.signer: one.trusted for one in audmodel.signatures(uid)}
    assert found == {"": False, "alice@example.com": True}
    assert audmodel.load(uid)


def test_subgroup_has_its_own_signers(
    tmp_path: Path,
    model_folder: Path,
    key: Path,
    other: Path,
    signers: Path,
    repository: audmodel.Repository,
) -> None:
    second = tmp_path / "others"
    second.write_text(f"mallory {public(other)}")
    repository.trusted = {"emotion.*": str(second), "*": str(signers)}
    own = publish(model_folder, sign=other, subgroup="emotion.cnn")
    assert audmodel.load(own)
    assert_refused(publish(model_folder, sign=other))


@contextlib.contextmanager
def running_agent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run an SSH agent that holds no keys."""
    if shutil.which("ssh-agent") is None:
        skip_without("ssh-agent")
    socket = folder / "agent"
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL
    ) as agent:
        try:
            for _ in range(200):
                if socket.exists():
                    break
                time.sleep(0.02)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            yield
        finally:
            agent.terminate()


@pytest.mark.parametrize("suffix", ["", ".pub"])
def test_agent_signs(
    suffix: str,
    tmp_path: Path,
    model_folder: Path,
    signers: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = make_key(tmp_path, "encrypted", phrase="secret")
    signers.write_text(f"alice {public(key)}")
    uid = publish(model_folder)
    with running_agent(tmp_path, monkeypatch):
        with pytest.raises(InvalidInputError, match="ssh-add"):
            audmodel.sign(uid, f"{key}{suffix}")
        answer = tmp_path / "answer"
        answer.write_text("#!/bin/sh\necho secret\n")
        answer.chmod(0o700)
        monkeypatch.setenv("SSH_ASKPASS", str(answer))
        monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
        ssh("ssh-add", "-q", str(key))
        audmodel.sign(uid, f"{key}{suffix}")
    assert audmodel.load(uid)


def test_passphrase_is_asked_for(
    tmp_path: Path, model_folder: Path, signers: Path
) -> None:
    key = make_key(tmp_path, "encrypted", phrase="secret")
    signers.write_text(f"alice {public(key)}")
    uid = publish(model_folder)
    with pytest.raises(InvalidInputError):
        audmodel.sign(uid, key, passphrase=lambda: "wrong")
    audmodel.sign(uid, key, passphrase=lambda: "secret")
    assert audmodel.load(uid)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("* cert-authority KEY", "certificates"),
        ("alice", "names, a type"),
        ('alice unknown="1" KEY', "not known"),
        ('alice valid-before="soon" KEY', "20260131"),
        ("alice ssh-ed25519 !!!", "damaged"),
    ],
)
def test_wrong_file_of_signers(
    line: str, match: str, model_folder: Path, key: Path, signers: Path
) -> None:
    uid = publish(model_folder, sign=key)
    signers.write_text(line.replace("KEY", public(key)))
    with pytest.raises(ConfigurationError, match=match):
        audmodel.load(uid)
    signers.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        audmodel.load(uid)


@pytest.fixture
def second(tmp_path: Path) -> audmodel.Repository:
    """Repository to which models are copied."""
    (tmp_path / "second" / "models").mkdir(parents=True)
    return audmodel.Repository("models", str(tmp_path / "second"), "file-system")


def test_signatures_follow_the_model(
    second: audmodel.Repository,
    model_folder: Path,
    key: Path,
    signers: Path,
    repository: audmodel.Repository,
) -> None:
    uid = publish(model_folder, sign=key)
    audmodel.copy(uid, repository, second)
    assert [path.name for path in stored(second, uid)] == [
        path.name for path in stored(repository, uid)
    ]
    audmodel.delete(uid, repository=repository)
    assert stored(repository, uid) == []
    record(second, uid, "header.yaml").unlink()
    kinds = {found.kind for found in audmodel.leftovers(second, min_age=0)}
    assert "signature" in kinds


def test_later_signatures_are_copied(
    second: audmodel.Repository,
    model_folder: Path,
    key: Path,
    other: Path,
    repository: audmodel.Repository,
) -> None:
    uid = publish(model_folder, sign=key)
    audmodel.copy(uid, repository, second)
    audmodel.sign(uid, other, repository=repository)
    audmodel.copy(uid, repository, second)
    assert len(stored(second, uid)) == 2


def test_model_that_was_deleted_is_not_signed(
    model_folder: Path,
    key: Path,
    repository: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(model_folder)
    store = signatures.store

    def delete_first(*arguments: Any) -> str:
        audmodel.delete(uid)
        return store(*arguments)

    monkeypatch.setattr(signatures, "store", delete_first)
    with pytest.raises(audmodel.errors.ModelNotFoundError):
        audmodel.sign(uid, key)
    assert stored(repository, uid) == []


def test_signatures_are_no_finding_of_an_audit(
    model_folder: Path, key: Path, repository: audmodel.Repository
) -> None:
    publish(model_folder, sign=key)
    assert audmodel.audit_repository(repository) == []
    assert audmodel.leftovers(repository, min_age=0) == []


def test_no_file_is_read_without_policy(
    model_folder: Path,
    key: Path,
    repository: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(model_folder, sign=key)
    monkeypatch.delattr(signatures, "paths")
    for use in uses(uid).values():
        use()


def test_released_version_ignores_signatures(
    model_folder: Path,
    key: Path,
    repository: audmodel.Repository,
    released: Any,
    tmp_path: Path,
) -> None:
    uid = publish(model_folder, sign=key)
    audmodel.config.CACHE_ROOT = str(tmp_path / "released")
    code = """
        short, _, version = args["uid"].partition("-")
        assert audmodel.versions(short) == [version]
        assert audmodel.latest_version(short) == version
        return audmodel.load(args["uid"])
    """
    assert os.listdir(released.run(code, uid=uid))


def test_path_of_a_signature_leads_back() -> None:
    model = ModelId("12345678", "1.0.0")
    path = layout.signature_path(model, "0" * 32)
    assert layout.model_of_signature(path) == model
    for wrong in (path[:-1], path.replace("1.0.0/", "2.0.0/"), f"/x{path}"):
        assert layout.model_of_signature(wrong) is None
