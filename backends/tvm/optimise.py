"""From an imported Relax module to scheduled TensorIR: channels last, folded constants, fused operators."""

from __future__ import annotations

from typing import Any

from tvm import IRModule, relax, transform

from hycompile.backends.tvm.constants import fold_layout


def optimise(module: IRModule, target: Any) -> IRModule:
    """Bring convolutions to channels last, fold what is constant, lower to TensorIR and fuse.

    Channels last makes the vector axis of every convolution its output channels, which are nearly always a multiple
    of the vector length, where image widths of 7 or 14 are not; it also turns image to token changes into reshapes.
    """
    prepare = transform.Sequential(
        [
            relax.transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "HWIO"]}),
            relax.transform.DecomposeOpsForInference(),
            relax.transform.CanonicalizeBindings(),
        ]
    )
    fuse = transform.Sequential(
        [
            relax.transform.FoldConstant(),
            relax.transform.DeadCodeElimination(),
            relax.transform.LegalizeOps(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
        ]
    )
    with target:
        return fuse(fold_layout(prepare(module)))
