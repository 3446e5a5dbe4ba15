"""One page over several studies: what decides the sign of the change, with claims, costs and what to look at first.

It is made from stored results alone, and every number of it stands in a CSV beside it.
"""

from collections.abc import Sequence
from pathlib import Path

from harness.files import check_no_links, gc_paused, write_bytes
from harness.report.analysis.factors import (
    FACTORS,
    METRICS,
    NARROWER,
    PAPERS_OWN,
    narrowing_sentence,
    set_too,
    sharpness,
    trend_sentence,
)
from harness.report.analysis.stated_claims import StatedClaims, claim_sentences, one_family, verdict_sentences
from harness.report.analysis.text import sentences
from harness.report.figures.factor_chart import effect_anchor, factor_picture
from harness.report.figures.style import ArmStyles
from harness.report.rendering import html
from harness.report.sign.sign_files import sign_files
from harness.report.sign.study_view import LossStart, StudyView
from harness.store.store import Store

FOLDER = "what-decides-the-sign"  # in that of the reports


@gc_paused()
def write_sign_page(stores: Sequence[Store], reports: Path, pdf: bool = False) -> Path:
    """Write the page over some studies, its figures and its CSVs, and return its path; pdf: of figures as well.

    Raises:
        UserError: one of them is no study, or a folder to be written in is a link.
    """
    target = reports / FOLDER
    check_no_links(target)
    views = [StudyView(store) for store in stores]
    families = one_family([view.claims for view in views])
    for name, text in sign_files(views, families).items():
        write_bytes(target / name, text.encode())
    every, styles = [trend for view in views for trend in view.trends], ArmStyles()
    for trend in sorted(every, key=lambda trend: trend.factor.alone):  # first the arms, then doses, which are none
        styles.of(trend.arms)
    shown = [(trend, trend_sentence(trend), factor_picture(trend, styles)) for trend in every]
    for _, _, picture in shown:
        picture.write(target, pdf)
    sections = [(factor, [entry for entry in shown if entry[0].factor is factor]) for factor in FACTORS]
    effects = [(trend, effect) for trend in every for effect in trend.effects]
    values = {
        "views": views,
        "sections": [section for section in sections if section[1]],
        "absent": [factor.title for factor, entries in sections if not entries],
        "claims": [(view.study, r) for view, part in zip(views, families, strict=True) for r in part.results],
        "tally": claim_sentences(_whole(families)),
        "verdicts": verdict_sentences(_whole(families).results),
        "tested": sum(claims.tested for claims in families),
        "effects": [(effect_anchor(*effect), *effect) for effect in effects],
        "narrowing": narrowing_sentence([effect for _, effect in effects]),
        "narrower": NARROWER,
        "metrics": METRICS,
        "sharpness": sharpness,
        "set_too": set_too,
        "starts": [start for view in views for start in view.starts],
        "gaps": [gap for view in views for gap in view.gaps],
        "advice": _advice(views),
        "meaningless": sorted({t.scale.scale for v in views for t in v.tables if not t.scale.meaningful}),
        **html.script_of("theme.js", "contents.js", "marks.js"),
    }
    path = target / "index.html"
    write_bytes(path, html.render(values, "sign.html.j2").encode())
    return path


def _whole(families: Sequence[StatedClaims]) -> StatedClaims:
    """Return the claims of all studies as those of one."""
    results = tuple(result for claims in families for result in claims.results)
    return StatedClaims(results, tuple(words for claims in families for words in claims.withdrawn))


def _advice(views: Sequence[StudyView]) -> list[str]:
    """Say in two sentences what to look at first and what is warned of; nothing where no log has D."""
    pairs = [_far_and_near(view.starts) for view in views if view.starts]
    if not pairs:
        return []
    far, *near = max(pairs, key=len)  # of the first study that has both
    with_gaps = sorted((view for view in views if view.gaps), key=lambda view: view.study != far.study)
    gaps = sorted(with_gaps[0].gaps, key=lambda gap: gap.mean) if with_gaps else []
    return sentences(
        "advice.j2", far=far, near=near[0] if near else None,
        least=gaps[0] if gaps else None, most=gaps[-1] if gaps else None,
    )  # fmt: skip


def _far_and_near(starts: Sequence[LossStart]) -> list[LossStart]:
    """Return the paper's own loss, else that of the largest τ over D; and that of the smallest on the same network."""
    paper = [start for start in starts if start.settings == PAPERS_OWN]
    far = next(iter(paper), max(starts, key=lambda start: start.tau_over_start))
    near = min((start for start in starts if start.model == far.model), key=lambda start: start.tau_over_start)
    return [far] if near is far else [far, near]
