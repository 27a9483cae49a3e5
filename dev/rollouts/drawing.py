"""Draws a recorded rollout as one SVG that can be read on a light and on a dark page.

From top to bottom: the phases and steps of the rollout, how many pods of each version are ready, and which version
answers. The time runs to the right and is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from dev.rollouts.recording import Recording, Segment
from pilothouse.api.conditions import Phase

Points = Sequence[tuple[float, float]]
Height = Callable[[float], float]

WIDTH = 880
_LEFT, _RIGHT = 52, 766
_RIBBON, _RIBBON_HEIGHT = 64, 24
_PODS, _SHARES, _LANE = 136, 282, 110
_AXIS = _SHARES + _LANE
HEIGHT = _AXIS + 40
_LETTER = 6.4  # width of an average letter at the size of labels

# The card brings its own ground, so that text can be read whatever the page around it is like.
_STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de; }
  text { font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #57606a; }
  .title { font-size: 15px; font-weight: 600; fill: #1f2328; }
  .name { font-weight: 600; fill: #1f2328; }
  .phase { fill: #1f2328; }
  .grid { stroke: #d8dee4; }
  .act { stroke: #57606a; stroke-dasharray: 2 3; }
  .new { fill: #e36209; fill-opacity: .75; } text.new { fill: #bc4c00; fill-opacity: 1; font-weight: 600; }
  .old { fill: #4c8dda; fill-opacity: .6; } text.old { fill: #0969da; fill-opacity: 1; font-weight: 600; }
  .line { fill: none; stroke: #1f2328; stroke-width: 1.5; }
  .asked { stroke-dasharray: 5 4; }
  .lost { fill: #cf222e; }
  .moving { fill: #eaeef2; } .shifting { fill: #ffe6cc; } .waiting { fill: #e9ddff; }
  .done { fill: #d2f4d9; } .failed { fill: #ffd7d9; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d; }
    text { fill: #9198a1; }
    .title, .name, .phase { fill: #f0f6fc; }
    .grid { stroke: #2a313a; }
    .act { stroke: #9198a1; }
    .new { fill: #f0883e; } text.new { fill: #ffa657; }
    .old { fill: #388bfd; } text.old { fill: #79c0ff; }
    .line { stroke: #f0f6fc; }
    .lost { fill: #ff7b72; }
    .moving { fill: #2a313a; } .shifting { fill: #5a3410; } .waiting { fill: #3c2a6b; }
    .done { fill: #11432a; } .failed { fill: #5d1a1f; }
  }
"""
_LOOKS = {
    Phase.SHIFTING: "shifting",
    Phase.AWAITING: "waiting",
    Phase.COMPLETE: "done",
    Phase.FAILED: "failed",
}


