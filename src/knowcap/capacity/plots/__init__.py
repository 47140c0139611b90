"""Functions that draw one figure each from labelled data, with title and caption."""

from knowcap.capacity.plots.bits_against_params import draw_bits
from knowcap.capacity.plots.comparisons import draw_comparison
from knowcap.capacity.plots.intervals import draw_effects, draw_laws
from knowcap.capacity.plots.plot_style import Drawing
from knowcap.capacity.plots.shapes import draw_shapes, num_shapes
from knowcap.capacity.plots.shares import draw_shares

__all__ = [
    "Drawing",
    "draw_bits",
    "draw_comparison",
    "draw_effects",
    "draw_laws",
    "draw_shapes",
    "draw_shares",
    "num_shapes",
]
