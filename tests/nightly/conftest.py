"""Options of what runs at night."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how long the soak is."""
    parser.addoption("--soak-seconds", type=float, default=3600.0, help="how long the server is soaked")
