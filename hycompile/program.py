"""What flows through hycompile: a Program holds one or several captured methods over shared weights and state."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from hycompile.artifact import MethodSpec, TensorSpec
from hycompile.attributes import is_state, state_writes, storage_key, tensor_at, used_tensors
from hycompile.quiet import quiet_torch
from hycompile.text import canonical_text, graph_text

if TYPE_CHECKING:
    from hycompile.evaluation import Evaluation
    from hycompile.quantisation.plan import QuantPlan


@dataclass
class Method:
    """One captured entry point.

    Args:
        graph: the unlifted graph in normal form (see :mod:`hycompile.normal_form`).
        args: example positional inputs, as the model takes them.
        kwargs: example keyword inputs.
        dynamic_shapes: as for ``torch.export.export``; kept because a re-export would lose them.
    """

    graph: GraphModule
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    dynamic_shapes: Any = None

    def leaves(self) -> tuple[Any, ...]:
        """Every example input, flat, one per placeholder: tensors, and numbers or None the graph was captured for."""
        return tuple(pytree.tree_leaves((self.args, self.kwargs)))

    def flat_inputs(self) -> tuple[Tensor, ...]:
        """Example tensors in placeholder order."""
        return tuple(leaf for leaf in self.leaves() if isinstance(leaf, Tensor))

    def input_nodes(self) -> tuple[Node, ...]:
        """The placeholders that take tensors, in order."""
        nodes = self.graph.graph.find_nodes(op="placeholder")
        return tuple(node for node, leaf in zip(nodes, self.leaves(), strict=True) if isinstance(leaf, Tensor))

    def input_names(self) -> tuple[str, ...]:
        """Names of the tensor inputs, in order."""
        return tuple(node.name for node in self.input_nodes())

    def output_nodes(self) -> tuple[Node, ...]:
        """The nodes of the tensors returned, flat, in order."""
        leaves = pytree.tree_leaves(self.graph.graph.output_node().args[0])
        return tuple(leaf for leaf in leaves if isinstance(leaf, Node) and isinstance(leaf.meta["val"], Tensor))

    def output_names(self) -> tuple[str, ...]:
        """A unique name for each output: the node's own, numbered where a node is returned twice."""
        names: list[str] = []
        for node in self.output_nodes():
            names.append(node.name if node.name not in names else f"{node.name}_{len(names)}")
        return tuple(names)

    def mutated(self) -> tuple[str, ...]:
        """Names of the state buffers this method writes, in graph order."""
        return tuple(state_writes(self.graph))

    def export(self) -> ExportedProgram:
        """A fresh ``ExportedProgram`` of the graph, with the dynamic shapes of its capture and state of its own."""
        from hycompile.capture import export

        exported = export(self.graph, self.args, self.kwargs, self.dynamic_shapes)
        for name in self.mutated():
            exported.state_dict[name] = exported.state_dict[name].clone()
        return exported

    def spec(self) -> MethodSpec:
        """The flat signature, for manifests."""
        inputs = zip(self.input_names(), self.input_nodes(), strict=True)
        outputs = zip(self.output_names(), self.output_nodes(), strict=True)
        return MethodSpec(
            inputs=tuple(_tensor_spec(name, node) for name, node in inputs),
            outputs=tuple(_tensor_spec(name, node) for name, node in outputs),
            mutates=self.mutated(),
        )

    def copy(self) -> Method:
        """A copy whose graph can be rewritten; tensors are shared, unused ones left behind."""
        with quiet_torch():
            graph = copy.deepcopy(self.graph.graph)
        return Method(GraphModule(self.graph, graph), self.args, self.kwargs, self.dynamic_shapes)


@dataclass(frozen=True, eq=False)
class Step:
    """One call: tensors for the inputs of a method, flat, in placeholder order."""

    method: str
    inputs: tuple[Any, ...]


