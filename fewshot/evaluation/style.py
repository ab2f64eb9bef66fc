"""The common style of all figures: fonts, greys, and colours that colour-blind readers can distinguish."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot.runtime.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY, PALE = "#555555", "#E6E6E6"
# Okabe and Ito: https://jfly.uni-koeln.de/color/
BLUE, SKY, GREEN, VERMILION, ORANGE, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7"
STYLE: Any = {  # Any, since matplotlib types this dictionary by its 300 possible keys
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.labelcolor": GREY,
    "xtick.color": GREY, "ytick.color": GREY, "grid.color": PALE, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "legend.frameon": False, "legend.labelcolor": GREY, "legend.fontsize": 8, "figure.facecolor": "white",
    "svg.hashsalt": "fewshot", "svg.fonttype": "none", "path.simplify": False,
}  # fmt: skip
PNG_DPI = 200


@contextmanager
def figure_style() -> Iterator[None]:
    """Let matplotlib draw in this style within the block."""
    import matplotlib  # here, since importing fewshot shall not import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def save_figure(figure: "Figure", path: Path) -> list[Path]:
    """Write `path`, whose suffix does not matter, as SVG and as PNG; the same figure gives the same files.

    Returns:
        The two paths, SVG first.
    """
    paths = [path.with_suffix(".svg"), path.with_suffix(".png")]
    with replacing(paths[0]) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    with replacing(paths[1]) as temporary:
        figure.savefig(temporary, format="png", dpi=PNG_DPI)
    return paths


def shorten(name: str, most: int) -> str:
    """Shorten a name to at most `most` characters by dropping its middle, since names differ at their ends."""
    if len(name) <= most:
        return name
    return f"{name[: most // 2]}…{name[len(name) - (most - 1 - most // 2) :]}"
