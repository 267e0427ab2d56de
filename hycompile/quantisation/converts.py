"""Where values of a quantised graph become whole numbers or floats again, and for which operator in float."""

from __future__ import annotations

from collections import Counter

from torch.fx import Node

from hycompile.program import Program
from hycompile.quantisation.nodes import FUSED, is_dequantise, is_dynamic, is_layer, is_move, is_quantise
from hycompile.quantisation.whole import is_whole
from hycompile.schema import is_call, operator_name


def converts(program: Program) -> list[tuple[str, int]]:
    """Reasons with their counts, most frequent first.

    A value between two operators that both compute on whole numbers is none: no runtime converts it. Neither is one
    that is only moved about in between.
    """
    found: Counter[str] = Counter()
    for method in program.methods.values():
        for node in method.graph.graph.nodes:
            if is_quantise(node) and (reason := _made_by_float(node)) is not None:
                found[reason] += 1
            elif is_dequantise(node) and is_quantise(node.all_input_nodes[0]) and (names := _read_by_float(node)):
                found[f"dequantise: {' and '.join(names)} {'reads' if len(names) == 1 else 'read'} floats"] += 1
    return found.most_common()


def _made_by_float(node: Node) -> str | None:
    source = node.all_input_nodes[0]
    while is_move(source):
        source = source.all_input_nodes[0]
    if is_dequantise(source):
        return None
    if is_whole(source) or (is_call(source, *FUSED) and is_whole(source.all_input_nodes[0])):
        return None
    return (
        "quantise: an input of the model" if source.op == "placeholder" else f"quantise: {_name(source)} gives floats"
    )


def _read_by_float(node: Node) -> list[str]:
    """Names of the operators in float that read the value, behind moves: it is converted once for all of them."""
    pending, readers = list(node.users), set[str]()
    while pending:
        user = pending.pop()
        if is_move(user):
            pending += user.users
        elif not is_quantise(user) and not _takes_whole_numbers(user):
            readers.add(_name(user))
    return sorted(readers)


def _takes_whole_numbers(node: Node) -> bool:
    """Whether an operator reads whole numbers; a layer whose input's range is found at run time gives floats itself."""
    return is_whole(node) or (is_layer(node) and any(map(is_dynamic, node.all_input_nodes)))


def _name(node: Node) -> str:
    return "the output" if node.op == "output" else operator_name(node)
