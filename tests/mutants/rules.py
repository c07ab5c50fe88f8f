"""The faults that can be planted in a source file, found in its syntax tree and made in its text.

Left alone is what no test should look at: docstrings, log calls, the making of errors, assertions, annotations,
decorators, imports, ``__all__``, and what has an effect on an accelerator alone.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Edit", "edits"]

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
SYMMETRIC = {"min", "max", "equal", "isclose", "transpose"}
"""Functions for which the order of arguments is no matter."""
CHECKS_OR_TEXTS = {"strict", "encoding", "hint", "message", "title"}
"""Keyword arguments that only guard an invariant or only reach a person."""
ACCELERATOR_KEYWORDS = {"device", "non_blocking", "pin_memory"}
"""Keyword arguments that change nothing on the CPU."""
ACCELERATOR_CALLS = {"synchronize"}
"""Calls that are for an accelerator alone."""
ERRORS = ("Error", "Failed", "Problem", "UnreadableSample", "UnknownKey")
TOO_SMALL = 1e-5
"""Constants below this are tolerances."""


@dataclass(frozen=True)
class Edit:
    """Bytes `start` to `end` of the source become `text`. rule: the kind of fault, for the report."""

    rule: str
    start: int
    end: int
    text: str

    def apply(self, source: str) -> str:
        """The source with the fault."""
        raw = source.encode()
        return (raw[: self.start] + self.text.encode() + raw[self.end :]).decode()


def edits(source: str, left_alone: Collection[str] = ()) -> list[Edit]:
    """Every fault that can be planted in `source`, in the order of the text.

    left_alone: names of functions and constants that get none.
    """
    finder = _Finder(source, left_alone)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda edit: (edit.start, edit.end, edit.rule, edit.text))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_log(call: ast.Call) -> bool:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else call.func
    return isinstance(owner, ast.Name) and owner.id in {"logger", "logging", "warnings"}


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str, left_alone: Collection[str]) -> None:
        self.left_alone = left_alone
        self.raw = source.encode()
        lines = self.raw.splitlines(keepends=True)
        self.line_starts = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
        self.found: list[Edit] = []

    def start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self.line_starts[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.line_starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr) -> str:
        return self.raw[self.start(node) : self.end(node)].decode()

    def add(self, rule: str, start: int, end: int, text: str) -> None:
        self.found.append(Edit(rule, start, end, text))

    def replace(self, rule: str, node: ast.expr | ast.stmt, text: str) -> None:
        self.add(rule, self.start(node), self.end(node), text)

    def between(self, rule: str, left: ast.expr, right: ast.expr, change: tuple[str, str]) -> None:
        """Change the operator between two operands."""
        start, end = self.end(left), self.start(right)
        gap = self.raw[start:end].decode()
        self.add(rule, start, end, gap.replace(*change, 1))

    # What is left alone.

    def visit_Assert(self, node: ast.Assert) -> None: ...

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.block(node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        makes_error = node.returns is not None and ast.unparse(node.returns).endswith(ERRORS)
        if makes_error or node.name in self.left_alone:
            return
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self.block(node.body, ends=True)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and _last_name(node.target) != "__all__":
            self.visit(node.value)

    # Statements.

    def block(self, body: Sequence[ast.stmt], *, ends: bool = False) -> None:
        """ends: the function returns after it, so that a last return without a value is no matter."""
        for statement in body:
            self.visit(statement)
            last = ends and statement is body[-1]
            if self.can_go(statement) and not (last and isinstance(statement, ast.Return)):
                self.replace("dropped statement", statement, "pass")

    def can_go(self, statement: ast.stmt) -> bool:
        """Whether the statement does something, and names are still bound without it."""
        if isinstance(statement, ast.Expr):
            call = statement.value
            return isinstance(call, ast.Call) and not _is_log(call) and _last_name(call.func) not in ACCELERATOR_CALLS
        if isinstance(statement, ast.Assign):
            return all(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
        kinds = (ast.AugAssign, ast.Delete, ast.Raise, ast.Return, ast.Continue, ast.Break)
        return isinstance(statement, kinds)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not _is_text(node.value):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = {_last_name(part) for target in node.targets for part in ast.walk(target) if isinstance(part, ast.expr)}
        if not names & {"__all__", "logger", *self.left_alone}:
            self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if _last_name(node.test) != "TYPE_CHECKING":
            self.condition(node.test)
            self.blocks([] if "cuda" in ast.unparse(node.test) else node.body, node.orelse)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self.condition(node.test)
        self.blocks(node.body, node.orelse)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self.blocks(node.body, node.orelse)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item.context_expr)
        self.block(node.body)

    def visit_Try(self, node: ast.Try) -> None:
        self.blocks(node.body, *[handler.body for handler in node.handlers], node.orelse, node.finalbody)

    def visit_Module(self, node: ast.Module) -> None:
        self.block(node.body)

    def blocks(self, *bodies: Sequence[ast.stmt]) -> None:
        for body in bodies:
            self.block(body)

    # Expressions.

    def condition(self, test: ast.expr) -> None:
        self.replace("negated condition", test, f"not ({self.text(test)})")
        self.visit(test)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.condition(node.test)
        self.visit(node.body)
        self.visit(node.orelse)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.visit(node.iter)
        for test in node.ifs:
            self.condition(test)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.replace("dropped not", node, f"({self.text(node.operand)})")
        self.visit(node.operand)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for place, operator in enumerate(node.ops):
            self.between("comparison", operands[place], operands[place + 1], COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in ARITHMETIC and not (_is_text(node.left) or _is_text(node.right)):
            self.between("arithmetic", node.left, node.right, ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in ARITHMETIC and not _is_text(node.value):
            self.between("arithmetic", node.target, node.value, ARITHMETIC[type(node.op)])
        self.visit(node.value)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        change = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between("boolean", left, right, change)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        for text in _other_constants(node.value):
            self.replace("constant", node, text)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Slice):
            self.bounds([node.slice.lower, node.slice.upper])
        self.generic_visit(node)

    def bounds(self, values: Sequence[ast.expr | None]) -> None:
        for value in values:
            if value is not None and not isinstance(value, ast.Constant | ast.Starred):
                self.replace("bound", value, f"({self.text(value)}) + 1")

    def visit_Call(self, node: ast.Call) -> None:
        name = _last_name(node.func)
        if _is_log(node) or name.endswith(ERRORS):
            return
        if name == "range":
            self.bounds(node.args)
        pair = node.args[:2]
        if len(pair) == 2 and name not in SYMMETRIC and not any(isinstance(one, ast.Starred) for one in pair):
            first, second = map(self.text, pair)
            between = self.raw[self.end(pair[0]) : self.start(pair[1])].decode()
            self.add("swapped arguments", self.start(pair[0]), self.end(pair[1]), f"{second}{between}{first}")
        for keyword in node.keywords:
            if keyword.arg in CHECKS_OR_TEXTS | ACCELERATOR_KEYWORDS:
                continue
            if keyword.arg is not None:
                self.drop_keyword(keyword)
            self.visit(keyword.value)
        for argument in (node.func, *node.args):
            self.visit(argument)

    def drop_keyword(self, keyword: ast.keyword) -> None:
        end = self.end(keyword)
        rest = self.raw[end:].lstrip()
        if rest.startswith(b","):
            end = len(self.raw) - len(rest[1:].lstrip(b" "))
        self.add("dropped keyword", self.start(keyword), end, "")


def _other_constants(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int):
        yield str(value + 1)
        if value > 0:
            yield str(value - 1)
    elif isinstance(value, float) and (value == 0 or abs(value) >= TOO_SMALL):
        yield repr(value * 2 if value else 1.0)
