"""Drawings of boxes and arrows keep their proportions."""

import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from t4e_utils.figures import drawing


def test_a_unit_of_a_canvas_is_as_long_both_ways():
    axes = drawing.canvas(8, 4, inches=6)
    axes.figure.draw_without_rendering()
    corner, far = axes.transData.transform([(0, 0), (1, 1)])
    assert np.isclose(*(far - corner))
    assert axes.figure.get_size_inches().tolist() == [6, 3]


def test_a_box_has_its_first_line_bold_and_its_centre_where_it_was_said():
    axes = drawing.canvas(8, 4)
    drawing.box(axes, 3, 2, 2, 1, "head\nmore\nlast")
    patch = next(each for each in axes.patches if isinstance(each, FancyBboxPatch))
    assert (patch.get_x(), patch.get_y(), patch.get_width()) == (2, 1.5, 2)
    head, rest = axes.texts
    assert (head.get_text(), head.get_fontweight()) == ("head", "bold")
    assert rest.get_text() == "more\nlast"


def test_an_arrow_ends_at_its_last_point():
    axes = drawing.canvas(8, 4)
    drawing.arrow(axes, (1, 1), (1, 3), (5, 3))
    assert axes.lines[0].get_xydata().tolist() == [[1, 1], [1, 3]]
    head = next(each for each in axes.patches if isinstance(each, FancyArrowPatch))
    assert head._posA_posB == [(1, 3), (5, 3)]


def test_a_panel_goes_from_left_to_right():
    axes = drawing.canvas(10, 4)
    drawing.panel(axes, 1, 3, "Stage 1 · find it", "notebook 02", "#EAF4FB")
    assert (axes.patches[0].get_x(), axes.patches[0].get_width()) == (0.1, 9.8)
    assert [text.get_text() for text in axes.texts] == ["Stage 1", "find it", "notebook 02"]
