"""A header tells when, with what, and from what a model was published."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import content
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


# On other storages than folders in the rest of the tests
pytestmark = pytest.mark.sample(1)

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SHA": "1b8d2f1",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "team/models",
    "GITHUB_RUN_ID": "7",
}
RUN = "https://github.com/team/models/actions/runs/7"
GITLAB = {
    "GITLAB_CI": "true",
    "CI_COMMIT_SHA": "1b8d2f1",
    "CI_JOB_URL": "https://gitlab.com/team/models/-/jobs/7",
}


@pytest.mark.sample(4)
def test_moment_and_client(
    repository: audmodel.Repository, model_folder: Path, cache: Path
) -> None:
    start = datetime.datetime.now(datetime.UTC)
    uid = publish(model_folder, date="2020-01-01")
    for root in (cache, cache / "other", cache):
        found = audmodel.provenance(uid, repository=repository, cache_root=str(root))
        assert found.date is not None
        assert found.date.tzinfo is datetime.UTC
        assert abs(found.date - start) < datetime.timedelta(seconds=60)
        assert found.client == f"audmodel {audmodel.__version__}"
        assert (found.commit, found.url) == (None, None)
    # What programs know of a header stays as it was
    assert sorted(audmodel.header(uid)) == [
        *("author", "date", "name", "parameters", "subgroup", "version")
    ]
    assert audmodel.date(uid) == "2020-01-01"


def test_model_of_an_earlier_release(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder)
    path = f"/_uid/{uid.replace('-', '/', 1)}/{uid}.header.yaml"
    header = content(repository)[path].partition(b"provenance:")[0]
    for more in (b"", b"provenance: 5\n", b"provenance: {date: x, client: 5}\n"):
        store(repository, path, header + more)
        found = audmodel.provenance(uid, cache_root=str(model_folder / str(len(more))))
        assert found == audmodel.Provenance()


def source(model_folder: Path, version: str, **options: Any) -> tuple[str | None, ...]:
    """What is stored of the source."""
    found = audmodel.provenance(publish(model_folder, version=version, **options))
    return found.commit, found.url


def set_variables(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (GITHUB, ("1b8d2f1", RUN)),
        (GITLAB, ("1b8d2f1", "https://gitlab.com/team/models/-/jobs/7")),
        (GITHUB | {"GITHUB_ACTIONS": ""}, (None, None)),
        (
            GITLAB | {"CI_JOB_URL": "https://me:secret@gitlab.com/7"},
            ("1b8d2f1", "https://***@gitlab.com/7"),
        ),
        ({"GITLAB_CI": "true", "CI_COMMIT_SHA": "a\nb"}, (None, None)),
        ({"GITLAB_CI": "true", "CI_JOB_URL": "x" * 501}, (None, None)),
        ({"JENKINS_URL": "x", "BUILD_URL": "y"}, (None, "y")),
    ],
)
def test_variables_of_a_job(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    expected: tuple[str | None, ...],
) -> None:
    set_variables(monkeypatch, variables)
    assert source(model_folder, "1.0.0") == expected


def test_source_that_a_user_gives(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, GITHUB)
    given = {"commit": "v1 (dirty)", "url": "https://example.org/1?a=b"}
    assert source(model_folder, "1.0.0", source=given) == tuple(given.values())
    assert source(model_folder, "2.0.0", source={"commit": "x"}) == ("x", None)
    assert source(model_folder, "3.0.0", source={}) == (None, None)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("1b8d2f1", "has to be a dictionary"),
        ({"commit": 5}, "has to be a string"),
        ({"author": "x"}, "unknown key 'author'"),
        ({"commit": ""}, "printable"),
        ({"commit": "a\x1b[1m"}, "printable"),
        ({"url": "x" * 501}, "1 to 500 characters"),
        ({"url": "https://me:secret@example.org"}, "user or password"),
    ],
)
def test_source_that_cannot_be_stored(
    repository: audmodel.Repository, model_folder: Path, value: Any, reason: str
) -> None:
    with pytest.raises(
        (TypeError, audmodel.errors.InvalidInputError), match=reason
    ) as info:
        publish(model_folder, source=value)
    assert "secret" not in str(info.value)
    assert content(repository) == {}
