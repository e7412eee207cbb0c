r"""What there is to load: files of a model, models of a repository."""

from __future__ import annotations

from dataclasses import dataclass

from audmodel.core.find import find_directory


@dataclass(frozen=True)
class ModelFile:
    r"""File of a model.

    Args:
        path: path in the model, with ``'/'`` between folders
        size: size in bytes
        compressed_size: bytes that it has in the archive

    """

    path: str
    size: int
    compressed_size: int


def files(uid: str, *, cache_root: str | None = None) -> list[ModelFile]:
    r"""Files of a model.

    The directory of the archive tells, nothing else of it is fetched.
    It is kept in the cache.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``

    Returns:
        files, in the order of the archive

    Raises:
        TypeError: if ``uid`` is not a string
        ArchiveError: if the archive is damaged or not the published one
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> for file in audmodel.files("3e120e8d-1.0.0"):
        ...     print(file.path, file.size)
        log/eval.yaml 10
        model.onnx 16384
        model.yaml 30
        readme.txt 28

    """
    _, _, directory = find_directory(uid, cache_root)
    return [
        ModelFile(member.name, member.size, member.compressed_size)
        for member in directory.files()
    ]
