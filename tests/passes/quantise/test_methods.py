"""Searches: how they are named, what they may leave out, and that what they rewrite beforehand is proved."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import hycompile as hy
from hycompile.attributes import put_tensor, tensor_at
from hycompile.errors import ParityError, PassError
from hycompile.passes.quantise import methods
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.methods import Search
from hycompile.program import Program
from tests.passes.quantise.models import hybrid, samples


class _Scales(Search):
    """Makes one layer's weight larger and the next one's smaller, behind a relu, where that changes nothing."""

    name = "scales"
    parts = ("return",)

    def prepare(self, program: Program) -> int:
        module = program.methods["forward"].graph
        for name in ("stem.weight", "stem.bias"):
            put_tensor(module, name, tensor_at(module, name) * 2)
        if "return" not in self.without:
            put_tensor(module, "mix.weight", tensor_at(module, "mix.weight") / 2)
        return 1

    def run(self, program: Program, drafts: Mapping[str, Draft]) -> None:
        for draft in drafts.values():
            draft.weights = {name: found.times(2.0, by=self.name) for name, found in draft.weights.items()}


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(methods.METHODS, "scales", _Scales)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("quantise{method=magic}", "no method 'magic'; one of observed"),
        ("quantise{without=scheme}", "method 'observed' has no part 'scheme' to leave out; it has no parts"),
    ],
)
def test_unknown_names(text: str, told: str) -> None:
    with pytest.raises(PassError, match=told):
        hy.Pipeline.parse(text)


@pytest.mark.usefixtures("_registered")
def test_parts_are_named_in_the_refusal() -> None:
    with pytest.raises(PassError, match="no part 'x' to leave out; its parts are return"):
        hy.Pipeline.parse("quantise{method=scales,without=return+x}")


@pytest.mark.usefixtures("_registered")
def test_a_search_changes_ranges_and_signs_them() -> None:
    plain, _ = hy.quantise(hybrid(), samples())
    found, report = hy.quantise(hybrid(), samples(), "quantise{method=scales}")
    assert plain.plan is not None
    assert found.plan is not None
    one, other = plain.plan.of("forward", "point.weight"), found.plan.of("forward", "point.weight")
    assert one is not None
    assert other is not None
    assert other.scale == pytest.approx([2 * scale for scale in one.scale])
    assert (one.observer, other.observer) == ("minmax", "scales")
    assert report.passes[0].rules[0].facts["exact rewrites before"] == 1
    assert all(layer.sqnr > 20 for layer in found.plan.measured.layers)  # type: ignore[union-attr]


@pytest.mark.usefixtures("_registered")
def test_a_rewrite_that_changes_the_model_is_caught() -> None:
    with pytest.raises(ParityError, match="before it rounds: changed what the model computes"):
        hy.quantise(hybrid(), samples(), "quantise{method=scales,without=return}")
