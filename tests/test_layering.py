"""The rooms of the house: who may import whom, what starts without torch, and that a name means one thing."""

import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache

import pytest
from support.imports import arrows, circles, class_names, imports, reached, sources, within
from support.places import ROOT

GROUND = (
    "checkpoint_paths", "credentials", "errors", "files", "metric_definitions", "picture_files", "picture_folder",
    "pictures", "plain_text",
    "plugins", "gpu", "process_group",
)  # fmt: skip
# What a run is, for those who compute: no grids, no stores, no jobs.
WORDS = ("config.spec", "config.settings", "config.kinds", "config.imported_weights")
COMPUTES = ("measure", "engine", "networks", "data", "method")
# Room → what it may import of the package besides itself and the ground; the longest name that fits a module counts.
MAY_IMPORT = {
    "cli": ("commands", "slurm", "launchers", "jobs", "report", "planning", "store", "config", *COMPUTES),
    "commands": ("slurm", "launchers", "jobs", "report", "planning", "store", "config", *COMPUTES),
    "slurm": ("launchers", "jobs", "store", "config"),
    "slurm.diagnostics": ("slurm", "launchers", "engine.distributed", "jobs", "store", "config"),
    "slurm.task": ("slurm", "launchers", "engine.distributed", "engine.sample_cache", "jobs", "store", "config"),
    "launchers": ("jobs", "store", "config"),
    "jobs": ("store", "config", *COMPUTES),
    "report": ("store", "config"),
    "report.rendering": (
        "report.second_process",
        "report.rivals",
        "report.figures",
        "report.analysis",
        "report.reading",
        "store",
        "config",
    ),
    "report.rivals": ("report.figures", "report.analysis", "report.reading", "store", "config"),
    "report.figures": ("report.analysis", "report.reading", "store", "config"),
    "report.analysis": ("report.reading", "store", "config"),
    "report.reading": ("planning", "store", "config"),
    "planning": ("store", "config"),
    "measure": ("engine", "networks", "data", "method", *WORDS),
    "engine": ("networks", "data", "method", *WORDS),
    "networks": ("data", "method", *WORDS),
    "data": ("method", *WORDS),
    "method": (),
    "store": ("config",),
    "config": (),
    **{module: () for module in GROUND},
}
HEAVY = ("torch", "torchvision", "timm", "torch_fidelity", "sklearn", "safetensors.torch")
# These compute nothing: no torch in them, not even within a function.
TORCHLESS = (
    "cli", "report", "planning", "store", "config", "metric_definitions", "errors", "files", "checkpoint_paths",
    "credentials", "picture_files", "picture_folder", "pictures", "plain_text", "plugins",
)  # fmt: skip
# Mathematics needs no more; what opens files, starts programs or reads clocks is not among these.
METHOD_USES = (
    "harness.method", "torch", "timm", "collections", "contextlib", "dataclasses", "functools", "hashlib", "itertools",
    "math", "typing",
)  # fmt: skip
MOST_MODULES = 13


def in_package(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"harness.{name}" for name in names)


@cache
def room_of(module: str) -> str:
    """Return the longest name of MAY_IMPORT in which a module lies."""
    return max((room for room in MAY_IMPORT if within(module, in_package((room,)))), key=len, default="")


def may_import(module: str, name: str) -> bool:
    """Does the table allow a module to import another of the package, or the package that leads to it?"""
    room = room_of(module)
    ground = () if room == "method" else GROUND
    allowed = in_package((room, *MAY_IMPORT[room], *ground))
    return within(name, allowed) or any(other.startswith(f"{name}.") for other in allowed)


def forbidden_imports(modules: dict[str, str]) -> list[str]:
    """Return which module imports what its room may not, lazily or for types' sake too."""
    wrong = []
    for module in set(modules) - {"harness"}:
        if not room_of(module):
            wrong.append(f"{module} lies in no room")
            continue
        for name in imports(module, modules):
            if name in modules and name != "harness" and not may_import(module, name):
                wrong.append(f"{module} imports {name}")
            if room_of(module) == "method" and not within(name, METHOD_USES):
                wrong.append(f"{module} imports {name}")
    return sorted(set(wrong))


def forbidden_weight(modules: dict[str, str]) -> list[str]:
    """Return where torch and its like are loaded though nothing is computed yet, or is ever."""
    wrong = []
    for module in modules:
        if not within(module, in_package(COMPUTES)):
            wrong += [f"{module} reaches {name}" for name in reached(module, modules) if within(name, HEAVY)]
        if within(module, in_package(TORCHLESS)):
            wrong += [f"{module} imports {name}" for name in imports(module, modules) if within(name, HEAVY)]
    return sorted(set(wrong))


