r"""The name of the person who publishes a model, or moves an alias."""

from __future__ import annotations

import os

from audmodel.core.yaml import document


def author(name: object) -> str:
    r"""Author that the user gave, or the name of the user.

    Args:
        name: what was given as author

    Returns:
        name

    Raises:
        TypeError: if it is not a string
        InvalidDataError: if it cannot be stored

    """
    if name is None or name == "":
        return _user()
    if not isinstance(name, str):
        raise TypeError(f"'author' has to be a string, not {name!r}.")
    document.dump({"author": name}, "author")
    return name


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in many containers
        return str(os.getuid())
