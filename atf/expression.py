"""Expressions over an event, for the trigger ``python=``: names of its fields, literals, comparisons, a few functions, methods of str."""

from __future__ import annotations

import ast
import warnings
from types import CodeType
from typing import Any

FIELDS = ("kind", "name", "module", "thread", "depth", "time_ns", "duration_ns")
FUNCTIONS: dict[str, Any] = {one.__name__: one for one in (abs, all, any, bool, float, int, len, max, min, round, sum)}
METHODS = frozenset({"count", "endswith", "find", "lower", "split", "startswith", "strip", "upper"})
_NODES = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.IfExp, ast.Constant, ast.Load, ast.Store),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr, ast.BitXor, ast.RShift),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot),
    *(ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Set),
    *(ast.GeneratorExp, ast.ListComp, ast.comprehension),
)


class NotAnExpression(ValueError):
    """at: where in the text, in letters."""

    def __init__(self, at: int, why: str):
        super().__init__(why)
        self.at = at


class Expression:
    """A condition on an event. NotAnExpression when the text is none, or reaches for what no condition needs."""

    def __init__(self, text: str):
        self.text = text
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text, "<trigger>", "eval")
                _check(text, tree)
                self.code: CodeType = compile(tree, "<trigger>", "eval")
        except SyntaxError as error:
            raise NotAnExpression(min((error.offset or len(text) + 1) - 1, len(text)), f"not an expression: {error.msg}") from error
        except (ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise error if isinstance(error, NotAnExpression) else NotAnExpression(0, f"not an expression: {error or 'it is too deep'}") from error
        self._globals = {"__builtins__": {}, **FUNCTIONS}

    def holds(self, kind: str, name: str, module: str, thread: int, depth: int, time_ns: int, duration_ns: int) -> bool:
        """Whether it is true of an event. Whatever it raises passes through."""
        known = self._globals
        known["kind"], known["name"], known["module"], known["thread"] = kind, name, module, thread
        known["depth"], known["time_ns"], known["duration_ns"] = depth, time_ns, duration_ns
        return bool(eval(self.code, known))  # noqa: S307


def _check(text: str, tree: ast.AST) -> None:
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        at = len(text.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore"))
        if not isinstance(node, _NODES):
            raise NotAnExpression(at, f"{type(node).__name__} cannot stand in a condition")
        if isinstance(node, ast.Name):
            if node.id.startswith("__") or (isinstance(node.ctx, ast.Store) and node.id in (*FIELDS, *FUNCTIONS)):
                raise NotAnExpression(at, f"{node.id} cannot be used as a name here")
            if node.id not in (*FIELDS, *FUNCTIONS, *own):
                raise NotAnExpression(at, f"{node.id} is not known: an event has {', '.join(FIELDS)}")
        if isinstance(node, ast.Attribute) and node.attr not in METHODS:
            behind = len(text.encode()[: node.end_col_offset].decode(errors="ignore")) - len(node.attr)
            raise NotAnExpression(behind, f".{node.attr} cannot be used here: methods are {', '.join(sorted(METHODS))}")
