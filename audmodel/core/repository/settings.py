r"""Settings in effect, where each comes from, and which of them are secrets."""

from __future__ import annotations

from collections.abc import Iterator
import os
import re

from audmodel.core.backend.host import REDACTED
from audmodel.core.backend.host import without_login
from audmodel.core.backend.host import without_secrets
from audmodel.core.diagnosis import Check
from audmodel.core.diagnosis import Outcome
from audmodel.core.diagnosis import ok
from audmodel.core.diagnosis import unknown
from audmodel.core.diagnosis import warning
from audmodel.core.errors import ConfigurationError
from audmodel.core.repository.config import CACHE_VARIABLE
from audmodel.core.repository.config import CONFIG_FILE
from audmodel.core.repository.config import REPOSITORIES_VARIABLE
from audmodel.core.repository.config import REUSE_VARIABLE
from audmodel.core.repository.config import Config
from audmodel.core.repository.config import config
from audmodel.core.repository.config import default_cache_root
from audmodel.core.repository.config import environment_repositories
from audmodel.core.repository.config import shown_host
from audmodel.core.repository.config import user_settings
from audmodel.core.repository.repository import OFFLINE_VARIABLE
from audmodel.core.similar import did_you_mean


_OWN = (CACHE_VARIABLE, REPOSITORIES_VARIABLE, OFFLINE_VARIABLE, REUSE_VARIABLE)
# Variables that name files, and may be shown
_FILES = ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
# Variables that storages are reached with, and that may hold secrets
_STORAGES = ("ARTIFACTORY_", "AWS_", "MINIO_")
_SECRET = re.compile("KEY|SECRET|TOKEN|PASSW|CREDENTIAL")
# User and password before a host
_LOGIN = re.compile(r"(?<=//)[^/@\s'\"]+@")


def checks() -> Iterator[Check]:
    r"""Checks of the configuration."""
    yield "file", _file
    yield "cache_root", _cache_root
    yield "repositories", _repositories
    yield "variables", _variables


def _file() -> Iterator[Outcome]:
    path = os.path.expanduser(CONFIG_FILE)
    user_settings()
    state = "can be used" if os.path.lexists(path) else "does not exist"
    yield ok("file", f"'{path}' {state}")


def _cache_root() -> Iterator[Outcome]:
    yield ok("cache_root", f"'{default_cache_root()}' ({_origin_of_cache_root()})")


def _origin_of_cache_root() -> str:
    if os.environ.get(CACHE_VARIABLE):
        return CACHE_VARIABLE
    root = config.CACHE_ROOT
    return "code" if root != _as_configured().CACHE_ROOT else _file_or_default("cache")


def _repositories() -> Iterator[Outcome]:
    try:
        repositories = config.REPOSITORIES
    except ConfigurationError:
        seen = "not known, since the configuration cannot be used"
        yield unknown("repositories", seen)
        return
    origin = _origin_of_repositories()
    for repository in repositories:
        label = f"{repository.label}: " if repository.label else ""
        parts = repository.backend, shown_host(repository), repository.name
        mark = ", unprotected" if repository.unprotected else ""
        yield ok("repository", f"{label}{':'.join(parts)} ({origin}{mark})")
    if not repositories:
        yield ok("repositories", f"none ({origin})")


def _origin_of_repositories() -> str:
    try:
        if config.REPOSITORIES != _as_configured().REPOSITORIES:
            return "code"
    except ConfigurationError:
        return "code"
    if environment_repositories():
        return REPOSITORIES_VARIABLE
    return _file_or_default("repositories")


def _as_configured() -> Config:
    r"""Configuration as it is without what a program has set."""
    return Config()


def _file_or_default(key: str) -> str:
    has_key = any(name.startswith(key) for name in user_settings())
    return f"'{os.path.expanduser(CONFIG_FILE)}'" if has_key else "default"


def _variables() -> Iterator[Outcome]:
    for name, value in sorted(os.environ.items()):
        if not value:
            continue
        if name in _OWN:
            yield ok(name, value)
        elif name.startswith("AUDMODEL_"):
            hint = did_you_mean(name, _OWN).strip()
            seen = "is set, and is no variable of audmodel"
            yield warning(name, seen, hint or f"Variables are: {', '.join(_OWN)}.")
        elif name in _FILES:
            yield ok(name, value)
        elif name.startswith(_STORAGES):
            yield ok(name, "set")
        elif name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            yield ok(name, without_login(value))
        elif name.lower() == "no_proxy":
            yield ok(name, value)


def redacted(text: str) -> str:
    r"""Text without the secrets that the environment holds, and without logins.

    What is shown holds none.
    Errors of libraries, and of classes of users, may quote some nevertheless.

    """
    return _LOGIN.sub(f"{REDACTED}@", without_secrets(text, _secrets()))


def _secrets() -> set[str]:
    r"""Values of variables that are secrets, and passwords in URLs of proxies."""
    found = set()
    for name, value in os.environ.items():
        if name.lower().endswith("_proxy") or name == REPOSITORIES_VARIABLE:
            found |= _logins(value)
        elif _SECRET.search(name.upper()) and not name.upper().endswith("_FILE"):
            found.add(value.strip())
    return found


def _logins(text: str) -> set[str]:
    r"""Passwords before hosts, and logins as a whole."""
    logins = {
        part.rpartition("@")[0].rpartition("://")[2]
        for part in re.split(r"[,\s]", text)
        if "@" in part
    }
    return logins | {login.partition(":")[2] for login in logins}
