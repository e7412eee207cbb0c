r"""Paths that begin with the home folder of a user, or with a variable."""

from __future__ import annotations

import os
import re

from audmodel.core.errors import ConfigurationError


_VARIABLE = re.compile(r"\$(\w+|\{\w+\})", re.ASCII)


def expand_home(path: str) -> str:
    r"""Path with the home folder of a user in place of ``~``.

    Raises:
        ConfigurationError: if the home folder is not known

    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ConfigurationError(
            f"The home folder in '{path}' is not known, "
            "since HOME is not set, and the system lists no such user. "
            "Set HOME, or give absolute paths, "
            "e.g. for the cache with AUDMODEL_CACHE_ROOT."
        )
    return expanded


def expand_variables(path: str, what: str) -> str:
    r"""Path with values in place of environment variables.

    Args:
        path: any path
        what: where it comes from, for messages

    Raises:
        ConfigurationError: if a variable is not set

    """
    for match in _VARIABLE.finditer(path):
        name = match[1].strip("{}")
        if not os.environ.get(name):
            raise ConfigurationError(
                f"{what} is '{path}', but the variable {name} is not set. "
                "Set it, or write the path without it."
            )
    return os.path.expandvars(path)
