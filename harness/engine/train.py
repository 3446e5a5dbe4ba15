"""Training: AdamW, EMA, bf16, a log, and a resume that cannot be told from never having stopped.

Randomness is a function of the step, so nothing of a generator's state is stored; times, noise, label drops and the
order of the data are drawn for the whole batch whatever is done with it. Several processes, and several micro-batches,
give the mean of their gradients: the mean over the regulariser's groups, as the paper's devices do.
"""

import shutil
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from harness.checkpoint_paths import BEHIND, latest_step, weights_path
from harness.config.settings.resources import Resources
from harness.config.spec import TrainSpec
from harness.data.datasets import Dataset
from harness.data.page_cache import pre_reading
from harness.engine.batches import Batch, Batches
from harness.engine.checkpoint_writer import CheckpointWriter
from harness.engine.distributed import ALONE, World
from harness.engine.metric_logger import MetricAverager, append, cut, is_early
from harness.engine.moving_average import MovingAverage
from harness.engine.term_health import TermHealth
from harness.gpu import device
from harness.method.backbone import DiT
from harness.method.objective import Objective
from harness.method.precision import matmul_precision
from harness.method.processes.process import LearnsFromAverage
from harness.method.terms import Term
from harness.networks import checkpoint
from harness.networks.build import build_objective, equip_blocks
from harness.networks.encoder import FrozenEncoder

MOMENTS = ("exp_avg", "exp_avg_sq")
SAMPLED = ("model", "ema")  # the networks whose weights are kept
Progress = Callable[[int], None]  # called with the steps or images that there are
OnStep = Callable[[Callable[[], None]], None]  # called with what saves a checkpoint


class Averages(Protocol):
    """What follows a network step by step."""

    net: DiT

    def update(self) -> None:
        """Follow the weights as they are now."""


