"""Figures of all methods on one data set: accuracy against shots, against ways, and against minutes of training."""

from fewshot.reproduction.figures.curves import Curves, Point, read_curves
from fewshot.reproduction.figures.drawing import Line, Panel, draw
from fewshot.reproduction.figures.lines import choose_runs, make_figures
from fewshot.reproduction.figures.measure import find_seeds, measure_curves

__all__ = [
    "Curves",
    "Line",
    "Panel",
    "Point",
    "choose_runs",
    "draw",
    "find_seeds",
    "make_figures",
    "measure_curves",
    "read_curves",
]
