"""List models, verify them, and tell what would be done."""

from __future__ import annotations

import os
from pathlib import Path

import filelock
import pytest

import audmodel
from audmodel.cli.main import _COMMANDS
from tests.backends import seaweedfs
from tests.behaviour.backends import forget_archive
from tests.cli.conftest import MODEL
from tests.cli.conftest import Call
from tests.cli.conftest import environment


# Models --------------------------------------------------------------------


@pytest.fixture
def other(uid: str, model_folder: Path) -> str:
    """Another model."""
    return audmodel.publish(
        str(model_folder), "torch", {"size": 1, "x": [1, None]}, "1.0.0", author="zoe"
    )


def uids(call: Call, *args: str) -> set[str]:
    answer = call("ls", *args, "--json")
    assert (answer.code, answer.err) == (0, "")
    return {model["uid"] for model in answer.data}


def test_ls_of_nothing(call: Call, place: audmodel.Repository) -> None:
    assert call("ls").out == ""
    assert call("ls", "--json").data == []


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--params", "size"), 1, "KEY=VALUE"),
        (("--params", "size=["), 1, "The value of 'size'"),
        (("--num-workers", "0"), 2, "positive integer"),
        (("--repository", "nowhere"), 1, "configured are: models"),
        (("--repository", "file-system:/nowhere:models"), 4, "does not exist"),
        (("models",), 2, "unrecognized arguments"),
    ],
)
def test_ls_wrong(
    call: Call, uid: str, args: tuple[str, ...], code: int, message: str
) -> None:
    answer = call("ls", *args)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err


def test_ls(call: Call, uid: str, other: str) -> None:
    titles, *lines = call("ls").out.splitlines()
    assert titles.split() == [
        *("UID", "SIZE", "NAME", "SUBGROUP", "ALIASES", "DATE", "AUTHOR", "PARAMETERS")
    ]
    assert {line.split()[0] for line in lines} == {uid, other}
    [line] = [line for line in lines if line.startswith(uid)]
    assert line.split("  ")[-1].strip() == "model=cnn10, sampling_rate=16000"
    [model] = call("ls", "--name", "onnx", "--json").data
    assert model == {"uid": uid, **MODEL, "size": audmodel.size(uid)}
    assert f"{uid}  1.1 kB  onnx" in line


def test_ls_of_the_parameters_in_a_file(call: Call, uid: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    for size, found in ((16000, {uid}), (8000, set())):
        file.write_text(f"sampling_rate: {size}\n")
        assert uids(call, "--params", str(file), "--params", "model=cnn10") == found


def test_ls_of_sizes_that_headers_lack(
    call: Call, uid: str, other: str, place: audmodel.Repository
) -> None:
    size = Path(audmodel.url(uid)).stat().st_size
    (Path(audmodel.default_cache_root()) / uid[:8] / "1.0.0.header.yaml").unlink()
    forget_archive(place, uid)
    sizes = {model["uid"]: model["size"] for model in call("ls", "--json").data}
    assert sizes == {uid: None, other: audmodel.size(other)}
    [line] = [line for line in call("ls").out.splitlines() if line.startswith(uid)]
    assert line.split()[1] == "onnx"
    sizes = {m["uid"]: m["size"] for m in call("ls", "--sizes", "--json").data}
    assert sizes == {uid: size, other: audmodel.size(other)}
    assert call("info", uid, "--json").data["size"] == size


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (("--name", "onnx"), "uid"),
        (("--subgroup", "emotion.*"), "uid"),
        (("--alias", "sm*"), "uid"),
        (("--author", "zoe"), "other"),
        (("--params", "sampling_rate=16000"), "uid"),
        (("--params", "sampling_rate='16000'"), None),
        (("--params", "sampling_rate=16000.0"), None),
        (("--params", "size=1", "--params", "x=[1, null]"), "other"),
        (("--params", "size=1", "--name", "onnx"), None),
    ],
)
def test_ls_filters(
    call: Call, uid: str, other: str, args: tuple[str, ...], found: str | None
) -> None:
    expected = {"uid": {uid}, "other": {other}, None: set()}[found]
    assert uids(call, *args) == expected


