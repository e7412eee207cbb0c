r"""Signatures of models, each an object of its own beside the header.

The name of a signature is a digest of its content.
So several people can sign at the same time,
and nothing has to be replaced.

"""

from __future__ import annotations

from collections.abc import Iterator
import hashlib
from typing import TYPE_CHECKING

from audmodel.core.repository import layout
from audmodel.core.uid import ModelId


if TYPE_CHECKING:
    from audmodel.core.backend.base import ObjectBackend


# A signature by an Ed25519 key has some 300 bytes
MAX_BYTES = 4096
# More signatures of one model are not looked at
MAX_COUNT = 64


def paths(backend: ObjectBackend, model: ModelId) -> list[str]:
    r"""Paths of all signatures of a model.

    Raises:
        RepositoryError: if the repository cannot be listed

    """
    found = backend.list_objects(layout.version_folder(model))
    return [path for path in found if layout.model_of_signature(path) == model]


def read(backend: ObjectBackend, model: ModelId) -> Iterator[bytes]:
    r"""Signatures of a model, none of which is verified.

    Those that are too large are left out.

    Raises:
        RepositoryError: if the repository cannot be read

    """
    from audmodel.core.backend.errors import RepositoryError

    for path in sorted(paths(backend, model))[:MAX_COUNT]:
        try:
            stored = backend.read_damaged(path, MAX_BYTES)
        except RepositoryError:
            state = backend.stat_object(path)
            if state is None or (state.size or 0) > MAX_BYTES:
                continue
            raise
        if stored is not None:
            yield stored.data


def store(backend: ObjectBackend, model: ModelId, signature: bytes) -> str:
    r"""Store a signature, unless it is there.

    Returns:
        its path

    Raises:
        RepositoryError: if it cannot be stored

    """
    digest = hashlib.sha256(signature).hexdigest()[:32]
    path = layout.signature_path(model, digest)
    backend.create_object(path, signature)
    return path


def remove(backend: ObjectBackend, path: str) -> None:
    r"""Remove a signature, if it is there.

    Raises:
        RepositoryError: if it cannot be removed

    """
    state = backend.stat_object(path)
    if state is not None:
        backend.delete_object(path, state.etag)
