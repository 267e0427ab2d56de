"""Gated memories (GMU) and shared caches: computed once, stored once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from torch.fx import Node

from hycompile.passes.share_memory.common import compute_once
from hycompile.passes.share_memory.rules import fold_diagonals, fold_norms, merge_gates
from hycompile.passes.share_memory.state import merge_equal_state
from hycompile.passes.share_memory.units import Memory, find_memories, readings
from hycompile.pipeline import Check, Pass
from hycompile.program import Program
from hycompile.reports import RuleReport
from hycompile.rewrite import Rule, apply


@dataclass(frozen=True)
class SharedMemory:
    """What ``meta["shared_memory"]`` of a producer says: one buffer, one range of quantisation for all its readers.

    Args:
        readers: gated products that read it.
        size_bytes: of one call's value; None where its size depends on the input.
    """

    readers: int
    size_bytes: int | None


class ShareMemory(Pass):
    """W2 (c m * silu(W1 h)) = (W2 diag(c)) (m * silu(W1 h)):  a memory m of many readers is made and kept once.

    Given: a value that several products read, each gated by the SiLU of a linear of its own, such as the readout of a
    state space that SambaY's gated memory units share; and state buffers that start equal and that every method writes
    alike, such as a key-value cache that each cross attention keeps for itself.
    Result: constant diagonals and weights of norms on the way from memory or gate to W2 are in W2; moves, casts and
    norms of the memory that readers have in common are computed once; gates of one input are one linear; one buffer is
    left of equal ones. ``meta["shared_memory"]`` marks the memory, and the report counts its readers and bytes.

    Refused: a diagonal that does not end in linears alone, and buffers written alike that start differently.
    Source: Ren et al. 2025 (SambaY), section 2; R16, P-3 and P-4 of the rule catalogue.
    """

    name: ClassVar[str] = "share-memory"

    def run(self, program: Program, check: Check) -> list[RuleReport]:
        names = ("merge_equal_state", "fold_multiplier_into_consumers", "fold_norm_affine", "compute_memory_once")
        reports = state, diagonals, norms, once = [RuleReport(name) for name in names]
        start = time.perf_counter()
        state.hits, state.refusals = merge_equal_state(program)
        state.seconds = time.perf_counter() - start
        if state.hits:
            check(program, state)
        hit = True
        while hit:
            hit = _apply(fold_diagonals(_readings(program)), program, diagonals, check)
            hit |= _apply(fold_norms(_readings(program)), program, norms, check)
            hit |= _compute_once(program, once, check)
        gates = RuleReport("merge_projections")
        _apply(
            merge_gates({unit.gate for memory in _memories(program) for unit in memory.units}), program, gates, check
        )
        return [*reports, gates, _mark(program)]


def _memories(program: Program) -> list[Memory]:
    return [memory for method in program.methods.values() for memory in find_memories(method.graph)]


def _readings(program: Program) -> set[Node]:
    return {node for memory in _memories(program) for node in readings(memory)}


def _apply(rule: Rule, program: Program, total: RuleReport, check: Check) -> bool:
    found = apply(rule, program)
    total.hits, total.seconds, total.refusals = total.hits + found.hits, total.seconds + found.seconds, found.refusals
    if found.hits:
        check(program, total)
    return bool(found.hits)


def _compute_once(program: Program, total: RuleReport, check: Check) -> bool:
    start, hits = time.perf_counter(), 0
    for method in program.methods.values():
        hits += sum(compute_once(method.graph, memory) for memory in find_memories(method.graph))
        method.graph.recompile()
    total.hits, total.seconds = total.hits + hits, total.seconds + time.perf_counter() - start
    if hits:
        check(program, total)
    return bool(hits)


def _mark(program: Program) -> RuleReport:
    """Mark every memory anew, and count readers and bytes by method and producer."""
    report = RuleReport("mark_shared_memory")
    for name, method in program.methods.items():
        for node in method.graph.graph.nodes:
            node.meta.pop("shared_memory", None)
        for memory in find_memories(method.graph):
            value = memory.producer.meta["val"]
            static = all(isinstance(size, int) for size in value.shape)
            size = value.numel() * value.element_size() if static else None
            memory.producer.meta["shared_memory"] = SharedMemory(len(memory.units), size)
            where = f"{name}.{memory.producer.name}"
            report.facts |= {f"{where} readers": len(memory.units)} | ({} if size is None else {f"{where} bytes": size})
    return report
