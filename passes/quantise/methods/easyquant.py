"""EasyQuant: scales that keep what layers compute, not what they read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hycompile.passes.quantise.alternate import Alternation
from hycompile.passes.quantise.cases import Case, cases
from hycompile.passes.quantise.draft import Draft
from hycompile.passes.quantise.methods.search import Search
from hycompile.passes.quantise.ranges import rows_of
from hycompile.program import Program


class EasyQuant(Search):
    """For weights and values in turn, the share of the range that leaves the layers' outputs most similar.

    Similar is the cosine between a layer's output in float and on rounded operands. For a channel with a scale of its
    own the other channels are in float, since its cosine alone would not see that all of it became smaller. A value
    that several layers read takes their sum.

    Source: Wu et al. 2020, "EasyQuant: Post-training Quantization via Scale Optimization".
    """

    name = "easyquant"

    def run(self, program: Program, drafts: Mapping[str, Draft]) -> None:
        for name, draft in drafts.items():
            Alternation(draft, cases(program, name, draft.layers), _unlike, self.name).run()


def _unlike(case: Case, found: list[Tensor], axis: int | None) -> Tensor:
    """One minus the cosine."""
    product, own, known = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    for given, wanted in zip(found, case.outputs, strict=True):
        rows, expected = rows_of(given, axis).double(), rows_of(wanted, axis).double()
        product = product + (rows * expected).sum(1)
        own, known = own + rows.square().sum(1), known + expected.square().sum(1)
    others = known.sum() - known
    return 1 - (others + product) / ((others + own) * known.sum()).sqrt().clamp(min=1e-20)
