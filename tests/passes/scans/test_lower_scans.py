"""``lower-scans``: every form equals the definition, its graph has one size, and refusals say why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from hycompile.errors import PassError
from hycompile.parity import compare, execute
from hycompile.passes.lower_scans import LowerScans
from hycompile.pipeline import Pipeline
from hycompile.program import Program
from hycompile.reports import RuleReport
from hycompile.text import graph_text
from tests.passes.scans.models import only, toy
from tests.recurrence.inputs import RECURRENCES, cache_inputs, conv_inputs, linear_inputs, scan_inputs
from tests.support import count

ROUNDING_FP64 = 1e-12
OPERATORS = ("linear_recurrence", "selective_scan", "causal_conv", "cache_write")

Inputs = tuple[Tensor | None, ...]


def linear(kind: str) -> Callable[[int], tuple[str, Inputs]]:
    return lambda tokens: ("linear_recurrence", linear_inputs(kind, tokens, torch.float32))


CALLS: dict[str, Callable[[int], tuple[str, Inputs]]] = {
    **{kind: linear(kind) for kind in RECURRENCES},
    "scan": lambda tokens: ("selective_scan", scan_inputs(tokens, torch.float32)),
    "conv": lambda tokens: ("causal_conv", conv_inputs(tokens, torch.float32, True, None)),
    "conv with count": lambda tokens: ("causal_conv", conv_inputs(tokens, torch.float32, False, tokens - 1)),
    "cache": lambda tokens: ("cache_write", cache_inputs(tokens, torch.float32, 13, None)),
    "cache with count": lambda tokens: ("cache_write", cache_inputs(tokens, torch.float32, 13, tokens - 1)),
}


def lower(program: Program, options: str = "", prove: bool = True) -> tuple[Program, dict[str, RuleReport]]:
    lowered, report = Pipeline.parse(f"lower-scans{{{options}}}")(program, prove=prove)
    return lowered, {rule.rule: rule for rule in report.passes[0].rules}


def operators_left(program: Program) -> int:
    return count(program, *(f"hycompile.{name}" for name in OPERATORS))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("tokens", [1, 65])
def test_parity_in_both_precisions(name: str, tokens: int) -> None:
    operator, inputs = CALLS[name](tokens)
    lowered, reports = lower(only(operator, inputs))
    assert operators_left(lowered) == 0
    assert {rule: report.hits for rule, report in reports.items()} == {
        rule: int(rule == operator) for rule in OPERATORS
    }
    report = reports[operator]
    assert report.error_fp32 is not None
    assert report.error_fp64 is not None
    assert report.error_fp64 < ROUNDING_FP64


@pytest.mark.parametrize("name", CALLS)
def test_the_graph_is_as_large_for_512_tokens_as_for_8192(name: str) -> None:
    sizes: set[int] = set()
    for tokens in (512, 8192):
        operator, inputs = CALLS[name](tokens)
        program = only(operator, inputs)
        LowerScans().run(program, lambda *_: None)
        assert operators_left(program) == 0
        sizes.add(len(program.methods["forward"].graph.graph.nodes))
    assert len(sizes) == 1
    assert sizes.pop() < 600


@pytest.mark.parametrize("options", ["chunk=8,block=2", "form=chunked,block=1"])
@pytest.mark.parametrize("name", ["keyed delta", "gated", "scan"])
def test_chunks_of_other_sizes(name: str, options: str) -> None:
    lowered, reports = lower(only(*CALLS[name](21)), options)
    assert operators_left(lowered) == 0
    assert max(report.error_fp64 or 0.0 for report in reports.values()) < ROUNDING_FP64


def test_a_form_that_is_asked_for_is_taken() -> None:
    """One token in chunks, and no chunk where the step is asked for."""
    program = only(*CALLS["gated"](1))
    chunks, step = (lower(program, f"form={form}")[0].methods["forward"].graph.graph for form in ("chunked", "step"))
    assert len(chunks.nodes) > len(step.nodes)


def test_step_refuses_several_tokens() -> None:
    lowered, reports = lower(only(*CALLS["delta"](2)), "form=step")
    assert operators_left(lowered) == 1
    assert [refusal.reason for refusal in reports["linear_recurrence"].refusals] == [
        "the form step takes 1 token, found 2"
    ]


def test_a_dynamic_number_of_tokens_is_refused() -> None:
    tokens = {1: Dim("tokens", min=2, max=64)}
    program = only("selective_scan", scan_inputs(8, torch.float32), ((tokens, tokens, {}, tokens, tokens, {}),))
    lowered, reports = lower(program)
    assert operators_left(lowered) == 1
    (refusal,) = reports["selective_scan"].refusals
    assert refusal.reason.startswith("the number of tokens is dynamic (s")


@pytest.mark.parametrize("tokens", [1, 70])
def test_a_dynamic_batch_is_kept(tokens: int) -> None:
    batch = {0: Dim("batch", min=1, max=8)}
    inputs = linear_inputs("gated delta", tokens, torch.float32)
    program = only("linear_recurrence", inputs, ((batch,) * len(inputs),))
    lowered, _ = lower(program)
    assert operators_left(lowered) == 0
    three = tuple(torch.cat([tensor, tensor[:1]]) for tensor in inputs if tensor is not None)
    found, expected = (execute(each.methods["forward"], three) for each in (lowered, program))
    assert compare(found, expected)[0] < 1e-5


def test_operator_keeps_what_onnx_has() -> None:
    lowered, reports = lower(toy(), "form=operator")
    assert count(lowered, "hycompile.linear_recurrence") == 4
    # The prefill's convolution counts its tokens, which the standard operator cannot.
    assert count(lowered, "hycompile.causal_conv") == 1
    assert count(lowered, "hycompile.selective_scan", "hycompile.cache_write") == 0
    assert reports["linear_recurrence"].hits == 0
    assert reports["linear_recurrence"].refusals == []


@pytest.mark.parametrize("form", ["index_put", "index_copy"])
def test_caches_written_by_index_where_all_tokens_fit(form: str) -> None:
    fits, *others = (("cache", 5), ("cache", 30), ("cache with count", 5))
    lowered, _ = lower(only(*CALLS[fits[0]](fits[1])), f"cache={form}")
    assert count(lowered, f"aten.{form}") == 1
    for name, tokens in others:
        lowered, _ = lower(only(*CALLS[name](tokens)), f"cache={form}")
        assert count(lowered, f"aten.{form}") == 0
        assert count(lowered, "aten.where.self") == 1


@pytest.mark.parametrize("options", ["form=loop", "cache=shift", "chunk=-1", "block=-2"])
def test_options_it_does_not_know(options: str) -> None:
    with pytest.raises(PassError, match=r"lower-scans.*(no form 'loop'|no cache 'shift'|chunk is -1|block is -2)"):
        Pipeline.parse(f"lower-scans{{{options}}}")


def test_prefill_and_decode_over_shared_state() -> None:
    """A prefill and two steps, chained through the state, against the definition."""
    program = toy()
    lowered, reports = lower(program)
    assert operators_left(lowered) == 0
    assert {name: report.hits for name, report in reports.items()} == {
        "linear_recurrence": 4, "selective_scan": 2, "causal_conv": 2, "cache_write": 2,
    }  # fmt: skip
    found, expected = (_three_calls(each) for each in (lowered, program))
    for mine, theirs in zip(found, expected, strict=True):
        assert compare(mine, theirs)[0] < 1e-5


def _three_calls(program: Program) -> list[Any]:
    results = [execute(program.methods["prefill"])]
    for position in (15, 16):
        x = torch.full((1, 1, 16), position / 16)
        results.append(execute(program.methods["decode"], (x, torch.tensor([position])), state=results[-1].state))
    return results


def test_a_program_without_recurrences_stays_as_it_is() -> None:
    program = only("causal_conv", conv_inputs(4, torch.float32, True, None))
    lowered, _ = lower(program)
    again, reports = lower(lowered)
    assert again.text() == lowered.text()
    assert all(report.hits == 0 and report.error_fp32 is None for report in reports.values())


def test_equal_constants_of_a_graph_are_stored_once() -> None:
    program = toy(130)
    LowerScans().run(program, lambda *_: None)
    tensors = [
        tensor for name, tensor in program.methods["prefill"].graph.named_buffers() if name.startswith("lower_scans")
    ]
    contents = {(tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes()) for tensor in tensors}
    assert len(contents) == len(tensors) > 5


@pytest.mark.parametrize(("name", "tokens"), [("delta", 1), ("scan", 1), ("conv", 1), ("cache with count", 1),
                                              ("gated", 3), ("conv with count", 3), ("cache", 3)])  # fmt: skip
def test_golden(name: str, tokens: int, golden: Callable[[str, str, str], None]) -> None:
    program = only(*CALLS[name](tokens))
    before = graph_text(program.methods["forward"].graph)
    lowered, _ = lower(program)
    case = f"{name.replace(' ', '_')}_{'step' if tokens == 1 else 'chunked'}"
    golden(f"lower_scans/{case}", before, graph_text(lowered.methods["forward"].graph))
