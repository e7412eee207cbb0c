"""Tests that need packages which models and examples come with."""

from __future__ import annotations

from tests.parallel.conftest import nothing_left as nothing_left
