"""Draws a drift record as inline SVG: evidence, shares and numbers, over the photographs in the order of time."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from fewshot.photographs.pages.html import escape

WIDTH, HEIGHT = 720, 250
LEFT, RIGHT, TOP, BOTTOM = 66, 18, 18, 44
MOST_POINTS = 400  # of a line
Scale = Callable[[float], float]


def draw_evidence(lines: Sequence[tuple[str, np.ndarray]], bound: float, alarms: Sequence[int | None]) -> str:
    """Draw the evidence of tests on a logarithmic scale, with the bound of the alarm.

    `lines`: names and logarithms to base 10 (n,), the first line solid and the second dashed; `bound`: of the alarm;
    `alarms`: at which photograph each has one, or None.
    """
    n = len(lines[0][1])
    highest = max(bound * 1.3, *(float(values.max()) for _, values in lines))
    lowest = min(0.0, *(float(values.min()) for _, values in lines))
    x, y = _scale(0, max(1, n), LEFT, WIDTH - RIGHT), _scale(lowest, highest, HEIGHT - BOTTOM, TOP)
    parts = [_draw_axis(x, n), *_draw_levels(y, [0.0, bound], ["1", "alarm"])]
    parts.append(f'<line class="alarm" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(bound):.1f}" y2="{y(bound):.1f}"/>')
    for (name, values), alarm, kind in zip(lines, alarms, ("line", "law"), strict=False):
        places, kept = _thin(values)
        points = " ".join(f"{x(p + 1):.1f},{y(v):.1f}" for p, v in zip(places, kept, strict=True))
        parts.append(f'<polyline class="{kind}" points="{x(0):.1f},{y(0):.1f} {points}"/>')
        if alarm is not None:
            said = escape(f"{name}: alarm at photograph {alarm + 1:,}")
            at = f'cx="{x(alarm + 1):.1f}" cy="{y(values[alarm]):.1f}"'
            parts.append(f'<g><title>{said}</title><circle class="dot wrong" {at} r="6"/></g>')
    return _wrap("".join(parts), "Evidence for a change after each photograph: " + ", ".join(name for name, _ in lines))


def draw_windows(edges: np.ndarray, bands: np.ndarray, reference: Sequence[float], label: str, as_percent: bool) -> str:
    """Draw a number's middle and range in windows of photographs, with that of left-out ones behind.

    `edges` (m + 1,): photographs where windows begin and end; `bands` (m, 3): low, middle, high of each; `reference`:
    the same three of left-out photographs, or nothing.
    """
    every = np.concatenate([bands.ravel(), np.asarray(reference, float)])
    low, high = float(every.min()), float(every.max())
    margin = 0.08 * (high - low) or 0.5
    low, high = (max(0.0, low - margin), min(1.0, high + margin)) if as_percent else (low - margin, high + margin)
    x, y = _scale(0, float(edges[-1]), LEFT, WIDTH - RIGHT), _scale(low, high, HEIGHT - BOTTOM, TOP)
    ticks = np.linspace(low, high, 4)
    decimals = 1 if high - low > 10 else 2 if high - low > 0.05 else 3
    words = [f"{tick:.0%}" if as_percent else f"{tick:.{decimals}f}".replace("-", "−") for tick in ticks]
    parts = [_draw_axis(x, int(edges[-1])), *_draw_levels(y, ticks.tolist(), words)]
    if len(reference):
        top, middle, bottom = y(reference[2]), y(reference[1]), y(reference[0])
        size = f'width="{WIDTH - LEFT - RIGHT}" height="{max(1.0, bottom - top):.1f}"'
        parts.append(f'<rect class="band" x="{LEFT}" y="{top:.1f}" {size}/>')
        parts.append(f'<line class="law" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{middle:.1f}" y2="{middle:.1f}"/>')
    centres = [x(float(a + b) / 2) for a, b in pairwise(edges)]
    points = " ".join(f"{at:.1f},{y(middle):.1f}" for at, (_, middle, _) in zip(centres, bands.tolist(), strict=True))
    parts.append(f'<polyline class="line" points="{points}"/>')
    for at, (a, middle, b) in zip(centres, bands.tolist(), strict=True):
        parts.append(
            f'<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{y(a):.1f}" y2="{y(b):.1f}"/>'
            f'<circle class="dot" cx="{at:.1f}" cy="{y(middle):.1f}" r="3.5"/>'
        )
    return _wrap("".join(parts), label)


def draw_shares(edges: np.ndarray, shares: np.ndarray, parts_of: Sequence[tuple[str, str]], label: str) -> str:
    """Draw shares (m, k) that sum to 1 in each window as stacked bars; `parts_of` (k,): names and classes of style."""
    x, y = _scale(0, float(edges[-1]), LEFT, WIDTH - RIGHT), _scale(0, 1, HEIGHT - BOTTOM, TOP)
    parts = [_draw_axis(x, int(edges[-1])), *_draw_levels(y, [0, 0.5, 1], ["0%", "50%", "100%"])]
    for (start, end), row in zip(pairwise(edges), shares, strict=True):
        below = 0.0
        for (name, kind), share in zip(parts_of, row.tolist(), strict=True):
            said = escape(f"{name}: {share:.0%} of photographs {int(start) + 1:,} to {int(end):,}")
            left, wide = x(float(start)) + 0.5, max(1.0, x(float(end)) - x(float(start)) - 1)
            size = f'width="{wide:.1f}" height="{max(0.0, y(below) - y(below + share)):.1f}"'
            parts.append(
                f'<rect class="part {kind}" x="{left:.1f}" y="{y(below + share):.1f}" {size}>'
                f"<title>{said}</title></rect>"
            )
            below += share
    return _wrap("".join(parts), label)


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (end - start) * (value - low) / ((high - low) or 1.0)


def _draw_axis(x: Scale, n: int) -> str:
    step = next(10**p * m for p in range(9) for m in (1, 2, 5) if n / (10**p * m) <= 5)
    marks = "".join(
        f'<text x="{x(k):.1f}" y="{HEIGHT - BOTTOM + 19}" text-anchor="middle">{k:,}</text>'
        for k in range(step, n + 1, step)
    )
    middle = (LEFT + WIDTH - RIGHT) / 2
    return f'{marks}<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">photographs, in the order of time</text>'


def _draw_levels(y: Scale, values: Sequence[float], words: Sequence[str]) -> list[str]:
    lines = []
    for value, word in zip(values, words, strict=True):
        at, is_word = y(value), word[-1].isalpha()  # words stand on their line, numbers before it
        place = f'x="{LEFT + 4}" y="{at - 5:.1f}"' if is_word else f'x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end"'
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f"<text {place}>{escape(word)}</text>")
    return lines


def _thin(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose the highest value of each of at most `MOST_POINTS` stretches; their places and values."""
    stretches = np.array_split(np.arange(len(values)), min(MOST_POINTS, len(values)))
    places = np.array([part[values[part].argmax()] for part in stretches])
    return places, values[places]


def _wrap(parts: str, label: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{parts}</svg>'
