"""The curve of quality against depth: what is in the file is what table and chart say."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from analysis.curve import HERO, PAPER, Curve, Point, curve_svg, curve_text, read_curve
from analysis.svg_chart import COLOURS
from flexidepth.errors import UsageError

SVG = "{http://www.w3.org/2000/svg}"


def point(penalty: float, layers: float, kl: float, *, seed: int = 7) -> Point:
    return Point(penalty, None, 60, seed, layers, kl, nll=2.0 * (1 + kl / 4), base_nll=2.0)


CURVE = Curve(
    text="assets/some.jsonl",
    tokens=1234,
    num_layers=20,
    points=(point(0.004, 15.0, 0.4), point(0.001, 18.0, 0.08), point(0.002, 17.0, 0.2)),
    seeds=(point(0.002, 17.5, 0.12), point(0.002, 17.7, 0.104, seed=8)),
)


def places(chart, colour):
    found = [mark.attrib for mark in chart.iter(SVG + "circle") if mark.attrib["fill"] == colour]
    return [(float(mark["cx"]), float(mark["cy"])) for mark in found]


def test_the_table_has_the_numbers_of_the_points():
    text = curve_text(CURVE)
    assert "1234 predicted tokens of assets/some.jsonl" in text
    assert "| 0.004 | 15.00 | 25.0 % | 0.400 | +10.0% |" in text
    assert "| 0.001 | 18.00 | 10.0 % | 0.080 | +2.0% |" in text


def test_seeds_have_a_table_with_mean_and_standard_deviation():
    text = curve_text(CURVE)
    assert "| 8 | 17.70 | 0.104 | +2.6% |" in text
    assert "| mean ± sd | 17.60 ± 0.14 | 0.112 ± 0.011 | +2.8% ± 0.3 |" in text
    assert "mean ± sd" not in curve_text(replace(CURVE, seeds=CURVE.seeds[:1]))
    assert "seed" not in curve_text(replace(CURVE, seeds=()))


def test_a_curve_comes_back_from_its_file(tmp_path):
    path = tmp_path / "curve.json"
    path.write_text(CURVE.to_json())
    assert read_curve(path) == CURVE


@pytest.mark.parametrize("content", ["no json", "[]", "{}", '{"points": [{"penalty": 1}], "seeds": []}'])
def test_what_is_no_curve_is_refused_with_the_way_to_make_one(tmp_path, content):
    path = tmp_path / "curve.json"
    with pytest.raises(UsageError, match="python -m analysis curve"):
        read_curve(path)
    path.write_text(content)
    with pytest.raises(UsageError, match=r"holds no curve.*python -m analysis curve"):
        read_curve(path)


def test_the_chart_joins_the_points_by_depth_and_quotes_the_published_ones():
    chart = ElementTree.fromstring(curve_svg(CURVE))
    lines = [line.attrib["points"].split() for line in chart.iter(SVG + "polyline")]
    assert [len(line) for line in lines] == [3, 3]
    for line in lines:
        xs = [float(pair.split(",")[0]) for pair in line]
        assert xs == sorted(xs)
    divergence, kept = ([float(pair.split(",")[1]) for pair in line] for line in lines)
    assert divergence == sorted(divergence, reverse=True), "more layers skipped, more divergence (y points down)"
    assert kept == sorted(kept), "and less kept"
    words = [text.text for text in chart.iter(SVG + "text")]
    assert {"0.004", "0.001", "0.002", "final recipe, 2 seeds"} <= set(words)
    colours = {mark.attrib["fill"] for mark in chart.iter(SVG + "circle")}
    counts = sorted(len(places(chart, colour)) for colour in colours)
    assert counts == sorted([2 * 3, 2 * 2, len(PAPER), len(HERO)])


def test_quoted_points_stand_where_their_numbers_say():
    chart = ElementTree.fromstring(curve_svg(CURVE))
    # the second panel spans 0 to 42 %, from its left margin to its right one
    (left, _), (right, _) = places(chart, COLOURS[2])
    assert (right - left) * 42 / (760 / 2 - 56 - 14) == pytest.approx(PAPER[1][0] - PAPER[0][0], abs=0.1)


def test_the_file_is_plain_json():
    assert json.loads(CURVE.to_json())["points"][0]["mean_layers_used"] == 15.0
