"""From an explicit method to a clean ONNX model: export, onnxscript's rewrites, opset, names, checks, file."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hycompile.backends.onnx.opset import NATIVE, lower_opset
from hycompile.backends.onnx.signature import Signature
from hycompile.errors import Unsupported
from hycompile.quiet import quiet_torch

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch.export import ExportedProgram
    from torch.onnx import ONNXProgram

# A protobuf message ends at 2 GiB; the graph itself needs some of it.
INLINE_LIMIT_BYTES = 1_800_000_000
DATA_SUFFIX = ".data"


@dataclass(frozen=True)
class Translation:
    """A model, and how often each onnxscript rewrite that builds a node hit."""

    model: ir.Model
    rewrites: dict[str, int]

    def operators(self) -> dict[str, int]:
        """Node kinds with their counts, most frequent first."""
        kinds = Counter(node.op_type for node in self.model.graph)
        return dict(kinds.most_common())


def translate(signature: Signature, opset: int) -> Translation:
    """Export a method to ONNX at ``opset`` and clean it.

    Raises:
        Unsupported: torch or onnxscript refuses the program, a dynamic size or an output is lost, or the opset is out
            of reach.
    """
    _expect_known(opset)
    program = _to_onnx(_export(signature), max(opset, NATIVE))
    model = program.model
    _expect_whole(signature, model, program.exported_program)
    rewrites = _clean(model)
    if opset < NATIVE:
        lower_opset(model)
    if model.opset_imports.get("") != opset:
        raise Unsupported(
            f"opset {opset}", f"the exporter stopped at {model.opset_imports.get('')}", "ask for opset 18"
        )
    _name(model, signature)
    return Translation(model, rewrites)


def save(model: ir.Model, path: Path) -> str | None:
    """Write and check a model; returns the name of the file its weights went to, if they do not fit into one file.

    Raises:
        Unsupported: onnx finds the model invalid.
    """
    import onnx
    import onnx_ir as ir
    from onnx.shape_inference import InferenceError

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    data = f"{path.name}{DATA_SUFFIX}" if size > INLINE_LIMIT_BYTES else None
    ir.save(model, path, external_data=data)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, InferenceError) as error:
        raise Unsupported(f"{path.name}", f"onnx finds it invalid ({error})", "report this as a bug") from error
    return data


def _export(signature: Signature) -> ExportedProgram:
    import torch
    from torch._dynamo.exc import UserError

    from hycompile.capture import export

    try:
        with torch.no_grad():
            return export(signature.module, signature.args, {}, signature.dynamic_shapes)
    except (UserError, ValueError) as error:
        raise Unsupported(
            "dynamic shapes", f"are not kept by a second export ({error})", "name the sizes with Dim"
        ) from error


def _to_onnx(exported: ExportedProgram, opset: int) -> ONNXProgram:
    import torch

    with quiet_torch():
        try:
            program = torch.onnx.export(exported, dynamo=True, verbose=False, optimize=False, opset_version=opset)
        except torch.onnx.OnnxExporterError as error:
            raise _refusal(exported, error) from error
    return cast("ONNXProgram", program)


def _refusal(exported: ExportedProgram, error: BaseException) -> Unsupported:
    """Name the operator, its line of model source and the innermost cause of a failed export."""
    from hycompile.program import source_line

    names: list[str] = re.findall(r"translating node %(\w+)", str(error))
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    node = next((node for node in exported.graph.nodes if names and node.name == names[0]), None)
    seen = f"{node.target} from {source_line(node) or 'an unknown line'}" if node is not None else "the program"
    return Unsupported(seen, f"torch's ONNX exporter refuses it ({cause})", "write it with other operators")


def _expect_known(opset: int) -> None:
    from onnx import defs

    newest = defs.onnx_opset_version()
    if opset > newest:
        raise Unsupported(f"opset {opset}", f"onnx knows opsets up to {newest}", f"ask for {NATIVE}")


def _expect_whole(signature: Signature, model: ir.Model, exported: ExportedProgram | None) -> None:
    """The exporter drops writes without a word: count, and look into the graph it translated."""
    assert exported is not None
    lost = dict(exported.graph_signature.buffers_to_mutate) | dict(exported.graph_signature.user_inputs_to_mutate)
    if lost or len(model.graph.outputs) != len(signature.outputs):
        raise Unsupported(
            f"{len(signature.outputs)} outputs {signature.outputs}",
            f"the exporter kept {len(model.graph.outputs)} and dropped the writes {sorted(lost.values())}",
            "report this as a bug",
        )
    if len(model.graph.inputs) != len(signature.inputs):
        raise Unsupported(
            f"{len(signature.inputs)} inputs {signature.inputs}",
            f"the exporter kept {len(model.graph.inputs)}",
            "pass tensors only",
        )
    for name, value, sizes in zip(signature.inputs, model.graph.inputs, signature.sizes, strict=True):
        kept = [isinstance(size, int) for size in value.shape or ()]
        if kept != [isinstance(size, int) for size in sizes]:
            raise Unsupported(
                f"input {name!r} of shape {list(sizes)}", f"became {value.shape}", "name its dynamic sizes with Dim"
            )


def _clean(model: ir.Model) -> dict[str, int]:
    """Constant folding, onnxscript's rewrites, dead code. Metadata goes: it holds paths of this machine."""
    from onnx_ir.passes import common
    from onnxscript import optimizer, rewriter

    from hycompile.backends.onnx.quick_rewrites import quick_rewrites

    with quick_rewrites():
        optimizer.optimize_ir(model)
    tags = (node.metadata_props.get(rewriter.RULE_NAME_TAG) for node in model.graph)
    hits = Counter(tag for tag in tags if tag)
    common.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    return dict(hits)


def _name(model: ir.Model, signature: Signature) -> None:
    """Give inputs, outputs and dynamic sizes the method's own names."""
    import onnx_ir as ir
    from onnx_ir.passes import common

    symbols: dict[str, str] = {}
    for value, sizes in zip(model.graph.inputs, signature.sizes, strict=True):
        for size, own in zip(value.shape or (), sizes, strict=True):
            if isinstance(size, ir.SymbolicDim) and isinstance(own, str) and size.value is not None:
                symbols[size.value] = own
    values = [value for node in model.graph for value in node.outputs]
    for value in (*model.graph.inputs, *values):
        if value.shape is not None:
            value.shape = ir.Shape(
                [symbols.get(str(size), size) if not isinstance(size, int) else size for size in value.shape]
            )
    for value in values:
        value.name = f"{value.name}."
    for value, name in zip(
        (*model.graph.inputs, *model.graph.outputs), (*signature.inputs, *signature.outputs), strict=True
    ):
        value.name = name
    common.NameFixPass()(model)
