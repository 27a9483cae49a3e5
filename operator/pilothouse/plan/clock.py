"""Times as Kubernetes writes them: UTC, whole seconds, RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def stamp(moment: datetime) -> str:
    """Return `moment` as metav1.Time text, such as 2026-01-31T12:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Return the time that metav1.Time text names; raises ValueError where it names none."""
    return datetime.fromisoformat(text).astimezone(UTC)


def after(start: datetime, seconds: float) -> datetime:
    """Return the time `seconds` after `start`."""
    return start + timedelta(seconds=seconds)
