"""What each command does, and what it says to people and programs."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import filelock
import pytest
import yaml

import audmodel
from tests.behaviour.backends import Plain
from tests.cli.conftest import MODEL
from tests.cli.conftest import PARAMS
from tests.cli.conftest import Call
from tests.cli.conftest import configure


def content(root: str | Path) -> dict[str, bytes]:
    root = Path(root)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


# Publish -------------------------------------------------------------------


@pytest.mark.parametrize("extra", [(), ("--params", "nothing.yaml")])
def test_publish_needs_its_arguments(
    call: Call, place: audmodel.Repository, model_folder: Path, extra: tuple[str, ...]
) -> None:
    answer = call("publish", model_folder, *extra)
    assert answer.code == 2
    assert answer.out == ""
    assert "--name" in answer.err
    assert "--version" in answer.err


BASE = ("--name", "onnx", "--version", "1.0.0")


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--params", "nothing.yaml"), 1, "There is no file 'nothing.yaml'"),
        (("--params", "."), 1, "Is a directory"),
        (("--params", "bad.yaml"), 1, "'bad.yaml' cannot be read"),
        (("--params", "list.yaml"), 1, "list instead of a dictionary"),
        (("--params", "evil.yaml"), 1, "is not allowed"),
        (("--meta", "bad.yaml"), 1, "'bad.yaml' cannot be read"),
        (("--params", "=1"), 1, "KEY=VALUE"),
        (("--params", "a=[1"), 1, "The value of 'a'"),
        (("--params", "a=1\nb: 2"), 1, "single"),
        (("--params", "a=!!python/name:os.system"), 1, "is not allowed"),
        (("--version", "one"), 1, "'one' is not a valid version"),
        (("--name", "../up"), 1, "'../up' is not allowed"),
        (("--subgroup", "a..b"), 1, "'a..b' is not allowed"),
        (("--alias", "3e120e8d"), 1, "'3e120e8d' is not an allowed alias"),
        (("--date", "yesterday"), 2, "'yesterday' is not a date like 2026-01-31"),
        (("--compression", "10"), 2, "invalid choice: 10"),
        (("--num-workers", "0"), 2, "neither a positive integer nor 'auto'"),
        (("--num-workers", "many"), 2, "neither a positive integer nor 'auto'"),
        (("--repository", "nowhere"), 1, "configured are: models"),
        (("--repository", ""), 1, "configured are: models"),
        (("--repository", "::"), 1, "BACKEND:HOST:NAME"),
        (("--repository", "tape:/dev/st0:models"), 1, "not a registered backend"),
        (("--repository", "file-system:/nowhere:models"), 4, "does not exist"),
        (("--unknown",), 2, "unrecognized arguments: --unknown"),
        # An abbreviation may mean something else tomorrow
        (("--num", "2"), 2, "unrecognized arguments: --num"),
    ],
)
def test_publish_says_what_is_wrong(
    call: Call,
    place: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("a: [1\n")
    Path("list.yaml").write_text("- 1\n")
    Path("evil.yaml").write_text("a: !!python/object/apply:os.getcwd []\n")
    answer = call("publish", model_folder, *BASE, *args)
    assert answer.code == code, answer.err
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert list(Path(place.host, "models").iterdir()) == []


def test_publish_folder_that_is_missing(call: Call, place: audmodel.Repository) -> None:
    answer = call("publish", "missing", *BASE)
    assert (answer.code, answer.out) == (1, "")
    assert "missing" in answer.err


def test_publish_to_one_of_two_with_the_same_name(
    call: Call, home: Path, model_folder: Path
) -> None:
    configure(
        home,
        """
        repositories:
        - {name: models, host: /a, backend: file-system}
        - {name: models, host: /b, backend: file-system}
        """,
    )
    answer = call("publish", model_folder, *BASE, "--repository", "models")
    assert answer.code == 1
    assert "2 configured repositories have the name 'models'" in answer.err


def test_publish_twice_is_a_conflict(call: Call, uid: str, model_folder: Path) -> None:
    answer = call(
        "publish",
        model_folder,
        *BASE,
        *("--subgroup", "emotion.cnn"),
        *("--params", "model=cnn10", "--params", "sampling_rate=16000"),
    )
    assert answer.code == 5
    assert uid in answer.err


def test_publish_twice_may_be_no_conflict(
    call: Call, uid: str, model_folder: Path
) -> None:
    args = (
        *("publish", model_folder, *BASE, "--subgroup", "emotion.cnn", "--exist-ok"),
        *("--params", "model=cnn10", "--params", "sampling_rate=16000"),
    )
    answer = call(*args, "--alias", "prod")
    assert (answer.code, answer.out, answer.err) == (0, f"{uid}\n", "")
    assert audmodel.resolve_alias("prod") == uid
    assert call(*args, "--repair").code == 2
    (model_folder / "model.yaml").unlink()
    answer = call(*args)
    assert (answer.code, answer.out) == (5, "")
    assert "missing: 'model.yaml'" in answer.err


def test_publish_leaves_files_out(
    call: Call, place: audmodel.Repository, model_folder: Path
) -> None:
    (model_folder / ".git").mkdir()
    (model_folder / ".git" / "config").touch()
    (model_folder / "esc\x1b.env").touch()
    (model_folder / ".env").touch()
    args = ("publish", model_folder, *BASE)
    assert call(*args, "--exclude", "[").code == 1
    assert call(*args, "--suspicious", "maybe").code == 2
    exclude = ("--exclude", "log/", "--exclude", "esc*")
    answer = call(*args, *exclude, "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    assert [line.split() for line in answer.out.splitlines()[3:]] == [
        ["STATE", "FILE", "REASON"],
        ["excluded", r"esc\x1b.env"],
        ["excluded", "log/"],
        ["suspicious", ".env", "credentials"],
        ["suspicious", ".git/", "version", "control"],
    ]
    planned = call(*args, *exclude, "--dry-run", "--json").data
    assert planned["excluded"] == ["esc\x1b.env", "log/"]
    assert planned["suspicious"][0] == {"path": ".env", "reason": "credentials"}
    answer = call(*args, *exclude, "--suspicious", "refuse")
    assert (answer.code, answer.out) == (1, "")
    assert "'.env' (credentials)" in answer.err
    answer = call(*args, *exclude, "--exclude", ".env")
    assert answer.code == 0
    assert answer.err.startswith("audmodel publish: warning: The folder")
    assert sorted(content(audmodel.load(answer.out.strip()))) == [
        ".git/config",
        *("model.onnx", "model.yaml", "readme.txt"),
    ]


def test_publish_with_all_arguments(
    call: Call, place: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("model: cnn10\nsampling_rate: 8000\n")
    meta = tmp_path / "meta.json"
    meta.write_text(json.dumps({"uar": 0.7, "who": "Zoë"}))
    answer = call(
        *("publish", model_folder, "--name", "onnx", "--version", "1.0.0"),
        *("--params", params, "--params", "sampling_rate=16000"),
        *("--params", "data=[emodb, msppodcast]"),
        *("--meta", meta, "--meta", "when=2026-01-01"),
        *("--alias", "prod", "--author", "sphinx", "--date", "2026-02-01"),
        *("--subgroup", "emotion.cnn", "--compression", "9", "--num-workers", "2"),
        *("--tmp-root", tmp_path, "--repository", "models"),
    )
    assert (answer.code, answer.err) == (0, "")
    uid = answer.out.rstrip("\n")
    expected = {
        "model": "cnn10",
        "sampling_rate": 16000,
        "data": ["emodb", "msppodcast"],
    }
    assert uid == audmodel.uid("onnx", expected, "1.0.0", subgroup="emotion.cnn")
    assert audmodel.parameters(uid) == expected
    assert audmodel.meta(uid) == {
        "uar": 0.7,
        "who": "Zoë",
        "when": datetime.date(2026, 1, 1),
    }
    assert audmodel.resolve_alias("prod") == uid
    assert audmodel.author(uid) == "sphinx"
    assert audmodel.date(uid) == "2026-02-01"
    assert content(audmodel.load(uid)) == content(model_folder)


def test_publish_elsewhere(
    call: Call, home: Path, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "else:where" / "team").mkdir(parents=True)
    answer = call(
        *("publish", model_folder, *BASE, "--json"),
        *("--repository", f"file-system:{tmp_path}/else:where:team"),
    )
    assert answer.code == 0
    place = audmodel.Repository("team", f"{tmp_path}/else:where", "file-system")
    audmodel.config.REPOSITORIES = [place]
    assert audmodel.exists(answer.data["uid"])


def test_path_with_equals_sign_is_a_file(
    call: Call, place: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sigma=1"
    folder.mkdir()
    (folder / "params.yaml").write_text("a: 1")
    answer = call("publish", model_folder, *BASE, "--params", folder / "params.yaml")
    assert audmodel.parameters(answer.out.strip()) == {"a": 1}


# Load ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "message"),
    [
        ("12345678-1.0.0", "'12345678-1.0.0' does not exist"),
        ("12345678", "'12345678' does not exist"),
        ("nobody", "'nobody' does not exist"),
        ("no/body", "'no/body' does not exist"),
        ("", "'' does not exist"),
        ("a\x1b[31mb", r"\x1b[31mb"),
    ],
)
@pytest.mark.parametrize("words", [("load",), ("info",), ("meta", "show")], ids=str)
def test_model_that_does_not_exist(
    call: Call,
    place: audmodel.Repository,
    words: tuple[str, ...],
    uid: str,
    message: str,
) -> None:
    answer = call(*words, uid)
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err
    assert answer.err.startswith(f"audmodel {' '.join(words)}: error: ")
    assert answer.err.count("\n") == 1
    assert "\x1b" not in answer.err


@pytest.mark.parametrize("time", ["soon", "nan", "1e9", ""])
def test_load_with_strange_timeout(call: Call, time: str) -> None:
    answer = call("load", "3e120e8d", "--timeout", time)
    assert answer.code == 2
    assert "is not a time like 90m, 12h or 30d" in answer.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("forever", None), ("1.5m", 90), ("0s", 0), (None, 4 * 3600)]
)
def test_load_with_timeout(
    call: Call, monkeypatch: pytest.MonkeyPatch, text: str | None, seconds: float | None
) -> None:
    given: list[float | None] = []

    def load(_: list[str], *, timeout: float | None, **__: object) -> list[str]:
        given.append(timeout)
        return ["folder"]

    monkeypatch.setattr(audmodel, "load", load)
    options = [] if text is None else ["--timeout", text]
    assert call("load", "3e120e8d-1.0.0", *options).code == 0
    assert given == [seconds]


def test_load(call: Call, uid: str, model_folder: Path, tmp_path: Path) -> None:
    answer = call("load", "small", "--cache-root", tmp_path / "mine")
    assert (answer.code, answer.err) == (0, "")
    path = answer.out.rstrip("\n")
    assert path.startswith(str(tmp_path / "mine"))
    assert content(path) == content(model_folder)


def test_load_to_a_folder(
    call: Call, uid: str, model_folder: Path, tmp_path: Path
) -> None:
    to = tmp_path / "deployed"
    for args in (("--force",), ("--hardlinks",), ("--to", to, uid)):
        assert call("load", uid, *args).code == 2
    assert not to.exists()
    answer = call("load", "small", "--to", to)
    assert (answer.code, answer.out, answer.err) == (0, f"{to}\n", "")
    assert content(to) == content(model_folder)
    (to / "model.yaml").write_bytes(b"mine")
    assert call("load", "small", "--to", to, "--force", "--dry-run").code == 0
    answer = call("load", "small", "--to", to, "--dry-run")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("audmodel load: error: It holds other files")
    answer = call("load", "small", "--to", to)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("audmodel load: error: It holds other files")
    assert "'model.yaml'. Nothing was changed. Choose another" in answer.err
    answer = call("load", "small", "--to", to, "--force", "--hardlinks", "--json")
    assert answer.data == [{"uid": uid, "alias": "small", "path": str(to)}]
    assert (to / "model.yaml").samefile(Path(audmodel.load(uid)) / "model.yaml")


def test_load_several(call: Call, uid: str) -> None:
    answer = call("load", uid, "small", "--json", "--num-workers", "auto")
    path = audmodel.load(uid)
    assert answer.data == [
        {"uid": uid, "alias": None, "path": path},
        {"uid": uid, "alias": "small", "path": path},
    ]
    latest = call("load", uid.partition("-")[0], "--json")
    assert latest.data == [{"uid": uid, "alias": None, "path": path}]
    answer = call("load", uid, "small")
    assert answer.out == f"{path}\n{path}\n"


def test_load_from_another_repository(
    call: Call, uid: str, home: Path, place: audmodel.Repository, tmp_path: Path
) -> None:
    configure(home, f"cache_root: {tmp_path}/cache\nrepositories: []\n")
    assert call("load", uid).code == 1
    answer = call("load", uid, "--repository", f"file-system:{place.host}:models")
    assert answer.code == 0
    # It holds for the command only
    assert call("info", uid).code == 1


# Describe ------------------------------------------------------------------


def test_info_shows_the_model_card(
    call: Call, uid: str, place: audmodel.Repository, model_folder: Path
) -> None:
    (model_folder / "README.md").write_bytes(b"# Card\r\n\r\n\x1b[31m|\ta\n")
    newer = audmodel.publish(
        str(model_folder), "onnx", {}, "1.0.0", alias="new", repository=place
    )
    fields, _, card = call("info", "new").out.partition("\n\n")
    assert "README" not in fields
    assert card == "# Card\n\n\\x1b[31m|  a\n"
    assert call("info", "new", "--json").data["readme"].startswith("# Card\r\n")
    assert call("info", uid, "--json").data["readme"] == ""
    # What else is known does not depend on the archive
    [archive] = Path(place.host).rglob(f"{newer}.zip")
    archive.unlink()
    answer = call("info", "new")
    assert (answer.code, "onnx" in answer.out) == (0, True)
    assert "warning: Its README.md cannot be shown." in answer.err
    assert "does not exist" in answer.err


def test_info_fetches_no_whole_archive(
    call: Call, place: audmodel.Repository, model_folder: Path
) -> None:
    (model_folder / "README.md").write_bytes(b"# Card")
    audmodel.Repository.register("plain", Plain)
    Plain.create("host", "models")
    try:
        audmodel.config.REPOSITORIES = [audmodel.Repository("models", "host", "plain")]
        uid = audmodel.publish(str(model_folder), "onnx", {}, "1.0.0")
        got: list[str] = []
        get = Plain._get_file

        def getting(self: Plain, path: str, *args: Any) -> None:
            got.append(path)
            get(self, path, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Plain, "_get_file", getting)
            answer = call("info", uid, "--json")
        assert (answer.code, answer.data["readme"]) == (0, "")
        assert not [path for path in got if path.endswith(".zip")]
        audmodel.load(uid)
        assert call("info", uid, "--json").data["readme"] == "# Card"
    finally:
        Plain.delete("host", "models")


def test_info(call: Call, uid: str) -> None:
    answer = call("info", "small", "--json")
    data = answer.data
    provenance = data.pop("provenance")
    url = audmodel.url(uid)
    size = Path(url).stat().st_size
    assert data == {"uid": uid, **MODEL, "size": size, "url": url, "readme": ""}
    assert provenance["client"] == f"audmodel {audmodel.__version__}"
    assert (provenance["commit"], provenance["url"]) == (None, None)
    shown = dict(line.split(maxsplit=1) for line in call("info", uid).out.splitlines())
    assert shown["uid"] == uid
    assert shown["parameters"] == "model=cnn10, sampling_rate=16000"
    assert shown["size"].rstrip() == "1.1 kB"
    assert shown["aliases"] == "small"
    assert shown["provenance"].endswith(f" UTC, audmodel {audmodel.__version__}")


def test_source(call: Call, place: audmodel.Repository, model_folder: Path) -> None:
    os.environ |= {"GITLAB_CI": "1", "CI_COMMIT_SHA": "abc", "CI_JOB_URL": "http://x"}
    for number, (args, expected) in enumerate(
        (
            ((), ("abc", "http://x")),
            (("--source", "commit=a=b"), ("a=b", None)),
            (("--source", "commit=a", "--source", "url=u"), ("a", "u")),
            (("--source", "none"), (None, None)),
        )
    ):
        version = ("--version", f"{number}.0.0")
        answer = call("publish", model_folder, "--name", "x", *version, *args)
        assert (answer.code, answer.err) == (0, "")
        data = call("info", answer.out.strip(), "--json").data["provenance"]
        assert (data["commit"], data["url"]) == expected
    for text in ("abc", "author=x", "url=http://me:geheim@x", "commit="):
        for dry in ((), ("--dry-run",)):
            words = ("publish", model_folder, "--name", "x", "--version", "9.0.0", *dry)
            answer = call(*words, "--source", text)
            assert (answer.code, answer.out) == (1, "")
            assert "source" in answer.err
            assert "geheim" not in answer.err


def test_names_of_others_do_nothing_to_a_terminal(
    call: Call, place: audmodel.Repository, model_folder: Path
) -> None:
    uid = audmodel.publish(
        str(model_folder), "x", {"a\nb": "c\x1b[2J"}, "1.0.0", author="me\x07\u202e"
    )
    for args in (("info", uid), ("info", uid, "--json")):
        answer = call(*args)
        assert answer.code == 0
        assert not set("\x1b\x07\u202e") & set(answer.out)
    assert answer.data["author"] == "me\x07\u202e"


# Changes the direction of what follows, clears a screen, is not seen, ends a line
STRANGE = "a\u202eb\u2066\x1b[2J\x9b\u200b\u2028z"


def test_no_text_of_a_repository_does_anything_to_a_terminal(
    call: Call, place: audmodel.Repository, model_folder: Path
) -> None:
    uid = audmodel.publish(
        str(model_folder),
        "x",
        {STRANGE: STRANGE},
        "1.0.0",
        author=STRANGE,
        meta={STRANGE: [STRANGE, {"line": f"first\n{STRANGE}"}]},
    )
    for options in ((), ("--debug",)):
        for args in (
            ("info", uid),
            ("ls",),
            ("meta", "show", uid),
            ("meta", "update", uid, "more=1"),
            ("files", uid),
            ("verify", uid, "--remote"),
            ("load", uid, "--dry-run"),
        ):
            answer = call(*args, *options)
            assert answer.code == 0
            shown = (answer.out + answer.err).replace("\n", "")
            assert shown.isprintable(), args
    assert yaml.safe_load(call("meta", "show", uid).out) == audmodel.meta(uid)


@pytest.mark.parametrize(
    "args",
    [
        (STRANGE,),
        (f"--{STRANGE}",),
        ("ls", STRANGE),
        ("ls", f"--{STRANGE}", "first\nsecond"),
        ("ls", "--params", STRANGE),
        ("ls", "--num-workers", STRANGE),
        ("alias", STRANGE),
        ("alias", "set", STRANGE, "small"),
        ("cache", "ls", "--cache-root", f"$A/{STRANGE}"),
        ("cache", "prune", "--max-size", STRANGE),
        ("cache", "prune", "--max-age", STRANGE),
        ("completion", STRANGE),
        ("info", STRANGE),
        ("load", "small", "--timeout", STRANGE),
        ("load", "small", "--files", STRANGE),
        ("load", "small", "--repository", STRANGE),
        ("meta", "show", STRANGE),
        ("meta", "update", "small", STRANGE),
        ("meta", "update", "small", f"{STRANGE}={STRANGE}"),
        ("publish", STRANGE, "--name", STRANGE, "--version", STRANGE),
        ("publish", "a", "--name", "x", "--version", "1.0.0", "--params", STRANGE),
        ("repository", "audit", f"file-system:/{STRANGE}:{STRANGE}"),
        ("repository", "check", f"{STRANGE}:host:name"),
        ("versions", STRANGE),
    ],
)
def test_no_argument_does_anything_to_a_terminal(
    call: Call, uid: str, args: tuple[str, ...]
) -> None:
    answer = call(*args)
    assert (answer.out + answer.err).replace("\n", "").isprintable()
    assert "\nsecond" not in answer.err


def test_no_file_name_does_anything_to_a_terminal(
    call: Call, place: audmodel.Repository, model_folder: Path
) -> None:
    # Files of models have no such names
    uid = audmodel.publish(str(model_folder), "x", {}, "1.0.0", alias="best")
    root = Path(audmodel.load(uid))
    name = f"{STRANGE}\nsecond"
    (root / name).touch()
    for folder in (root.parent, root.parent.parent):
        (folder / name).mkdir()
        (folder / f".{name}~").mkdir()
        (folder / f"1.0.0{STRANGE}").mkdir()
    models = Path(place.host) / "models"
    for folder in (models, models / "_uid", models / "x" / uid.split("-")[0]):
        (folder / f"{name}.alias.yaml").write_text(STRANGE)
        (folder / name).mkdir()
        (folder / name / f"{name}.header.yaml").write_text(f"{STRANGE}: [")
        (folder / name / f"{name}.zip").write_text(STRANGE)
    for path in models.rglob("best-*.alias.yaml"):
        path.write_text(json.dumps({"uid": STRANGE}))
    text = ""
    for args in (
        ("files", uid),
        ("versions", uid),
        ("load", uid, "--file", "*"),
        ("load", uid, "--dry-run"),
        ("verify", uid),
        ("verify", uid, "--repair"),
        ("cache", "ls"),
        ("cache", "verify"),
        ("cache", "rm", uid),
        ("cache", "prune", "--max-size", "0B"),
        ("catalog", "--publish"),
        ("ls",),
        ("info", uid),
        ("alias", "ls"),
        ("alias", "ls", uid),
        ("alias", "resolve", "best"),
        ("repository", "audit"),
        ("repository", "audit", "--repair"),
        ("repository", "leftovers", "--min-age", "0d"),
        ("repository", "leftovers", "--min-age", "0d", "--remove"),
        ("repository", "check"),
        ("config",),
    ):
        answer = call(*args)
        shown = answer.out + answer.err
        assert shown.replace("\n", "").isprintable(), args
        assert "\nsecond" not in shown, args
        text += shown
    assert text.count("\\u202e") > 5, text


def test_no_error_does_anything_to_a_terminal(
    call: Call, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise audmodel.errors.ArchiveError(STRANGE)

    monkeypatch.setattr(audmodel, "load", fail)
    answer = call("load", uid, "--debug")
    assert "Traceback" in answer.err
    assert "\\u202e" in answer.err
    assert answer.err.replace("\n", "").isprintable()


def test_versions(call: Call, uid: str, model_folder: Path) -> None:
    audmodel.publish(str(model_folder), "onnx", PARAMS, "2.0.0", subgroup="emotion.cnn")
    assert call("versions", "small").out == "1.0.0\n2.0.0\n"
    assert call("versions", uid, "--json").data == ["1.0.0", "2.0.0"]
    answer = call("versions", "12345678")
    assert (answer.code, answer.out) == (0, "")
    assert call("versions", "12345678", "--json").data == []


# Aliases -------------------------------------------------------------------


def test_alias_set(call: Call, uid: str) -> None:
    answer = call("alias", "set", "prod", "small")
    assert (answer.code, answer.out) == (0, f"{uid}\n")
    assert audmodel.resolve_alias("prod") == uid
    answer = call("alias", "set", "prod", uid, "--json")
    assert answer.data == {"alias": "prod", "uid": uid}


def test_alias_set_uses_no_other_cache(call: Call, uid: str, tmp_path: Path) -> None:
    audmodel.config.CACHE_ROOT = str(tmp_path / "other")
    answer = call("alias", "set", "prod", uid, "--cache-root", tmp_path / "this")
    assert answer.code == 0
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("alias", "target", "message"),
    [
        ("a b", "small", "'a b' is not an allowed alias name"),
        ("prod", "nobody", "'nobody' does not exist"),
    ],
)
def test_alias_set_wrong(
    call: Call, uid: str, alias: str, target: str, message: str
) -> None:
    answer = call("alias", "set", alias, target)
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err


def test_alias_list(call: Call, uid: str) -> None:
    audmodel.set_alias("prod", uid)
    assert call("alias", "ls", uid).out == "prod\nsmall\n"
    assert call("alias", "ls").out == (f"ALIAS  UID\nprod   {uid}\nsmall  {uid}\n")
    assert call("alias", "ls", "--json").data == [
        {"alias": "prod", "uid": uid},
        {"alias": "small", "uid": uid},
    ]
    assert (
        call("alias", "ls", "prod", "--json").data == call("alias", "ls", "--json").data
    )


def test_alias_resolve(call: Call, uid: str) -> None:
    assert call("alias", "resolve", "small").out == f"{uid}\n"
    assert call("alias", "resolve", "small", "--json").data["uid"] == uid
    answer = call("alias", "resolve", "large")
    assert (answer.code, answer.out) == (1, "")
    assert "'large' does not exist" in answer.err


def test_alias_log_and_rollback(
    call: Call, uid: str, place: audmodel.Repository, model_folder: Path
) -> None:
    new = audmodel.publish(
        str(model_folder), "onnx", PARAMS, "2.0.0", subgroup="emotion.cnn"
    )
    answer = call("alias", "rollback", "small")
    assert (answer.code, answer.out) == (1, "")
    assert "not known" in answer.err
    assert call("alias", "set", "small", new, "--author", "me").code == 0
    answer = call("alias", "rollback", "small", "--author", "you")
    assert (answer.code, answer.out) == (0, f"{uid}\n")
    titles, *lines = call("alias", "log", "small").out.splitlines()
    assert titles.split() == ["UTC", "UID", "FROM", "AUTHOR"]
    assert [line.split()[2:] for line in lines] == [
        [uid, "sphinx"],
        [new, uid, "me"],
        [uid, new, "you", "rollback"],
    ]
    moves = call("alias", "log", "small", "--json").data
    assert moves[-1] == {
        "uid": uid,
        "previous": new,
        "date": moves[-1]["date"],
        "author": "you",
        "url": None,
        "rollback": True,
    }
    assert moves[0]["date"].endswith("+00:00")
    assert call("alias", "rollback", "small", "--json").code == 1
    # What earlier releases write
    path = Path(place.host, "models/_alias/small/1.0.0/small-1.0.0.alias.yaml")
    path.write_text(f"uid: {new}\n")
    lines = call("alias", "log", "small").out.splitlines()
    assert "unknown" in lines[1]
    assert "audmodel 1.x" in lines[1]
    for words in (("alias", "log"), ("alias", "rollback")):
        answer = call(*words, "smal")
        assert (answer.code, answer.out) == (1, "")
        assert "Did you mean 'small'?" in answer.err


def test_alias_resolve_at_a_time(call: Call, uid: str) -> None:
    answer = call("alias", "resolve", "small", "--at", "2099-01-01")
    assert answer.out == f"{uid}\n"
    answer = call("alias", "resolve", "small", "--at", "2020-01-01T00:00Z")
    assert (answer.code, answer.out) == (1, "")
    assert "did not exist at 2020-01-01T00:00:00Z" in answer.err
    for time in ("yesterday", "", "0001-01-01"):
        answer = call("alias", "resolve", "small", "--at", time)
        assert (answer.code, answer.out) == (2, ""), time


# Metadata ------------------------------------------------------------------


def test_meta_show_can_be_read_back(call: Call, uid: str, tmp_path: Path) -> None:
    meta: dict[Any, object] = {
        "who": "Zoë \x1b",
        "shape": (1, 2),
        "sizes": {1, 2},
        "when": datetime.date(2026, 1, 1),
        "best": float("inf"),
        "key": b"\x00",
        3: {"nothing": None},
    }
    audmodel.update_meta(uid, meta, replace=True)
    answer = call("meta", "show", "small")
    assert "Zoë" in answer.out
    assert "\x1b" not in answer.out
    file = tmp_path / "meta.yaml"
    file.write_text(answer.out)
    audmodel.update_meta(uid, {}, replace=True)
    assert call("meta", "update", uid, file).out == answer.out
    assert audmodel.meta(uid) == meta
    assert call("meta", "show", uid, "--json").data == {
        "who": "Zoë \x1b",
        "shape": [1, 2],
        "sizes": [1, 2],
        "when": "2026-01-01",
        "best": "inf",
        "key": "AA==",
        "3": {"nothing": None},
    }


def test_meta_update(call: Call, uid: str) -> None:
    answer = call("meta", "update", "small", "uar=0.8", "data={iemocap: 2.0.0}")
    expected = {"uar": 0.8, "data": {"emodb": "1.0.0", "iemocap": "2.0.0"}}
    assert yaml.safe_load(answer.out) == expected
    assert audmodel.meta(uid) == expected
    answer = call("meta", "update", uid, "a=", "--replace", "--json")
    assert answer.data == {"a": None}
    assert audmodel.meta(uid) == {"a": None}


@pytest.mark.parametrize("meta", ["a", "a=[", "a=!!python/name:os.system"])
def test_meta_update_wrong(call: Call, uid: str, meta: str) -> None:
    before = audmodel.meta(uid)
    answer = call("meta", "update", uid, meta)
    assert (answer.code, answer.out) == (1, "")
    assert audmodel.meta(uid) == before


# Configuration -------------------------------------------------------------


def test_config_defaults(call: Call, home: Path) -> None:
    answer = call("config", "--json")
    assert answer.data == {
        "file": None,
        "cache_root": {"value": str(home / "audmodel"), "from": "default"},
        "repositories": {
            "value": [
                {
                    "label": None,
                    "name": "models",
                    "host": "~/.local/share/audmodel",
                    "backend": "file-system",
                },
                {
                    "label": None,
                    "name": "audmodel-public",
                    "host": "s3.dualstack.eu-north-1.amazonaws.com",
                    "backend": "s3",
                },
            ],
            "from": "default",
        },
        "environment": {},
    }
    assert "does not exist" in call("config").out
    assert list(home.iterdir()) == []


def test_config_says_where_from(call: Call, home: Path) -> None:
    path = str(configure(home, "cache_root: /from-file\n"))
    data = call("config", "--json").data
    assert data["file"] == path
    assert data["cache_root"] == {"value": "/from-file", "from": path}
    assert data["repositories"]["from"] == "default"
    os.environ["AUDMODEL_CACHE_ROOT"] = "/from-environment"
    data = call("config", "--json").data
    assert data["cache_root"] == {"value": "/from-environment", "from": "environment"}
    os.environ["AUDMODEL_REPOSITORIES"] = "s3:https://user:geheim@host:a"
    configure(home, "")
    data = call("config", "--json").data["repositories"]
    assert data == {
        "value": [
            {"label": None, "name": "a", "host": "https://***@host", "backend": "s3"}
        ],
        "from": "environment",
    }


def test_config_keeps_secrets(call: Call, home: Path) -> None:
    configure(
        home,
        """
        repositories:
        - {name: a, host: "https://user:geheim@server:1", backend: s3}
        - {name: b, host: "user:geheim@server", backend: artifactory}
        """,
    )
    os.environ["MINIO_SECRET_KEY"] = "geheim"
    os.environ["ARTIFACTORY_API_KEY_SERVER"] = "geheim"
    os.environ["AWS_SESSION_TOKEN"] = "geheim"
    os.environ["AUDMODEL_REPOSITORIES"] = "a, s3:http://user:geheim@other:c, b"
    for args in ((), ("--json",), ("--debug",)):
        answer = call("config", *args)
        assert answer.code == 0
        assert "geheim" not in answer.out + answer.err
        assert "MINIO_SECRET_KEY" in answer.out
        assert "https://***@server:1" in answer.out


def test_config_shows_folders_as_they_are(call: Call, home: Path) -> None:
    host = "/home/user@domain/storage"
    configure(home, f"repositories: [{{name: a, host: {host}, backend: file-system}}]")
    assert call("config", "--json").data["repositories"]["value"][0]["host"] == host
    assert f"file-system:{host}:a" in call("config").out


def test_labels(call: Call, home: Path, uid: str, place: audmodel.Repository) -> None:
    configure(
        home,
        f"""
        repositories:
        - {{label: empty, name: nothing, host: {home}, backend: file-system}}
        - {{label: team, name: models, host: {place.host}, backend: file-system}}
        """,
    )
    (home / "nothing").mkdir()
    assert "repository team" in call("config").out
    words = ("versions", "info", "files", "alias ls", "meta show", "load")
    for word in words:
        answer = call(*word.split(), uid, "--repository", "team")
        assert (answer.code, answer.err) == (0, "")
    for word in words[1:]:
        answer = call(*word.split(), uid, "--repository", "empty")
        assert (answer.code, answer.out) == (1, ""), word
    assert call("ls", "--repository", "empty").out == ""
    assert uid in call("ls", "--repository", "team").out
    answer = call("info", "smal", "--repository", "team")
    assert "Did you mean 'small'?" in answer.err
    assert "Did you mean" not in call("info", "smal", "--repository", "empty").err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache_root: [1\n", "audmodel.yaml' cannot be read"),
        ("cache: /data\n", "unknown key 'cache'"),
        ("repositories: {}\n", "'repositories' has to be a list"),
    ],
)
@pytest.mark.parametrize("words", [("config",), ("load", "3e120e8d-1.0.0")], ids=str)
def test_broken_configuration(
    call: Call, home: Path, text: str, message: str, words: tuple[str, ...]
) -> None:
    configure(home, text)
    answer = call(*words)
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err


# Repositories --------------------------------------------------------------


def test_repository_check(call: Call, place: audmodel.Repository) -> None:
    answer = call("repository", "check")
    assert answer.code == 0
    assert "create if absent" in answer.out
    data = call("repository", "check", "models", "--json").data
    assert (data["ok"], data["repository"]) == (True, "models")


def test_repository_check_of_none(call: Call, home: Path) -> None:
    configure(home, "repositories: []\n")
    answer = call("repository", "check")
    assert (answer.code, answer.out) == (1, "")
    assert "No repository is configured" in answer.err


@pytest.mark.parametrize("word", ["check", "audit", "leftovers"])
def test_repository_that_does_not_exist(
    call: Call, home: Path, tmp_path: Path, word: str
) -> None:
    answer = call("repository", word, f"file-system:{tmp_path}:nowhere")
    assert (answer.code, answer.out) == (4, "")


def test_repository_audit(call: Call, uid: str, place: audmodel.Repository) -> None:
    answer = call("repository", "audit")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    (names,) = Path(place.host).rglob("*.aliases-1.0.0.yaml")
    names.write_text("aliases: []")
    (archive,) = Path(place.host).rglob("*.zip")
    archive.unlink()
    answer = call("repository", "audit", "models")
    assert answer.code == 3
    assert [line.split(": ")[0].split("/")[-1] for line in answer.out.splitlines()] == [
        names.name,
        archive.name,
    ]
    answer = call("repository", "audit", "--repair", "--json")
    assert answer.code == 3
    assert [(f["kind"], f["repaired"]) for f in answer.data] == [
        ("list of aliases", True),
        ("missing archive", False),
    ]


def test_catalog(
    call: Call, uid: str, place: audmodel.Repository, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    answer = call("catalog", "--output", site, "--title", "Ours", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.data == {
        "url": str(site / "index.html"),
        "models": 1,
        "pages": 1,
        "written": 7,
        "removed": 0,
    }
    assert "Ours</title>" in (site / "index.html").read_text("utf-8")
    answer = call("catalog", "--output", site, "--title", "Ours", "--rebuild")
    assert answer.out.split()[-4:] == ["written", "7", "removed", "0"]
    answer = call("catalog", "--repository", "models", "--publish", "--num-workers", 1)
    assert answer.code == 0
    published = Path(place.host) / "models" / "_catalog"
    assert f"url      {published / 'index.html'}" in answer.out
    assert call("ls", "--catalog").out == call("ls").out
    assert sorted(path.name for path in published.iterdir()) == [
        *("assets", "index.html", "models", "models.js", "models.json")
    ]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "--output --publish is required"),
        (("--output", "x", "--publish"), 2, "not allowed with"),
        (("--output", "model"), 1, "holds other files than a catalogue"),
        (("--publish", "--repository", "nowhere"), 1, "configured are: models"),
    ],
)
def test_catalog_wrong(
    call: Call,
    place: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(model_folder.parent)
    answer = call("catalog", *args)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err


def test_publish_repair(
    call: Call, uid: str, model_folder: Path, place: audmodel.Repository
) -> None:
    (archive,) = Path(place.host).rglob("*.zip")
    content = archive.read_bytes()
    archive.unlink()
    header = audmodel.header(uid)
    params = [f"--params={key}={value}" for key, value in header["parameters"].items()]
    answer = call(
        *("publish", model_folder, "--name", header["name"], "--version", "1.0.0"),
        *("--subgroup", header["subgroup"], *params, "--repair"),
    )
    assert (answer.code, answer.out) == (0, f"{uid}\n"), answer.err
    assert archive.read_bytes() == content
    assert call("repository", "audit").out == ""


def test_repository_leftovers(call: Call, uid: str, place: audmodel.Repository) -> None:
    assert call("repository", "leftovers", "--min-age", "0d").out == ""
    # Without header nobody finds the rest
    for header in Path(place.host).rglob("*.header.yaml"):
        header.unlink()
    answer = call("repository", "leftovers", "models", "--min-age", "0d")
    assert f"{uid}.zip" in answer.out
    assert audmodel.leftovers(place, min_age=0)
    command = ("repository", "leftovers", "--min-age", "0d", "--remove", "--json")
    # A header may be deleted by mistake
    assert not any(left["removed"] for left in call(*command).data)
    answer = call(*command, "--unproven")
    assert {left["removed"] for left in answer.data if left["kind"] == "archive"} == {
        True
    }
    assert list(Path(place.host).rglob("*.zip")) == []


def test_repository_leftovers_of_another_age(
    call: Call, uid: str, place: audmodel.Repository
) -> None:
    for header in Path(place.host).rglob("*.header.yaml"):
        header.unlink()
    answer = call("repository", "leftovers", "--min-age", "999999999d")
    assert (answer.code, answer.out) == (0, "")


@pytest.mark.parametrize("age", ["-1d", "few", "1.5y"])
def test_repository_leftovers_of_a_strange_age(call: Call, age: str) -> None:
    answer = call("repository", "leftovers", f"--min-age={age}")
    assert answer.code == 2
    assert "is not a time like 90m, 12h or 30d" in answer.err


# Files ---------------------------------------------------------------------


def test_files(call: Call, uid: str) -> None:
    answer = call("files", "small")
    assert answer.out.splitlines()[0].split() == ["SIZE", "COMPRESSED", "PATH"]
    assert any(
        line.startswith("16.4 kB") and line.endswith("  model.onnx")
        for line in answer.out.splitlines()
    )
    data = call("files", uid, "--json").data
    assert data[1]["path"] == "model.onnx"
    assert data[1]["size"] == 16384


def test_load_some_files(call: Call, uid: str, tmp_path: Path) -> None:
    args = ("load", uid, "--cache-root", tmp_path / "mine")
    answer = call(*args, "--file", "*.onnx", "--file", "log/")
    assert set(content(answer.out.rstrip("\n"))) == {"model.onnx", "log/eval.yaml"}


@pytest.mark.parametrize("pattern", ["*.pt", "", "/", "../*"])
def test_load_files_that_are_not_there(call: Call, uid: str, pattern: str) -> None:
    answer = call("load", uid, "--file", "*.onnx", "--file", pattern)
    assert (answer.code, answer.out) == (1, "")
    assert call("cache", "ls").out == ""


# Cache ---------------------------------------------------------------------


def test_empty_cache(call: Call, place: audmodel.Repository) -> None:
    assert call("cache", "ls").out == ""
    assert call("cache", "ls", "--json").data == []


def test_cache_ls(call: Call, uid: str, tmp_path: Path) -> None:
    path = audmodel.load(uid)
    [model] = call("cache", "ls", "--json").data
    assert (model["uid"], model["path"], model["partial"]) == (uid, path, False)
    last_used = datetime.datetime.fromisoformat(model["last_used"])
    assert abs(datetime.datetime.now(datetime.UTC) - last_used).total_seconds() < 600
    _, line = call("cache", "ls").out.splitlines()
    assert line.startswith(f"{uid}  16.5 kB  2")
    assert line.endswith("  whole")
    other = tmp_path / "other"
    audmodel.load(uid, files="*.onnx", cache_root=str(other))
    assert "some files" in call("cache", "ls", "--cache-root", other).out


@pytest.mark.parametrize("uid_", ["12345678-1.0.0", "12345678"])
def test_cache_rm_of_what_is_not_there(call: Call, uid: str, uid_: str) -> None:
    answer = call("cache", "rm", uid_)
    assert (answer.code, answer.out) == (1, "")
    assert "not in the cache" in answer.err


def test_cache_rm_of_what_is_in_use(call: Call, uid: str, tmp_path: Path) -> None:
    path = audmodel.load(uid)
    with filelock.FileLock(Path(path).parent / ".1.0.0.lock"):
        answer = call("cache", "rm", uid)
    assert (answer.code, answer.out) == (6, "")
    assert os.path.exists(path)


def test_cache_rm(call: Call, uid: str) -> None:
    path = audmodel.load(uid)
    answer = call("cache", "rm", "small")
    assert answer.code == 0
    assert uid in answer.out
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "--max-size"),
        (("--max-age", "30"), 2, "has no unit"),
        (("--max-age=-1d",), 2, "is not a time like"),
        (("--max-age", "999999999999999w"), 2, "is too long"),
        (("--max-size", "all"), 2, "is not a size like"),
        (("--max-size", "1 parsec"), 2, "is not a size like"),
        (("--max-size", "nan"), 2, "is not a size like"),
    ],
)
def test_cache_prune_wrong(
    call: Call, uid: str, args: tuple[str, ...], code: int, message: str
) -> None:
    path = audmodel.load(uid)
    answer = call("cache", "prune", *args)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert os.path.exists(path)


@pytest.mark.parametrize(
    ("args", "stays"),
    [
        (("--max-age", "1.5h"), True),
        (("--max-age", "4w", "--max-size", "1MB"), True),
        (("--max-size", "17KiB"), True),
        (("--max-size", "16KiB"), False),
        (("--max-size", "0.01 mb"), False),
        (("--max-age", "0s"), False),
    ],
)
def test_cache_prune(call: Call, uid: str, args: tuple[str, ...], stays: bool) -> None:
    path = audmodel.load(uid)
    dry = call("cache", "prune", *args, "--dry-run")
    assert os.path.exists(path)
    answer = call("cache", "prune", *args)
    assert answer == dry
    assert (uid in answer.out) == (not stays)
    assert os.path.exists(path) == stays


# Each once as a process ----------------------------------------------------


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "line",
    [
        "load {uid}",
        "info {uid}",
        "files {uid}",
        "versions {uid}",
        "alias set prod {uid}",
        "alias ls {uid}",
        "alias resolve small",
        "meta show {uid}",
        "meta update {uid} a=1",
        "cache ls",
        "cache rm {uid}",
        "cache prune --max-size 1GB",
        "config",
    ],
)
def test_process(run: Call, uid: str, line: str) -> None:
    """A process and a call say the same, in both languages."""
    args = line.format(uid=uid).split()
    for extra in ([], ["--json"]):
        audmodel.load(uid)
        answer = run(*args, *extra)
        assert (answer.code, answer.err) == (0, "")
    assert isinstance(answer.data, dict | list)
