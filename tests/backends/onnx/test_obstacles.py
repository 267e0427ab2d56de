"""What has no translation is named before the export, with the line it comes from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hycompile.backends.onnx import Onnx
from hycompile.capture import capture
from hycompile.errors import Unsupported
from hycompile.lowering import lower
from hycompile.program import Program
from hycompile.target import Target


class Foreign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        q, r = torch.linalg.qr(x)
        return q @ torch.special.bessel_j0(r) + F.pixel_unshuffle(x[None], 2).sum()


def test_a_hybrid_has_none(hybrid: Callable[[], Program], host: Target) -> None:
    assert Onnx().obstacles(hybrid(), host) == []


def test_state_writes_are_none(recurrent: Callable[[], tuple[nn.Module, Program]], host: Target) -> None:
    assert Onnx().obstacles(recurrent()[1], host) == []


def test_each_operator_is_named_once_with_its_line(host: Target) -> None:
    program = capture(Foreign().eval(), (torch.randn(4, 4),))
    found = {item.operator: item for item in Onnx().obstacles(program, host)}
    assert set(found) == {"aten.linalg_qr", "aten.special_bessel_j0"}
    assert all(item.fatal and item.count == 1 for item in found.values())
    assert found["aten.linalg_qr"].where.startswith("test_obstacles.py:")
    assert found["aten.linalg_qr"].where.endswith("in forward")
    assert "prims.bessel_j0" in found["aten.special_bessel_j0"].reason
    with pytest.raises(Unsupported, match=r"aten\.linalg_qr.*test_obstacles\.py"):
        lower(program, host, "onnx")


def test_lower_names_what_the_exporter_trips_over(host: Target, tmp_path: pytest.TempPathFactory) -> None:
    program = capture(Foreign().eval(), (torch.randn(4, 4),))
    with pytest.raises(Unsupported, match=r"aten\.linalg_qr\.default from test_obstacles\.py:\d+ in forward"):
        Onnx().lower(program, host, tmp_path)  # type: ignore[arg-type]


class Broadcast(nn.Module):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, k)


def test_attention_over_unequal_batches_is_named(host: Target) -> None:
    program = capture(Broadcast().eval(), (torch.randn(2, 2, 3, 4, 8), torch.randn(2, 1, 3, 4, 8)))
    (found,) = Onnx().obstacles(program, host)
    assert found.operator == "aten.scaled_dot_product_attention"
    assert "differ: [2, 2, 3, 4, 8], [2, 1, 3, 4, 8]" in found.reason
