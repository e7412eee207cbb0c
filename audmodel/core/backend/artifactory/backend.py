r"""Repository in a repository of an Artifactory server."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import datetime
import hashlib
import itertools
import tempfile
from typing import IO
from typing import TYPE_CHECKING
from typing import Any
from typing import cast

from audmodel.core.backend.access import Access
from audmodel.core.backend.artifactory import server as artifactory_requests
from audmodel.core.backend.artifactory.server import LARGEST_JSON
from audmodel.core.backend.artifactory.server import MIB
from audmodel.core.backend.artifactory.server import Checksums
from audmodel.core.backend.artifactory.server import Server
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.host import without_login
from audmodel.core.backend.http import credentials
from audmodel.core.backend.http.backend import CHUNK
from audmodel.core.backend.http.backend import RemoteBackend
from audmodel.core.backend.http.store import ObjectResponse
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import server_time
from audmodel.core.backend.http.urls import server
from audmodel.core.backend.objects import ObjectState
from audmodel.core.backend.objects import StoredObject
from audmodel.core.backend.objects import Write
from audmodel.core.errors import ConfigurationError
from audmodel.core.ranges import Buffer


if TYPE_CHECKING:
    import requests


# Larger objects are first offered by checksum, in case the server has their content.
# If it has not, this takes one request more
_SMALL = 8 * MIB
# The server responds after it has checked and filed the object
DEPLOY_TIMEOUT = 120.0
# HTTP header of an object
_CHECKSUM = "x-checksum-sha256"


class Artifactory(RemoteBackend):
    r"""Backend for Artifactory servers.

    Args:
        host: URL of the server, which often ends with ``/artifactory``
        repository: name of the repository on the server
        authentication: user name and password, API key or token,
            looked up in environment and configuration if not given.
            With an empty user name the second one is an access token

    """

    no_conditional_writes = (
        "Artifactory has no conditional writes. "
        "Let publishers use an account that may deploy but not overwrite archives, "
        "see the documentation on backends, or let only one publish at a time."
    )
    deletes_blindly = True

    def __init__(
        self,
        host: str,
        repository: str,
        *,
        authentication: tuple[str, str] | None = None,
    ) -> None:
        # The frames of an error hold no secret either
        host = without_login(host)
        # The base class would keep the secret as a public attribute
        super().__init__(host, repository, authentication=None)
        self._url = _base_url(host)
        if authentication is None:
            authentication = credentials.artifactory_credentials(host)
        if authentication is not None:
            credentials.register_secrets(authentication[1])
            credentials.check(f"The credentials for {host!r}", *authentication)
        self._store: Server = Server(self._url, repository, authentication)

    # ------------------------------------------------------------ small objects

    def _has_checksum(self, response: ObjectResponse) -> bool:
        return _CHECKSUM in response.headers

    def _checked(self, response: ObjectResponse, data: bytes) -> StoredObject:
        digest = hashlib.sha256(data).hexdigest()
        expected = response.headers.get(_CHECKSUM)
        return StoredObject(data, digest, expected not in (None, digest))

    def create_object(self, path: str, data: bytes) -> bool:  # noqa: D102
        # Artifactory has no conditional writes: look first, then write
        if self._exists(path):
            return False
        try:
            self._deploy_small(path, data)
        except RequestError as failure:
            # An account that may not overwrite is refused
            # if another client was faster, or if a response was lost
            stored = self.read_object(path, limit=LARGEST_JSON)
            if stored is not None:
                return stored.data == data
            raise failure.error(
                f"Could not create '{self.object_url(path)}'"
            ) from failure
        return True

    def replace_object(self, path: str, data: bytes, etag: str) -> bool:  # noqa: D102
        current = self.read_damaged(path, limit=LARGEST_JSON)
        if current is None or current.etag != etag:
            return False
        self._put(path, data)
        return True

    def stat_object(self, path: str) -> ObjectState | None:  # noqa: D102
        try:
            found = self._description(path)
            return ObjectState(
                str(found["checksums"]["sha256"]),
                datetime.datetime.fromisoformat(found["lastModified"]),
                int(found["size"]) if "size" in found else None,
            )
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError):
            raise RepositoryError(
                f"Could not look up '{self.object_url(path)}': "
                "the response has no checksum, no time, or a size that is no number."
            ) from None

    def delete_object(self, path: str, etag: str) -> bool:  # noqa: D102
        def attempt() -> bool:
            # Another process may have stored a new one since the last attempt
            if not self._has_etag(path, etag):
                return self.stat_object(path) is None
            self._store.send("DELETE", self.object_url(path)).close()
            return True

        try:
            return self._store.repeat("delete", path, attempt, (Kind.ABSENT,))
        except RequestError:
            return True

    def access(self) -> Access:  # noqa: D102
        return self._store.access(self.host)

    def now(self) -> datetime.datetime:  # noqa: D102
        what = f"Could not get the time of '{self._url}'"

        def attempt() -> datetime.datetime:
            url = self._store.storage_url("/")
            with contextlib.closing(self._store.send("GET", url)) as response:
                return server_time(response.headers, what)

        return self._store.repeat("look up", "/", attempt, ())

    # ------------------------------------------------------------ listing

    def object_sizes(self, folder: str) -> Mapping[str, int | None]:  # noqa: D102
        url = f"{self._store.storage_url(folder)}?list&deep=1&listFolders=0"
        try:
            listing = self._store.call(
                "list",
                folder,
                lambda: self._store.send("GET", url),
                body=True,
                # Some editions lack this call, and anonymous users may not use it
                expected=(Kind.ABSENT, Kind.DENIED, Kind.OTHER),
            )
        except RequestError as failure:
            found = [] if failure.kind is Kind.ABSENT else self._walk(folder)
            return dict.fromkeys(found)
        return {
            folder + str(entry["uri"]).lstrip("/"): entry.get("size")
            for entry in listing.get("files", [])
            if not _is_folder(entry)
        }

    def _walk(self, folder: str) -> Iterator[str]:
        r"""Paths of objects, folder by folder."""
        for name, is_folder in self._children(folder):
            if is_folder:
                yield from self._walk(f"{folder}{name}/")
            else:
                yield folder + name

    def _children(self, folder: str) -> list[tuple[str, bool]]:
        r"""Names in a folder, and whether they are of folders."""
        try:
            response = self._store.call(
                "list",
                folder,
                lambda: self._store.send("GET", self._store.storage_url(folder)),
                body=True,
            )
        except RequestError:
            return []
        children = [
            (str(child["uri"]).strip("/"), _is_folder(child))
            for child in response.get("children", [])
        ]
        # A folder that is its own child has no end
        return [
            (name, is_folder)
            for name, is_folder in children
            if "/" not in name and name not in ("", ".", "..")
        ]

    # ------------------------------------------------------------ objects

    def _write_object(
        self, path: str, chunks: Iterable[Buffer], how: Write
    ) -> str | None:
        remaining = iter(chunks)
        pieces: list[Buffer] = []
        size = 0
        for chunk in remaining:
            pieces.append(chunk if isinstance(chunk, bytes) else bytes(chunk))
            size += len(chunk)
            if size > _SMALL:
                break
        else:
            how.before_commit()
            if not self._may_write(path, how.replaces):
                return None
            data = b"".join(pieces)
            self._put(path, data)
            how.sent(len(data))
            return self.etag_of(data)
        # The checksums are sent before the content,
        # but are known only after all of it was made.
        # The file has no name, and vanishes with the process
        with tempfile.TemporaryFile(dir=how.tmp_root) as file:
            checksums = Checksums()
            for chunk in itertools.chain(pieces, remaining):
                checksums.update(chunk)
                file.write(chunk)
            how.before_commit()
            if not self._may_write(path, how.replaces):
                return None
            self._put_large(path, file, checksums, how)
            return checksums.sha256

    def _put(self, path: str, data: bytes) -> None:
        try:
            self._deploy_small(path, data)
        except RequestError as failure:
            raise failure.error(f"Could not store '{self.object_url(path)}'") from (
                failure
            )

    def _deploy_small(self, path: str, data: bytes) -> None:
        checksums = Checksums()
        checksums.update(data)
        self._deploy(
            path,
            checksums,
            lambda: self._deploy_request(path, checksums.headers, data),
        )

    def _put_large(
        self, path: str, file: IO[bytes], checksums: Checksums, how: Write
    ) -> None:
        size = file.tell()
        content = cast(IO[bytes], _Counted(file, how.sent))

        def send() -> requests.Response:
            file.seek(0)
            return self._deploy_request(path, checksums.headers, content)

        by_checksum = {**checksums.headers, "X-Checksum-Deploy": "true"}
        try:
            try:
                self._deploy(
                    path,
                    checksums,
                    lambda: self._deploy_request(path, by_checksum, b""),
                )
                how.copied(size)
            except RequestError as failure:
                if failure.kind is not Kind.ABSENT:
                    raise
                self._deploy(path, checksums, send)
        except RequestError as failure:
            raise failure.error(f"Could not store '{self.object_url(path)}'") from (
                failure
            )

    def _deploy(
        self,
        path: str,
        checksums: Checksums,
        send: Callable[[], requests.Response],
    ) -> None:
        r"""Store an object, and make sure that it arrived undamaged.

        Raises:
            RequestError: if the server refuses it
            RepositoryError: if it cannot be stored

        """
        response = self._store.call(
            "store",
            path,
            send,
            body=True,
            expected=(Kind.ABSENT, Kind.DENIED),
            is_write=True,
        )
        if not checksums.match(response.get("checksums", {})):
            stored = self.stat_object(path)
            if stored is not None:
                self.delete_object(path, stored.etag)
            raise RepositoryError(
                f"Could not store '{self.object_url(path)}': "
                "its checksum on the server differs."
            )

    def _deploy_request(
        self, path: str, headers: dict[str, str], data: bytes | IO[bytes]
    ) -> requests.Response:
        return self._store.send(
            "PUT",
            self.object_url(path),
            headers=headers,
            data=data,
            timeout=DEPLOY_TIMEOUT,
        )

    # ------------------------------------------------------------ audbackend

    def _description(self, path: str) -> dict[str, Any]:
        r"""What the storage knows about an object that has to exist."""
        try:
            return self._store.call(
                "look up",
                path,
                lambda: self._store.send("GET", self._store.storage_url(path)),
                body=True,
            )
        except RequestError as failure:
            raise self._missing(path) from failure

    def _checksum(self, path: str) -> str:
        return str(self._description(path).get("checksums", {}).get("md5", ""))

    def _create(self) -> None:
        self._manage("create", "PUT", {"rclass": "local", "packageType": "generic"})

    def _date(self, path: str) -> str:
        return str(self._description(path).get("lastModified", ""))[:10]

    def _delete(self) -> None:
        self._manage("delete", "DELETE", None)
        artifactory_requests.forget_repository(self._url, self.repository)

    def _manage(self, action: str, method: str, settings: Any) -> None:
        url = self._store.management_url()
        try:
            self._store.send(method, url, json=settings).close()
        except RequestError as failure:
            raise failure.error(
                f"Could not {action} the repository '{self.repository}'"
            ) from failure

    def _ls_dirs(self, path: str) -> list[str]:
        children = self._children(path)
        if not children and path != "/":
            raise FileNotFoundError(f"There is no folder '{self.object_url(path)}'.")
        return [name for name, is_folder in children if is_folder]

    def _owner(self, path: str) -> str:
        return str(self._description(path).get("createdBy", ""))

    def _put_file(
        self, src_path: str, dst_path: str, checksum: str, verbose: bool
    ) -> None:
        with open(src_path, "rb") as file:
            self.write_object(dst_path, iter(lambda: file.read(CHUNK), b""))

    def _size(self, path: str) -> int:
        return int(self._description(path)["size"])


def _base_url(host: str) -> str:
    url = host if "://" in host else f"https://{host}"
    parts = server(url)
    if parts is None or parts.scheme not in ("http", "https") or parts.query:
        raise ConfigurationError(f"{host!r} is not the URL of a server.")
    return url.rstrip("/")


def _is_folder(entry: dict[str, Any]) -> bool:
    # It is a boolean in some versions and a string in others
    return str(entry.get("folder", False)).lower() == "true"


class _Counted:
    r"""File whose bytes are counted when they are read first."""

    def __init__(self, file: IO[bytes], sent: Callable[[int], object]) -> None:
        self._file = file
        self._sent = sent
        self._most = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        r"""Next bytes."""
        data = self._file.read(size)
        position = self._file.tell()
        if position > self._most:
            self._sent(position - self._most)
            self._most = position
        return data
