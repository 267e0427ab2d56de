"""The recogniser is the published one: same function as the publisher's ONNX file, and it reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hycompile.capture import capture
from hycompile.errors import CaptureError
from hycompile.models.ocr_text import decode, read_dictionary, render
from hycompile.models.ppocr import DICTIONARY, LICENCE, REFERENCE, family
from hycompile.models.ppocr_network import CLASSES, Recogniser
from hycompile.parity import execute, relative_error

LINES = ("Hybrid networks, compiled", "read 1234567890 times", "(a+b)*c = 42; ok?")


def logits(model: torch.nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return model(image)


@pytest.fixture(scope="module")
def model(ocr_files: Path) -> torch.nn.Module:
    assert ocr_files.is_dir()
    return family.build("ppocrv6_rec_small").module


@pytest.mark.parametrize("text", LINES)
def test_equals_the_publishers_onnx(model: torch.nn.Module, ocr_files: Path, text: str) -> None:
    """Relative to the largest probability; on these lines the file itself is up to 1.1e-4 from float64, ours 2e-5."""
    import onnxruntime

    image = render(text)
    session = onnxruntime.InferenceSession(str(ocr_files / REFERENCE), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": image.numpy()})
    assert relative_error([logits(model, image).softmax(-1)], [torch.from_numpy(expected)]) < 2e-4


@pytest.mark.parametrize("text", LINES)
def test_reads_what_was_rendered(model: torch.nn.Module, ocr_files: Path, text: str) -> None:
    assert decode(logits(model, render(text)), read_dictionary(ocr_files / DICTIONARY)) == text


def test_the_dictionary_fits_the_classes_and_the_licence_is_there(ocr_files: Path) -> None:
    assert len(read_dictionary(ocr_files / DICTIONARY)) == CLASSES
    assert "Apache License" in (ocr_files / LICENCE).read_text()


def test_one_program_takes_lines_of_any_width(ocr_files: Path) -> None:
    assert ocr_files.is_dir()
    built = family.build("ppocrv6_rec_small_dynamic")
    program = capture(built.module, built.args, dynamic_shapes=built.dynamic_shapes)
    method = program.methods["forward"]
    assert isinstance(method.spec().inputs[0].shape[3], str)
    for width in (160, 320, 640):
        image = render("any width", width)
        found = execute(method, (image,)).outputs
        assert tuple(found[0].shape) == (1, width // 8, CLASSES)
        assert relative_error(found, [logits(built.module, image)]) < 1e-5


def test_a_resolution_is_refused() -> None:
    with pytest.raises(CaptureError, match="resolution 224: lines are 48 pixels high"):
        family.build("ppocrv6_rec_small", resolution=224)


def test_the_network_has_no_state_but_its_weights() -> None:
    """5.275 million parameters, as the publisher states; no buffer beside batch-norm statistics."""
    network = Recogniser()
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 3) == 5.275
    assert {name.rsplit(".", 1)[-1] for name, _ in network.named_buffers()} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
