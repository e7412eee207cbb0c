"""Repositories and caches are shared with the released audmodel."""

from __future__ import annotations

import os
from pathlib import Path
import random
import re
import time
from typing import Any

import filelock
import pytest

import audmodel
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.uid import ModelId
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.processes import Interpreter


PUBLISH = """
    import datetime
    return audmodel.publish(
        args["root"],
        "torch",
        {"sampling_rate": 16000, "shape": (1, 2)},
        args.get("version", "1.0.0"),
        author="tester",
        date=datetime.date(2026, 1, 1),
        meta={"loss": 0.5, "sizes": {1, 2}, "when": datetime.date(2026, 1, 1)},
        subgroup="emotion.cnn",
        alias=args.get("alias"),
        repository=audmodel.config.REPOSITORIES[0],
    )
"""

READ = """
    uid = args["uid"]
    return {
        "aliases": audmodel.aliases(uid),
        "author": audmodel.author(uid),
        "date": audmodel.date(uid),
        "exists": audmodel.exists(uid),
        "latest": audmodel.latest_version(uid),
        "meta": repr(audmodel.meta(uid)),
        "name": audmodel.name(uid),
        "parameters": repr(audmodel.parameters(uid)),
        "subgroup": audmodel.subgroup(uid),
        "url": os.path.normpath(audmodel.url(uid)),
        "version": audmodel.version(uid),
        "versions": audmodel.versions(uid),
        "root": audmodel.load(uid),
    }
"""


@pytest.fixture
def large_folder(tmp_path: Path) -> Path:
    """A model whose archive has several parts."""
    root = tmp_path / "large"
    (root / "sub" / "sub").mkdir(parents=True)
    pattern = random.Random(1)
    text = bytes(pattern.choices(b"0123456789", k=1_000_000))
    (root / "text").write_bytes(text * 9)
    (root / "random").write_bytes(pattern.randbytes(6_000_000))
    (root / "empty").write_bytes(b"")
    (root / "sub" / "sub" / "naïve 漢字 .txt").write_bytes(b"deep")
    (root / ".hidden").write_bytes(b"hidden")
    return root


def tree(root: Path) -> dict[str, tuple[bool, str]]:
    """Kind and mode of everything in a folder, hidden files included."""
    return {
        path.relative_to(root).as_posix(): (path.is_dir(), oct(path.stat().st_mode))
        for path in root.rglob("*")
    }


def test_same_layout_and_modes(
    repository: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    python: Interpreter,
    released: Interpreter,
) -> None:
    code = """
        os.umask(0o022)
        repository = audmodel.config.REPOSITORIES[0]
        uid = audmodel.publish(
            args["root"],
            "torch",
            {"a": 1, "b": (1, 2), "c": {"d": None}},
            "1.0.0",
            subgroup="emotion.cnn",
            author="tester",
            alias="small",
            meta={"m": {"text": "ä", "list": [1, 2.5]}},
            repository=repository,
        )
        audmodel.load(uid)
        audmodel.header(uid)
        audmodel.meta(uid)
        audmodel.set_alias("large", uid)
        audmodel.update_meta(uid, {"z": 1})
        audmodel.meta(uid)
        return uid
    """
    layouts: list[dict[str, tuple[bool, str]]] = []
    contents: list[dict[str, bytes]] = []
    for name, interpreter in (("old", released), ("new", python)):
        base = tmp_path / name
        (base / "host" / "models").mkdir(parents=True)
        audmodel.config.CACHE_ROOT = str(base / "cache")
        audmodel.config.REPOSITORIES = [
            audmodel.Repository("models", str(base / "host"), "file-system")
        ]
        interpreter.run(code, root=str(model_folder))
        layouts.append(tree(base))
        contents.append(files(base))
    old, new = layouts
    # What earlier releases do not know, and do not mind
    (marker,) = (path for path in new if path.endswith("/.1.0.0.unsynced"))
    assert new.pop(marker) == (False, "0o100644")
    del contents[1][marker]
    # But for what the release does not look at
    for ending in ("+index", "+origin"):
        (path,) = (path for path in new if path.endswith(ending))
        assert os.path.basename(path).startswith(".")
        del new[path], contents[1][path]
    assert new == old
    lock = next(path for path in new if path.endswith("/.1.0.0.lock"))
    assert new[lock] == (False, "0o100664")
    # The records are the same, but for what is added to them
    for path, data in contents[1].items():
        if path.endswith(".header.yaml"):
            data = re.sub(rb"(archive|provenance):\n(  .*\n)+", b"", data)
        if path.endswith(".alias.yaml"):
            data = re.sub(rb"history:\n([- ] .*\n)+", b"", data)
        # What the release leaves in the cache here depends on its mood
        if not path.endswith(".zip") and path != f"cache/{lock[6:14]}/1.0.0.meta.yaml":
            assert data == contents[0][path], path


