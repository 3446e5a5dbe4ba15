"""Columns of facts: what a run used besides its training data, computed from what the run left and never typed in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.grid import Run
from harness.config.grid_file import FactName, PaperFact, PaperValue
from harness.config.settings import OWN_ENCODER
from harness.store.records import EncoderRecord, ModelFacts

UNKNOWN, UNRECORDED = "not known to us", "not recorded"


@dataclass(frozen=True)
class RunFacts:
    """The facts of one run in words, and a sentence on its encoder; both are empty where the table asks for none."""

    words: Mapping[FactName, str]
    encoder: str


@dataclass(frozen=True)
class Fact:
    """One fact of a row: of our runs ("" where none is measured), and of the paper's."""

    words: str
    paper: PaperFact | None


@dataclass(frozen=True)
class Published:
    """What is published of the weights that timm files under a tag."""

    pretraining: str
    images: str
    data: str  # our data set of the same images, "" where there is none
    source: str


# Of REPA's encoders, those that timm has. For how many epochs each was trained we have no source that we could check.
PUBLISHED = {
    "lvd142m": Published(
        "self-supervised; the smaller models distilled from a ViT-g of 1.1B parameters",
        "142M images (LVD-142M)", "", "DINOv2, arXiv 2304.07193",
    ),
    "dino": Published("self-supervised", "1.28M images (ImageNet-1k)", "imagenet256", "DINO, arXiv 2104.14294"),
    "mae": Published("masked autoencoder", "1.28M images (ImageNet-1k)", "imagenet256", "MAE, arXiv 2111.06377"),
    "openai": Published("with captions", "400M image-text pairs", "", "CLIP, arXiv 2103.00020"),
}  # fmt: skip


def run_facts(names: Sequence[FactName], run: Run, folder: Path, nfe: int) -> RunFacts:
    """Return the facts of a measured run in words, and which encoder it had."""
    record = ModelFacts.read(folder)
    return RunFacts({name: FACTS[name](run, record, nfe) for name in names}, _encoder_sentence(run, record))


def in_short(count: int) -> str:
    """Return a number of parameters in three digits: "675M", "93.8M", "253K"."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _pretraining(run: Run, file: ModelFacts | None, nfe: int) -> str:
    if run.train.alignment is None:
        return "none"
    if file is None or file.encoder is None:
        return UNRECORDED
    if file.encoder.name == OWN_ENCODER:
        return f"{_epochs(file.encoder)} on {file.encoder.data}, with labels"
    known = _published(file.encoder)
    return f"{known.pretraining}; epochs {UNKNOWN}" if known else UNKNOWN


def _extra_parameters(run: Run, file: ModelFacts | None, nfe: int) -> str:
    """Parameters that only the training needs."""
    if run.train.alignment is None:
        return "none"
    if file is None or file.encoder is None or file.projector_parameters is None:
        return UNRECORDED
    encoder, projector = file.encoder.parameters, file.projector_parameters
    return f"{in_short(encoder + projector)} ({in_short(encoder)} encoder, {in_short(projector)} projector)"


def _external_data(run: Run, file: ModelFacts | None, nfe: int) -> str:
    """Images that the encoder saw and that are not the data set's own."""
    if run.train.alignment is None:
        return "none"
    if file is None or file.encoder is None:
        return UNRECORDED
    known, data = _published(file.encoder), run.train.data.name
    if data in (file.encoder.data, known.data if known else ""):
        return "none"
    return known.images if known else UNKNOWN


def _parameters(run: Run, file: ModelFacts | None, nfe: int) -> str:
    """Parameters of the network that is sampled."""
    return in_short(file.parameters) if file else UNRECORDED


def _steps(run: Run, file: ModelFacts | None, nfe: int) -> str:
    return f"{run.evaluation.sampler.intervals:,}"


def _nfe(run: Run, file: ModelFacts | None, nfe: int) -> str:
    """Network evaluations of an image, as the sampler counted them."""
    return f"{nfe:,}"


FACTS: Mapping[FactName, Callable[[Run, ModelFacts | None, int], str]] = {
    "pre-training": _pretraining,
    "extra parameters": _extra_parameters,
    "external data": _external_data,
    "parameters": _parameters,
    "steps": _steps,
    "NFE": _nfe,
}


def _published(encoder: EncoderRecord) -> Published | None:
    """What is known of published weights by their tag; of those in somebody's file nothing is."""
    return PUBLISHED.get(encoder.name.rpartition(".")[2]) if encoder.published else None


def _epochs(encoder: EncoderRecord) -> str:
    count = f"{encoder.images_seen / encoder.images:.3g}"
    return f"{count} epoch{'' if count == '1' else 's'}"


def _encoder_sentence(run: Run, file: ModelFacts | None) -> str:
    """Say what a run was aligned with; "" without an alignment."""
    if run.train.alignment is None or file is None or file.encoder is None:
        return ""
    encoder, depth = file.encoder, run.train.model.depth
    block = f"The output of block {run.train.alignment.block} of {depth} is aligned with"
    size = f"{in_short(encoder.parameters)} parameters"
    if encoder.name == OWN_ENCODER:
        return (
            f"{block} a ViT of {size} that learned the labels of {encoder.data} for {_epochs(encoder)} "
            f"({100 * encoder.accuracy:.1f}% test accuracy). It is another network than the one whose features are "
            f"measured, because to align with the metric’s own features would flatter REPA."
        )
    known = _published(encoder)
    source = f"; what is said of its training is from {known.source}" if known else ""
    return f"{block} {encoder.name} of timm, {size}, weights of sha256 {encoder.sha256[:12]}{source}."


def stated(names: Sequence[FactName], by_seed: Mapping[int, RunFacts], paper: PaperValue | None) -> tuple[Fact, ...]:
    """Return the facts of a cell from those of its runs by seed, each beside what the paper says of it."""
    return tuple(Fact(_all_seeds(by_seed, name), paper.facts.get(name) if paper else None) for name in names)


def _all_seeds(by_seed: Mapping[int, RunFacts], name: FactName) -> str:
    """One fact in words; where seeds disagree, each with its own."""
    seeds: dict[str, list[str]] = {}
    for seed, facts in by_seed.items():
        if words := facts.words.get(name):
            seeds.setdefault(words, []).append(str(seed))
    if len(seeds) < 2:
        return next(iter(seeds), "")
    return "; ".join(f"{words} (seed {', '.join(whose)})" for words, whose in seeds.items())