@dataclass(frozen=True)
class _Scale:
    """Turns seconds into places from left to right."""

    end: float

    def x(self, at: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(max(at / self.end, 0), 1)

    def ticks(self) -> Iterator[int]:
        """Yield some six to twelve round numbers of seconds."""
        step = next(step for step in (5, 10, 15, 20, 30, 60, 120, 300, 600, 3600) if self.end / step <= 12)
        yield from range(0, math.floor(self.end) + 1, step)


def draw(recording: Recording) -> str:
    """Return the drawing of a recording, as the text of an SVG file."""
    scale = _Scale(recording.end)
    begun = recording.begun
    failed = f"{recording.failed:,} failed" if recording.failed else "none failed"
    told = f"{begun.title}: {recording.requests:,} requests, {failed}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">',
        f"<title>{escape(told)}</title>",
        f"<style>{_STYLE}</style>",
        _tag("rect", x=0.5, y=0.5, width=WIDTH - 1, height=HEIGHT - 1, rx=6, class_="card"),
        _text(_LEFT, 28, begun.title, "title"),
        _text(_LEFT, 46, f"{recording.requests:,} requests over new connections, {failed}"),
        *_ribbon(recording, scale),
        *_grid(scale),
        *_pods(recording, scale),
        *_answers(recording, scale),
        *_acts(recording, scale),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _ribbon(recording: Recording, scale: _Scale) -> Iterator[str]:
    """The phases and steps, from left to right."""
    for segment in recording.segments():
        left, right = scale.x(segment.start), scale.x(segment.end)
        look = _LOOKS.get(segment.phase, "moving")
        yield _tag(
            "rect",
            x=left,
            y=_RIBBON,
            width=max(right - left - 1, 1),
            height=_RIBBON_HEIGHT,
            rx=3,
            class_=look,
        )
        label = next((text for text in _labels(segment) if len(text) * _LETTER + 8 <= right - left), "")
        if label:
            yield _text((left + right) / 2, _RIBBON + 16, label, "phase", anchor="middle")


def _labels(segment: Segment) -> tuple[str, ...]:
    """What may stand in a segment, the longest first."""
    if segment.phase is Phase.SHIFTING and segment.step is not None:
        return (
            f"step {segment.step}: {segment.weight or 0} %",
            f"{segment.weight or 0} %",
            f"{segment.step}",
        )
    return (str(segment.phase), "awaiting") if segment.phase is Phase.AWAITING else (str(segment.phase),)


def _grid(scale: _Scale) -> Iterator[str]:
    for at in scale.ticks():
        yield _tag("line", x1=scale.x(at), x2=scale.x(at), y1=_PODS, y2=_AXIS, class_="grid")
        yield _text(scale.x(at), _AXIS + 18, f"{at} s", anchor="middle")


def _pods(recording: Recording, scale: _Scale) -> Iterator[str]:
    """Ready pods: the new version's at the bottom, the old one's on top of them."""
    begun, counts = recording.begun, recording.ready_pods()
    most = max(begun.replicas, *(sum(count.values()) for _, count in counts))

    def y(pods: float) -> float:
        return _PODS + _LANE * (1 - pods / most)

    new = _steps([(at, count[begun.new]) for at, count in counts], recording.end)
    both = _steps([(at, sum(count.values())) for at, count in counts], recording.end)
    asked = y(begun.replicas)
    yield _text(_LEFT, _PODS - 8, "ready pods", "name")
    yield _area(both, new, scale, y, "old")
    yield _area(new, [(0, 0), (recording.end, 0)], scale, y, "new")
    yield from _marks(y, {0: "0", begun.replicas: str(begun.replicas), most: str(most)})
    yield _tag("line", x1=_LEFT, x2=_RIGHT, y1=asked, y2=asked, class_="line asked")
    yield _text(_RIGHT + 8, asked + 4, "replicas")


def _answers(recording: Recording, scale: _Scale) -> Iterator[str]:
    """Which version answers, in percent, and the weight that the status tells."""
    begun, shares, weights = recording.begun, recording.shares(), recording.weights()

    def y(share: float) -> float:
        return _SHARES + _LANE * (1 - share)

    yield _text(_LEFT, _SHARES - 8, "answers", "name")
    yield _area([(at, 1) for at, _ in shares], shares, scale, y, "old")
    yield _area(shares, [(at, 0) for at, _ in shares], scale, y, "new")
    yield from _marks(y, {0: "0 %", 0.5: "50 %", 1: "100 %"})
    yield _text(_RIGHT + 8, y(0.85), f"version {begun.old}", "old")
    yield _text(_RIGHT + 8, y(0.1), f"version {begun.new}", "new")
    if any(weight for _, weight in weights):
        reached = _steps([(at, weight / 100) for at, weight in weights], recording.end)
        yield _tag("polyline", points=_places(reached, scale, y), class_="line")
        yield _text(_RIGHT + 8, y(0.5), "line:")
        yield _text(_RIGHT + 8, y(0.5) + 15, "weightReached")
    for at, failed in recording.failures():
        height = 4 + 2 * min(failed, 10)
        yield _tag("rect", x=scale.x(at) - 1.5, y=_AXIS - height, width=3, height=height, class_="lost")


def _acts(recording: Recording, scale: _Scale) -> Iterator[str]:
    """What people did: a line through all lanes, and the words beside it."""
    free = [0.0, 0.0]  # from where on there is room, in each of two rows
    for act in recording.acts:
        x, width = scale.x(act.at), len(act.what) * _LETTER
        row = 0 if x >= free[0] else 1
        free[row] = x + width + 12
        fits = x + width < WIDTH - 10
        above = _RIBBON + _RIBBON_HEIGHT + 4
        for top, height in ((above, 26), (_PODS, _LANE), (_SHARES, _LANE)):
            yield _tag("line", x1=x, x2=x, y1=top, y2=top + height, class_="act")
        y = _RIBBON + _RIBBON_HEIGHT + 14 + 14 * row
        yield _text(x + (4 if fits else -4), y, act.what, anchor="start" if fits else "end")


def _marks(y: Height, marks: Mapping[float, str]) -> Iterator[str]:
    """The numbers on the left."""
    for value, text in marks.items():
        yield _text(_LEFT - 8, y(value) + 4, text, anchor="end")


def _steps(points: Points, end: float) -> list[tuple[float, float]]:
    """Return the corners of a line that stays as it is until the next point."""
    corners: list[tuple[float, float]] = []
    for at, value in points:
        if corners:
            corners.append((at, corners[-1][1]))
        corners.append((at, value))
    return [*corners, (end, corners[-1][1])]


def _area(top: Points, bottom: Points, scale: _Scale, y: Height, look: str) -> str:
    around = [*top, *reversed(bottom)]
    return _tag("polygon", points=_places(around, scale, y), class_=look)


def _places(points: Points, scale: _Scale, y: Height) -> str:
    return " ".join(f"{_number(scale.x(at))},{_number(y(value))}" for at, value in points)


def _text(x: float, y: float, text: str, look: str = "", anchor: str = "start") -> str:
    more = {"class_": look} if look else {}
    return _tag("text", escape(text, quote=False), x=x, y=y, text_anchor=anchor, **more)


def _tag(tag: str, inside: str = "", /, **attributes: str | float) -> str:
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{value if isinstance(value, str) else _number(value)}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{said}>{inside}</{tag}>" if inside else f"<{tag}{said}/>"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
