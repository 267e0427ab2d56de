"""Which operators go to which delegate: the partitioners of a target, kept from what their delegates cannot run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.utils.xnnpack_constants import XNN_MAX_TENSOR_DIMS
from executorch.exir.backend.partitioner import Partitioner
from executorch.exir.backend.utils import WhyNoPartition
from torch.export import ExportedProgram
from torch.fx import Node

from hycompile.attributes import tensor_at
from hycompile.backends.executorch.whole_functions import CONFIGS
from hycompile.errors import Unsupported
from hycompile.program import Program
from hycompile.ranks import touches_above
from hycompile.target import Target

_WHY_NOT = WhyNoPartition(logging.getLogger("executorch.backends.xnnpack.partition.config.ranks"))


class SafeXnnpack(XnnpackPartitioner):
    """XNNPACK's partitioner, kept from taking a state buffer for a weight, or more dimensions than XNNPACK has.

    The stock one packs any buffer that feeds a linear, convolution or matrix product into the delegate as a constant.
    For a buffer that a method of the program writes, that silently freezes its first value and loses every write.
    It also takes operators of any rank; a file with one beyond six is written without a word, and cannot be loaded.

    Args:
        state: names of the buffers any method writes.
    """

    def __init__(self, state: frozenset[str]) -> None:
        super().__init__(configs=CONFIGS)
        self.state = state

    def ops_to_not_decompose(self, ep: ExportedProgram) -> tuple[list[Any], Callable[[Node], bool] | None]:
        """Operators XNNPACK takes whole; one that reads state directly is left to decompose.

        Where none has to be left, no condition is given: ExecuTorch then decomposes once in place of twice.
        """
        operators, check = super().ops_to_not_decompose(ep)
        state = self._placeholders(ep)

        def whole(node: Node) -> bool:
            return (check is None or check(node)) and state.isdisjoint(node.all_input_nodes)

        if all(whole(node) for node in ep.graph.nodes if node.target in operators):
            return operators, None
        return operators, whole

    def get_matched_nodes_from_configs(self, ep: ExportedProgram) -> list[list[Node]]:
        """Groups of nodes to delegate together, without those that would swallow a state buffer or are too large."""
        state = self._placeholders(ep)

        return [
            group
            for group in super().get_matched_nodes_from_configs(ep)
            if state.isdisjoint(group) and not any(map(_too_large, group))
        ]

    def _placeholders(self, ep: ExportedProgram) -> set[Node]:
        buffers = ep.graph_signature.inputs_to_buffers
        return {node for node in ep.graph.find_nodes(op="placeholder") if buffers.get(str(node.target)) in self.state}


def _too_large(node: Node) -> bool:
    large = touches_above(node, XNN_MAX_TENSOR_DIMS)
    if large:
        _WHY_NOT(node, f"XNNPACK has tensors of at most {XNN_MAX_TENSOR_DIMS} dimensions")
    return large


def state_names(program: Program) -> frozenset[str]:
    """Names of the buffers any method writes: to the methods that only read them they are state all the same."""
    return frozenset(name for method in program.methods.values() for name in method.mutated())


def takes_over_state(program: Program) -> bool:
    """Whether the Core ML delegate may own the state: its states start at zero and are seen by one method only."""
    if len(program.methods) != 1:
        return False
    (method,) = program.methods.values()
    return not any(tensor_at(method.graph, name).any() for name in method.mutated())


def partitioners(program: Program, target: Target) -> list[Partitioner]:
    """New partitioners for one method, in the order of the device file: what the first takes, the next no longer sees.

    Raises:
        Unsupported: a partitioner cannot be imported on this machine.
    """
    make: dict[str, Callable[[Program, Target], Partitioner]] = {
        "xnnpack": _xnnpack,
        "coreml": _coreml,
        "vulkan": _vulkan,
    }
    made: list[Partitioner] = []
    for name in target.executorch.partitioners:
        try:
            made.append(make[name](program, target))
        except ImportError as error:
            raise Unsupported(
                f"partitioner {name!r} of target {target.name!r}",
                f"cannot be imported here ({error})",
                "take it out of the device file's executorch.partitioners, or install what it imports",
            ) from error
    return made


def _xnnpack(program: Program, target: Target) -> Partitioner:
    return SafeXnnpack(state_names(program))


def _coreml(program: Program, target: Target) -> Partitioner:
    import coremltools
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    version = target.coreml.deployment_target
    if version not in coremltools.target.__members__:
        known = ", ".join(coremltools.target.__members__)
        raise Unsupported(
            f"coreml.deployment_target {version!r}", "coremltools knows no such system", f"one of {known}"
        )
    precision = coremltools.precision.FLOAT16 if target.precision == "fp16" else coremltools.precision.FLOAT32
    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=coremltools.target[version], compute_precision=precision
    )
    return CoreMLPartitioner(compile_specs=specs, take_over_mutable_buffer=takes_over_state(program))


def _vulkan(program: Program, target: Target) -> Partitioner:
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

    return VulkanPartitioner()
