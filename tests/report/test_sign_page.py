"""The page over several studies: every number of it again from its CSVs, by NumPy and SciPy alone."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from click.testing import CliRunner
from support import synthetic_study as synthetic
from support.html_page import Page

from harness.cli import cli
from harness.config.grid import load_table
from harness.errors import UserError
from harness.store.records import Attempt, Environment, StatedClaim

HEAD = "rows: arm\nbaseline: {arm: baseline}\nbase: {preset: paper, model: SiT-B/2, epochs: 80}\nseeds: [0, 1, 2, 3]\n"
ARMS = """
  arm:
    baseline: {regularizer.loss: none}
    τ 0.5: {regularizer.loss: infonce-l2, regularizer.tau: 0.5}
    τ 0.05: {regularizer.loss: infonce-l2, regularizer.tau: 0.05}
"""
GRIDS = {
    "data": f"""title: Data\nquestion: How many?\n{HEAD}axes:{ARMS}
  images:
    "100": {{data.subset: 100, evaluation.held_out: 2000}}
    "200": {{data.subset: 200, evaluation.held_out: 2000}}
vary: [{{product: {{arm: [baseline, τ 0.5, τ 0.05], images: ["100", "200"]}}}}]
claims:
  - {{says: It helps., at: {{arm: τ 0.5, images: "100"}}, metric: held_out_loss, direction: lower}}
  - {{says: It harms., at: {{arm: τ 0.5, images: "200"}}, direction: higher}}
""",
    "long": f"""title: Length\nquestion: How long?\n{HEAD}axes:{ARMS}
  epochs: {{"40": {{epochs: 40}}, "80": {{epochs: 80}}}}
vary: [{{product: {{arm: [baseline, τ 0.5, τ 0.05], epochs: ["40", "80"]}}}}]
claims: [{{says: It was seen., at: {{arm: τ 0.05, epochs: "80"}}, against: {{arm: τ 0.5}}, direction: lower}}]
""",
}
STATED = {"data": "2026-01-01T00:00:00+00:00", "long": "2026-01-03T00:00:00+00:00"}  # the trainings begin on the 2nd


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page over two studies; in one a single training was on another machine."""
    folder, random = tmp_path_factory.mktemp("sign"), np.random.default_rng(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, text in GRIDS.items():
            write_study(folder, name, text, random)
        words = ["report", "--sign", "data", "long", "--results", "results", "--reports", "out"]
        CliRunner().invoke(cli, words, catch_exceptions=False)
        patch.setattr("harness.report.sign.sign_page.FOLDER", "again")
        CliRunner().invoke(cli, words, catch_exceptions=False)
    return folder / "out" / "what-decides-the-sign"


def write_study(folder: Path, name: str, text: str, random: np.random.Generator) -> None:
    store = synthetic.new_store(folder, name)
    Path(f"{name}.yaml").write_text(text, encoding="utf-8")
    table = load_table(Path(f"{name}.yaml"), "digits", ["seeds=[0,1,2,3]"])
    claims = [StatedClaim(claim=claim.words, stated=STATED[name], commit="c0ffee") for claim in table.tested_claims]
    store.record_grid(name, Path(f"{name}.yaml"), "digits", ["seeds=[0,1,2,3]"], None, claims)
    for index, cell in enumerate(table.cells):
        tau = cell.settings.regularizer.tau if cell.settings.regularizer.loss != "none" else None
        for run in cell.runs:
            fid = (2 + 0.1 * run.seed) * (1 + 0.03 * index + 0.02 * random.normal())
            loss = (0.5 + 0.01 * run.seed) * (1 - 0.02 * index + 0.004 * random.normal())
            gap = 0.1 + 0.05 * index + 0.002 * run.seed
            further = {"held_out_loss": loss, "loss_gap": gap} if run.evaluation.evaluation.held_out else {}
            synthetic.write_measurement(store, run, fid, further=further)
            began, device = "2026-01-02T00:00:00+00:00", "Xeon" if (name, index, run.seed) == ("long", 1, 0) else "EPYC"
            attempt = Attempt(start=began, end="2026-01-02T00:06:00+00:00", device=device, gpus=0, threads=2)
            Environment(attempts=[attempt]).write(store.run_folder(run.train_id))
            if tau:
                growth = [1 + 2 * step * tau for step in range(1, 12)]
                start = 0.4 + 0.02 * run.seed
                lines = [
                    {"step": step, "distance": start * grown, "gradient_share": 0.5 / step, "tau": tau,
                     "distance_start": start} | ({"overshoot": grown} if grown > 6 else {})
                    for step, grown in enumerate(growth, start=1)
                ]  # fmt: skip
                path = store.run_folder(run.train_id) / "train.jsonl"
                path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def seeds_of(values: pd.DataFrame, row: pd.Series, cell: str, metric: str) -> np.ndarray:
    own = values[(values.study == row.study) & (values.table == row.table) & (values.cell == cell)]
    return own[own.metric == metric].sort_values("seed")["value"].to_numpy(dtype=float)


def again(y: np.ndarray, x: np.ndarray) -> tuple[float, float, float]:
    """The change in percent, half of its interval, and its t: the ratio of means, its error to first order."""
    ratio = y.mean() / x.mean()
    error = np.std(y - ratio * x, ddof=1) / np.sqrt(len(x)) / x.mean()
    return 100 * (ratio - 1), 100 * scipy.stats.t.ppf(0.975, len(x) - 1) * error, (ratio - 1) / error


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("+", "").replace("\u202f%", ""))


