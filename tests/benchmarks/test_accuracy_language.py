"""Test bed D: what counts as a bit per byte, and what of the page language models have to themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmarks.accuracy.beds.language import Page, Reading
from benchmarks.accuracy.language_table import language_goals, language_section
from benchmarks.accuracy.methods import DYNAMIC, METHODS, PARTS, SETTINGS, methods_for, pipeline
from benchmarks.accuracy.rows import Row
from hycompile.pipeline import Pipeline

# Five windows of three tokens and one more to foretell; token 1 is three bytes long, the others one.
WINDOWS = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1], [0, 0, 0, 0], [1, 2, 0, 1], [2, 1, 0, 2]])
READING = Reading("bed", WINDOWS, torch.tensor([1, 3, 1]))


def test_bits_per_byte_of_a_model_that_knows_nothing() -> None:
    """Each token costs log2(3) bits, whatever batches it comes in."""
    calls: list[tuple[int, ...]] = []

    def run(tokens: Tensor) -> Tensor:
        calls.append(tuple(tokens.shape))
        return torch.zeros(*tokens.shape, 3)

    pages = READING.answers(run, 2)
    assert calls == [(2, 3)] * 3
    assert len(pages) == 5
    bits, agreement = READING.scores(pages, pages, pages)
    size = int(torch.tensor([1, 3, 1])[WINDOWS[:, 1:]].sum())
    assert bits.value == pytest.approx(15 * math.log2(3) / size)
    assert (bits.reference, bits.samples) == (bits.value, 5)
    assert (agreement.metric, agreement.value) == ("agreement", 100.0)


def test_a_model_that_knows_the_text_pays_nothing_and_agreement_counts_tokens() -> None:
    def run(tokens: Tensor) -> Tensor:
        (place,) = (row for row in range(5) if torch.equal(WINDOWS[row, :-1], tokens[0]))
        return 100.0 * torch.nn.functional.one_hot(WINDOWS[place : place + 1, 1:], 3)

    pages = READING.answers(run, 1)
    other = [Page(page.nats, (9, *page.likeliest[1:])) for page in pages]
    bits, agreement = READING.scores(pages, other, other)
    assert bits.value < 1e-6
    assert agreement.value == pytest.approx(100 * 2 / 3)


def test_language_models_have_methods_of_their_own() -> None:
    assert methods_for("king-james", 8, []) == DYNAMIC
    assert methods_for("king-james", 6, ["own=quantise{bits=$w}"]) == {"own": "quantise{bits=$w}"}
    assert methods_for("fashion-mnist", 8, []) == METHODS | PARTS
    for text in DYNAMIC.values():
        Pipeline.parse(pipeline(text, *SETTINGS["W4A8"]))


def _row(**changes: object) -> Row:
    fields = {"testbed": "king-james", "model": "small", "method": "rows-32", "weight_bits": 4, "activation_bits": 8}
    figures = {"float": 1.0, "mean": 1.02, "spread": None, "seeds": (0,), "values": (1.02,), "floats": (1.0,)}
    rest = {"metric": "bits_per_byte", "runner": "simulation", "pipeline": "", "samples": 5}
    return Row.model_validate(fields | figures | rest | changes)


def test_page_tells_bits_per_byte_above_float() -> None:
    rows = [_row(), _row(metric="agreement", mean=93.25), _row(weight_bits=8, method="rows", metric="agreement")]
    assert "| small | rows-32 | 4 bits | simulation | 5 | 1.0000 | 1.0200 | +2.00 | 93.2 |" in language_section(rows)
    eight, four = language_goals(rows)
    assert eight.measured == "not measured yet"
    assert (four.wanted, four.measured) == ("<= 3 %", "2.00 %")
    assert language_goals([]) == []
    assert language_section([_row(metric="top1")]) == ""
