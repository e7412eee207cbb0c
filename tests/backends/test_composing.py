"""New versions of which the storage copies what it has, counted at a proxy."""

from __future__ import annotations

import contextlib
from pathlib import Path
import shutil
import threading
from typing import Any

import pytest

import audmodel
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.backend.copies import Copying
from audmodel.core.backend.s3 import verdicts
from audmodel.core.operations import base as bases
from audmodel.core.operations import folder as folders
from audmodel.errors import ArchiveError
from audmodel.errors import InvalidIdError
from audmodel.errors import InvalidInputError
from audmodel.errors import ModelExistsError
from audmodel.errors import ModelNotFoundError
from audmodel.errors import PublishConflictError
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.backends import proxy as proxies
from tests.backends import seaweedfs
from tests.backends.forget import forget_servers
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response


# Of each family of faults
pytestmark = pytest.mark.sample(1)


MIB = 1024 * 1024
SIZE = 40 * MIB


class Traffic:
    """What was sent since the last call."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def take(self) -> tuple[int, int]:
        """Bytes of archives, and copies of parts of them."""
        requests = [
            request
            for request in self._proxy.requests
            if request.method == "PUT" and ".zip" in request.path
        ]
        self._proxy.requests.clear()
        return sum(len(r.body) for r in requests), sum(map(is_copy, requests))


@pytest.fixture
def repository(proxy: Proxy, bucket: str, keys: None, tmp_path: Path) -> Any:
    repository = audmodel.Repository(bucket, proxy.url, "s3")
    audmodel.config.REPOSITORIES = [repository]
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")
    return repository


@pytest.fixture
def traffic(repository: audmodel.Repository, proxy: Proxy) -> Traffic:
    return Traffic(proxy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "config.yaml": b"layers: 12",
        "vocabulary": noise(3 * MIB, 1),
        "weights": noise(SIZE, 2),
    }
    return make_folder(tmp_path / "model", files)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy parts of archives that are smaller than it pays for."""
    monkeypatch.setattr(bases, "_LARGE", 1000)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Folder with files that are stored and deflated, large and small."""
    files = {
        "config.yaml": b"layers: 12",
        "large": noise(11 * MIB, 3),
        "packed": packed(12 * MIB),
        "shard-1": noise(200_000, 4),
        "shard-2": noise(300_000, 5),
    }
    return make_folder(tmp_path / "model", files)


def packed(size: int) -> bytes:
    """Bytes that shrink to about a half."""
    return noise(size).translate(bytes(number % 16 for number in range(256)))


def is_copy(request: Request) -> bool:
    return "x-amz-copy-source-range" in request.headers


def publish(root: Path, version: str = "1.0.0", **arguments: Any) -> str:
    return audmodel.publish(str(root), "torch", {}, version, **arguments)


def stored(repository: audmodel.Repository, version: str) -> bytes:
    """Archive of a version, as it is stored."""
    with repository.connect() as backend:
        paths = backend.list_objects("/torch/")
        (path,) = [path for path in paths if path.endswith(f"-{version}.zip")]
        with backend.open_object(path) as reader:
            assert reader is not None
            return bytes(reader.read(0, reader.size))


def whole(root: Path, compression: int = 1) -> bytes:
    """Archive of a folder that is made at once."""
    return b"".join(
        ArchiveWriter(folders.scan(str(root)).files, compression=compression)
    )


def change(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def answering_with_digests(weed: seaweedfs.SeaweedFS) -> proxies.Fault:
    """A storage whose etags of copied parts are digests, as those of AWS."""

    def copy(request: Request, forward: proxies.Forward) -> Response | None:
        if not is_copy(request):
            return forward()
        data = source_of(request, weed)
        return store_part(request, weed, data)

    return copy


def source_of(request: Request, weed: seaweedfs.SeaweedFS) -> bytes:
    """Bytes that a request asks to copy."""
    bucket, _, key = request.headers["x-amz-copy-source"].lstrip("/").partition("/")
    response = weed.client().get_object(
        Bucket=bucket,
        Key=key,
        Range=request.headers["x-amz-copy-source-range"],
        IfMatch=request.headers["x-amz-copy-source-if-match"],
    )
    return bytes(response["Body"].read())


def store_part(request: Request, weed: seaweedfs.SeaweedFS, data: bytes) -> Response:
    """Store bytes as the part that a request asks to copy."""
    path, _, query = request.path.partition("?")
    bucket, _, key = path.lstrip("/").partition("/")
    fields = dict(field.split("=", 1) for field in query.split("&"))
    response = weed.client().upload_part(
        Bucket=bucket,
        Key=key,
        PartNumber=int(fields["partNumber"]),
        UploadId=fields["uploadId"],
        Body=data,
    )
    body = (
        f"<CopyPartResult><ETag>{response['ETag']}</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></CopyPartResult>"
    ).encode()
    return Response(200, [("Content-Type", "application/xml")], body)


# What is sent ---------------------------------------------------------------


def test_only_what_changed_is_sent(
    repository: audmodel.Repository, folder: Path, traffic: Traffic
) -> None:
    publish(folder)
    assert traffic.take() == (len(whole(folder)), 0)
    change(folder / "weights", SIZE // 2, noise(100, 9))
    publish(folder, "2.0.0", num_workers=3)
    sent, copies = traffic.take()
    # A part that changed, 5 MiB, and what follows the files
    assert sent < 10 * MIB
    assert copies == 2
    assert stored(repository, "2.0.0") == whole(folder)


@pytest.mark.parametrize("digests", [False, True])
@pytest.mark.parametrize("compression", [0, 1, 6])
@pytest.mark.sample(2)
def test_what_is_stored_is_what_a_whole_upload_stores(
    repository: audmodel.Repository,
    models: Path,
    traffic: Traffic,
    small: None,
    compression: int,
    digests: bool,
    proxy: Proxy,
    weed: seaweedfs.SeaweedFS,
) -> None:
    if digests:
        proxy.fault = answering_with_digests(weed)
    publish(models, compression=compression)
    (models / "added").write_bytes(noise(3 * MIB, 8))
    change(models / "large", 100, noise(100, 9))
    (models / "shard-1").rename(models / "zzz")
    traffic.take()
    publish(models, "2.0.0", compression=compression, num_workers=3)
    expected = whole(models, compression)
    assert stored(repository, "2.0.0") == expected
    sent, copies = traffic.take()
    assert copies > 0
    # A part of the first file and 6 MiB of others are not known,
    # and a part of the second one may be at the end of what is known
    assert sent < len(expected) - 5 * MIB


@pytest.mark.parametrize("digests", [False, True])
def test_deflated_parts_are_copied_if_the_storage_tells_what_it_copied(
    repository: audmodel.Repository,
    models: Path,
    traffic: Traffic,
    small: None,
    digests: bool,
    proxy: Proxy,
    weed: seaweedfs.SeaweedFS,
) -> None:
    """Their digest is that of a file, and does not say what is stored."""
    if digests:
        proxy.fault = answering_with_digests(weed)
    (models / "large").unlink()
    publish(models)
    traffic.take()
    publish(models, "2.0.0")
    sent, copies = traffic.take()
    size = len(whole(models))
    assert (sent < 0.1 * size, copies > 0) == (digests, digests)
    assert stored(repository, "2.0.0") == whole(models)


# Which model is the base ------------------------------------------------------


def test_the_newest_version_is_the_base(
    repository: audmodel.Repository, models: Path, traffic: Traffic, small: None
) -> None:
    publish(models, "10.0.0")
    large = models / "large"
    content = large.read_bytes()
    large.write_bytes(noise(100))
    publish(models, "9.0.0")
    large.write_bytes(content)
    traffic.take()
    publish(models, "11.0.0")
    sent, copies = traffic.take()
    assert copies > 0
    assert sent < len(whole(models)) - 10 * MIB


def test_another_model_can_be_the_base(
    repository: audmodel.Repository, models: Path, traffic: Traffic, small: None
) -> None:
    base = publish(models)
    short = base.partition("-")[0]
    size = len(whole(models))
    root, params = str(models), {"other": 1}
    for version, name in (("1.0.0", base), ("2.0.0", short)):
        traffic.take()
        audmodel.publish(root, "torch", params, version, base=name)
        sent, copies = traffic.take()
        assert copies > 0
        assert sent < 0.9 * size
    audmodel.publish(root, "torch", params, "3.0.0", base=None)
    assert traffic.take() == (size, 0)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("base", "error"),
    [
        ("01234567-1.0.0", ModelNotFoundError),
        ("01234567", ModelNotFoundError),
        ("an-alias", InvalidInputError),
        ("a b", InvalidIdError),
        (1, TypeError),
    ],
)
def test_wrong_base(
    repository: audmodel.Repository,
    models: Path,
    proxy: Proxy,
    base: Any,
    error: type[Exception],
) -> None:
    with pytest.raises(error, match=r"base|ID"):
        publish(models, base=base)
    assert {r.method for r in proxy.requests} <= {"GET", "HEAD"}


def test_a_model_is_not_its_own_base(
    repository: audmodel.Repository, models: Path
) -> None:
    uid = publish(models, "1.0.0", base=None)
    version = uid.replace("1.0.0", "2.0.0")
    with pytest.raises(ModelNotFoundError, match="base"):
        publish(models, "2.0.0", base=version)


def test_small_archives_are_sent(
    repository: audmodel.Repository, models: Path, traffic: Traffic
) -> None:
    publish(models)
    traffic.take()
    publish(models, "2.0.0")
    assert traffic.take() == (len(whole(models)), 0)


# A base that is not what it should be -----------------------------------------


def break_base(name: str, weed: seaweedfs.SeaweedFS, bucket: str) -> None:
    """Do something to the archive of the first version."""
    client = weed.client()
    listed = client.list_objects_v2(Bucket=bucket, Prefix="torch/")["Contents"]
    (key,) = [item["Key"] for item in listed if item["Key"].endswith("-1.0.0.zip")]
    if name == "delete":
        client.delete_object(Bucket=bucket, Key=key)
        return
    data = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    if name == "damage":
        # In the middle of the first large file
        data = proxies.flip(data, 8 * 2 * MIB)
    elif name == "shorten":
        data = data[: len(data) // 2]
    elif name == "replace":
        data = noise(len(data), 7)
    client.put_object(Bucket=bucket, Key=key, Body=data)


@pytest.mark.sample(2)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("name", ["delete", "replace", "shorten"])
def test_a_base_that_is_gone_costs_a_whole_upload(
    repository: audmodel.Repository,
    models: Path,
    traffic: Traffic,
    small: None,
    bucket: str,
    weed: seaweedfs.SeaweedFS,
    proxy: Proxy,
    name: str,
    when: str,
) -> None:
    publish(models)
    publish(models, "0.9.0")
    if when == "before":
        break_base(name, weed, bucket)
    else:

        def fault(request: Request, forward: proxies.Forward) -> Response | None:
            if is_copy(request) and "/torch/" in request.path:
                break_base(name, weed, bucket)
            return forward()

        proxy.fault = proxies.first(1, fault, when=is_torch_copy)
    publish(models, "2.0.0")
    assert stored(repository, "2.0.0") == whole(models)
    assert not unfinished(weed, bucket)
    # It was no fault of the storage
    traffic.take()
    publish(models, "3.0.0")
    assert traffic.take()[1] > 0
    assert stored(repository, "3.0.0") == whole(models)


def is_torch_copy(request: Request) -> bool:
    return is_copy(request) and request.path.partition("?")[0].endswith(".zip")


def unfinished(weed: seaweedfs.SeaweedFS, bucket: str) -> list[Any]:
    response = weed.client().list_multipart_uploads(Bucket=bucket)
    return list(response.get("Uploads", []))


@pytest.mark.thorough
@pytest.mark.parametrize("digests", [False, True])
def test_damage_of_the_base(
    repository: audmodel.Repository,
    models: Path,
    small: None,
    bucket: str,
    weed: seaweedfs.SeaweedFS,
    proxy: Proxy,
    digests: bool,
) -> None:
    """It is noticed while it is copied, or at last when it is loaded."""
    if digests:
        proxy.fault = answering_with_digests(weed)
    publish(models)
    break_base("damage", weed, bucket)
    uid = publish(models, "2.0.0")
    assert (stored(repository, "2.0.0") == whole(models)) == digests
    if digests:
        audmodel.load(uid)
    else:
        with pytest.raises(ArchiveError, match=r"large|shard"):
            audmodel.load(uid)
        uid = publish(models, "3.0.0", base=None)
        audmodel.load(uid)
    assert not unfinished(weed, bucket)


# A storage that copies nothing, or something else -----------------------------


def refusing(code: int, name: str) -> proxies.Fault:
    refuse = proxies.s3_error(code, name)

    def fault(request: Request, forward: proxies.Forward) -> Response | None:
        return refuse(request, forward) if is_copy(request) else forward()

    return fault


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (400, "InvalidRequest"),
        (403, "AccessDenied"),
        (404, "NoSuchKey"),
        (405, "MethodNotAllowed"),
        (412, "PreconditionFailed"),
        (501, "NotImplemented"),
    ],
)
@pytest.mark.sample(2)
def test_a_storage_that_copies_nothing_is_remembered(
    repository: audmodel.Repository,
    models: Path,
    traffic: Traffic,
    small: None,
    proxy: Proxy,
    code: int,
    name: str,
) -> None:
    proxy.fault = refusing(code, name)
    publish(models)
    publish(models, "2.0.0")
    assert stored(repository, "2.0.0") == whole(models)
    # In this process, and in later ones
    for number in (3, 4):
        forget_servers()
        proxy.requests.clear()
        publish(models, f"{number}.0.0")
        assert not [r for r in proxy.requests if is_copy(r)]
    assert stored(repository, "4.0.0") == whole(models)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["refuse", "sizes"])
def test_a_storage_that_copies_no_longer_is_remembered(
    repository: audmodel.Repository,
    models: Path,
    traffic: Traffic,
    small: None,
    proxy: Proxy,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    kind: str,
) -> None:
    """Some refuse to complete an upload whose parts have different sizes."""
    publish(models)
    publish(models, "2.0.0")
    traffic.take()
    proxy.fault = refusing(501, "NotImplemented")
    if kind == "sizes":
        refuse = proxies.s3_error(400, "InvalidPart")
        # What is sent as a whole has parts of one size
        proxy.fault = proxies.first(1, refuse, when=is_end_of_upload)
    publish(models, "3.0.0")
    copies = traffic.take()[1]
    assert copies > 0
    assert stored(repository, "3.0.0") == whole(models)
    assert not unfinished(weed, bucket)
    proxy.fault = None
    publish(models, "4.0.0")
    assert traffic.take() == (len(whole(models)), 0)


def is_end_of_upload(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.path


@pytest.mark.thorough
def test_a_storage_that_copies_other_bytes_is_found_out(
    repository: audmodel.Repository,
    models: Path,
    traffic: Traffic,
    small: None,
    proxy: Proxy,
    weed: seaweedfs.SeaweedFS,
) -> None:
    def fault(request: Request, forward: proxies.Forward) -> Response | None:
        if not is_copy(request):
            return forward()
        return store_part(request, weed, bytes(len(source_of(request, weed))))

    publish(models)
    proxy.fault = fault
    publish(models, "2.0.0")
    assert stored(repository, "2.0.0") == whole(models)
    proxy.requests.clear()
    publish(models, "3.0.0")
    assert not [r for r in proxy.requests if is_copy(r)]


def test_a_storage_that_lies_is_found_out_by_loading(
    repository: audmodel.Repository,
    models: Path,
    small: None,
    proxy: Proxy,
    weed: seaweedfs.SeaweedFS,
) -> None:
    """It copied the right bytes when it was tested."""

    def fault(request: Request, forward: proxies.Forward) -> Response | None:
        if not is_torch_copy(request):
            return forward()
        response = store_part(request, weed, bytes(len(source_of(request, weed))))
        # No digest of anything
        response.body = response.body.replace(b"</ETag>", b"-2</ETag>")
        return response

    publish(models)
    uid = publish(models, "2.0.0")
    audmodel.load(uid)
    proxy.fault = fault
    uid = publish(models, "3.0.0")
    proxy.fault = None
    if stored(repository, "3.0.0") != whole(models):
        with pytest.raises(ArchiveError, match="large"):
            audmodel.load(uid)
        uid = publish(models, "4.0.0", base=None)
    audmodel.load(uid)


@pytest.mark.thorough
@pytest.mark.parametrize("versions", [("2.0.0", "3.0.0"), ("2.0.0", "2.0.0")])
def test_two_publishers_with_one_base(
    repository: audmodel.Repository,
    models: Path,
    tmp_path: Path,
    small: None,
    versions: tuple[str, str],
    weed: seaweedfs.SeaweedFS,
    bucket: str,
) -> None:
    publish(models)
    publish(models, "0.9.0")
    roots = [tmp_path / name for name in ("left", "right")]
    for number, root in enumerate(roots):
        shutil.copytree(models, root)
        change(root / "large", 10 * MIB, noise(100, number))
    done: dict[int, str] = {}

    def run(number: int) -> None:
        with contextlib.suppress(ModelExistsError, PublishConflictError):
            done[number] = publish(roots[number], versions[number])

    threads = [threading.Thread(target=run, args=[number]) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(set(versions))
    for number in done:
        assert stored(repository, versions[number]) == whole(roots[number])
    assert not unfinished(weed, bucket)


# What is told ------------------------------------------------------------------


@pytest.mark.parametrize("digests", [False, True])
def test_plan_is_what_happens(
    repository: audmodel.Repository,
    models: Path,
    traffic: Traffic,
    small: None,
    proxy: Proxy,
    weed: seaweedfs.SeaweedFS,
    digests: bool,
) -> None:
    if digests:
        proxy.fault = answering_with_digests(weed)
    publish(models)
    # What the storage does is found out by a publisher
    publish(models, "2.0.0")
    change(models / "large", 10 * MIB, noise(100, 9))
    arguments: Any = (str(models), "torch", {}, "3.0.0")
    proxy.requests.clear()
    planned = audmodel.plan_publish(*arguments)
    assert {request.method for request in proxy.requests} == {"GET"}
    everything = audmodel.plan_publish(*arguments, base=None)
    assert planned.bytes < everything.bytes - 5 * MIB
    before = len(proxy.requests)
    publish(models, "3.0.0")
    requests = len(proxy.requests) - before
    sent, copies = traffic.take()
    assert copies > 0
    assert planned.bytes == sent
    # It counts neither how the base is found nor what is read of it
    assert 0 <= requests - planned.requests < 12
    with pytest.raises(ModelNotFoundError):
        audmodel.plan_publish(str(models), "torch", {}, "4.0.0", base="01234567")


def test_plan_stores_nothing_to_test_a_storage(
    repository: audmodel.Repository, models: Path, small: None, proxy: Proxy
) -> None:
    publish(models)
    proxy.requests.clear()
    planned = audmodel.plan_publish(str(models), "torch", {}, "2.0.0")
    assert {request.method for request in proxy.requests} == {"GET"}
    assert planned.bytes < len(whole(models)) - 5 * MIB


@pytest.mark.parametrize(
    ("fault", "ok", "seen"),
    [
        (None, True, "all bytes were right"),
        ("digests", True, "their etag is a digest"),
        ("refuse", True, "it was refused"),
        ("lie", False, "other bytes"),
    ],
)
def test_check_tells_what_is_copied(
    repository: audmodel.Repository,
    proxy: Proxy,
    weed: seaweedfs.SeaweedFS,
    fault: str | None,
    ok: bool,
    seen: str,
) -> None:
    def lie(request: Request, forward: proxies.Forward) -> Response | None:
        if not is_copy(request):
            return forward()
        return store_part(request, weed, bytes(len(source_of(request, weed))))

    faults: dict[str | None, proxies.Fault] = {
        "digests": answering_with_digests(weed),
        "refuse": refusing(501, "NotImplemented"),
        "lie": lie,
    }
    proxy.fault = faults.get(fault)
    report = audmodel.check_repository(repository)
    check = report.checks[-1]
    assert (check.ok, report.ok) == (ok, ok)
    assert seen in check.seen
    with repository.connect() as backend:
        assert backend.list_objects("/") == []


def test_what_is_kept_about_copies_is_checked(home: Path) -> None:
    store = ("https://host", "bucket", "Strange")
    assert verdicts.recall_copying(*store) is None
    verdicts.remember_copying(Copying.ALL.name, *store)
    assert verdicts.recall_copying(*store) == "ALL"
    assert verdicts.recall(*store) is None
