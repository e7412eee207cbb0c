r"""Numbers and strings as the protocols of SSH write them."""

from __future__ import annotations


class WireError(ValueError):
    r"""Bytes end too early, or are followed by others."""


def string(content: bytes) -> bytes:
    r"""Content with its length in front."""
    return len(content).to_bytes(4, "big") + content


class Reader:
    r"""Reads a sequence of numbers and strings.

    Args:
        data: their bytes

    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, count: int) -> bytes:
        r"""Next bytes.

        Raises:
            WireError: if there are fewer

        """
        end = self._position + count
        if end > len(self._data):
            raise WireError("it is truncated")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self) -> int:
        r"""Next number of 32 bits."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        r"""Next string."""
        return self.take(self.number())

    def end(self) -> None:
        r"""Make sure that nothing follows.

        Raises:
            WireError: if there are more bytes

        """
        if self._position != len(self._data):
            raise WireError("bytes follow its end")
