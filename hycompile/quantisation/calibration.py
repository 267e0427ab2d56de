"""Calibration data: what users give, or the files of a folder, as calls of a Program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from hycompile.errors import CaptureError
from hycompile.program import Method, Program, Step
from hycompile.script import checked

_SUFFIXES = (".npy", ".npz", ".safetensors")
_WAY_OUT = "one .npz, .npy or .safetensors file per sample or batch; names are those of the inputs"

Sample = Tensor | Sequence[Tensor] | Mapping[str, Tensor] | Step


def calibration(program: Program, samples: Iterable[Sample]) -> tuple[Step, ...]:
    """Samples as calls of the Program.

    Args:
        program: what will be calibrated.
        samples: each a tensor for a method of one input, tensors in order, tensors by input name, or a Step that names
            the method; all but a Step are for ``forward``, or the only method there is.

    Raises:
        CaptureError: no samples, inputs of other names, types or shapes than the method takes, or NaN or infinity.
    """
    steps = tuple(_step(program, f"calibration sample {number}", sample) for number, sample in enumerate(samples))
    if not steps:
        raise CaptureError("the calibration set", "is empty", "give at least one sample; a few hundred are usual")
    for number, step in enumerate(steps):
        _expect_fit(program, step, f"calibration sample {number}")
    return steps


def load_calibration(program: Program, folder: Path) -> tuple[Step, ...]:
    """The files of a folder as calls, in order of their names.

    ``DIR/METHOD/`` holds the samples of a method; those of ``forward``, or of the only method there is, may lie in
    ``DIR`` itself. A ``.npy`` file is the sample of a method of one input.

    Raises:
        CaptureError: no such folder, nothing in it, a file that cannot be read, or that does not fit the method.
    """
    if not folder.is_dir():
        raise CaptureError(f"calibration {str(folder)!r}", "is no folder", f"give a folder: {_WAY_OUT}")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise CaptureError(f"calibration {str(folder)!r}", "is empty", f"put samples there: {_WAY_OUT}")
    steps: list[Step] = []
    for path in files:
        seen = f"calibration file {str(path)!r}"
        if path.suffix not in _SUFFIXES:
            raise CaptureError(seen, f"is no {', '.join(_SUFFIXES)} file", _WAY_OUT)
        inside = path.parent.relative_to(folder)
        method = str(inside) if inside.parts else _only_method(program, seen)
        if method not in program.methods:
            known = ", ".join(program.methods)
            raise CaptureError(seen, f"the model has no method {method!r}", f"its methods are {known}")
        step = Step(method, _in_order(program.methods[method], _read(path, seen), seen))
        _expect_fit(program, step, seen)
        steps.append(step)
    return tuple(steps)


def _only_method(program: Program, seen: str) -> str:
    if "forward" in program.methods:
        return "forward"
    if len(program.methods) == 1:
        return next(iter(program.methods))
    known = ", ".join(program.methods)
    raise CaptureError(seen, "does not say which method it is for", f"put it into a folder named as one of {known}")


def _step(program: Program, seen: str, sample: Sample) -> Step:
    if isinstance(sample, Step):
        return sample
    method = _only_method(program, seen)
    if isinstance(sample, Tensor):
        return Step(method, (sample,))
    if isinstance(sample, Mapping):
        return Step(method, _in_order(program.methods[method], sample, seen))
    return Step(method, tuple(sample))


def _in_order(method: Method, tensors: Mapping[str, Tensor], seen: str) -> tuple[Tensor, ...]:
    names = method.input_names()
    if set(tensors) == {_UNNAMED} and len(names) == 1:
        return (tensors[_UNNAMED],)
    if set(tensors) != set(names):
        given = "a tensor without a name" if set(tensors) == {_UNNAMED} else ", ".join(map(repr, sorted(tensors)))
        raise CaptureError(
            seen, f"holds {given or 'nothing'}", f"the inputs are {', '.join(map(repr, names))}; name them so"
        )
    return tuple(tensors[name] for name in names)


def _expect_fit(program: Program, step: Step, seen: str) -> None:
    try:
        checked((step,), program.methods)
    except CaptureError as error:
        # The check speaks of scripts, and what was wrong in them; here it is a sample.
        raise CaptureError(
            error.seen.replace(f"script step 0 ({step.method!r})", seen), error.reason, error.way_out
        ) from None
    for name, value in zip(program.methods[step.method].input_names(), step.inputs, strict=True):
        if value.is_floating_point() and not bool(value.isfinite().all()):
            kind = "NaN" if bool(value.isnan().any()) else "infinity"
            raise CaptureError(f"{seen}, input {name!r}", f"holds {kind}", "take the sample out, or mend it")


# What a .npy file calls its only array.
_UNNAMED = ""


def _read(path: Path, seen: str) -> dict[str, Tensor]:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as stream:
            loaded: Any = np.load(stream, allow_pickle=False)
            if path.suffix == ".npy":
                return {_UNNAMED: torch.from_numpy(loaded)}
            with loaded:
                return {str(name): torch.from_numpy(loaded[name]) for name in loaded.files}
    except (OSError, BadZipFile, ValueError, TypeError, EOFError, SafetensorError) as error:
        raise CaptureError(seen, f"cannot be read ({str(error).splitlines()[0]})", _WAY_OUT) from error
