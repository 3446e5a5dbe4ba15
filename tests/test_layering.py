"""The two halves of the house: the reading side starts without torch, the mathematics knows no folders."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "harness"
TORCH_SIDE = ("harness.method", "harness.engine", "harness.measure")
BOOKKEEPING = ("harness.store", "harness.grid", "harness.document", "harness.launch", "harness.report", "harness.cli")
HEAVY = ("torch", "torchvision", "timm", "torch_fidelity", "sklearn", "safetensors.torch")


def sources() -> dict[str, str]:
    """Return module name → source of the whole package."""
    names = {p: ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): p.read_text() for p, name in names.items()}


def imports(source: str, at_import_time: bool) -> set[str]:
    """Return the modules that a source imports; only those that run on import, or all of them."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def reached(module: str, modules: dict[str, str]) -> set[str]:
    """Return everything that importing a module imports, through the package's own modules."""
    seen, todo = set(), [module]
    while todo:
        for name in imports(modules[todo.pop()], at_import_time=True) - seen:
            seen.add(name)
            if name in modules:
                todo.append(name)
    return seen


def violations(modules: dict[str, str]) -> list[str]:
    wrong = []
    for module, source in modules.items():
        if within(module, TORCH_SIDE):
            wrong += [f"{module} imports {name}" for name in imports(source, False) if within(name, BOOKKEEPING)]
        else:
            wrong += [f"{module} reaches {name}" for name in reached(module, modules) if within(name, HEAVY)]
        if within(module, ("harness.method",)):
            own = {name for name in imports(source, False) if name.startswith("harness.")}
            wrong += [f"{module} imports {name}" for name in own if not within(name, ("harness.method",))]
    return sorted(set(wrong))


def test_the_halves_keep_apart():
    assert violations(sources()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("harness.method.losses", "from harness.store import Store"),
        ("harness.method.losses", "from harness.spec import Regularizer"),
        ("harness.engine.train", "def f():\n    import harness.grid"),
        ("harness.measure.metrics", "from harness.launch import dispatch"),
        ("harness.store", "import torch"),
        ("harness.launch.dispatch", "from harness.engine import train"),
        ("harness.report.tables", "from harness.measure.metrics import fid"),
        ("harness.cli", "from torch.nn import Module"),
    ],
)
def test_a_forbidden_import_is_seen(module, line):
    modules = sources()
    modules[module] = f"{modules[module]}\n{line}\n"
    assert any(wrong.startswith(module) for wrong in violations(modules))


LIGHT = ["harness.cli", "harness.launch.dispatch", "harness.launch.plan", "harness.report.page"]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_do_not_load_torch(module):
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
