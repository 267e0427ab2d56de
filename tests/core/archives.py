"""An honest ``.pt2`` archive, and ways to spoil it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hycompile.capture import capture
from hycompile.errors import CaptureError

Members = dict[str, bytes]
NO_PROGRAM = "holds no exported program (truncated, a pickled checkpoint, or TorchScript?)"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.shift = nn.Linear(4, 4), torch.arange(4.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.shift


def honest() -> Members:
    """Contents by name of a ``.pt2`` archive of :class:`Net` with a dynamic batch."""
    sizes = ({0: torch.export.Dim("n", min=2, max=9)},)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Net().eval(), (torch.ones(3, 4),), dynamic_shapes=sizes), buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def edited(members: Members, suffix: str, edit: Callable[[Any], None]) -> Members:
    (name,) = (name for name in members if name.endswith(suffix))
    document = json.loads(members[name])
    edit(document)
    return members | {name: json.dumps(document).encode()}


def refused(path: Path) -> CaptureError:
    with pytest.raises(CaptureError) as caught:
        capture(path)
    assert "\n" not in str(caught.value)
    assert caught.value.seen == str(path)
    return caught.value
