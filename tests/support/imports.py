"""Who imports whom: read from the sources, nothing is imported."""

import ast
from functools import cache
from pathlib import Path

from support.places import ROOT


def sources(package: Path = ROOT / "harness") -> dict[str, str]:
    """Return module name → source of a whole package; a folder is named as the package that it is."""
    names = {path: path.relative_to(package.parent).with_suffix("").parts for path in sorted(package.rglob("*.py"))}
    return {".".join(parts).removesuffix(".__init__"): path.read_text() for path, parts in names.items()}


def imports(module: str, modules: dict[str, str], at_import_time: bool = False) -> frozenset[str]:
    """Return the absolute names that a module imports; only those that run on import, or all of them.

    "from a import b" names both a and a.b, for b may be a module; import_module(f"a.{b}") names all that are in a.
    """
    is_package = module in packages(frozenset(modules))
    names = _parsed(module, modules[module], is_package, at_import_time)
    return names | {other for name in names if name.endswith(".") for other in modules if other.startswith(name)}


@cache
def packages(modules: frozenset[str]) -> frozenset[str]:
    """Return which names have modules below them."""
    return frozenset(module.rpartition(".")[0] for module in modules)


@cache
def _parsed(module: str, source: str, is_package: bool, at_import_time: bool) -> frozenset[str]:
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if at_import_time and isinstance(node, ast.If) and _is_for_types(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            origin = _origin(node, module, is_package)
            names.add(origin)
            names.update(f"{origin}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names.add(next(part.value for part in ast.walk(node) if isinstance(part, ast.Constant)))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return frozenset(names)


def _is_for_types(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _origin(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """Return the absolute name of the module after "from": each dot beyond the first goes one package up."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    package = parts[: len(parts) - node.level + is_package]
    return ".".join([*package, node.module] if node.module else package)


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def reached(module: str, modules: dict[str, str]) -> set[str]:
    """Return everything that importing a module imports, through the package's own modules and their packages."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        for name in imports(todo.pop(), modules, at_import_time=True):
            parts = name.split(".")
            new = {".".join(parts[:length]) for length in range(1, len(parts) + 1)} - seen
            seen |= new
            todo += [module for module in new if module in modules]
    return seen


def arrows(modules: dict[str, str]) -> dict[str, set[str]]:
    """Return module → the package's own modules that it imports, now or later; packages themselves are left out."""
    leaves = set(modules) - packages(frozenset(modules))
    return {module: set(imports(module, modules) & leaves) - {module} for module in sorted(leaves)}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that can be reached from each other."""
    beyond = {node: _reachable(node, graph) for node in graph}
    groups = {tuple(sorted(other for other in beyond[node] if node in beyond[other])) for node in graph}
    return sorted(list(group) for group in groups if group)


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = graph[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def class_names(source: str) -> list[str]:
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
