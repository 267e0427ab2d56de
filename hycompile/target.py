"""What a device asks of a compiler: the typed contents of one device file (``hycompile/devices/NAME.toml``)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["fp32", "fp16", "int8"]


class _Strict(BaseModel):
    """Unknown keys are errors, so that a typo in a device file is seen; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where a fact of a device file comes from."""

    fact: str
    reference: str


class OperatingSystem(_Strict):
    """The oldest system the artifact must run on."""

    name: Literal["linux", "android", "ios", "macos", "windows"]
    floor: str


class ExecutorchOptions(_Strict):
    """Partitioners are tried in order; what none takes stays with the portable kernels.

    ``convolutions``: dense ones of several taps stay ``"whole"``, or become one matrix product for each of their
    kernel's ``"rows"``, where XNNPACK's matrix products are that much faster on the device.
    """

    partitioners: tuple[Literal["xnnpack", "coreml", "vulkan"], ...] = ("xnnpack",)
    convolutions: Literal["whole", "rows"] = "whole"


class OnnxOptions(_Strict):
    """``opset`` 17 suits TensorRT 8; ONNX Runtime takes the newest."""

    opset: int = Field(default=18, ge=17)


class TensorrtOptions(_Strict):
    """``compute_capability`` as NVIDIA writes it, for example ``"8.7"`` for Orin."""

    compute_capability: str = Field(default="8.9", pattern=r"^\d+\.\d+$")
    flavour: Literal["tensorrt", "tensorrt_rtx"] = "tensorrt_rtx"


class CoremlOptions(_Strict):
    """``deployment_target`` is a name of ``coremltools.target``; state needs iOS18 or macOS15.

    ``state``: ``"buffers"`` that Core ML keeps, in float16 and from zero on, or ``"arguments"`` that are given and
    returned in each call, in the precision of the package and on systems older than these.
    ``pad_states``: state is kept with a last dimension that is a multiple of 32, as the Neural Engine wants it.
    ``beside_int8``: what a package of precision int8 computes in where nothing is rounded to whole numbers; the Neural
    Engine takes ``"fp16"`` only, which rounds so much more that not every artifact is held to be the plan's.
    """

    deployment_target: str = "iOS18"
    state: Literal["buffers", "arguments"] = "buffers"
    pad_states: bool = False
    beside_int8: Literal["fp32", "fp16"] = "fp32"


class TvmOptions(_Strict):
    """``mcpu`` and ``features`` go to LLVM as they stand; ``"host"`` asks for this machine's own."""

    mcpu: str = "host"
    features: tuple[str, ...] = ()
    cores: int = Field(default=2, ge=1)


class Target(_Strict):
    """One device as the compiler sees it.

    ``runtimes`` are backend names, the first being the default. ``triple`` is the LLVM triple of the device's CPU.
    """

    name: str
    description: str
    runtimes: tuple[str, ...] = Field(min_length=1)
    precision: Precision = "fp32"
    pipeline: str = (
        "normalise,sink-slices,share-memory,fold-multipliers,lower-scans,reparameterise,fuse-conv-attention,layout"
    )
    triple: str
    os: OperatingSystem
    executorch: ExecutorchOptions = ExecutorchOptions()
    onnx: OnnxOptions = OnnxOptions()
    tensorrt: TensorrtOptions = TensorrtOptions()
    coreml: CoremlOptions = CoremlOptions()
    tvm: TvmOptions = TvmOptions()
    quirks: tuple[str, ...] = ()
    sources: tuple[Source, ...] = Field(min_length=1)
