"""Is it right on a card: against the CPU, compiled, by several processes, stopped and gone on."""

import json
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

import harness
from card.record import Row, attempt
from card.workloads import (
    ARITHMETIC,
    COMPILED,
    EAGER,
    NAMES,
    Card,
    losses,
    random_images,
    small,
    spec,
    trainer,
    worst,
)
from harness.config.settings.resources import Resources
from harness.config.spec import TrainSpec
from harness.engine.distributed import World
from harness.engine.train import Trainer, train
from harness.networks import build
from harness.networks.checkpoint import load_weights

Rows = Iterator[tuple[str, Row]]
CPU = torch.device("cpu")
PACKAGE = str(Path(harness.__file__).parent)
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}
BY_MASK = {"index", "index_put", "index_put_"}


def correct(card: Card) -> Rows:
    """Twenty steps on the card against twenty on the CPU, of the same draws: each family, each loss with its form.

    The fault: another seed on the card.
    """
    steps = range(3 if card.tiny else 20)
    for process, kind in [(p, "dispersive") for p in NAMES] + [("flow", "contrastive")]:
        chosen: dict[str, Any] = {"process": process, "kind": kind}
        expected = losses(trainer(small(card, precision="fp32", **chosen), CPU), steps)
        for words, precision, matmul in ARITHMETIC:
            seed = {"seed": 1} if card.faulty else {}
            there = small(card, precision=precision, matmul=matmul, **chosen, **seed)
            yield f"{NAMES[process]}, {kind}, {words}", attempt(partial(difference, card, there, steps, expected))


def difference(card: Card, chosen: TrainSpec, steps: range, expected: list[float]) -> Row:
    """Take the steps on the card, and return how far they are from what is expected."""
    return {"worst relative difference": worst(expected, losses(trainer(chosen, card.device), steps))}


def syncs(card: Card) -> Rows:
    """Places where the host waits for the GPU in the second step of a family.

    On a CPU those that would: a tensor is read as a number, or its shape depends on what it holds. The fault: the step
    reads its loss.
    """
    for process in NAMES:
        made = trainer(small(card, process=process), card.device)
        losses(made, range(1))
        seen = OnCard() if card.on_gpu else OnCpu()
        with seen:
            loss = made.step(1)["loss"]
            if card.faulty:
                loss.item()
        yield NAMES[process], {"host waits": len(seen.places), "at": ", ".join(sorted(set(seen.places))) or "nowhere"}


class OnCard(AbstractContextManager["OnCard"]):
    """The places, file:line, at which CUDA made the host wait."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self.caught = warnings.catch_warnings(record=True)

    def __enter__(self) -> "OnCard":
        self.warned: Any = self.caught.__enter__()
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.cuda.set_sync_debug_mode("default")
        waits = [warning for warning in self.warned or [] if "synchroniz" in str(warning.message)]
        self.places = [f"{Path(warning.filename).name}:{warning.lineno}" for warning in waits]
        self.caught.__exit__(kind, error, trace)


class OnCpu(TorchDispatchMode):
    """The operations, by name, that would make the host wait if the tensors were on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note where it waits."""
        name = function.overloadpacket.__name__
        if name in WAITS or (name in BY_MASK and any(i is not None and i.dtype == torch.bool for i in args[1])):
            frames = [frame for frame in traceback.extract_stack() if PACKAGE in frame.filename]
            self.places.append(f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else name)
        return function(*args, **(kwargs or {}))


def compiled(card: Card) -> Rows:
    """Compiled steps against eager ones, and how many of the calls of blocks are of compiled ones, later on.

    The families follow each other in one process, as the trainings of a table may. The pass that MeanFlow's derivative
    is taken of is not compiled. The fault: nothing is.
    """
    arms: tuple[tuple[str, str], ...] = (("SiT", "flow"), ("MeanFlow", "meanflow"), ("SiT again", "flow"))
    if card.tiny:
        arms += (("DiT", "ddpm"), ("Shortcut", "shortcut"), ("IMM", "imm"), ("iCT", "consistency"))
    for name, process in arms:
        chosen = small(card, process=process) if card.tiny else spec(card.sized("S"), 32, process)
        yield name, attempt(partial(compiled_steps, card, chosen))


def compiled_steps(card: Card, chosen: TrainSpec) -> Row:
    """Return how five compiled steps differ from eager ones, and which share of the fifth one's blocks is compiled."""
    calls = block_calls(trainer(chosen, card.device))
    calls -= chosen.model.depth if chosen.process == "meanflow" else 0
    expected = losses(trainer(chosen, card.device), range(5))
    with counting(card) as compiled_calls:
        made = trainer(chosen, card.device, EAGER if card.faulty else COMPILED)
        measured = losses(made, range(4))
        compiled_calls[0] = 0
        measured += losses(made, range(4, 5))
    return {
        "blocks called in a step": calls,
        "compiled / called": compiled_calls[0] / calls,
        "worst relative difference": worst(expected, measured),
    }


