r"""Find files in a folder that are seldom meant to be published.

Names tell most of them, and take no time to look at.
Of the rest, small text files are searched for keys and tokens
whose form tells what they are.

"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
import contextlib
from fnmatch import translate
import os
import re

from audmodel.core.archive.input import InputFile
from audmodel.core.operations.results import SuspiciousFile


# Bytes of a file that is searched, and how many of them are
_SMALL = 64 << 10
_SEARCHED = 1000
_SHOWN = 10

_CREDENTIALS = "credentials"
_HISTORY = "version control"
_PACKAGES = "installed packages"
_TOOLS = "files of a tool"

_FOLDERS = {
    **dict.fromkeys((".aws", ".docker", ".gnupg", ".kube", ".ssh"), _CREDENTIALS),
    **dict.fromkeys((".bzr", ".dvc", ".git", ".hg", ".jj", ".svn"), _HISTORY),
    **dict.fromkeys((".env", ".venv", "node_modules"), _PACKAGES),
    **dict.fromkeys((".cache", ".idea", ".ipynb_checkpoints", ".vscode"), _TOOLS),
    **dict.fromkeys(("__pycache__", ".mypy_cache", ".pytest_cache"), _TOOLS),
    **dict.fromkeys((".ruff_cache", ".tox", "__macosx"), _TOOLS),
}
_NAMES = {
    **dict.fromkeys((".ds_store", "desktop.ini", "thumbs.db"), _TOOLS),
    # A file in a working tree or a submodule
    ".git": _HISTORY,
}
# Patterns of names in lower case
_SECRET = (
    *(".env", ".env.*", ".netrc", "_netrc", ".pgpass", ".pypirc", ".htpasswd"),
    *(".git-credentials", ".s3cfg", ".boto", "rclone.conf", "minio.cfg"),
    *(".artifactory_python.cfg", "credentials.json", "client_secret*.json"),
    *("application_default_credentials.json", "id_rsa", "id_dsa", "id_ecdsa"),
    *("id_ed25519", "*.p12", "*.pfx", "*.ppk", "*.kdbx", "*.jks", "*.keystore"),
)
_SECRET_NAMES = re.compile("|".join(map(translate, _SECRET)))
_EXAMPLES = (".env.dist", ".env.example", ".env.sample", ".env.template")
_TEXT = {
    *("", ".bat", ".cfg", ".conf", ".config", ".env", ".ini", ".ipynb", ".json"),
    *(".key", ".md", ".pem", ".properties", ".ps1", ".py", ".rst", ".sh", ".toml"),
    *(".txt", ".xml", ".yaml", ".yml"),
}
# Examples in the documentation of AWS end with 'EXAMPLE' or 'EXAMPLEKEY'
_CONTENT = {
    "private key": rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\\r|\\n|\s)+(?:Proc-Type|Version|Comment|[A-Za-z0-9+/=]{16})",
    "access key": rb"(?<![A-Za-z0-9+/])(?:AKIA|ASIA)[A-Z2-7]{16}(?<!EXAMPLE)"
    rb"(?![A-Za-z0-9+/])",
    "access token": rb"(?<![A-Za-z0-9_])(?:gh[oprsu]_[A-Za-z0-9]{36}"
    rb"|github_pat_[A-Za-z0-9_]{60}|glpat-[A-Za-z0-9_-]{20}|hf_[A-Za-z]{34}"
    rb"|xox[abprs]-[0-9]{10})",
}
_PATTERNS = {what: re.compile(pattern) for what, pattern in _CONTENT.items()}


def find(files: Iterable[InputFile]) -> list[SuspiciousFile]:
    r"""Files that are seldom meant to be published.

    Args:
        files: files of a folder

    Returns:
        files and folders, in the order of ``files``.
        What is in one of these folders is not looked at

    Raises:
        FileChangedError: if a file changes in the meantime

    """
    found: dict[str, str] = {}
    searched = 0
    for file in files:
        path = _folder(file.name)
        reason = _folder_reason(path) if path else _name_reason(file.name)
        if not reason and _is_small_text(file) and searched < _SEARCHED:
            searched += 1
            reason = _content_reason(file)
        if reason:
            found.setdefault(path or file.name, reason)
    return [SuspiciousFile(path, reason) for path, reason in found.items()]


def message(root: str, found: Sequence[SuspiciousFile]) -> str:
    r"""What to say about files that were found.

    Args:
        root: folder that is published
        found: what was found in it

    """
    shown = ", ".join(f"{file.path!r} ({file.reason})" for file in found[:_SHOWN])
    more = len(found) - _SHOWN
    return (
        f"The folder '{root}' holds what is seldom meant to be published: {shown}"
        f"{f', and {more} more' if more > 0 else ''}. "
        "Leave it out with 'exclude' or a file '.audmodelignore', "
        "or set 'suspicious' to 'allow'."
    )


def _folder(name: str) -> str:
    r"""Path of the suspicious folder that a file is in, with ``'/'`` at the end."""
    parts = name.split("/")
    for depth, part in enumerate(parts[:-1], start=1):
        if part.lower() in _FOLDERS:
            return "/".join(parts[:depth]) + "/"
    return ""


def _folder_reason(path: str) -> str:
    return _FOLDERS[os.path.basename(path.removesuffix("/")).lower()]


def _name_reason(name: str) -> str:
    last = os.path.basename(name).lower()
    if last in _NAMES:
        return _NAMES[last]
    is_secret = _SECRET_NAMES.match(last) and last not in _EXAMPLES
    return _CREDENTIALS if is_secret else ""


def _is_small_text(file: InputFile) -> bool:
    suffix = os.path.splitext(file.name)[1].lower()
    return 0 < file.size <= _SMALL and suffix in _TEXT


def _content_reason(file: InputFile) -> str:
    content = b""
    # What cannot be read is reported when it is published
    with contextlib.suppress(OSError), open(file.open(), "rb") as stream:
        content = stream.read(_SMALL)
    if b"\0" in content:
        return ""
    matches = (what for what, regex in _PATTERNS.items() if regex.search(content))
    return next(matches, "")