def test_same_ids(released: Interpreter) -> None:
    code = """
        uids = []
        for name, params, version, subgroup in args["cases"]:
            uids.append(audmodel.uid(name, params, version, subgroup=subgroup))
            for private in (False, True):
                legacy = audmodel.legacy_uid(
                    name, params, version or "1.0.0", subgroup=subgroup, private=private
                )
                uids.append(legacy)
        return uids
    """
    cases: list[Any] = [
        ("torch", {}, None, None),
        ("torch", {}, "1.0.0", ""),
        ("torch", {"b": 1, "a": 2}, "1.0.0", "a.b.c"),
        ("ä", {"漢": "字", "x": None, "y": [1, {"z": 2.5}]}, "1.0.0-prod", "x/y"),
        ("", {"": ""}, "", "."),
        ("n", {"a": {"c": 1, "b": True}}, "10.0.0", "_uid"),
    ]
    uids = []
    for name, params, version, subgroup in cases:
        uids.append(audmodel.uid(name, params, version, subgroup=subgroup))
        uids += [
            audmodel.legacy_uid(
                name, params, version or "1.0.0", subgroup=subgroup, private=private
            )
            for private in (False, True)
        ]
    assert released.run(code, cases=cases) == uids


@pytest.mark.parametrize("num_workers", [1, 4])
def test_released_publishes_we_load(
    repository: audmodel.Repository,
    released: Interpreter,
    large_folder: Path,
    num_workers: int,
) -> None:
    uid = released.run(PUBLISH, root=str(large_folder), alias="small")
    assert audmodel.exists(uid)
    assert audmodel.parameters(uid) == {"sampling_rate": 16000, "shape": (1, 2)}
    assert audmodel.meta(uid)["sizes"] == {1, 2}
    root = audmodel.load("small", num_workers=num_workers)
    assert files(root) == files(large_folder)
    assert audmodel.aliases(uid) == ["small"]
    with pytest.raises(audmodel.errors.ModelExistsError):
        audmodel.publish(
            str(large_folder),
            "torch",
            {"sampling_rate": 16000, "shape": (1, 2)},
            "1.0.0",
            subgroup="emotion.cnn",
        )


@pytest.mark.sample(1)
@pytest.mark.parametrize("compression", [0, 1, 9])
def test_we_publish_released_loads(
    repository: audmodel.Repository,
    released: Interpreter,
    large_folder: Path,
    compression: int,
) -> None:
    uid = publish(large_folder, alias="small", compression=compression, num_workers=2)
    root = released.run("return audmodel.load('small')")
    assert files(root) == files(large_folder)
    # Whoever loaded it, everybody uses it
    assert audmodel.load(uid) == root
    errors = released.start(
        f"""
        audmodel.publish(
            {str(large_folder)!r}, "torch", {{"sampling_rate": 16000}}, "1.0.0",
            repository=audmodel.config.REPOSITORIES[0],
        )
        """
    ).errors()
    assert "RuntimeError" in errors
    assert "exists already" in errors


