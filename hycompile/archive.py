"""Programs on disk: our own archives and ``.pt2`` files of ``torch.export``, never running code found in them."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch._export.verifier import SpecViolationError

# Declares the operators that a saved program may hold.
import hycompile.recurrence  # noqa: F401  # pyright: ignore[reportUnusedImport]
from hycompile.dynamic import dynamic_shapes_of
from hycompile.errors import ArtifactError, CaptureError
from hycompile.normal_form import normal_form
from hycompile.program import Method, Program, Step
from hycompile.quantisation.plan import QuantPlan
from hycompile.quantisation.saved import PLAN
from hycompile.quiet import quiet_torch
from hycompile.script import checked as checked_script
from hycompile.sharing import share
from hycompile.untrusted import BROKEN, WAY_OUT, checked

_INDEX = "program.json"
_SCRIPT = "script.safetensors"
_TOKENIZER = "tokenizer.json"
# What torch raises over a graph that is not consistent.
_UNREADABLE = (RuntimeError, LookupError, ValueError, AttributeError, AssertionError, TypeError, SpecViolationError)


def save(program: Program, path: Path) -> None:
    """Write a Program to one file: an index, a ``.pt2`` per method, the tensors of its script, its tokenizer and plan.

    Calibration data are left out, and the evaluation function: the first are the user's own, the second is code.

    Raises:
        ArtifactError: the file cannot be written; nothing is left behind.
    """
    index = {
        "format": 1,
        "name": program.name,
        "methods": list(program.methods),
        "provenance": program.provenance,
        "script": [[step.method, len(step.inputs)] for step in program.script],
    }
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(_INDEX, json.dumps(index, indent=2))
            for name, method in program.methods.items():
                buffer = io.BytesIO()
                with quiet_torch():
                    torch.export.save(method.export(), buffer)
                archive.writestr(f"methods/{name}.pt2", buffer.getvalue())
            if program.script:
                archive.writestr(_SCRIPT, save_tensors(_script_tensors(program.script)))
            if program.tokenizer is not None:
                archive.writestr(_TOKENIZER, program.tokenizer)
            if program.plan is not None:
                archive.writestr(PLAN, program.plan.model_dump_json())
        Path(temporary).replace(path)
    except OSError as error:
        raise ArtifactError(
            f"{path}", f"cannot be written ({error.strerror})", "free space or choose another folder"
        ) from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def load(path: Path, name: str | None = None) -> Program:
    """Read a saved Program or a ``.pt2`` archive.

    Raises:
        CaptureError: missing, truncated, not an archive, or holding what could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if _INDEX in archive.namelist():
                return _load_program(path, archive, name)
        data = path.read_bytes()
    except FileNotFoundError:
        raise CaptureError(
            f"{path}", "no such file", "give a registered model, a .pt2 file or package.module:function"
        ) from None
    except IsADirectoryError:
        raise CaptureError(f"{path}", "is a folder", "give a .pt2 file") from None
    except BROKEN as error:
        raise CaptureError(f"{path}", f"not a readable archive ({error})", WAY_OUT) from None
    method = _method(path, data)
    share([method])
    return Program(name or path.stem, {"forward": method}, {"source": path.name, "torch": str(torch.__version__)})


def _load_program(path: Path, archive: zipfile.ZipFile, name: str | None) -> Program:
    try:
        index = json.loads(archive.read(_INDEX))
        parts = {method: archive.read(f"methods/{method}.pt2") for method in index["methods"]}
        script = _script(index["script"], archive.read(_SCRIPT)) if index.get("script") else ()
        tokenizer = archive.read(_TOKENIZER) if _TOKENIZER in archive.namelist() else None
        plan = QuantPlan.model_validate_json(archive.read(PLAN)) if PLAN in archive.namelist() else None
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise CaptureError(
            f"{path}", f"a damaged program archive ({error})", "save it again with Program.save"
        ) from None
    methods = {method: _method(path, data) for method, data in parts.items()}
    share(methods.values())
    try:
        script = checked_script(script, methods)
    except CaptureError as error:
        raise CaptureError(f"{path}, {error.seen}", error.reason, "save it again with Program.save") from None
    return Program(name or index["name"], methods, index["provenance"], script, tokenizer, plan=plan)


def _script_tensors(script: tuple[Step, ...]) -> dict[str, torch.Tensor]:
    """Every input by the numbers of its step and place; each on its own, since the format refuses shared memory."""
    return {
        f"{number}.{place}": value.detach().cpu().contiguous().clone()
        for number, step in enumerate(script)
        for place, value in enumerate(step.inputs)
    }


def _script(entries: list[tuple[Any, Any]], data: bytes) -> tuple[Step, ...]:
    tensors = load_tensors(data)
    return tuple(
        Step(str(method), tuple(tensors[f"{number}.{place}"] for place in range(count)))
        for number, (method, count) in enumerate(entries)
    )


def _method(path: Path, data: bytes) -> Method:
    clean = checked(path, data)
    try:
        with quiet_torch():
            exported = torch.export.load(io.BytesIO(clean))
        if exported.example_inputs is None:
            raise CaptureError(
                f"{path}", "carries no example inputs", "export it with torch.export.save, which keeps them"
            )
        args, kwargs = exported.example_inputs
        args, kwargs = tuple(args), dict(kwargs)
        return Method(normal_form(exported), args, kwargs, dynamic_shapes_of(exported, args, kwargs))
    except _UNREADABLE as error:
        lines = str(error).strip().splitlines() or [""]
        reason = f"torch.export cannot read it ({type(error).__name__}: {lines[0]})"
        raise CaptureError(f"{path}", reason, WAY_OUT) from error
