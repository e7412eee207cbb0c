r"""Repositories that a user names, in Python, on the command line, in variables.

A text is the label of a configured repository, or its name,
or ``BACKEND:HOST:NAME`` for any repository.

"""

from __future__ import annotations

from collections.abc import Iterable

from audmodel.core.backend.host import without_login
from audmodel.core.errors import InvalidInputError
from audmodel.core.repository.repository import Repository
from audmodel.core.repository.repository import check_type


_FORM = "BACKEND:HOST:NAME"
_EXAMPLE = f"Write {_FORM}, e.g. 'file-system:/data:models'."


def find(repository: object, configured: Iterable[Repository]) -> Repository:
    r"""Repository that a user means.

    Args:
        repository: the repository, or a text that stands for it
        configured: repositories that have labels and names

    Returns:
        repository

    Raises:
        TypeError: if it is neither a repository nor a text
        InvalidInputError: if no repository, or more than one, is meant

    """
    if not isinstance(repository, str):
        return check_type(repository)
    if repository.count(":") >= 2:
        return _parse(repository)
    known = list(configured)
    labeled = [each for each in known if each.label == repository]
    named = [each for each in known if each.name == repository]
    # The same repository may be listed twice
    found = list(dict.fromkeys(labeled or named))
    if not found:
        names = ", ".join(dict.fromkeys(each.label or each.name for each in known))
        raise InvalidInputError(
            f"{without_login(repository)!r} is not a configured repository, "
            f"configured are: {names or 'none'}. "
            f"Write {_FORM} for any other repository."
        )
    if len(found) > 1:
        raise InvalidInputError(
            f"{len(found)} configured repositories have the name {repository!r}. "
            f"Give them labels in the configuration, or write {_FORM}."
        )
    return found[0]


def _parse(text: str) -> Repository:
    r"""Repository of a text that holds backend, host and name."""
    backend, _, rest = text.partition(":")
    host, _, name = rest.rpartition(":")
    if not (backend and host and name):
        shown = without_login(text)
        raise InvalidInputError(f"{shown!r} is not a repository. {_EXAMPLE}")
    return Repository(name, host, backend)
