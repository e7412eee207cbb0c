r"""Configuration: shipped defaults, configuration file, environment."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
import os
import re
from typing import Any

from audmodel.core.backend.host import without_login
from audmodel.core.errors import ConfigurationError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import InvalidInputError
from audmodel.core.home import expand_home
from audmodel.core.home import expand_variables
from audmodel.core.repository import notation
from audmodel.core.repository.repository import Repository
from audmodel.core.repository.repository import unknown_backend


CONFIG_FILE = "~/.config/audmodel.yaml"
DEFAULT_FILE = "default.yaml"
_KEYS = ("cache_root", "repositories")
_REPOSITORY_KEYS = ("name", "host", "backend")
_UNPROTECTED = "unprotected"
_LABEL = "label"
_TRUSTED = "trusted"
# Nothing that separates repositories, or parts of one, in a variable
_LABEL_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}", re.A)
REPOSITORIES_VARIABLE = "AUDMODEL_REPOSITORIES"
CACHE_VARIABLE = "AUDMODEL_CACHE_ROOT"
REUSE_VARIABLE = "AUDMODEL_REUSE"
# User and password before a host, as messages quote it
_LOGIN = re.compile(r"[^\s'\"]+@")


class Config:
    r"""Configuration of the library.

    The files are read when a value is needed for the first time.
    A value that is set is kept until the process ends.

    Examples:
        >>> audmodel.config.CACHE_ROOT = "/data/models"
        >>> audmodel.config.CACHE_ROOT
        '/data/models'

    """

    def __init__(self) -> None:
        self._cache_root: str | None = None
        self._repositories: list[Repository] | None = None

    @property
    def CACHE_ROOT(self) -> str:  # noqa: N802
        r"""Cache folder, used if ``AUDMODEL_CACHE_ROOT`` is not set."""
        if self._cache_root is None:
            self._read()
        assert self._cache_root is not None
        return self._cache_root

    @CACHE_ROOT.setter
    def CACHE_ROOT(self, value: str) -> None:  # noqa: N802
        self._cache_root = value

    @property
    def REPOSITORIES(self) -> list[Repository]:  # noqa: N802
        r"""Repositories, in the order in which they are searched."""
        if self._repositories is None:
            self._read()
        assert self._repositories is not None
        return self._repositories

    @REPOSITORIES.setter
    def REPOSITORIES(self, value: list[Repository]) -> None:  # noqa: N802
        self._repositories = value

    def _read(self) -> None:
        r"""Fill in what was not set from the files."""
        values = default_settings() | user_settings()
        if self._cache_root is None:
            self._cache_root = values["cache_root"]
        if self._repositories is None:
            self._repositories = _chosen(values["repositories"])


config = Config()
r"""Configuration of the library."""


def default_cache_root() -> str:
    r"""Cache folder that is used if none is given.

    It is the value of the environment variable ``AUDMODEL_CACHE_ROOT``,
    or, if that is not set, of :attr:`audmodel.config.CACHE_ROOT`.

    Returns:
        absolute path of the folder

    Raises:
        ConfigurationError: if the configuration file cannot be used,
            or the path names a variable that is not set,
            or a home folder that is not known

    Examples:
        >>> import os
        >>> os.environ["AUDMODEL_CACHE_ROOT"] = "/data/models"
        >>> default_cache_root()
        '/data/models'

    """
    root = os.environ.get(CACHE_VARIABLE)
    if root:
        root = expand_variables(root, CACHE_VARIABLE)
    return os.path.abspath(expand_home(root or config.CACHE_ROOT))


def cache_folder(root: str | None) -> str:
    r"""Cache folder that a user names, or the default one.

    Args:
        root: folder, the default one if it is ``None``

    Returns:
        absolute path

    """
    return os.path.abspath(expand_home(root)) if root else default_cache_root()


def reuses_parts() -> bool:
    r"""Whether a load may copy from other models: ``AUDMODEL_REUSE`` may say no."""
    value = os.environ.get(REUSE_VARIABLE, "1")
    return value.strip().lower() not in ("0", "false", "no", "off")


def user_settings() -> dict[str, Any]:
    r"""Settings that the configuration file of the user holds.

    Returns:
        checked settings, none if there is no file

    Raises:
        ConfigurationError: if the file cannot be used

    """
    path = os.path.expanduser(CONFIG_FILE)
    if not os.path.isabs(path):
        # Without home folder it would lie in the current folder
        return {}
    # A broken link is an error: its target may not be mounted at the moment
    return _read_file(path) if os.path.lexists(path) else {}


def environment_repositories() -> list[str]:
    r"""Repositories that the environment names.

    Returns:
        texts, none if ``AUDMODEL_REPOSITORIES`` is not set

    """
    value = os.environ.get(REPOSITORIES_VARIABLE, "")
    return [item for item in map(str.strip, re.split("[,\n]", value)) if item]


def _chosen(configured: list[Repository]) -> list[Repository]:
    r"""Repositories that the environment names, else all that are configured."""
    texts = environment_repositories()
    if not texts:
        return configured
    try:
        return [_named(text, configured) for text in texts]
    except (ConfigurationError, InvalidInputError) as error:
        problem = redacted(f"{REPOSITORIES_VARIABLE}: {error}")
    # Outside of the handler, as the frames below know passwords as well
    raise ConfigurationError(problem)


def _named(text: str, configured: list[Repository]) -> Repository:
    repository = notation.find(text, configured)
    if ":" in text and repository.backend == "file-system":
        repository.host = expand_variables(repository.host, f"{text!r}")
    # Another way to write a repository does not switch its checks off
    repository.trusted = _policy(repository, configured)
    return repository


def _policy(
    repository: Repository, configured: list[Repository]
) -> str | Mapping[str, str] | None:
    if repository.trusted is not None:
        return repository.trusted
    same = (each for each in configured if each.trusted and each == repository)
    return next((each.trusted for each in same), None)


def trusted_file(repository: Repository, subgroup: str) -> str | None:
    r"""File of the signers that a repository trusts with a subgroup.

    Args:
        repository: the repository, as configured or as named otherwise
        subgroup: subgroup of a model

    Returns:
        path, empty if it trusts none, ``None`` if it needs no signatures

    """
    policy = _policy(repository, config.REPOSITORIES)
    if policy is None:
        return None
    if isinstance(policy, Mapping):
        matching = (
            file for pattern, file in policy.items() if fnmatchcase(subgroup, pattern)
        )
        policy = next(matching, "")
    return os.path.abspath(expand_home(policy)) if policy else ""


def needs_signatures(repository: Repository) -> bool:
    r"""Whether models of a repository have to be signed."""
    return _policy(repository, config.REPOSITORIES) is not None


def redacted(text: str) -> str:
    r"""Text without users and passwords that stand before hosts.

    Args:
        text: message, or value of a variable

    """
    return _LOGIN.sub("***@", text)


def shown_host(repository: Repository) -> str:
    r"""Host of a repository, without the user and password that it may hold."""
    host = str(repository.host)
    return host if repository.backend == "file-system" else without_login(host)


def check_backend(repository: Repository) -> None:
    r"""Raise an error if the backend of a repository is not registered.

    Raises:
        ConfigurationError: if it is not.
            It names the configuration file if the repository is from there

    """
    if repository.backend in Repository.backend_registry:
        return
    message = unknown_backend(repository.backend)
    if repository in user_settings().get("repositories", ()):
        message = f"'{os.path.expanduser(CONFIG_FILE)}': {message}"
    raise ConfigurationError(message)


def is_embedded(repository: Repository) -> bool:
    r"""Whether this is the local repository that needs no configuration.

    Args:
        repository: the repository

    Returns:
        ``True`` if it is made when something is published

    """
    return bool(repository == default_settings()["repositories"][0])


def default_settings() -> dict[str, Any]:
    r"""Settings that hold unless the user overrides them."""
    import pkgutil

    # The package may be in a ZIP file
    content = pkgutil.get_data("audmodel.core.repository", DEFAULT_FILE)
    assert content is not None
    return _settings(content, DEFAULT_FILE)


def _read_file(path: str) -> dict[str, Any]:
    r"""Checked content of a configuration file."""
    try:
        return _settings(_content(path), path)
    except (ConfigurationError, InvalidDocumentError) as error:
        where = f"'{path}'"
        problem = redacted(str(error).removeprefix(where))
    # Outside of the handler, as the frames below know the passwords as well
    raise ConfigurationError(f"{where}{problem}")


def _content(path: str) -> bytes:
    from audmodel.core.yaml import document

    try:
        with open(path, "rb") as file:
            return file.read(document.MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"The configuration file '{path}' cannot be read: {error.strerror}."
        ) from error


def _settings(content: bytes, path: str) -> dict[str, Any]:
    r"""Checked settings of a file with this path."""
    from audmodel.core.yaml import document

    values = document.load(content, f"'{path}'")
    for key in values:
        if key not in _KEYS:
            raise ConfigurationError(
                f"'{path}' has the unknown key {key!r}, known are: {', '.join(_KEYS)}."
            )
    if "cache_root" in values:
        _check_string(path, "cache_root", values["cache_root"])
        values["cache_root"] = _folder(path, values["cache_root"])
    if "repositories" in values:
        values["repositories"] = _repositories(path, values["repositories"])
    return values


def _repositories(path: str, entries: object) -> list[Repository]:
    if not isinstance(entries, list):
        raise ConfigurationError(
            f"'{path}': the key 'repositories' has to be a list of entries "
            f"with {', '.join(_REPOSITORY_KEYS)}, not {entries!r}."
        )
    repositories: list[Repository] = []
    for number, entry in enumerate(entries):
        where = f"repositories[{number}]"
        if not isinstance(entry, dict):
            raise ConfigurationError(
                f"'{path}': the key '{where}' has to hold "
                f"{', '.join(_REPOSITORY_KEYS)}, not {entry!r}."
            )
        for key in _REPOSITORY_KEYS:
            if key not in entry:
                raise ConfigurationError(
                    f"'{path}': the key '{where}.{key}' is missing."
                )
            _check_string(path, f"{where}.{key}", entry[key])
        known = (*_REPOSITORY_KEYS, _UNPROTECTED, _LABEL, _TRUSTED)
        if unknown := set(entry) - set(known):
            raise ConfigurationError(
                f"'{path}': the key '{where}.{min(map(str, unknown))}' "
                f"is unknown, known are: {', '.join(known)}."
            )
        if not isinstance(entry.get(_UNPROTECTED, False), bool):
            raise ConfigurationError(
                f"'{path}': the key '{where}.{_UNPROTECTED}' "
                f"has to be true or false, not {entry[_UNPROTECTED]!r}."
            )
        _check_label(path, where, entry.get(_LABEL), repositories)
        if _TRUSTED in entry:
            entry[_TRUSTED] = _trusted(path, f"{where}.{_TRUSTED}", entry[_TRUSTED])
        if entry["backend"] == "file-system":
            where = f"'{path}': the key '{where}.host'"
            entry["host"] = expand_variables(entry["host"], where)
        repositories.append(Repository(**entry))
    return repositories


def _trusted(path: str, key: str, value: object) -> str | dict[str, str]:
    r"""File of trusted signers, or one for each pattern of subgroups."""
    if isinstance(value, dict) and value:
        for pattern, file in value.items():
            _check_string(path, f"{key} (pattern)", pattern)
            _check_string(path, f"{key}.{pattern}", file)
        return {
            pattern: _folder(path, file, f"{key}.{pattern}")
            for pattern, file in value.items()
        }
    _check_string(path, key, value)
    return _folder(path, str(value), key)


def _check_label(
    path: str, where: str, label: object, others: list[Repository]
) -> None:
    if label is None:
        return
    key = f"{where}.{_LABEL}"
    _check_string(path, key, label)
    assert isinstance(label, str)
    if not _LABEL_PATTERN.fullmatch(label):
        raise ConfigurationError(
            f"'{path}': the key '{key}' has to be made of up to 64 letters, digits, "
            f"'.', '_', or '-', not {label!r}."
        )
    if any(other.label == label for other in others):
        raise ConfigurationError(
            f"'{path}': the key '{key}' is {label!r} as in an entry above. "
            "Give each repository another label."
        )


def _folder(path: str, folder: str, name: str = "cache_root") -> str:
    r"""Absolute path of a folder or file, checked."""
    key = f"'{path}': the key '{name}'"
    expanded = expand_variables(folder, key)
    if not expanded.startswith(("/", "~")):
        raise ConfigurationError(
            f"{key} has to be an absolute path, or to begin with '~', "
            f"since '{folder}' depends on where a program is started."
        )
    return expanded


def _check_string(path: str, key: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(
            f"'{path}': the key '{key}' has to be a string, not {value!r}."
        )
