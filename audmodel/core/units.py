r"""Numbers of bytes for people."""

from __future__ import annotations


_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: float | None) -> str:
    r"""Number of bytes for people, in powers of 1000, empty if it is not known."""
    if count is None:
        return ""
    number = float(count)
    power = 0
    while number >= 999.5 and power < len(_UNITS) - 1:
        number /= 1000
        power += 1
    digits = 1 if power and number < 99.95 else 0
    return f"{number:.{digits}f} {_UNITS[power]}"
