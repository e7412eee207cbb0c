"""Publish and load models, and ask for what is known about them."""

from __future__ import annotations

import datetime
import getpass
import os
from pathlib import Path
import random
import zipfile

import pytest

import audmodel
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


MIB = 1024 * 1024


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    return publish(
        model_folder,
        subgroup="emotion.cnn",
        date=datetime.date(2026, 1, 2),
        meta={"loss": 0.5},
        alias="best",
    )


# Publish and load ----------------------------------------------------------


def test_load_gives_what_was_published(
    repository: audmodel.Repository, model_folder: Path, cache: Path
) -> None:
    uid = publish(model_folder)
    assert uid == audmodel.uid("torch", {"sampling_rate": 16000}, "1.0.0")
    root = audmodel.load(uid)
    assert root == str(cache / uid.split("-")[0] / "1.0.0")
    assert files(root) == files(model_folder)
    assert audmodel.load(uid) == root


@pytest.mark.sample(6)
@pytest.mark.parametrize(("compression", "num_workers"), [(0, 4), (1, 1), (9, None)])
def test_any_compression_and_number_of_workers(
    repository: audmodel.Repository,
    tmp_path: Path,
    num_workers: int | None,
    compression: int,
) -> None:
    root = tmp_path / "large"
    root.mkdir()
    pattern = random.Random(0)
    # Larger than a part, and one of each kind: shrinks well, hardly, not at all
    (root / "zeros").write_bytes(bytes(9 * MIB))
    (root / "random").write_bytes(pattern.randbytes(5 * MIB))
    (root / "text").write_bytes(bytes(pattern.choices(b"abcdef", k=300_000)))
    (root / "empty").write_bytes(b"")
    uid = publish(root, compression=compression, num_workers=num_workers)
    assert files(audmodel.load(uid, num_workers=num_workers)) == files(root)


def test_layout(
    repository: audmodel.Repository, model_folder: Path, uid: str, tmp_path: Path
) -> None:
    short = uid.split("-")[0]
    stored = content(repository)
    assert sorted(stored) == [
        "/_alias/best/1.0.0/best-1.0.0.alias.yaml",
        f"/_uid/{short}.aliases/1.0.0/{short}.aliases-1.0.0.yaml",
        f"/_uid/{short}/1.0.0/{short}-1.0.0.header.yaml",
        f"/_uid/{short}/1.0.0/{short}-1.0.0.meta.yaml",
        f"/emotion/cnn/torch/{short}/1.0.0/{short}-1.0.0.zip",
    ]
    # The archive is one that any program reads
    archive = tmp_path / "model.zip"
    archive.write_bytes(stored[f"/emotion/cnn/torch/{short}/1.0.0/{short}-1.0.0.zip"])
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        names = [name for name in file.namelist() if not name.endswith("/")]
        assert {name: file.read(name) for name in names} == files(model_folder)


def test_embedded_interface_sees_the_same_files(
    repository: audmodel.Repository, uid: str
) -> None:
    with repository.create_backend_interface().backend as backend:
        paths = backend.ls("/")
    assert sorted(paths) == sorted(content(repository))


def test_minimal_arguments(repository: audmodel.Repository, model_folder: Path) -> None:
    uid = audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    assert audmodel.header(uid) == {
        "author": getpass.getuser(),
        "date": datetime.date.today(),
        "name": "torch",
        "parameters": {},
        "subgroup": "",
        "version": "1.0.0",
    }
    assert audmodel.meta(uid) == {}
    assert audmodel.aliases(uid) == []


def test_same_model_is_published_once(
    repository: audmodel.Repository, model_folder: Path, uid: str
) -> None:
    before = content(repository)
    (model_folder / "model.onnx").write_bytes(b"other")
    with pytest.raises(audmodel.errors.ModelExistsError, match=uid):
        publish(model_folder, subgroup="emotion.cnn", alias="other")
    assert content(repository) == before


