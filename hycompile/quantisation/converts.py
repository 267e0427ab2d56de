"""Where values of a quantised graph become whole numbers or floats again, and for which operator in float."""

from __future__ import annotations

from collections import Counter

from torch.fx import Node

from hycompile.program import Program
from hycompile.quantisation.nodes import FUSED, MOVES, is_dequantise, is_dynamic, is_layer, is_quantise
from hycompile.schema import is_call, operator_name


def converts(program: Program) -> list[tuple[str, int]]:
    """Reasons with their counts, most frequent first.

    A value between two layers that both compute on whole numbers is none: no runtime converts it. Neither is one that
    is only moved about in between.
    """
    found: Counter[str] = Counter()
    for method in program.methods.values():
        for node in method.graph.graph.nodes:
            if is_quantise(node) and (reason := _made_by_float(node)) is not None:
                found[reason] += 1
            elif is_dequantise(node) and is_quantise(node.all_input_nodes[0]):
                found.update(dict.fromkeys(_read_by_float(node), 1))
    return found.most_common()


def _made_by_float(node: Node) -> str | None:
    source = node.all_input_nodes[0]
    while is_call(source, *MOVES):
        source = source.all_input_nodes[0]
    if is_dequantise(source):
        return None
    if _on_whole_numbers(source.all_input_nodes[0] if is_call(source, *FUSED) else source):
        return None
    return (
        "quantise: an input of the model" if source.op == "placeholder" else f"quantise: {_name(source)} gives floats"
    )


def _read_by_float(node: Node) -> list[str]:
    """The operators in float that read the value, behind moves, each once."""
    pending, readers = list(node.users), list[Node]()
    while pending:
        user = pending.pop()
        if is_call(user, *MOVES):
            pending += user.users
        elif not is_quantise(user) and not _takes_whole_numbers(user):
            readers.append(user)
    return [f"dequantise: {_name(reader)} reads floats" for reader in dict.fromkeys(readers)]


def _takes_whole_numbers(node: Node) -> bool:
    """Whether a layer reads whole numbers; one whose input's range is found at run time gives floats itself."""
    return _on_whole_numbers(node) or (is_layer(node) and any(map(is_dynamic, node.all_input_nodes)))


def _on_whole_numbers(node: Node) -> bool:
    """Whether a layer multiplies whole numbers: runtimes do where its result becomes whole numbers again."""
    users = list(node.users)
    if len(users) == 1 and is_call(users[0], *FUSED):
        users = list(users[0].users)
    return is_layer(node) and all(map(is_quantise, users))


def _name(node: Node) -> str:
    return "the output" if node.op == "output" else operator_name(node)