# Verify --------------------------------------------------------------------


@pytest.fixture
def damaged(uid: str) -> Path:
    """A model in the cache with a file that is wrong."""
    root = Path(audmodel.load(uid))
    (root / "readme.txt").write_text("something else")
    return root


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("12345678-1.0.0",), 1, "12345678-1.0.0"),
        (("small",), 1, "not in the cache"),
        ((), 2, "UID"),
        (("small", "--repair", "--remote"), 2, "not allowed with"),
    ],
)
def test_verify_wrong(
    call: Call, uid: str, args: tuple[str, ...], code: int, message: str
) -> None:
    answer = call("verify", *args)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err


def test_verify(call: Call, uid: str) -> None:
    root = audmodel.load(uid)
    answer = call("verify", "small", uid)
    assert answer.code == 0
    assert [line.split() for line in answer.out.splitlines()[1:]] == [[uid, "ok"]] * 2
    Path(root, "extra.txt").write_text("")
    answer = call("verify", uid)
    assert answer.code == 0
    assert "not part of the model" in answer.out
    assert "extra.txt" in answer.out


def test_verify_and_repair(call: Call, uid: str, damaged: Path) -> None:
    answer = call("verify", uid)
    assert answer.code == 3
    assert "readme.txt" in answer.out
    [data] = call("verify", uid, "--json").data
    assert (data["uid"], data["ok"], data["repaired"]) == (uid, False, False)
    assert [file["path"] for file in data["damaged"]] == ["readme.txt"]
    answer = call("verify", uid, "--repair")
    assert answer.code == 0
    assert "repaired" in answer.out
    assert call("verify", uid, "--json").data[0]["ok"] is True


def test_verify_remote(call: Call, uid: str, place: audmodel.Repository) -> None:
    assert call("verify", uid, "--remote").code == 0
    [archive] = Path(place.host).rglob("*.zip")
    content = bytearray(archive.read_bytes())
    start = content.index(b"A model for tests")
    content[start : start + 7] = b"another"
    archive.write_bytes(content)
    answer = call("verify", uid, "--remote")
    assert answer.code == 3
    assert "readme.txt (" in answer.out


def test_cache_verify(call: Call, damaged: Path, other: str, uid: str) -> None:
    audmodel.load(other)
    answer = call("cache", "verify")
    assert answer.code == 3
    states = {line.split()[0]: line for line in answer.out.splitlines()[1:]}
    assert "readme.txt" in states[uid]
    assert states[other].endswith("  ok")
    assert call("cache", "verify", "--repair").code == 0
    assert {model["ok"] for model in call("cache", "verify", "--json").data} == {True}


def test_cache_verify_goes_on(call: Call, damaged: Path, other: str, uid: str) -> None:
    """One model cannot be mended, the other one can be looked at."""
    audmodel.load(other)
    folder = damaged
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        answer = call("cache", "verify", "--repair", "--timeout", "0s")
    assert answer.code == 1
    assert other in answer.out
    assert "longer than 0 s" in answer.out


def test_cache_verify_of_what_no_repository_has(
    call: Call, damaged: Path, other: str, uid: str, place: audmodel.Repository
) -> None:
    """The others are verified all the same."""
    audmodel.load(other)
    for path in (*damaged.parent.glob(".*"), *damaged.parent.glob("*.yaml")):
        path.unlink()
    for path in Path(place.host).rglob(f"{uid}.*"):
        path.unlink()
    answer = call("cache", "verify", "--json")
    assert answer.code == 1
    assert {model["uid"]: model["ok"] for model in answer.data} == {
        uid: None,
        other: True,
    }
    answer = call("cache", "verify")
    assert (answer.code, answer.err) == (1, "")
    assert "unknown" in answer.out


def test_cache_verify_of_nothing(call: Call, place: audmodel.Repository) -> None:
    answer = call("cache", "verify")
    assert (answer.code, answer.out) == (0, "")


