"""RMS norm in Core ML: exact in float32, and right in float16 for rows far below the root of epsilon and far above."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hycompile.artifact import Artifact
from hycompile.backends.coreml import Coreml
from hycompile.backends.coreml.rms_norm import expand_rms_norm
from hycompile.capture import capture
from hycompile.parity import Proof, relative_error

Lower = Callable[..., Artifact]
SIZES = [0.0, 1e-4, 1e-3, 3e-2, 1.0, 300.0, 3e4]


def rows(dtype: torch.dtype) -> Tensor:
    torch.manual_seed(0)
    return (torch.randn(1, len(SIZES), 16).clamp(-2, 2) * torch.tensor(SIZES)[:, None]).to(dtype)


class Norm(nn.Module):
    """Over the last two of three dimensions, or the last."""

    def __init__(self, shape: tuple[int, ...], weight: bool, eps: float | None) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(list(shape), eps=eps, elementwise_affine=weight)
        if weight:
            nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


@pytest.mark.parametrize("eps", [1e-5, None])
@pytest.mark.parametrize(("shape", "weight"), [((16,), True), ((16,), False), ((7, 16), True)])
def test_identity(shape: tuple[int, ...], weight: bool, eps: float | None) -> None:
    program = capture(Norm(shape, weight, eps).eval(), (rows(torch.float32),))
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-13)):
        rewritten = program.to(dtype)
        proof = Proof(rewritten)
        assert expand_rms_norm(rewritten.methods["forward"].graph) == 1
        assert proof.check(rewritten, "rms norm", budget=tolerance) <= tolerance


def test_small_rows_in_sixteen_bits(lower_coreml: Lower) -> None:
    model, x = Norm((16,), True, 1e-5).eval(), rows(torch.float16).float()
    artifact = lower_coreml(capture(model, (x,)), precision="fp16")
    assert artifact.manifest.facts["rewrites"] == {"expand_rms_norm": 1}
    computed, wanted = Coreml().open(artifact).run((x,))[0], model(x)
    assert computed.isfinite().all()
    for row, right in list(zip(computed[0], wanted[0], strict=True))[1:]:
        assert relative_error([row], [right]) < 5e-3
    assert not computed[0, 0].any()
