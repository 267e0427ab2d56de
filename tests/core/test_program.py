"""Digest, weight bytes, sharing, dtype conversion, files and dynamic sizes of a Program."""

from __future__ import annotations

import errno
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hycompile import archive
from hycompile.capture import Call, capture
from hycompile.errors import ArtifactError, CaptureError
from hycompile.parity import execute, relative_error
from hycompile.pipeline import Pipeline
from hycompile.program import Program, source_line
from tests.support import ROOT, captured

SCRIPT = """
import torch
from torch import nn
from hycompile.capture import capture
torch.manual_seed(3)
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
n = torch.export.Dim("n", min=2, max=8)
print(capture(model, (torch.ones(2, 3, 5, 5),), dynamic_shapes=({0: n},)).digest)
"""


def _digest_in_new_process() -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


def _saved(program: Program, folder: Path) -> Program:
    program.save(folder / "program.hyc")
    return capture(folder / "program.hyc")


def test_digest_is_the_same_in_every_process() -> None:
    first = _digest_in_new_process()
    assert len(first) == 64
    assert first == _digest_in_new_process()


def test_digest_sees_every_change(tmp_path: Path) -> None:
    def program(bias: float = 1.0, example: float = 0.0, maximum: int = 8, name: str = "a") -> Program:
        torch.manual_seed(0)
        model = nn.Linear(2, 3).eval()
        with torch.no_grad():
            model.bias.fill_(bias)
        sizes = ({0: torch.export.Dim("n", min=2, max=maximum)},)
        return capture(model, (torch.full((4, 2), example),), dynamic_shapes=sizes, name=name)

    digest = program().digest
    assert program(name="b").digest == digest, "a name changes nothing"
    assert _saved(program(), tmp_path).digest == digest
    assert program().copy().digest == digest
    others = [program(bias=1.0 + 1e-7), program(example=1.0), program(maximum=9), program().to(torch.float64)]
    assert len({digest, *(other.digest for other in others)}) == 5


class Tied(nn.Module):
    again: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("again", self.embedding.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embedding(x)) + self.again.sum(1)


def test_tied_weights_count_once(tmp_path: Path) -> None:
    program = captured(Tied(), torch.tensor([1, 2]))
    loaded = _saved(program, tmp_path)
    assert len(program.tensors()) == 2
    assert program.weight_bytes == loaded.weight_bytes == 4 * 28
    assert program.to(torch.float16).weight_bytes == 2 * 28
    assert program.copy().weight_bytes == 4 * 28
    assert relative_error(_outputs(loaded), _outputs(program)) == 0.0


def test_equal_constants_share_storage_and_a_sign_keeps_zeros_apart() -> None:
    class Constants(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.tensor([0.0, 1.0]) + torch.tensor([0.0, 1.0]) - torch.tensor([-0.0, 1.0])

    program = captured(Constants(), torch.ones(2))
    assert len(program.tensors()) == 3
    assert program.weight_bytes == 2 * 8


def test_methods_with_constants_of_one_name() -> None:
    """torch calls the first constant of every method the same; a Program must not mix them up."""

    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.tensor([1.0, 2.0])

        def other(self, x: Tensor) -> Tensor:
            return x + torch.tensor([3.0, 4.0])

    x = torch.zeros(2)
    program = capture(Two().eval(), methods={"one": Call((x,)), "two": Call((x,), function="other")})
    assert len(program.tensors()) == 2
    assert relative_error(_outputs(program, "one"), [torch.tensor([1.0, 2.0])]) == 0.0
    assert relative_error(_outputs(program, "two"), [torch.tensor([3.0, 4.0])]) == 0.0


def test_several_methods_and_state_survive_a_file(tmp_path: Path) -> None:
    class Model(nn.Module):
        cache: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("cache", torch.randn(1, 4))

        def prefill(self, x: Tensor) -> Tensor:
            self.cache.copy_(self.linear(x).mean(0, keepdim=True))
            return self.cache * 1

        def decode(self, x: Tensor) -> Tensor:
            return self.linear(x + self.cache)

    calls = {
        "prefill": Call((torch.randn(3, 4),), function="prefill"),
        "decode": Call((torch.randn(1, 4),), function="decode"),
    }
    program = capture(Model().eval(), methods=calls)
    loaded = _saved(program, tmp_path)
    assert loaded.digest == program.digest
    assert loaded.weight_bytes == program.weight_bytes == 4 * (16 + 4 + 4)
    for each in (program, loaded, program.to(torch.float64)):
        weights = {id_ for m in each.methods.values() for id_ in [m.graph.get_buffer("linear.weight").data_ptr()]}
        caches = {id_ for m in each.methods.values() for id_ in [m.graph.get_buffer("cache").data_ptr()]}
        assert (len(weights), len(caches)) == (1, 1)
        assert each.text().count("state @cache") == 2


def test_dynamic_sizes_survive_passes_files_and_export(tmp_path: Path) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, images: list[Tensor], *, scale: Tensor) -> Tensor:
            return self.norm(self.conv(images[0])).flatten(2) * scale

    n, w = torch.export.Dim("n", min=2, max=6), torch.export.Dim("w", min=4, max=32)
    arguments = ([torch.randn(3, 3, 5, 8)],), {"scale": torch.randn(3, 1, 1)}
    program = capture(Model().eval(), *arguments, dynamic_shapes={"images": [{0: n, 3: w}], "scale": {0: n}})
    program, _ = Pipeline.parse("normalise,reparameterise")(program)
    loaded = _saved(program, tmp_path)
    again = _saved(loaded, tmp_path)
    other: dict[str, Any] = {"scale": torch.randn(5, 1, 1)}
    images = [torch.randn(5, 3, 5, 11)]
    expected = execute(program.methods["forward"], (images[0], other["scale"])).outputs
    for each in (program, loaded, again):
        exported = each.methods["forward"].export()
        bounds = sorted((int(c.lower), int(c.upper)) for c in exported.range_constraints.values())
        assert bounds == [(2, 6), (4, 32)]
        assert relative_error([exported.module()(images, **other)], expected) <= 1e-6
        assert each.digest == program.digest
        sizes = [item.shape for item in each.methods["forward"].spec().inputs]
        assert [[isinstance(size, str) for size in shape] for shape in sizes] == [
            [True, False, False, True],
            [True, False, False],
        ]


