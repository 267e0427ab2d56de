"""A memory that several gated units read, under quantisation."""

from __future__ import annotations

import torch

import hycompile as hy
from hycompile.models.language.family import family
from hycompile.quantisation.nodes import is_quantise


def test_a_shared_memory_has_one_value_for_all_its_readers() -> None:
    """No unit rounds it for itself, to a range of its own: each rounds only what its projection reads."""
    tokens = torch.arange(4)[None]
    program = hy.capture(family.build("language/sambay-tiny").module, (tokens,))
    program, _ = hy.Pipeline.parse("normalise,share-memory")(program, prove=False)
    for options in ("bits=4,group=32,activations=dynamic", "bits=8"):
        quantised, _ = hy.quantise(program, [tokens], f"quantise{{{options},min_sqnr=-300.0}}")
        graph = quantised.methods["forward"].graph.graph
        (memory,) = (node for node in graph.nodes if "shared_memory" in node.meta)
        assert memory.meta["shared_memory"].readers >= 2
        assert len(memory.users) >= 2
        assert not any(is_quantise(user) for user in memory.users)
        assert quantised.plan is not None
        assert quantised.plan.of("forward", memory.name) is None