# Dry run -------------------------------------------------------------------


def test_plan_to_load(call: Call, uid: str) -> None:
    answer = call("load", uid, "--dry-run")
    assert answer.code == 0
    titles, row = answer.out.splitlines()
    assert row.startswith(f"{uid}  4")
    assert titles.lower().split() == [
        "uid",
        "files",
        "size",
        "copied",
        "transfer",
        "requests",
    ]
    assert call("cache", "ls").out == ""
    [data] = call("load", uid, "--dry-run", "--file", "*.onnx", "--json").data
    assert (data["files"], data["size"]) == (1, 16384)
    audmodel.load(uid)
    [data] = call("load", "small", "--dry-run", "--json").data
    assert data["bytes"] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [(("small", "12345678"), "12345678"), (("small", "--file", "*.pt"), r"*.pt")],
)
def test_plan_to_load_wrong(
    call: Call, uid: str, args: tuple[str, ...], message: str
) -> None:
    answer = call("load", *args, "--dry-run")
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err


def test_plan_to_publish(
    call: Call, uid: str, place: audmodel.Repository, model_folder: Path
) -> None:
    args = ("publish", model_folder, "--name", "new", "--dry-run", "--version")
    before = sorted(Path(place.host).rglob("*"))
    answer = call(*args, "1.0.0")
    assert answer.code == 0
    assert answer.out.splitlines()[1].endswith("  estimated")
    data = call(*args, "1.0.0", "--json").data
    assert (data["uid"], data["files"]) == (audmodel.uid("new", {}, "1.0.0"), 4)
    assert call(*args, "one").code == 1
    existing = ("--subgroup=emotion.cnn", "--params=model=cnn10")
    answer = call(
        *("publish", model_folder, "--name=onnx", "--version=1.0.0", "--dry-run"),
        *(*existing, "--params=sampling_rate=16000"),
    )
    assert answer.code == 5
    assert sorted(Path(place.host).rglob("*")) == before


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("base", "code", "message"),
    [
        ("newest", 0, ""),
        ("none", 0, ""),
        ("01234567-1.0.0", 1, "which 'base' names"),
        ("an-alias", 1, "'base' has to be a model ID"),
    ],
)
def test_publish_with_a_base(
    call: Call,
    place: audmodel.Repository,
    model_folder: Path,
    base: str,
    code: int,
    message: str,
    dry_run: tuple[str, ...],
) -> None:
    args = ("publish", model_folder, "--name", "new", "--version", "1.0.0")
    answer = call(*args, *dry_run, "--base", base)
    assert answer.code == code, answer.err
    assert message in answer.err


# Several, and offline ------------------------------------------------------


def test_load_of_several_is_all_or_nothing(call: Call, uid: str) -> None:
    answer = call("load", uid, "12345678-1.0.0")
    assert (answer.code, answer.out) == (1, "")
    assert "12345678-1.0.0" in answer.err


def test_offline(call: Call, uid: str) -> None:
    root = audmodel.load(uid)
    os.environ["AUDMODEL_OFFLINE"] = "1"
    audmodel.config.REPOSITORIES = [audmodel.Repository("a", "127.0.0.1:9", "s3")]
    assert call("load", uid).out == f"{root}\n"
    # It came from elsewhere, and another repository may have another model
    for args in (("12345678-1.0.0",), (uid, "--repository", "a")):
        answer = call("load", *args)
        assert (answer.code, answer.out) == (4, "")
        assert "AUDMODEL_OFFLINE" in answer.err
    assert call("config", "--json").data["environment"] == {"AUDMODEL_OFFLINE": "1"}