def test_conversion_saturates_and_fills_in_types() -> None:
    """-3.4e38 in a mask must become -65504, not -inf, whose difference with itself is NaN."""

    class Masked(nn.Module):
        mask: Tensor

        def __init__(self) -> None:
            super().__init__()
            low = torch.finfo(torch.float32).min
            self.register_buffer("mask", torch.tensor([0.0, low, -torch.inf]))

        def forward(self, x: Tensor) -> Tensor:
            filled = x.masked_fill(x > 1, torch.finfo(x.dtype).min).float().softmax(-1, dtype=torch.float32)
            return filled + torch.full((3,), 1.0) + torch.arange(3, dtype=torch.float32) + self.mask

    program = captured(Masked(), torch.tensor([0.0, 0.5, 2.0]))
    half = program.to(torch.float16)
    assert half.tensors()["mask"].tolist() == [0.0, -65504.0, -torch.inf]
    (output,) = _outputs(half)
    assert output.dtype == torch.float16
    assert relative_error([output[:1]], [_outputs(program)[0][:1]]) < 1e-3
    assert not output.isnan().any()
    assert _outputs(program.to(torch.float64))[0].dtype == torch.float64
    assert program.tensors()["mask"].dtype == torch.float32, "the original stays as it is"


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    program = captured(nn.Linear(2, 2), torch.ones(1, 2))
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(ArtifactError, match=r"cannot be written \(No space left on device\); free space"):
        program.save(tmp_path / "p.hyc")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="No such file or directory"):
        program.save(tmp_path / "absent" / "p.hyc")


@pytest.mark.parametrize("index", [b"", b"[]", b"{}", b'{"methods": ["gone"]}', b'{"methods": 3}'])
def test_damaged_program_file(tmp_path: Path, index: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "p.hyc", "w") as file:
        file.writestr("program.json", index)
    with pytest.raises(CaptureError, match="a damaged program archive") as caught:
        archive.load(tmp_path / "p.hyc")
    assert "\n" not in str(caught.value)


def test_source_line_is_the_models_own() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x)

    graph = captured(Block(), torch.ones(1, 3, 2, 2)).methods["forward"].graph.graph
    (norm,) = (node for node in graph.nodes if node.name.startswith("batch_norm"))
    file, line, *where = source_line(norm).replace(":", " ").split()
    assert (file, where) == ("test_program.py", ["in", "forward"])
    assert line.isdigit()
    assert source_line(graph.output_node()) == ""


def _outputs(program: Program, method: str = "forward") -> tuple[Tensor, ...]:
    return execute(program.methods[method]).outputs