def test_every_effect_follows_from_the_values_beside_it(folder: Path) -> None:
    values, effects = pd.read_csv(folder / "values.csv"), pd.read_csv(folder / "effects.csv")
    assert len(effects) == 2 * 2 * 2 + 2 * 2  # arms × levels × metrics; the second study has no held-out loss
    page = Page((folder / "index.html").read_text(encoding="utf-8")).text
    told, sharp = set(), {}
    for _, row in effects.iterrows():
        y, x = (seeds_of(values, row, cell, row.metric) for cell in (row.cell, row.baseline))
        percent, half, _ = again(y, x)
        assert len(y) == len(x) == 4
        assert [row.change_percent, row.change_low, row.change_high] == pytest.approx(
            [percent, percent - half, percent + half], rel=1e-9
        )
        assert row.effect_over_half_width == pytest.approx(abs(percent) / half, rel=1e-9)
        sharp[row.study, row.cell, row.metric] = abs(percent) / half
        told |= {round(percent, 1), round(percent - half, 1), round(percent + half, 1), round(half, 1)}
        assert f"{percent:+.1f}\u202f% ± {half:.1f}".replace("-", "−") in page
    narrowing = [r / sharp[s, c, "fid"] for (s, c, m), r in sharp.items() if m == "held_out_loss"]
    assert effects["times_narrower"].dropna().unique() == pytest.approx(narrowing, rel=1e-9)
    holds = sum(ratio >= 3 for ratio in narrowing)
    assert f"In {holds} of 4 effects the interval of the held-out loss" in page
    assert page.count(", holds") == holds
    assert f"(median {np.median(narrowing):.1f} times" in page
    found = re.findall(r"\(([+−][\d.]+)\u202f% \[([+−][\d.]+),\u00a0([+−][\d.]+)\]\)", page)
    assert len(found) == 2 * 2 + 2  # a sentence says both ends of one arm, of each metric
    assert {number(part) for words in found for part in words} <= told
    assert "Its held-out loss was not measured." in page
    whole = Page((folder / "index.html").read_text(encoding="utf-8"))
    marks = [link for link in whole.all("href") if link.startswith("#runs-")]
    assert len(marks) >= len(effects)
    assert {mark[1:] for mark in marks} <= set(whole.all("id"))


def test_claims_of_all_studies_are_one_family_and_one_was_found_after(folder: Path) -> None:
    values, claims = pd.read_csv(folder / "values.csv"), pd.read_csv(folder / "claims.csv")
    assert claims["when"].tolist() == ["stated before", "stated before", "found after"]
    p = []
    for _, row in claims.iterrows():
        percent, _, t = again(*(seeds_of(values, row, cell, row.metric) for cell in (row.cell, row.against)))
        assert row.change_percent == pytest.approx(percent, rel=1e-9)
        p.append(float(scipy.stats.t.sf(-t if row.direction == "lower" else t, 3)))
    assert claims["p_one_sided"].tolist() == pytest.approx(p, rel=1e-9)
    order = np.argsort(p)
    holm = np.maximum.accumulate(np.minimum(1, np.array([3, 2, 1]) * np.array(p)[order]))
    assert claims["p_holm_of_all"].to_numpy()[order] == pytest.approx(holm, rel=1e-9)
    assert ((claims["verdict"] == "holds") == (claims["p_holm_of_all"] < 0.05)).all()


def test_costs_starts_and_gaps_are_those_of_the_files(folder: Path) -> None:
    costs, starts, gaps = (pd.read_csv(folder / f"{name}.csv") for name in ("costs", "starts", "gaps"))
    # A training of 40 epochs is a part of that of 80, and one baseline on another machine is in the pairs of two arms.
    assert costs[["trainings", "pairs", "pairs_on_equal_machines"]].to_numpy().tolist() == [[24, 16, 16], [12, 8, 6]]
    page = Page((folder / "index.html").read_text(encoding="utf-8")).text
    assert costs["core_hours"].tolist() == pytest.approx([24 * 0.1 * 2, 12 * 0.1 * 2])  # of two threads each
    assert costs["machines"].tolist() == ["EPYC, 2 cores (24)", "EPYC, 2 cores (11); Xeon, 2 cores (1)"]
    assert "4.80 core-hours" in page
    mean = np.mean([0.4, 0.42, 0.44, 0.46])
    assert starts["distance_before"].to_numpy() == pytest.approx(mean)
    assert starts["distance_after_10_steps"].tolist() == pytest.approx([11 * mean, 2 * mean] * 2)
    assert starts["tau_over_distance"].tolist() == pytest.approx([0.5 / mean, 0.05 / mean] * 2)
    assert starts["warned"].tolist() == [8, 0, 4, 0]
    assert f"D went from {mean:.2f} to {11 * mean:.2f} in ten steps, and 8 of 8 trainings were warned of" in page
    assert gaps["loss_gap"].tolist() == pytest.approx([0.103, 0.153])
    assert "(after ten steps 0.050 and 0.050)" in page
    assert "(from 0.103 at images 100 to 0.153 at images 200)" in page


def test_made_again_the_page_has_the_same_bytes(folder: Path) -> None:
    other = folder.with_name("again")
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.*") if path.is_file())
    assert len(names) == 6 + 1 + 2  # CSVs, the page, figures
    assert [name for name in names if (folder / name).read_bytes() != (other / name).read_bytes()] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sign"], "names of studies are expected"),
        (["--sign", "data", "--watch"], "neither --compare nor --watch"),
        (["--sign", "data.zip"], "is a bundle"),
        (["data", "long"], "one STUDY is expected, found 2; --sign makes one page over several"),
    ],
)
def test_what_is_no_page_over_studies_is_refused_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(cli, ["report", *words], catch_exceptions=False)
