"""Q-HyViT: its objective by hand, its parts, and what it gains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional as F

import hycompile as hy
from hycompile.errors import PassError
from hycompile.parity import execute
from hycompile.passes.quantise.correct_biases import correct_biases
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.gradients import gradients_of
from hycompile.passes.quantise.grid import Grid
from hycompile.passes.quantise.layers import survey
from hycompile.passes.quantise.make_plan import Scheme, observe
from hycompile.passes.quantise.simulation import Simulation
from hycompile.program import Program, Step
from hycompile.quantisation.calibration import calibration
from hycompile.schema import bind, is_call
from tests.passes.quantise.models import hybrid, samples
from tests.support import captured


def _outputs(program: Program) -> Tensor:
    """On samples that were not calibrated on."""
    return torch.cat([execute(program.methods["forward"], (x,)).outputs[0] for x in samples(24)[8:]])


def _divergence(options: str) -> float:
    """Of the rounded prediction from the float one."""
    found, _ = hy.quantise(hybrid(), samples(8), f"quantise{{{options},min_sqnr=-20.0}}")
    log, known = F.log_softmax(_outputs(found), -1), F.softmax(_outputs(hybrid()), -1)
    return float(F.kl_div(log, known, reduction="batchmean"))


def test_diverges_less_than_the_observers_and_than_easyquant() -> None:
    options = "bits=4,activation_bits=4"
    plain, other = _divergence(options), _divergence(f"method=easyquant,{options}")
    assert _divergence(f"method=q-hyvit,{options}") < 0.7 * min(plain, other)


def test_scheme_may_be_left_out() -> None:
    found, _ = hy.quantise(hybrid(), samples(), "quantise{method=q-hyvit,without=scheme+biases+bridges}")
    assert found.plan is not None
    assert not any(value.symmetric for value in found.plan.values if value.role == "activation")
    assert {value.observer for value in found.plan.values} == {"q-hyvit"}


def test_gradients_are_those_of_the_divergence() -> None:
    """At the logits, which are rounded nowhere, the gradient is the difference of the two predictions."""
    program, draft = _drafted(outputs=True)
    method = program.methods["forward"]
    step = Step("forward", (samples()[0],))
    last = method.output_nodes()[0]
    gradient = gradients_of(method, draft, step, {last})[last]
    rounded, _ = hy.quantise(
        hybrid(), samples(), "quantise{bits=4,activation_bits=4,weights=tensor,activations=symmetric,min_sqnr=-20.0}"
    )
    one, other = (
        F.softmax(execute(each.methods["forward"], step.inputs).outputs[0], -1) for each in (rounded, program)
    )
    torch.testing.assert_close(gradient, one - other, rtol=1e-2, atol=1e-4)
    assert float(gradient.abs().max()) > 1e-3


class _Chosen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).argmax(-1)


def test_without_a_prediction() -> None:
    with pytest.raises(
        PassError, match=r"'argmax': of int64 is no prediction .* let the model return its logits first"
    ):
        hy.quantise(captured(_Chosen(), torch.randn(2, 4)), [torch.randn(2, 4)], "quantise{method=q-hyvit}")


class _Methods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def back(self, x: Tensor) -> Tensor:
        return self.linear(-x)


def test_weights_alone_and_a_method_without_data() -> None:
    """Values in float need no calibration data; the shared bias is left as it is."""
    calls = {"forward": hy.Call((torch.randn(2, 4),)), "back": hy.Call((torch.randn(2, 4),), function="back")}
    program = hy.capture(_Methods().eval(), methods=calls)
    found, _ = hy.quantise(program, [torch.randn(2, 4)], "quantise{method=q-hyvit,bits=4,activation_bits=0}")
    assert found.plan is not None
    assert {value.observer for value in found.plan.values if value.method == "forward"} == {"q-hyvit"}
    assert {value.observer for value in found.plan.values if value.method == "back"} == {"minmax"}


def test_biases_keep_the_means() -> None:
    """Of every channel of every layer that has a bias."""
    program, draft = _drafted(outputs=False)
    known, plain = _means(program, None), _means(program, draft)
    assert correct_biases(program, "forward", draft) == 4
    found = _means(program, draft)
    assert max(float((plain[layer] - known[layer]).abs().max()) for layer in known) > 1e-2
    for layer, mean in known.items():
        torch.testing.assert_close(found[layer], mean, rtol=1e-4, atol=1e-5)
    for layer, mean in _means(hybrid(), None).items():
        assert torch.equal(mean, known[layer]), "the float model shares no bias with the corrected one"


def _drafted(*, outputs: bool) -> tuple[Program, Draft]:
    program = replace(hybrid().copy(), calibration=calibration(hybrid(), samples()))
    found = {"forward": survey(program.methods["forward"], products=False, outputs=outputs)}
    scheme = Scheme(Grid(4, symmetric=True), "minmax")
    return program, observe(program, found, scheme, scheme)["forward"]


def _means(program: Program, draft: Draft | None) -> dict[str, Tensor]:
    """Of each channel of the outputs of layers with a bias, before these are rounded; in float without a draft."""
    method, seen = program.methods["forward"], dict[str, list[Tensor]]()

    def watch(node: Node, value: object) -> object:
        if is_call(node, "aten.conv2d", "aten.linear") and bind(node)["bias"] is not None:
            assert isinstance(value, Tensor)
            seen.setdefault(node.name, []).append(
                value.movedim(1 - bind(node)["weight"].meta["val"].ndim, 0).flatten(1)
            )
        return value

    simulation = Simulation(method, draft or Draft([], {}, {}, {}))
    for x in samples():
        simulation.run((x,), watch)
    return {name: torch.cat(values, 1).mean(1) for name, values in seen.items()}
