"""The families of models, SiT in SiT-B/2: how the generative process of each is made, and what is known of it before
torch is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from harness.plugins import Registry

# Passes that a Jacobian-vector product takes beside the pass itself: each product has two terms. PyTorch makes that of
# the weights too, whose tangents are zeros.
TANGENT = 2


def no_passes(train: Any) -> float:
    """What most processes learn from needs no network."""
    return 0


def one_pass(train: Any) -> float:
    """The target is the network's own output somewhere else."""
    return 1


def meanflow_passes(train: Any) -> float:
    """A quarter takes the JVP; guidance takes a pass without label, and one with it for that quarter."""
    guided = train.meanflow is not None and (train.meanflow.omega, train.meanflow.kappa) != (1, 0)
    return TANGENT / 4 + (5 / 4 if guided else 0)


def shortcut_passes(train: Any) -> float:
    """Some learn from two half steps; where these are the smallest, one in seven, they are guided."""
    assert train.shortcut is not None, train
    return float(2 / train.shortcut.every * (1 + (1 / 7 if train.shortcut.guidance != 1 else 0)))


@dataclass(frozen=True)
class ProcessKind:
    """An entry of the registry, under the name of its family.

    make: given the `TrainSpec` and its settings, the `Process` of `method/processes/process.py`; such as its class, or
    "module:name" of that. predicts: the report's words on it. samplers: those of `SAMPLERS` that suit it, beside those
    that name it. Settings: model of its keys under `process` (`config.settings.Frozen`); given as None where there is
    none. second_time: the network is given two times. learns_variance: it has twice as many outputs. passes: given the
    `TrainSpec`, the passes without gradient that make what an image learns from, the mean where they are drawn.
    noise_levels: the process has `noise_level(t)`, which guidance in an interval of these needs. unguided: why there is
    no guidance in sampling. process: what specs call it, where that is not the family's name.
    """

    make: Callable[..., Any] | str
    predicts: str = ""
    samplers: tuple[str, ...] = ()
    Settings: Any = None
    second_time: bool = False
    learns_variance: bool = False
    passes: Callable[[Any], float] = no_passes
    noise_levels: bool = False
    unguided: str = ""
    process: str = ""

    def __call__(self, train: Any) -> Any:
        """Return the process of a `TrainSpec`."""
        make = resolve_name(self.make) if isinstance(self.make, str) else self.make
        written = train.process_settings.model_dump() if train.process_settings else {}
        return make(train, self.Settings.model_validate(written) if self.Settings else None)


_BUILD = "harness.networks.build:make_"
_IN_TARGET = "has its guidance in the training target:"
BUILT_IN = {
    "SiT": ProcessKind(
        f"{_BUILD}flow", samplers=("euler", "heun", "euler-maruyama"), noise_levels=True, process="flow"
    ),
    "DiT": ProcessKind(
        f"{_BUILD}ddpm", samplers=("ancestral", "ddim"), learns_variance=True, noise_levels=True, process="ddpm"
    ),
    "MF": ProcessKind(
        f"{_BUILD}meanflow", samplers=("average-velocity",), second_time=True, passes=meanflow_passes,
        unguided=f"MF {_IN_TARGET} meanflow.omega, kappa, start and end", process="meanflow",
    ),
    "Shortcut": ProcessKind(
        f"{_BUILD}shortcut", samplers=("shortcut",), second_time=True, passes=shortcut_passes,
        unguided=f"Shortcut {_IN_TARGET} shortcut.guidance", process="shortcut",
    ),
    "IMM": ProcessKind(
        f"{_BUILD}imm", samplers=("pushforward",), second_time=True, passes=one_pass, noise_levels=True, process="imm"
    ),
    "iCT": ProcessKind(
        f"{_BUILD}consistency", samplers=("one-step",), passes=one_pass,
        unguided="iCT is sampled without guidance", process="consistency",
    ),
}  # fmt: skip
FAMILIES = {kind.process: family for family, kind in BUILT_IN.items()}  # of what specs call them
PROCESSES: Registry[ProcessKind] = Registry("processes", "family of models", BUILT_IN)


def process_name(family: str) -> str:
    """Return what specs call a family's process: of plug-ins its own name."""
    return BUILT_IN[family].process if family in BUILT_IN else family


def process_kind(process: str) -> ProcessKind:
    """Return the entry of a spec's process.

    Raises:
        UserError: it is of a plug-in that is not here.
    """
    return PROCESSES[FAMILIES.get(process, process)]
