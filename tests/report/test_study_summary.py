"""What was run, in words."""

from pathlib import Path

from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of

from harness.config.kinds.process_kinds import FAMILIES
from harness.config.kinds.sampler_kinds import SAMPLERS
from harness.report.rendering.captions import WORDS, heading
from harness.report.rendering.study_summary import study_lines


def test_every_sampler_and_process_has_its_words() -> None:
    assert set(WORDS["samplers"]) == set(SAMPLERS.built_in)
    assert set(WORDS["processes"]) == set(FAMILIES)


def test_lengths_and_names_read_as_meant(tmp_path: Path) -> None:
    tables = [synthetic.table_of(name) for name in ("convergence", "figure4", "table7a")]
    assert [table.name_in_words for table in tables] == ["FID over training", "Figure 4", "Table 7a"]
    assert [heading(table) for table in tables] == [
        "FID over training",
        "Figure 4. DiT and SiT from S to XL",
        "Table 7a. MeanFlow, one network evaluation",
    ]
    store = synthetic.new_store(tmp_path)
    summary = study_lines([pivot_of(store, tables[0])])
    assert summary["Length"] == ["0, 160, 320 and 640 steps stand for 0, 20, 40 and 80 of the paper’s epochs"]
    summary = study_lines([pivot_of(store, tables[1])])
    assert summary["Networks"][0] == "6 blocks of width 32 with 2 heads, patch 4, stand for DiT-S/2 and SiT-S/2"
    assert summary["Processes"] == [
        "DiT: DDPM of 1,000 steps; the network predicts the noise and the variance",
        "SiT: flow matching on straight paths; the network predicts the velocity",
    ]
