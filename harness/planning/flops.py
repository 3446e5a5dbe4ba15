"""Floating-point operations of a training and of a sample, in closed form: what PyTorch's FlopCounterMode counts.

A product of (m, k) with (k, n) is 2 m k n operations; everything else (norms, activations, AdamW, the average of the
weights) is none, as the counter has it. Tests prove these formulas equal to the counter; so no plan needs torch.

Letters: T tokens, D width, P patch size, C channels; of one image unless said otherwise.
"""

from dataclasses import dataclass, replace

from harness.config.kinds.process_kinds import process_kind
from harness.config.kinds.sampler_kinds import SAMPLERS
from harness.config.settings.process_settings import SamplerSettings
from harness.config.settings.term_settings import TERMS, TermSettings, TermWork
from harness.config.spec import Alignment, Regularizer, TermSpec, TrainSpec

FREQUENCIES = 256  # numbers that a time is turned into before its MLP
WORTH_HALVING = 64  # rows from which a symmetric product is made as three quarters of itself


@dataclass(frozen=True)
class Pass:
    """One pass of one image through the network, or through some blocks of it.

    first: products with the image and with the times, whose gradient nobody asks for. rest: all others.
    """

    first: int
    rest: int

    @property
    def forward(self) -> int:
        """Operations without a gradient."""
        return self.first + self.rest

    @property
    def trained(self) -> int:
        """Operations of a pass and of its gradient: each product has two more, by its weights and by its input."""
        return 2 * self.first + 3 * self.rest


