"""A digest of the code that makes something, so that what it made is made anew when the code changes, and only then."""

import ast
import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

OUR_PACKAGES = ("components", "pipeline", "drawn")

Definition = tuple[str, str]  # a module and a name at its top level


def code_digest(*makers: Callable[..., Any]) -> str:
    """SHA-256 over the syntax trees of functions and of all definitions of our packages that they come to.

    Comments, docstrings, layout and the annotations of arguments are not part of it; names, constants and every other
    word are. Of a library it knows only which names are used: give the versions of those that matter beside it.
    Raises LookupError for something that is not defined at the top level of a module of ours.
    """
    pending = [(inspect.unwrap(maker).__module__, maker.__qualname__.partition(".")[0]) for maker in makers]
    found: dict[Definition, str] = {}
    while pending:
        definition = pending.pop()
        if definition not in found:
            found[definition], needed = _described(*definition)
            pending += needed
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


@cache
def _described(module: str, name: str) -> tuple[str, tuple[Definition, ...]]:
    """What a definition says, and which others of ours it comes to."""
    scope = _scope(module)
    nodes = scope.get(name)
    if nodes is None:
        raise LookupError(f"{module} defines no {name}")
    needed: set[Definition] = set()
    for used in sorted({used for node in nodes for used in _names(node)} & scope.keys()):
        needed.add((module, used))
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.ImportFrom):
                needed |= set(_imported(inner, name if inner is node else None))
            elif isinstance(inner, ast.Import):
                ours = [alias.name for alias in inner.names if _is_ours(alias.name)]
                needed |= {(other, inside) for other in ours for inside in _scope(other)}
    return "\n".join(ast.dump(node) for node in nodes), tuple(sorted(needed - {(module, name)}))


def _imported(node: ast.ImportFrom, name: str | None) -> Iterator[Definition]:
    """The definitions behind a name that `from … import …` brings in, or behind all of them."""
    source = node.module or ""
    if not _is_ours(source):
        return
    for alias in node.names:
        if name not in (None, alias.asname or alias.name):
            continue
        if alias.name in _scope(source):
            yield source, alias.name
        else:  # a module
            yield from ((f"{source}.{alias.name}", other) for other in _scope(f"{source}.{alias.name}"))


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in OUR_PACKAGES


@cache
def _scope(module: str) -> dict[str, list[ast.stmt]]:
    """The statements that define each name at the top level of a module, stripped of what is only for readers."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"there is no source of {module}")
    scope: dict[str, list[ast.stmt]] = {}
    for statement in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        for part in _parts(_Stripped().visit(statement)):
            for name in _defined(part):
                scope.setdefault(name, []).append(part)
    return scope


def _parts(statement: ast.stmt) -> list[ast.stmt]:
    """An import of several names as one import each, so that what one needs is not what all need."""
    if isinstance(statement, ast.ImportFrom):
        return [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
    return [ast.Import([alias]) for alias in statement.names] if isinstance(statement, ast.Import) else [statement]


def _defined(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name.partition(".")[0]) for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _names(node: ast.stmt) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


class _Stripped(ast.NodeTransformer):
    """Takes docstrings and the annotations of functions out of a tree."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = _without_docstring(node.body)
        return node

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body = _without_docstring(node.body)
        node.returns = None
        arguments = node.args
        for argument in (
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            *filter(None, (arguments.vararg, arguments.kwarg)),
        ):
            argument.annotation = None
        return node


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body[0]:
        case ast.Expr(value=ast.Constant(value=str())):
            return body[1:] or [ast.Pass()]
    return body
