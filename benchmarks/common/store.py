"""Places to publish to and to load from."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import secrets
import shutil
import subprocess
import sys
from typing import Any


ROOT = Path(__file__).parents[2]
BACKENDS = ("s3", "file-system")


class Store:
    """A store that the benchmark starts itself, or one that is there.

    Args:
        folder: folder for what is stored
        backend: ``"s3"`` for a server on this machine, or ``"file-system"``
        repository: name, host and backend of a repository that is there

    """

    def __init__(
        self, folder: Path, backend: str, repository: tuple[str, str, str] | None = None
    ) -> None:
        self._folder = folder / "store"
        self._folder.mkdir()
        self._repository = repository
        self._server: Any = None
        self.environment: dict[str, str] = {}
        self.backend = repository[2] if repository else backend
        self.description = "a folder"
        if repository:
            self.description = f"the repository {repository[0]} on {repository[1]}"
        elif backend == "s3":
            self._start()

    def _start(self) -> None:
        # The server is the one that the tests use
        from tests.backends import seaweedfs

        self._server = seaweedfs.shared()
        self.description = "SeaweedFS on this machine"
        self.environment = {
            "MINIO_ACCESS_KEY": seaweedfs.ACCESS_KEY,
            "MINIO_SECRET_KEY": seaweedfs.SECRET_KEY,
            "MINIO_CONFIG_FILE": str(self._folder / "minio.cfg"),
            # For other programs than audmodel
            "AWS_ACCESS_KEY_ID": seaweedfs.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": seaweedfs.SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    @property
    def host(self) -> str | None:
        """Host and port of a server that was started."""
        return None if self._server is None else str(self._server.host)

    @property
    def client(self) -> Any:
        """Client of boto3 for a server that was started."""
        return self._server.client()

    def where(self, name: str, released: bool, host: str | None) -> list[str]:
        """Name, host and backend of a repository, as a version wants them.

        Args:
            name: name of the repository
            released: whether it is for the released version
            host: host of a link to the server

        """
        if self._repository:
            return list(self._repository)
        if self._server is None:
            return [name, str(self._folder), self.backend]
        host = host or self._server.host
        # Both versions learn from this file that there is no TLS
        with (self._folder / "minio.cfg").open("a+") as file:
            file.seek(0)
            if f"[{host}]" not in file.read():
                file.write(f"[{host}]\nsecure\n")
        return [name, host, "minio" if released else "s3"]

    @contextlib.contextmanager
    def bucket(self, prefix: str = "models") -> Iterator[str]:
        """A new repository, which is removed in the end unless it is the user's."""
        if self._repository:
            yield self._repository[0]
            return
        name = f"{prefix}-{secrets.token_hex(6)}"
        if self._server is None:
            (self._folder / name).mkdir()
            yield name
            shutil.rmtree(self._folder / name)
            return
        client = self.client
        client.create_bucket(Bucket=name)
        # The server makes room for a bucket when the first object arrives
        client.put_object(Bucket=name, Key="room", Body=b"yes")
        yield name
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
        for page in pages:
            for entry in page.get("Contents", []):
                client.delete_object(Bucket=name, Key=entry["Key"])
        client.delete_bucket(Bucket=name)


# What make writes when audmodel 1.5.3 is installed
STAMP = ".venv-1.5.3/.ready"


def released_python() -> str:
    """A Python that has audmodel 1.5.3, installed if there is none yet."""
    named = os.environ.get("AUDMODEL_RELEASED_PYTHON")
    if named:
        return os.path.abspath(named)
    subprocess.run(
        ["make", "--no-print-directory", "-C", ROOT, f"PYTHON={sys.executable}", STAMP],
        check=True,
        stdout=sys.stderr,
    )
    return f"{ROOT}/.venv-1.5.3/bin/python"