def test_storage_that_nobody_configured(
    run: Call, home: Path, model_folder: Path, tmp_path: Path
) -> None:
    server = seaweedfs.shared()
    place = ("--repository", f"s3:{server.url}:{server.empty_bucket()}")
    variables = environment(
        MINIO_ACCESS_KEY=seaweedfs.ACCESS_KEY, MINIO_SECRET_KEY=seaweedfs.SECRET_KEY
    )
    answer = run(
        *("publish", model_folder, "--name", "x", "--version", "1.0.0", *place),
        env=variables,
    )
    assert (answer.code, answer.err) == (0, "")
    uid = answer.out.strip()
    args = (uid, *place, "--cache-root", tmp_path / "cache", "--num-workers", "2")
    answer = run("load", *args, env=variables)
    assert os.path.isfile(Path(answer.out.strip(), "model.onnx"))
    answer = run("ls", *place, env=variables)
    assert uid in answer.out


@pytest.mark.parametrize(
    "line",
    ["ls", "verify small", "cache verify", "load small --dry-run"],
)
def test_process(run: Call, uid: str, line: str) -> None:
    audmodel.load(uid)
    answer = run(*line.split())
    assert (answer.code, answer.err) == (0, "")
    assert uid in answer.out


# Delete --------------------------------------------------------------------


def test_delete_what_cannot_be(call: Call, uid: str) -> None:
    for args, code, message in (
        ((), 2, "required: UID"),
        ((uid,), 5, "while aliases point to it: 'small'"),
        (("small",), 1, "'small' is an alias"),
        ((uid[:8],), 1, "stands for all versions"),
        (("deadbeef-1.0.0",), 1, "does not exist"),
        ((uid, "--repository", "nowhere"), 1, "configured are: models"),
    ):
        answer = call("delete", *args)
        assert (answer.code, answer.out) == (code, "")
        assert message in answer.err
    answer = call("alias", "rm", "none")
    assert (answer.code, answer.out) == (1, "")
    assert "'none' does not exist" in answer.err
    assert audmodel.resolve_alias("small") == uid


def test_delete(call: Call, uid: str, other: str) -> None:
    audmodel.set_alias("torch", other)
    answer = call("alias", "rm", "torch", "--json")
    assert (answer.data, answer.err) == ([{"alias": "torch", "uid": other}], "")
    planned = call("delete", uid, other, "--aliases", "--dry-run")
    titles, *lines = planned.out.splitlines()
    assert titles.split() == ["UID", "ALIASES", "REPOSITORY"]
    assert [line.split() for line in lines] == [
        [uid, "small", "models"],
        [other, "models"],
    ]
    assert audmodel.exists(uid)
    answer = call("delete", uid, "--aliases", "--repository", "models", "--json")
    assert answer.data == [{"uid": uid, "repository": "models", "aliases": ["small"]}]
    assert call("delete", other).code == 0
    assert audmodel.models() == []


# Copy ----------------------------------------------------------------------


