"""What a family builds reaches ``capture`` whole: a model of several methods too."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from hycompile import registry
from hycompile.capture import Call
from hycompile.compile import load_program
from hycompile.models.family import Built, Description


class Counter(nn.Module):
    """Adds to what it has seen, or starts anew."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))

    def add(self, x: Tensor) -> Tensor:
        self.seen.add_(x)
        return self.seen.clone()

    def restart(self, x: Tensor) -> Tensor:
        self.seen.copy_(x)
        return self.seen.clone()


class Counters:
    """A family of one model that has two methods over one state, and no ``forward``."""

    name = "counters"

    def names(self) -> list[str]:
        return ["counter"]

    def aliases(self) -> Mapping[str, str]:
        return {}

    def describe(self, name: str) -> Description:
        return Description(name, self.name, (2,), "Apache-2.0", "this test", pretrained=False)

    def identity(self, name: str, *, resolution: int | None = None, seed: int = 0) -> str:
        return name

    def build(self, name: str, *, resolution: int | None = None, seed: int = 0) -> Built:
        calls = {entry: Call((torch.ones(2),), function=entry) for entry in ("add", "restart")}
        return Built(Counter().eval(), (torch.ones(2),), methods=calls)


def test_every_method_of_a_registered_model_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_model", lambda source: (Counters(), source))
    program = load_program("counter")
    assert {name: method.mutated() for name, method in program.methods.items()} == {
        "add": ("seen",),
        "restart": ("seen",),
    }
    assert program.methods["restart"].input_names() == ("x",)
    assert program.provenance["identity"] == "counter"
