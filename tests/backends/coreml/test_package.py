"""Packages that are damaged, contradict themselves, or hold what the interpreter lacks; compressed packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hycompile as hy
from hycompile.artifact import Artifact
from hycompile.backends.coreml import Coreml
from hycompile.backends.coreml.interpreter import OPERATORS, Machine
from hycompile.backends.coreml.interpreter.registry import Operator
from hycompile.backends.coreml.package import load_functions
from hycompile.backends.coreml.quiet import quiet_coremltools
from hycompile.errors import ArtifactError, Unsupported
from hycompile.parity import relative_error
from hycompile.program import Program

X = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64)
    ).eval()


@pytest.fixture
def program(network: nn.Module) -> Program:
    return hy.capture(network, (X,))


def _weights(package: Path) -> Path:
    return next(package.rglob("weight.bin"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda package: (package / "Manifest.json").unlink(),
        lambda package: (package / "Manifest.json").write_text("{"),
        lambda package: next(package.rglob("model.mlmodel")).write_bytes(
            next(package.rglob("model.mlmodel")).read_bytes()[:200]
        ),
        lambda package: _weights(package).unlink(),
        lambda package: _weights(package).write_bytes(_weights(package).read_bytes()[:4096]),
        lambda package: _weights(package).write_bytes(b""),
    ],
    ids=["no manifest", "manifest cut", "model cut", "no weights", "weights cut", "weights empty"],
)
def test_damage_is_one_line(
    damage: Callable[[Path], Any], program: Program, lower_coreml: Callable[..., Artifact]
) -> None:
    package = lower_coreml(program).file("model")
    damage(package)
    with pytest.raises(ArtifactError, match=r"model\.mlpackage: (holds no Manifest|cannot be read)") as caught:
        load_functions(package)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["int8", "palette"])
def test_compressed_weights_match_their_dequantised_network(
    scheme: str, network: nn.Module, program: Program, lower_coreml: Callable[..., Artifact], tmp_path: Path
) -> None:
    """The interpreter on the compressed package against torch on the weights coremltools says it stored."""
    package = lower_coreml(program).file("model")
    compressed, stored = _compress(package, tmp_path / "small.mlpackage", scheme)
    loaded = Machine(load_functions(compressed)["main"], "main")
    assert sum(name.startswith("constexpr_") for name in loaded.operations) == 3
    assert _weights(compressed).stat().st_size < 0.35 * _weights(package).stat().st_size
    layers = [layer for layer in network.children() if isinstance(layer, nn.Conv2d | nn.Linear)]
    original = network(X)
    for layer in layers:
        layer.weight.data = next(w for w in stored if w.shape == layer.weight.shape)
    result = loaded.run({"input": X} if "input" in loaded.inputs else {next(iter(loaded.inputs)): X}, {})
    assert relative_error(result, [network(X)]) < 1e-5
    assert 1e-4 < relative_error(result, [original]) < 0.2


def _compress(package: Path, path: Path, scheme: str) -> tuple[Path, list[torch.Tensor]]:
    with quiet_coremltools() as ct:
        import coremltools.optimize.coreml as cto

        model = ct.models.MLModel(str(package), skip_model_load=True)
        if scheme == "int8":
            config: Any = cto.OptimizationConfig(
                cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=64)
            )
            small: Any = cto.linear_quantize_weights(model, config)
        else:
            config = cto.OptimizationConfig(cto.OpPalettizerConfig(mode="uniform", nbits=6, weight_threshold=64))
            small = cto.palettize_weights(model, config)
        small.save(str(path))
        stored = [
            torch.from_numpy(np.array(operation.materialized_val_inference()))
            for operation in load_functions(path)["main"].operations
            if operation.op_type.startswith("constexpr_")
        ]
    return path, stored


def test_unknown_operator_is_named(
    program: Program, lower_coreml: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = lower_coreml(program)
    monkeypatch.delitem(OPERATORS, "conv")
    with pytest.raises(
        Unsupported, match=r"function 'main': operators the interpreter lacks: conv \(at '\w+'\), conv \(at '\w+'\)"
    ):
        Coreml().open(artifact)


def test_wrong_shape_is_an_error(
    program: Program, lower_coreml: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator that computes another shape than the package declares is caught at that operator."""
    relu = OPERATORS["relu"]
    cropped = Operator(lambda x: x[..., 1:], relu.parameters, relu.moves)  # type: ignore[reportUnknownLambdaType]
    monkeypatch.setitem(OPERATORS, "relu", cropped)
    session = Coreml().open(lower_coreml(program))
    with pytest.raises(
        ArtifactError, match=r"operator relu '\w+': computes shape \(1, 64, 14, 13\), declares \(1, 64, 14, 14\)"
    ):
        session.run((X,))


def test_inputs_that_do_not_fit(program: Program, lower_coreml: Callable[..., Artifact]) -> None:
    session = Coreml().open(lower_coreml(program))
    with pytest.raises(ArtifactError, match=r"of shape \(1, 3, 8, 8\): the package declares \(1, 3, 16, 16\)"):
        session.run((X[..., :8, :8],))
    with pytest.raises(ArtifactError, match="2 inputs: 'forward' takes 1"):
        session.run((X, X))
    with pytest.raises(ArtifactError, match=r"method 'backward': not in this package; it has \['forward'\]"):
        session.run((X,), "backward")


def test_threads_are_given_back(program: Program, lower_coreml: Callable[..., Artifact]) -> None:
    before = torch.get_num_threads()
    Coreml().open(lower_coreml(program), threads=before + 1).run((X,))
    assert torch.get_num_threads() == before


def test_every_registered_operator_is_exercised() -> None:
    """The case tables of the tests beside this one, together, name every operator of the interpreter and no other."""
    run: set[str] = set()
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.name == Path(__file__).name:
            continue
        spec = importlib.util.spec_from_file_location(f"cases_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        run |= {case[0] for case in getattr(module, "CASES", [])} | set(getattr(module, "RUN_HERE", ()))
    assert run == set(OPERATORS)
