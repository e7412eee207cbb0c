r"""Find credentials for a host, and keep them out of logs."""

from __future__ import annotations

from collections.abc import Mapping
import configparser
from dataclasses import dataclass
import logging
import os
import re
import unicodedata

from audmodel.core.backend.host import without_secrets
from audmodel.core.errors import ConfigurationError


MINIO_CONFIG_FILE = "~/.config/audbackend/minio.cfg"
ARTIFACTORY_CONFIG_FILE = "~/.artifactory_python.cfg"
# Loggers of botocore that log secrets at their lowest level
_LOGGERS = (
    "botocore.auth",
    "botocore.credentials",
    "botocore.endpoint",
    "botocore.hooks",
    "botocore.httpsession",
    "botocore.parsers",
    "botocore.retryhandler",
    "botocore.tokens",
    "botocore.utils",
    "urllib3.connectionpool",
)
# Settings of S3 hosts that may be shown
_SHOWN_SETTINGS = (
    *("secure", "region", "addressing_style", "connect_timeout", "read_timeout"),
    "server_side_encryption",
)


def names_of(host: str) -> list[str]:
    r"""Names of a host in the configuration: itself, without scheme, without port."""
    bare = host.rpartition("://")[2].rstrip("/")
    netloc = bare.partition("/")[0]
    names = [host, bare, netloc, re.sub(r":\d+$", "", netloc)]
    return list(dict.fromkeys(name for name in names if name))


def variable(name: str, host: str) -> str | None:
    r"""Value of an environment variable, ``None`` if empty, that of the host first."""
    known = _variable_name(name, host)
    return os.environ.get(known, "").strip() or None if known else None


def _variable_name(name: str, host: str) -> str | None:
    r"""Name of the environment variable that counts, ``None`` if all are empty."""
    ends = [re.sub("[^A-Za-z0-9]", "_", known).upper() for known in names_of(host)]
    for known in [*(f"{name}_{end}" for end in ends), name]:
        # A value that was read from a file may end with a line break
        if os.environ.get(known, "").strip():
            return known
    return None


def check(what: str, *secrets: str | None) -> None:
    r"""Refuse secrets that no HTTP header can hold, before an error quotes them.

    Args:
        what: what they are, for messages
        secrets: secrets to send

    Raises:
        ConfigurationError: if they cannot be sent

    """
    for character in "".join(filter(None, secrets)):
        if ord(character) > 0xFF or unicodedata.category(character) == "Cc":
            raise ConfigurationError(
                f"{what} hold a line break, or another character "
                "that an HTTP header cannot hold. Remove it."
            )


def ca_bundle(*names: str) -> str | None:
    r"""File with certificates that an environment variable names.

    A variable that is set but empty must not switch verification off.

    Args:
        names: names of variables, the first that is set counts

    Returns:
        path, ``None`` if no variable is set

    Raises:
        ConfigurationError: if there is no such file

    """
    for name in names:
        path = os.environ.get(name)
        if path:
            return existing_bundle(path, name)
    return None


def existing_bundle(path: str, what: str) -> str:
    r"""File with certificates, which has to exist.

    Args:
        path: path of the file
        what: what names it, for messages

    Raises:
        ConfigurationError: if there is no such file

    """
    if not os.path.exists(path):
        raise ConfigurationError(
            f"{what} names the file '{path}' with certificates to trust, "
            "which does not exist. Correct or unset it."
        )
    return path


@dataclass(frozen=True)
class _Places:
    r"""Where settings and credentials for hosts of one kind are looked for.

    Args:
        variable: name of the variable that holds the path of the file
        file: path of the file if the variable is not set
        keys: keys in the file, by the variables that override them

    """

    variable: str
    file: str
    keys: Mapping[str, str]

    @property
    def path(self) -> str:
        r"""Path of the file, which need not exist."""
        return os.environ.get(self.variable) or self.file

    def section(self, host: str) -> dict[str, str]:
        r"""Settings of a host in the file."""
        return _section(self.path, names_of(host))

    def origin(self, host: str) -> str:
        r"""Variables, or file, that credentials for a host come from, or nothing."""
        section = self.section(host)
        origins = [
            _variable_name(variable, host)
            or (f"'{self.path}'" if section.get(key) else "")
            for variable, key in self.keys.items()
        ]
        return " and ".join(dict.fromkeys(filter(None, origins)))


MINIO = _Places(
    "MINIO_CONFIG_FILE",
    MINIO_CONFIG_FILE,
    {"MINIO_ACCESS_KEY": "access_key", "MINIO_SECRET_KEY": "secret_key"},
)
ARTIFACTORY = _Places(
    "ARTIFACTORY_CONFIG_FILE",
    ARTIFACTORY_CONFIG_FILE,
    {"ARTIFACTORY_USERNAME": "username", "ARTIFACTORY_API_KEY": "password"},
)


