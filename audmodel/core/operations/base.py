r"""Find a model whose archive has parts that a new one has as well."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import logging

from audmodel.core import uid
from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.archive.pieces import KnownPieces
from audmodel.core.archive.pieces import Piece
from audmodel.core.backend.copies import Chunk
from audmodel.core.backend.copies import CopyableChunk
from audmodel.core.backend.copies import Copying
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.repository import layout
from audmodel.core.repository.header import Header
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.uid import ShortId


logger = logging.getLogger("audmodel")

# Bytes from which on it pays to look for a base
_LARGE = 32 * 1024 * format.KIB
# Bytes of the base that are read at once to compare them, and how often
_WINDOW = 16 * format.KIB
_READS = 500


class Base:
    r"""Archive of which the storage copies bytes.

    Args:
        source: the archive
        copying: which bytes the storage copies
        known: what the archive holds
        reader: bytes of the archive

    """

    def __init__(
        self,
        source: CopySource,
        copying: Copying,
        known: KnownPieces,
        reader: ObjectReader,
    ) -> None:
        self.source = source
        self._copying = copying
        self._known = known
        self._reader = reader
        self._window = b""
        self._start = 0
        self._reads = 0

    def chunk(self, piece: Piece) -> Chunk:
        r"""Bytes of a new archive, with their position in this one if it has them.

        Args:
            piece: piece of the new archive

        """
        offset = self._known.find(piece)
        if offset is None or not (
            self._copying is Copying.ALL
            or piece.is_certain
            or self._has(offset, piece.data)
        ):
            return piece.data
        return CopyableChunk(piece.data, offset)

    def _has(self, offset: int, data: bytes) -> bool:
        r"""Whether a few bytes are what is stored, such as a header between two files.

        To read them costs less than to send parts that are large enough.
        """
        if len(data) > _WINDOW:
            return False
        start = offset - self._start
        if not 0 <= start <= len(self._window) - len(data):
            if self._reads == _READS:
                return False
            self._reads += 1
            length = min(_WINDOW, self._reader.size - offset)
            try:
                self._window = bytes(self._reader.read(offset, length))
            except RepositoryError:
                self._window = b""
            start, self._start = 0, offset
        return self._window[start : start + len(data)] == data


@contextmanager
def open_base(
    registry: Registry,
    wanted: ModelId | ShortId | None,
    model: ModelId,
    size: int,
    *,
    is_dry: bool = False,
) -> Iterator[Base | None]:
    r"""Find and open the archive from which a new one is copied.

    Args:
        registry: where both are
        wanted: model, or short ID of which the newest version counts,
            ``None`` for no model
        model: ID of the new model
        size: bytes of the files of the new model
        is_dry: whether nothing may be stored to test the storage

    Yields:
        archive, ``None`` if nothing can be copied, or this does not pay

    Raises:
        ModelNotFoundError: if another model is wanted, and does not exist

    """
    with contextlib.ExitStack() as stack:
        base = None
        try:
            found = _find(registry, wanted, model, size)
            if found is not None:
                opened = _open(registry, *found, is_dry=is_dry)
                base = stack.enter_context(opened)
        except (ArchiveError, InvalidDocumentError, RepositoryError) as error:
            logger.info("Nothing is copied from '%s': %s", wanted, error)
        yield base


def _find(
    registry: Registry, wanted: ModelId | ShortId | None, model: ModelId, size: int
) -> tuple[ModelId, Header] | None:
    r"""Model from whose archive it pays to copy."""
    has_copies = registry.backend.has_copies and size >= _LARGE
    is_own = wanted == ShortId(model.short)
    if wanted is None or (is_own and not has_copies):
        return None
    found = _look_up(registry, wanted, model)
    if found is None and not is_own:
        raise ModelNotFoundError(
            f"A model with ID '{wanted}', which 'base' names, "
            f"does not exist in {registry.repository}."
        )
    return found if has_copies else None


def _look_up(
    registry: Registry, wanted: ModelId | ShortId, model: ModelId
) -> tuple[ModelId, Header] | None:
    if isinstance(wanted, ShortId):
        versions = registry.versions(wanted.short)
        if wanted.short == model.short:
            versions.discard(model.version)
        if not versions:
            return None
        wanted = ModelId(wanted.short, uid.sort_versions(versions)[-1])
    found = registry.header(wanted)
    return None if found is None else (wanted, found[0])


@contextmanager
def _open(
    registry: Registry, model: ModelId, header: Header, *, is_dry: bool
) -> Iterator[Base | None]:
    r"""Archive of a model, ``None`` if its storage copies nothing."""
    identity = header.archive
    if identity is None:
        yield None  # Archives of earlier releases have no digests
        return
    path = layout.archive_path(model, header.location)
    with registry.backend.open_object(path) as reader:
        if reader is None:
            raise ArchiveError(f"The archive of '{model}' does not exist.")
        data = end.read(reader)
        if (identity.size, identity.digest) != (reader.size, end.digest(data)):
            raise ArchiveError(
                f"The archive of '{model}' is not the one of its header."
            )
        known = KnownPieces(end.parse(data, reader.size))
        source = CopySource(path, reader.etag, reader.size, reader.tail)
        copying = registry.backend.copying(source, is_dry=is_dry)
        if copying is Copying.NOTHING:
            yield None
        else:
            yield Base(source, copying, known, reader)
