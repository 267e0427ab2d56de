"""PTQ4ViT: scales by what rounding a layer costs the prediction, to second order."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.fx import Node

from hycompile.passes.quantise.alternate import Alternation
from hycompile.passes.quantise.blocks import BlockLoss
from hycompile.passes.quantise.cases import Case, read_by, recorded
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.gradients import gradients_of, of_rows
from hycompile.passes.quantise.methods.search import Search
from hycompile.passes.quantise.simulation import Simulation
from hycompile.program import Program

_TURNS = 3


class PTQ4ViT(Search):
    """For weights and values in turn, the share of the range that costs the network's prediction least.

    The cost is the squared error of a layer's output, each entry weighed by its squared gradient: the diagonal of the
    Hessian, as Fisher's information estimates it. With ``products=true`` both factors of a product are searched, too.

    The twin grids that the paper gives to softmax and GELU, two steps in one value, are left out: no runtime here has
    them. Gradients are those of the rounded network's divergence from the float one, where the paper's are of the
    network in float: at what is rounded they are not zero.

    Source: Yuan et al. 2022, "PTQ4ViT: Post-Training Quantization for Vision Transformers with Twin Uniform
    Quantization", section 3.3.
    """

    name = "ptq4vit"

    def run(self, program: Program, drafts: Mapping[str, Draft]) -> None:
        for name, draft in drafts.items():
            method = program.methods[name]
            found = [Case(method, layer) for layer in draft.layers]
            slopes: dict[Node, list[Tensor]] = {layer.node: [] for layer in draft.layers}
            for step, seen in recorded(program, name, {node for case in found for node in read_by(case.layer)}):
                gradients = gradients_of(method, draft, step, slopes)
                for case in found:
                    if case.take({node: seen[node] for node in read_by(case.layer)}):
                        slopes[case.layer.node].append(of_rows(gradients, case.layer.node, case.outputs[-1]))
            Alternation(draft, found, BlockLoss(Simulation(method, draft), slopes, {}), self.name).run(_TURNS)
