"""Symbolic dimensions: a name, or a sum or product of names such as ``"past + sequence"``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping


def names(dim: str) -> list[str]:
    """The symbols in a dimension such as ``"past + sequence"``; the whole text when it is no sum or product."""
    try:
        tree = ast.parse(dim, mode="eval")
    except (SyntaxError, ValueError):
        return [dim]
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)] or [dim]


def size(dim: str, sizes: Mapping[str, int]) -> int:
    """The number that a dimension has when its symbols have these sizes, or 1."""

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Name):
            return sizes.get(node.id, 1)
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](value(node.left), value(node.right))
        raise ValueError(dim)

    try:
        return max(0, value(ast.parse(dim, mode="eval").body))
    except (SyntaxError, ValueError, ZeroDivisionError):
        return sizes.get(dim, 1)


_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
