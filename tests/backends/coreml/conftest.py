"""Builds one-operator ML Programs and holds the interpreter against another computation of the same operator."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hycompile.artifact import Artifact, Manifest, folder_digests
from hycompile.backends.coreml import Coreml
from hycompile.backends.coreml.interpreter import Machine
from hycompile.backends.coreml.quiet import quiet_coremltools
from hycompile.program import Program
from hycompile.target import Target

Arrays = Mapping[str, Any]
Reference = Callable[..., Any]


def _flat(inputs: Arrays) -> dict[str, np.ndarray]:
    """Lists of arrays (``values`` of concat) as single inputs ``values_0``, ``values_1``."""
    flat: dict[str, np.ndarray] = {}
    for name, value in inputs.items():
        if isinstance(value, list):
            flat |= {f"{name}_{i}": item for i, item in enumerate(value)}
        else:
            flat[name] = value
    return flat


def _cast(value: Any, dtype: type) -> Any:
    if isinstance(value, list):
        return [_cast(item, dtype) for item in value]
    floating = isinstance(value, np.ndarray | np.generic) and value.dtype == np.float32
    return value.astype(dtype) if floating else value


def build(operator: str, inputs: Arrays, attributes: Arrays, opset: str) -> Any:
    """A MIL function that is one call of ``operator`` on placeholders for ``inputs``."""
    with quiet_coremltools() as ct:
        from coremltools.converters.mil.mil import Builder, Function, types

        target = getattr(ct.target, opset)
        flat = _flat(inputs)
        placeholders = {
            name: Builder.placeholder(value.shape, dtype=types.numpy_type_to_builtin_type(value.dtype.type))
            for name, value in flat.items()
        }
        with Function(placeholders, opset_version=target) as function:
            given = {
                name: [function.inputs[f"{name}_{i}"] for i in range(len(value))]
                if isinstance(value, list)
                else function.inputs[name]
                for name, value in inputs.items()
            }
            result = getattr(Builder, operator)(**given, **attributes)
            function.set_outputs(list(result) if isinstance(result, list | tuple) else [result])
        return function


def inferred(operator: str, inputs: Arrays, attributes: Arrays, opset: str) -> list[np.ndarray]:
    """What coremltools itself computes when every input is a constant."""
    with quiet_coremltools() as ct:
        from coremltools.converters.mil.mil import Builder, Function

        with Function({}, opset_version=getattr(ct.target, opset)) as function:
            result = getattr(Builder, operator)(**inputs, **attributes)
            results = list(result) if isinstance(result, list | tuple) else [result]
            function.set_outputs(results)
        values = [
            one.op.materialized_val_inference() if operator.startswith("constexpr_") else one.val for one in results
        ]
    if len(values) > 1 and isinstance(values[0], tuple):
        values = list(values[0])
    assert all(value is not None for value in values), f"coremltools does not evaluate {operator}: give a reference"
    return [np.asarray(value) for value in values]


@pytest.fixture
def interpret() -> Callable[..., list[Tensor]]:
    """Run one operator in the interpreter, through the same machine that runs packages."""

    def run(operator: str, inputs: Arrays, attributes: Arrays, opset: str = "iOS18") -> list[Tensor]:
        machine = Machine(build(operator, inputs, attributes, opset), "main")
        assert operator in machine.operations
        return machine.run({name: torch.from_numpy(np.array(value)) for name, value in _flat(inputs).items()}, {})

    return run


@pytest.fixture
def check(interpret: Callable[..., list[Tensor]]) -> Callable[..., None]:
    """Compare with ``reference`` (or coremltools' own inference) in 32 bits, and in 16 where the operator has them.

    32 bits: 1e-5 of the largest value. 16 bits: inputs are rounded first, so only the result's rounding (2^-11) and
    that of constants the reference sees in 32 bits are left: 2^-9 of the largest value.
    """

    def run(
        operator: str,
        inputs: Arrays,
        attributes: Arrays,
        reference: Reference | None = None,
        opset: str = "iOS18",
        half: bool = True,
    ) -> None:
        _compare(operator, interpret, inputs, attributes, reference, opset, 1e-5)
        floating = any(value.dtype == np.float32 for value in _flat(inputs).values())
        if half and floating:
            rounded = {name: _cast(value, np.float16) for name, value in inputs.items()}
            constants = {name: _cast(value, np.float16) for name, value in attributes.items()}
            _compare(operator, interpret, rounded, constants, reference, opset, 2**-9)

    return run


def _compare(
    operator: str,
    interpret: Callable[..., list[Tensor]],
    inputs: Arrays,
    attributes: Arrays,
    reference: Reference | None,
    opset: str,
    tolerance: float,
) -> None:
    wide = {name: _widen(value) for name, value in inputs.items()}
    constants = {name: _widen(value) if inputs else value for name, value in attributes.items()}
    if reference is None:
        expected = inferred(operator, wide, constants, opset)
    else:
        result = reference(**{name: _as_torch(value) for name, value in wide.items()})
        expected = [np.asarray(one) for one in (result if isinstance(result, list | tuple) else [result])]
    actual = interpret(operator, inputs, attributes, opset)
    assert len(actual) == len(expected)
    for mine, theirs in zip(actual, expected, strict=True):
        assert tuple(mine.shape) == theirs.shape
        scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=1e-6) if theirs.dtype.kind == "f" else 1.0
        mine64, theirs64 = mine.double().numpy(), theirs.astype(np.float64)
        np.testing.assert_allclose(mine64, theirs64, rtol=0, atol=tolerance * scale if mine.is_floating_point() else 0)


def _widen(value: Any) -> Any:
    if isinstance(value, list):
        return [_widen(item) for item in value]
    half = isinstance(value, np.ndarray | np.generic) and value.dtype == np.float16
    return value.astype(np.float32) if half else value


def _as_torch(value: Any) -> Any:
    return [torch.from_numpy(item) for item in value] if isinstance(value, list) else torch.from_numpy(np.array(value))


def make_target(precision: str = "fp32", deployment_target: str = "iOS18", **options: Any) -> Target:
    """A device that asks for Core ML."""
    return Target.model_validate(
        {
            "name": "test",
            "description": "a test's own",
            "runtimes": ["coreml"],
            "precision": precision,
            "triple": "arm64-apple-ios",
            "os": {"name": "ios", "floor": "18"},
            "coreml": {"deployment_target": deployment_target, **options},
            "sources": [{"fact": "none", "reference": "none"}],
        }
    )


@pytest.fixture
def coreml_target() -> Callable[..., Target]:
    return make_target


@pytest.fixture
def lower_coreml(tmp_path: Path) -> Callable[..., Artifact]:
    """Lower a Program into a fresh folder, with the manifest that ``hycompile build`` would write."""

    def lower(program: Program, precision: str = "fp32", deployment_target: str = "iOS18", **options: Any) -> Artifact:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        target = make_target(precision, deployment_target, **options)
        lowered = Coreml().lower(program, target, folder)
        assert [path.name for path in folder.iterdir()] == ["model.mlpackage"]
        manifest = Manifest(
            backend="coreml",
            target=target,
            program=program.name,
            program_digest="",
            pipeline="",
            methods={name: method.spec() for name, method in program.methods.items()},
            files=lowered.files,
            digests=folder_digests(folder),
            facts=lowered.facts,
            tools=lowered.tools,
            seconds=0.0,
        )
        return Artifact(folder, manifest)

    return lower