def tokens(spec: TrainSpec) -> int:
    """Return T of the network."""
    return (spec.data.size // spec.model.patch) ** 2


def network(spec: TrainSpec) -> Pass:
    """Return a pass through the whole network."""
    t, d, p = tokens(spec), spec.model.width, spec.model.patch
    channels = spec.data.channels * (2 if process_kind(spec.process).learns_variance else 1)
    head = 2 * t * d * p * p * channels + 4 * d * d  # 4: the shift and the scale
    blocks = blocks_up_to(spec, spec.model.depth)
    return Pass(blocks.first, blocks.rest + head)


def frozen_network(spec: TrainSpec) -> int:
    """Return the operations of a pass through a frozen network with soft tokens, and of the gradient by these: each
    product with a weight has one more, by its input, and attention two; what only sees time and label has none."""
    t, d, p = tokens(spec), spec.model.width, spec.model.patch
    products = 2 * 12 * d * d * (spec.model.depth * t + soft_tokens(spec))
    attention = sum(_attention(spec, number) for number in range(1, spec.model.depth + 1))
    head = 2 * t * d * p * p * spec.data.channels
    return network(spec).forward + products + 2 * attention + head + _joins(spec, spec.model.depth)


def soft_tokens(spec: TrainSpec) -> int:
    """Return how many soft tokens stand before the patches, in all blocks together."""
    return spec.soft_tokens.blocks * spec.soft_tokens.count if spec.soft_tokens else 0


def _attention(spec: TrainSpec, number: int) -> int:
    """Return the operations of a block's attention: queries with keys, and weights with values."""
    soft = spec.soft_tokens
    count = tokens(spec) + (soft.count if soft and number <= soft.blocks else 0)
    return 4 * count * count * spec.model.width


def blocks_up_to(spec: TrainSpec, last: int) -> Pass:
    """Return a pass through the embeddings and the first blocks."""
    t, d, p = tokens(spec), spec.model.width, spec.model.patch
    times = 2 if process_kind(spec.process).second_time else 1
    embedding = 2 * t * d * p * p * spec.data.channels + times * 2 * FREQUENCIES * d
    soft = min(last, spec.soft_tokens.blocks) * spec.soft_tokens.count if spec.soft_tokens else 0
    products = 2 * 12 * d * d * (last * t + soft)  # 3 + 1 + 4 + 4 widths of tokens
    modulations = last * 2 * 6 * d * d
    attention = sum(_attention(spec, number) for number in range(1, last + 1))
    return Pass(embedding, times * 2 * d * d + products + modulations + attention + _joins(spec, last))


def _joins(spec: TrainSpec, last: int) -> int:
    """Return the operations of the long residuals up to a block."""
    return max(0, last - spec.model.depth + long_residuals(spec)) * 4 * tokens(spec) * spec.model.width**2


def long_residuals(spec: TrainSpec) -> int:
    """Return how many of the last blocks are given the output of an early one."""
    return spec.model.depth // 2 if spec.model.residuals == "long" else 0


def training(spec: TrainSpec) -> float:
    """Return the operations of one image in a training step, forward and backward; where they are drawn, the mean."""
    if spec.soft_tokens:  # an image under the classes of its whole group
        return float(spec.soft_tokens.group * frozen_network(spec))
    learnt = network(spec)
    terms = alignment(spec) + (regularizer(spec, spec.regularizer) if spec.regularizer else 0) + further_terms(spec)
    return learnt.trained + process_kind(spec.process).passes(spec) * learnt.forward + terms


Phases = list[tuple[int, float]]  # from which step on a step takes how many operations of an image


def phases(spec: TrainSpec) -> Phases:
    """Return the phases of a training: a new one begins where a term has stopped."""
    every = [term for term in (spec.regularizer, spec.alignment, *(spec.terms or ())) if term]
    begins = [0, *sorted({term.stop for term in every if term.stop})]
    return [(begin, training(_at(spec, begin))) for begin in begins]


def _at(spec: TrainSpec, step: int) -> TrainSpec:
    """The training without the terms that have stopped by a step."""

    def stopped(term: Regularizer | Alignment | TermSpec | None) -> bool:
        return term is not None and term.stop is not None and step >= term.stop

    terms = tuple(term for term in spec.terms or () if not stopped(term)) or None
    gone = {name: None for name in ("regularizer", "alignment") if stopped(getattr(spec, name))}
    return spec.model_copy(update=gone | {"terms": terms})


def added_up(found: Phases, steps: int) -> float:
    """Return the operations of an image in each of the first so many steps, added up."""
    ends = [begin for begin, _ in found[1:]] + [steps]
    return sum(max(0, min(end, steps) - begin) * work for (begin, work), end in zip(found, ends, strict=True))


def regularizer(spec: TrainSpec, term: Regularizer) -> float:
    """Return the operations of the loss on block outputs and, where it is contrastive, of the second view."""
    n, features = term.group, tokens(spec) * spec.model.width
    product = 2 * n * n * features  # all pairs of a group
    half = n // 2
    symmetric = 2 * (half * n + (n - half) ** 2) * features if half >= WORTH_HALVING else product
    if term.kind == "dispersive":
        return len(term.blocks) * (symmetric + product) / n
    view = blocks_up_to(spec, max(term.blocks)).trained
    pairs = 2 * (symmetric + product) if term.loss == "covariance" else 3 * product
    return view + len(term.blocks) * pairs / n


def further_terms(spec: TrainSpec) -> float:
    """Return the operations of the terms beside these two: their layers, trained, passes without gradient, pairs."""
    found, count = works(spec), tokens(spec)
    layers = sum(3 * 2 * count * before * after for work in found for before, after in work.layers)
    passes = sum(blocks_up_to(spec, last).forward for work in found for last in work.passes)
    pairs = sum(3 * 2 * work.pairs * count * spec.model.width for work in found)
    return layers + passes + pairs + sum(work.operations for work in found)


def works(spec: TrainSpec) -> list[TermWork]:
    """Return what each further term computes; of a plug-in that is not here, or does not say it, nothing is known."""
    patch, known = spec.model.patch**2 * spec.data.channels, [term for term in spec.terms or () if term.kind in TERMS]
    content = [t.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name"}) for t in known]
    settings = [TERMS[term.kind].Settings.model_validate(own) for term, own in zip(known, content, strict=True)]
    return [own.work(spec.model.width, patch) for own in settings]


def unpriced(spec: TrainSpec) -> list[str]:
    """Return the kinds of plug-ins' terms that do not say what they compute; of ours, tests know that it is all."""
    kinds = [term.kind for term in spec.terms or () if term.kind not in TERMS.built_in]
    return [kind for kind in kinds if kind in TERMS and TERMS[kind].Settings.work is TermSettings.work]


@dataclass(frozen=True)
class Encoder:
    """A vision transformer. side, patch: in pixels. prefix: tokens beside those of patches. ratio: MLP's width to D."""

    width: int
    depth: int
    patch: int
    side: int
    prefix: int = 1
    ratio: int = 4

    def forward(self, channels: int) -> int:
        """Operations of one image of so many channels."""
        patches, d = (self.side // self.patch) ** 2, self.width
        t = patches + self.prefix
        block = 2 * t * (4 + 2 * self.ratio) * d * d + 4 * t * t * d
        return 2 * patches * d * channels * self.patch**2 + self.depth * block


# REPA's, by timm's names, and that of our own recipe; of others nothing is known before timm has made them.
ENCODERS = {
    "vit_small_patch14_dinov2": Encoder(384, 12, 14, 518),
    "vit_base_patch14_dinov2": Encoder(768, 12, 14, 518),
    "vit_large_patch14_dinov2": Encoder(1024, 24, 14, 518),
    "vit_base_patch16_224": Encoder(768, 12, 16, 224),
    "vit_large_patch14_clip_224": Encoder(1024, 24, 14, 224),
    "test_vit": Encoder(64, 6, 16, 160, ratio=3),
}


def encoder(term: Alignment) -> Encoder | None:
    """Return the shape of a frozen encoder; None where it is none of `ENCODERS`."""
    shape = ENCODERS.get(term.own.architecture if term.own else term.encoder.partition(".")[0])
    if shape and term.own:
        return replace(shape, side=term.own.side, patch=term.own.patch, prefix=0)
    return replace(shape, side=term.side or shape.side) if shape else None


def projector(spec: TrainSpec) -> list[tuple[int, int]]:
    """Return the widths before and after each layer of the projector; none without an alignment whose encoder is
    known. A convolution is a linear layer that is given all tokens under its kernel."""
    frozen = encoder(spec.alignment) if spec.alignment else None
    if spec.alignment is None or frozen is None:
        return []
    hidden, kernel = spec.alignment.hidden, spec.alignment.kernel
    if kernel:
        return [(kernel**2 * spec.model.width, frozen.width)]
    assert hidden, spec.alignment
    return [(spec.model.width, hidden), (hidden, hidden), (hidden, frozen.width)]


def alignment(spec: TrainSpec) -> int:
    """Return the operations of the projector, trained, and of the frozen encoder; 0 where that is not known."""
    frozen = encoder(spec.alignment) if spec.alignment else None
    if spec.alignment is None or frozen is None:
        return 0
    trained = 3 * sum(2 * tokens(spec) * before * after for before, after in projector(spec))
    return trained + frozen.forward(spec.data.channels if spec.alignment.own else 3) + sara(spec, frozen.width)


def sara(spec: TrainSpec, features: int) -> int:
    """Return the operations of what SARA adds: cosines of all pairs of tokens, and the discriminator's three passes.

    One pass judges the projected tokens, whose gradient goes through it alone; two teach it, of which nobody asks for
    the input's gradient.
    """
    level, t = spec.alignment.sara if spec.alignment else None, tokens(spec)
    if level is None:
        return 0
    pairs = (3 + 1) * 2 * t * t * features if level.structure else 0
    if not level.adversary:
        return pairs
    *layers, head = (2 * before * after for before, after in discriminator(spec))
    return pairs + 6 * t * layers[0] + 8 * (t * sum(layers[1:]) + head)


def discriminator(spec: TrainSpec) -> list[tuple[int, int]]:
    """Return the widths before and after each layer of SARA's discriminator, as `projector`; the last is of an image's
    mean. None without one."""
    frozen = encoder(spec.alignment) if spec.alignment else None
    level = spec.alignment.sara if spec.alignment else None
    if frozen is None or level is None or not level.adversary:
        return []
    return [(frozen.width, level.width), *[(9 * level.width, level.width)] * 2, (level.width, 1)]


def evaluations(sampler: SamplerSettings) -> int:
    """Return NFE, the network evaluations of one image; guidance doubles them (where it is kept to an interval of noise
    levels, this is the most that it can be)."""
    return SAMPLERS[sampler.method].evaluations(sampler.intervals) * (1 if sampler.guidance == 1 else 2)


INCEPTION = 11_430_000_000  # operations of FID's Inception-v3 on one image, which it has resized to 299 × 299
DECODER_PIXEL = 605_507_616  # of the SD VAE's decoder, by pixel of a latent
DECODER_PAIR = 4 * 512  # by pair of pixels, in its attention


def measuring(spec: TrainSpec, features: str) -> int:
    """Return the operations of turning one sample into features; latents, which have four channels, are decoded first.

    The small classifiers count as nothing.
    """
    pixels = spec.data.size**2
    decoded = DECODER_PIXEL * pixels + DECODER_PAIR * pixels**2 if spec.data.channels > 3 else 0
    return decoded + (INCEPTION if features == "inception-v3-compat" else 0)


def soft_parameters(spec: TrainSpec) -> int:
    """Return the number of parameters of soft tokens: of each class, and of each hundredth of the times."""
    return soft_tokens(spec) * (spec.data.classes + 100) * spec.model.width


def parameters(spec: TrainSpec) -> int:
    """Return the number of the network's learned parameters, without soft tokens."""
    d, p, data = spec.model.width, spec.model.patch, spec.data
    times = 2 if process_kind(spec.process).second_time else 1
    out = p * p * data.channels * (2 if process_kind(spec.process).learns_variance else 1)
    embedding = (data.channels * p * p + 1) * d + times * (FREQUENCIES + 1 + d + 1) * d + (data.classes + 1) * d
    joins = long_residuals(spec) * (2 * d + 1) * d
    return embedding + spec.model.depth * (18 * d + 15) * d + joins + (d + 1) * out + 2 * (d + 1) * d


def term_parameters(spec: TrainSpec) -> int:
    """Return the number of parameters that the terms train; of an encoder that `encoder` does not know, none."""
    layers = [*projector(spec), *discriminator(spec), *(layer for work in works(spec) for layer in work.layers)]
    return sum((before + 1) * after for before, after in layers)
