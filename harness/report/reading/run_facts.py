"""Columns of facts: what a run used besides its training data, computed from what the run left and never typed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from harness.config.grid import Run
from harness.config.grid_file import FactName, PaperFact, PaperValue
from harness.config.settings.loss_settings import OWN_ENCODER
from harness.config.spec import TrainSpec
from harness.planning import flops
from harness.report import TEMPLATES
from harness.store.records import EncoderRecord, Measurement, ModelFacts
from harness.store.store import Store

RunFacts = Mapping[str, str]  # by name, with a sentence on the encoder of a run: "" without an alignment
# What is known of weights by their tag of timm: pretraining, images, data and source.
PUBLISHED: dict[str, dict[str, str]] = yaml.safe_load((TEMPLATES / "published_encoders.yaml").read_text("utf-8"))
UNKNOWN, UNRECORDED = "not known to us", "not recorded"


@dataclass(frozen=True)
class Fact:
    """One fact of a row: of our runs ("" where none is measured), and of the paper's."""

    words: str
    paper: PaperFact | None


def run_facts(store: Store, names: Sequence[FactName], run: Run, measurement: Measurement | None) -> RunFacts:
    """Return the facts of a run in words; none where nothing is measured or asked for."""
    if measurement is None or not names:
        return {}
    record = ModelFacts.peek(store.run_folder(run.train_id))
    facts = _encoder_facts(run, record) | {
        "parameters": in_short(record.parameters) if record else UNRECORDED,  # of the network that is sampled
        "steps": f"{run.evaluation.sampler.intervals:,}",
        "NFE": f"{measurement.nfe:,}",
        "extra passes": _extra_passes(run.train),
        "extra operations": _extra_operations_of(run),
    }
    return {name: facts[name] for name in names} | {"encoder": _encoder_sentence(run, record)}


def _encoder_facts(run: Run, record: ModelFacts | None) -> dict[FactName, str]:
    """What is known of the network that a run was aligned with; the parameters are those that only training needs."""
    encoder = record.encoder if record else None
    if run.train.alignment is None or record is None or encoder is None:
        absent = "none" if run.train.alignment is None else UNRECORDED
        of_terms = record and record.projector_parameters
        joins = flops.parameters(run.train) - flops.parameters(_plain(run.train))
        words = ([in_short(of_terms)] if of_terms else []) + ([f"{in_short(joins)} (network)"] if joins else [])
        return {
            "pre-training": absent,
            "extra parameters": " + ".join(words) or absent,
            "external data": absent,
        }
    published, pretraining, parameters = _published(encoder), UNKNOWN, UNRECORDED
    if encoder.name == OWN_ENCODER:
        pretraining = f"{_epochs(encoder)} on {encoder.data}, with labels"
    elif published:
        pretraining = f"{published['pretraining']}; epochs {UNKNOWN}"
    if (projector := record.projector_parameters) is not None:
        own, sara = encoder.parameters, run.train.alignment.sara
        what = "projector and discriminator" if sara and sara.adversary else "projector"
        parameters = f"{in_short(own + projector)} ({in_short(own)} encoder, {in_short(projector)} {what})"
    seen_data = run.train.data.name in (encoder.data, published.get("data"))
    external = "none" if seen_data else published.get("images", UNKNOWN)  # images that are not the data set's own
    return {"pre-training": pretraining, "extra parameters": parameters, "external data": external}


def _extra_passes(train: TrainSpec) -> str:
    """Passes of a training image that the terms add, through the encoder or through the network up to some block."""
    depth, blocks = train.model.depth, [block for work in flops.works(train) for block in work.passes]
    words = [f"1 (blocks 1 to {block} of {depth}, no gradient)" for block in blocks]
    if train.regularizer and train.regularizer.kind == "contrastive":
        words.append(f"1 (blocks 1 to {max(train.regularizer.blocks)} of {depth})")
    if soft := train.soft_tokens:
        words.append(f"{soft.group} (whole network, in a second phase)")
    if train.alignment:
        words.append(f"1 (encoder, to step {train.alignment.stop:,})" if train.alignment.stop else "1 (encoder)")
    return "; ".join(words) or "none"


