"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A shared machine may stall for a moment: what is searched for is a wrong answer, not a slow one.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", max_examples=150, derandomize=True, **_COMMON)
settings.register_profile("nightly", max_examples=10_000, **_COMMON)
settings.load_profile("ci")
