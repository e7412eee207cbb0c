"""Archives in memory, and repositories that hold them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
import hashlib
import io
import os
from pathlib import Path
import random
import subprocess
import sys
import threading
import time
from typing import Any
import zipfile

import yaml

import audmodel
from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.archive.reader import Extractor
from audmodel.core.archive.source import Source
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.backend.reader import TAIL
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.cache.tree import Folder
from audmodel.core.operations import folder as folders
from tests.conftest import ROOT


KIB = 1024
MIB = 1024 * KIB

Files = Mapping[str, bytes]


def noise(length: int, seed: int = 0) -> bytes:
    """Bytes that do not shrink, the same for the same seed."""
    return random.Random(seed).randbytes(length)


def text(length: int, seed: int = 0) -> bytes:
    """Bytes that shrink to about a quarter."""
    words = [noise(4, n).hex().encode() for n in range(64)]
    choose = random.Random(seed).choices
    data = b" ".join(choose(words, k=length // 9 + 1))
    return data[:length]


def make_folder(root: Path, files: Files) -> Path:
    """Write files into a folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def read_folder(root: Path | str) -> dict[str, bytes]:
    """All files of a folder."""
    root = Path(root)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if not path.is_dir()
    }


def write(root: Path | str, **arguments: Any) -> bytes:
    """Archive of a folder."""
    return b"".join(ArchiveWriter(folders.scan(str(root)).files, **arguments))


def write_old(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Archive as earlier releases make it, without an index."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=1) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


class MemorySource(ObjectReader):
    """Archive in memory that remembers what was read of it.

    Args:
        data: the archive
        delay: seconds that each request takes
        change: called with number, offset and content of each request,
            gives the content that arrives

    """

    def __init__(
        self,
        data: bytes,
        *,
        delay: float = 0,
        change: Callable[[int, int, bytes], bytes] = lambda number, offset, data: data,
        tail: int = TAIL,
    ) -> None:
        super().__init__(len(data), data[len(data) - min(tail, len(data)) :])
        self.data = data
        self.requests: list[tuple[int, int]] = []
        self.threads: set[str] = set()
        self.most_at_once = 0
        self._at_once = 0
        self._delay = delay
        self._change = change
        self._lock = threading.Lock()

    @property
    def fetched(self) -> int:
        """Bytes that were fetched."""
        return sum(length for _, length in self.requests)

    def _readinto(self, offset: int, view: memoryview) -> None:
        assert offset >= 0
        assert offset + len(view) <= self.size
        with self._lock:
            number = len(self.requests)
            self.requests.append((offset, len(view)))
            self.threads.add(threading.current_thread().name)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(self._delay)
            data = self.data[offset : offset + len(view)]
            view[:] = self._change(number, offset, data)
        finally:
            with self._lock:
                self._at_once -= 1


def extract(source: ObjectReader, root: Path | str, **arguments: Any) -> None:
    """Extract an archive into a folder."""
    os.makedirs(root, exist_ok=True)
    Extractor(source, read_directory(source), Folder(str(root)), **arguments).run()


def parse(data: bytes) -> format.Directory:
    """Directory of an archive."""
    return read_directory(MemorySource(data))


def read_directory(source: Source) -> format.Directory:
    """Directory of an archive, wherever it is stored."""
    return end.parse(end.read(source), source.size)


# Repositories --------------------------------------------------------------


def publish(repository: audmodel.Repository, root: Path | str, **more: Any) -> str:
    """Publish a folder."""
    arguments: dict[str, Any] = {"name": "torch", "params": {}, "version": "1.0.0"}
    return audmodel.publish(str(root), **(arguments | more), repository=repository)


def repository_files(repository: audmodel.Repository) -> dict[str, Path]:
    """All files of a repository by their suffix."""
    root = Path(repository.host) / repository.name
    return {
        "".join(path.suffixes[-2:]) if path.suffix != ".zip" else ".zip": path
        for path in root.rglob("*")
        if path.is_file()
    }


def store(repository: audmodel.Repository, root: Path, archive: bytes) -> str:
    """Publish a model whose header does not say what its archive is.

    Args:
        repository: empty repository
        root: folder that is published in the first place
        archive: what takes the place of the archive

    Returns:
        ID of the model

    """
    make_folder(root, {"a": b"a"})
    uid = publish(repository, root)
    replace_archive(repository, archive)
    return uid


def replace_archive(repository: audmodel.Repository, archive: bytes) -> None:
    """Put another archive in the place of the only one."""
    files = repository_files(repository)
    files[".zip"].write_bytes(archive)
    [header] = [path for name, path in files.items() if name.endswith("header.yaml")]
    content = yaml.safe_load(header.read_text())
    content.pop("archive", None)
    header.write_text(yaml.safe_dump(content))


def listing(root: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder: kind and digest of the content."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = b""
        if path.is_file() and not path.is_symlink():
            content = hashlib.sha256(path.read_bytes()).digest()
        found[path.relative_to(root).as_posix()] = (status.st_mode, content)
    return found


# Processes -----------------------------------------------------------------


def run_python(code: str, *arguments: object, timeout: float = 100) -> str:
    """Run code in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def worker_threads() -> list[str]:
    """Names of threads that are at work."""
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("audmodel")
    ]


@contextmanager
def temporary_umask(mask: int) -> Iterator[None]:
    """Change what others may do with new files."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def flip(data: bytes, position: int, mask: int = 1) -> bytes:
    """Change bits of one byte."""
    changed = bytearray(data)
    changed[position] ^= mask
    return bytes(changed)


def chunks(data: bytes, size: int) -> Iterable[bytes]:
    """Pieces of data."""
    return (data[n : n + size] for n in range(0, len(data), size))