def minio_settings(host: str) -> dict[str, str]:
    r"""Settings for an S3 host: environment first, then the file of audbackend.

    Returns:
        settings, with empty strings for keys without value

    Raises:
        ConfigurationError: if the file cannot be read,
            or only one of access key and secret key is set

    """
    settings = MINIO.section(host)
    for name, key in MINIO.keys.items():
        value = variable(name, host)
        if value:
            settings[key] = value
    if bool(settings.get("access_key")) != bool(settings.get("secret_key")):
        raise ConfigurationError(
            f"For {host!r} only one of access key and secret key is set. "
            "Set both MINIO_ACCESS_KEY and MINIO_SECRET_KEY, "
            f"or both access_key and secret_key in '{MINIO.path}'."
        )
    return settings


def minio_places() -> str:
    r"""Where credentials for S3 hosts are looked for, for messages."""
    return (
        f"MINIO_ACCESS_KEY and MINIO_SECRET_KEY, '{MINIO.path}', "
        "and what the AWS tools use: AWS_ACCESS_KEY_ID, AWS_PROFILE, "
        "'~/.aws/credentials'"
    )


def artifactory_places() -> str:
    r"""Where credentials for Artifactory are looked for, for messages."""
    return f"ARTIFACTORY_USERNAME and ARTIFACTORY_API_KEY, and '{ARTIFACTORY.path}'"


def artifactory_credentials(host: str) -> tuple[str, str] | None:
    r"""User name and password, API key or token for an Artifactory host.

    Returns:
        user name, which may be empty, and secret,
        or ``None`` if there are no credentials

    Raises:
        ConfigurationError: if the file cannot be read

    """
    settings = ARTIFACTORY.section(host)
    username = variable("ARTIFACTORY_USERNAME", host) or settings.get("username", "")
    secret = variable("ARTIFACTORY_API_KEY", host) or settings.get("password", "")
    return (username, secret) if secret else None


def other_settings(host: str) -> list[str]:
    r"""Settings of an S3 host that are no secrets, and where they come from."""
    return [
        f"{key} = {value} ('{MINIO.path}')"
        for key, value in MINIO.section(host).items()
        if key in _SHOWN_SETTINGS
    ]


def boolean(value: str, what: str) -> bool:
    r"""Value of a setting that is either on or off.

    Args:
        value: the setting, empty means off
        what: what it is, for messages

    Raises:
        ConfigurationError: if it is neither

    """
    words = {"": False, **configparser.ConfigParser.BOOLEAN_STATES}
    if value.lower() not in words:
        raise ConfigurationError(f"{what} has to be True or False, not {value!r}.")
    return words[value.lower()]


def seconds(value: str, what: str) -> float | None:
    r"""Value of a setting that is a time.

    Args:
        value: the setting
        what: what it is, for messages

    Returns:
        seconds, ``None`` for no limit

    Raises:
        ConfigurationError: if it is no time

    """
    if value.lower() == "none":
        return None
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise ConfigurationError(
            f"{what} has to be a number of seconds, not {value!r}."
        )
    return number


def _section(path: str, names: list[str]) -> dict[str, str]:
    r"""Section of a configuration file for one of several names."""
    path = os.path.expanduser(path)
    parser = configparser.ConfigParser(allow_no_value=True)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The configuration file '{path}' cannot be read: {type(error).__name__}."
        ) from error
    except configparser.Error as error:
        # The error itself quotes lines of the file
        raise ConfigurationError(
            f"The configuration file '{path}' is not valid: {type(error).__name__}."
        ) from None
    sections = {_bare(section): section for section in parser.sections()}
    for name in names:
        section = sections.get(_bare(name))
        if section is not None:
            return {key: _value(parser, section, key) for key in parser[section]}
    return {}


def _bare(name: str) -> str:
    r"""Name of a section without scheme."""
    return name.rpartition("://")[2].rstrip("/").lower()


def _value(parser: configparser.ConfigParser, section: str, key: str) -> str:
    try:
        value = parser.get(section, key)
    except configparser.InterpolationError:
        # A secret may hold any character
        value = parser.get(section, key, raw=True)
    value = (value or "").strip()
    # The documentation of audbackend shows quotes
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return value


class _Redaction(logging.Filter):
    r"""Redact known secrets in the logs of libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        redacted = redact(message)
        if redacted != message:
            record.msg = redacted
            record.args = None
        return True


_redaction = _Redaction()


def redact(text: str) -> str:
    r"""Text without the secrets that are known."""
    return without_secrets(text, _redaction.secrets)


def register_secrets(*secrets: str | None) -> None:
    r"""Redact secrets in the logs of botocore and urllib3 from now on."""
    for name in _LOGGERS:
        # Adding the same filter again has no effect
        logging.getLogger(name).addFilter(_redaction)
    _redaction.secrets |= set(filter(None, secrets))
