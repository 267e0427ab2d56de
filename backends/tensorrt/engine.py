"""From an ONNX file to a serialized TensorRT engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hycompile.backends.tensorrt.library import Flavour, capability_refusal, last_error, load, make_logger
from hycompile.backends.tensorrt.shapes import ShapeRange
from hycompile.errors import Unsupported
from hycompile.target import Precision


@dataclass(frozen=True)
class Engine:
    """A serialized engine, with what the network said about itself before it was compiled."""

    plan: bytes
    facts: dict[str, object]


def build_engine(
    model: Path, flavour: Flavour, capability: str, precision: Precision, ranges: dict[str, ShapeRange]
) -> Engine:
    """Parse ``model`` and compile it for one compute capability.

    Networks are strongly typed: every layer computes in the type the ONNX file gives it, and float32 means float32
    (TF32, TensorRT's default, keeps 10 bits of mantissa and is off). A TensorRT before 10 has no such networks: there
    float16, or int8 between the file's quantise and dequantise nodes, is allowed layer by layer.

    Raises:
        Unsupported: unknown compute capability, an operator the parser refuses, or a network that does not compile;
            with TensorRT's own words.
    """
    refusal = capability_refusal(flavour, capability)
    if refusal is not None:
        raise Unsupported(f"compute capability {capability}", refusal, "choose another device or tensorrt.flavour")
    trt = load(flavour)
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network, parser = _parse(trt, builder, logger, model)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt, "ComputeCapability"):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}"), 0)
    if precision != "fp32" and _typing_flag(trt) is None:
        config.set_flag(trt.BuilderFlag.FP16 if precision == "fp16" else trt.BuilderFlag.INT8)
    if ranges:
        config.add_optimization_profile(_optimization_profile(builder, ranges))
    plan = builder.build_serialized_network(network, config)
    # The network points to weights that the parser owns.
    del parser
    if plan is None:
        raise Unsupported(
            f"{model.name} for compute capability {capability}",
            f"{flavour} cannot compile it ({last_error(logger)})",
            "rewrite what it names, or build for the onnx backend",
        )
    return Engine(bytes(plan), _facts(trt, network))


def _typing_flag(trt: Any) -> int | None:
    kinds = trt.NetworkDefinitionCreationFlag
    return 1 << int(kinds.STRONGLY_TYPED) if hasattr(kinds, "STRONGLY_TYPED") else None


def _parse(trt: Any, builder: Any, logger: Any, model: Path) -> tuple[Any, Any]:
    """The network of an ONNX file, and the parser that owns its weights."""
    typing = _typing_flag(trt)
    network = builder.create_network(
        typing if typing is not None else 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    )
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(model)):
        return network, parser
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    told = "; ".join(dict.fromkeys(_describe(error) for error in errors)) or last_error(logger)
    raise Unsupported(f"{model.name}", f"TensorRT's ONNX parser refuses it ({told})", "rewrite the operator it names")


def _describe(error: Any) -> str:
    """``operator node: what TensorRT says``; older parsers name the node by number only."""
    named = (
        f"{error.node_operator()} {error.node_name()}" if hasattr(error, "node_operator") else f"node {error.node()}"
    )
    return f"{named}: {error.desc()}"


def _optimization_profile(builder: Any, ranges: dict[str, ShapeRange]) -> Any:
    profile = builder.create_optimization_profile()
    for name, shapes in ranges.items():
        profile.set_shape(name, shapes.smallest, shapes.usual, shapes.largest)
    return profile


def _facts(trt: Any, network: Any) -> dict[str, object]:
    def described(tensor: Any) -> dict[str, object]:
        return {"name": tensor.name, "dtype": tensor.dtype.name.lower(), "shape": list(tensor.shape)}

    return {
        "layers": network.num_layers,
        "inputs": [described(network.get_input(index)) for index in range(network.num_inputs)],
        "outputs": [described(network.get_output(index)) for index in range(network.num_outputs)],
        "tensorrt": trt.__version__,
    }
