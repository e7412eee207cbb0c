r"""Repositories and the registry of backends."""

from collections import UserDict
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
import copy
import hashlib
import importlib
import os
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar

from audmodel.core.backend.host import without_login
from audmodel.core.errors import ConfigurationError
from audmodel.core.similar import did_you_mean


if TYPE_CHECKING:
    import audbackend

    from audmodel.core.backend.access import Access
    from audmodel.core.backend.base import ObjectBackend


OFFLINE_VARIABLE = "AUDMODEL_OFFLINE"
# Ends of file names that the interface does not split at their first dot
_EXTENSIONS = ("header.yaml", "meta.yaml", "alias.yaml")


class _BackendRegistry(UserDict[str, Any]):
    r"""Dictionary of backend classes, each imported when it is asked for.

    What is not imported yet is the place to import it from.
    """

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, str):
            module, _, attribute = value.partition(":")
            value = self.data[name] = getattr(
                importlib.import_module(module), attribute
            )
        return value

    def __repr__(self) -> str:
        return repr(dict(self))


class Repository:
    r"""Place where models are stored.

    It has an attribute for each argument.
    Repositories are equal if they are the same storage.
    Different spellings of one are equal:
    links, ``'~'``, relative paths, and slashes at the end of folders,
    schemes, default ports, case of host names,
    and regions of AWS are resolved before the comparison.

    Args:
        name: name of the repository
        host: folder, which may be a :class:`pathlib.Path`, host name, or URL
        backend: name of the backend, see :attr:`backend_registry`
        unprotected: whether to publish to an S3 storage
            that has no conditional writes,
            see :func:`audmodel.check_repository`
        label: short name by which functions and commands find it
            among the configured repositories, beside ``name``
        trusted: file of the keys that have to sign a model,
            in the format ``allowed_signers`` of OpenSSH,
            or a dictionary of patterns of subgroups and such files,
            of which the first pattern that matches counts.
            Models without such a signature are refused,
            see :class:`audmodel.errors.UntrustedModelError`

    Examples:
        >>> Repository("models", "/data", "file-system")
        Repository('models', '/data', 'file-system')
        >>> first, second = (
        ...     Repository("models", host, "file-system")
        ...     for host in ("/data", "/data/")
        ... )
        >>> first == second
        True

    """

    backend_registry: ClassVar[UserDict[str, Any]] = _BackendRegistry(
        {
            "file-system": "audmodel.core.backend.filesystem:FileSystem",
            "s3": "audmodel.core.backend.s3.backend:S3",
            "minio": "audmodel.core.backend.s3.backend:S3",
            "artifactory": "audmodel.core.backend.artifactory.backend:Artifactory",
        }
    )
    r"""Classes of backends by name."""

    def __init__(
        self,
        name: str,
        host: str | os.PathLike[str],
        backend: str,
        *,
        unprotected: bool = False,
        label: str | None = None,
        trusted: str | Mapping[str, str] | None = None,
    ) -> None:
        host = os.fspath(host) if isinstance(host, os.PathLike) else host
        if "@" in str(host) and _is_server(backend):
            # It is refused when it is used, and kept nowhere until then
            host = without_login(host)
        self.name = name
        self.host: str = host
        self.backend = backend
        self.unprotected = unprotected
        self.label = label
        self.trusted = trusted

    def __repr__(self) -> str:
        host = self.host
        if "@" in str(host) and self.backend != "file-system":
            host = without_login(host)
        return f"Repository({self.name!r}, {host!r}, {self.backend!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Repository):
            return NotImplemented
        return self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, ...]:
        from audmodel.core.repository import identity

        return identity.identity(_kind(self.backend), self.host, self.name)

    @classmethod
    def register(cls, backend_name: str, backend_class: type) -> None:
        r"""Make a backend available under a name.

        Args:
            backend_name: name of the backend,
                replaces an earlier backend of this name
            backend_class: class that derives from ``audbackend.backend.Base``

        Raises:
            TypeError: if ``backend_class`` does not derive
                from ``audbackend.backend.Base``

        """
        import audbackend

        if not (
            isinstance(backend_class, type)
            and issubclass(backend_class, audbackend.backend.Base)
        ):
            raise TypeError(
                f"{backend_class!r} has to be a class "
                "that derives from audbackend.backend.Base."
            )
        cls.backend_registry[backend_name] = backend_class

    def create_backend_interface(self) -> "audbackend.interface.Maven":
        r"""Interface of ``audbackend`` to the repository.

        Returns:
            interface, not opened yet

        Raises:
            ConfigurationError: if no backend is registered under the name

        """
        import audbackend

        return audbackend.interface.Maven(
            self._create_backend(), extensions=_EXTENSIONS
        )

    @contextmanager
    def connect(self) -> Iterator["ObjectBackend"]:
        r"""Open a connection to the repository.

        Yields:
            backend with the abilities that the registry uses

        Raises:
            ConfigurationError: if no backend is registered under the name
            OfflineError: if it is remote, and ``AUDMODEL_OFFLINE`` is set
            RepositoryError: if the repository does not exist,
                or cannot be reached

        """
        from audmodel.core.backend.adapter import adapt
        from audmodel.core.backend.errors import OfflineError

        if _is_offline() and self.backend != "file-system":
            raise OfflineError(
                f"{self} is remote, and AUDMODEL_OFFLINE is set. "
                "Only models in the cache, and repositories in folders, can be used."
            )
        with adapt(self._create_backend()) as backend:
            backend.unprotected = self.unprotected
            yield backend

    def access(self) -> "Access | None":
        r"""How the repository is reached, found out without a connection.

        Returns:
            description without secrets, ``None`` if it is on no known kind of server

        Raises:
            ConfigurationError: if the configuration cannot be used
            RepositoryError: if credentials cannot be retrieved

        """
        from audmodel.core.backend.base import ObjectBackend

        backend = self._create_backend()
        return backend.access() if isinstance(backend, ObjectBackend) else None

    def locate(self, path: str) -> str:
        r"""Location of an object, found out without a connection.

        Args:
            path: path in the repository

        Returns:
            URL, or path on the file system

        Raises:
            ConfigurationError: if no backend is registered under the name

        """
        from audmodel.core.backend.adapter import object_url

        return object_url(self._create_backend(), path)

    def _create_backend(self) -> Any:
        registry = self.backend_registry
        if self.backend not in registry:
            raise ConfigurationError(unknown_backend(self.backend))
        return registry[self.backend](self.host, self.name)


