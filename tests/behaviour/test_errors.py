"""Bad input is refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import datetime
import os
from pathlib import Path
import re
from typing import Any

import pytest

import audmodel
from audmodel.core.backend.objects import ANY
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


BAD_IDS = [
    "",
    " ",
    "/",
    ".",
    "..",
    "a/b",
    "../../escape",
    "../../escape/x-1.0.0",
    "/etc/passwd",
    "a\\b",
    "a\0b",
    "a b",
    "a\nb",
    "3e120e8d-1.0.0\n",
    "é",
    "3e120e8d-1.0.0/..",
    "x" * 129,
    "x" * 5000,
    "\uff13e120e8d",
    "http://127.0.0.1/",
]


@pytest.fixture
def unchanged(
    repository: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> Iterator[None]:
    """Whatever the test does, it changes neither repository nor disk."""
    publish(model_folder, name="other", alias="taken")
    before = content(repository)
    entries = sorted(tmp_path.rglob("*"))
    yield
    assert content(repository) == before
    assert sorted(tmp_path.rglob("*")) == entries


def refused(root: Path, argument: str, values: Iterable[object], match: str) -> None:
    """Each value is refused as bad input, with a message that can be read."""
    for value in values:
        with pytest.raises(ValueError, match=match) as info:
            publish(root, **{argument: value})
        assert isinstance(info.value, audmodel.errors.InvalidInputError), value
        assert len(str(info.value)) < 1000, value


@pytest.mark.usefixtures("unchanged")
class TestPublish:
    def test_version(self, model_folder: Path) -> None:
        values = ["", "1", "1.0", "v1.0.0", "1.0.0.0", "1.0.0+1", "1.0.0-", " 1.0.0"]
        values += ["1.0.0\n", "1.0.0/..", "1.0.0-a/b", "1.0.0-ä", "\u0661.0.0"]
        values += ["1.0.0-" + "x" * 5000, "1" * 5000]
        refused(model_folder, "version", values, "not a valid version")

    def test_alias(self, model_folder: Path) -> None:
        values = ["a/b", "a b", "ä", "a@b", "..", ".", "a\0b", "a\n", "x" * 5000]
        values += ["12345678", "deadbeef", "deadbeef-1.0.0"]
        values += ["65206614-dbb7-d61a-b00c-153db7b525c0"]
        refused(model_folder, "alias", values, "not an allowed alias name")

    def test_subgroup(self, model_folder: Path) -> None:
        values = ["_uid", "_alias", "_uid.x", "_alias/x", "a b", "ä", "..", "/x", "x/"]
        values += ["a..b", ".a", "a.", "a/../b", "a\0b", "a\n", "x" * 5000]
        refused(model_folder, "subgroup", values, "subgroup")

    def test_name(self, model_folder: Path) -> None:
        values = ["", ".", "..", "_uid", "_alias", "a b", "ä", "/x", "x/", "a//b"]
        values += ["a/../b", "../x", "a\0b", "a\n", "x" * 5000]
        refused(model_folder, "name", values, "name")

    @pytest.mark.parametrize("argument", ["params", "meta"])
    def test_what_cannot_be_stored(self, model_folder: Path, argument: str) -> None:
        endless: dict[str, Any] = {}
        endless["self"] = endless
        deep: dict[str, Any] = {}
        for _ in range(2000):
            deep = {"a": deep}
        values = [
            {"a": object()},
            {"a": object},
            {"a": print},
            {"a": lambda: 1},
            {"a": {"b": [len]}},
            {object(): 1},
            {("a", 1): open},
            {"a": range(3)},
            {"a": bytearray(b"x")},
            [1],
            "text",
            5,
            endless,
            deep,
        ]
        refused(model_folder, argument, values, argument)

    def test_num_workers(self, model_folder: Path) -> None:
        for value in (0, -1, 1.0, 2.5, "2", True, [1]):
            match = f"num_workers.*{re.escape(repr(value))}"
            refused(model_folder, "num_workers", [value], match)

    def test_compression(self, model_folder: Path) -> None:
        for value in (-1, 10, 77):
            refused(model_folder, "compression", [value], f"0 and 9, not {value}")

    def test_types(self, model_folder: Path) -> None:
        for argument, value in (
            ("name", None),
            ("name", 5),
            ("version", None),
            ("version", 1),
            ("alias", 5),
            ("author", 5),
            ("date", 5),
            ("subgroup", 5),
            ("compression", "1"),
            ("compression", None),
            ("compression", 1.0),
            ("repository", 5),
        ):
            with pytest.raises(TypeError):
                publish(model_folder, **{argument: value})

    def test_root(self, model_folder: Path, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="missing"):
            publish(tmp_path / "missing")
        with pytest.raises(FileNotFoundError, match="is not a folder"):
            publish(model_folder / "model.yaml")

    def test_empty_root(
        self, model_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(model_folder)
        with pytest.raises(FileNotFoundError, match="does not exist"):
            audmodel.publish("", "torch", {}, "1.0.0")
        with pytest.raises(FileNotFoundError, match="does not exist"):
            audmodel.plan_publish("", "torch", {}, "1.0.0")

    def test_date(self, model_folder: Path) -> None:
        for value in ("today", "2026-02-30", "1.1.2026", "2026-01-01 12:30:00"):
            with pytest.raises(audmodel.errors.InvalidInputError, match="'date'"):
                publish(model_folder, date=value)

    def test_author(self, model_folder: Path) -> None:
        with pytest.raises(audmodel.errors.InvalidInputError, match="'author'"):
            publish(model_folder, author="\ud800")


@pytest.mark.parametrize("what", ["empty", "only folders"])
def test_folder_without_files(
    repository: audmodel.Repository, tmp_path: Path, what: str
) -> None:
    root = tmp_path / "nothing"
    root.mkdir()
    if what == "only folders":
        (root / "a" / "b").mkdir(parents=True)
    with pytest.raises(audmodel.errors.InvalidFolderError, match="no files"):
        publish(root)
    assert content(repository) == {}


@pytest.mark.sample(14)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("dangling link", "broken link"),
        ("link to a folder", "link to a folder"),
        ("link in a circle", "broken link"),
        ("pipe", "not a regular file"),
        ("backslash", "Rename"),
        ("line feed", "Rename"),
        ("undecodable", "Rename"),
    ],
)
def test_folder_with_what_cannot_be_published(
    repository: audmodel.Repository, model_folder: Path, kind: str, message: str
) -> None:
    place = model_folder / "log" / "bad"
    if kind == "dangling link":
        place.symlink_to("nowhere")
    elif kind == "link to a folder":
        place.symlink_to(model_folder)
    elif kind == "link in a circle":
        place.symlink_to(place)
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "backslash":
        place = model_folder / "log" / "bad\\name"
        place.write_bytes(b"")
    elif kind == "line feed":
        place = model_folder / "log" / "bad\nname"
        place.write_bytes(b"")
    else:
        (model_folder / "log" / os.fsdecode(b"bad\xff")).write_bytes(b"")
    with pytest.raises(audmodel.errors.InvalidFolderError, match="bad") as info:
        publish(model_folder)
    assert message in str(info.value)
    assert content(repository) == {}


def test_publish_to_a_missing_repository(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    missing = audmodel.Repository("missing", repository.host, repository.backend)
    with pytest.raises(audmodel.errors.RepositoryError, match="missing"):
        publish(model_folder, repository=missing)
    audmodel.config.REPOSITORIES = [missing]
    with pytest.raises(audmodel.errors.RepositoryError, match="missing"):
        audmodel.exists("deadbeef-1.0.0")


def test_publish_to_an_unknown_backend(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    unknown = audmodel.Repository("models", repository.host, "unknown")
    with pytest.raises(ValueError, match="'unknown' is not a registered backend"):
        publish(model_folder, repository=unknown)


# IDs -----------------------------------------------------------------------


READERS: list[Callable[[str], object]] = [
    audmodel.aliases,
    audmodel.author,
    audmodel.date,
    audmodel.header,
    audmodel.latest_version,
    audmodel.load,
    audmodel.meta,
    audmodel.name,
    audmodel.parameters,
    audmodel.repository,
    audmodel.subgroup,
    audmodel.url,
    audmodel.version,
]


@pytest.mark.usefixtures("unchanged")
class TestIds:
    def test_bad_ids(self) -> None:
        for uid in BAD_IDS:
            for read in READERS:
                with pytest.raises(RuntimeError, match="does not exist") as info:
                    read(uid)
                assert isinstance(info.value, audmodel.errors.InvalidIdError)
                assert len(str(info.value)) < 1000

    def test_bad_ids_do_not_exist(self) -> None:
        for uid in BAD_IDS:
            assert audmodel.exists(uid) is False
            assert audmodel.versions(uid) == []
            with pytest.raises(audmodel.errors.AliasNotFoundError):
                audmodel.resolve_alias(uid)

    def test_bad_ids_are_not_changed(self) -> None:
        for uid in BAD_IDS:
            with pytest.raises(audmodel.errors.InvalidIdError):
                audmodel.update_meta(uid, {"a": 1})
            with pytest.raises(audmodel.errors.InvalidIdError):
                audmodel.set_alias("small", uid)
            with pytest.raises(audmodel.errors.InvalidInputError):
                audmodel.set_alias(uid, "deadbeef-1.0.0")

    @pytest.mark.parametrize("uid", ["deadbeef-1.0.0", "deadbeef", "nobody"])
    def test_missing_models(self, repository: audmodel.Repository, uid: str) -> None:
        for read in READERS:
            with pytest.raises(RuntimeError, match=uid) as info:
                read(uid)
            assert isinstance(info.value, audmodel.errors.ModelNotFoundError)
            # It says where it was looked for
            assert str(repository) in str(info.value)
        assert audmodel.exists(uid) is False

    def test_types(self) -> None:
        values: list[Any] = [None, 5, b"deadbeef", ["deadbeef"]]
        for value in values:
            for read in [*READERS, audmodel.exists, audmodel.versions]:
                if read is audmodel.load and isinstance(value, list):
                    continue  # it takes several
                with pytest.raises(TypeError):
                    read(value)
            with pytest.raises(TypeError):
                audmodel.resolve_alias(value)
            with pytest.raises(TypeError):
                audmodel.set_alias(value, "deadbeef-1.0.0")
            with pytest.raises(TypeError):
                audmodel.set_alias("small", value)
            with pytest.raises(TypeError):
                audmodel.update_meta(value, {})

    def test_num_workers(self) -> None:
        values: list[Any] = [0, -1, 1.0, "2", True]
        for value in values:
            with pytest.raises(ValueError, match="num_workers") as info:
                audmodel.load("deadbeef-1.0.0", num_workers=value)
            assert repr(value) in str(info.value)

    def test_type_of_url(self) -> None:
        with pytest.raises(ValueError, match="'archive'"):
            audmodel.url("deadbeef-1.0.0", type="archive")


# Repositories that hold nonsense -------------------------------------------


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    return publish(model_folder, date=datetime.date(2026, 1, 1), alias="small")


def test_alias_that_names_no_model_id(
    repository: audmodel.Repository, uid: str, tmp_path: Path
) -> None:
    contents = [
        f'uid: "{target}"\n'.encode()
        for target in (
            "../../escape/x-1.0.0",
            "/tmp/x-1.0.0",
            "deadbeef",
            "small",
            "deadbeef-1.0.0/..",
            "deadbeef-1.0.0\\n",
            "http://127.0.0.1/deadbeef-1.0.0",
            "",
        )
    ]
    contents += [
        b"",
        b"uid: 5\n",
        b"uid: [a]\n",
        b"- uid\n",
        b"text",
        b"\xff\xfe",
        b"{",
    ]
    contents += [b"other: x\n", b"uid: !!python/name:os.system ''\n"]
    entries = sorted(tmp_path.rglob("*"))
    for data in contents:
        store(repository, "/_alias/evil/1.0.0/evil-1.0.0.alias.yaml", data)
        for read in [
            *READERS,
            audmodel.exists,
            audmodel.resolve_alias,
            audmodel.versions,
        ]:
            with pytest.raises(audmodel.errors.InvalidDocumentError, match="evil"):
                read("evil")
    assert set(tmp_path.rglob("*")) - set(entries) <= set(
        (tmp_path / "host").rglob("*")
    )
    # It is replaced by something better
    audmodel.set_alias("evil", uid)
    assert audmodel.resolve_alias("evil") == uid


OTHER_HEADERS = [
    ("name: torch", "name: '../..'"),
    ("name: torch", "name: ../../../escape"),
    ("name: torch", "name: 'a\\b'"),
    ("name: torch", 'name: "a\\0b"'),
    ("name: torch", "name: [torch]"),
    ("name: torch", "title: torch"),
    ("subgroup: ''", "subgroup: 'a b'"),
    ("subgroup: ''", "subgroup: 'http://127.0.0.1'"),
    ("version: 1.0.0", "version: 2.0.0"),
    ("version: 1.0.0", "version: 1.0"),
    ("version: 1.0.0", "version: ../1.0.0"),
    ("parameters:", "parameters: 5\nmore:"),
    ("archive:", "archive: 5\nmore:"),
    ("blake3:", "md5:"),
    ("size: ", "size: x"),
    ("author: tester", "author: !!python/name:os.system ''"),
    ("author: tester", "author: *unknown"),
]


def test_header_that_is_none_of_this_model(
    repository: audmodel.Repository, uid: str, tmp_path: Path
) -> None:
    path = f"/_uid/{uid.split('-')[0]}/1.0.0/{uid}.header.yaml"
    header = content(repository)[path].decode()
    readers = [*READERS, audmodel.exists]
    readers.remove(audmodel.latest_version)
    for old, new in OTHER_HEADERS:
        assert old in header
        store(repository, path, header.replace(old, new).encode())
        entries = sorted(tmp_path.rglob("*"))
        for read in readers:
            with pytest.raises(audmodel.errors.InvalidDocumentError, match=uid):
                read(uid)
        assert sorted(tmp_path.rglob("*")) == entries, new


def test_archive_of_another_model(
    repository: audmodel.Repository, uid: str, model_folder: Path, cache: Path
) -> None:
    (model_folder / "model.onnx").write_bytes(b"evil")
    other = publish(model_folder, version="2.0.0")
    stored = content(repository)
    path = f"/torch/{uid.split('-')[0]}/1.0.0/{uid}.zip"
    store(repository, path, stored[path.replace("1.0.0", "2.0.0")])
    with pytest.raises(audmodel.errors.ArchiveMismatchError, match=uid):
        audmodel.load(uid)
    assert audmodel.exists(uid)
    assert files(audmodel.load(other))["model.onnx"] == b"evil"
    # Nothing is left of the attempt, and the right archive still loads
    assert not (cache / uid.split("-")[0] / "1.0.0").exists()
    store(repository, path, stored[path])
    assert "model.onnx" in files(audmodel.load(uid))


@pytest.mark.sample(5)
@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "flipped", "text"])
def test_damaged_archive(
    repository: audmodel.Repository, uid: str, cache: Path, kind: str
) -> None:
    path = f"/torch/{uid.split('-')[0]}/1.0.0/{uid}.zip"
    data = bytearray(content(repository)[path])
    if kind == "missing":
        with repository.connect() as backend:
            backend.delete_object(path, ANY)
    else:
        if kind == "empty":
            data.clear()
        elif kind == "truncated":
            del data[-100:]
        elif kind == "flipped":
            data[len(data) // 2] ^= 1
        else:
            data[:] = b"<html>Sorry</html>" * 1000
        store(repository, path, bytes(data))
    with pytest.raises(audmodel.errors.ArchiveError, match=uid) as info:
        audmodel.load(uid)
    assert audmodel.url(uid) in str(info.value)
    assert not (cache / uid.split("-")[0] / "1.0.0").exists()
