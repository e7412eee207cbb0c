"""Objects on an Artifactory server, or what stands for one."""

from __future__ import annotations

from collections.abc import Iterator
import hashlib
import json
from pathlib import Path
import tempfile
from typing import Any

import pytest

import audmodel
from audmodel import errors
from audmodel.core.backend.artifactory import server as artifactory_requests
from audmodel.core.backend.artifactory.backend import Artifactory
from audmodel.core.backend.http import transfer
from audmodel.core.backend.objects import ANY
from tests.backends import proxy as faults
from tests.backends.artifactory_server import ArtifactoryServer
from tests.backends.artifactory_server import User
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response


MIB = 1024 * 1024
LARGE = hashlib.shake_128(b"large").digest(9 * MIB)


@pytest.fixture
def server() -> Iterator[ArtifactoryServer]:
    with ArtifactoryServer() as server:
        server.users["tester"] = User("secret")
        server.users["creator"] = User("secret", may_delete=False)
        server.users["reader"] = User("secret", may_deploy=False, may_delete=False)
        server.repositories["models"] = {}
        yield server


@pytest.fixture
def proxy(server: ArtifactoryServer) -> Iterator[Proxy]:
    with Proxy(server.host) as proxy:
        yield proxy


@pytest.fixture
def backend(login: None, hasty: None, proxy: Proxy) -> Iterator[Artifactory]:
    with Artifactory(f"{proxy.url}/artifactory", "models") as backend:
        yield backend


def read(backend: Artifactory, path: str) -> bytes | None:
    stored = backend.read_object(path, 100)
    return None if stored is None else stored.data


def as_user(server: ArtifactoryServer, name: str) -> Artifactory:
    return Artifactory(server.url, "models", authentication=(name, "secret"))


# Small objects ----------------------------------------------------------------


def test_replace(backend: Artifactory) -> None:
    assert not backend.replace_object("/a", b"new", "0")
    assert backend.create_object("/a", b"old")
    stored = backend.read_object("/a", 100)
    assert stored is not None
    assert not backend.replace_object("/a", b"new", "0")
    assert backend.replace_object("/a", b"new", stored.etag)
    assert read(backend, "/a") == b"new"


