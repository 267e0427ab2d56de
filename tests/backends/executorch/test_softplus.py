"""Softplus on ExecuTorch: exact in both precisions, and one logarithm is all that is left outside the delegate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hycompile.artifact import Artifact
from hycompile.backends.executorch import Executorch
from hycompile.backends.executorch.forms.softplus import expand_softplus
from hycompile.capture import capture
from hycompile.parity import Proof, relative_error
from hycompile.rewrite import apply
from hycompile.text import graph_text

# Past the threshold, and so far below it that log(1 + e^x) of a rounded sum would be 0.
X = torch.tensor([[-80.0, -17.0, -1.0, -1e-4, 0.0, 1e-4, 1.0, 19.9, 20.1, 90.0]])


def test_form(golden: Callable[[str, str, str], None]) -> None:
    program = capture(nn.Softplus().eval(), (X,))
    # In float64 PyTorch itself drops e^-20 behind its threshold.
    for dtype, tolerance in ((torch.float32, 1e-7), (torch.float64, 1e-10)):
        rewritten = program.to(dtype)
        proof, before = Proof(rewritten), graph_text(rewritten.methods["forward"].graph)
        assert apply(expand_softplus, rewritten).hits == 1
        assert proof.check(rewritten, "softplus", budget=tolerance) <= tolerance
    golden("expand_softplus/step_size", before, graph_text(rewritten.methods["forward"].graph))


@pytest.mark.parametrize("count", [1, 3])
def test_only_logarithms_are_left_to_portable_kernels(count: int, build: Callable[..., Artifact]) -> None:
    model = nn.Sequential(*(nn.Softplus() for _ in range(count))).eval()
    artifact = build(capture(model, (X,)))
    assert artifact.manifest.facts["outside"] == {"log1p": count}
    # Element by element: the small ones are the step sizes of a state space.
    computed, wanted = Executorch().open(artifact).run((X,))[0], model(X)
    assert max(relative_error([a], [b]) for a, b in zip(computed[0], wanted[0], strict=True)) < 1e-6
