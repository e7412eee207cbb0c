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
            also if it was in the cache already
        partial: whether only some of its files are there
        unfinished: whether they are of a load that was interrupted,
            or has not ended yet

    """

    uid: str
    path: str
    size: int
    last_used: datetime.datetime
    partial: bool
    unfinished: bool = False
