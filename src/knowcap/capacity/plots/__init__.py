"""Functions that draw one figure each from labelled data, with title and caption."""

from knowcap.capacity.plots.bits_against_params import draw_capacity
from knowcap.capacity.plots.comparisons import draw_comparison
from knowcap.capacity.plots.intervals import draw_effects, draw_laws
from knowcap.capacity.plots.plot_style import Drawing
from knowcap.capacity.plots.shapes import draw_shapes, varied_parameters
from knowcap.capacity.plots.shares import draw_shares

__all__ = [
    "Drawing",
    "draw_capacity",
    "draw_comparison",
    "draw_effects",
    "draw_laws",
    "draw_shapes",
    "draw_shares",
    "varied_parameters",
]
