r"""Test what the storage of a repository guarantees."""

from collections.abc import Callable
import contextlib
from dataclasses import dataclass
import secrets

from audmodel.core.backend import conditions
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.conditions import Check
from audmodel.core.backend.copies import Copying
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import WrongCopyError
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.reader import TAIL
from audmodel.core.errors import AudmodelError
from audmodel.core.repository import layout
from audmodel.core.yaml import document


_OBJECTS = 8
# Some storages do not copy ranges of objects below 5 MiB
_COPIED = 6 * 1024 * 1024
_COPYING = {
    Copying.NOTHING: "it saves nothing here, so new versions are stored as a whole",
    Copying.CERTAIN: "all bytes were right",
    Copying.ALL: "all bytes were right, and their etag is a digest",
}
# Attempts to replace a record that other processes change at the same time
_ATTEMPTS = 3


@dataclass(frozen=True)
class RepositoryReport:
    r"""What the storage of a repository guarantees.

    Args:
        repository: the repository, as text
        checks: results of the tests
        no_conditional_writes: why concurrent publishers may overwrite each other
            even if no test has failed,
            empty if the storage has conditional writes

    """

    __module__ = "audmodel"

    repository: str
    checks: tuple[Check, ...]
    no_conditional_writes: str = ""

    @property
    def ok(self) -> bool:
        r"""Whether the storage does everything that audmodel needs."""
        return not self.no_conditional_writes and all(check.ok for check in self.checks)

    def __str__(self) -> str:
        verdict = (
            "meets the requirements of audmodel"
            if self.ok
            else "does not meet the requirements of audmodel"
        )
        lines = [f"{self.repository} {verdict}."]
        for check in self.checks:
            lines.append(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.seen}")
            if not check.ok:
                lines.append(f"     {check.meaning}")
        return "\n".join([*lines, self.no_conditional_writes]).rstrip()


def probe(backend: ObjectBackend) -> tuple[Check, ...]:
    r"""Test everything that the registry relies on.

    The objects of the tests are removed again.

    Raises:
        RepositoryError: if nothing can be stored or removed

    """
    checks = [
        *conditions.check(backend.conditional),
        _existing(backend),
        _fresh(backend),
        _ranges(backend),
        _copies(backend),
    ]
    return tuple(check for check in checks if check is not None)


def _existing(backend: ObjectBackend) -> Check | None:
    r"""Whether a record that was stored long ago can be replaced.

    Some storages treat objects differently
    that were stored under other settings.
    The content of the record stays the same.
    """
    name = "replace an existing record"
    path = _changeable(backend)
    try:
        for _ in range(_ATTEMPTS):
            stored = (
                None if path is None else backend.read_object(path, document.MAX_BYTES)
            )
            if path is None or stored is None:
                return None
            if backend.conditional.replace_object(path, stored.data, stored.etag):
                return Check(name, True, "done", "Metadata and aliases can be changed.")
        seen = "it was refused"
    except conditions.UnsupportedError as error:
        seen = f"it was refused: {error}"
    return Check(name, False, seen, "Metadata and aliases cannot be changed.")


def _changeable(backend: ObjectBackend) -> str | None:
    r"""Path of a record that may change, ``None`` if there is none."""
    for folder in (layout.ALIASES, layout.RECORDS):
        for path in backend.list_objects(folder):
            if layout.is_changeable(path):
                return path
    return None


def _fresh(backend: ObjectBackend) -> Check:
    r"""Whether objects that are written or deleted are seen as such at once."""
    name = "read and list what was just written or deleted"
    folder = f"{conditions.FOLDER}{secrets.token_hex(16)}/"
    paths = [f"{folder}{number}.yaml" for number in range(_OBJECTS)]
    late: set[str] = set()
    with contextlib.ExitStack() as cleanup:
        for path in paths:
            cleanup.callback(backend.delete_object, path, ANY)
            data = secrets.token_hex(8).encode()
            backend.write_object(path, [data])
            if _content(backend, path) != data:
                late.add("reading a new object")
            newer = secrets.token_hex(8).encode()
            backend.write_object(path, [newer])
            if _content(backend, path) != newer:
                late.add("reading a replaced object")
        if set(backend.list_objects(folder)) != set(paths):
            late.add("listing new objects")
    if any(_content(backend, path) is not None for path in paths):
        late.add("reading a deleted object")
    if backend.list_objects(folder):
        late.add("listing deleted objects")
    if late:
        seen = f"wrong or late: {', '.join(sorted(late))}"
        return Check(name, False, seen, "A new model may not be found.")
    return Check(
        name,
        True,
        f"{_OBJECTS} of {_OBJECTS} objects were right at once",
        "New models are found at once.",
    )


def _ranges(backend: ObjectBackend) -> Check:
    r"""Whether any range of a large object can be read."""
    name = "read ranges of a large object"
    path = conditions.new_path()
    data = secrets.token_bytes(TAIL + 100_000)

    def read() -> str:
        with backend.open_object(path) as reader:
            size = 0 if reader is None else reader.size
            if reader is None or size != len(data):
                return f"the object has {size} bytes instead of {len(data)}"
            for offset, length in ((0, 1), (1, 70_000), (99_999, 2), (0, len(data))):
                if bytes(reader.read(offset, length)) != data[offset : offset + length]:
                    return f"{length} bytes from offset {offset} on are wrong"
        return ""

    with contextlib.ExitStack() as cleanup:
        cleanup.callback(backend.delete_object, path, ANY)
        backend.write_object(path, [data])
        trouble = _trouble(read)
    if trouble:
        return Check(name, False, trouble, "Models cannot be loaded.")
    return Check(name, True, "all bytes were right", "Models load in parallel.")


def _copies(backend: ObjectBackend) -> Check | None:
    r"""Whether bytes of an object can be copied into another one.

    A storage that refuses meets the requirements,
    unlike one that copies other bytes.
    """
    if not backend.has_copies:
        return None
    name = "copy a range of a large object"
    path = conditions.new_path()
    meaning = "All of a new version is sent, even what did not change."
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(backend.delete_object, path, ANY)
        backend.write_object(path, [secrets.token_bytes(_COPIED)])
        try:
            with backend.open_object(path) as reader:
                if reader is None:
                    return None  # another test says so
                source = CopySource(path, reader.etag, reader.size, reader.tail)
            copying = backend.test_copying(source)
        except WrongCopyError as error:
            return Check(name, False, str(error), meaning)
        except RepositoryError as error:
            return Check(name, True, f"it was refused: {error} {meaning}", meaning)
    return Check(name, True, _COPYING[copying], "What did not change is copied.")


def _trouble(read: Callable[[], str]) -> str:
    try:
        return read()
    except AudmodelError as error:
        return str(error)


def _content(backend: ObjectBackend, path: str) -> bytes | None:
    stored = backend.read_object(path, 1024)
    return None if stored is None else stored.data
