"""A model ID leads to one model, in one repository."""

from __future__ import annotations

from pathlib import Path
import re
import warnings

import pytest

import audmodel
from audmodel.core.backend.errors import HiddenError
from audmodel.core.repository.registry import Registry
from audmodel.errors import ModelExistsError
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


# Both have the short ID b2533075
FIRST, SECOND = "model622", "model57006"


def test_two_models_of_one_short_id(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, name=FIRST, params={})
    assert audmodel.uid(SECOND, {}, "2.0.0") == uid.replace("1.0.0", "2.0.0")
    before = content(repository)
    for version in ("1.0.1", "0.9.0"):
        with pytest.raises(ModelExistsError) as info:
            publish(model_folder, name=SECOND, params={}, version=version)
        for word in (f"'{FIRST}' with {{}}", f"'{SECOND}' with {{}}", "b2533075"):
            assert word in str(info.value)
        with pytest.raises(ModelExistsError, match="by chance"):
            audmodel.plan_publish(str(model_folder), SECOND, {}, version)
    with pytest.raises(ModelExistsError, match="exists already"):
        publish(model_folder, name=SECOND, params={})
    assert content(repository) == before
    assert audmodel.name("b2533075") == FIRST


def test_subgroup_that_reads_like_a_name(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, subgroup="a", name="b.c")
    assert audmodel.uid("c", {"sampling_rate": 16000}, "1.0.0", subgroup="a.b") == uid
    with pytest.raises(ModelExistsError, match=re.escape("'a.b.c' with {'sampling")):
        publish(model_folder, subgroup="a.b", name="c", version="2.0.0")


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "params", [{"x": float("nan")}, {"b": {"y": 1, "x": (2,)}, "a": -0.0}, {}]
)
def test_versions_of_one_model(
    repository: audmodel.Repository, model_folder: Path, params: dict[str, object]
) -> None:
    publish(model_folder, params=params)
    reverse = dict(reversed(params.items()))
    publish(model_folder, params=reverse, version="2.0.0")
    uid = publish(model_folder, params=params, version="1.5.0")
    assert audmodel.versions(uid) == ["1.0.0", "1.5.0", "2.0.0"]


def test_damaged_header_does_not_keep_versions_from_being_published(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder)
    short = uid.split("-")[0]
    store(repository, f"/_uid/{short}/1.0.0/{uid}.header.yaml", b"[")
    assert publish(model_folder, version="2.0.0") == f"{short}-2.0.0"
    store(
        repository,
        f"/_uid/{short}/1.5.0/{short}-1.5.0.header.yaml",
        b"{author: a, date: b, name: other, parameters: {}, subgroup: '', "
        b"version: 1.5.0}",
    )
    store(repository, f"/_uid/{short}/2.0.0/{short}-2.0.0.header.yaml", b"[")
    with pytest.raises(ModelExistsError, match="by chance"):
        publish(model_folder, version="3.0.0")


def test_parameters_that_cannot_be_read_are_not_compared(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder)
    short = uid.split("-")[0]
    for name, works in (("torch", True), ("other", False)):
        store(
            repository,
            f"/_uid/{short}/1.0.0/{uid}.header.yaml",
            f"{{author: a, date: b, name: {name}, parameters: {{x: !!python/name:m.x "
            "''}, subgroup: '', version: 1.0.0}".encode(),
        )
        if works:
            publish(model_folder, version="0.1.0")
        else:
            store(repository, f"/_uid/{short}/0.1.0/{short}-0.1.0.header.yaml", b"[")
            with pytest.raises(ModelExistsError, match="cannot be read"):
                publish(model_folder, version="0.2.0")


def test_model_of_a_repository_that_comes_before(
    other_repository: audmodel.Repository,
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = publish(model_folder)
    with pytest.raises(ModelExistsError, match="searched before") as info:
        publish(model_folder, repository=other_repository)
    assert str(repository) in str(info.value)
    with pytest.raises(ModelExistsError, match="searched before"):
        audmodel.plan_publish(
            str(model_folder),
            "torch",
            {"sampling_rate": 16000},
            "1.0.0",
            repository=other_repository,
        )
    assert content(other_repository) == {}
    # Another version would be found
    publish(model_folder, version="2.0.0", repository=other_repository)
    # And everything in a program that knows one of them
    audmodel.config.REPOSITORIES = [other_repository]
    assert publish(model_folder) == uid
    audmodel.config.REPOSITORIES = [repository]
    publish(model_folder, version="3.0.0", repository=other_repository)


def test_other_model_of_a_repository_that_comes_before(
    other_repository: audmodel.Repository,
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    publish(model_folder, name="b.c", subgroup="a", params={})
    for version in ("2.0.0", "0.9.0"):
        with pytest.raises(ModelExistsError) as info:
            publish(
                model_folder,
                name="c",
                subgroup="a.b",
                params={},
                version=version,
                repository=other_repository,
            )
        for word in ("'a.b.c' with {}", str(repository)):
            assert word in str(info.value)
        with pytest.raises(ModelExistsError, match="another model"):
            audmodel.plan_publish(
                str(model_folder),
                "c",
                {},
                version,
                subgroup="a.b",
                repository=other_repository,
            )
    assert content(other_repository) == {}


def test_earlier_repository_that_may_not_be_listed(
    other_repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(model_folder)
    versions = Registry.versions

    def hidden(self: Registry, short: str) -> set[str]:
        if self.repository == str(other_repository):
            return versions(self, short)
        raise HiddenError("Not to be listed.")

    monkeypatch.setattr(Registry, "versions", hidden)
    with pytest.raises(ModelExistsError, match="searched before"):
        publish(model_folder, repository=other_repository)
    publish(model_folder, version="2.0.0", repository=other_repository)
    assert "Whether another model has the short ID" in caplog.text


def test_model_of_a_repository_that_comes_after(
    other_repository: audmodel.Repository,
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    uid = publish(model_folder, repository=other_repository)
    (model_folder / "model.onnx").write_bytes(b"promoted")
    assert publish(model_folder, repository=repository) == uid
    assert files(audmodel.load(uid))["model.onnx"] == b"promoted"
    assert audmodel.repository(uid) == repository


def test_repository_that_comes_before_cannot_be_asked(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    down = audmodel.Repository("models", "http://127.0.0.1:1", "s3")
    audmodel.config.REPOSITORIES = [down, repository]
    monkeypatch.setenv("AUDMODEL_OFFLINE", "1")
    if repository.backend == "file-system":
        publish(model_folder, repository=repository)
    monkeypatch.delenv("AUDMODEL_OFFLINE")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        publish(model_folder, version="2.0.0", repository=repository)
    assert any(
        "is not known whether it holds" in str(warning.message) for warning in seen
    )


def test_other_model_of_the_same_id_is_not_the_same(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    publish(model_folder, name=FIRST, params={})
    with pytest.raises(ModelExistsError, match="by chance"):
        publish(model_folder, name=SECOND, params={}, exist_ok=True)


def test_same_files_in_a_repository_that_comes_later(
    other_repository: audmodel.Repository,
    repository: audmodel.Repository,
    model_folder: Path,
) -> None:
    audmodel.config.REPOSITORIES = [other_repository]
    uid = publish(model_folder)
    audmodel.config.REPOSITORIES = [repository, other_repository]
    # It would never be found, unless it is there already
    assert publish(model_folder, repository=other_repository, exist_ok=True) == uid
    assert publish(model_folder, exist_ok=True) == uid
    assert len(content(repository)) == 3
