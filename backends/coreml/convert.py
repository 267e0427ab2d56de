"""One method of a Program to one ML Program package, through coremltools' converter for ``torch.export`` programs."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Node

from hycompile.backends.coreml.grids import ONE_GRID_PASS, changes_grid
from hycompile.backends.coreml.legalise import legalise, state_names
from hycompile.backends.coreml.quiet import quiet_coremltools
from hycompile.backends.coreml.widths import narrow_enough, wide_values
from hycompile.errors import Unsupported
from hycompile.program import Method, Program
from hycompile.quiet import quiet_torch
from hycompile.schema import is_call
from hycompile.target import Target

_INTERFACE = {torch.float32: np.float32, torch.float16: np.float16}


@dataclass(frozen=True)
class Interface:
    """How a Core ML function calls what the method calls by other means: names in the method's order.

    ``states`` maps Core ML's name of each state to the Program's name of the buffer.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: dict[str, str]


def deployment_target(name: str) -> Any:
    """The member of ``coremltools.target`` called ``name``.

    Raises:
        Unsupported: there is none; the message lists those that take ML Programs.
    """
    with quiet_coremltools() as ct:
        usable = {member: value for member, value in ct.target.__members__.items() if value >= ct.target.iOS15}
        if name not in usable:
            reason = "older than ML Programs" if name in ct.target.__members__ else "coremltools has no such target"
            raise Unsupported(f"coreml.deployment_target {name!r}", reason, f"one of {', '.join(usable)}")
        return usable[name]


def legal_method(method: Method) -> tuple[Method, dict[str, int]]:
    """A copy of the method in 32-bit floats with every rewrite of this backend applied, and their hit counts."""
    legal = Program("", {"forward": method}).to(torch.float32).methods["forward"]
    return legal, legalise(legal)


def legal_export(legal: Method) -> ExportedProgram:
    """The exported, functional form coremltools takes; what it has no converter for is decomposed as torch does."""
    with quiet_torch():
        exported = legal.export().run_decompositions({})
        table = _decompositions(exported)
        if table:
            exported = exported.run_decompositions(table)
    graph = exported.graph
    for node in list(graph.nodes):
        if is_call(node, "aten.alias"):
            node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
            graph.erase_node(node)
    exported.graph_module.recompile()
    return exported


def unconvertible(exported: ExportedProgram) -> list[Node]:
    """Calls that coremltools registers no converter for."""
    with quiet_coremltools():
        from coremltools.converters.mil.frontend.torch.torch_op_registry import (
            _TORCH_OPS_REGISTRY,  # pyright: ignore[reportPrivateUsage] - the only way to ask
        )

        # Importing it registers one more.
        from hycompile.backends.coreml import blocks  # noqa: F401  # pyright: ignore[reportUnusedImport]

        calls = [node for node in exported.graph.nodes if node.op == "call_function"]
        return [node for node in calls if _TORCH_OPS_REGISTRY.get_func(_kind(node)) is None]


@dataclass(frozen=True)
class Converted:
    """What the conversion of one method did.

    Args:
        interface: how to call the function.
        rewrites: hits of this backend's own rewrites.
        wide: nodes kept in 32 bits in a 16-bit package, see :mod:`hycompile.ranges`.
    """

    interface: Interface
    rewrites: dict[str, int]
    wide: tuple[str, ...]


def float_precision(target: Target) -> Literal["fp32", "fp16"]:
    """What a package for the target computes in where nothing is rounded to whole numbers."""
    return target.coreml.beside_int8 if target.precision == "int8" else target.precision


def convert(method: Method, precision: Literal["fp32", "fp16"], target: Any, path: Path) -> Converted:
    """Write ``path`` (``.mlpackage``) and say how to call it.

    The package takes and returns the method's own floating type, computes in ``precision``, and has ``int32`` wherever
    the method has another integer or boolean input or output.

    Raises:
        Unsupported: the converter refuses; the message is its own.
    """
    legal, hits = legal_method(method)
    interface = _interface(method)
    exported = legal_export(legal)
    _make_room(exported, {*interface.inputs, *interface.outputs, *interface.states})
    wide = wide_values(exported, legal) if precision == "fp16" else []
    with quiet_coremltools() as ct:
        inputs = [
            _tensor_type(ct, *pair)
            for pair in zip(interface.inputs, _values(method.graph.graph.find_nodes(op="placeholder")), strict=True)
        ]
        outputs = [
            _tensor_type(ct, *pair) for pair in zip(interface.outputs, _values(method.output_nodes()), strict=True)
        ]
        try:
            ct.convert(
                exported,
                inputs=inputs or None,
                outputs=outputs,
                convert_to="mlprogram",
                minimum_deployment_target=target,
                compute_precision=_compute_precision(ct, precision, wide),
                pass_pipeline=_passes(ct, exported),
                skip_model_load=True,
                package_dir=str(path),
            )
        except Exception as error:
            text = next(iter(str(error).strip().splitlines()), "no message")
            # The traceback holds the converter's temporary folder: let it go here, where its warning is expected.
            traceback.clear_frames(error.__traceback__)
            raise Unsupported(
                "coremltools", f"cannot convert ({type(error).__name__}: {text})", "rewrite that part of the model"
            ) from error
    return Converted(interface, hits, tuple(node.name for node in wide))


def _passes(ct: Any, exported: ExportedProgram) -> Any:
    """coremltools' own passes, and ours before those that need them."""
    from hycompile.backends.coreml import norms, scopes

    pipeline = ct.PassPipeline.DEFAULT
    if changes_grid(exported.graph):
        pipeline.remove_passes({ONE_GRID_PASS})
    pipeline.insert_pass(pipeline.passes.index(scopes.BEFORE), scopes.NAME)
    pipeline.insert_pass(0, norms.NAME)
    return pipeline


def _compute_precision(ct: Any, precision: Literal["fp32", "fp16"], wide: list[Node]) -> Any:
    if precision == "fp32":
        return ct.precision.FLOAT32
    return ct.transform.FP16ComputePrecision(op_selector=narrow_enough(wide)) if wide else ct.precision.FLOAT16


def _interface(method: Method) -> Interface:
    """Inputs keep their names; an output named like an input or state gets ``_out``."""
    inputs, states = method.input_names(), state_names(method)
    taken = {*inputs, *states}
    outputs: list[str] = []
    for name in method.output_names():
        while name in taken:
            name += "_out"
        taken.add(name)
        outputs.append(name)
    return Interface(inputs, tuple(outputs), states)


def _make_room(exported: ExportedProgram, taken: set[str]) -> None:
    """Rename inner values that have the name of an input, output or state: a function's names are unique."""
    for node in exported.graph.nodes:
        if node.op == "call_function" and node.name in taken:
            before = node.name
            node._rename(f"{before}_value")
            exported.graph_signature.replace_all_uses(before, node.name)


def _values(nodes: Iterable[Node]) -> list[Tensor]:
    return [node.meta["val"] for node in nodes]


def _tensor_type(ct: Any, name: str, value: Tensor) -> Any:
    """The type at the interface; the shape comes from the exported program, dynamic sizes included."""
    return ct.TensorType(name=name, dtype=_INTERFACE.get(value.dtype, np.int32))


def _kind(node: Node) -> str:
    target: Any = node.target
    return target.name() if isinstance(target, OpOverload) else str(getattr(target, "__name__", target))


def _decompositions(exported: ExportedProgram) -> dict[Any, Any]:
    """torch's own decompositions of the operators coremltools lacks."""
    missing = {node.target for node in unconvertible(exported)}
    table = torch.export.default_decompositions()
    return {target: table[target] for target in missing if target in table}