@pytest.mark.sample(1)
@pytest.mark.parametrize("publisher", ["released", "python"])
@pytest.mark.parametrize("first_reader", ["released", "python"])
def test_everybody_reads_the_same(
    request: pytest.FixtureRequest,
    repository: audmodel.Repository,
    model_folder: Path,
    publisher: str,
    first_reader: str,
) -> None:
    interpreters: dict[str, Interpreter] = {
        name: request.getfixturevalue(name) for name in ("released", "python")
    }
    code = PUBLISH
    uid = interpreters[publisher].run(code, root=str(model_folder), alias="small")
    readers = ["released", "python"]
    if first_reader == "python":
        readers.reverse()
    answers = [
        interpreters[reader].run(READ, uid=key)
        for reader in readers
        for key in (uid, uid.split("-")[0], "small")
    ]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["exists"] is True
    assert answers[0]["date"] == "2026-01-01"
    assert files(answers[0]["root"]) == files(model_folder)


@pytest.mark.thorough
def test_aliases_set_by_either(
    repository: audmodel.Repository, released: Interpreter, model_folder: Path
) -> None:
    first = publish(model_folder, alias="a")
    second = publish(model_folder, version="2.0.0")
    released.run(f"audmodel.set_alias('b', {first!r})")
    assert audmodel.aliases(first) == ["a", "b"]
    released.run(f"audmodel.set_alias('a', {second!r})")
    assert audmodel.resolve_alias("a") == second
    assert (audmodel.aliases(first), audmodel.aliases(second)) == (["b"], ["a"])
    audmodel.set_alias("b", second)
    code = """
        return [
            audmodel.aliases(args["first"]),
            audmodel.aliases(args["second"]),
            audmodel.resolve_alias("a"),
            audmodel.resolve_alias("b"),
        ]
    """
    answer = released.run(code, first=first, second=second)
    assert answer == [[], ["a", "b"], second, second]


@pytest.mark.thorough
def test_history_of_an_alias_that_both_move(
    repository: audmodel.Repository, released: Interpreter, model_folder: Path
) -> None:
    uids = [publish(model_folder, version=f"{n}.0.0") for n in range(3)]
    for uid in uids[:2]:
        audmodel.set_alias("a", uid, author="me")
    # It reads a record with a history
    assert released.run("return audmodel.resolve_alias('a')") == uids[1]
    assert released.run("return audmodel.version('a')") == "1.0.0"
    released.run(f"audmodel.set_alias('a', {uids[2]!r})")
    # and says nothing of moves
    assert audmodel.alias_history("a") == [audmodel.AliasMove(uids[2])]
    with pytest.raises(audmodel.errors.InvalidInputError, match=r"audmodel 1\.x"):
        audmodel.rollback("a")
    audmodel.set_alias("a", uids[0], author="me")
    assert audmodel.rollback("a") == uids[2]
    assert released.run("return audmodel.resolve_alias('a')") == uids[2]
    assert audmodel.aliases(uids[2]) == ["a"]


@pytest.mark.thorough
def test_header_with_provenance(
    repository: audmodel.Repository, released: Interpreter, model_folder: Path
) -> None:
    uid = publish(model_folder, source={"commit": "1b8d2f1"})
    header = released.run(f"return sorted(audmodel.header({uid!r}))")
    assert set(audmodel.header(uid)) < set(header)
    assert released.run(f"return audmodel.date({uid!r})") == audmodel.date(uid)
    theirs = released.run(PUBLISH, root=str(model_folder))
    assert audmodel.provenance(theirs) == audmodel.Provenance()


@pytest.mark.thorough
def test_configuration_with_labels(
    home: Path, released: Interpreter, tmp_path: Path
) -> None:
    (home / ".config").mkdir()
    (home / ".config" / "audmodel.yaml").write_text(
        f"cache_root: {tmp_path}\n"
        "repositories: [{label: a, name: models, host: /data, backend: file-system}]\n"
    )
    code = "return [each.name for each in audmodel.config.REPOSITORIES]"
    assert released.run(code) == ["models"]


@pytest.mark.thorough
def test_metadata_changed_by_either(
    repository: audmodel.Repository, released: Interpreter, model_folder: Path
) -> None:
    uid = publish(model_folder, meta={"a": {"x": 1}})
    read = "return audmodel.meta(args['uid'])"
    assert released.run(read, uid=uid) == {"a": {"x": 1}}
    released.run("audmodel.update_meta(args['uid'], {'a': {'y': 2}})", uid=uid)
    assert audmodel.meta(uid) == {"a": {"x": 1, "y": 2}}
    # What the release left in the shared cache is not trusted
    audmodel.update_meta(uid, {"b": 3})
    assert released.run(read, uid=uid) == {"a": {"x": 1, "y": 2}, "b": 3}
    audmodel.update_meta(uid, {"c": 4}, replace=True)
    assert released.run(read, uid=uid) == {"c": 4}
    released.run("audmodel.update_meta(args['uid'], {}, replace=True)", uid=uid)
    assert audmodel.meta(uid) == {}


