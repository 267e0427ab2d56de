"""Every backend's float16 artifact of a network that is infinite in plain float16: right, from one decision."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from hycompile.cache import Cache
from hycompile.device import load_target, open_session
from hycompile.lowering import lower
from hycompile.prove import prove
from tests.overflowing import overflowing


@pytest.mark.parametrize("backend", ["executorch", "onnx", "coreml", "tvm"])
def test_what_overflows_is_computed_in_float32(backend: str, cache: Cache) -> None:
    program = overflowing()
    artifact = lower(program, "host", backend, precision="fp16", cache=cache)
    assert 1e-5 < prove(open_session(artifact), program) < 5e-3


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_tensorrt_takes_the_mixed_network(cache: Cache) -> None:
    target = load_target("host").model_copy(update={"precision": "fp16"})
    facts = lower(overflowing(), target, "tensorrt", cache=cache).manifest.facts
    assert "div" in facts["onnx"]["kept_in_fp32"]["forward"]  # type: ignore[index]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("float16"))
