"""Small changes of a module, each of which a test should notice.

Left out is what no test should depend on:
texts of messages and of the log, documentation, types,
assertions that tell the type checker what is known,
numbers of whole modules, which are limits and sizes that may be chosen otherwise,
and texts as such.

"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
import copy
import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One change of a module.

    Args:
        path: module, relative to the root of the project
        function: function that is changed, empty outside of all functions
        first: first line that is changed
        last: last line that is changed
        span: bytes of the source that are replaced
        before: code that is replaced
        after: code that replaces it
        number: counts those of a function that read the same

    """

    path: str
    function: str
    first: int
    last: int
    span: tuple[int, int]
    before: str
    after: str
    number: int = 1

    @property
    def name(self) -> str:
        """What stays the same when the module is changed elsewhere."""
        change = f"{_short(self.before)} => {_short(self.after)}"
        number = f" ({self.number})" if self.number > 1 else ""
        return f"{self.path} {self.function or '-'}: {change}{number}"

    def apply(self, source: bytes) -> bytes:
        start, stop = self.span
        return source[:start] + self.after.encode() + source[stop:]


# A node or the statements of a block, and the code that replaces it
_Change = tuple[ast.AST | list[ast.stmt], str]

_COMPARISONS: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(),
    ast.LtE: ast.Lt(),
    ast.Gt: ast.GtE(),
    ast.GtE: ast.Gt(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
_OPERATORS: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.FloorDiv(),
    ast.FloorDiv: ast.Mult(),
    ast.Div: ast.Mult(),
    ast.Mod: ast.FloorDiv(),
    ast.BitOr: ast.BitAnd(),
    ast.BitAnd: ast.BitOr(),
    ast.LShift: ast.RShift(),
    ast.RShift: ast.LShift(),
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
# Arguments that are texts, or that only people see
_UNSEEN = {"name", "stacklevel", "encoding", "errors", "exc_info"}


def mutations(path: str, source: bytes) -> list[Mutation]:
    """All changes of a module, in the order of its source."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    seen: Counter[str] = Counter()
    found = []
    for node, function in _reached(ast.parse(source), ""):
        for replaced, after in _changes(node):
            nodes = replaced if isinstance(replaced, list) else [replaced]
            first, last = _located(nodes[0]), _located(nodes[-1])
            span = (
                starts[first.lineno - 1] + first.col_offset,
                starts[(last.end_lineno or 0) - 1] + (last.end_col_offset or 0),
            )
            before = source[slice(*span)].decode()
            mutation = Mutation(
                path, function, first.lineno, last.end_lineno or 0, span, before, after
            )
            seen[mutation.name] += 1
            found.append(dataclasses.replace(mutation, number=seen[mutation.name]))
    return sorted(found, key=lambda mutation: mutation.span)


def _located(node: ast.AST) -> ast.expr | ast.stmt:
    assert isinstance(node, ast.expr | ast.stmt)
    return node


def _short(code: str) -> str:
    code = re.sub(r"\s+", " ", code)
    return code if len(code) <= 90 else f"{code[:60]} ... {code[-25:]}"


# What is reached ---------------------------------------------------------------


def _reached(node: ast.AST, function: str) -> Iterator[tuple[ast.AST, str]]:
    """Nodes that decide what the module does, with the function each is in."""
    yield node, function
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        function = f"{function}.{node.name}".lstrip(".")
    for child in _children(node):
        if not _is_unseen(child, function):
            yield from _reached(child, function)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    skipped = {"annotation", "returns", "decorator_list", "type_params", "type_comment"}
    if isinstance(node, ast.Raise):
        skipped = {"exc", "cause"}
    if isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
        skipped |= {"test"}
    for name, value in ast.iter_fields(node):
        if name not in skipped:
            values = value if isinstance(value, list) else [value]
            yield from (child for child in values if isinstance(child, ast.AST))


def _is_unseen(node: ast.AST, function: str) -> bool:
    """Whether a node is a text, about types, or a constant of the whole module."""
    match node:
        case ast.JoinedStr() | ast.Assert() | ast.Import() | ast.ImportFrom():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="logger" | "warnings"))):
            return True
        case ast.Expr(value=ast.Call() as call):
            return _is_unseen(call, function)
        case ast.Call(func=ast.Name(id="cast" | "TypeVar" | "NewType")):
            return True
        case ast.Assign() | ast.AnnAssign():
            return not function
    return False


# Changes -----------------------------------------------------------------------


def _changes(node: ast.AST) -> Iterator[_Change]:
    for kind, change in _KINDS:
        if isinstance(node, kind):
            yield from change(node)


def _code(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


def _with(node: ast.AST, **fields: object) -> str:
    """Code of a node of which some fields are replaced."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return _code(changed)


def _compare(node: ast.Compare) -> Iterator[_Change]:
    for k, operator in enumerate(node.ops):
        ops = [*node.ops[:k], _COMPARISONS[type(operator)], *node.ops[k + 1 :]]
        yield node, _with(node, ops=ops)


def _connect(node: ast.BoolOp) -> Iterator[_Change]:
    yield node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for k in range(len(node.values)):
        values = node.values[:k] + node.values[k + 1 :]
        yield node, _code(values[0]) if len(values) == 1 else _with(node, values=values)


def _negate(node: ast.If | ast.While | ast.IfExp) -> Iterator[_Change]:
    # Others are changed in the same way by another one
    if not isinstance(node.test, ast.Constant | ast.Compare | ast.UnaryOp):
        yield node.test, f"(not {_code(node.test)})"


def _filter(node: ast.comprehension) -> Iterator[_Change]:
    for test in node.ifs:
        yield test, "True"


def _compute(node: ast.BinOp | ast.AugAssign) -> Iterator[_Change]:
    operator = _OPERATORS.get(type(node.op))
    if operator is None or any(map(_is_text, ast.iter_child_nodes(node))):
        return
    changed = _with(node, op=operator)
    yield node, changed if isinstance(node, ast.BinOp) else changed[1:-1]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


def _drop_sign(node: ast.UnaryOp) -> Iterator[_Change]:
    yield node, _code(node.operand)


def _other_value(node: ast.Constant) -> Iterator[_Change]:
    if isinstance(node.value, bool):
        yield node, str(not node.value)
    elif isinstance(node.value, int):
        yield node, str(node.value + 1)


def _call_otherwise(node: ast.Call) -> Iterator[_Change]:
    if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        yield node.func, _FUNCTIONS[node.func.id]
    for keyword in node.keywords:
        if keyword.arg is not None and keyword.arg not in _UNSEEN:
            keywords = [other for other in node.keywords if other is not keyword]
            yield node, _with(node, keywords=keywords)


def _return_nothing(node: ast.Return) -> Iterator[_Change]:
    if node.value is None:
        yield node, "pass"
    elif not isinstance(node.value, ast.Constant):
        yield node.value, "None"


def _remove(node: ast.stmt) -> Iterator[_Change]:
    match node:
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "pass"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete() | ast.Raise():
            yield node, "pass"
        case ast.Continue():
            yield node, "break"
        case ast.Break():
            yield node, "continue"


def _catch_less(node: ast.ExceptHandler) -> Iterator[_Change]:
    if isinstance(node.type, ast.Tuple):
        for k in range(len(node.type.elts)):
            elts = node.type.elts[:k] + node.type.elts[k + 1 :]
            yield node.type, _with(node.type, elts=elts)
    elif not isinstance(node.body[0], ast.Raise):
        yield node.body, "raise"


def _enter_nothing(node: ast.With) -> Iterator[_Change]:
    for item in node.items:
        if item.optional_vars is None:
            yield item.context_expr, "__import__('contextlib').nullcontext()"


_KINDS: list[tuple[type | tuple[type, ...], Callable[..., Iterator[_Change]]]] = [
    (ast.Compare, _compare),
    (ast.BoolOp, _connect),
    ((ast.If, ast.While, ast.IfExp), _negate),
    (ast.comprehension, _filter),
    ((ast.BinOp, ast.AugAssign), _compute),
    (ast.UnaryOp, _drop_sign),
    (ast.Constant, _other_value),
    (ast.Call, _call_otherwise),
    (ast.Return, _return_nothing),
    (ast.stmt, _remove),
    (ast.ExceptHandler, _catch_less),
    (ast.With, _enter_nothing),
]