def _extra_operations(train: TrainSpec, steps: int) -> str:
    share = extra_share(train, steps)
    if share is None:
        return UNKNOWN
    return f"{share:.2%}" if share >= 0.0001 else "under 0.01%" if share else "none"


def _extra_operations_of(run: Run) -> str:
    """As `_extra_operations`; of a second phase what it adds to the first, and what that one itself adds."""
    first, phase = run.train.first_phase, run.train.soft_tokens
    if first is None or phase is None:
        return _extra_operations(run.train, run.evaluation.step)
    if not phase.after:
        return UNKNOWN
    own, before = flops.training(run.train) * run.evaluation.step, flops.added_up(flops.phases(first), phase.after)
    share, alone = own / before, _extra_operations(first, phase.after)
    return f"{share:.2%} of the first phase" + ("" if alone == "none" else f", which has {alone}")


def extra_share(train: TrainSpec, steps: int) -> float | None:
    """What the terms, and long residuals, add to a training, over what it has without them, until they stop; or None.

    None where the encoder's operations are not known.
    """
    if train.alignment and flops.encoder(train.alignment) is None:
        return None
    own, plain = (flops.added_up(flops.phases(each), max(1, steps)) for each in (train, _plain(train)))
    return own / plain - 1


def _plain(train: TrainSpec) -> TrainSpec:
    """The training without terms, and without long residuals in its network."""
    model = train.model.model_copy(update={"residuals": None})
    return train.model_copy(update={"regularizer": None, "alignment": None, "terms": None, "model": model})


def in_short(count: int) -> str:
    """Return a number of parameters in three digits: "675M", "93.8M", "253K"."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _published(encoder: EncoderRecord) -> Mapping[str, str]:
    """What is known of published weights by their tag; of those in somebody's file nothing is."""
    return PUBLISHED.get(encoder.name.rpartition(".")[2], {}) if encoder.published else {}


def _epochs(encoder: EncoderRecord) -> str:
    count = f"{encoder.images_seen / encoder.images:.3g}"
    return f"{count} epoch{'' if count == '1' else 's'}"


def _encoder_sentence(run: Run, record: ModelFacts | None) -> str:
    """Say what a run was aligned with; "" without an alignment."""
    if run.train.alignment is None or record is None or record.encoder is None:
        return ""
    encoder = record.encoder
    block = f"The output of block {run.train.alignment.block} of {run.train.model.depth} is aligned with"
    size = f"{in_short(encoder.parameters)} parameters"
    if encoder.name == OWN_ENCODER:
        return (
            f"{block} a ViT of {size} that learned the labels of {encoder.data} for {_epochs(encoder)} "
            f"({100 * encoder.accuracy:.1f}% test accuracy). It is another network than the one whose features are "
            f"measured, because to align with the metric’s own features would flatter REPA."
        )
    source = _published(encoder).get("source")
    of_training = f"; what is said of its training is from {source}" if source else ""
    return f"{block} {encoder.name} of timm, {size}, weights of sha256 {encoder.sha256[:12]}{of_training}."


def stated(names: Sequence[FactName], by_seed: Mapping[int, RunFacts], paper: PaperValue | None) -> tuple[Fact, ...]:
    """Return the facts of a cell from those of its runs by seed, each beside what the paper says of it."""
    return tuple(Fact(_all_seeds(by_seed, name), paper.facts.get(name) if paper else None) for name in names)


def _all_seeds(by_seed: Mapping[int, RunFacts], name: FactName) -> str:
    """One fact in words; where seeds disagree, each with its own."""
    seeds: dict[str, list[str]] = {}
    for seed, facts in by_seed.items():
        if words := facts.get(name):
            seeds.setdefault(words, []).append(str(seed))
    if len(seeds) < 2:
        return next(iter(seeds), "")
    return "; ".join(f"{words} (seed {', '.join(whose)})" for words, whose in seeds.items())
