r"""The root folder of a cache."""

from __future__ import annotations

import errno

from audmodel.core import disk
from audmodel.core.errors import CacheError
from audmodel.core.errors import DiskFullError


def write_error(root: str, cause: Exception) -> CacheError:
    r"""Error that says that a cache cannot be written to."""
    number = getattr(cause, "errno", None)
    kind = DiskFullError if number in (errno.ENOSPC, errno.EDQUOT) else CacheError
    return kind(
        number,
        f"The model cache '{root}' cannot be written to: {cause}."
        f"{disk.advice(cause)} "
        "Files that are there already are kept for the next attempt. "
        "To choose another folder, set 'cache_root' or AUDMODEL_CACHE_ROOT.",
    )
