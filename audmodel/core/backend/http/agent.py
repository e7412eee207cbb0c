r"""User agent of all requests."""

from __future__ import annotations

import sys


def user_agent() -> str:
    r"""Name and version, as logs of servers show them."""
    # The version is kept by the package, which was imported before this module
    return f"audmodel/{sys.modules['audmodel'].__version__}"
