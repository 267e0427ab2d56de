"""What stands between a Program and a Core ML package, found without converting it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from hycompile.attributes import state_writes, tensor_at
from hycompile.backend import Obstacle
from hycompile.backends.coreml.convert import (
    deployment_target,
    float_precision,
    legal_export,
    legal_method,
    unconvertible,
)
from hycompile.backends.coreml.legalise import MAX_RANK
from hycompile.backends.coreml.pad_states import LANES, REASON
from hycompile.backends.coreml.quiet import quiet_coremltools
from hycompile.program import source_line
from hycompile.quantisation.nodes import CHOOSE_ROWS, DEQUANTISE, DEQUANTISE_GROUPS, is_dequantise, is_quantise
from hycompile.ranks import rank
from hycompile.schema import is_call, operator_name

if TYPE_CHECKING:
    from hycompile.program import Method, Program
    from hycompile.target import Target


def find_obstacles(program: Program, target: Target) -> list[Obstacle]:
    """Interface types, state, several functions; then, if those stand, operators without a converter and large ranks.

    Raises:
        Unsupported: the target names a deployment target that coremltools does not know.
    """
    found = interface_obstacles(program, target)
    if not any(obstacle.fatal for obstacle in found):
        for method in program.methods.values():
            found += _of_operators(method)
    return found


def interface_obstacles(program: Program, target: Target) -> list[Obstacle]:
    """Those seen without exporting: what goes in and out, state, several functions."""
    floor = deployment_target(target.coreml.deployment_target)
    found = [*_of_program(program, floor, target)]
    for method in program.methods.values():
        found += [*_of_interface(method, floor, target), *_of_state(method, floor, target)]
        found += _of_whole_numbers(method, floor, target)
    return found


def _older(floor: Any, name: str) -> bool:
    with quiet_coremltools() as ct:
        return floor < getattr(ct.target, name)


def _of_program(program: Program, floor: Any, target: Target) -> Iterator[Obstacle]:
    if len(program.methods) > 1 and _older(floor, "iOS18"):
        yield Obstacle(
            "several methods",
            len(program.methods),
            f"several functions in a package need iOS18 or macOS15, the target is {target.coreml.deployment_target}",
            "raise coreml.deployment_target, or build one method at a time",
        )


def _of_interface(method: Method, floor: Any, target: Target) -> Iterator[Obstacle]:
    placeholders = method.graph.graph.find_nodes(op="placeholder")
    for node in (*placeholders, *method.output_nodes()):
        value: Any = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            yield Obstacle(
                f"input {node.name}",
                1,
                f"Core ML takes tensors only, not {type(value).__name__}",
                "fix it in the model",
            )
        elif value.dtype == torch.float64 or value.is_complex():
            yield Obstacle(
                node.name, 1, f"Core ML has no {value.dtype}", "program.to(torch.float32)", source_line(node)
            )
        elif node.op == "placeholder" and (derived := _derived_size(value)):
            reason = f"Core ML sizes are fixed or a range, not an expression ({derived})"
            yield Obstacle(f"input {node.name}", 1, reason, "capture it with a fixed size, or a plain Dim")
        elif value.dtype in (torch.float16, torch.bfloat16) and _older(floor, "iOS16"):
            reason = f"16-bit inputs and outputs need iOS16, the target is {target.coreml.deployment_target}"
            yield Obstacle(node.name, 1, reason, "program.to(torch.float32), or raise the target", source_line(node))


def _derived_size(value: torch.Tensor) -> str:
    """A size computed from another, such as ``8*columns``; empty if there is none."""
    sizes: list[Any] = [size for size in value.shape if isinstance(size, torch.SymInt)]
    return next((str(size) for size in sizes if not size.node.expr.is_symbol), "")


_RAISE = "raise coreml.deployment_target, or set coreml.state to arguments"


def _of_state(method: Method, floor: Any, target: Target) -> Iterator[Obstacle]:
    for name, write in state_writes(method.graph).items():
        value, where = tensor_at(method.graph, name), source_line(write) or source_line(write.all_input_nodes[-1])
        given = target.coreml.state == "arguments"
        if not given and _older(floor, "iOS18"):
            reason = f"state needs iOS18 or macOS15, the target is {target.coreml.deployment_target}"
            yield Obstacle(f"state {name}", 1, reason, _RAISE, where)
        elif not given and float_precision(target) == "fp32":
            reason = "Core ML state is float16, which rounds what float32 promises to keep"
            way_out = (
                "coreml.beside_int8 to fp16 in the device file" if target.precision == "int8" else "precision fp16"
            )
            yield Obstacle(f"state {name}", 1, reason, f"set {way_out}, or coreml.state to arguments", where)
        elif not given and not value.is_floating_point():
            reason = f"Core ML state is float16, which cannot hold {value.dtype}"
            yield Obstacle(f"state {name}", 1, reason, "pass it as an input (a position, a counter)", where)
        elif bool(value.count_nonzero()):
            reason = "Core ML state starts at zero, this buffer does not"
            yield Obstacle(f"state {name}", 1, reason, "start it at zero and add the constant where it is read", where)
        elif not given:
            yield from _of_state_width(name, value, where, target)


def _of_state_width(name: str, value: torch.Tensor, where: str, target: Target) -> Iterator[Obstacle]:
    width = value.shape[-1] if value.dim() else LANES
    if width % LANES and not target.coreml.pad_states:
        reason = f"{REASON}; this one has {width}"
        yield Obstacle(f"state {name}", 1, reason, "set coreml.pad_states in the device file", where, fatal=False)


def _of_whole_numbers(method: Method, floor: Any, target: Target) -> Iterator[Obstacle]:
    """Values on a grid, and weights on one, which older systems have neither of, or only the latter."""
    nodes = list(method.graph.graph.nodes)
    kinds = (
        ("quantised values", "iOS17 or macOS14", is_quantise, "quantise weights alone (quantise{activation_bits=0})"),
        ("weights of one scale", "iOS17 or macOS14", _of_one_scale, "give each channel its own (weights=channel)"),
        ("weights in groups", "iOS18 or macOS15", _of_groups, "give each channel one scale (group=0)"),
        ("quantised weights", "iOS16 or macOS13", is_dequantise, "leave quantise out"),
    )
    rows = [node for node in nodes if is_call(node, CHOOSE_ROWS)]
    if rows:
        reason, way_out = "Core ML finds no range at run time", "quantise weights alone (quantise{activation_bits=0})"
        yield Obstacle("dynamic ranges", len(rows), reason, way_out, source_line(rows[0]))
    for what, needed, is_one, other in kinds:
        found = [node for node in nodes if is_one(node)]
        if found and _older(floor, needed.partition(" ")[0]):
            reason = f"{what} need {needed}, the target is {target.coreml.deployment_target}"
            way_out = f"raise coreml.deployment_target, or {other}"
            yield Obstacle(what, len(found), reason, way_out, source_line(found[0]))


def _of_groups(node: Node) -> bool:
    return is_call(node, DEQUANTISE_GROUPS)


def _of_one_scale(node: Node) -> bool:
    return is_call(node, DEQUANTISE) and node.all_input_nodes[0].op == "get_attr"


def _of_operators(method: Method) -> list[Obstacle]:
    legal, _ = legal_method(method)
    exported = legal_export(legal)
    large = [node for node in exported.graph.nodes if node.op == "call_function" and rank(node) > MAX_RANK]
    missing = unconvertible(exported)
    return [
        *_grouped(missing, "coremltools has no converter for it", "rewrite it with operators it has"),
        *_grouped(
            large,
            f"makes a tensor of rank above {MAX_RANK}, which Core ML does not have",
            "merge dimensions in the model",
        ),
    ]


def _grouped(nodes: list[Node], reason: str, way_out: str) -> list[Obstacle]:
    counts = Counter((operator_name(node), source_line(node)) for node in nodes)
    return [Obstacle(name, count, reason, way_out, where) for (name, where), count in counts.items()]
