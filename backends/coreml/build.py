"""From a Program to one package: a function per method, and the facts a report shows."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hycompile.backends.coreml.arguments import StateArguments, with_arguments
from hycompile.backends.coreml.convert import Converted, convert, deployment_target, float_precision
from hycompile.backends.coreml.package import load_functions
from hycompile.backends.coreml.pad_states import REASON, pad_states
from hycompile.backends.coreml.quiet import quiet_coremltools
from hycompile.backends.coreml.state import refuse_lost_state, state_bytes

if TYPE_CHECKING:
    from hycompile.program import Program
    from hycompile.target import Target


def write_package(program: Program, target: Target, path: Path) -> dict[str, object]:
    """Convert every method and write them as one package; returns its facts.

    Raises:
        Unsupported: the converter refuses, or drops a write to state.
    """
    floor = deployment_target(target.coreml.deployment_target)
    program = program.copy()
    arguments: dict[str, StateArguments] = {}
    if target.coreml.state == "arguments":
        program, arguments = with_arguments(program)
    widths = pad_states(program) if target.coreml.pad_states else {}
    functions = {"forward": "main"} if set(program.methods) == {"forward"} else {name: name for name in program.methods}
    done: dict[str, Converted] = {}
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        single = {name: Path(scratch, f"{name}.mlpackage") for name in program.methods}
        for name, method in program.methods.items():
            done[name] = convert(method, float_precision(target), floor, single[name])
        if functions == {"forward": "main"}:
            single["forward"].rename(path)
        else:
            _join(single, functions, path)
    written = load_functions(path)
    for name, one in done.items():
        refuse_lost_state(name, written[functions[name]], one.interface.states)
    given = {name: found.named(done[name].interface) for name, found in arguments.items()}
    held = [(written[functions[name]], given[name]["inputs"] if name in given else {}) for name in done]
    return {
        "runner": "reference interpreter",
        "deployment_target": target.coreml.deployment_target,
        "precision": target.precision,
        "computes_in": float_precision(target),
        "functions": functions,
        "inputs": {name: list(one.interface.inputs) for name, one in done.items()},
        "outputs": {name: list(one.interface.outputs) for name, one in done.items()},
        "states": {core: own for one in done.values() for core, own in one.interface.states.items()},
        "state_arguments": given,
        "rewrites": dict(sum((Counter(one.rewrites) for one in done.values()), Counter[str]())),
        "kept_in_fp32": {name: list(one.wide) for name, one in done.items() if one.wide},
        "operators": _operator_counts(written.values()),
        "weight_bytes": sum(file.stat().st_size for file in path.rglob("weights/*.bin")),
        "state_bytes": state_bytes(held),
        "state_widths": widths,
        **({"padded_states": f"{len(widths)}: {REASON}"} if widths else {}),
    }


def _join(single: dict[str, Path], functions: dict[str, str], path: Path) -> None:
    """One package with a function per method; equal weights are stored once."""
    with quiet_coremltools() as ct:
        description = ct.utils.MultiFunctionDescriptor()
        for method, package in single.items():
            description.add_function(str(package), src_function_name="main", target_function_name=functions[method])
        description.default_function_name = next(iter(functions.values()))
        ct.utils.save_multifunction(description, str(path))


def _operator_counts(functions: Iterable[Any]) -> dict[str, int]:
    """How often each MIL operator occurs over all functions, most frequent first."""
    counts: Counter[str] = Counter()
    for function in functions:
        operations: list[Any] = list(function.operations)
        counts.update(str(operation.op_type) for operation in operations if operation.op_type != "const")
    return dict(counts.most_common())
