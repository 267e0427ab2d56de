"""From explicit graphs to one Relax module with a function for each method."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node
from tvm import IRModule, relax
from tvm.relax.frontend.torch import from_exported_program
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from hycompile.backends.tvm.convert import CONVERTERS
from hycompile.capture import export
from hycompile.errors import Unsupported
from hycompile.explicit_state import Signature


def import_methods(signatures: dict[str, Signature]) -> IRModule:
    """Translate every method; its function carries the method's name.

    Raises:
        Unsupported: the front end refuses an operator.
    """
    functions: dict[str, Any] = {}
    for name, signature in signatures.items():
        exported = export(signature.module, signature.args, {}, signature.dynamic_shapes)
        functions[name] = _translate(exported, name).with_attr("global_symbol", name)
    return IRModule(functions)


def _translate(exported: torch.export.ExportedProgram, name: str) -> Any:
    try:
        module = from_exported_program(exported, custom_convert_map=CONVERTERS, run_ep_decomposition=False)
    except (AssertionError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, RuntimeError) as error:
        # The front end states what it does not take by whichever of these its operator's author chose.
        raise Unsupported(
            f"method {name!r}",
            f"TVM's torch front end refuses it ({_last_line(error)})",
            "rewrite that operator in the model, or use another runtime",
        ) from error
    return relax.transform.CanonicalizeBindings()(module)["main"]


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"


def translatable() -> frozenset[str]:
    """Names of the operators the front end or this backend translates, as ``conv2d.default``."""
    return frozenset(ExportedProgramImporter().create_convert_map()) | frozenset(CONVERTERS)


def operator_key(node: Node) -> str:
    """The front end's name of a node's operator."""
    return str(getattr(node.target, "__name__", node.target))
