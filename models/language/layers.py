"""From a line of a plan to the module: one residual unit with its norm and mixer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hycompile.models.language.attention import Attention
from hycompile.models.language.cross_attention import CrossAttention
from hycompile.models.language.delta import DeltaNet
from hycompile.models.language.differential import DifferentialHeads
from hycompile.models.language.heads import Heads, SoftmaxHeads
from hycompile.models.language.linear_attention import HGRN2, GatedLinearAttention, RetNet
from hycompile.models.language.mamba1 import Mamba1
from hycompile.models.language.mamba2 import Mamba2
from hycompile.models.language.mamba_in_llama import MambaInLlama
from hycompile.models.language.memory import GatedMemory
from hycompile.models.language.mixer import Mixer, Shared, Span, State
from hycompile.models.language.mlp import MLP
from hycompile.models.language.norms import EPSILON
from hycompile.models.language.plan import Kind, Layer, Plan


class ResidualUnit(nn.Module):
    """``x + mixer(norm(x))``."""

    def __init__(self, plan: Plan, layer: Layer) -> None:
        super().__init__()
        self.norm = norm(plan)
        self.mixer = _MIXERS[layer.kind](plan, layer)

    def forward(self, x: Tensor, state: State, span: Span, shared: Shared, step: bool) -> tuple[Tensor, State]:
        """See :class:`hycompile.models.language.mixer.Mixer`."""
        run = self.mixer.step if step else self.mixer.prefill
        added, state = run(self.norm(x), state, span, shared)
        return x + added, state


def norm(plan: Plan) -> nn.Module:
    """The norm before mixers and before the head."""
    return (nn.LayerNorm if plan.norm == "layer" else nn.RMSNorm)(plan.width, eps=EPSILON)


def _attention(plan: Plan, layer: Layer) -> Mixer:
    windowed = layer.kind.endswith("window")
    return Attention(
        plan.width,
        plan.heads,
        plan.key_heads,
        plan.head_width,
        plan.window if windowed else plan.context,
        _kernel(plan, layer),
        windowed=windowed,
        rotary=plan.rotary,
        bias=plan.bias,
        gives=layer.gives,
    )


def _cross(plan: Plan, layer: Layer) -> Mixer:
    kernel = _kernel(plan, layer)
    return CrossAttention(plan.width, plan.heads, plan.head_width, kernel, rotary=plan.rotary, bias=plan.bias)


def _kernel(plan: Plan, layer: Layer) -> Heads:
    differential = layer.kind.startswith("diff-")
    return DifferentialHeads(plan.head_width, layer.depth) if differential else SoftmaxHeads()


def _memory(plan: Plan, layer: Layer) -> Mixer:
    """The memory is as wide as the readout of whoever gives it."""
    giver = next(found for found in plan.layers if found.gives and not found.kind.endswith("full"))
    width = plan.linear_heads * plan.linear_width if giver.kind == "gated-deltanet" else plan.inner
    return GatedMemory(plan.width, width, normalised=layer.kind == "ngmu")


def _hgrn2(plan: Plan, layer: Layer) -> Mixer:
    """The bound of the gates rises with depth, from 0 towards 1."""
    lower = layer.depth / (1 + max(found.depth for found in plan.layers))
    return HGRN2(plan.width, plan.linear_heads, plan.linear_width, lower)


def _delta(plan: Plan, layer: Layer) -> Mixer:
    gated = layer.kind == "gated-deltanet"
    return DeltaNet(plan.width, plan.linear_heads, plan.linear_width, gated, layer.gives)


def _mamba2(plan: Plan, layer: Layer) -> Mixer:
    head_width = plan.inner // plan.space_heads
    return Mamba2(plan.width, plan.inner, plan.states, head_width, plan.groups, layer.gives)


_MIXERS: dict[Kind, Callable[[Plan, Layer], Mixer]] = {
    "mamba1": lambda plan, layer: Mamba1(plan.width, plan.inner, plan.states, plan.rank, layer.gives),
    "mamba2": _mamba2,
    "mamba-in-llama": lambda plan, _: MambaInLlama(plan.width, plan.heads, plan.key_heads, plan.head_width, plan.rank),
    "gla": lambda plan, _: GatedLinearAttention(plan.width, plan.linear_heads, plan.linear_width),
    "retnet": lambda plan, _: RetNet(plan.width, plan.linear_heads, plan.linear_width),
    "hgrn2": _hgrn2,
    "deltanet": _delta,
    "gated-deltanet": _delta,
    "window": _attention,
    "full": _attention,
    "diff-window": _attention,
    "diff-full": _attention,
    "cross": _cross,
    "diff-cross": _cross,
    "gmu": _memory,
    "ngmu": _memory,
    "mlp": lambda plan, _: MLP(plan.width, plan.hidden),
}
