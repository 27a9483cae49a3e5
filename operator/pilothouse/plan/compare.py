"""Whether an object of the API server already is what we would write.

The server fills in defaults, drops empty values and rewrites quantities; a comparison that took these for
differences would write for ever.
"""

from __future__ import annotations

from typing import Any

from pilothouse.api.quantities import amount


def covers(live: Any, wanted: Any) -> bool:
    """Whether `live` holds everything that `wanted` says; what `wanted` is silent about does not matter.

    Lists must agree item by item: each list we write belongs to us as a whole.
    """
    if _empty(wanted):
        return _empty(live)
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(covers(live.get(k), v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(covers(a, b) for a, b in zip(live, wanted, strict=True))
        )
    if isinstance(live, dict | list) or isinstance(live, bool) != isinstance(wanted, bool):
        return False
    return bool(live == wanted) or _same_quantity(live, wanted)


def _empty(value: Any) -> bool:
    # Go's omitempty drops these. A zero that matters (replicas) is a pointer there and is sent back as 0,
    # and 0 against nothing is no difference for the fields that we write.
    return value is None or value is False or value in ("", 0) or value == [] or value == {}


def _same_quantity(live: Any, wanted: Any) -> bool:
    try:
        return amount(str(live)) == amount(str(wanted))
    except ValueError:
        return False
