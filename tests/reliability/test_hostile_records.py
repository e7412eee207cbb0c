"""Records that lie lead nowhere: no file elsewhere, no host, no memory, no loop."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import resource
import time

import hypothesis
from hypothesis import strategies as st
import pytest

import audmodel
from audmodel import errors
from audmodel.core.repository import claim_record
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document
from tests.backends import proxy as faults
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.proxy import Forward
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.reliability.remote import remote


# Of each family of faults
pytestmark = pytest.mark.sample(1)


MIB = 1024 * 1024
MODEL = ModelId("deadbeef", "1.0.0")
HEADER = (
    "author: me\ndate: 2026-01-01\nname: torch\nparameters: {}\n"
    "subgroup: sub\nversion: 1.0.0\n"
)

# What may stand where a name, an ID, or a document is expected
HOSTILE = [
    "",
    " ",
    ".",
    "..",
    "../../escape",
    "../../../../../../tmp/escape",
    "/etc/passwd",
    "/abs-1.0.0",
    "..\\..\\escape",
    "C:\\escape",
    "\\\\host\\share",
    "~/escape",
    "$HOME/escape",
    "a/../../b",
    "a//b",
    "a\0b",
    "a\nb",
    "a\rb",
    "\u202etxt.exe",
    "\uff45scape",
    "a" * 300,
    "a/" * 600,
    "%2e%2e%2fescape",
    "http://127.0.0.1:1/x",
    "https://example.com/models",
    "s3://bucket/key",
    "file:///etc/passwd",
    "deadbeef-../../x",
    "deadbeef-1.0.0/../../../x",
    "deadbeef-1.0.0-../x",
    "deadbeef-1.0.0\n",
    "deadbeef-\uff11.0.0",
    "{{7*7}}",
    "; rm -rf x",
    "_uid",
    "_alias",
    "CON",
    "!!python/object/apply:os.system ['touch escape']",
]

DOCUMENTS = [
    b"",
    b"\0" * 100,
    b"\xff\xfe\x00",
    b"!!python/object/apply:os.system ['touch escape']",
    b"a: !!python/name:os.system ''",
    b"!!python/module:os ''",
    b"!!python/object/new:os.system ['touch escape']",
    b"!<tag:yaml.org,2002:python/object/apply:os.system> ['x']",
    b"%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system ['x']",
    b"a: &a [*a]",
    b"&a {x: *a}",
    # Nine to the power of nine values
    b"\n".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else '1'] * 9)}]".encode()
        for n in range(10)
    ),
    b"[" * 10_000,
    b"{a: " * 5000,
    b"- " * 20_000 + b"x",
    b"a: 1\na: 2\n",
    b"a: " + b"9" * 6000,
    b"a: 2026-99-99",
    b"a: !!timestamp foo",
    b"a: !!int foo",
    b"a: !!binary '***'",
    b"? [a, b]\n: {c: d}\n",
    b"--- a\n--- b\n",
    b"[1, 2]",
    b"just text",
    b"<<: [1, 2]",
    b"<<: {a: {<<: {b: 1}}}",
    b"a: 1e400",
    b"a: .nan",
    b"a: 190:20:30.15",
    b"\xef\xbb\xbfa: 1",
    b"uid: ../../escape/x-1.0.0",
    b"uid: [deadbeef-1.0.0]",
    b"uid: best",
    b"uid: deadbeef",
    b"aliases: ../../x",
    b"aliases: ['../../x', 5, null, [a], best]",
    b"a: " + b"x" * (document.MAX_BYTES - 3),
    b"a: " + b"x" * (document.MAX_BYTES + 1),
    b"\n".join(b"k%d: 1" % n for n in range(250_000)),
]


def inodes(root: Path) -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }


@contextlib.contextmanager
def nothing_outside(tmp_path: Path, cache: Path) -> Iterator[None]:
    """Nothing is made or changed but below the cache."""
    here = Path.cwd()
    os.chdir(tmp_path)
    before = inodes(tmp_path)
    try:
        yield
    finally:
        os.chdir(here)
    after = inodes(tmp_path)
    changed = {path for path in after if after[path] != before.get(path, b"none")}
    changed |= before.keys() - after.keys()
    for path in changed:
        assert Path(path) == cache or Path(path).is_relative_to(cache), path


def read_everything(uid: str, alias: str) -> None:
    """Whatever is answered, it is an answer or an error of ours."""
    calls: list[Callable[[], object]] = [
        lambda: audmodel.load(uid),
        lambda: audmodel.load(alias),
        lambda: audmodel.header(uid),
        lambda: audmodel.parameters(uid),
        lambda: audmodel.url(uid),
        lambda: audmodel.url(uid, type="header"),
        lambda: audmodel.meta(uid),
        lambda: audmodel.aliases(uid),
        lambda: audmodel.resolve_alias(alias),
        lambda: audmodel.exists(uid),
        lambda: audmodel.exists(alias),
        lambda: audmodel.versions(uid.split("-")[0]),
    ]
    for call in calls:
        with contextlib.suppress(errors.AudmodelError):
            call()


def write(repository: audmodel.Repository, path: str, data: bytes) -> None:
    file = Path(repository.host, repository.name + path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


PATHS = {
    "header": layout.record_path(MODEL, "header"),
    "meta": layout.record_path(MODEL, "meta"),
    "claim": layout.record_path(MODEL, "claim"),
    "list": layout.list_path(MODEL),
    "alias": "/_alias/best/1.0.0/best-1.0.0.alias.yaml",
}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", PATHS)
def test_documents(
    repository: audmodel.Repository, tmp_path: Path, cache: Path, kind: str
) -> None:
    write(repository, PATHS["header"], HEADER.encode())
    write(repository, PATHS["alias"], f"uid: {MODEL}".encode())
    for content in DOCUMENTS:
        write(repository, PATHS[kind], content)
        with nothing_outside(tmp_path, cache):
            start = time.monotonic()
            read_everything(str(MODEL), "best")
            assert time.monotonic() - start < 60
        # Those who may not be trusted do not stop those who tidy up
        with contextlib.suppress(errors.AudmodelError):
            audmodel.leftovers(repository, min_age=0)


@pytest.mark.parametrize("key", ["name", "subgroup", "version", "author", "date"])
def test_values_in_a_header(
    repository: audmodel.Repository, tmp_path: Path, cache: Path, key: str
) -> None:
    valid = document.load(HEADER.encode(), "it")
    for value in [*HOSTILE, 5, None, ["a"], {"a": "b"}, 1.5, True]:
        with contextlib.suppress(errors.InvalidInputError):
            header = document.dump({**valid, key: value}, "it")
            write(repository, PATHS["header"], header)
            with nothing_outside(tmp_path, cache):
                read_everything(str(MODEL), "best")


@pytest.mark.parametrize("number", ["0x" + "f" * 4500, "1" + ":1" * 500_000])
def test_numbers_that_nobody_can_show(
    repository: audmodel.Repository,
    cache: Path,
    model_folder: Path,
    number: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(model_folder)
    for key in ("author", "date", "subgroup"):
        lines = "".join(
            f"{key}: {number}\n" if line.startswith(key) else line
            for line in HEADER.splitlines(keepends=True)
        )
        write(repository, PATHS["header"], lines.encode())
        with pytest.raises(errors.InvalidDocumentError):
            audmodel.header(str(MODEL))
        # Nobody else suffers from it
        with pytest.warns(UserWarning, match="left out"):
            assert [model.uid for model in audmodel.models()] == [uid]
    write(repository, PATHS["alias"], f"uid: {number}".encode())
    with pytest.raises(errors.InvalidDocumentError):
        audmodel.resolve_alias("best")
    # A claim expires whatever it says
    monkeypatch.setattr(claims, "TIMEOUT", 0.1)
    monkeypatch.setattr(claims, "_POLL_INTERVAL", 0.05)
    uid = audmodel.uid("torch", {"of": "somebody"}, "1.0.0")
    claim = layout.record_path(ModelId(*uid.split("-")), "claim")
    own = claim_record.dump("/a.zip", None).decode().splitlines()
    lines = "\n".join(
        f"process: {number}" if line.startswith("process") else line for line in own
    )
    write(repository, claim, lines.encode())
    assert claim in {found.path for found in audmodel.leftovers(repository, min_age=0)}
    assert publish(model_folder, params={"of": "somebody"}) == uid


@pytest.mark.parametrize(
    "archive",
    [
        "5",
        "[]",
        "{size: -1, digest: x}",
        "{size: 1}",
        "{size: 99999999999999999999999, digest: 'blake3:" + "0" * 64 + "'}",
        "{size: true, digest: 'blake3:" + "0" * 64 + "'}",
        "{size: 1, digest: ['blake3:" + "0" * 64 + "']}",
    ],
)
def test_identity_of_an_archive(
    repository: audmodel.Repository, archive: str, model_folder: Path
) -> None:
    uid = publish(model_folder)
    model = ModelId(*uid.split("-"))
    path = layout.record_path(model, "header")
    file = Path(repository.host, repository.name + path)
    lines = file.read_text().split("archive:")[0]
    file.write_text(f"{lines}archive: {archive}\n")
    with pytest.raises(errors.AudmodelError):
        audmodel.load(uid)


def test_alias_that_names_an_alias(
    repository: audmodel.Repository, tmp_path: Path, cache: Path, model_folder: Path
) -> None:
    uid = publish(model_folder)
    for name, target in (("a", "b"), ("b", "a"), ("c", "c"), ("d", uid.split("-")[0])):
        write(
            repository,
            f"/_alias/{name}/1.0.0/{name}-1.0.0.alias.yaml",
            f"uid: {target}".encode(),
        )
        with nothing_outside(tmp_path, cache):
            for call in (audmodel.load, audmodel.resolve_alias, audmodel.header):
                with pytest.raises(errors.InvalidDocumentError, match=name):
                    call(name)
        # It can be mended
        audmodel.set_alias(name, uid)
        assert audmodel.resolve_alias(name) == uid


def test_links_in_a_repository_lead_to_data_only(
    repository: audmodel.Repository, tmp_path: Path, cache: Path
) -> None:
    """Whoever can write to a folder can let its records be other files."""
    secret = tmp_path / "secret"
    secret.write_text("password: geheim\n" * 3)
    for path in PATHS.values():
        file = Path(repository.host, repository.name + path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(secret)
    with nothing_outside(tmp_path, cache):
        read_everything(str(MODEL), "best")
    assert secret.read_text() == "password: geheim\n" * 3


# Endless ------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["s3", "artifactory"])
@pytest.mark.parametrize("length", ["none", "honest", "huge"])
def test_endless_records(
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    length: str,
) -> None:
    """Gigabytes are neither fetched nor kept."""
    with remote(name, monkeypatch, tmp_path) as storage:
        root = storage.model(1000)
        uid = publish(root, alias="best")
        sent = 0

        def chunks(head: bytes) -> Iterator[bytes]:
            nonlocal sent
            yield head
            for _ in range(4096):
                sent += MIB
                yield b"k" * MIB

        def fault(request: Request, forward: Forward) -> Response:
            response = forward()
            if request.method != "GET":
                return response
            lines = [f"{k}: {v}" for k, v in response.headers if k != "Content-Length"]
            if length != "none":
                size = 4 << 30 if length == "honest" else 1 << 60
                lines.append(f"Content-Length: {size}")
            head = (
                f"HTTP/1.1 {response.status} OK\r\n" + "\r\n".join(lines) + "\r\n\r\n"
            )
            return Response(0, [], raw=chunks(head.encode()))

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        calls: list[Callable[[], object]] = [
            lambda: audmodel.header(uid, cache_root=storage.cache()),
            lambda: audmodel.meta(uid, cache_root=storage.cache()),
            lambda: audmodel.load("best", cache_root=storage.cache()),
            lambda: audmodel.set_alias("best", uid, cache_root=storage.cache()),
            lambda: audmodel.versions(uid.split("-")[0]),
            lambda: audmodel.leftovers(storage.repository),
        ]
        for call in calls:
            start = time.monotonic()
            with storage.fault(fault), pytest.raises(errors.AudmodelError):
                call()
            assert time.monotonic() - start < 30
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # In KiB, the proxy included. Listings may have 64 MiB
        assert after - before < 256 * 1024
        assert files(audmodel.load(uid, cache_root=storage.cache())) == files(root)


def test_repository_never_chooses_a_host(
    hasty: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loopback_only: object
) -> None:
    """A redirection leads nowhere, and takes no credentials along."""
    with (
        remote("artifactory", monkeypatch, tmp_path) as storage,
        faults.Proxy("127.0.0.1:9") as other,
    ):
        uid = publish(storage.model(1000))
        for status in (301, 302, 303, 307, 308):
            fault = faults.status(status, Location=f"{other.url}/elsewhere")
            other.fault = faults.status(404)
            with storage.fault(fault), pytest.raises(errors.AudmodelError):
                audmodel.load(uid, cache_root=storage.cache())
        assert all("authorization" not in r.headers for r in other.requests)


# Arguments -------------------------------------------------------------------------


TEXT = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=60),
    st.from_regex(r"[0-9a-f]{8}-\d+\.\d+\.\d+.*", fullmatch=True),
    st.from_regex(r"[a-zA-Z0-9._-]{1,40}", fullmatch=True),
)
EXPECTED = (errors.AudmodelError, TypeError, ValueError, RuntimeError)


@pytest.fixture
def arena(
    repository: audmodel.Repository, cache: Path, model_folder: Path, tmp_path: Path
) -> Path:
    publish(model_folder, alias="best")
    return tmp_path


@pytest.mark.thorough
@hypothesis.given(data=st.data())
@hypothesis.settings(
    # Each looks at all files there are, which get more
    max_examples=400 + 2_000 * int(os.environ.get("TORTURE", "0")),
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_all_functions(arena: Path, cache: Path, data: st.DataObject) -> None:
    repository = Path(audmodel.config.REPOSITORIES[0].host)
    text = data.draw(TEXT)
    reading: list[Callable[[str], object]] = [
        audmodel.aliases,
        audmodel.author,
        audmodel.date,
        audmodel.exists,
        audmodel.header,
        audmodel.latest_version,
        audmodel.load,
        audmodel.meta,
        audmodel.name,
        audmodel.parameters,
        audmodel.repository,
        audmodel.resolve_alias,
        audmodel.subgroup,
        audmodel.url,
        audmodel.version,
        audmodel.versions,
        lambda text: audmodel.set_alias("other", text),
        lambda text: audmodel.update_meta(text, {"a": 1}),
    ]
    writing: list[Callable[[str], object]] = [
        lambda text: audmodel.set_alias(text, "best"),
        lambda text: audmodel.uid(text, {}, "1.0.0"),
        lambda text: publish(arena / "model", name=text, version="7.0.0"),
        lambda text: publish(arena / "model", subgroup=text, version="7.0.0"),
        lambda text: publish(arena / "model", version=text),
        lambda text: publish(arena / "model", alias=text, version="7.0.0"),
        lambda text: publish(arena / "model", author=text, version="7.0.0"),
        lambda text: publish(arena / "model", date=text, version="7.0.0"),
        lambda text: publish(
            arena / "model", meta={text: text}, params={text: text}, version="7.0.0"
        ),
    ]
    call = data.draw(st.sampled_from([*reading, *writing]))
    before = {path for path in arena.rglob("*") if not path.is_relative_to(cache)}
    with contextlib.suppress(*EXPECTED):
        call(text)
    after = {path for path in arena.rglob("*") if not path.is_relative_to(cache)}
    for path in after - before:
        assert path.is_relative_to(repository / "models")
        assert ".." not in path.parts
