"""Every file of ``examples/`` runs as it stands, and says what it is there to show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hycompile.errors import CaptureError

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name: str, folder: Path, **environment: str) -> str:
    """What an example prints; warnings are errors there too, as far as hycompile can help it."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def test_compile_timm_model(tmp_path: Path) -> None:
    said = run_example("compile_timm_model.py", tmp_path, HYCOMPILE_CACHE=str(tmp_path / "cache"))
    assert re.search(r"fold_batch_norm_into_producer: 33 hits, 0 refused", said), said
    errors = [float(number) for number in re.findall(r"relative error (\S+)", said)]
    assert len(errors) == 2
    assert max(errors) < 1e-4
    assert re.search(r"^median [\d.]+ ms \(95 % interval", said, re.MULTILINE), said


def test_write_a_pass(tmp_path: Path) -> None:
    said = run_example("write_a_pass.py", tmp_path)
    before, after = said.partition("\nafter\n")[::2]
    assert "aten.mul.Tensor(@gamma" in before
    assert "aten.mul.Tensor" not in after
    assert re.search(r"^fold_layer_scale: 1 hit, error \S+e-\d\d in float32, \S+e-1\d in float64$", after, re.MULTILINE)
    assert "pass wrong, rule fold_with_flipped_sign: changed what the model computes: relative error" in after


def test_read_line(tmp_path: Path) -> None:
    """With the user's own cache: the weights are fetched once."""
    from hycompile.models.ppocr import SAMPLE_TEXT, files

    try:
        files()
    except CaptureError as error:
        pytest.skip(f"the recogniser's weights cannot be had here: {error}")
    said = run_example("read_line.py", tmp_path)
    for runtime in ("eager PyTorch", "executorch", "onnx", "coreml", "tvm"):
        assert re.search(rf"^{runtime} +{SAMPLE_TEXT}  ", said, re.MULTILINE), said
    assert re.search(r"^report: (\S+)$", said, re.MULTILINE), said


def test_every_example_has_a_test() -> None:
    tested = {f"{name.removeprefix('test_')}.py" for name in globals() if name.startswith("test_")}
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested
