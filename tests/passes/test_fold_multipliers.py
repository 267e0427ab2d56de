"""fold-multipliers: golden text, one case a refusal, and whole models of transformers with no multiplier left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.capture import capture
from hycompile.errors import PassError
from hycompile.parity import Proof
from hycompile.passes.fold_multipliers import FoldMultipliers
from hycompile.passes.fold_multipliers.into_attention import fold_multiplier_into_attention as attention_rule
from hycompile.passes.fold_multipliers.into_consumers import fold_multiplier_into_consumers as consumers
from hycompile.passes.fold_multipliers.into_producers import fold_multiplier_into_producers as producers
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.rewrite import Rule, apply
from hycompile.schema import is_call
from hycompile.text import graph_text
from tests.passes.multiplier_models import TOKENS, VOCABULARY, Forward, Words, attention, ranges, tied_head, tiny

ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-12}
MULTIPLICATIONS = ("aten.mul.Tensor", "aten.mul.Scalar", "aten.div.Tensor", "aten.div.Scalar")


def words() -> Tensor:
    return torch.randint(0, VOCABULARY, (1, TOKENS))


def on_attention(m: Words, x: Tensor) -> Tensor:
    q, k = m.heads(m.embed(x).sin()) * 3, m.heads(m.embed(x).cos()) / 2
    return F.scaled_dot_product_attention(q[:, :, 1:], k, m.heads(m.q(m.embed(x))))


CASES: list[tuple[Rule, str, int, Forward, bool]] = [
    (producers, "attention", 5, attention, False),
    (producers, "tied_head", 2, tied_head, True),
    (producers, "ranges", 3, ranges, False),
    (producers, "sum_of_embeddings", 1, lambda m, x: (m.embed(x) + m.places(m.index)) * m.channels, False),
    (producers, "norms", 2, lambda m, x: (m.norm(m.embed(x)).neg() * 2, m.layer_norm(m.embed(x)) * m.channels), False),
    (producers, "joined", 1, lambda m, x: torch.cat([m.wide(y := m.embed(x).tanh()), m.q(y)], -1) / m.joined, False),
    (producers, "two_multipliers", 1, lambda m, x: ((y := m.embed(x).tanh()) * m.channels) * 0.5 + y, False),
    (consumers, "gated", 1, lambda m, x: m.o(m.embed(x).tanh() * m.channels * m.q(m.embed(x)).sigmoid()), False),
    (consumers, "split", 1, lambda m, x: tuple(m.o(y) for y in (m.embed(x).tanh() * 3).split(3, 1)), False),
    (attention_rule, "scale", 2, on_attention, False),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "case", "hits", "make", "tied"), CASES, ids=[f"{c[0].name}-{c[1]}" for c in CASES])
def test_rule(
    rule: Rule, case: str, hits: int, make: Forward, tied: bool, golden: Callable[[str, str, str], None]
) -> None:
    program = capture(Words(make, tied).eval(), (words(),))
    before = graph_text(program.methods["forward"].graph)
    for dtype, rounding in ROUNDING.items():
        rewritten = program.to(dtype)
        proof, report = Proof(rewritten), apply(rule, rewritten)
        assert report.hits == hits
        assert proof.check(rewritten, rule.name, budget=rounding) <= rounding
        if dtype == torch.float32:
            golden(f"{rule.name}/{case}", before, graph_text(rewritten.methods["forward"].graph))


REFUSALS: list[tuple[Rule, str, Forward, bool, str]] = [
    (producers, "before_norm", lambda m, x: m.norm(m.plain_norm(m.embed(x)) * 2), False,
     "rms_norm has no weight to take the multiplier"),
    (producers, "not_linear", lambda m, x: m.q(m.embed(x)).sigmoid() * 2, False,
     "aten.sigmoid is neither linear nor passes a multiplier on"),
    (producers, "other_reader", lambda m, x: ((y := m.q(m.embed(x))) * 2, y.exp()), False,
     "linear has 2 users, the others need it without the multiplier"),
    (producers, "other_sum", lambda m, x: ((y := m.q(m.embed(x))) * 2, y + 1), False,
     "linear has 2 users, the others need it without the multiplier"),
    (producers, "other_piece", lambda m, x: ((y := m.q(m.embed(x)))[..., :5] * 2, y[..., 4:].exp()), False,
     "linear has 2 users, the others need it without the multiplier"),
    (producers, "square", lambda m, x: (y := m.q(m.embed(x))).reshape(6, 8) @ y.reshape(8, 6) * 2, False,
     "linear has 2 users, the others need it without the multiplier"),
    (producers, "constant_term", lambda m, x: (m.q(m.embed(x)) + m.channels) * 2, False,
     "get_attr is neither linear nor passes a multiplier on"),
    (producers, "two_ways", lambda m, x: torch.cat([y := m.q(m.embed(x)), y], -1) * m.skewed, False,
     "linear would be scaled in two ways"),
    (producers, "infinite", lambda m, x: m.q(m.embed(x)) / 0, False, "its constant has values that are not finite"),
    (producers, "tied_without_norm", lambda m, x: m.head((m.embed(x) * 2).tanh()), True,
     "aten.tanh is neither linear nor passes a multiplier on"),
    (producers, "tied_zero", lambda m, x: m.head(m.norm(m.embed(x) * 0)), True,
     "embedding shares its table, and zero cannot be undone"),
    (producers, "tied_to_other_lookup", lambda m, x: (m.embed(x) * 2, F.embedding(x, m.embed.weight)), False,
     "embedding shares its table with embedding_1, which is no linear"),
    (producers, "tied_channels", lambda m, x: m.head(m.norm(m.embed(x))) * m.words, True,
     "linear shares its weight with an embedding, which has other channels"),
    (consumers, "norm", lambda m, x: m.norm(m.embed(x).tanh() * 2), False,
     "aten.rms_norm uses it and is neither linear nor a move that keeps the channel axis"),
    (consumers, "tied", lambda m, x: m.head(m.embed(x).tanh() * m.channels), True,
     "linear shares its weight with embedding"),
    (attention_rule, "channels", lambda m, x: m.embed(x).tanh() * m.channels, False,
     "it has one value a channel, the scale of attention is one number"),
    (attention_rule, "other_use", lambda m, x: (m.embed(x).tanh() * 2).exp(), False,
     "aten.exp uses it and is not attention"),
    (attention_rule, "both", lambda m, x: F.scaled_dot_product_attention(y := m.embed(x).tanh() * 2, y[:, 1:],
     m.embed(x)[:, 1:]), False, "it is both queries and keys of one attention"),
    (attention_rule, "values", lambda m, x: F.scaled_dot_product_attention(m.embed(x), m.embed(x),
     m.embed(x).tanh() * 2), False, "mul is value of scaled_dot_product_attention"),
    (attention_rule, "infinite", lambda m, x: F.scaled_dot_product_attention(m.embed(x) / 0, m.embed(x), m.embed(x)),
     False, "its constant has values that are not finite"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "case", "make", "tied", "reason"), REFUSALS, ids=[f"{c[0].name}-{c[1]}" for c in REFUSALS]
)
def test_refusal(rule: Rule, case: str, make: Forward, tied: bool, reason: str) -> None:
    program = capture(Words(make, tied).eval(), (words(),))
    before = program.text()
    report = apply(rule, program)
    assert report.hits == 0
    assert [refusal.reason for refusal in report.refusals] == [reason]
    assert program.text() == before


def multipliers(program: Program) -> list[str]:
    """Multiplications and divisions of a value by a constant or a number, but for the rotary table of frequencies."""
    return [
        graph_text(method.graph).split(f"%{node.name} = ")[1].partition("\n")[0]
        for method in program.methods.values()
        for node in method.graph.graph.nodes
        if is_call(node, *MULTIPLICATIONS)
        and "inv_freq" not in str(node.args)
        and any(not isinstance(a, torch.fx.Node) or a.op == "get_attr" for a in node.args)
    ]


# Ten a layer are Falcon-H1's (eight multipliers and two norms' weights); 2 + 1 at the ends, 2 of the rotary tables.
MODELS = [("falcon_h1", False, 25, 0), ("falcon_h1", True, 25, 1), ("granitemoehybrid", True, 14, 1)]  # fmt: skip


@pytest.mark.parametrize(("name", "tied", "before", "after"), MODELS)
def test_no_multiplier_is_left(name: str, tied: bool, before: int, after: int) -> None:
    """What a tied model keeps is the weight of its last norm: the head behind it is the table."""
    program = capture(tiny(name, tied), (torch.randint(0, 64, (1, 24)),))
    assert len(multipliers(program)) == before
    folded, report = Pipeline((FoldMultipliers(),))(program)
    assert len(multipliers(folded)) == after
    assert all("[1, 24, 32]" in line and "other" not in line for line in multipliers(folded))
    assert report.error_fp32 is not None
    assert report.error_fp64 is not None
    assert report.error_fp32 <= ROUNDING[torch.float32]
    assert report.error_fp64 <= ROUNDING[torch.float64]
    assert folded.weight_bytes <= program.weight_bytes


def test_tied_table_stays_one_table_over_methods() -> None:
    """Two methods fold the same table alike, and share what comes out."""
    from hycompile.capture import Call

    model = Words(tied_head, tied=True).eval()
    calls = {name: Call((words(),)) for name in ("prefill", "decode")}
    program = capture(model, methods=calls)
    folded, report = Pipeline((FoldMultipliers(),))(program)
    assert report.passes[0].hits == 4
    assert folded.weight_bytes == program.weight_bytes


@pytest.mark.parametrize("of_weights", [False, True])
def test_a_model_without_values_is_refused_with_a_reason(of_weights: bool) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.multiplier = nn.Linear(4, 4), nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) * (self.multiplier if of_weights else 12.0)

    with torch.device("meta"):
        program = capture(Scaled().eval(), (torch.zeros(2, 4),))
    with pytest.raises(PassError, match=r"multiplier mul .*meta device.*load the model with its weights"):
        Pipeline((FoldMultipliers(),))(program)


def test_a_model_without_values_and_multipliers_passes() -> None:
    with torch.device("meta"):
        program = capture(nn.Linear(4, 4).eval(), (torch.zeros(2, 4),))
    assert Pipeline((FoldMultipliers(),))(program)[1].passes[0].hits == 0
