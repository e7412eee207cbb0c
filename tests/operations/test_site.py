"""A catalogue shows what a repository holds, and only what changed is written."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import audmodel
from audmodel.core import units
from audmodel.core.operations import site
from audmodel.core.operations import site_list
from audmodel.errors import InvalidInputError
from audmodel.errors import RepositoryError
from audmodel.errors import UnprotectedRepositoryError
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store
from tests.processes import Interpreter
from tests.site.html import Page


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    return publish(model_folder, alias="best", meta={"uar": 0.7})


@pytest.fixture
def build(
    repository: audmodel.Repository, output: Path
) -> Callable[..., audmodel.Catalog]:
    def build(**arguments: Any) -> audmodel.Catalog:
        return audmodel.build_catalog(repository, output, num_workers=2, **arguments)

    return build


def page_of(uid: str, output: Path) -> str:
    path = output / "models" / f"{uid.split('-')[0]}.html"
    return path.read_text("utf-8")


def listed(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "models.json").read_bytes())
    return content


def written(output: Path, build: Callable[..., object]) -> set[str]:
    """Files that a build writes: each of them becomes another file."""

    def numbers() -> dict[str, int]:
        return {
            path.relative_to(output).as_posix(): path.stat().st_ino
            for path in output.rglob("*")
            if path.is_file()
        }

    before = numbers()
    build()
    return {path for path, number in numbers().items() if before.get(path) != number}


def test_page_shows_everything_of_a_model(
    uid: str, model_folder: Path, build: Callable[..., audmodel.Catalog], output: Path
) -> None:
    (model_folder / "README.md").write_text("# About\n\nWorks *well*.\n")
    newer = publish(model_folder, version="2.0.0", alias="best", meta={"uar": 0.8})
    catalog = build(title="Our models")
    assert (catalog.models, catalog.pages, catalog.removed) == (2, 1, 0)
    assert catalog.url == str(output / "index.html")
    page = page_of(uid, output)
    for text in (
        f"audmodel load {newer}",
        f"audmodel.load(&#34;{newer}&#34;)",
        "sampling_rate",
        "Works <em>well</em>.",
        "tester",
        "model.onnx",
        "16.4 kB",
        "log/eval.yaml",
        "0.7",
        "0.8",
        "Our models",
    ):
        assert text in page
    history = page[page.index('<h2 id="aliases">') :]
    assert history.index(f">{newer}<") < history.index(f">{uid}<")


def test_size_of_an_archive_of_earlier_releases_is_shown(
    uid: str,
    repository: audmodel.Repository,
    build: Callable[..., audmodel.Catalog],
    output: Path,
) -> None:
    (header,) = Path(repository.host).rglob("*.header.yaml")
    fields = yaml.safe_load(header.read_text("utf-8"))
    del fields["archive"]
    header.write_text(yaml.safe_dump(fields), "utf-8")
    size = Path(audmodel.url(uid)).stat().st_size
    build()
    page = Page(page_of(uid, output))
    (row,) = (row.text for row in page.all("tr") if "size of archive" in row.text)
    assert row == f"size of archive{units.size(size)}"


def test_list_for_programs(
    uid: str, build: Callable[..., audmodel.Catalog], output: Path
) -> None:
    build()
    content = listed(output)
    (model,) = content["models"]
    assert {key: model[key] for key in ("uid", "name", "aliases", "parameters")} == {
        "uid": uid,
        "name": "torch",
        "aliases": ["best"],
        "parameters": {"sampling_rate": 16000},
    }
    assert content["aliases"] == {"best": uid}
    on_disk = set(files(output)) - {"models.json"}
    assert set(content["pages"]) == on_disk


def test_list_says_values_that_json_does_not_have_as_text(
    repository: audmodel.Repository,
    model_folder: Path,
    build: Callable[..., audmodel.Catalog],
    output: Path,
) -> None:
    publish(model_folder, params={"a": float("nan"), "b": (1, 2), "c": {3: None}})
    build()
    (model,) = listed(output)["models"]
    assert model["parameters"] == {"a": "nan", "b": [1, 2], "c": {"3": None}}


def test_same_repository_gives_the_same_pages(
    uid: str, repository: audmodel.Repository, output: Path, tmp_path: Path
) -> None:
    audmodel.build_catalog(repository, output)
    audmodel.build_catalog(repository, tmp_path / "again", num_workers=4)
    assert files(output) == files(tmp_path / "again")


def test_empty_repository_gives_an_empty_catalogue(
    repository: audmodel.Repository, build: Callable[..., audmodel.Catalog]
) -> None:
    assert build().pages == 0


# What is written -------------------------------------------------------------


def test_nothing_is_written_without_a_change(
    uid: str, build: Callable[..., audmodel.Catalog], output: Path
) -> None:
    build()
    assert written(output, build) == set()
    assert build().written == 0


def test_only_pages_that_change_are_written(
    uid: str, model_folder: Path, build: Callable[..., audmodel.Catalog], output: Path
) -> None:
    other = publish(model_folder, name="other").split("-")[0]
    build()
    page = f"models/{uid.split('-')[0]}.html"
    common = {"models.js", "index.html", "models.json"}
    audmodel.set_alias("new", uid)
    assert written(output, build) == {page, *common}
    audmodel.update_meta(uid, {"uar": 0.9})
    assert written(output, build) == {page, "models.json"}
    publish(model_folder, name="other", version="2.0.0")
    assert written(output, build) == {f"models/{other}.html", *common}


def test_all_is_written_on_demand(
    uid: str, build: Callable[..., audmodel.Catalog], output: Path
) -> None:
    build()
    before = files(output)
    (output / "models.js").write_text("changed by hand")
    assert written(output, build) == set()
    rebuild = lambda: build(rebuild=True)  # noqa: E731
    assert written(output, rebuild) == set(before)
    assert files(output) == before


def test_page_of_a_deleted_model_is_removed(
    uid: str, model_folder: Path, build: Callable[..., audmodel.Catalog], output: Path
) -> None:
    other = publish(model_folder, name="other")
    build()
    audmodel.delete(other)
    assert build().removed == 1
    assert [path.stem for path in (output / "models").iterdir()] == [uid.split("-")[0]]


def test_archives_are_read_only_for_pages_that_change(
    uid: str,
    model_folder: Path,
    build: Callable[..., audmodel.Catalog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from audmodel.core.repository.registry import Registry

    build()
    other = publish(model_folder, name="other")
    opened = []
    original = Registry.open_archive

    def open_archive(self: Registry, model: Any, *args: Any) -> Any:
        opened.append(str(model))
        return original(self, model, *args)

    monkeypatch.setattr(Registry, "open_archive", open_archive)
    build()
    assert opened == [other]


def test_history_links_to_pages_that_are_there(
    uid: str, model_folder: Path, build: Callable[..., audmodel.Catalog], output: Path
) -> None:
    newer = publish(model_folder, name="other", alias="best")
    link = f'href="../models/{uid.split("-")[0]}.html"'
    build()
    assert link in page_of(newer, output)
    audmodel.delete(uid)
    build()
    assert uid in page_of(newer, output)
    assert link not in page_of(newer, output)


# What is wrong ---------------------------------------------------------------


def archive_of(uid: str, repository: audmodel.Repository) -> Path:
    return Path(audmodel.url(uid))


def test_page_without_archive_says_so_and_is_made_again(
    uid: str,
    repository: audmodel.Repository,
    build: Callable[..., audmodel.Catalog],
    output: Path,
) -> None:
    archive = archive_of(uid, repository)
    away = archive.with_suffix(".away")
    archive.rename(away)
    build()
    assert "Its archive is missing." in page_of(uid, output)
    away.rename(archive)
    build()
    assert "Its archive is missing." not in page_of(uid, output)
    assert "model.onnx" in page_of(uid, output)


def test_damaged_archive_leaves_the_rest(
    uid: str,
    repository: audmodel.Repository,
    build: Callable[..., audmodel.Catalog],
    output: Path,
) -> None:
    archive_of(uid, repository).write_bytes(b"no archive")
    build()
    assert "Its archive cannot be read." in page_of(uid, output)


def test_damaged_records_are_left_out(
    uid: str,
    model_folder: Path,
    repository: audmodel.Repository,
    build: Callable[..., audmodel.Catalog],
    output: Path,
) -> None:
    other = publish(model_folder, name="other")
    short = other.split("-")[0]
    store(repository, f"/_uid/{short}/1.0.0/{other}.header.yaml", b"{")
    store(repository, f"/_uid/{uid.split('-')[0]}/1.0.0/{uid}.meta.yaml", b"[")
    store(repository, "/_alias/bad/1.0.0/bad-1.0.0.alias.yaml", b"uid: 5")
    with pytest.warns(UserWarning, match="It is left out") as warnings:
        assert build().pages == 1
    text = "\n".join(str(warning.message) for warning in warnings)
    assert other in text
    assert uid in text
    assert text.count("'bad'") == 1
    assert "Its metadata cannot be read." in page_of(uid, output)


def test_alias_without_valid_history_is_shown(
    uid: str,
    repository: audmodel.Repository,
    build: Callable[..., audmodel.Catalog],
    output: Path,
) -> None:
    record = f"uid: {uid}\nhistory: 5\n".encode()
    store(repository, "/_alias/odd/1.0.0/odd-1.0.0.alias.yaml", record)
    build()
    assert listed(output)["aliases"] == {"best": uid, "odd": uid}
    assert '<span class="chip">odd</span>' in page_of(uid, output)


def test_header_that_was_written_by_hand_is_inert(
    uid: str,
    repository: audmodel.Repository,
    build: Callable[..., audmodel.Catalog],
    output: Path,
) -> None:
    short = uid.split("-")[0]
    path = f"/_uid/{short}/1.0.0/{uid}.header.yaml"
    with repository.connect() as backend:
        stored = backend.read_object(path, 10_000)
    assert stored is not None
    evil = stored.data.replace(b"author: tester", b'author: "<script>\\u202e"')
    assert evil != stored.data
    store(repository, path, evil)
    build()
    assert "&lt;script&gt;\\u202e" in page_of(uid, output)


# Where it is written ---------------------------------------------------------


@pytest.mark.parametrize("name", ["index.html", "notes.txt", "models.json"])
def test_folder_with_other_files_stays_as_it_is(
    uid: str, build: Callable[..., audmodel.Catalog], output: Path, name: str
) -> None:
    output.mkdir()
    (output / name).write_text("mine")
    with pytest.raises(InvalidInputError, match=f"other files than .*{name}"):
        build()
    assert files(output) == {name: b"mine"}


def test_folder_that_cannot_be_made(
    uid: str, repository: audmodel.Repository, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RepositoryError, match="cannot be made: Not a directory"):
        audmodel.build_catalog(repository, tmp_path / "file" / "site")


@pytest.mark.parametrize("arguments", [{}, {"output": "site", "publish": True}])
def test_one_place_has_to_be_given(
    repository: audmodel.Repository, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError, match=r"either 'output'.* or 'publish=True'"):
        audmodel.build_catalog(repository, **arguments)


def test_build_that_was_interrupted_is_continued(
    uid: str,
    build: Callable[..., audmodel.Catalog],
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = site.Place.write

    def fail(self: site.Place, name: str, data: bytes) -> None:
        if name == "index.html":
            raise KeyboardInterrupt
        write(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(site.Place, "write", fail)
        with pytest.raises(KeyboardInterrupt):
            build()
    assert listed(output)["models"] == []
    build()
    assert len(listed(output)["models"]) == 1
    assert (output / "index.html").exists()


def test_nothing_is_written_where_nothing_can_be_committed(
    uid: str, repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: site.Place, data: bytes, etag: str | None) -> bool:
        raise UnprotectedRepositoryError("The storage has no conditional writes.")

    monkeypatch.setattr(site.Place, "commit", refuse)
    before = files(repository.host)
    with pytest.raises(UnprotectedRepositoryError):
        audmodel.build_catalog(repository, publish=True)
    assert files(repository.host) == before


@pytest.mark.parametrize(
    "path",
    ["../../secret", "../secret", "/secret", "models/../../secret", "models/a/b.html"],
)
def test_list_cannot_name_files_elsewhere(
    uid: str,
    build: Callable[..., audmodel.Catalog],
    output: Path,
    tmp_path: Path,
    path: str,
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kept")
    (output / "models" / "a").mkdir(parents=True)
    inside = output / "models" / "a" / "b.html"
    inside.write_text("kept")
    content = {"format": 1, "models": [], "pages": {path: ""}}
    (output / "models.json").write_text(json.dumps(content))
    assert build().removed == 0
    assert secret.read_text() == inside.read_text() == "kept"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"{}",
        b'{"format": 2, "models": [], "pages": {}}',
        b'{"format": 1, "models": 5, "pages": {}}',
        b'{"format": 1, "models": [5], "pages": {}}',
        b'{"format": 1, "models": [], "pages": []}',
        b'{"format": 1, "models": [{"uid": "a"}], "pages": {}}',
        b"\xff",
    ],
)
def test_list_that_is_not_valid_counts_for_nothing(data: bytes) -> None:
    assert site_list.parse(data) is None


def test_published_list_that_is_not_valid_is_replaced(
    uid: str, repository: audmodel.Repository
) -> None:
    audmodel.build_catalog(repository, publish=True)
    store(repository, "/_catalog/models.json", b"damaged")
    catalog = audmodel.build_catalog(repository, publish=True)
    assert catalog.written > 0
    assert audmodel.build_catalog(repository, publish=True).written == 0


# Others at the same time -----------------------------------------------------


@pytest.mark.parametrize("is_first", [True, False])
def test_build_starts_again_if_another_one_was_faster(
    is_first: bool,
    uid: str,
    model_folder: Path,
    repository: audmodel.Repository,
    output: Path,
    build: Callable[..., audmodel.Catalog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_first:
        audmodel.build_catalog(repository, publish=True)
        audmodel.update_meta(uid, {"uar": 0.5})
    commit = site.Place.commit
    calls = []

    def slow(self: site.Place, data: bytes, etag: str | None) -> bool:
        calls.append(etag)
        # The first one of a new catalogue stores an empty list
        if len(calls) == (2 if is_first else 1):
            # Meanwhile the alias moves, and another process sees it
            with monkeypatch.context() as patch:
                patch.setattr(site.Place, "commit", commit)
                newer = publish(model_folder, version="2.0.0", alias="best")
                audmodel.build_catalog(repository, publish=True)
                # What this process wrote before comes later
                short = newer.split("-")[0]
                path = f"/_catalog/models/{short}.html"
                store(repository, path, b"older page")
        return commit(self, data, etag)

    monkeypatch.setattr(site.Place, "commit", slow)
    audmodel.build_catalog(repository, publish=True)
    assert len(calls) == (3 if is_first else 2)
    monkeypatch.undo()
    build(title=repository.name)
    with repository.connect() as backend:
        for path, data in files(output).items():
            stored = backend.read_object(f"/_catalog/{path}", 10**7)
            assert stored is not None
            assert stored.data == data, path


def test_processes_build_the_same_catalogue_and_publish_at_the_same_time(
    uid: str,
    repository: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    python: Interpreter,
) -> None:
    code = """
        repository = audmodel.config.REPOSITORIES[0]
        barrier("start")
        for number in range(3):
            if args["number"] == 0:
                params = {"sampling_rate": number}
                audmodel.publish(args["root"], "torch", params, "1.0.0", author="me")
            else:
                audmodel.build_catalog(repository, publish=True, num_workers=2)
        return True
    """
    assert all(python.run_many(code, 3, root=str(model_folder)))
    audmodel.build_catalog(repository, publish=True)
    audmodel.build_catalog(repository, tmp_path / "site")
    published = files(Path(repository.host) / "models" / "_catalog")
    assert published == files(tmp_path / "site")
    assert len(json.loads(published["models.json"])["models"]) == 4


def test_released_client_does_not_see_the_pages(
    uid: str, repository: audmodel.Repository, released: Interpreter, tmp_path: Path
) -> None:
    code = """
        uid = args["uid"]
        root = audmodel.load(uid, cache_root=args["cache"])
        return [
            audmodel.versions(uid), audmodel.aliases(uid), audmodel.meta(uid),
            audmodel.header(uid)["name"], audmodel.exists("12345678-1.0.0"),
            sorted(os.listdir(root)),
        ]
    """
    before = released.run(code, uid=uid, cache=str(tmp_path / "1"))
    audmodel.build_catalog(repository, publish=True)
    assert released.run(code, uid=uid, cache=str(tmp_path / "2")) == before
