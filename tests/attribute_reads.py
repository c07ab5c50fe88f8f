"""Who reads which attribute of which class, told from the source alone.

`Sources` infers what class an expression is from annotations, constructors, assignments and `isinstance`, without
regard to the order of statements. Containers count as what they hold: an element of `dict[str, X]` is an X. An
expression whose class cannot be told reads nothing, so that a common word such as `path` or `enabled` on anything else
is never taken for a read of the class in question. A computed `getattr` reads every name that its module spells out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeGuard

__all__ = ["Read", "Sources", "modules_below"]

Env = dict[str, set[str]]

HANDED_ON = {"zip", "enumerate", "sorted", "list", "tuple", "reversed", "iter", "next", "filter", "evolve", "copy"}
"""Functions whose result holds what they are given."""
OF_CONTAINERS = {"items", "values", "get", "copy", "pop"}
BY_CLASS = {"get", "all", "entries"}
"""Methods of the registry, which return what their first argument names."""


@dataclass(frozen=True)
class Read:
    """`cls`.`name` is read in `module`; inside: the method it happens in, as "module:Class.method"."""

    cls: str
    name: str
    module: str
    inside: str


@dataclass
class Class:
    """What the source says of a class: annotated attributes, and methods."""

    module: str
    node: ast.ClassDef
    annotations: dict[str, ast.expr] = field(default_factory=dict)
    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)


def modules_below(package: Path) -> dict[str, Path]:
    """Files of a package by module name."""
    return {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }


class Sources:
    """The classes of some modules, and the attributes read of them."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.trees = {module: ast.parse(text) for module, text in texts.items()}
        self.classes: dict[str, Class] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.imports: dict[tuple[str, str], tuple[str, str]] = {}
        for module, tree in self.trees.items():
            self._index(module, tree)
        self.resolve = cache(self._resolve)
        self.attribute = cache(self._attribute)
        self._assigned = cache(self._assignments)

    def mro(self, cls: str) -> list[str]:
        """The class and those above it that the source knows."""
        found = [cls]
        for base in self.classes[cls].node.bases:
            target = self._named(base, self.classes[cls].module)
            found += [one for known in target for one in self.mro(known)]
        return found

    def reads(self) -> Iterator[Read]:
        """Every attribute read of a known class."""
        for module, tree in self.trees.items():
            yield from self._reads_in(tree.body, {}, module, "")

    def _index(self, module: str, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.imports[module, alias.asname or alias.name] = (node.module or "", alias.name)
        for node in tree.body:
            if isinstance(node, ast.Assign) and _is_call(node.value, {"TypeVar"}):
                bounds = [keyword.value for keyword in node.value.keywords if keyword.arg == "bound"]
                for bound in (bound for bound in bounds if isinstance(bound, ast.Name)):
                    self.imports[module, ast.unparse(node.targets[0])] = (module, bound.id)
            elif isinstance(node, ast.FunctionDef):
                self.functions[f"{module}:{node.name}"] = node
            elif isinstance(node, ast.ClassDef):
                known = self.classes[f"{module}:{node.name}"] = Class(module, node)
                for part in node.body:
                    if isinstance(part, ast.FunctionDef):
                        known.methods[part.name] = part
                    elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                        known.annotations[part.target.id] = part.annotation

    def _resolve(self, module: str, name: str) -> str:
        """The class or function that a name means in a module, as "module:name"; "" when it is neither."""
        seen = set()
        while (module, name) not in seen:
            seen.add((module, name))
            here = f"{module}:{name}"
            if here in self.classes or here in self.functions:
                return here
            module, name = self.imports.get((module, name), (module, name))
        return ""

    def _named(self, annotation: ast.expr | None, module: str) -> set[str]:
        """The classes that an annotation mentions."""
        found: set[str] = set()
        for node in ast.walk(annotation) if annotation is not None else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= self._named(ast.parse(node.value, mode="eval").body, module)
            elif isinstance(node, ast.Name):
                found.add(self.resolve(module, node.id))
        return found & self.classes.keys()

    def _attribute(self, cls: str, name: str) -> frozenset[str]:
        """Classes of an attribute, or of what a method returns."""
        for owner in self.mro(cls):
            known = self.classes[owner]
            if name in known.annotations:
                return frozenset(self._named(known.annotations[name], known.module))
            if name in known.methods:
                return frozenset(self._named(known.methods[name].returns, known.module))
            if name in self._assigned(owner):
                return self._assigned(owner)[name]
        return frozenset()

    def _assignments(self, cls: str) -> dict[str, frozenset[str]]:
        """Attributes that ``__init__`` gives its parameters to."""
        known = self.classes[cls]
        begin = known.methods.get("__init__")
        found: dict[str, frozenset[str]] = {}
        if begin is None:
            return found
        env = self._parameters(begin, known.module)
        for node in ast.walk(begin):
            if isinstance(node, ast.Assign):
                for target, value in _pairs(node.targets[0], node.value):
                    if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                        found[target.attr] = frozenset(self._infer(value, env, known.module))
        return found

    def _parameters(self, function: ast.FunctionDef | ast.Lambda, module: str) -> Env:
        arguments = function.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        return {one.arg: self._named(one.annotation, module) for one in every if one.annotation is not None}

    def _reads_in(self, body: Iterable[ast.AST], outer: Env, module: str, cls: str) -> Iterator[Read]:
        """Reads in statements of a module or class, function by function."""
        loose: list[ast.AST] = []
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from self._reads_in(node.body, outer, module, node.name)
            elif isinstance(node, ast.FunctionDef):
                env = self._env(node, {**outer, "self": {f"{module}:{cls}"} & self.classes.keys()}, module)
                yield from self._reads_of(node, env, module, f"{module}:{cls}.{node.name}" if cls else "")
            else:
                loose.append(node)
        for node in loose:
            yield from self._reads_of(node, self._env(node, outer, module), module, "")

    def _reads_of(self, tree: ast.AST, env: Env, module: str, inside: str) -> Iterator[Read]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner, names = node.value, {node.attr}
            elif _is_call(node, {"getattr"}):
                owner, name = node.args[:2]
                names = {str(name.value)} if isinstance(name, ast.Constant) else self._strings(module)
            else:
                continue
            yield from (Read(cls, name, module, inside) for cls in self._infer(owner, env, module) for name in names)

    def _strings(self, module: str) -> set[str]:
        """All that a computed name in a module may be."""
        nodes = ast.walk(self.trees[module])
        return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}

    def _env(self, tree: ast.AST, outer: Env, module: str) -> Env:
        """What the names in a function stand for; twice, so that names may lean on later ones."""
        env = {name: set(classes) for name, classes in outer.items()}
        for _ in range(2):
            for node in ast.walk(tree):
                for text, classes in self._bindings(node, env, module):
                    env.setdefault(text, set()).update(classes)
        return env

    def _bindings(self, node: ast.AST, env: Env, module: str) -> Iterator[tuple[str, set[str]]]:
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            yield from self._parameters(node, module).items()
        elif isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target), self._named(node.annotation, module)
        elif _is_call(node, {"isinstance"}):
            yield ast.unparse(node.args[0]), self._named(node.args[1], module)
        pairs: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.Assign):
            pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
        elif isinstance(node, ast.For | ast.comprehension):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, ast.NamedExpr):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            pairs = [(node.optional_vars, node.context_expr)]
        for target, value in pairs:
            classes = self._infer(value, env, module)
            for name in ast.walk(target):
                if isinstance(name, ast.Name):
                    yield name.id, classes

    def _infer(self, node: ast.expr, env: Env, module: str) -> set[str]:
        """The classes an expression may be of, or may hold."""
        known = env.get(ast.unparse(node), set()) if isinstance(node, ast.Name | ast.Attribute) else set()
        if isinstance(node, ast.Name):
            return known or self._global(node.id, module)
        if isinstance(node, ast.Attribute):
            owners = self._infer(node.value, env, module)
            return known.union(*(self.attribute(owner, node.attr) for owner in owners))
        if isinstance(node, ast.Call):
            return self._infer_call(node, env, module)
        return set().union(*(self._infer(part, env, module) for part in _held(node)))

    def _global(self, name: str, module: str) -> set[str]:
        target = self.resolve(module, name)
        if target in self.functions:
            return self._named(self.functions[target].returns, target.partition(":")[0])
        return {target} & self.classes.keys()

    def _infer_call(self, node: ast.Call, env: Env, module: str) -> set[str]:
        function = node.func
        if _is_call(node, HANDED_ON):
            return set().union(*(self._infer(argument, env, module) for argument in node.args))
        if isinstance(function, ast.Attribute) and function.attr in BY_CLASS and node.args:
            named = self._named(node.args[0], module) if isinstance(node.args[0], ast.Name) else set()
            if named:
                return named
        found = self._infer(function, env, module)
        if not found and isinstance(function, ast.Attribute) and function.attr in OF_CONTAINERS:
            return self._infer(function.value, env, module)
        return found


def _held(node: ast.expr) -> list[ast.expr]:
    """The parts of an expression that its value may be, or hold."""
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.Dict):
        return node.values
    if isinstance(node, ast.DictComp):
        return [node.value]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return node.elts
    if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
        return [node.elt]
    if isinstance(node, ast.BoolOp):
        return node.values
    return [node.value] if isinstance(node, ast.Subscript | ast.Starred | ast.NamedExpr) else []


def _is_call(node: ast.AST, names: set[str]) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """Targets with their own values where both sides are tuples."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]