def test_argument_names_the_repository(
    repository: audmodel.Repository,
    other_repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = publish(model_folder, repository=other_repository)
    assert content(repository) == {}
    assert audmodel.repository(uid) == other_repository
    assert files(audmodel.load(uid)) == files(model_folder)


def test_first_repository_wins(
    repository: audmodel.Repository,
    other_repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = publish(model_folder, repository=other_repository, author="second")
    publish(model_folder, repository=repository, author="first")
    publish(model_folder, repository=other_repository, version="2.0.0")
    assert audmodel.repository(uid) == repository
    assert audmodel.author(uid) == "first"
    assert audmodel.versions(uid) == ["1.0.0", "2.0.0"]


# What is known about a model -----------------------------------------------


def test_header(uid: str) -> None:
    assert audmodel.header(uid) == {
        "author": "tester",
        "date": datetime.date(2026, 1, 2),
        "name": "torch",
        "parameters": {"sampling_rate": 16000},
        "subgroup": "emotion.cnn",
        "version": "1.0.0",
    }
    assert audmodel.author(uid) == "tester"
    assert audmodel.date(uid) == "2026-01-02"
    assert audmodel.name(uid) == "torch"
    assert audmodel.parameters(uid) == {"sampling_rate": 16000}
    assert audmodel.subgroup(uid) == "emotion.cnn"
    assert audmodel.version(uid) == "1.0.0"


def test_url(repository: audmodel.Repository, uid: str) -> None:
    short = uid.split("-")[0]
    model = audmodel.url(uid)
    assert model == audmodel.url(uid, type="model")
    assert model.endswith(f"/emotion/cnn/torch/{short}/1.0.0/{uid}.zip")
    header = audmodel.url(uid, type="header")
    assert header.endswith(f"/_uid/{short}/1.0.0/{uid}.header.yaml")
    meta = audmodel.url(uid, type="meta")
    assert meta.endswith(f"/_uid/{short}/1.0.0/{uid}.meta.yaml")
    assert repository.host.removesuffix("/") in model


def test_versions(repository: audmodel.Repository, model_folder: Path) -> None:
    versions = ["1.0.0", "1.0.0-prod", "1.9.0", "1.10.0", "10.0.0"]
    for version in reversed(versions):
        uid = publish(model_folder, version=version)
    short = uid.split("-")[0]
    assert audmodel.versions(uid) == versions
    assert audmodel.versions(short) == versions
    assert audmodel.latest_version(short) == "10.0.0"
    # Also of a version that does not exist
    assert audmodel.versions(f"{short}-5.0.0") == versions
    assert not audmodel.exists(f"{short}-5.0.0")


def test_versions_of_a_model_that_does_not_exist(
    repository: audmodel.Repository,
) -> None:
    assert audmodel.versions("deadbeef") == []
    assert audmodel.versions("deadbeef-1.0.0") == []
    assert audmodel.versions("nobody") == []


def test_version_without_header_is_no_version(
    repository: audmodel.Repository, uid: str
) -> None:
    # An upload that never ended, and a file that is no record
    short = uid.split("-")[0]
    store(repository, f"/_uid/{short}/2.0.0/{short}-2.0.0.meta.yaml", b"{}\n")
    store(repository, f"/_uid/{short}/readme.txt", b"hello")
    store(repository, f"/_uid/{short}/x/{short}-x.header.yaml", b"{}\n")
    assert audmodel.versions(short) == ["1.0.0"]
    assert audmodel.version(short) == "1.0.0"
    assert not audmodel.exists(f"{short}-2.0.0")


# Kinds of IDs --------------------------------------------------------------


@pytest.fixture(params=["full", "short", "alias"])
def any_id(uid: str, request: pytest.FixtureRequest) -> str:
    return {"full": uid, "short": uid.split("-")[0], "alias": "best"}[request.param]


@pytest.mark.sample(4)
def test_any_kind_of_id(
    repository: audmodel.Repository, model_folder: Path, uid: str, any_id: str
) -> None:
    assert audmodel.exists(any_id)
    assert audmodel.header(any_id) == audmodel.header(uid)
    assert audmodel.author(any_id) == "tester"
    assert audmodel.date(any_id) == "2026-01-02"
    assert audmodel.name(any_id) == "torch"
    assert audmodel.parameters(any_id) == {"sampling_rate": 16000}
    assert audmodel.subgroup(any_id) == "emotion.cnn"
    assert audmodel.version(any_id) == "1.0.0"
    assert audmodel.versions(any_id) == ["1.0.0"]
    assert audmodel.latest_version(any_id) == "1.0.0"
    assert audmodel.meta(any_id) == {"loss": 0.5}
    assert audmodel.aliases(any_id) == ["best"]
    assert audmodel.repository(any_id) == repository
    assert audmodel.url(any_id) == audmodel.url(uid)
    assert audmodel.update_meta(any_id, {"more": 1}) == {"loss": 0.5, "more": 1}
    audmodel.set_alias("good", any_id)
    assert audmodel.resolve_alias("good") == uid
    assert files(audmodel.load(any_id)) == files(model_folder)


def test_short_id_is_the_latest_version(
    repository: audmodel.Repository, model_folder: Path, uid: str
) -> None:
    (model_folder / "model.onnx").write_bytes(b"new")
    publish(model_folder, subgroup="emotion.cnn", version="2.0.0")
    short = uid.split("-")[0]
    assert audmodel.version(short) == "2.0.0"
    assert os.path.basename(audmodel.load(short)) == "2.0.0"
    assert files(audmodel.load(short))["model.onnx"] == b"new"


def test_legacy_id(
    repository: audmodel.Repository, model_folder: Path, uid: str
) -> None:
    # Models of the first generation were stored under their legacy ID
    legacy = audmodel.legacy_uid("torch", {"sampling_rate": 16000}, "1.0.0")
    assert len(legacy) == 36
    short = uid.split("-")[0]
    for path, data in content(repository).items():
        if path.startswith("/_alias") or ".aliases" in path:
            continue
        if path.endswith(".header.yaml"):
            data = data.split(b"archive:")[0]
        store(repository, path.replace(short, legacy), data)
    assert audmodel.exists(legacy)
    assert audmodel.header(legacy) == audmodel.header(uid)
    assert audmodel.versions(legacy) == ["1.0.0"]
    assert files(audmodel.load(legacy)) == files(model_folder)
    assert files(audmodel.load(f"{legacy}-1.0.0")) == files(model_folder)
    audmodel.set_alias("old", legacy)
    assert audmodel.resolve_alias("old") == f"{legacy}-1.0.0"
    assert audmodel.aliases(legacy) == ["old"]
    assert audmodel.update_meta(legacy, {"a": 1}) == {"loss": 0.5, "a": 1}


# What comes out ------------------------------------------------------------


def test_load_into_a_folder(
    repository: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    uid = publish(model_folder, alias="best")
    to = tmp_path / "deployed"
    assert audmodel.load("best", to=str(to), files="*.yaml") == str(to)
    assert set(files(to)) == {"log/eval.yaml", "model.yaml"}
    assert audmodel.load(uid, to=str(to)) == str(to)
    assert files(to) == files(model_folder)


def test_readme_is_fetched_alone(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, version="1.0.0")
    assert audmodel.readme(uid) == ""
    (model_folder / "README.md").write_bytes("# Emotion ä\n\xff".encode("latin-1"))
    (model_folder / "sub").mkdir()
    (model_folder / "sub" / "README.md").write_bytes(b"other")
    uid = publish(model_folder, version="2.0.0", alias="best")
    assert audmodel.readme("best") == "# Emotion \ufffd\n\ufffd"
    assert [model.uid for model in audmodel.cached() if not model.unfinished] == []
    audmodel.load(uid)
    assert audmodel.readme(uid) == "# Emotion \ufffd\n\ufffd"
