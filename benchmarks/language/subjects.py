"""The models of the builds, as PyTorch modules with seeded weights: what is compiled, and what it is held against."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.language.builds import Build
from benchmarks.language.session import Logits

if TYPE_CHECKING:
    from torch import nn

    from hycompile.capture import Call
    from hycompile.models.causal_lm.layouts import Layout
    from hycompile.models.language.plan import Plan
    from hycompile.program import Program

_OURS = "language/"


def program(build: Build) -> Program:
    """The modes of a build as methods over one state, captured."""
    from hycompile.capture import capture

    module, calls = _language(build) if build.model.startswith(_OURS) else _causal_lm(build)
    return capture(module, methods={mode: calls[mode] for mode in build.modes}, name=build.label)


def transformers_module(build: Build) -> nn.Module:
    """The ``...ForCausalLM`` of a build of ``causal-lm``, as transformers has it."""
    from hycompile.models.causal_lm.transformers_models import make

    return make(_layout(build))


def reference(build: Build, tokens: list[int], first: int) -> list[Logits]:
    """Eager logits of every token from ``first`` on, by one call on the whole sequence, which keeps no state.

    Models of transformers run as transformers has them.
    """
    import torch

    ids = torch.tensor([tokens])
    with torch.no_grad():
        if build.model.startswith(_OURS):
            module, _ = _language(build.model_copy(update={"reader": _function(build)}))
            logits = module(ids)
        else:
            logits = transformers_module(build)(input_ids=ids, use_cache=False).logits
    return list(logits[0, first:].numpy())


def vocabulary(build: Build) -> int:
    """How many tokens there are."""
    return _plan(build).vocabulary if build.model.startswith(_OURS) else _layout(build).config["vocab_size"]


def _function(build: Build) -> Any:
    """Recomputing changes how a model is computed, not what."""
    return "gmu" if build.reader == "recompute" else build.reader


def _causal_lm(build: Build) -> tuple[nn.Module, dict[str, Call]]:
    import torch

    from hycompile.capture import Call
    from hycompile.models.causal_lm.adopt import adopt
    from hycompile.models.causal_lm.decoder import CausalLM

    model: Any = transformers_module(build)
    adopt(model)
    tokens, count = torch.zeros(1, build.prompt, dtype=torch.int64), torch.tensor([build.prompt - 1])
    calls = {
        "prefill": Call((tokens, count), function="prefill"),
        "decode": Call((tokens[:, -1:], count), function="decode"),
    }
    return CausalLM(model, build.context).eval(), calls


def _layout(build: Build) -> Layout:
    from hycompile.models.causal_lm.layouts import LAYOUTS

    layout = LAYOUTS[build.model]
    if build.layers is None:
        return layout
    return replace(layout, config=layout.config | {"num_hidden_layers": build.layers})


def _language(build: Build) -> tuple[nn.Module, dict[str, Call]]:
    from benchmarks.language.recompute import recompute_memory
    from hycompile.models.language.family import build_plan

    built = build_plan(_plan(build))
    assert built.methods is not None
    if build.reader == "recompute":
        recompute_memory(built.module)
    return built.module, dict(built.methods)


def _plan(build: Build) -> Plan:
    from hycompile.models.language.presets import PLANS

    plan = PLANS[build.model.removeprefix(_OURS)].resized(build.prompt, build.context)
    readers = {"gmu": "gmu", "recompute": "gmu"}
    kind: Any = readers.get(build.reader, build.reader)
    layers = tuple(replace(layer, kind=kind) if layer.kind == "gmu" else layer for layer in plan.layers)
    return replace(plan, layers=layers, chunked=False)