def names_told_twice(modules: dict[str, str]) -> list[str]:
    """Return the last parts of module names, and the names of classes, that more than one module bears."""
    owners = defaultdict(list)
    for module in arrows(modules):
        for name in (module.rpartition(".")[2], *class_names(modules[module])):
            owners[name].append(module)
    return sorted(f"{name}: {', '.join(where)}" for name, where in owners.items() if len(where) > 1)


def crowded(modules: dict[str, str]) -> list[str]:
    sizes = Counter(module.rpartition(".")[0] for module in arrows(modules))
    return sorted(f"{room}: {size}" for room, size in sizes.items() if size > MOST_MODULES)


# The house as it is.


def test_each_room_imports_what_it_may():
    assert forbidden_imports(sources()) == []


def test_no_module_imports_what_imports_it():
    assert circles(arrows(sources())) == []


def test_a_name_means_one_thing():
    assert names_told_twice(sources()) == []


def test_a_folder_is_taken_in_at_a_glance():
    assert crowded(sources()) == []


def test_nothing_heavy_is_loaded_where_nothing_is_computed():
    assert forbidden_weight(sources()) == []


@pytest.mark.parametrize(
    "module", ["harness.cli", "harness.jobs.local_pool", "harness.planning.plan", "harness.report.rendering.page"]
)
def test_light_modules_do_not_load_torch(module):
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# The rules are seen to fail.


def with_line(module: str, line: str) -> dict[str, str]:
    modules = sources()
    return modules | {module: f"{modules[module]}\n{line}\n"}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("harness.method.losses", "from harness.store.store import Store"),
        ("harness.method.losses", "from harness.config.grid import Table"),
        ("harness.method.losses", "from ..store import Store"),
        ("harness.method.losses", "from ..config import grid"),
        ("harness.method", "from ..config.grid_file import GridFile"),
        ("harness.method", "from ..files import write_json"),
        ("harness.method.losses", "import pathlib"),
        ("harness.method.losses", "import os.path"),
        ("harness.method.losses", "from json import dumps"),
        ("harness.method.processes.flow", "def f():\n    import io"),
        ("harness.method.objective", "from safetensors.torch import save_file"),
        ("harness.method.backbone", "import numpy as np"),
        ("harness.data.datasets", "from ..networks import build"),
        ("harness.networks.build", "from ..engine.train import train"),
        ("harness.engine.train", "def f():\n    import harness.config.grid"),
        ("harness.engine.train", "def f():\n    from ..jobs.job import Job"),
        ("harness.engine.train", "from ..measure import evaluate"),
        ("harness.engine", "from .. import store"),
        ("harness.measure.metrics.kernel", "from harness.jobs import job"),
        ("harness.measure.evaluate", "from ..config import resolve"),
        ("harness.jobs.job", "if TYPE_CHECKING:\n    from ..report.analysis.pivot import Pivot"),
        ("harness.jobs.job", "def f():\n    from ..commands import options"),
        ("harness.jobs.job", "def f(name):\n    importlib.import_module(f'harness.commands.{name}')"),
        ("harness.jobs.job", "def f():\n    import_module('harness.commands.report')"),
        ("harness.slurm.client", "from ..engine.train import train"),
        ("harness.slurm.client", "from ..planning import plan"),
        ("harness.store.store", "from ..engine import train"),
        ("harness.store.store", "from ..report.reading.collect import collect"),
        ("harness.planning.plan", "from ..method import losses"),
        ("harness.planning.plan", "from ..report.reading import collect"),
        ("harness.config.spec", "from ..store.store import Store"),
        ("harness.files", "from .store import store"),
        ("harness.errors", "def f():\n    from .commands import options"),
        ("harness.report.analysis.pivot", "from ...measure.metrics.kernel import fid"),
        ("harness.report.analysis.pivot", "from ..rendering import page"),
        ("harness.report.figures.picture", "from ..rendering.page import report"),
        ("harness.report.reading.collect", "def f():\n    from ..figures import svg"),
        ("harness.report", "from ..measure.metrics import kernel"),
        ("harness.report.comparison", "from ..jobs.job import Job"),
        ("harness.report.comparison", "from ..slurm.client import queued"),
    ],
)
def test_a_forbidden_import_is_seen(module, line):
    assert any(wrong.startswith(f"{module} imports ") for wrong in forbidden_imports(with_line(module, line)))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("harness.method.losses", "from .distances import gram"),
        ("harness.method.losses", "from . import distances"),
        ("harness.method", "from .losses import Potential"),
        ("harness.engine.train", "from ..method import losses"),
        ("harness.engine.train", "from ..config import spec"),
        ("harness.measure.evaluate", "from ..config.settings import Data"),
        ("harness.store.store", "from ..files import write_json"),
        ("harness.slurm.diagnostics", "def f():\n    from ..engine.distributed import World"),
        ("harness.report.rendering.page", "from ..analysis.pivot import pivot"),
        ("harness.report.comparison", "from .rendering.page import report"),
        ("harness.cli", "def f():\n    import torch"),
        ("harness.cli", "if TYPE_CHECKING:\n    from .slurm import client"),
    ],
)
def test_a_rightful_import_is_let_through(module, line):
    assert forbidden_imports(with_line(module, line)) == []


