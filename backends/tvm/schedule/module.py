"""The deterministic CPU schedule: one template per kind of function, no search."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tvm import IRModule, tirx
from tvm.s_tir import Schedule, ScheduleError

from hycompile.backends.tvm.functions import vectorisable
from hycompile.backends.tvm.schedule import contraction, rowwise
from hycompile.backends.tvm.schedule.blocks import NotScheduledError, child_blocks
from hycompile.backends.tvm.schedule.inline import inline_injective
from hycompile.backends.tvm.schedule.machine import Machine
from hycompile.backends.tvm.schedule.packing import Packing, constant_arguments, repack_constants
from hycompile.backends.tvm.schedule.sums import split_long_sum


@dataclass
class Report:
    """Functions by template, and those that keep their default loops by reason."""

    scheduled: Counter[str] = field(default_factory=Counter[str])
    left_alone: Counter[str] = field(default_factory=Counter[str])


def schedule(mod: IRModule, machine: Machine) -> tuple[IRModule, Report]:
    """Schedule every TensorIR function of a module; what no template takes keeps its default loops."""
    report, packings = Report(), dict[str, Packing]()
    constant = constant_arguments(mod)
    out = mod.clone()
    for variable, function in mod.functions_items():
        if not isinstance(function, tirx.PrimFunc) or function.attrs.get("tirx.is_scheduled"):
            continue
        try:
            done, template, packing = schedule_function(function, machine, constant.get(variable.name_hint, set()))
        except NotScheduledError as reason:
            report.left_alone[str(reason)] += 1
        except ScheduleError as error:
            report.left_alone[_first_reason(error)] += 1
        else:
            out.update_func(variable, vectorisable(done).with_attr("tirx.is_scheduled", True))
            report.scheduled[template] += 1
            packings[variable.name_hint] = packing
    return repack_constants(out, packings), report


def _first_reason(error: ScheduleError) -> str:
    marker = "Error message:"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line.removeprefix(marker).strip() for line in lines if line.startswith(marker)), lines[0])[:160]


def schedule_function(function: Any, machine: Machine, constant: set[int]) -> tuple[Any, str, Packing]:
    """Schedule one function, some of whose arguments are constants.

    Returns:
        The function, the name of the template that took it, and how it wants its constants laid out.
    """
    sch = Schedule(IRModule({"main": function}))
    inline_injective(sch)
    blocks = child_blocks(sch)
    if [block for block in blocks if contraction.takes(block) and split_long_sum(sch, block)]:
        blocks = child_blocks(sch)
    along_rows = any(block.reduction and not contraction.takes(block) for block in blocks)
    axes = rowwise.shared_axes(blocks, machine) if along_rows else 0
    if axes:
        rowwise.schedule_rows(sch, blocks, axes, machine)
        return sch.mod["main"], "row-wise", {}
    template, packing = "row-wise" if along_rows else "elementwise", Packing()
    buffers = {position: function.params[position] for position in constant}
    done: set[str] = set()
    for block in blocks:
        if block.name in done:
            continue
        if contraction.takes(block):
            epilogue = contraction.find_epilogue(sch, block)
            packing |= contraction.schedule_contraction(sch, block, epilogue, machine, buffers)
            done |= {epilogue.name} if epilogue is not None else set()
            template = "contraction"
        else:
            rowwise.schedule_alone(sch, block, machine)
    return sch.mod["main"], template, packing
