"""Checks of where labels are drawn."""

from itertools import combinations

from matplotlib.text import Text


def check_labels(ax, texts):
    """Assert that labels are inside the axes and off each other, once everything is drawn."""
    ax.figure.draw_without_rendering()
    inside = ax.get_window_extent()
    boxes = [Text.get_window_extent(text) for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert box.x0 >= inside.x0 - 1, text
        assert box.x1 <= inside.x1 + 1, text
        assert box.y0 >= inside.y0 - 1, text
        assert box.y1 <= inside.y1 + 1, text
    for one, other in combinations(boxes, 2):
        assert not one.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9))
