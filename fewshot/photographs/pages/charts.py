"""Draws accuracy against the number of images a class as inline SVG."""

import numpy as np

from fewshot.photographs.inspection.extrapolation import Extrapolation
from fewshot.photographs.inspection.learning_curve import ShotsCurve
from fewshot.photographs.pages.html import escape
from fewshot.runtime.counts import format_count

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 16, 46
STEPS = (0.02, 0.05, 0.1, 0.2, 0.25)
MAX_TICKS = 7


def draw_curve(curve: ShotsCurve, law: Extrapolation | None = None) -> str:
    """Draw the measured points with their 95% intervals and, if given, the law as a dashed line with its band."""
    drawn = law if law is not None and law.law is not None else None
    last = int(drawn.shots[-1]) if drawn else curve.shots[-1]
    lowest = min([point.low for point in curve.points] + ([float(drawn.low.min())] if drawn else []))
    step = next(s for s in STEPS if (1 - lowest) / s <= MAX_TICKS or s == STEPS[-1])
    floor = max(0.0, np.floor(lowest / step + 1e-9) * step)

    def x(k: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * float(np.log2(k) / max(1.0, np.log2(last)))

    def y(accuracy: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (min(1.0, max(floor, accuracy)) - floor) / (1 - floor))

    parts = [_draw_grid(floor, step, x, y, last)]
    if drawn:
        up = " ".join(f"{x(k):.1f},{y(a):.1f}" for k, a in zip(drawn.shots, drawn.high, strict=True))
        down = " ".join(f"{x(k):.1f},{y(a):.1f}" for k, a in zip(drawn.shots[::-1], drawn.low[::-1], strict=True))
        path = " ".join(f"{x(k):.1f},{y(a):.1f}" for k, a in zip(drawn.shots, drawn.mean, strict=True))
        parts.append(f'<polygon class="band" points="{up} {down}"/><polyline class="law" points="{path}"/>')
    line = " ".join(f"{x(k):.1f},{y(p.mean):.1f}" for k, p in zip(curve.shots, curve.points, strict=True))
    parts.append(f'<polyline class="line" points="{line}"/>')
    for k, p in zip(curve.shots, curve.points, strict=True):
        label = f"{format_count(k, 'photograph')} a class: {p.mean:.1%}, 95% interval {p.low:.1%} to {p.high:.1%}"
        parts.append(
            f'<g><title>{escape(label)}</title><line class="whisker" x1="{x(k):.1f}" x2="{x(k):.1f}" '
            f'y1="{y(p.low):.1f}" y2="{y(p.high):.1f}"/>'
            f'<circle class="dot" cx="{x(k):.1f}" cy="{y(p.mean):.1f}" r="4.5"/>'
            f'<text class="ink" x="{x(k) + 8:.1f}" y="{y(p.mean) + 17:.1f}">{p.mean:.0%}</text></g>'
        )
    said = "; ".join(f"{k}: {p.mean:.0%}" for k, p in zip(curve.shots, curve.points, strict=True))
    label = escape(f"Share right against photographs a class. {said}")
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _draw_grid(floor: float, step: float, x, y, last: int) -> str:
    lines = []
    for accuracy in np.arange(floor, 1 + step / 2, step):
        at = y(float(accuracy))
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{accuracy:.0%}</text>')
    for k in (2**p for p in range(last.bit_length())):
        lines.append(f'<text x="{x(k):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{k}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    lines.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">photographs a class</text>')
    return "".join(lines)
