"""Small changes to a source file, each of which a test should notice: a mutant is the file with one of them.

Left alone are annotations, docstrings, messages, what is logged, and everything inside f-strings: no test need notice
those. The change replaces the bytes of one expression or statement, so a mutant's lines are those of the file.
"""

import ast
from collections.abc import Iterator
from typing import Final, NamedTuple

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_LOGGERS: Final = {"log", "_log", "logger", "_logger"}
_NOT_TRIED: Final = {"annotation", "returns", "decorator_list"}


class Mutation(NamedTuple):
    """One change: what kind, at which line, the bytes ``[begin, end)`` that are replaced, and in which function."""

    kind: str
    line: int
    begin: int
    end: int
    text: str
    within: str = ""

    def applied(self, source: bytes) -> bytes:
        return source[: self.begin] + self.text.encode() + source[self.end :]

    def told(self, source: bytes) -> str:
        """Before and after, on one line."""
        before = source[self.begin : self.end].decode()
        return f"{' '.join(before.split())}  =>  {' '.join(self.text.split())}"

    def where(self, source: bytes) -> str:
        """The function and the words of the line, which stay what they are when lines are added above."""
        return f"{self.within}: {source.splitlines()[self.line - 1].decode().strip()}"


def mutations(source: bytes) -> list[Mutation]:
    """Every change to this file, in the order of its syntax tree."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def placed(within: str, node: ast.expr | ast.stmt, kind: str, text: str) -> Mutation:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = starts[node.lineno - 1] + node.col_offset
        return Mutation(kind, node.lineno, begin, starts[node.end_lineno - 1] + node.end_col_offset, text, within)

    return [placed(within, *change) for within, node in _nodes(ast.parse(source)) for change in _changes(node)]


def _nodes(node: ast.AST, within: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Each node with the name of the function, or class, that it stands in."""
    yield within, node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        within = f"{within}.{node.name}".lstrip(".")
    for field, value in ast.iter_fields(node):
        if field in _NOT_TRIED or (isinstance(node, ast.ClassDef) and field == "keywords"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr) and not _is_said(child):
                yield from _nodes(child, within)


def _is_said(node: ast.AST) -> bool:
    """Whether it is a docstring, a call of a logger, or what only checks our own code, as ``zip(strict=True)`` does."""
    match node:
        case ast.keyword(arg="strict"):
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name)))):
            return name in _LOGGERS
    return False


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    """What is replaced, the kind and the new text, for each change of this node, not of what it holds."""
    match node:
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield node, "no return", "return None"
        case ast.Raise() | ast.Continue() | ast.Break() | ast.Delete() | ast.AugAssign() | ast.Expr():
            yield node, "no statement", "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "no statement", "pass"
        case ast.If() | ast.While() | ast.IfExp():
            yield from _negated(node.test)
        case ast.comprehension():
            for test in node.ifs:
                yield from _negated(test)
        case ast.expr():
            yield from _changes_of_value(node)


def _changes_of_value(node: ast.expr) -> Iterator[tuple[ast.expr, str, str]]:
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                ops = [*node.ops[:place], _COMPARISONS[type(operator)](), *node.ops[place + 1 :]]
                yield _bracketed(node, "comparison", ast.Compare(node.left, ops, node.comparators))
        case ast.BoolOp():
            other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield _bracketed(node, "and, or", ast.BoolOp(other, node.values))
        case ast.BinOp(op=ast.Add() | ast.Sub()) if not (_is_text(node.left) or _is_text(node.right)):
            other_sign = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield _bracketed(node, "plus, minus", ast.BinOp(node.left, other_sign, node.right))
        case ast.UnaryOp(op=ast.Not()):
            yield _bracketed(node, "dropped not", node.operand)
        case ast.Constant(value=bool() as value):
            yield node, "constant", str(not value)
        case ast.Constant(value=int() | float() as value):
            yield node, "constant", str(value + 1)


def _negated(test: ast.expr) -> Iterator[tuple[ast.expr, str, str]]:
    # Comparisons and what begins with `not` have changes of their own that come to the same.
    if not isinstance(test, ast.Compare | ast.UnaryOp) and not _is_type_checking(test):
        yield _bracketed(test, "negated", ast.UnaryOp(ast.Not(), test))


def _bracketed(node: ast.expr, kind: str, changed: ast.expr) -> tuple[ast.expr, str, str]:
    """In brackets, since what stands around it may bind closer."""
    return node, kind, f"({ast.unparse(changed)})"


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
