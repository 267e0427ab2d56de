"""Bytes by storage, and writers and readers of state over all methods."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hycompile.capture import capture
from hycompile.storage import state_uses, storages, stored_bytes
from tests.toy_sambay import INNER, SLOTS, STATE, WIDTH, toy


def test_one_cache_one_writer_many_readers() -> None:
    uses = {use.name: use for use in state_uses(toy())}
    assert set(uses) == {"space.state", "full.keys", "full.values"}
    for name in ("full.keys", "full.values"):
        assert uses[name].size_bytes == 4 * SLOTS * WIDTH
        for method in ("prefill", "decode"):
            assert len([writer for writer in uses[name].writers if writer.startswith(method)]) == 1
            assert len([reader for reader in uses[name].readers if reader.startswith(method)]) == 3
    assert len(uses["space.state"].writers) == 2


def test_state_is_counted_once_over_methods() -> None:
    program = toy()
    assert stored_bytes(program, state=True) == 4 * (INNER * STATE + 2 * SLOTS * WIDTH)
    assert stored_bytes(program) == stored_bytes(program, state=True) + stored_bytes(program, state=False)


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.table.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.table(words))


def test_tied_weights_are_one_storage() -> None:
    program = capture(_Tied().eval(), (torch.arange(4),))
    (only,) = storages(program)
    assert (only.size_bytes, only.state) == (4 * 15, False)
