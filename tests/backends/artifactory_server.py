"""A strict stand-in for Artifactory.

It speaks the calls of the REST interface that are documented by JFrog
and that the backend uses, and nothing else.
What the documentation calls wrong it refuses:
checksums that do not match, a checksum of no known kind,
a checksum deployment without checksum,
listings for anonymous users or in the free edition,
overwriting without the permission to delete.
What it cannot show is how a real server behaves where nothing is written down.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
from dataclasses import field
from functools import cached_property
import hashlib
import json
import re
import threading
import time
from typing import Any
from urllib.parse import parse_qs
from urllib.parse import unquote
from urllib.parse import urlsplit

from tests.backends.loopback import Handler
from tests.backends.loopback import LoopbackServer


_HASHES = {32: "md5", 40: "sha1", 64: "sha256"}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass
class User:
    """Somebody with a password or token.

    Args:
        secret: password, API key or token
        may_deploy: whether the user may store artifacts
        may_delete: whether the user may delete and overwrite them

    """

    secret: str
    may_deploy: bool = True
    may_delete: bool = True


@dataclass
class Artifact:
    """Content and what is known about it."""

    data: bytes = field(repr=False)
    owner: str
    created: str

    @cached_property
    def checksums(self) -> dict[str, str]:
        return {
            name: hashlib.new(name, self.data).hexdigest() for name in _HASHES.values()
        }


class ArtifactoryServer(LoopbackServer):
    """The server.

    Args:
        edition: ``"pro"``, or ``"oss"`` for the free one

    """

    def __init__(self, edition: str = "pro") -> None:
        super().__init__(_Handler)
        self.edition = edition
        self.users: dict[str, User] = {}
        self.tokens: dict[str, User] = {}
        self.anonymous = User("", may_deploy=False, may_delete=False)
        self.anonymous_reads = False
        self.repositories: dict[str, dict[str, Artifact]] = {}
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        """URL that users configure."""
        return f"http://{self.host}/artifactory"

    def user(self, header: str) -> tuple[str, User] | None:
        """Who sent a request, ``None`` if the credentials are wrong."""
        kind, _, value = header.partition(" ")
        if not kind:
            return "anonymous", self.anonymous
        if kind == "Basic":
            with contextlib.suppress(ValueError):
                name, _, secret = base64.b64decode(value).decode().partition(":")
                user = self.users.get(name)
                if user is not None and user.secret == secret:
                    return name, user
        if kind == "Bearer" and value in self.tokens:
            return "token", self.tokens[value]
        return None

    def find(self, checksums: dict[str, str]) -> bytes | None:
        """Content with these checksums, wherever it is."""
        for artifacts in self.repositories.values():
            for artifact in artifacts.values():
                known = artifact.checksums
                if all(known[name] == value for name, value in checksums.items()):
                    return artifact.data
        return None


class _RefusalError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Handler(Handler):
    who: str
    user: User

    @property
    def artifactory(self) -> ArtifactoryServer:
        server: ArtifactoryServer = self.owner
        return server

    def dispatch(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if not path.startswith("/artifactory/"):
            # Whatever else runs on the host
            self.answer(404, b"<html>Not here</html>", own=False)
            return
        body = self.read_body()
        if body is None:
            return
        try:
            self.authenticate()
            with self.artifactory.lock:
                self.route(path.removeprefix("/artifactory/"), url.query, body)
        except _RefusalError as refusal:
            self.refuse(refusal)

    do_GET = do_PUT = do_DELETE = do_POST = do_HEAD = dispatch  # noqa: N815

    def read_body(self) -> bytes | None:
        length = self.headers.get("Content-Length")
        if length is None and self.command == "PUT":
            self.close_connection = True
            self.refuse(_RefusalError(411, "Length required"))
            return None
        data = self.rfile.read(int(length or 0))
        if len(data) < int(length or 0):
            # The client went away: nothing of it is kept
            self.close_connection = True
            return None
        return data

    def authenticate(self) -> None:
        found = self.artifactory.user(self.headers.get("Authorization") or "")
        if found is None:
            raise _RefusalError(401, "Bad credentials")
        self.who, self.user = found
        if self.who == "anonymous" and not self.artifactory.anonymous_reads:
            raise _RefusalError(401, "Authentication is required")

    def route(self, path: str, query: str, body: bytes) -> None:
        if path.startswith("api/storage/"):
            self.storage(path.removeprefix("api/storage/"), query)
        elif path.startswith("api/repositories/"):
            self.manage(path.removeprefix("api/repositories/"), body)
        elif path.startswith("api/"):
            raise _RefusalError(404, "No such call")
        else:
            repository, _, name = path.partition("/")
            artifacts = self.artifacts(repository)
            if self.command in ("GET", "HEAD"):
                self.download(artifacts, name)
            elif self.command == "PUT":
                self.deploy(repository, artifacts, name, body)
            elif self.command == "DELETE":
                self.delete(artifacts, name)
            else:
                raise _RefusalError(405, "No such method")

    def artifacts(self, repository: str) -> dict[str, Artifact]:
        found = self.artifactory.repositories.get(repository)
        if found is None:
            raise _RefusalError(404, "Repository not found")
        return found

    # ---------------------------------------------------------- artifacts

    def download(self, artifacts: dict[str, Artifact], name: str) -> None:
        artifact = artifacts.get(name)
        if artifact is None:
            raise _RefusalError(404, "File not found")
        data = artifact.data
        checksums = artifact.checksums
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": checksums["sha1"],
            "X-Checksum-Md5": checksums["md5"],
            "X-Checksum-Sha1": checksums["sha1"],
            "X-Checksum-Sha256": checksums["sha256"],
            "Content-Type": "application/octet-stream",
        }
        wanted = self.headers.get("Range")
        if wanted is None:
            self.answer(200, data, headers)
            return
        match = _RANGE.fullmatch(wanted)
        if match is None or wanted == "bytes=-":
            raise _RefusalError(400, "Bad range")
        if match[1]:
            start, stop = int(match[1]), int(match[2] or len(data) - 1) + 1
        else:
            start, stop = max(0, len(data) - int(match[2])), len(data)
        stop = min(stop, len(data))
        if start >= stop:
            raise _RefusalError(416, "Range not satisfiable")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        self.answer(206, data[start:stop], headers)

    def deploy(
        self, repository: str, artifacts: dict[str, Artifact], name: str, body: bytes
    ) -> None:
        if not self.user.may_deploy:
            raise _RefusalError(403, "Not enough permissions to deploy")
        checksums = self.sent_checksums()
        by_checksum = self.headers.get("X-Checksum-Deploy", "").lower() == "true"
        if by_checksum:
            if not checksums:
                raise _RefusalError(400, "Checksum deploy needs a checksum")
            found = self.artifactory.find(checksums)
            if found is None:
                raise _RefusalError(404, "No content with this checksum")
            body = found
        artifact = Artifact(body, self.who, _now())
        known = artifacts.get(name)
        if known is not None and not self.user.may_delete:
            raise _RefusalError(403, "Not enough permissions to overwrite")
        for kind, value in checksums.items():
            if artifact.checksums[kind] != value:
                raise _RefusalError(409, f"Checksum error: {kind} differs")
        artifacts[name] = artifact
        description = self.describe(repository, name, artifact)
        self.answer_json(201, description)

    def sent_checksums(self) -> dict[str, str]:
        checksums = {}
        for header, kind in (("Md5", "md5"), ("Sha1", "sha1"), ("Sha256", "sha256")):
            value = self.headers.get(f"X-Checksum-{header}")
            if value is not None:
                checksums[kind] = value
        value = self.headers.get("X-Checksum")
        if value is not None:
            if len(value) not in _HASHES:
                raise _RefusalError(400, "Checksum of no known kind")
            checksums[_HASHES[len(value)]] = value
        return checksums

    def delete(self, artifacts: dict[str, Artifact], name: str) -> None:
        if name not in artifacts:
            raise _RefusalError(404, "File not found")
        if not self.user.may_delete:
            raise _RefusalError(403, "Not enough permissions to delete")
        del artifacts[name]
        self.answer(204, b"")

    # ---------------------------------------------------------- storage

    def storage(self, path: str, query: str) -> None:
        repository, _, name = path.partition("/")
        name = name.rstrip("/")
        artifacts = self.artifacts(repository)
        options = parse_qs(query, keep_blank_values=True)
        below = f"{name}/" if name else ""
        files = {
            known.removeprefix(below): artifact
            for known, artifact in artifacts.items()
            if known.startswith(below)
        }
        if name in artifacts and not options:
            self.answer_json(200, self.describe(repository, name, artifacts[name]))
        elif name and not files:
            raise _RefusalError(404, "Unable to find item")
        elif "list" in options:
            self.list(files, options)
        else:
            children = sorted({known.partition("/")[::2] for known in files})
            names = {first: bool(rest) for first, rest in children}
            self.answer_json(
                200,
                {
                    "repo": repository,
                    "path": f"/{name}",
                    "children": [
                        {"uri": f"/{first}", "folder": is_folder}
                        for first, is_folder in names.items()
                    ],
                },
            )

    def list(self, files: dict[str, Artifact], options: dict[str, Any]) -> None:
        if self.artifactory.edition != "pro":
            raise _RefusalError(
                400, "This REST API is available only in Artifactory Pro"
            )
        if self.who == "anonymous":
            raise _RefusalError(403, "Anonymous users may not list")
        entries: list[dict[str, Any]] = [
            {
                "uri": f"/{name}",
                "size": str(len(artifact.data)),
                "lastModified": artifact.created,
                "folder": "false",
                "sha1": artifact.checksums["sha1"],
            }
            for name, artifact in files.items()
            if options.get("deep") == ["1"] or "/" not in name
        ]
        if options.get("listFolders") == ["1"]:
            folders = {name.rpartition("/")[0] for name in files} - {""}
            entries += [
                {"uri": f"/{name}", "size": "-1", "folder": "true"} for name in folders
            ]
        self.answer_json(200, {"created": _now(), "files": entries})

    def describe(self, repository: str, name: str, artifact: Artifact) -> Any:
        return {
            "repo": repository,
            "path": f"/{name}",
            "created": artifact.created,
            "createdBy": artifact.owner,
            "lastModified": artifact.created,
            "size": str(len(artifact.data)),
            "checksums": artifact.checksums,
        }

    def manage(self, repository: str, body: bytes) -> None:
        repositories = self.artifactory.repositories
        if not self.user.may_delete:
            raise _RefusalError(403, "Only for administrators")
        if self.command == "PUT":
            settings = json.loads(body)
            if settings.get("rclass") != "local":
                raise _RefusalError(400, "No such class of repositories")
            if repository in repositories:
                raise _RefusalError(
                    400, "Case insensitive repository key exists already"
                )
            repositories[repository] = {}
            self.answer(200, b"Successfully created repository")
        elif self.command == "DELETE":
            self.artifacts(repository)
            del repositories[repository]
            self.answer(200, b"Repository has been removed successfully")
        else:
            raise _RefusalError(405, "No such method")

    # ---------------------------------------------------------- answers

    def refuse(self, refusal: _RefusalError) -> None:
        error = {"status": refusal.status, "message": refusal.message}
        self.answer_json(refusal.status, {"errors": [error]})

    def answer_json(self, status: int, data: Any) -> None:
        headers = {"Content-Type": "application/json"}
        self.answer(status, json.dumps(data).encode(), headers)

    def answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        own: bool = True,
    ) -> None:
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string())
        if own:
            self.send_header("X-Artifactory-Id", "stand-in")
            self.send_header("Set-Cookie", "SESSION=must-not-come-back; Path=/")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


@contextlib.contextmanager
def artifactory(
    repository: str = "models", **users: User
) -> Iterator[ArtifactoryServer]:
    """Server with one empty repository."""
    with ArtifactoryServer() as server:
        server.users.update(users)
        server.repositories[repository] = {}
        yield server
