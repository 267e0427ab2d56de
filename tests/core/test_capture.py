"""Capture of modules and of ``package.module:function``, and what it refuses."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hycompile as hy
from hycompile.capture import Call, capture
from hycompile.errors import CaptureError
from hycompile.parity import execute, relative_error


class Affine(nn.Module):
    def forward(
        self, x: Tensor, shift: Tensor | None = None, *, scale: Tensor, times: int = 2
    ) -> dict[str, Tensor | None]:
        return {"y": x * scale * times + (0 if shift is None else shift), "nothing": None, "sum": x.sum()}


def test_api_of_the_package_stays_callable() -> None:
    """``hycompile.capture`` is the function, before and after the module of that name was imported."""
    model = nn.Linear(2, 3).eval()
    first, second = (hy.capture(model, (torch.ones(1, 2),)) for _ in range(2))
    assert first.digest == second.digest
    assert callable(hy.measure)
    importlib.import_module("hycompile.measure.latency")
    assert callable(hy.measure)
    assert all(callable(getattr(hy, name)) for name in hy.__all__)


def test_flat_signature() -> None:
    """Keyword order, a None, a number and a None output: tensors alone make the signature."""
    program = capture(Affine().eval(), (torch.ones(3), None), {"times": 3, "scale": torch.full((3,), 2.0)})
    method = program.methods["forward"]
    assert method.input_names() == ("x", "scale")
    assert [tuple(value.shape) for value in method.flat_inputs()] == [(3,), (3,)]
    spec = method.spec()
    assert [(item.name, item.shape, item.dtype) for item in spec.inputs] == [
        ("x", (3,), "float32"),
        ("scale", (3,), "float32"),
    ]
    assert [item.shape for item in spec.outputs] == [(3,), ()]
    expected = [torch.tensor([0.0, 3.0, 6.0]), torch.tensor(3.0)]
    inputs = torch.ones(3), torch.arange(3.0)
    assert relative_error(execute(method, inputs).outputs, expected) == 0.0
    returned = method.export().module()(inputs[0], None, times=3, scale=inputs[1])
    assert returned["nothing"] is None
    assert relative_error([returned["y"], returned["sum"]], expected) == 0.0


def test_one_tensor_for_two_inputs() -> None:
    """They stay two inputs, in the graph and when it is exported again: torch.export alone makes them one."""
    same = torch.ones(3)
    program = capture(Affine().eval(), (same, same), {"scale": same})
    inputs = (torch.tensor([1.0, 2.0, 3.0]), torch.full((3,), 5.0), torch.full((3,), 7.0))
    wanted = Affine()(inputs[0], inputs[1], scale=inputs[2])
    method = program.methods["forward"]
    assert torch.equal(execute(method, inputs).outputs[0], wanted["y"])
    again = method.export().module(check_guards=False)(inputs[0], inputs[1], scale=inputs[2])
    assert torch.equal(again["y"], wanted["y"])


def test_name_and_provenance() -> None:
    program = capture(Affine().eval(), (torch.ones(3),), {"scale": torch.ones(3)})
    assert program.name == "Affine"
    assert program.provenance["torch"] == torch.__version__
    assert program.provenance["source"].endswith(".Affine")
    assert capture(Affine().eval(), (torch.ones(3),), {"scale": torch.ones(3)}, name="mine").name == "mine"


def test_training_mode_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    with pytest.raises(CaptureError, match=r"the model is in training mode; call model\.eval"):
        capture(model, (torch.ones(1, 2),))
    model.eval()[1].train()
    with pytest.raises(CaptureError, match="1 is in training mode"):
        capture(model, (torch.ones(1, 2),))


def test_model_that_cannot_be_exported() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(
        CaptureError, match=r"model 'Branches', method 'forward': torch.export refuses it \(\w+: "
    ) as caught:
        capture(Branches().eval(), (torch.ones(2),))
    assert "\n" not in str(caught.value)


def test_model_that_torch_cannot_decompose() -> None:
    """torch 2.13 mixes up two buffers that take the same value; that is an error of capture, not a traceback."""

    class Both(nn.Module):
        a: Tensor
        b: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("a", torch.zeros(2))
            self.register_buffer("b", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            y = x * 3
            self.a.copy_(y)
            self.b.copy_(y)
            return x

    with pytest.raises(CaptureError, match=r"torch\.export refuses it \(SpecViolationError: "):
        capture(Both().eval(), (torch.ones(2),))


def test_dropout_that_is_active_stays() -> None:
    class MonteCarlo(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5, training=True)

    assert "dropout" in capture(MonteCarlo().eval(), (torch.ones(2),)).text()


def test_methods_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x)

        def twice(self, x: Tensor) -> Tensor:
            return self.linear(self.linear(x))

    model, x = Two().eval(), torch.randn(1, 2)
    program = capture(model, methods={"once": Call((x,)), "twice": Call((x,), function="twice")})
    assert list(program.methods) == ["once", "twice"]
    assert relative_error(execute(program.methods["twice"]).outputs, [model.twice(x)]) == 0.0
    assert program.weight_bytes == 4 * 6
    once, twice = (method.graph.get_buffer("linear.weight") for method in program.methods.values())
    assert once.data_ptr() == twice.data_ptr() == model.linear.weight.data_ptr()


SOURCE = """
import torch
from torch import nn

def good(): return nn.Linear(2, 3), (torch.ones(1, 2),)
def dynamic(): return nn.Linear(2, 3), (torch.ones(4, 2),), ({0: torch.export.Dim("n", min=2, max=9)},)
def module_only(): return nn.Linear(2, 3)
def list_of_args(): return nn.Linear(2, 3), [torch.ones(1, 2)]
def needs(size): return nn.Linear(size, 3), (torch.ones(1, size),)
def broken(): raise KeyError("weights\\nare gone")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "captured_source.py").write_text(SOURCE)
    (tmp_path / "captured_broken.py").write_text("raise ImportError('no such thing')")
    monkeypatch.syspath_prepend(tmp_path)
    return "captured_source"


def test_function(module: str) -> None:
    program = capture(f"{module}:good")
    assert (program.name, program.provenance["source"]) == ("good", f"{module}:good")
    assert program.methods["forward"].dynamic_shapes is None
    (constraint,) = capture(f"{module}:dynamic").methods["forward"].export().range_constraints.values()
    assert (constraint.lower, constraint.upper) == (2, 9)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "captured_source:absent",
            "cannot be imported (AttributeError: module 'captured_source' has no attribute 'absent')",
        ),
        ("no_such_module_here:f", "cannot be imported (ModuleNotFoundError: No module named 'no_such_module_here')"),
        ("captured_broken:f", "cannot be imported (ImportError: no such thing)"),
        (":f", "cannot be imported (ValueError: Empty module name)"),
        ("captured_source:module_only", "returned Linear"),
        ("captured_source:list_of_args", "returned tuple"),
        ("captured_source:needs", "failed (TypeError: needs() missing 1 required positional argument: 'size')"),
        ("captured_source:broken", "failed (KeyError: 'weights\\nare gone')"),
    ],
)
def test_function_that_is_no_use(module: str, source: str, reason: str) -> None:
    with pytest.raises(CaptureError) as caught:
        capture(source)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
