r"""Results of public functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from audmodel.core.repository.repository import Repository


@dataclass(frozen=True)
class Model:
    r"""Model in a repository.

    Args:
        uid: model ID
        name: name
        subgroup: subgroup, empty if there is none
        version: version
        parameters: parameters
        author: who published it
        date: when it was published, as ``'yyyy-mm-dd'``
        aliases: aliases that point to it, in alphabetical order
        repository: repository that holds it
        size: size of its archive in bytes, ``None`` if it is not known

    """

    uid: str
    name: str
    subgroup: str
    version: str
    parameters: Mapping[str, Any]
    author: str
    date: str
    aliases: list[str]
    repository: Repository
    size: int | None = None


@dataclass(frozen=True)
class DeletedModel:
    r"""Model that was deleted from a repository.

    Args:
        uid: model ID
        repository: repository that it was deleted from
        aliases: aliases that were deleted with it, in alphabetical order

    """

    uid: str
    repository: Repository
    aliases: list[str]


@dataclass(frozen=True)
class CopiedModel:
    r"""Model that was copied to a repository.

    Args:
        uid: model ID
        target: repository that has the copy
        size: size of its archive in bytes
        copied: whether it was copied, and was not there before
        aliases: aliases that were set, in alphabetical order
        kept: aliases that stayed as they are,
            since they point to another model in the target

    """

    uid: str
    target: Repository
    size: int
    copied: bool
    aliases: list[str]
    kept: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Catalog:
    r"""Static pages that show the models of a repository.

    Args:
        url: location of the page that lists all models
        models: number of models, each version counts
        pages: number of pages of models, which show all versions
        written: number of files that were written, since they are new or changed
        removed: number of files that were removed

    """

    url: str
    models: int
    pages: int
    written: int
    removed: int


@dataclass(frozen=True)
class Transfer:
    r"""Bytes and requests that loading or publishing a model takes.

    Args:
        uid: model ID
        files: number of files
        size: bytes of these files
        bytes: bytes that are fetched or sent for them
        requests: number of requests that this takes
        exact: whether ``bytes`` and ``requests`` are exact,
            and not estimated
        copied: bytes of the files that are copied from other models in the cache

    """

    uid: str
    files: int
    size: int
    bytes: int
    requests: int
    exact: bool
    copied: int = 0


@dataclass(frozen=True)
class SuspiciousFile:
    r"""File or folder that is seldom meant to be published.

    Args:
        path: path in the model, with ``'/'`` between folders,
            and at the end of a folder
        reason: what it holds: ``'credentials'``, ``'private key'``,
            ``'access key'``, ``'access token'``, ``'version control'``,
            ``'installed packages'``, or ``'files of a tool'``

    """

    path: str
    reason: str


@dataclass(frozen=True)
class PublishPlan(Transfer):
    r"""What publishing a model would send, and leave out.

    Args:
        uid: model ID
        files: number of files
        size: bytes of these files
        bytes: bytes that are sent for them
        requests: number of requests that this takes
        exact: ``False``, since bytes and requests are estimated
        copied: 0, what the storage copies does not count
        excluded: paths of files and folders that patterns exclude
        suspicious: files and folders that are seldom meant to be published

    """

    excluded: tuple[str, ...] = ()
    suspicious: tuple[SuspiciousFile, ...] = ()


@dataclass(frozen=True)
class ModelFile:
    r"""File of a model.

    Args:
        path: path in the model, with ``'/'`` between folders
        size: size in bytes
        compressed_size: size in the archive in bytes

    """

    path: str
    size: int
    compressed_size: int


@dataclass(frozen=True)
class Signature:
    r"""Signature of a model.

    Args:
        signer: who signed, as the file of trusted signers says,
            empty if it does not name the key
        key: fingerprint of the key, empty if the signature is damaged
        valid: whether the key has signed the stored header
        trusted: whether the configuration trusts the signer with this model
        problem: why it is not valid, or not trusted

    """

    signer: str
    key: str
    valid: bool
    trusted: bool
    problem: str = ""


@dataclass(frozen=True)
class DamagedFile:
    r"""File that differs from the published one.

    Args:
        path: path in the model, with ``'/'`` between folders
        problem: ``'missing'``, ``'kind'`` if it is no regular file,
            ``'size'``, ``'content'``, ``'unreadable'``,
            or ``'mode'`` if it should be executable
        size: bytes of the file that are wrong or missing
        details: details of the damage in the repository

    """

    path: str
    problem: str
    size: int
    details: str = ""


@dataclass(frozen=True)
class Verification:
    r"""Result of verifying a model.

    Args:
        uid: model ID
        path: folder in the cache, or location of the archive in the repository
        damaged: files that were missing or wrong
        extra: files that are not part of the model, which are kept
        repaired: whether the damaged files were replaced

    """

    uid: str
    path: str
    damaged: list[DamagedFile]
    extra: list[str]
    repaired: bool = False

    @property
    def ok(self) -> bool:
        r"""Whether all files are as they were published, maybe after a repair."""
        return not self.damaged or self.repaired
