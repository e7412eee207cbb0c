r"""Files of models as a file system of fsspec, by paths like ``audmodel://ID/file``.

Only fsspec imports this module, which finds it by its entry point.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import itertools
from typing import Any
from typing import NoReturn

from fsspec.spec import AbstractFileSystem

import audmodel
from audmodel.core.api.arguments import load_options
from audmodel.core.api.arguments import wanted_model
from audmodel.errors import FileNotInModelError
from audmodel.errors import InvalidIdError
from audmodel.errors import ModelNotFoundError
from audmodel.fs.ranges import Range
from audmodel.fs.ranges import read_range
from audmodel.fs.ranges import read_ranges


# Options that fsspec and its callers give to every file system
_GENERAL = (
    "asynchronous batch_size listings_expiry_time loop max_paths use_listings_cache"
).split()
_MISSING = (FileNotInModelError, InvalidIdError, ModelNotFoundError)


class ModelFileSystem(AbstractFileSystem):  # type: ignore[misc]  # it has no types
    r"""Read-only file system, see :doc:`/open`.

    A path is a model ID or an alias, followed by the path of a file in the model.
    Without state of its own it works in threads, in forks, and after pickling.

    Args:
        repository: as for :func:`audmodel.open`
        cache_root: as for :func:`audmodel.open`
        num_workers: as for :func:`audmodel.open`
        timeout: as for :func:`audmodel.open`
        options: options of fsspec for every file system

    Raises:
        TypeError: if an option is unknown, or of the wrong type
        ValueError: if ``num_workers`` is not a positive integer

    """

    protocol = "audmodel"
    # fsspec would share an instance among repositories
    # that differ in nothing but the signers they trust
    cachable = False

    def __init__(
        self,
        *,
        repository: audmodel.Repository | str | None = None,
        cache_root: str | None = None,
        num_workers: int | None = 1,
        timeout: float | None = 14400,
        **options: Any,
    ) -> None:
        if unknown := options.keys() - set(_GENERAL):
            raise TypeError(
                f"'audmodel://' has no option {min(unknown)!r}. It has: "
                "repository, cache_root, num_workers, timeout."
            )
        super().__init__(**options)
        checked = load_options(num_workers=num_workers, timeout=timeout)
        self._num_workers = checked.num_workers
        self._timeout = timeout
        self._place: dict[str, Any] = {
            "repository": repository,
            "cache_root": cache_root,
        }

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        r"""Name, size and type of a file or folder, and ID of its model."""
        path = self._strip_protocol(path)
        return self._entries(path)[path] if path else _entry("")

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        r"""Content of a folder, or the file itself if it is one, or all models."""
        path = self._strip_protocol(path)
        entries = self._entries(path) if path else self._models()
        if not path or entries[path]["type"] == "directory":
            entries = {
                name: entry
                for name, entry in entries.items()
                if name.rpartition("/")[0] == path
            }
        else:
            entries = {path: entries[path]}
        return list(entries.values() if detail else entries)

    def _models(self) -> dict[str, dict[str, Any]]:
        models = audmodel.models(num_workers=self._num_workers, **self._place)
        return {model.uid: _entry(model.uid, model.uid) for model in models}

    def _entries(self, path: str) -> dict[str, dict[str, Any]]:
        r"""Files and folders of the model of a path by their names."""
        given, _, inner = path.partition("/")
        # Names begin with an alias as it was given, but entries have the model,
        # so that the caches of fsspec learn that the alias was moved
        model = str(wanted_model(given, **self._place).entry.model)
        entries = {given: _entry(given, model)}
        for file in audmodel.files(model, **self._place):
            parts = [given, *file.path.split("/")]
            for name in itertools.accumulate(parts[:-1], "{}/{}".format):
                entries.setdefault(name, _entry(name, model))
            name = "/".join(parts)
            entries[name] = _entry(name, model, file.size)
        if path not in entries:
            raise FileNotInModelError(
                f"The model '{model}' has no file or folder {inner[:100]!r}."
            )
        return entries

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: str | Callable[[OSError], object] = "omit",
        **kwargs: Any,
    ) -> Iterator[Any]:
        r"""Folders below a path; a missing one has none, other errors are raised."""
        on_error = _omit_missing if on_error == "omit" else on_error
        yield from super().walk(path, maxdepth, topdown, on_error, **kwargs)

    def exists(self, path: str, **kwargs: Any) -> bool:
        r"""Whether there is a file or folder; other errors are raised."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        r"""Whether there is a file; other errors are raised."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        r"""Whether there is a folder; other errors are raised."""
        return self._type(path) == "directory"

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except _MISSING:
            return None

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> audmodel.OpenedFile:
        if mode != "rb":
            _refuse()
        return self._opened(path, self._num_workers)

    def _opened(self, path: str, num_workers: int) -> audmodel.OpenedFile:
        model, _, file = self._strip_protocol(path).partition("/")
        return audmodel.open(
            model, file, timeout=self._timeout, num_workers=num_workers, **self._place
        )

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        r"""Bytes of a file, between positions that count as those of slices."""
        with self._opened(path, self._num_workers) as file:
            return read_range(file, Range(path, start, end))

    def cat_ranges(
        self,
        paths: list[str],
        starts: list[int | None] | int | None,
        ends: list[int | None] | int | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[bytes | Exception]:
        r"""Ranges of files, which workers read in parallel, errors among them."""
        if not isinstance(paths, list):
            raise TypeError(f"'paths' has to be a list, not {type(paths).__name__}.")
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        ranges = list(itertools.starmap(Range, zip(paths, starts, ends, strict=True)))
        results = {}
        reading = read_ranges(set(ranges), self._opened, self._num_workers)
        with contextlib.closing(reading):
            for wanted, result in reading:
                if on_error == "raise" and isinstance(result, Exception):
                    raise result
                results[wanted] = result
        return [results[wanted] for wanted in ranges]


def _entry(
    name: str, model: str | None = None, size: int | None = None
) -> dict[str, Any]:
    kind = "directory" if size is None else "file"
    return {"name": name, "size": size or 0, "type": kind, "model": model}


def _omit_missing(error: OSError) -> None:
    if not isinstance(error, FileNotInModelError):
        raise error


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise OSError(
        errno.EROFS,
        "'audmodel://' can only be read. Store a model with audmodel.publish()",
    )


# All by which fsspec would change something, some of which do nothing by default
for _name in (
    "cp_file copy mkdir makedirs mv pipe pipe_file put put_file rm rm_file rmdir touch"
).split():
    setattr(ModelFileSystem, _name, _refuse)
