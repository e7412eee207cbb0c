r"""What public functions return about a cache."""

from dataclasses import dataclass
import datetime


@dataclass(frozen=True)
class CachedModel:
    r"""Model in the cache.

    Args:
        uid: model ID
        path: path of its folder
        size: size of its files in bytes
        last_used: when it was loaded the last time,
            even if it was in the cache already
        partial: whether the cache holds only some of its files
        unfinished: whether its load was interrupted,
            or is still running

    """

    uid: str
    path: str
    size: int
    last_used: datetime.datetime
    partial: bool
    unfinished: bool = False
