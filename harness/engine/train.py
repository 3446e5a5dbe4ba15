"""Training: AdamW, EMA, bf16, a log, and a resume that cannot be told from never having stopped.

Randomness is a function of the step, so nothing of a generator's state is stored; times, noise, label drops and the
order of the data are drawn for the whole batch whatever is done with it. Several processes, and several micro-batches,
give the mean of their gradients: the mean over the regulariser's groups, as the paper's devices do.
"""

import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.checkpoint_files import latest_step, weights_path
from harness.config.settings import Resources
from harness.config.spec import TrainSpec
from harness.data.datasets import Dataset
from harness.engine.batches import Batch, Batches
from harness.engine.distributed import ALONE, World, device
from harness.engine.metric_logger import Window, append, cut, floor_of
from harness.engine.regularizer_health import Health
from harness.method.objective import LearnsFromAverage, Objective
from harness.networks import checkpoint
from harness.networks.build import build_objective, equip_blocks
from harness.networks.encoder import Encoder

MOMENTS = ("exp_avg", "exp_avg_sq")
DEFAULT = Resources()
Attend = Callable[[Callable[[], None]], None]


class Trainee:
    """Everything that a training step changes: network, EMA, AdamW's moments and, with REPA, the projector; equal in
    every process. The encoder is frozen, and no part of what is stored."""

    def __init__(
        self,
        spec: TrainSpec,
        device: torch.device,
        resources: Resources = DEFAULT,
        world: World = ALONE,
        encoder: Encoder | None = None,
    ) -> None:
        self.spec = spec
        self.device = device
        self.encoder = encoder.to(device) if encoder else None
        self.objective: Objective = build_objective(spec, encoder.width if encoder else None).to(device)
        self.net = self.objective.net
        self.ema = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(spec.ema))
        self.ema.n_averaged.fill_(1)  # the average starts at the initial weights, as in the public DiT code
        if isinstance(self.objective.process, LearnsFromAverage):
            self.objective.process = self.objective.process.with_average(self.ema.module)
        rates = spec.optimizer
        self.optimizer = torch.optim.AdamW(
            self._trained().values(),
            lr=rates.learning_rate,
            betas=(rates.beta1, rates.beta2),
            weight_decay=rates.weight_decay,
            fused=True,
        )
        self.batches = Batches(spec, self.objective, world, resources.micro_batch)
        equip_blocks(self.net, resources)
        self.health = Health(self.objective, world, self._autocast)
        self.module: Objective | DistributedDataParallel = self.objective
        if world.size > 1:
            self.module = DistributedDataParallel(self.objective)

    def step(self, dataset: Dataset, step: int, look: bool = False) -> dict[str, Tensor]:
        """Take training step `step` (counted from 0) and return its loss terms, detached: of this process's samples.

        look: into the regulariser's health as well.
        """
        batches = self.batches.get(dataset, step)
        if look:
            self.health.look([batch.to(self.device) for batch in batches], first=step == 0)
        self.optimizer.zero_grad()
        *others, last = batches
        with self._no_exchange() if others else nullcontext():
            parts = [self._backward(batch, len(batches)) for batch in others]
        parts.append(self._backward(last, len(batches)))
        self.optimizer.step()
        self.ema.update_parameters(self.net)
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def _backward(self, batch: Batch, parts: int) -> dict[str, Tensor]:
        """Add one of `parts` micro-batches' share of the gradient, and return its loss terms, detached."""
        batch = batch.to(self.device)
        with self._autocast():
            features = self.encoder(batch.images) if self.encoder else None
            terms: dict[str, Tensor] = self.module(batch.x, batch.y, batch.draws, features)
        (terms["loss"] / parts).backward()
        return {name: term.detach() for name, term in terms.items()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16")

    def _no_exchange(self) -> AbstractContextManager[None]:
        """Gradients stay in their process: only the last micro-batch's backward pass exchanges the sum of them all."""
        return self.module.no_sync() if isinstance(self.module, DistributedDataParallel) else nullcontext()

    def gradient_norm(self) -> float:
        """Return the ℓ2 norm of the last step's gradient."""
        gradients = [p.grad for p in self.objective.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def _trained(self) -> dict[str, nn.Parameter]:
        """All that AdamW updates: the network's parameters by their own names, then "alignment.projector. …"."""
        named = self.objective.named_parameters()
        return {name.removeprefix("net."): p for name, p in named if p.requires_grad}

    def _projector(self) -> dict[str, Tensor]:
        return {name: t for name, t in self.objective.state_dict().items() if name.startswith("alignment.")}

    def weights(self) -> dict[str, Tensor]:
        """Return network and EMA under the names of `checkpoint.load_weights`."""
        model = {f"model.{name}": t for name, t in self.net.state_dict().items()}
        return model | {f"ema.{name}": t for name, t in self.ema.module.state_dict().items()}

    def begin(self, folder: Path) -> None:
        """Begin from the kept weights of step 0, network and EMA each from its own."""
        self.net.load_state_dict(checkpoint.load_weights(folder, 0, "model"))
        self.ema.module.load_state_dict(checkpoint.load_weights(folder, 0, "ema"))

    def state(self) -> dict[str, Tensor]:
        """Return all that a resumed training needs beside its step."""
        names = list(self._trained())
        moments = self.optimizer.state_dict()["state"]
        return (
            self.weights() | self._projector() | {f"{m}.{names[i]}": s[m] for i, s in moments.items() for m in MOMENTS}
        )

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take back what `state` gave."""

        def part(kind: str) -> dict[str, Tensor]:
            return {name.removeprefix(f"{kind}."): t for name, t in tensors.items() if name.startswith(f"{kind}.")}

        self.net.load_state_dict(part("model"))
        if self.objective.alignment:
            self.objective.alignment.load_state_dict(part("alignment"))
        self.ema.module.load_state_dict(part("ema"))
        names = list(self._trained())
        moments = {m: part(m) for m in MOMENTS}
        content = self.optimizer.state_dict()
        content["state"] = {
            i: {"step": torch.tensor(float(step)), **{m: moments[m][name] for m in MOMENTS}}
            for i, name in enumerate(names)
        }
        self.optimizer.load_state_dict(content)


def train(
    spec: TrainSpec,
    dataset: Dataset,
    folder: Path,
    log: Path,
    keep: Collection[int],
    resources: Resources,
    beat: Callable[[int], None],
    world: World = ALONE,
    encoder: Encoder | None = None,
    attend: Attend = lambda save: None,
) -> None:
    """Train until the last step of `keep`, and keep the weights of each of them in `folder`.

    Goes on from the folder's checkpoint where there is one; weights that are kept already are not made again. Steps
    that lie before the checkpoint are trained for in a folder of their own, so that nothing stored is lost.
    A spec that begins from imported weights finds them kept as those of step 0.
    `beat(step)` is called after every step. All processes of the world must call this; the leading one writes.
    `attend(save)` is called after every step: who must end the training soon calls `save` before, in all processes.
    `encoder`: the frozen one that the spec aligns with.

    Raises:
        Diverged: a loss or gradient is not finite, in all processes; the checkpoint before it stays.
        UserError: the regulariser has no gradient at the first step.
    """
    aside = folder / "behind"

    def look() -> tuple[set[int], set[int]]:
        """Return the steps that are wanted before and after the checkpoint."""
        wanted = {step for step in keep if not weights_path(folder, step).is_file()}
        behind = {step for step in wanted if step < latest_step(folder)}
        if behind and latest_step(aside) > min(behind):
            shutil.rmtree(aside)  # left by a job that was killed, and too far on for this one
        return behind, wanted - behind

    behind, ahead = world.decide(look)
    course = partial(
        _advance, spec, dataset, folder,
        resources=resources, beat=beat, world=world, encoder=encoder, attend=attend,
    )  # fmt: skip
    with matmul_precision(spec.matmul):
        if behind:
            course(aside, aside / "train.jsonl", behind)
            if world.leads:
                shutil.rmtree(aside)
        if ahead:
            course(folder, log, ahead)


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set torch's precision of float32 matrix products, and put back what was: measuring has its own."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _advance(
    spec: TrainSpec,
    dataset: Dataset,
    kept: Path,
    state: Path,
    log: Path,
    wanted: Collection[int],
    resources: Resources,
    beat: Callable[[int], None],
    world: World,
    encoder: Encoder | None,
    attend: Attend,
) -> None:
    """Train from the checkpoint in `state` to the last of the wanted steps, and keep their weights in `kept`."""
    trainee = Trainee(spec, device(), resources, world, encoder)
    window = Window(floor_of(trainee.objective.regularizer))
    step, last = _resume(trainee, state, log, window, world), max(wanted)
    if spec.weights and step == 0:
        trainee.begin(kept)
    if step in wanted and world.leads:
        checkpoint.save_weights(kept, step, trainee.weights())
    saved = time.monotonic()
    while step < last:
        told = step + 1 in wanted or (step + 1) % resources.log_every == 0
        window.add(trainee.step(dataset, step, look=told or step == 0))
        step += 1
        beat(step)
        if told:
            line = window.line(step, spec.batch, trainee.gradient_norm(), world) | trainee.health.line()
            window = Window(floor_of(trainee.objective.regularizer))
            if world.leads:
                append(log, line)
                if step in wanted:
                    checkpoint.save_weights(kept, step, trainee.weights())
                if step == last or time.monotonic() - saved > 60 * resources.checkpoint_minutes:
                    checkpoint.save_state(state, step, trainee.state())
                    saved = time.monotonic()
        attend(partial(_save, state, step, trainee, window, world))


def _save(folder: Path, step: int, trainee: Trainee, window: Window, world: World) -> None:
    """Write a checkpoint between two lines of the log; all processes must call this."""
    unsaid = window.state(world)
    if world.leads:
        checkpoint.save_state(folder, step, trainee.state() | unsaid)


def _resume(trainee: Trainee, folder: Path, log: Path, window: Window, world: World) -> int:
    """Restore the latest state, in all processes, and cut the log to it."""
    step = world.decide(lambda: latest_step(folder))
    if step:
        tensors = checkpoint.load_state(folder)
        trainee.restore(tensors, step)
        window.restore(tensors, trainee.device, world)
    if world.leads:
        cut(log, step)
    return step
