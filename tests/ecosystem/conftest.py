"""Tests that need packages which models and examples come with."""

from __future__ import annotations

from tests.core.conftest import fetched as fetched
from tests.core.conftest import python as python
from tests.parallel.conftest import nothing_left as nothing_left
