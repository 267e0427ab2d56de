"""The picture of each layer's sensitivity: positions, and the drawing in the page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from hycompile.device import load_target
from hycompile.report.page import render
from hycompile.report.sensitivity import picture
from hycompile.reports import BuildReport, EvaluationReport, PipelineReport, QuantisationReport, SensitivityReport

EVIL = "<script>"
LAYERS = [
    ("forward", "conv2d", 42.0, 30.5, ""),
    ("forward", "conv2d_1", 31.0, 36.0, "float"),
    ("forward", "linear", 35.0, 32.0, ""),
    ("forward", f"linear_{EVIL}", 60.0, 30.1, ""),
    ("forward", "linear_2", 300.0, 30.0, ""),
]
FOUND = SensitivityReport(4, 30.0, LAYERS)


def test_positions_follow_the_numbers() -> None:
    drawn = picture(FOUND)
    assert drawn is not None
    by_name = {bar.name: bar for bar in drawn.bars}
    assert list(by_name) == [layer[1] for layer in LAYERS]
    places = [by_name[name].alone for name in ("linear_2", "conv2d", "linear", "conv2d_1")]
    assert [drawn.left, *places, drawn.together, drawn.width] == sorted(
        [*places, drawn.together, drawn.left, drawn.width]
    )
    assert places[0] == drawn.left
    assert by_name["conv2d_1"].without < by_name["conv2d"].without < by_name["linear_2"].without == drawn.together
    assert [bar.kind for bar in drawn.bars] == ["worst", "kept", "worst", "worst", "plain"]
    told = "conv2d_1: 31.0 dB if it alone is rounded; +6.0 dB for the model if it alone is not; kept in float"
    assert by_name["conv2d_1"].title == told
    assert len({bar.y for bar in drawn.bars}) == 5
    assert 2 <= len(drawn.ticks) <= 8


@pytest.mark.parametrize("layers", [[("forward", "only", 300.0, 300.0, "")], LAYERS[:1]])
def test_one_layer_has_an_axis_too(layers: list[tuple[str, str, float, float, str]]) -> None:
    drawn = picture(SensitivityReport(1, layers[0][2], layers))
    assert drawn is not None
    assert all(drawn.left <= place <= drawn.width for bar in drawn.bars for place in (bar.alone, bar.without))


def test_long_names_are_cut_at_the_front_and_methods_told_where_there_are_several() -> None:
    layers = [("prefill", "x" * 60, 30.0, 20.0, ""), ("decode", "linear", 31.0, 20.0, "")]
    drawn = picture(SensitivityReport(1, 10.0, layers))
    assert drawn is not None
    assert [bar.name for bar in drawn.bars] == ["..." + "x" * 29, "decode: linear"]
    assert drawn.bars[0].title.startswith(f"prefill: {'x' * 60}: 30.0 dB")


def test_nothing_measured_is_no_picture() -> None:
    assert picture(None) is None
    assert picture(SensitivityReport(4, 30.0, [])) is None


@pytest.fixture
def report() -> BuildReport:
    quantisation = QuantisationReport(
        calls=8, output_sqnr=30.0, worst_error=0.02, agreement=99.0, layers=[("forward", "conv2d", 33.0)],
        converts=[], kept=[], values={"weights of 8 bits": 5}, plan="{}", sensitivity=FOUND,
    )  # fmt: skip
    return BuildReport(
        source="toy", device="host", program="toy", digest="ab", pipeline=PipelineReport("quantise"), runtimes=[],
        graph_before="", graph_after="", capture_seconds=1.0, seconds=2.0, quantisation=quantisation,
        evaluation=EvaluationReport("m:top1", 91.5, 91.25, 0.5),
    )  # fmt: skip


def test_page_draws_every_layer(report: BuildReport) -> None:
    html = render(report, load_target("host"), "hycompile build")
    assert EVIL not in html
    (drawing,) = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    tree = ET.fromstring(drawing)
    groups = tree.findall("g")
    assert [group.get("class") for group in groups] == ["worst", "kept", "worst", "worst", "plain"]
    assert [group.findtext("text") for group in groups] == [layer[1] for layer in LAYERS]
    assert all(float(group.find("rect").get("width", "-1")) >= 0 for group in groups)  # type: ignore[union-attr]
    assert "-30.0 dB, all rounded" in html
    assert "m:top1: float model 91.50, quantised model 91.25; allowed drop 0.50" in html
    assert "most sensitive (4 calls, each layer rounded alone): conv2d_1 31.0 dB (float), linear 35.0 dB" in html


def test_page_without_a_measurement_has_no_drawing(report: BuildReport) -> None:
    assert report.quantisation is not None
    plain = replace(report, quantisation=replace(report.quantisation, sensitivity=None), evaluation=None)
    html = render(plain, load_target("host"), "hycompile build")
    assert "<svg" not in html
    assert 'id="evaluation"' not in html
