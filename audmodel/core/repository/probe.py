r"""What a repository's storage guarantees, found out by trying."""

from collections.abc import Callable
import contextlib
from dataclasses import dataclass
import secrets

from audmodel.core.backend import conditions
from audmodel.core.backend.base import ANY
from audmodel.core.backend.base import TAIL
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.conditions import Check
from audmodel.core.errors import AudmodelError
from audmodel.core.yaml import document


_OBJECTS = 8
# Attempts to replace a record that others change at the same time
_ATTEMPTS = 3


@dataclass(frozen=True)
class RepositoryReport:
    r"""What a repository's storage guarantees.

    Args:
        repository: the repository, in words
        checks: what was tried
        weakness: why publishers that meet may do harm whatever was seen,
            empty if the storage is supposed to keep them apart

    """

    __module__ = "audmodel"

    repository: str
    checks: tuple[Check, ...]
    weakness: str = ""

    @property
    def ok(self) -> bool:
        r"""Whether the storage does all that audmodel needs."""
        return not self.weakness and all(check.ok for check in self.checks)

    def __str__(self) -> str:
        verdict = (
            "does what audmodel needs" if self.ok else "does not do what audmodel needs"
        )
        lines = [f"{self.repository} {verdict}."]
        for check in self.checks:
            lines.append(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.seen}")
            if not check.ok:
                lines.append(f"     {check.meaning}")
        return "\n".join([*lines, self.weakness]).rstrip()


def probe(backend: ObjectBackend) -> tuple[Check, ...]:
    r"""Try everything that the registry relies on.

    Everything that is stored for this is removed.

    Args:
        backend: connection to the repository

    Returns:
        what was seen

    Raises:
        RepositoryError: if nothing can be stored or removed

    """
    checks = [
        *conditions.check(backend.conditional),
        _existing(backend),
        _fresh(backend),
        _ranges(backend),
    ]
    return tuple(check for check in checks if check is not None)


def _existing(backend: ObjectBackend) -> Check | None:
    r"""Whether a record of long ago can be replaced.

    Some storages treat what was stored under other settings
    unlike what is stored now.
    The record stays the same.
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
            if backend.conditional.replace_object(path, stored.data, stored.tag):
                return Check(name, True, "done", "Metadata and aliases can be changed.")
        seen = "it was refused"
    except conditions.UnsupportedError as error:
        seen = f"it was refused: {error}"
    return Check(name, False, seen, "Metadata and aliases cannot be changed.")


def _changeable(backend: ObjectBackend) -> str | None:
    r"""Path of a record that may change, ``None`` if there is none."""
    for folder, end in (("/_alias/", ".alias.yaml"), ("/_uid/", ".meta.yaml")):
        for path in backend.list_objects(folder):
            if path.endswith(end):
                return path
    return None


def _fresh(backend: ObjectBackend) -> Check:
    r"""Whether what was written, listed and deleted is seen at once."""
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
        return Check(name, False, seen, "What was just published may not be found.")
    return Check(
        name,
        True,
        f"all of {_OBJECTS} objects right at once",
        "What was published is found.",
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
                    return f"{length} bytes from {offset} on are others"
        return ""

    with contextlib.ExitStack() as cleanup:
        cleanup.callback(backend.delete_object, path, ANY)
        backend.write_object(path, [data])
        trouble = _trouble(read)
    if trouble:
        return Check(name, False, trouble, "Models cannot be loaded.")
    return Check(name, True, "all bytes right", "Models load in parallel.")


def _trouble(read: Callable[[], str]) -> str:
    try:
        return read()
    except AudmodelError as error:
        return str(error)


def _content(backend: ObjectBackend, path: str) -> bytes | None:
    stored = backend.read_object(path, 1024)
    return None if stored is None else stored.data
