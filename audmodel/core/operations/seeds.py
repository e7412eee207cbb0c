r"""Find parts of an archive that other models in the cache have.

Another version of a model often has most of its parts.
The cache keeps the directories of the archives that were loaded from,
so no file is read to find out.

To look at a directory takes time as well, for which nothing may be gained.
The more bytes are missing, the more directories are looked at.

"""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Iterable

from audmodel.core.archive import format
from audmodel.core.archive import seeds
from audmodel.core.archive.seeds import Seed
from audmodel.core.archive.seeds import Seeds
from audmodel.core.backend.reader import TAIL
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.neighbours import others
from audmodel.core.cache.neighbours import versions
from audmodel.core.operations import index
from audmodel.core.operations.archives import Archive
from audmodel.core.operations.local import absent
from audmodel.core.repository.config import reuses_parts


# Bytes of directories that are looked at: at least, at most, which is about
# 200,000 records of parts, and for how many bytes that are missing one more
_FEW, _MOST, _SHARE = 64 * format.KIB, 200_000 * format.PART.size, 64
# Missing bytes for which other short IDs are looked at, how many at least, at most,
# and for how many bytes that are missing one more
_LEAST, _FEW_OTHERS, _MOST_OTHERS, _EACH = 256 * format.KIB, 8, 1000, 1 << 20


def find(archive: Archive, only: Container[str]) -> Seeds:
    r"""Find parts that other models in the cache have.

    Args:
        archive: archive of a model
        only: names of the files that are loaded

    Returns:
        where parts are, which may have been changed or removed by now

    """
    if not reuses_parts():
        return {}
    # The last bytes of the archive are known
    stop = archive.reader.size - min(TAIL, archive.reader.size)
    search = _Search(seeds.wanted(archive.directory, only, stop))
    search.run(versions(archive.entry))
    if search.left >= _LEAST:
        most = min(_FEW_OTHERS + search.left // _EACH, _MOST_OTHERS)
        search.run(others(archive.entry, most))
    return search.found


class _Search:
    r"""Search for parts in one model after the other.

    Args:
        wanted: bytes of each part, by digest

    """

    def __init__(self, wanted: dict[bytes, int]) -> None:
        self.found: dict[bytes, Seed] = {}
        r"""Where parts are."""
        self.left = sum(wanted.values())
        r"""Bytes of parts that were not found."""
        self._wanted = wanted
        self._seen = 0

    def run(self, models: Iterable[CacheEntry]) -> None:
        r"""Look for parts in models, except in those for which that takes too long."""
        for model in models if self.left else ():
            size = model.index.size()
            if self._seen + size <= min(max(_FEW, self.left // _SHARE), _MOST):
                self._seen += size
                self._look_at(model)
            if not self.left:
                break

    def _look_at(self, model: CacheEntry) -> None:
        directory = index.read_if(model, self._wanted.keys())
        if directory is None:
            return
        offered = list(seeds.offered(directory, self._wanted))
        members = list({member.name: member for _, member, _ in offered}.values())
        for folder in (model.whole.folder, model.partial.folder):
            missing = {member.name for member in absent(folder, members)}
            for digest, member, offset in offered:
                if digest not in self.found and member.name not in missing:
                    self.found[digest] = Seed(folder, member.name, offset)
                    self.left -= self._wanted[digest]