def anchored(repository: Repository) -> Repository:
    r"""Repository that stays the same when the current folder changes.

    Returns:
        the same, with an absolute path if it is in a folder

    """
    if repository.backend != "file-system":
        return repository
    same = copy.copy(repository)
    same.host = os.path.abspath(os.path.expanduser(repository.host))
    return same


def fingerprint(repository: Repository) -> str:
    r"""Digits that are the same for repositories that are the same storage.

    Returns:
        16 hexadecimal digits

    """
    from audmodel.core.repository import identity

    values = identity.identity(
        _kind(repository.backend), repository.host, repository.name
    )
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:16]


def server_name(repository: Repository) -> str | None:
    r"""Name of the server that a repository is on.

    Returns:
        name, ``None`` if it is on none,
        or if nothing is known about its kind of storage

    """
    from audmodel.core.repository import identity

    return identity.server_name(_kind(repository.backend), repository.host)


def _is_server(backend: str) -> bool:
    from audmodel.core.repository import identity

    return identity.is_server(_kind(backend))


def _kind(backend: str) -> object:
    r"""Class of a backend, or where to import it from."""
    return Repository.backend_registry.data.get(backend, backend)


def unknown_backend(name: str) -> str:
    r"""Message of an error for a backend that is not registered."""
    registered = sorted(Repository.backend_registry)
    return (
        f"{name!r} is not a registered backend, "
        f"registered are: {', '.join(registered)}.{did_you_mean(name, registered)}"
    )


def check_type(repository: object) -> Repository:
    r"""Raise an error if something is not a repository.

    Raises:
        TypeError: if it is none

    """
    if not isinstance(repository, Repository):
        raise TypeError(
            "'repository' has to be an audmodel.Repository or its name, "
            f"not {repository!r}."
        )
    return repository


def _is_offline() -> bool:
    r"""Whether the environment forbids to use remote repositories."""
    value = os.environ.get(OFFLINE_VARIABLE, "")
    return value.strip().lower() not in ("", "0", "false", "no", "off")
