r"""The root folder of a cache."""

from __future__ import annotations

import errno
import os

from audmodel.core import disk
from audmodel.core.errors import CacheError
from audmodel.core.errors import DiskFullError
from audmodel.core.home import expand_home
from audmodel.core.repository.config import default_cache_root


def absolute_root(root: str | None) -> str:
    r"""Path of the root folder of a cache.

    Args:
        root: what a user gave, the default one if it is ``None``

    Returns:
        absolute path

    """
    return os.path.abspath(expand_home(root or default_cache_root()))


def write_error(root: str, cause: Exception) -> CacheError:
    r"""Error that says that a cache cannot be written to.

    Args:
        root: root folder of the cache
        cause: what the operating system said

    Returns:
        error to raise

    """
    number = getattr(cause, "errno", None)
    kind = DiskFullError if number in (errno.ENOSPC, errno.EDQUOT) else CacheError
    return kind(
        number,
        f"The model cache '{root}' cannot be written to: {cause}."
        f"{disk.advice(cause)} "
        "What is there already is kept for the next attempt. "
        "Another folder is chosen with 'cache_root' or AUDMODEL_CACHE_ROOT.",
    )
