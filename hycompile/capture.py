"""From a model to a Program: an ``nn.Module``, a ``.pt2`` archive, a saved Program or ``package.module:function``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from hycompile.errors import CaptureError
from hycompile.lean import compile_now, short_histories
from hycompile.normal_form import normal_form
from hycompile.program import Method, Program, Step
from hycompile.quiet import quiet_torch
from hycompile.script import checked
from hycompile.sharing import share


@dataclass(frozen=True)
class Call:
    """One way to call a model: example inputs, dynamic shapes, and which function of the module to run.

    Args:
        args: example positional inputs.
        kwargs: example keyword inputs.
        dynamic_shapes: as for ``torch.export.export``.
        function: name of the module's method; ``forward`` by default.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    dynamic_shapes: Any = None
    function: str = "forward"


def capture(
    model: nn.Module | str | Path,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    methods: Mapping[str, Call] | None = None,
    script: Sequence[Step] = (),
    name: str | None = None,
) -> Program:
    """Capture a model as a Program in normal form.

    Args:
        model: a module in ``eval()``; or a path to a ``.pt2`` archive or saved Program; or ``package.module:function``,
            a function that returns ``(module, args)`` or ``(module, args, dynamic_shapes)``.
        args: example inputs of ``forward``; only for a module.
        kwargs: example keyword inputs of ``forward``; only for a module.
        dynamic_shapes: as for ``torch.export.export``; only for a module.
        methods: several entry points over the same weights, instead of ``args``; only for a module.
        script: calls in the order in which the model is used, by which passes and artifacts are proved; only for a
            module. Methods it does not name are proved on draws of their examples.
        name: what to call it; by default the class, file or function name.

    Raises:
        CaptureError: the source is missing, unreadable, unsafe, in training mode, or ``torch.export`` refuses it; or
            the script does not fit the methods.
    """
    if isinstance(model, nn.Module):
        calls = methods or {"forward": Call(tuple(args), kwargs or {}, dynamic_shapes)}
        return _capture_module(model, calls, script, name or type(model).__name__)
    source = str(model)
    if isinstance(model, str) and ":" in source and not Path(source).exists():
        return _capture_function(source, name)
    from hycompile.archive import load

    return load(Path(model), name)


def export(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any) -> ExportedProgram:
    """``torch.export.export`` without its noise; errors of torch come through."""
    args, kwargs = _distinct(args, kwargs)
    compile_now(module)
    with quiet_torch():
        return torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes)


def _distinct(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs with a copy where one tensor is given twice: torch.export would take both arguments for one."""
    seen: set[int] = set()

    def once(value: Any) -> Any:
        if isinstance(value, Tensor) and id(value) in seen:
            return value.clone()
        seen.add(id(value))
        return value

    return pytree.tree_map(once, (args, kwargs))


class _Entry(nn.Module):
    """Lets ``torch.export`` see another function of a module as its ``forward``, under the module's own names.

    It is the function itself, not a call of it, so that inputs keep the names of its arguments.
    """

    def __init__(self, module: nn.Module, function: str) -> None:
        super().__init__()
        self._modules, self._parameters, self._buffers = module._modules, module._parameters, module._buffers
        self._non_persistent_buffers_set = module._non_persistent_buffers_set
        self.__dict__["forward"] = getattr(module, function)
        self.training = module.training


def _capture_module(module: nn.Module, calls: Mapping[str, Call], script: Sequence[Step], name: str) -> Program:
    training = next((path or "the model" for path, child in module.named_modules() if child.training), None)
    if training is not None:
        raise CaptureError(f"model {name!r}", f"{training} is in training mode", "call model.eval() first")
    methods: dict[str, Method] = {}
    for method, call in calls.items():
        entry = module if call.function == "forward" else _Entry(module, call.function)
        try:
            with torch.no_grad(), short_histories():
                graph = normal_form(export(entry, call.args, call.kwargs, call.dynamic_shapes))
        except Exception as error:
            raise CaptureError(
                f"model {name!r}, method {method!r}",
                f"torch.export refuses it ({_first_line(error)})",
                "make it exportable first: torch.export.export(model, args) must succeed",
            ) from error
        methods[method] = Method(graph, call.args, dict(call.kwargs), call.dynamic_shapes)
    share(methods.values())
    provenance = {"source": f"{type(module).__module__}.{type(module).__qualname__}", "torch": str(torch.__version__)}
    return Program(name, methods, provenance, checked(script, methods))


def _capture_function(source: str, name: str | None) -> Program:
    path, _, function = source.partition(":")
    try:
        make = getattr(importlib.import_module(path), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise CaptureError(
            f"{source!r}",
            f"cannot be imported ({_first_line(error)})",
            "give package.module:function, importable from here",
        ) from error
    try:
        made = make()
    except Exception as error:
        raise CaptureError(
            f"{source!r}", f"failed ({_first_line(error)})", "it must build the model when called without arguments"
        ) from error
    if not (
        isinstance(made, tuple)
        and len(made) in (2, 3)
        and isinstance(made[0], nn.Module)
        and isinstance(made[1], tuple)
    ):
        raise CaptureError(
            f"{source!r}", f"returned {type(made).__name__}", "return (module, args) or (module, args, dynamic_shapes)"
        )
    module, args, *rest = made
    program = capture(module.eval(), args, dynamic_shapes=rest[0] if rest else None, name=name or function)
    program.provenance["source"] = source
    return program


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
