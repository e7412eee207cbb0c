"""Configuration: what comes first, what is said about mistakes, the default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import audmodel
from tests.behaviour.backends import files
from tests.behaviour.backends import publish


@pytest.fixture
def config_file(home: Path) -> Path:
    path = home / ".config" / "audmodel.yaml"
    path.parent.mkdir()
    return path


# Order ---------------------------------------------------------------------


def test_defaults(home: Path) -> None:
    assert audmodel.default_cache_root() == str(home / "audmodel")
    assert audmodel.config.CACHE_ROOT == "~/audmodel"
    assert [
        audmodel.Repository("models", "~/.local/share/audmodel", "file-system"),
        audmodel.Repository(
            "audmodel-public", "s3.dualstack.eu-north-1.amazonaws.com", "s3"
        ),
    ] == audmodel.config.REPOSITORIES
    # Looking at it leaves nothing behind
    assert list(home.iterdir()) == []


def test_each_place_overrules_the_one_before(
    config_file: Path, home: Path, tmp_path: Path
) -> None:
    config_file.write_text("cache_root: ~/from-file\n")
    assert audmodel.default_cache_root() == str(home / "from-file")
    assert len(audmodel.config.REPOSITORIES) == 2
    audmodel.config.CACHE_ROOT = "~/from-attribute"
    assert audmodel.default_cache_root() == str(home / "from-attribute")
    os.environ["AUDMODEL_CACHE_ROOT"] = "~/from-environment"
    assert audmodel.default_cache_root() == str(home / "from-environment")
    os.environ["AUDMODEL_CACHE_ROOT"] = ""
    assert audmodel.default_cache_root() == str(home / "from-attribute")


def test_repositories_of_the_file(config_file: Path, tmp_path: Path) -> None:
    config_file.write_text(
        "repositories:\n"
        f"- name: first\n  host: {tmp_path}\n  backend: file-system\n"
        "- {name: second, host: ~/x, backend: mine}\n"
    )
    assert [
        audmodel.Repository("first", str(tmp_path), "file-system"),
        audmodel.Repository("second", "~/x", "mine"),
    ] == audmodel.config.REPOSITORIES
    assert audmodel.config.CACHE_ROOT == "~/audmodel"


def test_what_was_set_stays(config_file: Path, tmp_path: Path) -> None:
    config_file.write_text("cache_root: /from-file\nrepositories: []\n")
    audmodel.config.CACHE_ROOT = "/set"
    assert audmodel.config.REPOSITORIES == []
    assert audmodel.config.CACHE_ROOT == "/set"


def test_repositories_that_were_set_stay(config_file: Path) -> None:
    config_file.write_text("cache_root: /from-file\nrepositories: []\n")
    mine = [audmodel.Repository("a", "b", "file-system")]
    audmodel.config.REPOSITORIES = mine
    assert audmodel.config.CACHE_ROOT == "/from-file"
    assert mine == audmodel.config.REPOSITORIES


def test_file_is_not_looked_at_if_all_is_set(config_file: Path) -> None:
    audmodel.config.CACHE_ROOT = "/somewhere"
    audmodel.config.REPOSITORIES = []
    config_file.write_text("nonsense: [")
    assert audmodel.default_cache_root() == "/somewhere"
    assert audmodel.exists("deadbeef-1.0.0") is False


def test_relative_cache_root(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    audmodel.config.CACHE_ROOT = "./cache/../other"
    assert audmodel.default_cache_root() == str(tmp_path / "other")


@pytest.mark.parametrize("content", ["", "{}", "# nothing yet\n"])
def test_empty_file(config_file: Path, home: Path, content: str) -> None:
    config_file.write_text(content)
    assert audmodel.default_cache_root() == str(home / "audmodel")


def test_no_repositories(config_file: Path, model_folder: Path) -> None:
    config_file.write_text("repositories: []\n")
    assert audmodel.exists("deadbeef-1.0.0") is False
    with pytest.raises(audmodel.errors.ModelNotFoundError, match="none is configured"):
        audmodel.load("deadbeef-1.0.0")
    with pytest.raises(audmodel.errors.ConfigurationError, match="No repository"):
        publish(model_folder)


# Mistakes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("cache_roots: x", "'cache_roots'"),
        ("1: x", "1"),
        ("cache_root: 5", "'cache_root'"),
        ("cache_root: ''", "'cache_root'"),
        ("cache_root:", "'cache_root'"),
        ("cache_root: [a]", "'cache_root'"),
        ("repositories: x", "'repositories'"),
        ("repositories:", "'repositories'"),
        ("repositories: {name: a}", "'repositories'"),
        ("repositories: [a]", r"'repositories\[0\]'"),
        ("repositories: [{host: a, backend: b}]", r"'repositories\[0\].name'"),
        ("repositories: [{name: a, backend: b}]", r"'repositories\[0\].host'"),
        ("repositories: [{name: a, host: b}]", r"'repositories\[0\].backend'"),
        ("repositories: [{name: 1, host: a, backend: b}]", r"'repositories\[0\].name'"),
        ("repositories: [{name: a, host: '', backend: b}]", r"\[0\].host'"),
        (
            "repositories: [{name: a, host: b, backend: c, port: 1}]",
            r"'repositories\[0\].port'",
        ),
        ("repositories: [{name: a, host: b, backend: c, label: 1}]", r"\[0\].label'"),
        (
            "repositories: [{name: a, host: b, backend: c, label: 'a:b'}]",
            r"\[0\].label' .* letters",
        ),
        (
            "repositories:\n- &a {name: a, host: b, backend: c, label: x}\n- *a",
            r"\[1\].label' is 'x' as in an entry above",
        ),
        (
            "repositories: [{name: a, host: b, backend: c}, {name: d}]",
            r"'repositories\[1\].host'",
        ),
    ],
)
def test_mistakes(config_file: Path, content: str, key: str) -> None:
    config_file.write_text(content)
    for ask in (
        audmodel.default_cache_root,
        lambda: audmodel.config.REPOSITORIES,
        lambda: audmodel.exists("deadbeef-1.0.0"),
    ):
        with pytest.raises(audmodel.errors.ConfigurationError, match=key) as info:
            ask()
        assert str(config_file) in str(info.value)
        assert isinstance(info.value, ValueError)


@pytest.mark.parametrize(
    "content", [b"cache_root: [", b"\xff", b"- a", b"text", b"a: *b"]
)
def test_no_yaml(config_file: Path, content: bytes) -> None:
    config_file.write_bytes(content)
    with pytest.raises(audmodel.errors.ConfigurationError, match=str(config_file)):
        audmodel.default_cache_root()


def test_link_to_nothing(config_file: Path) -> None:
    config_file.symlink_to("/not/mounted/audmodel.yaml")
    with pytest.raises(audmodel.errors.ConfigurationError, match="No such file"):
        audmodel.default_cache_root()


def test_folder_in_place_of_the_file(config_file: Path) -> None:
    config_file.mkdir()
    with pytest.raises(audmodel.errors.ConfigurationError, match="Is a directory"):
        audmodel.default_cache_root()


def test_unknown_backend(config_file: Path) -> None:
    config_file.write_text("repositories: [{name: a, host: b, backend: typo}]")
    with pytest.raises(audmodel.errors.ConfigurationError, match=r"'typo'.*file-sys"):
        audmodel.exists("deadbeef-1.0.0")


# Embedded default ----------------------------------------------------------


def test_first_publication_makes_the_repository(home: Path, model_folder: Path) -> None:
    audmodel.config.REPOSITORIES = audmodel.config.REPOSITORIES[:1]
    # Nothing is there yet, which is no error
    assert audmodel.exists("deadbeef-1.0.0") is False
    assert audmodel.versions("deadbeef") == []
    with pytest.raises(audmodel.errors.ModelNotFoundError):
        audmodel.load("deadbeef-1.0.0")
    assert not (home / ".local").exists()
    uid = publish(model_folder, repository=None)
    folder = home / ".local" / "share" / "audmodel" / "models"
    assert audmodel.url(uid).startswith(str(folder))
    root = audmodel.load(uid)
    assert root.startswith(str(home / "audmodel"))
    assert files(root) == files(model_folder)
    assert audmodel.repository(uid) == audmodel.config.REPOSITORIES[0]


def test_bad_publication_makes_no_repository(home: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "missing")
    assert not (home / ".local").exists()


def test_other_repositories_are_not_made(tmp_path: Path, model_folder: Path) -> None:
    other = audmodel.Repository("models", str(tmp_path / "typo"), "file-system")
    with pytest.raises(audmodel.errors.RepositoryNotFoundError, match="typo"):
        publish(model_folder, repository=other)
    assert not (tmp_path / "typo").exists()


# Labels and the environment ----------------------------------------------------


LABELED = """
repositories:
- {label: near, name: models, host: /data/near, backend: file-system}
- {label: far, name: models, host: s3.example.org, backend: s3}
- {name: others, host: /data, backend: file-system}
"""
NEAR = audmodel.Repository("models", "/data/near", "file-system")
FAR = audmodel.Repository("models", "s3.example.org", "s3")
OTHERS = audmodel.Repository("others", "/data", "file-system")


def test_labels_tell_repositories_of_one_name_apart(
    config_file: Path, tmp_path: Path, model_folder: Path
) -> None:
    lines = []
    for number, label in enumerate(("near", "far")):
        (tmp_path / label / "models").mkdir(parents=True)
        where = f"host: {tmp_path / label}, backend: file-system"
        lines.append(f"- {{label: {label}, name: models, {where}}}\n")
        config_file.write_text(f"repositories:\n{lines[-1]}")
        vars(audmodel.config)["_repositories"] = None
        uid = publish(model_folder, version=f"{number}.0.0", repository=label)
    vars(audmodel.config)["_repositories"] = None
    again = lines[0].replace("near", "again", 1)
    config_file.write_text(f"repositories:\n{''.join(lines)}{again}")
    places = (("near", "0.0.0"), ("far", "1.0.0"), ("again", "0.0.0"))
    for label, version in places:
        assert audmodel.versions(uid, repository=label) == [version]
    with pytest.raises(
        audmodel.errors.InvalidInputError, match=r"2 configured .* labels"
    ):
        audmodel.exists(uid, repository="models")
    with pytest.raises(
        audmodel.errors.InvalidInputError, match="configured are: near, far, again"
    ):
        audmodel.exists(uid, repository="nowhere")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("s3:s3.example.org:models", [FAR]),
        ("far", [FAR]),
        ("others, near", [OTHERS, NEAR]),
        ("\n  far\n  file-system:/data:others\n", [FAR, OTHERS]),
        (
            "s3:http://localhost:9000:a,",
            [audmodel.Repository("a", "http://localhost:9000", "s3")],
        ),
        ("file-system:$HOME/b:c", [audmodel.Repository("c", "~/b", "file-system")]),
        (" , \n", [NEAR, FAR, OTHERS]),
        ("", [NEAR, FAR, OTHERS]),
    ],
)
def test_repositories_of_the_environment(
    config_file: Path, value: str, expected: list[audmodel.Repository]
) -> None:
    config_file.write_text(LABELED)
    os.environ["AUDMODEL_REPOSITORIES"] = value
    assert expected == audmodel.config.REPOSITORIES


def test_the_program_overrules_the_environment() -> None:
    os.environ["AUDMODEL_REPOSITORIES"] = "file-system:/data:others"
    audmodel.config.REPOSITORIES = [FAR]
    assert [FAR] == audmodel.config.REPOSITORIES


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nowhere", "'nowhere' is not a configured repository"),
        ("s3::models", "BACKEND:HOST:NAME"),
        ("file-system:$NOWHERE/a:b", "NOWHERE"),
        ("s3:https://me:secret@host:", "BACKEND:HOST:NAME"),
        ("models", "2 configured repositories"),
    ],
)
def test_mistakes_in_the_environment(
    config_file: Path, value: str, reason: str
) -> None:
    config_file.write_text(LABELED)
    os.environ["AUDMODEL_REPOSITORIES"] = value
    with pytest.raises(audmodel.errors.ConfigurationError, match=reason) as info:
        _ = audmodel.config.REPOSITORIES
    assert str(info.value).startswith("AUDMODEL_REPOSITORIES: ")
    assert "secret" not in str(info.value)