def test_released_waits_for_our_lock(
    repository: audmodel.Repository, released: Interpreter, model_folder: Path
) -> None:
    uid = publish(model_folder)
    model = ModelId(*uid.split("-"))
    with CacheEntry(audmodel.default_cache_root(), model).whole.lock(timeout=1):
        process = released.start(f"audmodel.load({uid!r}, timeout=0.2)")
        assert re.search(r"^filelock(\.\w+)*\.\w*Timeout\w*: ", process.errors(), re.M)


def test_we_wait_for_the_lock_of_the_released(
    repository: audmodel.Repository,
    released: Interpreter,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    uid = publish(model_folder)
    # Takes its time to extract, in the middle of its load
    process = released.start(
        """
        import zipfile
        original = zipfile.ZipFile.open
        def wait(*a, **k):
            open(args["started"], "w").close()
            while not os.path.exists(args["go"]):
                time.sleep(0.01)
            return original(*a, **k)
        zipfile.ZipFile.open = wait
        return audmodel.load(args["uid"])
        """,
        uid=uid,
        started=str(tmp_path / "started"),
        go=str(tmp_path / "go"),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert process.process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(filelock.Timeout):
        audmodel.load(uid, timeout=0.2)
    (tmp_path / "go").touch()
    root = audmodel.load(uid)
    assert process.result() == root
    assert files(root) == files(model_folder)


@pytest.mark.thorough
def test_both_load_at_once_into_one_cache(
    repository: audmodel.Repository,
    released: Interpreter,
    python: Interpreter,
    large_folder: Path,
) -> None:
    uids = [publish(large_folder, version=f"{n}.0.0") for n in range(1, 6)]
    code = """
        roots = []
        for number, uid in enumerate(args["uids"]):
            barrier(number)
            roots.append(audmodel.load(uid))
            open(os.path.join(roots[-1], "text")).close()
        return roots
    """
    folder = Path(os.environ["HOME"]) / "barrier"
    folder.mkdir()
    processes = [
        interpreter.start(code, uids=uids, folder=str(folder), number=number, count=4)
        for number, interpreter in enumerate((released, python, released, python))
    ]
    results = [process.result() for process in processes]
    assert all(result == results[0] for result in results)
    for root in results[0]:
        assert files(root) == files(large_folder)


def test_both_publish_at_once(
    repository: audmodel.Repository,
    released: Interpreter,
    python: Interpreter,
    model_folder: Path,
) -> None:
    # Different models, as colleagues do who have not all switched
    code = """
        return [
            audmodel.publish(
                args["root"], args["name"], {"n": n}, "1.0.0",
                alias=f"{args['name']}-{n}",
                repository=audmodel.config.REPOSITORIES[0],
            )
            for n in range(5)
        ]
    """
    processes = [
        interpreter.start(code, root=str(model_folder), name=name)
        for name, interpreter in (("old", released), ("new", python))
    ]
    for process, name in zip(processes, ("old", "new")):
        for n, uid in enumerate(process.result()):
            assert audmodel.resolve_alias(f"{name}-{n}") == uid
            assert files(audmodel.load(uid)) == files(model_folder)


def test_what_a_killed_released_client_left(
    repository: audmodel.Repository, released: Interpreter, model_folder: Path
) -> None:
    uid = publish(model_folder)
    released.start(
        """
        import signal, zipfile
        original = zipfile.ZipFile.open
        def kill(*a, **k):
            os.kill(os.getpid(), signal.SIGKILL)
        zipfile.ZipFile.open = kill
        audmodel.load(args["uid"])
        """,
        uid=uid,
    ).errors()
    assert files(audmodel.load(uid, timeout=5)) == files(model_folder)


def test_released_is_not_confused_by_what_is_being_published(
    repository: audmodel.Repository, released: Interpreter, model_folder: Path
) -> None:
    uid = publish(model_folder)
    short = uid.split("-")[0]
    folder = Path(repository.host) / "models" / "_uid" / short
    for name in (
        f"2.0.0/{short}-2.0.0.claim.yaml",
        f"2.0.0/{short}-2.0.0.meta.yaml",
        f"2.0.0/.{short}-2.0.0.header.yaml~0123456789abcdef",
        f"1.0.0/.{short}-1.0.0.header.yaml~0123456789abcdef",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"{}\n")
    code = """
        uid = args["uid"]
        return [
            audmodel.versions(uid),
            audmodel.version(uid),
            audmodel.exists(f"{uid}-2.0.0"),
            audmodel.load(uid),
        ]
    """
    answer = released.run(code, uid=short)
    assert answer == [["1.0.0"], "1.0.0", False, audmodel.load(uid)]


def test_model_without_meta(
    repository: audmodel.Repository, model_folder: Path, released: Interpreter
) -> None:
    code = """
        repository = audmodel.config.REPOSITORIES[0]
        return audmodel.publish(args["root"], "m", {}, "1.0.0", repository=repository)
    """
    uid = released.run(code, root=str(model_folder))
    assert audmodel.meta(uid) == {}
    assert audmodel.update_meta(uid, {"a": 1}) == {"a": 1}
    assert audmodel.meta(uid) == {"a": 1}


def test_same_interface(
    repository: audmodel.Repository, model_folder: Path, released: Interpreter
) -> None:
    uid = publish(model_folder, alias="small")
    short, version = uid.split("-")
    code = """
        place = audmodel.config.REPOSITORIES[0]
        with place.create_backend_interface().backend as backend:
            interface = place.create_backend_interface()
            interface.backend.open()
            return [
                interface.exists("/_uid/" + args["short"] + ".header.yaml", "1.0.0"),
                interface.versions("/_uid/" + args["short"] + ".meta.yaml"),
                interface.exists("/_alias/small.alias.yaml", "1.0.0"),
            ]
    """
    assert released.run(code, short=short) == [True, [version], True]
    interface = repository.create_backend_interface()
    with interface.backend:
        assert interface.exists(f"/_uid/{short}.header.yaml", version)
        assert interface.versions(f"/_uid/{short}.meta.yaml") == [version]
        assert interface.exists("/_alias/small.alias.yaml", version)


RACE = """
    for number in range(args["rounds"]):
        try:
            barrier(f"round-{number}")
            # It takes the released one less time to begin
            time.sleep(args["pause"] * number / args["rounds"])
            audmodel.publish(
                args["root"],
                "torch",
                {},
                f"{number}.0.0",
                repository=audmodel.config.REPOSITORIES[0],
            )
            outcome = "published"
        except BaseException as error:
            outcome = type(error).__name__
        outcomes.append([outcome, time.time()])
    return outcomes
"""


def test_both_publish_one_id_at_once(
    repository: audmodel.Repository,
    python: Interpreter,
    released: Interpreter,
    tmp_path: Path,
) -> None:
    """What the released one overwrites is found, unless it does so afterwards."""
    rounds = 6
    roots = {"new": tmp_path / "new", "old": tmp_path / "old"}
    for root in roots.values():
        root.mkdir()
        (root / "file").write_bytes(os.urandom(3_000_000))
    folder = tmp_path / "meeting"
    folder.mkdir()
    processes = {
        name: interpreter.start(
            "    outcomes = []\n" + RACE,
            root=str(roots[name]),
            rounds=rounds,
            pause=0.15 if name == "old" else 0,
            folder=str(folder),
            number=number,
            count=2,
        )
        for number, (name, interpreter) in enumerate(
            {"new": python, "old": released}.items()
        )
    }
    outcomes = {name: process.result(120) for name, process in processes.items()}
    short = audmodel.uid("torch", {})
    for number in range(rounds):
        uid = f"{short}-{number}.0.0"
        outcome, end = outcomes["new"][number]
        assert outcome in ("published", "ModelExistsError", "PublishConflictError")
        if outcome != "published":
            continue
        try:
            served = files(audmodel.load(uid))
        except audmodel.errors.ArchiveError:
            archive = Path(
                repository.host,
                repository.name,
                f"torch/{short}/{number}.0.0/{uid}.zip",
            )
            # The clock of the file system ticks a few times in a second
            assert not archive.exists() or archive.stat().st_ctime > end - 0.05
        else:
            assert served in (files(roots["new"]), files(roots["old"]))


@pytest.mark.thorough
def test_models_that_the_release_published_are_deleted(
    repository: audmodel.Repository,
    model_folder: Path,
    released: Interpreter,
) -> None:
    see = """
        uid, alias = args["uid"], args["alias"]
        try:
            target = audmodel.resolve_alias(alias)
        except RuntimeError:
            target = None
        return [audmodel.exists(uid), audmodel.versions(uid), target]
    """
    root = str(model_folder)
    kept = released.run(PUBLISH, root=root, alias="kept")
    before = content(repository)
    uid = released.run(PUBLISH, root=root, alias="small", version="2.0.0")
    with pytest.raises(audmodel.errors.ModelInUseError, match="'small'"):
        audmodel.delete(uid)
    assert released.run(see, uid=uid, alias="small")[0] is True
    assert audmodel.delete_alias("small") == uid
    assert released.run(see, uid=uid, alias="small") == [True, ["1.0.0", "2.0.0"], None]
    audmodel.delete(uid)
    assert content(repository) == before
    assert released.run(see, uid=uid, alias="kept") == [False, ["1.0.0"], kept]
    # The release publishes the ID anew
    (model_folder / "model.onnx").write_bytes(b"other")
    assert released.run(PUBLISH, root=root, alias="small", version="2.0.0") == uid
    assert files(audmodel.load("small")) == files(model_folder)
    audmodel.delete([uid, kept], aliases=True)
    assert content(repository) == {}


@pytest.mark.thorough
def test_models_that_the_release_published_are_copied(
    repository: audmodel.Repository,
    large_folder: Path,
    tmp_path: Path,
    released: Interpreter,
) -> None:
    (tmp_path / "host" / "mirror").mkdir()
    mirror = audmodel.Repository("mirror", repository.host, "file-system")
    uid = released.run(PUBLISH, root=str(large_folder), alias="small")
    audmodel.sync(repository, mirror, num_workers=3)
    assert content(mirror) == {
        path: data for path, data in content(repository).items() if "alias" not in path
    }
    audmodel.sync(repository, mirror, aliases=True)
    audmodel.config.REPOSITORIES = [mirror]
    seen = released.run(READ, uid=uid)
    assert seen["aliases"] == ["small"]
    assert files(seen["root"]) == files(large_folder)
    audmodel.remove_cached(uid)
    assert files(audmodel.load("small", num_workers=2)) == files(large_folder)


@pytest.mark.thorough
def test_published_again_if_the_files_are_the_same(
    repository: audmodel.Repository,
    model_folder: Path,
    released: Interpreter,
) -> None:
    (model_folder / "run.sh").write_bytes(b"#!/bin/sh\n")
    (model_folder / "run.sh").chmod(0o755)
    (model_folder / "empty").mkdir()
    uid = released.run(
        """
        return audmodel.publish(
            args["root"], "torch", {"sampling_rate": 16000}, "1.0.0", alias="old",
            repository=audmodel.config.REPOSITORIES[0],
        )
        """,
        root=str(model_folder),
    )
    assert publish(model_folder, exist_ok=True, alias="new") == uid
    assert audmodel.aliases(uid) == ["new", "old"]
    assert released.run("return audmodel.aliases(args['uid'])", uid=uid) == [
        "new",
        "old",
    ]
    # The size stays, and CRC-32 tells the difference
    (model_folder / "log" / "eval.yaml").write_bytes(b"uar: 0.74\n")
    with pytest.raises(audmodel.errors.ModelExistsError, match=": changed: 'log/eval"):
        publish(model_folder, exist_ok=True)
    assert files(audmodel.load(uid))["log/eval.yaml"] == b"uar: 0.73\n"