def test_copy_and_sync(call: Call, uid: str, other: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    disk = f"file-system:{tmp_path}:disk"
    for args, code, message in (
        ((uid, "--from", "models"), 2, "required: --to"),
        ((uid, "--from", "models", "--to", "none"), 1, "configured are: models"),
        ((uid, "--from", "models", "--to", "models"), 1, "cannot be copied to itself"),
        (("none", "--from", "models", "--to", disk), 1, "'none' does not exist"),
    ):
        answer = call("copy", *args)
        assert (answer.code, answer.out) == (code, "")
        assert message in answer.err
    places = ("--from", "models", "--to", disk)
    planned = call("copy", "small", *places, "--dry-run")
    titles, line = planned.out.splitlines()
    assert titles.split() == ["UID", "SIZE", "COPIED", "ALIASES", "TARGET"]
    assert line.split()[0] == uid
    [copied] = call("copy", "small", *places, "--aliases", "--json").data
    assert copied["copied"]
    assert (copied["aliases"], copied["target"]) == (["small"], "disk")
    call("copy", other, *places)
    call("alias", "set", "small", other, "--repository", disk)
    for command in (("copy", uid), ("sync",)):
        answer = call(*command, *places, "--aliases")
        titles, line = answer.out.splitlines()
        assert titles.split() == ["UID", "SIZE", "COPIED", "ALIASES", "KEPT", "TARGET"]
        assert [line.split()[index] for index in (0, -3, -2)] == [uid, "no", "small"]
        assert "'small' points to" in answer.err
    [moved] = call("copy", uid, *places, "--move-aliases", "--json").data
    assert (moved["aliases"], moved["kept"]) == (["small"], [])
    [archive] = (tmp_path / "disk").rglob(f"{uid}.zip")
    right = archive.read_bytes()
    archive.write_bytes(b"x" + right[1:-30] + b"x" * 30)
    for options, copied in (((), False), (("--repair",), True)):
        assert (
            call("copy", uid, *places, *options, "--json").data[0]["copied"] == copied
        )
    assert archive.read_bytes() == right
    call("delete", other, "--repository", disk)
    assert call("sync", *places, "--name", "none").out == ""
    [copied] = call("sync", *places, "--both", "--json").data
    assert copied["uid"] == other
    assert uids(call, "--repository", disk) == {uid, other}


# JSON ----------------------------------------------------------------------


KINDS = {
    "uid": str,
    "alias": str | None,
    "aliases": list,
    "ok": bool,
    "path": str | None,
    "repository": str,
    "target": str,
    "size": int,
}


@pytest.mark.parametrize(
    ("line", "is_list", "keys"),
    [
        ("publish {folder} --name n --version 1.0.0 --alias a", False, "uid alias"),
        ("publish {folder} --name n --version 1.0.0", False, "uid alias"),
        ("publish {folder} --name n --version 1.0.0 --dry-run", False, "uid size"),
        ("load {uid}", True, "uid alias path"),
        ("load small --to {home}/to", True, "uid alias path"),
        ("load small --dry-run", True, "uid size"),
        ("ls", True, "uid aliases repository size"),
        ("info small", False, "uid aliases repository size"),
        ("alias set new small", False, "alias uid"),
        ("alias resolve small", False, "alias uid"),
        ("alias ls", True, "alias uid"),
        ("alias ls small", True, "alias uid"),
        ("alias rm small", True, "alias uid"),
        ("verify small", True, "uid ok path"),
        ("cache verify", True, "uid ok path"),
        ("cache ls", True, "uid path size"),
        ("cache rm small --dry-run", True, "uid path size"),
        ("delete {uid} --aliases --dry-run", True, "uid aliases repository"),
        ("copy small --from models --to {target}", True, "uid aliases target size"),
        ("repository check", False, "ok repository"),
    ],
)
def test_one_name_for_one_thing(
    call: Call,
    uid: str,
    home: Path,
    place: audmodel.Repository,
    model_folder: Path,
    line: str,
    is_list: bool,
    keys: str,
) -> None:
    audmodel.load(uid)
    (Path(place.host) / "target").mkdir()
    target = f"file-system:{place.host}:target"
    words = line.format(folder=model_folder, uid=uid, home=home, target=target)
    data = call(*words.split(), "--json").data
    [found] = data if is_list else [data]
    assert set(keys.split()) == set(found) & set(KINDS)
    for key in keys.split():
        assert isinstance(found[key], KINDS[key]), key


def test_verified_or_not_has_the_same_keys(
    call: Call, damaged: Path, other: str, uid: str
) -> None:
    audmodel.load(other)
    lock = damaged.parent / f".{damaged.name}.lock"
    with filelock.FileLock(lock):
        data = call("cache", "verify", "--repair", "--timeout", "0s", "--json").data
    unknown, known = sorted(data, key=lambda model: str(model["ok"]))
    assert (unknown["uid"], unknown["ok"], known["ok"]) == (uid, None, True)
    assert unknown.keys() == known.keys()
    assert "longer than 0 s" in unknown["error"]
    assert known["error"] is None


def test_messages_name_commands(call: Call, uid: str) -> None:
    audmodel.set_alias("prod", uid)
    answer = call("alias", "rollback", "prod")
    assert answer.code == 1
    assert "Choose a model with 'audmodel alias set'." in answer.err
    # Each of the commands exists
    for command in _COMMANDS.values():
        assert call(*command.split(), "--help").code == 0
