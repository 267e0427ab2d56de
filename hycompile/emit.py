"""A Program as MLIR text, through torch-mlir, for whoever continues from there.

The text is complete: weights are in it, as ``dense_resource`` blobs in hexadecimal at two characters a byte, so it is
a little over twice as large as the weights. State becomes arguments behind the inputs and results behind the outputs;
a comment at the top names them.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from hycompile.errors import Unsupported

if TYPE_CHECKING:
    from hycompile.program import Method, Program
    from hycompile.pure import PureMethod

Dialect = Literal["torch", "linalg", "tosa", "stablehlo"]

# Pipelines of torch-mlir: first to the torch dialect in its backend form, then on from there.
_TO_TORCH = (
    "builtin.module(func.func(torch-match-quantized-custom-ops), "
    "torchdynamo-export-to-torch-backend-pipeline{extra-library=})"
)
_FROM_TORCH = {
    "torch": None,
    "linalg": "builtin.module(torch-backend-to-linalg-on-tensors-backend-pipeline{allow-non-finites=true})",
    "tosa": "builtin.module(torch-backend-to-tosa-backend-pipeline)",
    "stablehlo": "builtin.module(torch-backend-to-stablehlo-backend-pipeline{allow-non-finites=true})",
}


def emit(program: Program, to: Dialect, method: str = "forward") -> str:
    """The MLIR module of one method; its function is called what the method is.

    Args:
        program: what to write.
        to: ``torch`` is torch-mlir's own dialect after its decompositions; ``linalg``, ``tosa`` and ``stablehlo`` are
            what its pipelines for them give.
        method: which entry point.

    Raises:
        Unsupported: torch-mlir is not installed, or cannot lower an operator, which the message names.
    """
    if method not in program.methods:
        raise Unsupported(
            f"method {method!r}", "the program has no such method", f"it has {', '.join(program.methods)}"
        )
    from hycompile.pure import pure

    explicit = pure(program.methods[method])
    complaints: list[str] = []
    context = _context(complaints)
    module = _import(explicit, method, context)
    for pipeline in (_TO_TORCH, _FROM_TORCH[to]):
        if pipeline is not None:
            _run(pipeline, module, complaints, program.methods[method], to)
    return f"{_header(program, explicit, method)}{module}"


def parses(text: str, to: Dialect) -> bool:
    """Whether MLIR text in that dialect parses, verifies and prints again as itself (comments aside)."""
    ir = _torch_mlir("ir")
    context = _context([])
    if (pipeline := _FROM_TORCH[to]) is not None:
        # A dialect is known to a context once a pass that produces it has run there.
        _pass_manager(pipeline, context).run(ir.Module.parse("func.func @f() { return }", context).operation)
    try:
        module = ir.Module.parse(text, context)
    except ir.MLIRError:
        return False
    body = text[re.match(r"(//[^\n]*\n)*", text).end() :]  # type: ignore[union-attr]
    return bool(module.operation.verify()) and str(module) == body


def _torch_mlir(part: str) -> Any:
    try:
        return importlib.import_module(f"torch_mlir.{part}")
    except ImportError as error:
        raise Unsupported("torch-mlir", f"cannot be imported ({error})", "pip install torch-mlir") from error


def _context(complaints: list[str]) -> Any:
    """A fresh MLIR context that knows the torch dialect; errors go to ``complaints``, not to stderr."""
    ir = _torch_mlir("ir")
    from torch_mlir.dialects import torch as dialect

    def collect(diagnostic: Any) -> bool:
        complaints.append(f"{diagnostic.location}: {diagnostic.message}")
        return True

    context = ir.Context()
    dialect.register_dialect(context)
    context.attach_diagnostic_handler(collect)
    # Some passes report an error without failing; without this the process would abort on them.
    context.emit_error_diagnostics = True
    return context


def _import(explicit: PureMethod, name: str, context: Any) -> Any:
    from torch_mlir.extras.fx_decomp_util import get_decomposition_table
    from torch_mlir.extras.fx_importer import FxImporter

    from hycompile.quiet import quiet_torch

    importer = FxImporter(context=context)
    with quiet_torch():
        decomposed = explicit.exported.run_decompositions(get_decomposition_table())
    try:
        importer.import_frozen_program(decomposed, func_name=name)
    except (NotImplementedError, ValueError, TypeError, KeyError) as error:
        reason = f"torch-mlir cannot import it ({type(error).__name__}: {error})"
        raise Unsupported(f"method {name!r}", reason, "replace the operator in the model") from error
    return importer.module


def _pass_manager(pipeline: str, context: Any) -> Any:
    return _torch_mlir("passmanager").PassManager.parse(pipeline, context)


def _run(pipeline: str, module: Any, complaints: list[str], method: Method, to: str) -> None:
    ir = _torch_mlir("ir")
    try:
        _pass_manager(pipeline, module.context).run(module.operation)
    except (ir.MLIRError, RuntimeError) as error:
        complaint = next((text for text in complaints if "failed to legalize" in text), [*complaints, str(error)][0])
        short = re.sub(
            r"^loc\([^)]*\): |( that was explicitly marked illegal)?: [%\"].*", "", complaint.splitlines()[0]
        )
        way_out = "replace the operator in the model"
        if to != "torch":
            way_out += ", or emit --to torch, which may keep it"
        raise Unsupported(
            _culprit(complaint, method), f"torch-mlir cannot lower it to {to} ({short})", way_out
        ) from error


def _culprit(complaint: str, method: Method) -> str:
    """The operator a complaint is about, with its line of model source.

    What torch-mlir names may be a leftover argument (``torch.constant.int``): then all operators of that line.
    """
    from hycompile.program import source_line
    from hycompile.schema import operator_name

    named = re.search(r'name = "torch\.([\w.]+)"', complaint) or re.search(r"operation 'torch\.([\w.]+)'", complaint)
    operator = named.group(1) if named else "an operator"
    place = re.search(r'([^/"]+)":(\d+)', complaint)
    if place is None:
        return operator
    where = f"{place.group(1)}:{place.group(2)}"
    calls = [node for node in method.graph.graph.nodes if node.op == "call_function"]
    there = sorted({operator_name(node) for node in calls if source_line(node).startswith(f"{where} ")})
    return f"{', '.join(there) if operator.startswith('constant.') and there else operator} at {where}"


def _header(program: Program, explicit: PureMethod, method: str) -> str:
    takes = _names(explicit.inputs, explicit.state)
    gives = _names(explicit.outputs, explicit.state)
    return f"// {program.name}, program {program.digest}\n// {method}({takes}) -> ({gives})\n"


def _names(values: Sequence[str], state: Sequence[str]) -> str:
    return ", ".join([*values, *(f"state {name}" for name in state)])
