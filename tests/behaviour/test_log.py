"""The log names every change, and says what a load did."""

from __future__ import annotations

import logging
from pathlib import Path
import random
import re
import subprocess
import sys
import threading
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import content
from tests.behaviour.backends import publish
from tests.behaviour.backends import store
from tests.processes import Interpreter
from tests.processes import python as python


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "audmodel")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since this was asked the last time."""
    messages = [
        record.getMessage()
        for record in log.records
        if record.name == "audmodel" and record.levelno == logging.INFO
    ]
    log.clear()
    return messages


def matching(log: pytest.LogCaptureFixture, pattern: str) -> re.Match[str]:
    """The only thing that was logged."""
    (line,) = lines(log)
    match = re.fullmatch(pattern, line)
    assert match is not None, line
    return match


def test_publish(
    repository: audmodel.Repository, model_folder: Path, log: pytest.LogCaptureFixture
) -> None:
    uid = publish(model_folder, num_workers=2)
    (archive,) = (len(d) for p, d in content(repository).items() if p.endswith(".zip"))
    size = sum(path.stat().st_size for path in model_folder.rglob("*.*"))
    count = sum(path.is_file() for path in model_folder.rglob("*"))
    match = matching(
        log,
        r"Published '(.+)' in (.+) in \d+\.\d\d s: (\d+) files of (\d+) bytes, "
        r"an archive of (\d+) bytes, by 2 worker\(s\)\.",
    )
    assert match.groups() == (uid, repr(repository), *map(str, (count, size, archive)))
    publish(model_folder, repair=True)
    matching(log, rf"Repaired '{uid}' in .*")
    with pytest.raises(audmodel.errors.ModelExistsError):
        publish(model_folder)
    assert lines(log) == []


def test_aliases(
    repository: audmodel.Repository, model_folder: Path, log: pytest.LogCaptureFixture
) -> None:
    first = publish(model_folder, alias="a")
    where = re.escape(repr(repository))
    published, line = lines(log)
    assert published.startswith("Published")
    assert re.fullmatch(rf"Alias 'a' in {where}: nothing -> {first}\.", line)
    second = publish(model_folder, version="2.0.0")
    lines(log)
    audmodel.set_alias("a", second)
    matching(log, rf"Alias 'a' in {where}: {first} -> {second}\.")


def test_metadata(
    repository: audmodel.Repository, model_folder: Path, log: pytest.LogCaptureFixture
) -> None:
    uid = publish(model_folder)
    lines(log)
    audmodel.update_meta(uid, {"a": "secret", "b": {"c": 1}})
    matching(log, rf"Metadata of '{uid}' in .+ changed: 'a', 'b'\.")
    audmodel.update_meta(uid, {}, replace=True)
    matching(log, rf"Metadata of '{uid}' in .+ replaced: no fields\.")


def test_loads(
    repository: audmodel.Repository, model_folder: Path, log: pytest.LogCaptureFixture
) -> None:
    uid = publish(model_folder)
    size = sum(path.stat().st_size for path in model_folder.rglob("*.*"))
    part = (model_folder / "model.onnx").stat().st_size
    lines(log)
    loaded = (
        rf"Loaded '{uid}' from (.+\.zip) in \d+\.\d\d s: (\d+) files of (\d+) bytes, "
        r"(\d+) bytes of them fetched as (\d+) bytes of the archive, "
        r"0 bytes copied from other models, by (\d+) worker\(s\)\."
    )
    # The tail of the archive, which is all of it
    (archive,) = (
        str(len(data))
        for path, data in content(repository).items()
        if path.endswith(".zip")
    )
    audmodel.load(uid, files="model.onnx", num_workers=2)
    match = matching(log, loaded)
    assert match.groups()[1:] == ("1", str(part), str(part), archive, "2")
    assert uid in match[1]
    # What is there is not fetched again
    audmodel.load(uid)
    match = matching(log, loaded)
    assert match.groups()[2:] == (str(size), str(size - part), archive, "1")
    cached = rf"Loaded '{uid}' from the cache '(.+)'\."
    for again in (
        lambda: audmodel.load(uid),
        lambda: audmodel.load(uid, files="model.onnx"),
        lambda: audmodel.load([uid]),
    ):
        again()
        assert matching(log, cached)[1] == audmodel.default_cache_root()
    audmodel.remove_cached(uid)
    matching(log, rf"Removed '{uid}' from the cache '.+'\.")
    assert len(list(audmodel.stream(uid))) > 1
    match = matching(log, loaded)
    assert match.groups()[2:] == (str(size), str(size), archive, "1")
    audmodel.prune_cache(max_size=0, dry_run=True)
    assert lines(log) == []
    audmodel.prune_cache(max_size=0)
    matching(log, rf"Removed '{uid}' from the cache '.+'\.")


def test_bytes_that_are_received(
    repository: audmodel.Repository, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "large"
    root.mkdir()
    (root / "noise").write_bytes(random.Random(3).randbytes(5_000_000))
    (root / "zeros").write_bytes(bytes(6_000_000))
    uid = publish(root, compression=9)
    (size,) = (
        len(data) for path, data in content(repository).items() if path.endswith(".zip")
    )
    lines(log)

    def received() -> int:
        pattern = r".* fetched as (\d+) bytes of the archive, .*"
        return int(matching(log, pattern)[1])

    audmodel.load(uid, num_workers=3)
    # At most the last bytes come twice, once to find out what there is
    assert size <= received() <= size + 256 * 1024
    audmodel.remove_cached(uid)
    lines(log)
    audmodel.load(uid, files="zeros")
    if repository.backend == "plain":
        # Backends of users fetch whole files
        assert received() == size
    else:
        assert received() < 600_000


@pytest.mark.sample(1)
def test_wait_for_another_process(
    repository: audmodel.Repository,
    model_folder: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    from audmodel.core.cache.entry import CacheEntry
    from audmodel.core.uid import ModelId

    uid = publish(model_folder)
    lines(log)
    with CacheEntry(audmodel.default_cache_root(), ModelId(*uid.split("-"))).whole.lock(
        timeout=1
    ):
        thread = threading.Thread(target=audmodel.load, args=(uid,))
        thread.start()
        thread.join(0.8)
    thread.join()
    waited, loaded = lines(log)
    match = re.fullmatch(
        rf"Waited (\d\.\d) s for another process that used '{uid}'\.", waited
    )
    assert match is not None
    assert float(match[1]) >= 0.5
    assert loaded.startswith(f"Loaded '{uid}' from")


def test_what_is_tidied_up(
    repository: audmodel.Repository, model_folder: Path, log: pytest.LogCaptureFixture
) -> None:
    uid = publish(model_folder, alias="a")
    short = uid.split("-")[0]
    path = f"/_uid/{short}.aliases/1.0.0/{short}.aliases-1.0.0.yaml"
    store(repository, path, b"[")
    orphan = "/_uid/deadbeef/1.0.0/deadbeef-1.0.0.meta.yaml"
    store(repository, orphan, b"{}")
    lines(log)
    audmodel.audit_repository(repository, repair=True)
    matching(log, rf"List of aliases of '{uid}' in .+ rebuilt\.")
    audmodel.leftovers(repository, remove=True, min_age=0, unproven=True)
    assert f"Removed '{orphan}' from {repository!r}." in lines(log)


def test_nothing_is_said_unless_it_is_asked_for(
    python: Interpreter, repository: audmodel.Repository, model_folder: Path
) -> None:
    if repository.backend != "file-system":
        return  # backends of tests are not known in other processes
    uid = publish(model_folder)
    code = f"audmodel.load({uid!r}); audmodel.load({uid!r}); audmodel.cached()"
    process = python.start(code)
    _, errors = process.process.communicate(timeout=60)
    assert errors == ""


def test_logging_is_not_configured() -> None:
    code = (
        "import logging, audmodel; log = logging.getLogger('audmodel'); "
        "print(log.handlers, log.level, log.propagate)"
    )
    result: Any = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[] 0 True\n"