def test_lost_answer_is_no_refusal(
    server: ArtifactoryServer, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(server.host) as proxy:

        def lose(request: Request, forward: faults.Forward) -> Response | None:
            if request.method != "PUT":
                return forward()
            proxy.fault = None
            faults.lose_response(request, forward)
            return None

        proxy.fault = lose
        url = f"{proxy.url}/artifactory"
        backend = Artifactory(url, "models", authentication=("creator", "secret"))
        assert backend.create_object("/a", b"ours")
        # Asked once more, the server says that it must not be overwritten
        assert server.repositories["models"].keys() == {"a"}


@pytest.mark.parametrize("status", [200, 204])
def test_page_of_a_proxy_is_no_object(
    backend: Artifactory, proxy: Proxy, status: int
) -> None:
    page = b"<html>Please log in</html>" if status == 200 else b""
    proxy.fault = faults.status(status, page)
    for call in (
        lambda: backend.create_object("/a", b"x"),
        lambda: backend.read_object("/a", 100),
        lambda: backend.open_object("/a").__enter__(),
    ):
        with pytest.raises(errors.RepositoryError, match=f"{status} is not Artifac"):
            call()


def test_who_must_not_overwrite_is_told_by_the_server(
    server: ArtifactoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = as_user(server, "creator")
    assert as_user(server, "creator").create_object("/a", b"theirs")
    # As if somebody else stored it just after the look
    looks = iter([False, True])
    monkeypatch.setattr(backend, "_exists", lambda path: next(looks))
    assert not backend.create_object("/a", b"ours")
    assert read(as_user(server, "reader"), "/a") == b"theirs"


def test_who_must_not_write(server: ArtifactoryServer) -> None:
    backend = as_user(server, "reader")
    for call in (
        lambda: backend.create_object("/a", b"x"),
        lambda: backend.write_object("/a", [b"x"]),
        lambda: backend.write_object("/a", [LARGE]),
    ):
        with pytest.raises(errors.RepositoryError, match="access is denied"):
            call()
    as_user(server, "tester").write_object("/a", [b"x"])
    with pytest.raises(errors.RepositoryError, match="access is denied"):
        backend.delete_object("/a", ANY)


# Listing ----------------------------------------------------------------------


@pytest.mark.parametrize("edition", ["pro", "oss"])
def test_listing(backend: Artifactory, server: ArtifactoryServer, edition: str) -> None:
    server.edition = edition
    paths = ["/a", "/b/c", "/b/d/e", "/bb/f"]
    for path in paths:
        backend.write_object(path, [b"x"])
    assert sorted(backend.list_objects("/")) == paths
    assert sorted(backend.list_objects("/b/")) == ["/b/c", "/b/d/e"]
    assert backend.list_objects("/c/") == []


def test_anonymous_users_list_as_well(server: ArtifactoryServer) -> None:
    as_user(server, "tester").write_object("/a/b", [b"x"])
    backend = Artifactory(server.url, "models")
    with pytest.raises(errors.RepositoryError, match="no credentials were found"):
        backend.list_objects("/")
    server.anonymous_reads = True
    assert backend.list_objects("/") == ["/a/b"]


def test_a_folder_that_vanishes_while_it_is_listed(
    backend: Artifactory, server: ArtifactoryServer, proxy: Proxy
) -> None:
    server.edition = "oss"
    backend.write_object("/a/b", [b"x"])
    proxy.fault = faults.first(
        1,
        faults.status(404, b'{"errors": []}'),
        when=lambda request: request.path.endswith("/models/a"),
    )
    assert backend.list_objects("/") == []


@pytest.mark.parametrize("name", ["", "/", "/.", "/..", "/../models", "//", "/./."])
def test_a_folder_that_is_in_itself(
    backend: Artifactory, server: ArtifactoryServer, proxy: Proxy, name: str
) -> None:
    server.edition = "oss"
    children = [{"uri": name, "folder": True}, {"uri": "/a", "folder": False}]
    listing = faults.status(200, json.dumps({"children": children}).encode())

    def circle(request: Request, forward: faults.Forward) -> Response | None:
        deep = "?" in request.path
        return forward() if deep else listing(request, forward)

    proxy.fault = circle
    assert backend.list_objects("/") == ["/a"]


# Storing ----------------------------------------------------------------------


def test_small_objects_take_one_request(backend: Artifactory, proxy: Proxy) -> None:
    backend.write_object("/a", [b"0123", bytearray(b"4567")])
    (request,) = proxy.requests
    assert request.method == "PUT"
    digest = hashlib.sha256(b"01234567").hexdigest()
    assert request.headers["x-checksum-sha256"] == digest
    assert request.headers["content-length"] == "8"
    assert "x-checksum-deploy" not in request.headers


def test_bytes_that_the_server_has_are_not_sent_again(
    backend: Artifactory, proxy: Proxy
) -> None:
    chunks = [LARGE[: 5 * MIB], LARGE[5 * MIB :]]
    backend.write_object("/a", chunks)
    deployments = [request for request in proxy.requests if request.method == "PUT"]
    assert [len(request.body) for request in deployments] == [0, len(LARGE)]
    assert deployments[0].headers["x-checksum-deploy"] == "true"
    with proxy.counting() as requests:
        backend.write_object("/b", iter(chunks))
    assert len(requests) == 1
    for path in ("/a", "/b"):
        with backend.open_object(path) as reader:
            assert reader is not None
            assert reader.read(0, reader.size) == LARGE


def test_large_objects_need_no_memory(
    backend: Artifactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    original = tempfile.TemporaryFile

    def watched(**arguments: Any) -> Any:
        file = original(**arguments)
        opened.append((arguments["dir"], file))
        return file

    monkeypatch.setattr(tempfile, "TemporaryFile", watched)
    backend.write_object("/a", [LARGE], tmp_root=str(tmp_path))
    ((folder, file),) = opened
    assert folder == str(tmp_path)
    assert file.closed
    assert list(tmp_path.iterdir()) == []


def test_folder_for_temporary_files_in_the_home_folder(
    backend: Artifactory, proxy: Proxy, home: Path, model_folder: Path
) -> None:
    (model_folder / "large").write_bytes(LARGE)
    audmodel.config.REPOSITORIES = [
        audmodel.Repository("models", f"{proxy.url}/artifactory", "artifactory")
    ]
    uid = audmodel.publish(
        str(model_folder), "torch", {}, "1.0.0", tmp_root="~/new/tmp"
    )
    assert audmodel.exists(uid)
    assert list((home / "new" / "tmp").iterdir()) == []


@pytest.mark.parametrize("data", [b"small", LARGE])
def test_damage_on_the_way_is_noticed(
    backend: Artifactory, proxy: Proxy, server: ArtifactoryServer, data: bytes
) -> None:
    def damage(request: Request, forward: faults.Forward) -> Response | None:
        if request.body:
            request.body = b"X" + request.body[1:]
        return forward()

    proxy.fault = faults.first(2, damage)
    backend.write_object("/a", [data])
    assert server.repositories["models"]["a"].data == data
    proxy.fault = damage
    with pytest.raises(errors.RepositoryError):
        backend.write_object("/b", [data[::-1]])
    assert "b" not in server.repositories["models"]


def test_a_server_that_does_not_check(
    backend: Artifactory, proxy: Proxy, server: ArtifactoryServer
) -> None:
    def other_checksum(body: bytes) -> bytes:
        return b'{"checksums": {"sha256": "0"}}'

    proxy.fault = faults.first(
        1, faults.change(body=other_checksum, Content_Length="30")
    )
    with pytest.raises(errors.RepositoryError, match="checksum on the server differs"):
        backend.write_object("/a", [b"x"])
    assert server.repositories["models"] == {}


def test_making_chunks_fails(backend: Artifactory, server: ArtifactoryServer) -> None:
    class BrokenError(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield LARGE
        raise BrokenError

    with pytest.raises(BrokenError):
        backend.write_object("/a", broken())
    assert server.repositories["models"] == {}


# Which of the responses means what ---------------------------------------------


def test_missing_repository(login: None, server: ArtifactoryServer) -> None:
    backend = Artifactory(server.url, "missing")
    for call in (
        lambda: backend.read_object("/a", 10),
        lambda: backend.write_object("/a", [b"x"]),
        lambda: backend.list_objects("/"),
    ):
        with pytest.raises(errors.RepositoryNotFoundError, match="it does not exist"):
            call()


def test_a_repository_is_looked_for_once(backend: Artifactory, proxy: Proxy) -> None:
    assert backend.read_object("/a", 10) is None
    assert len(proxy.requests) == 2
    assert backend.read_object("/a", 10) is None
    assert len(proxy.requests) == 3


def test_looking_for_a_repository_fails(backend: Artifactory, proxy: Proxy) -> None:
    def is_repository(request: Request) -> bool:
        return request.path.endswith("/api/storage/models")

    proxy.fault = faults.first(1000, faults.status(503), when=is_repository)
    with pytest.raises(errors.RepositoryUnreachableError, match="503"):
        backend.read_object("/a", 10)
    # Whoever must not look at the repository may still read objects
    proxy.fault = faults.first(1, faults.status(403), when=is_repository)
    assert backend.read_object("/a", 10) is None


def test_a_host_without_its_path(login: None, server: ArtifactoryServer) -> None:
    backend = Artifactory(f"http://{server.host}", "models")
    with pytest.raises(errors.RepositoryError, match="often ends with '/artifactory'"):
        backend.read_object("/a", 10)


def test_an_answer_without_its_own_headers(
    backend: Artifactory, proxy: Proxy, server: ArtifactoryServer
) -> None:
    proxy.fault = faults.change(X_Artifactory_Id=None)
    assert backend.read_object("/a", 10) is None
    proxy.fault = faults.status(404, b"[]")
    with pytest.raises(errors.RepositoryError, match="is not Artifactory"):
        backend.read_object("/a", 10)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, errors.RepositoryError, "does not accept the credentials"),
        (403, errors.RepositoryError, "access is denied"),
        (400, errors.RepositoryError, "the server responded with 400"),
        (302, errors.RepositoryError, "the server responded with 302"),
        (429, errors.RepositoryUnreachableError, "the server responded with 429"),
        (503, errors.RepositoryUnreachableError, "the server responded with 503"),
    ],
)
def test_only_absent_means_absent(
    backend: Artifactory,
    proxy: Proxy,
    status: int,
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "BUDGET", 0.1)
    proxy.fault = faults.status(status)
    for call in (
        lambda: backend.read_object("/a", 100),
        lambda: backend.open_object("/a").__enter__(),
        lambda: backend.list_objects("/a/"),
        lambda: backend.write_object("/a", [b"x"]),
        lambda: backend.create_object("/a", b"x"),
        lambda: backend.replace_object("/a", b"x", "etag"),
        lambda: backend.delete_object("/a", ANY),
    ):
        with pytest.raises(error, match=message) as info:
            call()
        assert type(info.value) is error


def test_a_server_that_leads_in_a_circle(backend: Artifactory, proxy: Proxy) -> None:
    target = f"{proxy.url}/artifactory/models/a"
    proxy.fault = faults.status(302, Location=target)
    with pytest.raises(errors.RepositoryError, match="in a circle"):
        backend.read_object("/a", 100)
    proxy.fault = faults.status(302, Location="ftp://localhost/")
    with pytest.raises(errors.RepositoryError, match="redirects to another server"):
        backend.read_object("/a", 100)
    proxy.fault = faults.status(302, Location="http://[/")
    with pytest.raises(errors.RepositoryError):
        backend.read_object("/a", 100)


def test_credentials_are_not_sent_elsewhere(backend: Artifactory, proxy: Proxy) -> None:
    with Proxy("nowhere:1") as elsewhere:
        elsewhere.fault = faults.status(200, b"x")
        # Another name is another host
        target = elsewhere.url.replace("127.0.0.1", "localhost")
        proxy.fault = faults.status(302, Location=f"{target}/a", X_Artifactory_Id="1")
        assert read(backend, "/a") == b"x"
        assert "authorization" in proxy.requests[-1].headers
        assert "authorization" not in elsewhere.requests[-1].headers


def test_tls_is_not_left() -> None:
    session = artifactory_requests._make_session("https://localhost", None)
    assert list(session.adapters) == ["https://"]
    assert session.verify is True
    session.close()


# Passing trouble --------------------------------------------------------------


def test_a_server_that_gives_no_ranges(backend: Artifactory, proxy: Proxy) -> None:
    backend.write_object("/a", [LARGE])
    with backend.open_object("/a") as reader:
        assert reader is not None
        proxy.fault = faults.change(status=200)
        with pytest.raises(errors.RepositoryError, match="not support range"):
            reader.read(0, MIB)
    proxy.fault = lambda _, __: Response(
        200, [("X-Artifactory-Id", "1"), ("Content-Length", "9999999")], LARGE
    )
    with (
        pytest.raises(errors.RepositoryError, match="not support range"),
        backend.open_object("/a"),
    ):
        pass


def test_opening_with_a_wrong_answer(backend: Artifactory, proxy: Proxy) -> None:
    backend.write_object("/a", [b"0123456789"])
    proxy.fault = faults.change(Content_Range="bytes 0-9/100")
    with (
        pytest.raises(errors.RepositoryError, match="other bytes than requested"),
        backend.open_object("/a"),
    ):
        pass
    proxy.fault = faults.change(Content_Length=None, X_Checksum_Sha256=None)
    with pytest.raises(errors.RepositoryError, match="does not send the size"):
        read(backend, "/a")


def test_an_endless_listing_is_refused(backend: Artifactory, proxy: Proxy) -> None:
    proxy.fault = faults.change(Content_Length=str(10**12))
    with pytest.raises(errors.RepositoryError, match="bytes"):
        backend.list_objects("/")


@pytest.mark.parametrize("status", [200, 400, 404])
def test_an_answer_that_is_too_deep(
    backend: Artifactory, proxy: Proxy, hasty: None, status: int
) -> None:
    proxy.fault = faults.status(status, b"[" * 200_000)
    with pytest.raises(errors.RepositoryError):
        backend.list_objects("/")


def test_a_listing_that_is_no_listing(backend: Artifactory, proxy: Proxy) -> None:
    proxy.fault = faults.status(200, b"[]")
    assert backend.list_objects("/") == []
    proxy.fault = faults.status(200, b"<html>")
    with pytest.raises(errors.RepositoryUnreachableError, match="was truncated"):
        backend.list_objects("/")


# Credentials ------------------------------------------------------------------


def test_kinds_of_credentials(
    server: ArtifactoryServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def can_write() -> bool:
        try:
            Artifactory(server.url, "models").write_object("/a", [b"x"])
        except errors.RepositoryError:
            return False
        return True

    bare = server.url.removeprefix("http://")
    assert not can_write()
    file = home / ".artifactory_python.cfg"
    file.write_text(f"[{bare}]\nusername = tester\npassword = secret\n")
    assert can_write()
    file.write_text(f"[{server.url}]\nusername = tester\npassword = secret\n")
    assert can_write()
    file.write_text("[elsewhere]\nusername = tester\npassword = secret\n")
    assert not can_write()
    other = home / "other.cfg"
    other.write_text(f"[{bare}]\nusername = tester\npassword = secret\n")
    monkeypatch.setenv("ARTIFACTORY_CONFIG_FILE", str(other))
    assert can_write()
    monkeypatch.setenv("ARTIFACTORY_USERNAME", "tester")
    monkeypatch.setenv("ARTIFACTORY_API_KEY", "wrong")
    assert not can_write()
    monkeypatch.setenv("ARTIFACTORY_API_KEY_127_0_0_1", "secret")
    assert can_write()
    # A token needs no name
    server.tokens["token"] = User("token")
    other.unlink()
    monkeypatch.delenv("ARTIFACTORY_USERNAME")
    monkeypatch.setenv("ARTIFACTORY_API_KEY_127_0_0_1", "token")
    assert can_write()


def test_netrc_is_not_looked_at(server: ArtifactoryServer, home: Path) -> None:
    netrc = home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login tester password secret\n")
    netrc.chmod(0o600)
    with pytest.raises(errors.RepositoryError, match="no credentials were found"):
        Artifactory(server.url, "models").read_object("/a", 10)


def test_cookies_are_not_sent_back(backend: Artifactory, proxy: Proxy) -> None:
    backend.write_object("/a", [b"x"])
    read(backend, "/a")
    assert not any("cookie" in request.headers for request in proxy.requests)


@pytest.mark.parametrize("host", ["", "https://", "ftp://a", "http://a:0", "http://[a"])
def test_invalid_host(host: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="not the URL of a server"):
        Artifactory(host, "models")


def test_credentials_do_not_belong_into_the_host() -> None:
    with pytest.raises(errors.ConfigurationError) as info:
        Artifactory("https://user:geheim@localhost", "b")
    assert "geheim" not in str(info.value)


def test_encryption_is_the_default() -> None:
    assert Artifactory("localhost/artifactory", "b").object_url("/a b") == (
        "https://localhost/artifactory/b/a%20b"
    )


# Processes, threads, and the interface of audbackend ----------------------------


def test_connections_are_kept(backend: Artifactory, proxy: Proxy) -> None:
    backend.write_object("/a", [b"x"])
    for _ in range(5):
        read(backend, "/a")
        backend.list_objects("/")
    with Artifactory(f"{proxy.url}/artifactory", "models") as other:
        read(other, "/a")
    assert proxy.connections == 1


def test_size(backend: Artifactory) -> None:
    backend.write_object("/a", [b"12345"])
    assert backend._size("/a") == 5


def test_an_answer_that_breaks_off_is_no_answer_of_artifactory(
    backend: Artifactory, proxy: Proxy
) -> None:
    fault = faults.change(X_Artifactory_Id=None, cut_after=3)
    proxy.fault = fault
    with pytest.raises(errors.RepositoryError, match="is not Artifactory"):
        backend.read_object("/a", 10)