class Trainer:
    """Everything that a training step changes: network, EMA, the terms' own parameters and AdamW's moments, and what
    the log has not got yet; equal in every process. The encoder is frozen, and no part of what is stored.

    kept: whose weights are kept for measurements. frozen: sha256 of the file of what is not trained, if there is one.
    """

    kept: tuple[str, ...] = SAMPLED
    frozen: str | None = None

    def __init__(
        self,
        spec: TrainSpec,
        dataset: Dataset,
        device: torch.device,
        resources: Resources | None = None,
        world: World = ALONE,
        encoder: FrozenEncoder | None = None,
    ) -> None:
        self.spec, self.device, self.world, self.resources = spec, device, world, resources or Resources()
        self.encoder = encoder.to(device) if encoder else None
        self.objective: Objective = build_objective(spec, encoder.width if encoder else None).to(device)
        self.net = self.objective.net
        self.average = self._make_average()
        self.ema = self.average.net
        if isinstance(self.objective.process, LearnsFromAverage):
            self.objective.process = self.objective.process.with_average(self.ema)
        parameters = self.objective.named_parameters()
        self.trained = {name.removeprefix("net."): p for name, p in parameters if p.requires_grad}
        self.optimizer = self._make_optimizer()
        self.batches = Batches(spec, dataset, self.objective, world, self.resources.micro_batch)
        self.precision = partial(
            torch.autocast, self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16"
        )
        self.health = TermHealth(self.objective, world, self.precision)
        if not spec.weights:  # which are not there yet
            self.health.begin(lambda: self.objective.view(**self._inputs(self.batches.whole(0))))
        equip_blocks(self.net, self.ema, self.resources)
        self.averager = MetricAverager(self.objective.terms)
        self.stored = self._make_stored()
        self.module: Objective | DistributedDataParallel = self.objective
        self.learning: list[Term] | None = None  # terms that `module` exchanges the gradients of

    def _make_average(self) -> Averages:
        return MovingAverage(self.net, self.spec.ema)

    def _make_stored(self) -> dict[str, nn.Module]:
        """What a checkpoint holds."""
        return {"model": self.net, "ema": self.ema} | {term.name: term for term in self.objective.terms}

    def _make_optimizer(self) -> torch.optim.AdamW:
        adamw, groups = self.spec.optimizer, [{"params": [p for p in self.net.parameters() if p.requires_grad]}]
        groups += [group for term in self.objective.terms for group in term.parameter_groups()]
        betas = (adamw.beta1, adamw.beta2)
        return torch.optim.AdamW(groups, adamw.learning_rate, betas, weight_decay=adamw.weight_decay, fused=True)

    def step(self, step: int, look: bool = False) -> dict[str, Tensor]:
        """Take training step `step` (counted from 0) and return its losses, detached: of this process's samples.

        look: into the health of the terms as well.
        """
        self._learn_from(self.objective.active(step))
        batches = self.batches.get(step)
        if look:
            with self._as_written():
                self.health.look([self.objective.view(**self._inputs(batch)) for batch in batches])
        self.optimizer.zero_grad()
        *others, last = batches
        with self.module.no_sync() if isinstance(self.module, DistributedDataParallel) else nullcontext():
            parts = [self._backward(batch, len(batches)) for batch in others]
        parts.append(self._backward(last, len(batches)))  # which exchanges the sum of all micro-batches' gradients
        self.optimizer.step()
        self.average.update()
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def _as_written(self) -> AbstractContextManager[object]:
        """Run compiled blocks as they are written: each term takes its gradient of one pass, and a compiled one can
        give but one, for it gives its buffers away with it."""
        return torch.compiler.set_stance("force_eager") if self.resources.compile else nullcontext()

    def _learn_from(self, terms: list[Term]) -> None:
        """Exchange gradients of the network and of these terms; a term that has stopped is waited for by no process."""
        if terms == self.learning:
            return
        for term in self.objective.terms:
            if term not in terms:
                term.requires_grad_(False)
        self.learning, self.module = terms, self.objective
        if self.world.size > 1:
            # Gradients lie in the buckets that are exchanged: no second copy of them.
            self.module = DistributedDataParallel(self.objective, gradient_as_bucket_view=True)

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        """The arguments of the objective, on the device."""
        batch = batch.map(lambda tensor: tensor.to(self.device, non_blocking=True))  # pinned memory: no wait
        with self.precision():
            features = self.encoder(batch.images) if self.encoder and batch.images is not None else None
        return {"x": batch.x, "y": batch.y, "draws": batch.draws, "features": features, "average": self.ema}

    def _backward(self, batch: Batch, parts: int) -> dict[str, Tensor]:
        """Add one of `parts` micro-batches' share of the gradient, and return its losses, detached."""
        inputs = self._inputs(batch)
        with self.precision():
            losses: dict[str, Tensor] = self.module(**inputs)
        (losses["loss"] / parts).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def gradient_norm(self) -> float:
        """Return the ℓ2 norm of the last step's gradient."""
        gradients = [p.grad for p in self.objective.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def weights(self, kinds: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the weights that are kept, or those of some of `stored`, as `checkpoint.load_weights` has them."""
        return {
            f"{kind}.{name}": t for kind in kinds or self.kept for name, t in self.stored[kind].state_dict().items()
        }

    def state(self) -> dict[str, Tensor]:
        """Return all that a resumed training needs beside its step; the terms' parameters begin with their names."""
        adamw = {name: self.optimizer.state[p] for name, p in self.trained.items() if p in self.optimizer.state}
        moments = {f"{m}.{name}": state[m] for name, state in adamw.items() for m in MOMENTS}
        return self.weights(self.stored) | moments

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take back what `state` gave."""
        for kind, module in self.stored.items():
            module.load_state_dict(checkpoint.tensors_of(tensors, kind))
        for name, p in self.trained.items():
            moments = {m: tensors[f"{m}.{name}"].to(p) for m in MOMENTS if f"{m}.{name}" in tensors}
            if moments:  # a parameter that has not been trained yet has none
                self.optimizer.state[p] = {"step": torch.tensor(float(step), device=p.device), **moments}

    def train_to(
        self, steps: set[int], weights: Path, states: Path, log: Path, on_progress: Progress, on_step: OnStep
    ) -> None:
        """Train from the checkpoint in `states` to the last of `steps`, and keep the weights of each in `weights`."""
        step, last, leads = self._resume(states, log), max(steps), self.world.leads
        self._begin(weights, states, step)
        with CheckpointWriter() as writer:
            if step in steps and leads:
                self._write(writer, step, weights, None)
            saved = time.monotonic()
            while step < last:
                term_ends = self.objective.active(step) != self.objective.active(step + 1)  # a line is of like steps
                logs = term_ends or step + 1 in steps or (step + 1) % self.resources.log_every == 0
                early = is_early(step + 1) and not logs
                losses = self.step(step, look=logs or early)
                self.averager.add(losses)
                step += 1
                on_progress(step)
                if early:
                    self._log_alone(log, step, losses)
                if logs:
                    self._log(log, step)
                    due = step == last or time.monotonic() - saved > 60 * self.resources.checkpoint_minutes
                    if leads and (due or step in steps):
                        self._write(writer, step, weights if step in steps else None, states if due else None)
                        saved = time.monotonic() if due else saved
                writer.check()
                on_step(partial(self._save, writer, states, step))

    def _begin(self, weights: Path, states: Path, step: int) -> None:
        """Take what it begins from out of the folder of kept weights; states: where the checkpoint of `step` lies."""
        if self.spec.weights and step == 0:  # network and EMA each begin from their own
            for kind in SAMPLED:
                self.stored[kind].load_state_dict(checkpoint.load_weights(weights, 0, kind))

    def _log(self, log: Path, step: int) -> None:
        """Add the line that ends at a step to the log; all processes must call this."""
        self._append(log, self._line(self.averager, step))
        self.averager = MetricAverager(self.objective.terms)

    def _log_alone(self, log: Path, step: int, losses: dict[str, Tensor]) -> None:
        """As `_log`, of one step alone: the line after it is of the steps that it would have been of without."""
        alone = MetricAverager(self.objective.terms)
        alone.add(losses)
        line = self._line(alone, step)
        del line["images_per_second"]
        self._append(log, line)

    def _line(self, averager: MetricAverager, step: int) -> dict[str, float]:
        return averager.line(step, self.spec.batch, self.gradient_norm(), self.world) | self.health.line()

    def _append(self, log: Path, line: dict[str, float]) -> None:
        if self.world.leads:
            append(log, line)

    def _write(self, writer: CheckpointWriter, step: int, weights: Path | None, states: Path | None) -> None:
        """Have the weights kept in one folder, and then the state saved in another; None is none."""

        def save(tensors: dict[str, Tensor]) -> None:
            if weights:
                kept = {name: t for name, t in tensors.items() if name.startswith(tuple(f"{k}." for k in self.kept))}
                checkpoint.save_weights(weights, step, kept, self.frozen)
            if states:
                checkpoint.save_state(states, step, tensors, self.frozen)

        writer.write(self.state() if states else self.weights(), save)

    def _save(self, writer: CheckpointWriter, folder: Path, step: int) -> None:
        """Write a checkpoint between two lines of the log, and wait for it; all processes must call this."""
        unlogged = self.averager.state(self.world)
        if self.world.leads:
            writer.write(self.state() | unlogged, partial(checkpoint.save_state, folder, step, frozen=self.frozen))
            writer.wait()

    def _resume(self, folder: Path, log: Path) -> int:
        """Restore the latest state, in all processes, and cut the log to it."""
        step = self.world.decide(lambda: latest_step(folder))
        if step:
            tensors = checkpoint.load_state(folder)
            self.restore(tensors, step)
            self.averager.restore(tensors, self.device, self.world)
        if self.world.leads:
            cut(log, step)
        return step


def train(
    spec: TrainSpec,
    dataset: Dataset,
    folder: Path,
    log: Path,
    keep: Collection[int],
    resources: Resources,
    on_progress: Progress,
    world: World = ALONE,
    encoder: FrozenEncoder | None = None,
    on_step: OnStep = lambda save: None,
    trainer: type[Trainer] = Trainer,
) -> None:
    """Train until the last step of `keep`, and keep the weights of each of them in `folder`.

    Goes on from the folder's checkpoint where there is one; weights that are kept already are not made again. Steps
    that lie before the checkpoint are trained for in a folder of their own, so that nothing stored is lost.
    A spec that begins from imported weights finds them kept as those of step 0.
    `on_progress(step)` is called after every step. All processes of the world must call this; the leading one writes.
    `on_step(save)` is called after every step: who must end the training soon calls `save` before, in all processes.
    `encoder`: the frozen one that the spec aligns with. `trainer`: what trains it.

    Raises:
        Diverged: a loss or gradient is not finite, in all processes; the checkpoint before it stays.
        UserError: a term of the loss has no gradient at the first step.
    """
    aside = folder / BEHIND

    def missing() -> tuple[set[int], set[int]]:
        """Return the steps whose weights are missing, before and after the checkpoint."""
        steps = {step for step in keep if not weights_path(folder, step).is_file()}
        behind = {step for step in steps if step < latest_step(folder)}
        if behind and latest_step(aside) > min(behind):
            shutil.rmtree(aside)  # left by a job that was killed, and too far on for this one
        return behind, steps - behind

    behind, ahead = world.decide(missing)
    with matmul_precision(spec.matmul):
        for steps, states, lines in ((behind, aside, aside / "train.jsonl"), (ahead, folder, log)):
            if steps:
                training = trainer(spec, dataset, device(), resources, world, encoder)
                files = dataset.files(images=encoder is not None)
                with closing(training.batches), pre_reading(files, world.rank / world.size):
                    training.train_to(steps, folder, states, lines, on_progress, on_step)
            if steps and states == aside and world.leads:
                shutil.rmtree(aside)
