"""The family ``language``: hybrid language models of our own, with seeded random weights unless they were trained."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from hycompile.errors import CaptureError
from hycompile.models.family import Built, Description
from hycompile.models.language import trained
from hycompile.models.language.plan import Plan
from hycompile.models.language.presets import PLANS

if TYPE_CHECKING:
    from torch import Tensor

    from hycompile.capture import Call

_PREFIX = "language/"
_DECODES = 64


class LanguageModels:
    """Names are ``language/`` and a preset."""

    name = "language"

    def names(self) -> list[str]:
        return sorted(_PREFIX + preset for preset in PLANS)

    def aliases(self) -> Mapping[str, str]:
        return {}

    def describe(self, name: str) -> Description:
        plan = _plan(name)
        pretrained = trained.folder(name.removeprefix(_PREFIX)) is not None
        weights = "trained on the King James Bible" if pretrained else "seeded random weights"
        source = f"hycompile's own layers in the published plan, {weights}"
        return Description(name, self.name, (1, plan.prompt), "Apache-2.0", source, pretrained)

    def identity(self, name: str, *, resolution: int | None = None, seed: int = 0) -> str:
        from hycompile.models.weights_revision import REVISION

        version = importlib.metadata.version("torch")
        plan, weights = _plan(name), trained.digest(name.removeprefix(_PREFIX)) or REVISION
        return f"{name} {plan} resolution={resolution} seed={seed} weights={weights} torch {version}"

    def build(self, name: str, *, resolution: int | None = None, seed: int = 0) -> Built:
        """See :func:`build_plan`; ``seed`` gives example inputs only where the weights were trained."""
        plan = _plan(name)
        if resolution is not None:
            raise CaptureError(
                f"model {name!r} at resolution {resolution}", "it reads tokens, not images", "leave --resolution out"
            )
        built = build_plan(plan, seed)
        found = trained.folder(name.removeprefix(_PREFIX))
        if found is None:
            return built
        trained.load(built.module, found)
        return replace(built, tokenizer=found / "tokenizer.json")


def build_plan(plan: Plan, seed: int = 0) -> Built:
    """A decoder of a plan with random weights.

    Methods are ``prefill(tokens [1, prompt], count [1])`` and ``decode(token [1, 1], position [1])`` over one state;
    where the plan is chunked, ``extend`` and ``finish(tokens [1, prompt], start [1], count [1])`` too. ``args`` are
    those of ``forward(tokens [1, prompt])``, which has no state, for any number of tokens. The script is a prompt and
    64 tokens after it, seeded, whatever the logits say.
    """
    import torch
    from torch.export import Dim

    from hycompile.models.language.decoder import Decoder
    from hycompile.models.language.initial import initialise
    from hycompile.program import Step

    model = Decoder(plan)
    initialise(model, len(plan.layers), seed)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(plan.vocabulary, (1, plan.prompt), generator=generator)
    count = torch.tensor([plan.prompt - 1])
    script = [Step("prefill", (tokens, count))]
    for number in range(_DECODES):
        token = torch.randint(plan.vocabulary, (1, 1), generator=generator)
        script.append(Step("decode", (token, count + number)))
    shapes = ({1: Dim("tokens", min=2, max=plan.context)},)
    methods = calls(plan, tokens)
    return Built(model.eval(), (tokens,), dynamic_shapes=shapes, methods=methods, script=tuple(script))


def calls(plan: Plan, tokens: Tensor) -> dict[str, Call]:
    """How each method is captured, for example tokens [1, prompt]."""
    import torch

    from hycompile.capture import Call

    # One less than there is room for, so that a proof on the examples sees padding too.
    count = torch.tensor([plan.prompt - 1])
    found = {"prefill": Call((tokens, count), function="prefill")}
    if plan.chunked:
        found["extend"] = Call((tokens, count, count), function="extend")
        found["finish"] = Call((tokens, count, count), function="finish")
    return {**found, "decode": Call((tokens[:, -1:], count), function="decode")}


def _plan(name: str) -> Plan:
    plan = PLANS.get(name.removeprefix(_PREFIX))
    if plan is None or not name.startswith(_PREFIX):
        raise CaptureError(f"model {name!r}", "no layer plan of this name", "`hycompile models` lists them")
    return plan


family = LanguageModels()
