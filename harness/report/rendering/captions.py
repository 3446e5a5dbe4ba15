"""The protocol of a table in words: its caption, and what its numbers do not share."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from harness.config.grid import Table
from harness.config.grid_file import PublishedFigure
from harness.files import read_yaml
from harness.report import TEMPLATES
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import STATES, counted, listed, number, seed_words, sentences, signed_percent
from harness.report.reading.protocol import SAMPLING_COLUMNS, Protocol, differing_keys, training_values, varied_keys

WORDS: dict[str, dict[str, Any]] = read_yaml(TEMPLATES / "words.yaml")
LETTERED = "images drawn as the letter behind each number says"


def heading(table: Table) -> str:
    """Return "Table 2. Title", "Figure 4. Title", or the title alone where the table has no number of the paper."""
    name, title = table.name_in_words, table.file.title
    return title if name == title else f"{name}. {title}"


def caption(pivot: Pivot) -> list[str]:
    """Say how a table's numbers were measured and over how many seeds, what the lengths stand for, and the taps."""
    protocol = next(iter(pivot.protocols.values()), {})
    differing = differing_keys(pivot.protocols.values())
    letters = bool(differing) and not pivot.mixes
    words = WORDS["training"]
    trained = {words[key]: list(values) for key, values in training_values(pivot.table).items() if values}
    return sentences(
        "caption.j2",
        pivot=pivot,
        protocol=protocol,
        notes=[] if "features" in differing else pivot.features_notes,
        drawn=LETTERED if letters or not protocol else sampler_words(protocol),
        weights=WORDS["weights"].get(protocol.get("weights", "")),
        trained=[f"{word} {listed(values)}" for word, values in trained.items()],
        measured_apart=_measured_apart(pivot),
        taps=taps_sentence(pivot),
    )