def test_a_module_beside_the_rooms_is_seen():
    assert forbidden_imports(sources() | {"harness.helpers": ""}) == ["harness.helpers lies in no room"]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("harness.store.store", "import torch"),
        ("harness.jobs.local_pool", "from harness.engine import train"),
        ("harness.report.analysis.pivot", "from ...measure.metrics.kernel import fid"),
        ("harness.report.analysis.pivot", "def f():\n    import torch"),
        ("harness.planning.plan", "if TYPE_CHECKING:\n    from torch import Tensor"),
        ("harness.cli", "from torch.nn import Module"),
        ("harness.cli", "if not TYPE_CHECKING:\n    import torch"),
        ("harness.cli", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
        ("harness.slurm.client", "from sklearn.datasets import load_digits"),
    ],
)
def test_a_heavy_import_is_seen(module, line):
    assert any(wrong.startswith(module) for wrong in forbidden_weight(with_line(module, line)))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("harness.jobs.local_pool", "def f():\n    import torch"),
        ("harness.jobs.local_pool", "if TYPE_CHECKING:\n    import torch"),
        ("harness.engine.train", "import torch"),
    ],
)
def test_a_heavy_import_that_waits_is_let_through(module, line):
    assert forbidden_weight(with_line(module, line)) == []


def test_a_package_on_the_way_is_imported_too():
    changed = {"harness.planning": "import torch", "harness.cli": "import harness.planning.plan"}
    assert "harness.cli reaches torch" in forbidden_weight(sources() | changed)


@pytest.mark.parametrize(
    "line",
    [
        "from .files import write_json",
        "def f():\n    from .files import write_json",
        "if TYPE_CHECKING:\n    import harness.files",
    ],
)
def test_a_circle_is_seen(line):
    modules = {"harness": "", "harness.files": "from .errors import UserError", "harness.errors": line}
    assert circles(arrows(modules)) == [["harness.errors", "harness.files"]]
    assert circles(arrows(modules | {"harness.errors": ""})) == []


def test_a_name_that_is_told_twice_is_seen():
    modules = {"harness": "", "harness.a.plan": "class Cost: ...", "harness.a.b": "", "harness.c.cost": ""}
    assert names_told_twice(modules) == []
    more = {"harness.c.plan": "", "harness.c.d": "def f():\n    class Cost: ..."}
    assert names_told_twice(modules | more) == [
        "Cost: harness.a.plan, harness.c.d", "plan: harness.a.plan, harness.c.plan",
    ]  # fmt: skip


def test_a_crowded_folder_is_seen():
    modules = {"harness": "", "harness.a": ""} | {f"harness.a.m{n}": "" for n in range(MOST_MODULES)}
    assert crowded(modules) == []
    assert crowded(modules | {"harness.a.more": ""}) == ["harness.a: 14"]


# A test stands alone: what two of them share lies in tests/support.


def imported_tests(source: str) -> list[str]:
    """Return what a source imports of test modules."""
    names = imports("module", {"module": source})
    return sorted(name for name in names if any(part.startswith("test_") for part in name.split(".")))


def test_no_test_imports_a_test():
    sources = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    assert {path: imported_tests(source) for path, source in sources.items() if imported_tests(source)} == {}


@pytest.mark.parametrize(
    "line", ["from test_train import train", "import method.test_flow", "def f():\n    from engine import test_train"]
)
def test_a_test_that_imports_a_test_is_seen(line):
    assert imported_tests(line)