def block_calls(made: Trainer) -> int:
    """Return how often the fifth step calls a block of the network or of its average."""
    losses(made, range(4))
    calls = [0]

    def count(*_: Any) -> None:
        calls[0] += 1

    hooks = [block.register_forward_pre_hook(count) for net in (made.net, made.ema) for block in net.blocks]
    losses(made, range(4, 5))
    for hook in hooks:
        hook.remove()
    return calls[0]


@contextmanager
def counting(card: Card) -> Iterator[list[int]]:
    """Count the calls of compiled graphs: Inductor's on a card, and in the rehearsal the graphs as they are traced."""
    from torch._inductor.compile_fx import compile_fx

    calls = [0]

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        made: Any = graph.forward if card.tiny else compile_fx(graph, inputs)

        def call(*arguments: Any) -> Any:
            calls[0] += 1
            return made(*arguments)

        return call

    with mock.patch.object(build, "BACKEND", backend):
        yield calls


def ddp(card: Card) -> Rows:
    """The same steps by DDP: one process by NCCL, and two that share the card by gloo; with micro-batches as well.

    The fault: the second process learns from other images.
    """
    steps = range(2 if card.tiny else 6)
    how = "NCCL" if card.on_gpu else "gloo"
    for precision in ("fp32", "bf16"):
        yield f"one process, {how}, {precision}", attempt(partial(alone, card, small(card, precision=precision), steps))
    half = small(card).batch // 4
    again = Resources(micro_batch=half, checkpoint_blocks=True)
    arms = {
        "two processes, fp32": (small(card, precision="fp32"), EAGER),
        f"two processes, micro-batch {half} and blocks again, fp32": (small(card, precision="fp32"), again),
        "two processes, bf16": (small(card), EAGER),
    }
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(share, (card, list(arms.values()), steps, folder), 2, daemon=True)
        measured = json.loads(Path(folder, "losses.json").read_text())
    for (name, (chosen, _)), curve in zip(arms.items(), measured, strict=True):
        expected = losses(trainer(chosen, card.device), steps)
        yield name, {"worst relative difference": worst(expected, curve)}


def alone(card: Card, chosen: TrainSpec, steps: range) -> Row:
    """Return how steps of a process that exchanges gradients with itself alone differ from those without."""
    expected = losses(trainer(chosen, card.device), steps)
    with tempfile.TemporaryDirectory() as folder:
        method = f"file://{folder}/rendezvous"
        dist.init_process_group("nccl" if card.on_gpu else "gloo", init_method=method, rank=0, world_size=1)
        try:
            made = trainer(chosen, card.device)
            first = losses(made, steps[:1])
            made.module = DistributedDataParallel(made.objective)
            return {"worst relative difference": worst(expected, first + losses(made, steps[1:]))}
        finally:
            dist.destroy_process_group()


def share(rank: int, card: Card, arms: list[tuple[TrainSpec, Resources]], steps: range, folder: str) -> None:
    """Take the steps of each arm as one of two processes on one device; the first writes the losses of both."""
    if card.on_gpu:
        torch.cuda.set_device(card.device)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    world, curves = World(rank, 2), []
    for chosen, resources in arms:
        mine = chosen.model_copy(update={"seed": 1}) if card.faulty and rank else chosen
        made = trainer(mine, card.device, resources, world)
        own = torch.tensor(losses(made, steps), dtype=torch.float64)
        curves.append(torch.stack(world.all_gather(own)).mean(0).tolist())
    if world.leads:
        Path(folder, "losses.json").write_text(json.dumps(curves))
    dist.destroy_process_group()


def resume(card: Card) -> Rows:
    """Twenty steps, and ten with ten more from their checkpoint, by the project's own `train`.

    The fault: the second training has another seed.
    """
    kept, chosen = [], small(card)
    images = random_images(1024, chosen.data.size)
    often = Resources(checkpoint_minutes=1e-6, log_every=5)
    for stops in ((20,), (10, 20)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for stop in stops:
                train(chosen, images, folder / "weights", folder / "train.jsonl", [stop], often, lambda step: None)
                if card.faulty:
                    chosen = chosen.model_copy(update={"seed": 1})
            kept.append(load_weights(folder / "weights", 20, "model"))
    whole, halves = kept
    largest = max(float((whole[name] - halves[name]).abs().max()) for name in whole)
    yield "10 + 10 steps against 20", {"largest difference": largest, "bit for bit": largest == 0}
