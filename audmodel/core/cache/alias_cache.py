r"""Model that an alias or a short ID stood for, for use without network.

::

    <root>/.<alias or short ID>.resolved            '<alias or short ID> <model ID>'
    <root>/.<alias or short ID>@<scope>.resolved    same, in one repository

These are files, since all folders beside them are models.

"""

from __future__ import annotations

import contextlib
import logging

from audmodel.core import uid as ids
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import InvalidIdError
from audmodel.core.uid import Alias
from audmodel.core.uid import ModelId
from audmodel.core.uid import ShortId


logger = logging.getLogger("audmodel")

_MAX_BYTES = 1024


def remember(root: str, name: Alias | ShortId, model: ModelId, scope: str = "") -> None:
    r"""Store the model that a name is resolved to.

    Args:
        root: cache folder, which need not be writable
        name: alias or short ID
        model: model that the name is resolved to
        scope: where it was looked up, if not in all repositories

    """
    if _read(root, name, scope) != model:
        with contextlib.suppress(OSError):
            Folder(root).replace(_file(name, scope), f"{name} {model}\n".encode())


def recall(root: str, name: Alias | ShortId, scope: str = "") -> ModelId | None:
    r"""Model that a name was resolved to the last time by a repository.

    A short ID that was never resolved
    is resolved to the latest version in the cache.

    Returns:
        model, or ``None`` if it is not known

    """
    model, how = _read(root, name, scope), "the last known model"
    if model is None and isinstance(name, ShortId):
        model, how = _latest(root, name.short), "the latest version in the cache"
    if model is not None:
        logger.warning(
            "AUDMODEL_OFFLINE is set. '%s' is resolved to '%s', %s.", name, model, how
        )
    return model


def _file(name: Alias | ShortId, scope: str) -> str:
    # No alias has this character
    return f".{name}@{scope}.resolved" if scope else f".{name}.resolved"


def _read(root: str, name: Alias | ShortId, scope: str) -> ModelId | None:
    content = Folder(root).read(_file(name, scope), _MAX_BYTES) or b""
    words = content.decode("ascii", errors="replace").split()
    # File systems may not tell names apart that differ in case
    if len(words) != 2 or words[0] != str(name):
        return None
    with contextlib.suppress(InvalidIdError):
        parsed = ids.parse(words[1])
        return parsed if isinstance(parsed, ModelId) else None
    return None


def _latest(root: str, short: str) -> ModelId | None:
    try:
        names = Folder(root, short).names()
    except OSError:
        return None
    versions = ids.sort_versions({name for name in names if ids.is_version(name)})
    for version in reversed(versions):
        model = ModelId(short, version)
        if CacheEntry(root, model).verify():
            return model
    return None
