"""The HTML page: every section, everything escaped, nothing fetched from anywhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from hycompile.device import load_target
from hycompile.measure.compare import Ratio
from hycompile.measure.conditions import read_conditions
from hycompile.measure.eager import EAGER, NO_LATENCY
from hycompile.measure.latency import Latency
from hycompile.measure.sampling import Samples
from hycompile.report.page import render, verdict
from hycompile.reports import BuildReport, PassReport, PipelineReport, Refusal, RuleReport, RuntimeReport, Status

EVIL = "<script>alert('x')</script>"
BEFORE = (
    "method forward:\ninput %x : f32[1, 3]\n%a = aten.conv2d(%x) : f32[1, 3]\n%b = aten.batch_norm(%a) : f32[1, 3]\n"
)
AFTER = "method forward:\ninput %x : f32[1, 3]\n%a = aten.conv2d(%x, bias=@fold) : f32[1, 3]\n"
SECTIONS = ["runtimes", "latency", "operators", "delegate", "passes", "graph", "provenance"]


def samples(ms: float) -> Samples:
    times = tuple(ms * (1 + index / 100) for index in range(20))
    return Samples(times, times, 0, 8, True)


def measured(runtime: str, ms: float, **facts: Any) -> RuntimeReport:
    conditions = read_conditions(1, 7.5, {})
    latency = Latency("folder", runtime, "host", "forward", samples(ms), 12.0, 3.0, conditions)
    ratio = Ratio(runtime, EAGER, samples(ms), samples(40.0), 1)
    return RuntimeReport(
        runtime,
        "proved",
        "fp32",
        rel_err=1.2e-6,
        seconds=3.0,
        size_bytes=45_200_000,
        facts=facts,
        latency=latency.to_json(),
        ratio=ratio.to_json(),
        profile=[("Conv", 12, 8.0), (EVIL, 1, 2.0)] + [(f"op{index}", 1, 0.1) for index in range(20)],
    )


def report(*runtimes: RuntimeReport, name: str = "nextvit_small") -> BuildReport:
    refusal = Refusal(f"stride [2, 2] and [1, 1] differ {EVIL}", "conv", "nextvit.py:41 in forward")
    rule = RuleReport("fold_batch_norm", 33, [refusal], 1.2e-7, 3e-16, 2.2)
    return BuildReport(
        source="nextvit_small",
        device="host",
        program=name,
        digest="ab" * 32,
        pipeline=PipelineReport("normalise,reparameterise", [PassReport("reparameterise", [rule], 2.5)]),
        runtimes=list(runtimes),
        graph_before=BEFORE + EVIL,
        graph_after=AFTER + EVIL,
        capture_seconds=1.0,
        seconds=9.0,
        eager={"samples_ms": list(samples(40.0).wall_ms)},
        provenance={"source": f"timm {EVIL}"},
        tools={"torch": "2.13.0"},
    )


class Page(HTMLParser):
    """Tags, attributes and text of a page, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def full() -> Page:
    outside = {"mean.dim": f"no kernel {EVIL}"}
    runtimes = (
        measured("executorch", 20.0, delegated_share=0.983, outside=outside),
        measured("onnx", 10.0, opset=18),
        RuntimeReport("coreml", "proved", "fp32", rel_err=2e-6, facts={NO_LATENCY: "no latency: interpreter"}),
        RuntimeReport("tensorrt", "built", "fp16", reason=f"built, not run: no GPU {EVIL}", size_bytes=900),
    )
    return Page(render(report(*runtimes, name=EVIL), load_target("host"), f"hycompile build {EVIL}"))


def test_sections_in_order(full: Page) -> None:
    assert [name for name in full.attributes["id"] if name in SECTIONS] == SECTIONS


def test_everything_is_escaped(full: Page) -> None:
    assert "script" not in full.tags
    # Name in title and heading, reason twice, refusal, operator thrice, fact, graph, source, command.
    assert full.text.count(EVIL) >= 8


def test_nothing_is_fetched(full: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object"} & set(full.tags)
    assert not {"src", "href", "onclick", "onload"} & full.attributes.keys()
    assert "url(" not in full.text
    assert "@import" not in full.text


def test_it_says_what_was_found(full: Page) -> None:
    for text in (
        "4 runtimes: 3 proved; 1 built, not run",
        "1.2e-06",
        "45.2 MB",
        "0.9 kB",
        "98 %",
        "mean.dim: no kernel",
        "executorch is 2 times as fast as eager PyTorch",
        "no latency: interpreter",
        "built, not run: no GPU",
        "load average 7.5",
        "fold_batch_norm",
        "3.0e-16",
        "nextvit.py:41 in forward",
        "10 more kinds",
        "abab",
        "2.13.0",
        "glibc 2.28",
    ):
        assert text in full.text, text


def test_a_dot_per_sample_and_subject(full: Page) -> None:
    # Eager and the two measured runtimes, twenty samples each.
    assert full.attributes["class"].count("dot") == 60


def test_the_graph_is_folded_and_compared(full: Page) -> None:
    classes = full.attributes["class"]
    assert classes.count("changed old") == 2
    assert "changed new empty" in classes
    assert "%b = aten.batch_norm(%a)" in full.text


def test_light_dark_and_phone(full: Page) -> None:
    assert "prefers-color-scheme: dark" in full.text
    assert "max-width: 45rem" in full.text
    assert "width=device-width, initial-scale=1" in full.attributes["content"]


def test_a_build_without_measurements_renders() -> None:
    nothing = report(RuntimeReport("onnx", "refused", "fp32", reason="toolchain missing"))
    nothing.eager = None
    page = Page(render(nothing, load_target("host"), "hycompile build x"))
    assert "Not measured." in page.text
    assert not re.search(r"\bNone\b|Undefined", page.text)


@pytest.mark.parametrize(
    ("statuses", "kind", "text"),
    [
        (["proved", "built"], "good", "2 runtimes: 1 proved; 1 built, not run"),
        (["proved", "refused"], "partial", "2 runtimes: 1 proved; 1 refused"),
        (["built"], "partial", "1 runtime: 1 built, not run"),
        (["proved", "failed"], "bad", "2 runtimes: 1 proved; 1 failed"),
    ],
)
def test_verdict(statuses: list[Status], kind: str, text: str) -> None:
    found = verdict(report(*(RuntimeReport(f"r{index}", status, "fp32") for index, status in enumerate(statuses))))
    assert (found.kind, found.text) == (kind, text)
