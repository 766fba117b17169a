"""Line charts as text: well-formed, every point where its numbers say, and axes with round numbers."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.svg_chart import _BOTTOM, _LEFT, _RIGHT, _TOP, Line, Panel, Row, dots, svg, ticks

NAME = "{http://www.w3.org/2000/svg}"
WIDTH, HEIGHT = 400, 300
LEFT, RIGHT, TOP, BOTTOM = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM

numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
ranges = (
    st.tuples(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5))
    .filter(lambda pair: pair[1] >= 1e-3 * abs(pair[0]))
    .map(lambda pair: (pair[0], sum(pair)))
)
words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=12)


def drawn(*panels: Panel, columns: int = 1, width: int = WIDTH, **more):
    return ElementTree.fromstring(svg(panels, columns=columns, width=width, height=HEIGHT, **more))


def points(chart, shape="polyline"):
    return [
        [tuple(map(float, pair.split(","))) for pair in found.attrib["points"].split()]
        for found in chart.iter(NAME + shape)
    ]


def circles(chart):
    return [(float(found.attrib["cx"]), float(found.attrib["cy"])) for found in chart.iter(NAME + "circle")]


def texts(chart):
    return [found.text or "" for found in chart.iter(NAME + "text")]


def text_named(chart, text):
    (found,) = [found for found in chart.iter(NAME + "text") if found.text == text]
    return found


def inside(point):
    x, y = point
    return LEFT - 0.06 <= x <= RIGHT + 0.06 and TOP - 0.06 <= y <= BOTTOM + 0.06


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, st.floats(0, 1e5)), min_size=1, max_size=8))
def test_points_and_bands_of_any_numbers_lie_inside_the_box(found):
    xs, ys, widths = zip(*found, strict=True)
    band = [(y - width, y + width) for y, width in zip(ys, widths, strict=True)]
    chart = drawn(Panel("t", "x", "y", [Line("a", xs, ys, "#000000", band=band, marks=True)]))
    (line,), (around,) = points(chart), points(chart, "polygon")
    assert len(line) == len(xs)
    assert len(around) == 2 * len(xs)
    assert all(inside(point) for point in [*line, *around, *circles(chart)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8))
def test_greater_numbers_lie_further_right_and_higher(pairs):
    xs, ys = zip(*pairs, strict=True)
    (line,) = points(drawn(Panel("t", "x", "y", [Line("a", xs, ys, "#000000")])))
    for (x, y), (right, up) in zip(pairs, line, strict=True):
        for (other_x, other_y), (other_right, other_up) in zip(pairs, line, strict=True):
            assert x <= other_x or right >= other_right
            assert y <= other_y or up <= other_up


def test_ranges_that_are_given_span_the_whole_box():
    line = Line("a", [0, 5, 10], [0.0, 0.5, 1.0], "#000000", marks=True)
    chart = drawn(Panel("t", "x", "y", [line], y_range=(0.0, 1.0), x_range=(0.0, 10.0)))
    middle = ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2)
    for found in (points(chart)[0], circles(chart)):
        assert found == [pytest.approx(place, abs=0.06) for place in [(LEFT, BOTTOM), middle, (RIGHT, TOP)]]


def test_lines_of_a_panel_share_their_axes():
    chart = drawn(Panel("t", "x", "y", [Line("a", [0, 1], [0, 1], "#111111"), Line("b", [1, 2], [1, 2], "#222222")]))
    (_, end), (start, _) = points(chart)
    assert end == start
    assert [found.attrib["stroke"] for found in chart.iter(NAME + "polyline")] == ["#111111", "#222222"]
    assert [text_named(chart, name).attrib["fill"] for name in "ab"] == ["#111111", "#222222"]


def test_tick_labels_stand_where_their_numbers_are():
    line = Line("", [1, 2, 3, 4, 5], [10, 20, 30, 40, 50], "#000000", marks=True)
    chart = drawn(Panel("t", "x", "y", [line]))
    grid = [float(found.attrib["y1"]) for found in chart.iter(NAME + "line")]
    for x, (right, up) in zip(line.xs, circles(chart), strict=True):
        assert float(text_named(chart, str(x)).attrib["x"]) == pytest.approx(right, abs=0.11)
        assert float(text_named(chart, str(10 * x)).attrib["y"]) == pytest.approx(up + 4, abs=0.11)
        assert min(abs(y - up) for y in grid) <= 0.11


@settings(max_examples=60, deadline=None)
@given(ranges)
def test_ticks_are_round_numbers_within_the_range(bounds):
    low, high = bounds
    found = ticks(low, high)
    step = found[1] - found[0]
    assert all(after - before == pytest.approx(step, rel=1e-6) for before, after in pairwise(found))
    leading = step / 10 ** math.floor(math.log10(step * (1 + 1e-9)))
    assert min(abs(leading - round_one) for round_one in (1, 2, 2.5, 5)) < 1e-5
    for tick in found:
        assert low - 1e-6 * step <= tick <= high + 1e-6 * step
        assert abs(tick / step - round(tick / step)) < 1e-4
    assert found[0] - step < low + 1e-6 * step, "none is left out below"
    assert found[-1] + step > high - 1e-6 * step, "none is left out above"


@settings(max_examples=60, deadline=None)
@given(ranges)
@example((0.1, 3.9))
@example((99.5, 107.0))
def test_there_are_four_to_eight_ticks(bounds):
    assert 4 <= len(ticks(*bounds)) <= 8


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 5, [0, 1, 2, 3, 4, 5]),
        (-10, 10, [-10, -5, 0, 5, 10]),
        (0.3, 0.6, [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6]),
        (0, 1000, [0, 200, 400, 600, 800, 1000]),
        (7, 7, [7]),
    ],
)
def test_ticks_by_hand(low, high, wanted):
    assert ticks(low, high) == pytest.approx(wanted)


@settings(max_examples=60, deadline=None)
@given(ranges.filter(lambda pair: pair[1] - pair[0] >= 0.05 * max(map(abs, pair))))
def test_tick_labels_say_their_numbers(bounds):
    low, high = bounds
    line = Line("", [0, 1], [low, high], "#000000")
    chart = drawn(Panel("t", "x", "y", [line], y_range=bounds, x_range=(0, 1)))
    labels = [found.text for found in chart.iter(NAME + "text") if found.attrib["text-anchor"] == "end"]
    step = ticks(low, high)[1] - ticks(low, high)[0]
    assert [float(label) for label in labels] == pytest.approx(ticks(low, high), abs=1e-3 * step, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(words, words, words, words, words, words)
def test_texts_are_escaped_and_come_back_as_they_were(title, x_label, y_label, name, note, caption):
    line = Line(name, [1.0], [2.0], "#000000", notes=[note])
    chart = drawn(Panel(title, x_label, y_label, [line]), caption=caption)
    assert {title, x_label, y_label, name, note, caption} <= set(texts(chart))
    assert chart.attrib["aria-label"] == title


def test_markup_in_texts_is_text():
    hostile = "</text><script>alert(\"1\") & 'more'</script>"
    chart = drawn(Panel(hostile, hostile, hostile, [Line(hostile, [0, 1], [0, 1], "#000000")]), caption=hostile)
    assert texts(chart).count(hostile) == 5
    assert not list(chart.iter(NAME + "script"))
    assert chart.attrib["aria-label"] == hostile


def test_a_band_lies_around_its_line():
    band = [(0.0, 3.0), (1.0, 4.0), (2.0, 6.0)]
    line = Line("a", [0, 1, 2], [1.0, 2.0, 3.0], "#123456", band=band)
    chart = drawn(Panel("t", "x", "y", [line], y_range=(0.0, 6.0)))
    (polygon,) = chart.iter(NAME + "polygon")
    assert polygon.attrib["fill"] == "#123456"

    def up(y):
        return BOTTOM - (BOTTOM - TOP) * y / 6.0

    (around,) = points(chart, "polygon")
    upper, lower = around[:3], around[3:][::-1]
    assert [y for _, y in upper] == pytest.approx([up(high) for _, high in band], abs=0.06)
    assert [y for _, y in lower] == pytest.approx([up(low) for low, _ in band], abs=0.06)
    assert [x for x, _ in upper] == [x for x, _ in lower] == [x for x, _ in points(chart)[0]]


def test_marks_joins_and_notes_are_drawn_as_asked():
    plain = drawn(Panel("t", "x", "y", [Line("a", [0, 1], [0, 1], "#000000")]))
    assert (len(points(plain)), circles(plain), points(plain, "polygon")) == (1, [], [])
    line = Line("a", [0, 1], [0, 1], "#000000", marks=True, joined=False, notes=["low", "high"])
    marked = drawn(Panel("t", "x", "y", [line]))
    assert points(marked) == []
    for note, (x, y) in zip(line.notes, circles(marked), strict=True):
        beside = text_named(marked, note).attrib
        assert 0 < float(beside["x"]) - x < 12
        assert abs(float(beside["y"]) - y) < 14
    with pytest.raises(ValueError, match="zip"):
        drawn(Panel("t", "x", "y", [Line("a", [0, 1], [0, 1], "#000000", notes=["only one"])]))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_panels_stand_side_by_side_in_rows(count):
    panels = [Panel(f"panel {number}", "x", "y", [Line("", [0, 1], [0, 1], "#000000")]) for number in range(count)]
    chart = drawn(*panels, columns=2, width=2 * WIDTH, caption="below")
    places = [group.attrib["transform"] for group in chart.iter(NAME + "g")]
    every = [f"translate({x:.1f} {y})" for y in (0, HEIGHT, 2 * HEIGHT) for x in (0, WIDTH)]
    assert places == every[:count]
    *_, width, height = map(float, chart.attrib["viewBox"].split())
    assert width == 2 * WIDTH
    assert height >= math.ceil(count / 2) * HEIGHT
    assert math.ceil(count / 2) * HEIGHT < float(text_named(chart, "below").attrib["y"]) < height
    assert all(inside(point) for line in points(chart) for point in line)


@settings(max_examples=60, deadline=None)
@given(st.integers(-50, 500), st.integers(1, 400))
def test_whole_ticks_are_whole_and_few(low, span):
    found = ticks(low, low + span, whole=True)
    assert found
    assert all(tick == round(tick) and low <= tick <= low + span for tick in found)
    assert len(found) <= 11


def test_names_above_stand_in_one_row_beside_the_title():
    lines = [Line(name, [0, 1], [0, 1], colour) for name, colour in (("one", "#111111"), ("two", "#222222"))]
    chart = drawn(Panel("t", "x", "y", lines, names_above=True))
    spans = [(span.text, span.attrib["fill"]) for span in chart.iter(NAME + "tspan")]
    assert spans == [("one", "#111111"), ("two", "#222222")]
    assert {"one", "two"}.isdisjoint(texts(chart))


def test_dots_stand_between_the_ends_of_their_intervals_in_the_order_of_the_rows():
    rows = [Row("a", 2.0, (1.0, 4.0)), Row("b", 3.0, (3.0, 3.0))]
    chart = ElementTree.fromstring(dots("Title", "layers", rows, caption="c"))
    lines = [line.attrib for line in chart.iter(NAME + "line") if line.attrib["stroke"] != "#e2e8f0"]
    marks = circles(chart)
    for line, (x, y) in zip(lines, marks, strict=True):
        assert float(line["x1"]) <= x <= float(line["x2"])
        assert float(line["y1"]) == y
    scale = (float(lines[0]["x2"]) - float(lines[0]["x1"])) / 3
    assert marks[0][0] - float(lines[0]["x1"]) == pytest.approx(scale, abs=0.2)
    assert marks[1][0] - marks[0][0] == pytest.approx(scale, abs=0.2)
    assert marks[0][1] < marks[1][1]
    assert {"Title", "layers", "c", "a", "b", "2.00", "3.00"} <= set(texts(chart))
