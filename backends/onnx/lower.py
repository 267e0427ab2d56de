"""Writes one ONNX file per method and collects what the report shows about them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from torch import Tensor

from hycompile.backends.onnx.backend import role_of
from hycompile.backends.onnx.legalise import legalise
from hycompile.backends.onnx.signature import explicit
from hycompile.backends.onnx.storage import stored
from hycompile.backends.onnx.translate import DATA_SUFFIX, save, translate
from hycompile.program import Program


def write_methods(
    inner: Program, edges: Program, state: dict[str, Tensor], opset: int, folder: Path
) -> tuple[dict[str, str], dict[str, object]]:
    """Translate every method of ``inner`` and write it to ``folder``.

    Args:
        inner: the program to compute, in the target's precision.
        edges: the same program with the input and output types to keep; ``inner`` itself if nothing was converted.
        state: from :func:`hycompile.backends.onnx.signature.shared_state` of ``inner``.
        opset: ONNX operator set.
        folder: where the files go.

    Returns:
        Files by role, and facts: opset, node count, node kinds, hits of rewrites, bytes of weights and state.
    """
    files: dict[str, str] = {}
    operators: Counter[str] = Counter()
    rewrites: Counter[str] = Counter()
    legalised: Counter[str] = Counter()
    for name, method in inner.methods.items():
        copy = method.copy()
        legalised.update(legalise(copy.graph))
        translation = translate(explicit(copy, edges.methods[name], state), opset)
        role = role_of(name)
        files[role] = f"{role}.onnx"
        data = save(translation.model, folder / files[role])
        if data is not None:
            files[f"{role}{DATA_SUFFIX}"] = data
        operators.update(translation.operators())
        rewrites.update(translation.rewrites)
    facts: dict[str, object] = {
        "opset": opset,
        "nodes": operators.total(),
        "operators": dict(operators.most_common()),
        "rewrites": dict(rewrites.most_common()),
        "legalised": dict(legalised),
        **stored(folder / files[role_of(name)] for name in inner.methods),
    }
    return files, facts
