r"""Check and compute model IDs, versions and aliases."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
from dataclasses import dataclass
from dataclasses import field
import hashlib
import re

from audmodel.core.errors import InvalidDataError
from audmodel.core.errors import InvalidIdError
from audmodel.core.errors import InvalidInputError


_SHORT = r"[0-9a-f]{8}"
_LEGACY = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_VERSION = r"\d{1,18}\.\d{1,18}\.\d{1,18}(?:-[A-Za-z0-9._-]{1,64})?"
_ID = re.compile(rf"(?P<short>{_LEGACY}|{_SHORT})(?:-(?P<version>{_VERSION}))?", re.A)
_VERSION_PATTERN = re.compile(_VERSION, re.A)
_ALIAS = re.compile(r"[A-Za-z0-9._-]{1,128}", re.A)
# Suffixes by which other tools order a version before the one without
_PRERELEASE = re.compile(
    r"-(?:a|alpha|b|beta|c|rc|pre|preview|dev|nightly|snapshot)(?![a-z])", re.A | re.I
)


@dataclass(frozen=True, order=True)
class ModelId:
    r"""ID of one version of a model.

    Args:
        short: first part of the ID, shared by all versions:
            8 characters, or 36 for models of the first generation
        version: version of the model
        found_by: ID that a lookup began with, for messages

    """

    short: str
    version: str
    found_by: ShortId | Alias | None = field(default=None, compare=False, kw_only=True)

    def __str__(self) -> str:
        return f"{self.short}-{self.version}"


@dataclass(frozen=True)
class ShortId:
    r"""ID shared by all versions of a model."""

    short: str

    def __str__(self) -> str:
        return self.short


@dataclass(frozen=True)
class Alias:
    r"""Name that points to a model ID."""

    name: str

    def __str__(self) -> str:
        return self.name


def parse(uid: str) -> ModelId | ShortId | Alias:
    r"""Tell which kind of ID a string is.

    Args:
        uid: model ID, short ID, legacy ID, or alias

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidIdError: if ``uid`` cannot be an ID or an alias

    """
    if not isinstance(uid, str):
        raise TypeError(f"A model ID has to be a string, not {type(uid).__name__}.")
    if match := _ID.fullmatch(uid):
        short, version = match["short"], match["version"]
        return ShortId(short) if version is None else ModelId(short, version)
    if is_alias(uid):
        return Alias(uid)
    shown = uid if len(uid) <= 50 else f"{uid[:50]}…"
    raise InvalidIdError(
        f"A model with ID {shown!r} does not exist, "
        "since this is neither a model ID, e.g. '3e120e8d-1.0.0' or '3e120e8d', "
        "nor an alias of up to 128 letters, digits, '.', '_', or '-'."
    )


def is_alias(name: str) -> bool:
    r"""Whether a string can be used as an alias."""
    return (
        _ALIAS.fullmatch(name) is not None
        and _ID.fullmatch(name) is None
        and name.strip(".") != ""
    )


def check_alias(name: str) -> None:
    r"""Raise an error if a string cannot be used as an alias.

    Raises:
        TypeError: if ``name`` is not a string
        InvalidInputError: if ``name`` is not a valid alias

    """
    _check(
        name,
        "An alias",
        is_alias,
        "an allowed alias name",
        "Use up to 128 letters, digits, '.', '_', or '-' "
        "that do not look like a model ID.",
    )


def check_version(version: str) -> None:
    r"""Raise an error if a string is not a version.

    Raises:
        TypeError: if ``version`` is not a string
        InvalidInputError: if ``version`` is not a semantic version

    """
    _check(
        version,
        "A version",
        is_version,
        "a valid version",
        "Use three numbers and, if you like, a suffix after '-', "
        "e.g. '1.0.0' or '1.0.0-prod'.",
    )


def _check(
    text: object, what: str, is_valid: Callable[[str], bool], kind: str, advice: str
) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{what} has to be a string, not {type(text).__name__}.")
    if not is_valid(text):
        raise InvalidInputError(f"{text[:150]!r} is not {kind}. {advice}")


def is_version(version: str) -> bool:
    r"""Whether a string is a version."""
    return _VERSION_PATTERN.fullmatch(version) is not None


def is_prerelease(version: str) -> bool:
    r"""Whether the suffix of a version says that the version itself is to come."""
    return _PRERELEASE.search(version) is not None


def is_short(short: str) -> bool:
    r"""Whether a string is the first part of a model ID."""
    match = _ID.fullmatch(short)
    return match is not None and match["version"] is None


def sort_versions(versions: Iterable[str]) -> list[str]:
    r"""Sort versions from oldest to newest.

    As in earlier releases,
    a version with a suffix follows the one without,
    so that ``'1.0.0-prod'`` counts as newer than ``'1.0.0'``.
    """

    def key(version: str) -> tuple[tuple[int, ...], list[tuple[int, int, str]]]:
        numbers, _, suffix = version.partition("-")
        # Runs of digits count as numbers: 'rc10' is newer than 'rc9'
        pieces = [
            (1, int(piece), "") if piece.isdigit() else (0, 0, piece)
            for piece in re.findall(r"\d+|[^\d]+", suffix)
        ]
        return tuple(int(n) for n in numbers.split(".")), pieces

    return sorted(versions, key=lambda version: (key(version), version))


def short_id(name: str, params: Mapping[str, object], subgroup: str | None) -> str:
    r"""First part of a model ID, shared by all versions.

    It is the last 8 digits of the MD5 sum
    of subgroup, name and parameters sorted by name,
    as it was from the first release on.
    Parameters count as they are stored,
    so that the ID can be computed from the stored header.
    Those that cannot be stored count as they are:
    earlier releases published models with some of them.

    Returns:
        8 hexadecimal digits

    Raises:
        InvalidInputError: if the names of ``params`` cannot be sorted

    """
    from audmodel.core.yaml import document

    with contextlib.suppress(InvalidDataError):
        params = document.stored_form(params, "params")
    try:
        ordered = dict(sorted(params.items()))
    except TypeError as error:
        raise InvalidInputError(
            "The names of parameters have to be of one type, e.g. all strings."
        ) from error
    return _md5(f"{subgroup or ''}.{name}{ordered}")[-8:]


def comparable(value: object) -> object:
    r"""Form that is equal for values that make the same model ID, NaN included.

    In an ID, ``1``, ``1.0`` and ``True`` are different values.

    Args:
        value: parameters of a model, or a value in them, in their stored form

    Returns:
        value to compare

    """
    if isinstance(value, Mapping):
        return {repr(key): comparable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [comparable(item) for item in value]
    if isinstance(value, set):
        return set(map(repr, value))
    return repr(value)


def legacy_id(
    name: str,
    params: Mapping[str, object],
    version: str,
    subgroup: str | None,
    private: bool,
) -> str:
    r"""Model ID of the first generation.

    Args:
        name: name of the model
        params: parameters in their original order
        version: version of the model
        subgroup: subgroup of the model
        private: whether the model was in the private repository

    """
    group = "com.audeering.models" + (f".{subgroup}" if subgroup is not None else "")
    repository = f"models-{'private' if private else 'public'}-local"
    digits = _md5(f"{dict(params)}{group}.{name}lookup{version}{repository}")
    return "-".join(
        (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest()
