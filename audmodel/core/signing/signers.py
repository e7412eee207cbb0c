r"""Files of trusted keys: ``allowed_signers``, as git and ``ssh-keygen`` use them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
import datetime
from fnmatch import fnmatchcase
import re

from audmodel.core.errors import ConfigurationError
from audmodel.core.signing import sshsig
from audmodel.core.signing.sshsig import NAMESPACE
from audmodel.core.signing.sshsig import Signature
from audmodel.core.signing.sshsig import SignatureError


_MAX_BYTES = 1 << 20
# A word, of which parts may be in quotes
_WORD = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="((?:[^"\\]|\\.)*)")?(?:,|$)')
_TIME = re.compile(r"(\d{8})(\d{4}(?:\d{2})?)?(Z?)", re.A)


@dataclass(frozen=True)
class Signer:
    r"""One line of a file.

    Args:
        name: who has the key, as the file says
        key: public key, as SSH encodes it
        namespaces: patterns of what the key may sign, ``None`` for everything
        after: time from which the key is valid
        before: time from which it is not valid any more

    """

    name: str
    key: bytes
    namespaces: str | None = None
    after: datetime.datetime | None = None
    before: datetime.datetime | None = None

    def problem(self, now: datetime.datetime) -> str:
        r"""Why a signature of the key does not count, empty if it does."""
        if self.namespaces is not None and not _matches(self.namespaces):
            return f"the key of {self.name} is not for '{NAMESPACE}'"
        if self.after is not None and now < self.after:
            return f"the key of {self.name} is valid from {self.after:%Y-%m-%d %H:%M}"
        if self.before is not None and now >= self.before:
            return f"the key of {self.name} expired {self.before:%Y-%m-%d %H:%M}"
        return ""


def _matches(patterns: str) -> bool:
    r"""Whether patterns allow the namespace, and none that begins with '!' does not."""
    given = patterns.split(",")
    refused = any(fnmatchcase(NAMESPACE, p[1:]) for p in given if p.startswith("!"))
    return not refused and any(fnmatchcase(NAMESPACE, p) for p in given)


def read(path: str) -> list[Signer]:
    r"""Signers of a file.

    Raises:
        ConfigurationError: if it cannot be read, or holds something else

    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"The file of trusted signers '{path}' cannot be read: {error.strerror}."
        ) from error
    if len(content) > _MAX_BYTES:
        raise ConfigurationError(f"The file of trusted signers '{path}' is too large.")
    signers = []
    lines = content.decode(errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                signers.append(_parse(line))
            except ValueError as error:
                raise ConfigurationError(
                    f"Line {number} of the trusted signers '{path}' "
                    f"cannot be used: {error}."
                ) from error
    return signers


def _parse(line: str) -> Signer:
    words = _WORD.findall(line)
    if len(words) < 3:
        raise ValueError("it has to hold names, a type of key, and a key")
    name = words[0].strip('"')
    options: dict[str, str | None] = {}
    if not _is_type(words[1]):
        options = _options(words[1])
        del words[1]
    if len(words) < 3 or not _is_type(words[1]):
        raise ValueError("it names no type of key")
    try:
        key = base64.b64decode(words[2], validate=True)
    except binascii.Error as error:
        raise ValueError("its key is damaged") from error
    return Signer(
        name,
        key,
        options.get("namespaces"),
        _time(options.get("valid-after")),
        _time(options.get("valid-before")),
    )


def _is_type(word: str) -> bool:
    return word.startswith(("ssh-", "sk-", "ecdsa-"))


def _options(text: str) -> dict[str, str | None]:
    options: dict[str, str | None] = {}
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        if match is None:
            raise ValueError(f"its options {text[:80]!r} are not valid")
        name = match[1].lower()
        if name == "cert-authority":
            raise ValueError(
                "certificates are not supported, list the keys of the signers instead"
            )
        has_value = match[2] is not None
        if name not in ("namespaces", "valid-after", "valid-before") or not has_value:
            raise ValueError(f"its option {match[0][:80]!r} is not known")
        if name in options:
            raise ValueError(f"its option {name!r} occurs twice")
        options[name] = match[2]
        position = match.end()
    return options


def _time(text: str | None) -> datetime.datetime | None:
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"its time {text[:30]!r} is not like 20260131 or 20260131Z")
    form = "%Y%m%d%H%M%S"
    digits = (match[1] + (match[2] or "")).ljust(14, "0")
    time = datetime.datetime.strptime(digits, form)  # noqa: DTZ007 (set below)
    return time.replace(tzinfo=datetime.UTC) if match[3] else time.astimezone()


def signer_of(
    signature: Signature, signers: Sequence[Signer], now: datetime.datetime
) -> Signer:
    r"""Trusted signer that a signature is by.

    Raises:
        SignatureError: if there is none, or the key is not valid now

    """
    known = [signer for signer in signers if signer.key == signature.key]
    for signer in known:
        if not signer.problem(now):
            return signer
    if known:
        raise SignatureError(known[0].problem(now))
    raise SignatureError(f"the key {sshsig.fingerprint(signature.key)} is not trusted")