@dataclass
class Program:
    """A captured model.

    Args:
        name: what the user calls it.
        methods: entry points by name, usually just ``forward``.
        provenance: where it came from (source, torch version), for reports; not part of the digest.
        script: calls in an order that means something, by which rewrites and artifacts are proved. It changes no
            artifact, and is not part of the digest.
        tokenizer: contents of the ``tokenizer.json`` of a language model, which every artifact carries; not part of the
            digest.
        calibration: calls whose values say what ranges a quantised form of it needs; not part of the digest.
        plan: how it was quantised; None for a float Program. The graph holds all of it that changes what is computed.
        evaluation: the user's own measure of it, which passes that trade accuracy may ask; not part of the digest.
    """

    name: str
    methods: dict[str, Method]
    provenance: dict[str, str] = field(default_factory=dict[str, str])
    script: tuple[Step, ...] = ()
    tokenizer: bytes | None = field(default=None, repr=False)
    calibration: tuple[Step, ...] = field(default=(), repr=False)
    plan: QuantPlan | None = field(default=None, repr=False)
    evaluation: Evaluation | None = field(default=None, repr=False)

    def copy(self) -> Program:
        """A Program whose graphs can be rewritten without touching this one; weights are shared."""
        methods = {name: method.copy() for name, method in self.methods.items()}
        return replace(self, methods=methods, provenance=dict(self.provenance))

    def to(self, dtype: torch.dtype) -> Program:
        """The same Program with every floating weight, input and dtype argument in ``dtype``; sharing is kept."""
        from hycompile.convert import to_dtype

        return to_dtype(self, dtype)

    def save(self, path: Path) -> None:
        """Write it to one file, which :func:`hycompile.capture` and ``hycompile build`` read again.

        Left out are calibration data, which may be large and is the user's own, and the evaluation function.
        """
        from hycompile.archive import save

        save(self, path)

    def text(self) -> str:
        """The text form: every method's graph, one operator a line."""
        return "\n".join(f"method {name}:\n{graph_text(method.graph)}" for name, method in self.methods.items())

    def tensors(self) -> dict[str, Tensor]:
        """Every weight and state buffer in use, by name, over all methods."""
        found: dict[str, Tensor] = {}
        for method in self.methods.values():
            found |= used_tensors(method.graph)
        return found

    @property
    def digest(self) -> str:
        """SHA-256 over text form, weights, state and example inputs: equal for equal programs in any process."""
        sha = hashlib.sha256()
        for name, method in sorted(self.methods.items()):
            sha.update(f"{name}\n{canonical_text(method.graph)}".encode())
            for value in method.leaves():
                sha.update(_bytes(value) if isinstance(value, Tensor) else repr(value).encode())
            sha.update("".join(size_bounds(method)).encode())
        for name, tensor in sorted(self.tensors().items()):
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            sha.update(_bytes(tensor))
        return sha.hexdigest()

    @property
    def on_meta(self) -> bool:
        """Whether some tensor or example input is on torch's meta device: shapes without values, nothing to run."""
        examples = [value for method in self.methods.values() for value in method.flat_inputs()]
        return any(tensor.is_meta for tensor in (*self.tensors().values(), *examples))

    @property
    def weight_bytes(self) -> int:
        """Bytes of distinct weights and state: two names over one storage count once."""
        distinct = {storage_key(tensor): tensor for tensor in self.tensors().values()}
        return sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())


def size_bounds(method: Method) -> list[str]:
    """``2..8`` for every dynamic size of the inputs: a backend may plan its memory by them."""
    sizes = [size for node in method.input_nodes() for size in node.meta["val"].shape if not isinstance(size, int)]
    ranges = [size.node.shape_env.bound_sympy(size.node.expr) for size in sizes]
    return [f"{found.lower}..{found.upper} " for found in ranges]


def source_line(node: Node) -> str:
    """The innermost line of model source a node came from, as ``mixer.py:41 in forward``; empty if unknown.

    Frames of torch's own layers do not count, unless there is no other.
    """
    trace = node.meta.get("stack_trace") or ""
    frames = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    if not frames:
        return ""
    own = [frame for frame in frames if "/torch/nn/" not in frame] or frames
    file, line, function = own[-1].split(", ", 2)
    return f"{file.removeprefix('File ').strip(chr(34)).rsplit('/', 1)[-1]}:{line.removeprefix('line ')} {function}"


def constant(module: GraphModule, node: object) -> Tensor | None:
    """The tensor of a ``get_attr`` node that no write can change; None for anything else."""
    if not isinstance(node, Node) or node.op != "get_attr" or is_state(node):
        return None
    return tensor_at(module, str(node.target))


def _tensor_spec(name: str, node: Node) -> TensorSpec:
    value: Any = node.meta["val"]
    shape = tuple(size if isinstance(size, int) else str(size) for size in value.shape)
    return TensorSpec(name=name, shape=shape, dtype=str(value.dtype).removeprefix("torch."))


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