def shared_parts(captions: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the words of each part that at least half of the captions with that part say: said once, above all tables.

    What letters in the cells say is never shared, and what one of several tables says is not either.
    """
    said: dict[str, Counter[str]] = {}
    for part, words in (item for caption in captions for item in caption_parts(caption).items()):
        said.setdefault(part, Counter())[words] += 1
    most = {part: (*counts.most_common(1)[0], counts.total()) for part, counts in said.items()}
    return {part: words for part, (words, n, of) in most.items() if 2 * n >= of and (n > 1 or len(captions) == 1)}


def caption_parts(sentences: Sequence[str]) -> dict[str, str]:
    """Cut a caption into what tables may share, by what each part is about: its place, or the word it begins with."""
    parts = {}
    for place, sentence in enumerate(sentences):
        for index, words in enumerate(sentence.removesuffix(".").split("; ")):
            if not words.startswith(LETTERED):
                parts[f"{place}.{index}" if place < 2 else words.partition(" ")[0]] = words
    return parts


def in_one(parts: Iterable[str]) -> str:
    """Put parts of captions together again, each as a sentence."""
    return " ".join(f"{words[:1].upper()}{words[1:]}." for words in parts)


def _measured_apart(pivot: Pivot) -> list[str]:
    """What differs on purpose besides how images are drawn."""
    return [key for key in differing_keys(pivot.protocols.values()) if key not in (*SAMPLING_COLUMNS, "nfe")]


def untold_sentences(pivot: Pivot) -> list[str]:
    """Say what differs in the training of a table's cells though no label says so; else empty."""
    names = {cell.source.at: cell.name for cell in pivot.cells}
    untold = []
    for key, values in training_values(pivot.table).items():
        if len(values) > 1 and key not in varied_keys(pivot.table):
            names_of = {value: _quoted([names[cell.at] for cell in cells]) for value, cells in values.items()}
            parts = "; ".join(f"{value} in {cells}" for value, cells in names_of.items())
            word = WORDS["training"][key]
            untold.append(f"Not all were trained alike, though no label says so: {word} {parts}.")
    return untold


def _quoted(names: Sequence[str]) -> str:
    return listed([f"“{name}”" for name in names])


def sampler_words(protocol: Protocol) -> str:
    """Say how images were drawn, with the network evaluations that were counted."""
    scale, where = guidance_words(protocol)
    return f"{steps_words(protocol)}, {where.format(scale)}"


def steps_words(protocol: Protocol) -> str:
    """Say how images were drawn, but for the guidance."""
    name, unit = WORDS["samplers"].get(protocol["sampler"], (protocol["sampler"], "step"))
    nfe = int(protocol["nfe"])
    evaluations = "one network evaluation" if nfe == 1 else f"{nfe:,} network evaluations"
    steps = counted(int(protocol["intervals"]), unit)
    return f"{name} sampler, {steps}, {evaluations} an image in {protocol['sampling_precision']}"


def guidance_words(protocol: Protocol) -> tuple[str, str]:
    """Return the scale of guidance, and the words on it with "{}" in the scale's place; "" where there is none."""
    if protocol["target_guidance"]:
        return protocol["target_guidance"], "guidance {} in the training target"
    if float(protocol["guidance"]) == 1:
        return "", "no guidance"
    where = f" at {protocol['guidance_interval']}" if protocol["guidance_interval"] else ""
    return f"{float(protocol['guidance']):g}", f"guidance {{}} on {protocol['guidance_channels']} channels{where}"


def planned_sentences(pivot: Pivot) -> list[tuple[str, str]]:
    """Say by letter how images were drawn, where the table itself asks for different ways; else empty."""
    if pivot.mixes or len(pivot.protocols) < 2:
        return []
    apart = _measured_apart(pivot)
    return [
        (letter, ", ".join([sampler_words(protocol), *_apart_words(protocol, apart)]))
        for letter, protocol in pivot.protocols.items()
    ]


def _apart_words(protocol: Protocol, keys: Sequence[str]) -> list[str]:
    names = WORDS["protocol"]
    return [f"{names.get(key, key.replace('_', ' '))} {protocol[key] or 'not said'}" for key in keys]


def mixed_sentences(pivot: Pivot) -> list[str]:
    """Say by letter what differs between protocols, where the table did not ask for it; else empty."""
    if not pivot.mixes:
        return []
    differing = differing_keys(pivot.protocols.values())
    used = Counter(run.protocol for cell in pivot.cells for run in cell.runs if run.value is not None)
    return [
        f"{letter}: {', '.join(_apart_words(protocol, differing))} ({counted(used[letter], 'value')})"
        for letter, protocol in pivot.protocols.items()
    ]


def tapped(cell: PivotCell) -> str:
    """Return "block 2 of 6", "blocks 1, 2 and 3 of 6", "all 6 blocks"; "" without a regulariser."""
    train = cell.source.runs[0].train
    if train.regularizer is None:
        return ""
    blocks, depth = train.regularizer.blocks, train.model.depth
    if len(blocks) == depth > 1:
        return f"all {depth} blocks"
    return f"block{'s' if len(blocks) > 1 else ''} {listed([str(block) for block in blocks])} of {depth}"


def tap_note(pivot: Pivot, cell: PivotCell) -> str:
    """Return "= block 2 of 6" in a table whose cells ask for different blocks; else "", as `taps_sentence` says it."""
    words = tapped(cell)
    return f"= {words}" if words and _asks_for_blocks(pivot) else ""


def taps_sentence(pivot: Pivot) -> str:
    """Say which block the regulariser acts on, by model where they differ in depth; "" where each cell says it."""
    if _asks_for_blocks(pivot):
        return ""
    models: dict[str, dict[str, None]] = {}
    for cell in pivot.cells:
        if words := tapped(cell):
            models.setdefault(words, {})[cell.source.settings.model] = None
    if not models:
        return ""
    places = [f"{words} ({', '.join(names)})" if len(models) > 1 else words for words, names in models.items()]
    return f"The regulariser acts on the output of {listed(places)}."


def one_run_sentences(pivot: Pivot) -> list[str]:
    """Say which cells are one run here, because a small network has fewer blocks than the paper's names tell apart."""
    cells: dict[tuple[str, ...], list[str]] = {}
    for cell in pivot.cells:
        cells.setdefault(tuple(run.eval_id for run in cell.runs), []).append(cell.name)
    shared = [_quoted(names) for names in cells.values() if len(names) > 1]
    return [f"{names} are the same run at this scale, and so one number." for names in shared]


def _asks_for_blocks(pivot: Pivot) -> bool:
    settings = [cell.source.settings.regularizer for cell in pivot.cells]
    return len({regularizer.blocks for regularizer in settings if regularizer.loss != "none"}) > 1


def notes(pivot: Pivot) -> list[str]:
    """Return the different notes on the paper's numbers of a table, in order."""
    return list(dict.fromkeys(cell.paper.note for cell in pivot.cells if cell.paper and cell.paper.note))


def published_elsewhere(pivot: Pivot) -> list[PublishedFigure]:
    """Return the figures of other publications that are in no row, those that were measured alike beside each other."""
    return sorted((figure for figure in pivot.table.file.references if figure.of), key=attrgetter("protocol"))


def elsewhere_sentences(pivot: Pivot) -> list[str]:
    """Say in a sentence for each protocol what other publications have by it."""
    lines = []
    for protocol, alike in groupby(published_elsewhere(pivot), key=attrgetter("protocol")):
        figures = (f"{f.of} {number(f.value, pivot.metric.decimals)} ({_beside(pivot, f)})" for f in alike)
        lines.append(f"Elsewhere ({protocol}): {', '.join(figures)}.")
    return lines


def _beside(pivot: Pivot, figure: PublishedFigure) -> str:
    return "; ".join(filter(None, (own_change(pivot, figure), f"{figure.confidence}, {figure.source}")))


def own_change(pivot: Pivot, figure: PublishedFigure) -> str:
    """Return "−17.1 % of 36.19": a published figure against its authors' own baseline; "" where that is not known."""
    if figure.baseline is None:
        return ""
    change = signed_percent(100 * (figure.value / figure.baseline - 1))
    return f"{change} of\u00a0{number(figure.baseline, pivot.metric.decimals)}"


def missing_list(pivot: Pivot) -> list[tuple[str, str]]:
    """Return (state, sentence) for every run that gives no value; runs of one state and reason share a sentence."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for cell in pivot.cells:
        for run in cell.missing:
            groups.setdefault((run.state, run.reason), {}).setdefault(cell.name, []).append(str(run.seed))
    total = sum(len(cell.runs) for cell in pivot.cells)
    lines = []
    for (state, reason), cells in groups.items():
        runs = sum(map(len, cells.values()))
        places = "; ".join(f"{name} ({seed_words(seeds)})" for name, seeds in cells.items())
        which = f"all {counted(runs, 'run')} of this table" if runs == total else places
        lines.append((state, f"{which}: {reason or STATES[state]}"))
    return lines
