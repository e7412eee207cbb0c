r"""What the backends of this package share: audbackend can use them as well."""

from __future__ import annotations

import audbackend

from audmodel.core.backend.base import ObjectBackend


class NativeBackend(ObjectBackend, audbackend.backend.Base):  # type: ignore[misc]
    r"""Backend that has all methods of both packages."""

    def open(self) -> None:
        r"""Establish a connection to the repository.

        Raises:
            RepositoryError: if the repository does not exist,
                or cannot be reached

        """
        # Each backend decides itself which requests it repeats
        self._open()
        self.opened = True
