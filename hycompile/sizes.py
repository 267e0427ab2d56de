"""Size expressions of an archive, which torch hands to sympy to evaluate: arithmetic, or something else?"""

from __future__ import annotations

import ast

_NODES = (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.operator,
          ast.unaryop, ast.Compare, ast.cmpop)  # fmt: skip
_FUNCTIONS = frozenset(
    [
        "Symbol",
        "Integer",
        "Rational",
        "Float",
        "Add",
        "Mul",
        "Pow",
        "Mod",
        "Max",
        "Min",
        "FloorDiv",
        "CeilDiv",
        "CleanDiv",
        "PythonMod",
        "ModularIndexing",
        "CeilToInt",
        "FloorToInt",
        "IntTrueDiv",
        "FloatTrueDiv",
        "TruncToInt",
        "TruncToFloat",
        "RoundToInt",
        "ToFloat",
        "PowByNatural",
        "Where",
        "Identity",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "Not",
        "And",
        "Or",
    ]
)


def is_size(expression: str) -> bool:
    """Whether it is arithmetic over symbols and numbers, built by calls of known sympy classes and nothing else."""
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return all(_harmless(node, called) for node in ast.walk(tree))


def _harmless(node: ast.AST, called: set[int]) -> bool:
    if not isinstance(node, _NODES):
        return False
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Name):
        return id(node) in called or _is_symbol(node.id)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _is_symbol(node.value)
    return True


def _is_symbol(name: str) -> bool:
    """torch names sizes ``s77`` or ``u0``."""
    return name[:1] in ("s", "u", "z", "f") and name[1:].lstrip("s").isdigit()
