"""Lists of models and of files, and what loading would move, on every backend."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest

import audmodel
from audmodel.core.backend.objects import ANY
from tests.behaviour.backends import NUMBER
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import forget_archive
from tests.behaviour.backends import store


@pytest.fixture
def uids(repository: audmodel.Repository, model_folder: Path) -> list[str]:
    params = {"rate": 8, "n": {"a": 1, "b": 2}}
    models: list[Any] = [
        ("onnx", "emotion.cnn", params, "1.0.0", "ann", "old"),
        ("onnx", "emotion.cnn", params, "10.0.0", "bob", "new"),
        ("onnx", "emotion.cnn", params, "2.0.0", "ann", None),
        ("torch", None, {"rate": 16}, "1.0.0", "bob", "other"),
    ]
    return [
        audmodel.publish(
            str(model_folder),
            name,
            params,
            version,
            subgroup=subgroup,
            author=author,
            alias=alias,
            date=datetime.date(2026, 1, day),
        )
        for day, (name, subgroup, params, version, author, alias) in enumerate(
            models, start=1
        )
    ]


def test_nothing(repository: audmodel.Repository) -> None:
    assert audmodel.models() == []


def test_models(uids: list[str], repository: audmodel.Repository) -> None:
    audmodel.set_alias("zzz", uids[1])
    found = audmodel.models()
    # The one without subgroup comes first, and versions in their order
    assert [model.uid for model in found] == [uids[3], uids[0], uids[2], uids[1]]
    assert found[0] == audmodel.Model(
        uids[3], "torch", "", "1.0.0", {"rate": 16}, "bob", "2026-01-04",
        ["other"], repository, len(archive(repository, uids[3])),
    )  # fmt: skip
    assert [model.aliases for model in found[1:]] == [["old"], [], ["new", "zzz"]]
    assert found == audmodel.models(num_workers=1, repository=repository)
    rows = [dataclasses.asdict(model) for model in found]
    assert rows[0]["parameters"] == {"rate": 16}


def archive(repository: audmodel.Repository, uid: str) -> bytes:
    [found] = [
        data
        for path, data in content(repository).items()
        if path.endswith(f"/{uid}.zip")
    ]
    return found


def test_sizes(uids: list[str], repository: audmodel.Repository) -> None:
    expected: dict[str, int | None]
    expected = {uid: len(archive(repository, uid)) for uid in uids}
    assert {model.uid: model.size for model in audmodel.models()} == expected
    assert audmodel.size("old") == expected[uids[0]]
    # Headers of earlier releases do not name it
    for uid in uids[2:]:
        forget_archive(repository, uid)
    [path] = [path for path in content(repository) if path.endswith(f"{uids[3]}.zip")]
    with repository.connect() as backend:
        backend.delete_object(path, ANY)
        has_ranges = backend.has_ranges
    found = {model.uid: model.size for model in audmodel.models()}
    assert found == {**expected, uids[2]: None, uids[3]: None}
    found = {model.uid: model.size for model in audmodel.models(sizes=True)}
    assert found == {
        **expected,
        uids[2]: expected[uids[2]] if has_ranges else None,
        uids[3]: None,
    }
    assert [audmodel.size(uid) for uid in uids] == [found[uid] for uid in uids]


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({"name": "onnx"}, [0, 2, 1]),
    ({"name": "o*"}, [0, 2, 1]),
    ({"name": "on"}, []),
    ({"subgroup": "emotion.*"}, [0, 2, 1]),
    ({"subgroup": ""}, [3]),
    ({"author": "ann"}, [0, 2]),
    ({"alias": "new"}, [1]),
    ({"alias": "[on]*"}, [3, 0, 1]),
    ({"alias": "unknown"}, []),
    ({"params": {}}, [3, 0, 2, 1]),
    ({"params": {"rate": 8}}, [0, 2, 1]),
    ({"params": {"rate": 8, "n": {"b": 2}}}, [0, 2, 1]),
    ({"params": {"n": {"b": 1}}}, []),
    ({"params": {"unknown": None}}, []),
    ({"name": "onnx", "author": "bob"}, [1]),
]


def test_filters(uids: list[str]) -> None:
    for wanted, expected in FILTERS:
        found = [model.uid for model in audmodel.models(**wanted)]
        assert found == [uids[n] for n in expected], wanted


VALUES: list[object] = [
    *(1, True, 1.0, 0, False, 0.0, -0.0, "1", float("nan"), None),
    *([1], (1,), [{"a": 1, "b": float("nan")}], {1: 0}, {"1": 0}, {"x": True}),
]


def test_parameters_count_with_their_type(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uids = [
        audmodel.publish(str(model_folder), "torch", {"k": value}, "1.0.0")
        for value in VALUES
    ]
    for value, uid in zip(VALUES, uids, strict=True):
        found = [model.uid for model in audmodel.models(params={"k": value})]
        assert found == [uid], value
    # Values count as they are stored
    text = type("Text", (str,), {})("1")
    assert [m.uid for m in audmodel.models(params={"k": text})] == [uids[7]]
    # In a list as well, the order of keys does not matter
    swapped = [{"b": float("nan"), "a": 1}]
    assert [m.uid for m in audmodel.models(params={"k": swapped})] == [uids[12]]
    assert audmodel.models(params={"k": [{"a": 1}]}) == []


def test_parameters_that_cannot_be_stored(repository: audmodel.Repository) -> None:
    with pytest.raises(audmodel.errors.InvalidDataError, match="cannot be stored"):
        audmodel.models(params={"k": object()})


def test_values_that_look_like_patterns(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = audmodel.publish(str(model_folder), "torch", {}, "1.0.0", author="Jane [x]")
    assert [model.uid for model in audmodel.models(author="Jane [x]")] == [uid]
    assert [model.uid for model in audmodel.models(author="Jane [[]x]")] == [uid]


def test_what_cannot_be_read_is_left_out(
    uids: list[str], repository: audmodel.Repository
) -> None:
    short = "0000aaaa"
    store(
        repository,
        f"/_uid/{short}/1.0.0/{short}-1.0.0.header.yaml",
        b"!!python/object/apply:os.abort []",
    )
    store(repository, "/_alias/wrong/1.0.0/wrong-1.0.0.alias.yaml", b"uid: [1]")
    # No records of models
    for path in (
        f"/_uid/{short}/2.0.0/{short}-2.0.0.meta.yaml",
        f"/_uid/{short}/3.0.0/other-3.0.0.header.yaml",
        f"/_uid/{short}/x/{short}-x.header.yaml",
        "/_uid/readme.txt",
        "/_alias/readme.txt",
    ):
        store(repository, path, b"x")
    with pytest.warns(UserWarning, match="It is left out") as warned:
        found = audmodel.models()
    assert sorted(model.uid for model in found) == sorted(uids)
    messages = [str(warning.message) for warning in warned]
    assert len(messages) == 2
    assert any(f"{short}-1.0.0" in message for message in messages)
    assert any("'wrong'" in message for message in messages)


def test_headers_in_the_cache(uids: list[str], repository: audmodel.Repository) -> None:
    audmodel.header(uids[0])
    (header,) = (
        path for path in _paths(repository) if path.endswith(f"{uids[0]}.header.yaml")
    )
    store(repository, header, b"[")
    assert len(audmodel.models()) == len(uids)


def _paths(repository: audmodel.Repository) -> list[str]:
    with repository.connect() as backend:
        return backend.list_objects("/")


def test_several_repositories(
    uids: list[str], other_repository: audmodel.Repository, model_folder: Path
) -> None:
    arguments = (str(model_folder), "torch", {"rate": 16})
    searched = audmodel.config.REPOSITORIES
    # The one that is searched last may get a model before the others have it
    audmodel.config.REPOSITORIES = [other_repository]
    for version in ("1.0.0", "3.0.0"):
        audmodel.publish(*arguments, version, repository=other_repository, author="c")
    audmodel.config.REPOSITORIES = searched
    found = {model.uid: model for model in audmodel.models()}
    assert len(found) == len(uids) + 1
    assert found[uids[3]].author == "bob"
    newest = found[uids[3].replace("1.0.0", "3.0.0")]
    assert newest.repository == other_repository
    only = audmodel.models(repository=other_repository)
    assert [model.version for model in only] == ["1.0.0", "3.0.0"]


def test_wrong_types(repository: audmodel.Repository) -> None:
    bad: list[tuple[str, Any]] = [
        ("name", 1),
        ("subgroup", b""),
        ("alias", []),
        ("author", 1),
        ("params", "x"),
    ]
    for argument, value in bad:
        with pytest.raises(TypeError, match=argument):
            audmodel.models(**{argument: value})
    with pytest.raises(TypeError, match="Repository"):
        audmodel.models(repository=NUMBER)
    with pytest.raises(ValueError, match="num_workers"):
        audmodel.models(num_workers=0)


# Files ---------------------------------------------------------------------


def test_files(uids: list[str], model_folder: Path) -> None:
    found = audmodel.files(uids[0])
    expected = {name: len(data) for name, data in files(model_folder).items()}
    assert {file.path: file.size for file in found} == expected
    assert all(0 < file.compressed_size <= file.size + 20 for file in found)
    assert audmodel.files("old") == found


def test_files_of_what_is_not_there(repository: audmodel.Repository) -> None:
    with pytest.raises(audmodel.errors.ModelNotFoundError):
        audmodel.files("00000000-1.0.0")
    with pytest.raises(TypeError):
        audmodel.files(1)  # type: ignore[arg-type]


def test_some_files(uids: list[str], model_folder: Path) -> None:
    root = audmodel.load(uids[0], files=["*.onnx"], num_workers=2)
    assert files(root) == {"model.onnx": files(model_folder)["model.onnx"]}
    assert audmodel.verify(uids[0], remote=True).ok


# Plans ---------------------------------------------------------------------


def test_plan(uids: list[str]) -> None:
    transfer = audmodel.plan_load(uids[0])
    assert (transfer.uid, transfer.files, transfer.exact) == (uids[0], 4, True)
    # The archive is small, and comes with the request that opens it
    assert transfer.requests == 1
    audmodel.load(uids[0])
    assert audmodel.plan_load(uids[0]) == audmodel.Transfer(uids[0], 0, 0, 0, 0, True)
