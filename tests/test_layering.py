"""The two halves of the house: the reading side starts without torch, the mathematics knows no folders."""

import ast
import subprocess
import sys
from functools import cache

import pytest
from support.places import ROOT

PACKAGE = ROOT / "harness"
TORCH_SIDE = ("harness.method", "harness.data", "harness.networks", "harness.engine", "harness.measure")
BOOKKEEPING = (
    "harness.cli", "harness.commands", "harness.store", "harness.planning", "harness.jobs", "harness.slurm",
    "harness.report",
    "harness.config.grid", "harness.config.grid_file", "harness.config.resolve", "harness.config.yaml_document",
    "harness.config.key_reference", "harness.config.cluster_profile",
)  # fmt: skip
# Mathematics needs no more; what opens files, starts programs or reads clocks is not among these.
METHOD_MAY = (
    "harness.method", "torch", "timm", "collections", "contextlib", "dataclasses", "functools", "hashlib", "itertools",
    "math", "typing",
)  # fmt: skip
HEAVY = ("torch", "torchvision", "timm", "torch_fidelity", "sklearn", "safetensors.torch")


def sources() -> dict[str, str]:
    """Return module name → source of the whole package."""
    names = {p: ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): p.read_text() for p, name in names.items()}


def imports(module: str, modules: dict[str, str], at_import_time: bool) -> frozenset[str]:
    """Return the absolute names that a module imports; only those that run on import, or all of them."""
    is_package = any(name.startswith(f"{module}.") for name in modules)
    return parsed(module, modules[module], is_package, at_import_time)


@cache
def parsed(module: str, source: str, is_package: bool, at_import_time: bool) -> frozenset[str]:
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            origin = origin_of(node, module, is_package)
            found.add(origin)
            found.update(f"{origin}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return frozenset(found)


def origin_of(node: ast.ImportFrom, module: str, is_package: bool) -> str:
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
    seen, todo = set(), [module]
    while todo:
        for name in imports(todo.pop(), modules, at_import_time=True):
            parts = name.split(".")
            new = {".".join(parts[:length]) for length in range(1, len(parts) + 1)} - seen
            seen |= new
            todo += [one for one in new if one in modules]
    return seen


def violations(modules: dict[str, str]) -> list[str]:
    wrong = []
    for module in modules:
        if within(module, TORCH_SIDE):
            every = imports(module, modules, at_import_time=False)
            wrong += [f"{module} imports {name}" for name in every if within(name, BOOKKEEPING)]
            if within(module, ("harness.method",)):
                wrong += [f"{module} imports {name}" for name in every if not within(name, METHOD_MAY)]
        else:
            wrong += [f"{module} reaches {name}" for name in reached(module, modules) if within(name, HEAVY)]
    return sorted(set(wrong))


def test_the_halves_keep_apart():
    assert violations(sources()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("harness.method.losses", "from harness.store.store import Store"),
        ("harness.method.losses", "from harness.config.grid import Table"),
        ("harness.engine.train", "def f():\n    import harness.config.grid"),
        ("harness.measure.metrics.kernel", "from harness.jobs import local_pool"),
        ("harness.store.store", "import torch"),
        ("harness.jobs.local_pool", "from harness.engine import train"),
        ("harness.report.analysis.pivot", "from harness.measure.metrics.kernel import fid"),
        ("harness.cli", "from torch.nn import Module"),
        ("harness.cli", "if not TYPE_CHECKING:\n    import torch"),
        ("harness.cli", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
        ("harness.method.losses", "from ..store import Store"),
        ("harness.method.losses", "from ..config import grid"),
        ("harness.method", "from ..config.grid_file import GridFile"),
        ("harness.engine", "from .. import store"),
        ("harness.engine.train", "def f():\n    from ..jobs.job import Job"),
        ("harness.store.store", "from ..engine import train"),
        ("harness.planning.plan", "from ..method import losses"),
        ("harness.report.analysis.pivot", "from ...measure.metrics.kernel import fid"),
        ("harness.report", "from ..measure.metrics import kernel"),
        ("harness.method.losses", "import pathlib"),
        ("harness.method.losses", "import os.path"),
        ("harness.method.losses", "from json import dumps"),
        ("harness.method.flow", "def f():\n    import io"),
        ("harness.method.objective", "from safetensors.torch import save_file"),
        ("harness.method.backbone", "import numpy as np"),
        ("harness.method", "from ..files import write_json"),
    ],
)
def test_a_forbidden_import_is_seen(module, line):
    modules = sources()
    modules[module] = f"{modules[module]}\n{line}\n"
    assert any(wrong.startswith(module) for wrong in violations(modules))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("harness.method.losses", "from .distances import gram"),
        ("harness.method.losses", "from . import distances"),
        ("harness.method", "from .losses import Potential"),
        ("harness.engine.train", "from ..method import losses"),
        ("harness.store.store", "from ..files import write_json"),
        ("harness.cli", "def f():\n    import torch"),
        ("harness.cli", "if TYPE_CHECKING:\n    import torch"),
    ],
)
def test_a_rightful_import_is_let_through(module, line):
    modules = sources()
    modules[module] = f"{modules[module]}\n{line}\n"
    assert violations(modules) == []


def test_a_package_on_the_way_is_imported_too():
    changed = {"harness.planning": "import torch", "harness.cli": "import harness.planning.plan"}
    assert "harness.cli reaches torch" in violations(sources() | changed)


# A test stands alone: what two of them share lies in tests/support.


def imported_tests(source: str) -> list[str]:
    """Return what a source imports of test modules."""
    names = imports("module", {"module": source}, at_import_time=False)
    return sorted(name for name in names if any(part.startswith("test_") for part in name.split(".")))


def test_no_test_imports_a_test():
    sources = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    assert {path: imported_tests(source) for path, source in sources.items() if imported_tests(source)} == {}


@pytest.mark.parametrize(
    "line", ["from test_train import train", "import method.test_flow", "def f():\n    from engine import test_train"]
)
def test_a_test_that_imports_a_test_is_seen(line):
    assert imported_tests(line)


LIGHT = ["harness.cli", "harness.jobs.local_pool", "harness.planning.plan", "harness.report.rendering.page"]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_do_not_load_torch(module):
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
