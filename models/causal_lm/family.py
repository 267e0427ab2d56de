"""The family ``causal-lm``: hybrid language models of transformers, with seeded random weights."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping

from hycompile.errors import CaptureError
from hycompile.models.causal_lm.layouts import LAYOUTS, Layout
from hycompile.models.family import Built, Description

_DECODES = 64


class CausalLMs:
    """Names are ``causal-lm/`` and a maker's model, or ``...-tiny`` for an architecture at test size."""

    name = "causal-lm"

    def names(self) -> list[str]:
        if importlib.util.find_spec("transformers") is None:
            return []
        return sorted(LAYOUTS)

    def aliases(self) -> Mapping[str, str]:
        return {}

    def describe(self, name: str) -> Description:
        layout = _layout(name)
        version = importlib.metadata.version("transformers")
        source = f"transformers {version}, {layout.prefix}ForCausalLM, seeded random weights"
        return Description(name, self.name, (1, layout.prompt), "Apache-2.0", source, pretrained=False)

    def identity(self, name: str, *, resolution: int | None = None, seed: int = 0) -> str:
        _layout(name)
        from hycompile.models.weights_revision import REVISION

        versions = " ".join(f"{package} {importlib.metadata.version(package)}" for package in ("transformers", "torch"))
        return f"{name} resolution={resolution} seed={seed} weights={REVISION} {versions}"

    def build(self, name: str, *, resolution: int | None = None, seed: int = 0) -> Built:
        """Methods ``prefill(tokens [1, prompt], count [1])`` and ``decode(token [1, 1], position [1])`` over one state.

        The script is a prompt and 64 tokens after it, seeded, whatever the logits say.

        ``args`` are those of ``forward(tokens [1, prompt])``, which has no state, for any number of tokens.
        """
        layout = _layout(name)
        if resolution is not None:
            raise CaptureError(
                f"model {name!r} at resolution {resolution}", "it reads tokens, not images", "leave --resolution out"
            )
        import torch
        from torch.export import Dim

        from hycompile.capture import Call
        from hycompile.models.causal_lm.adopt import adopt
        from hycompile.models.causal_lm.decoder import CausalLM
        from hycompile.models.causal_lm.transformers_models import make
        from hycompile.program import Step

        model = make(layout, seed)
        vocabulary = model.config.vocab_size
        adopt(model)
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(vocabulary, (1, layout.prompt), generator=generator)
        # One less than there is room for, so that a proof on the examples sees padding too.
        count = torch.tensor([layout.prompt - 1])
        methods = {
            "prefill": Call((tokens, count), function="prefill"),
            "decode": Call((tokens[:, -1:], count), function="decode"),
        }
        script = [Step("prefill", (tokens, count))]
        for number in range(_DECODES):
            token = torch.randint(vocabulary, (1, 1), generator=generator)
            script.append(Step("decode", (token, count + number)))
        shapes = ({1: Dim("tokens", min=2, max=layout.slots)},)
        module = CausalLM(model, layout.slots).eval()
        return Built(module, (tokens,), dynamic_shapes=shapes, methods=methods, script=tuple(script))


def _layout(name: str) -> Layout:
    layout = LAYOUTS.get(name)
    if layout is None:
        raise CaptureError(
            f"model {name!r}", "not one of the language models of transformers", "`hycompile models` lists them"
        )
    return layout


family = CausalLMs()
