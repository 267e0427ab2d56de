"""Core ML has tensors of at most five dimensions: packages of models with more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import hycompile as hy
from hycompile.backends.coreml import Coreml
from hycompile.parity import execute, relative_error
from tests.high_ranks import FORMS, Applied


@pytest.mark.parametrize("name", FORMS)
def test_packages_of_high_rank_are_proved(name: str, lower_coreml: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 12, 12, 5)
    program = hy.capture(Applied(FORMS[name]).eval(), (x,))
    results = Coreml().open(lower_coreml(program)).run((x,))
    assert relative_error(results, execute(program.methods["forward"]).outputs) < 1e-5


def test_large_output_is_an_obstacle(coreml_target: Callable[..., Any]) -> None:
    program = hy.capture(Applied(lambda x: x.reshape(2, 2, 6, 2, 6, 2, 5) * 2).eval(), (torch.randn(4, 12, 12, 5),))
    obstacles = Coreml().obstacles(program, coreml_target())
    assert obstacles
    assert {obstacle.reason for obstacle in obstacles} == {
        "makes a tensor of rank above 5, which Core ML does not have"
    }
    assert all(obstacle.fatal and "ranks.py" in obstacle.where for obstacle in obstacles)
