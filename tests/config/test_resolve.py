"""From the paper's words to specs: what an alignment becomes, what is hashed of it, and what is refused."""

import re

import pytest
from support.places import GRIDS
from support.specs import OWN, REPA, aligned_spec

from harness.config.cluster_profile import SlurmProfile
from harness.config.grid import load_table
from harness.config.imported_weights import architecture_of
from harness.config.resolve import SettingError, resolve, resolve_blocks
from harness.config.settings.loss_settings import SaraSettings
from harness.config.settings.resources import Resources
from harness.config.spec import Alignment, TrainSpec, canonical, train_id
from harness.errors import UserError

SOFT = "SoftREPA, a reading"


def run(*overrides: str):
    return load_table(GRIDS / "table6.yaml", "imagenet256", overrides).runs


def test_repa_shares_nothing_and_the_others_are_table_fives():
    baseline, repa, dispersive = run()
    assert baseline.train.alignment is None
    assert dispersive.train.alignment is None
    assert repa.train.alignment == Alignment(
        loss="cosine", coefficient=0.5, block=8, hidden=2048, encoder="vit_base_patch14_dinov2.lvd142m",
        weights="published", side=224,
    )  # fmt: skip
    assert len({r.train_id for r in (baseline, repa, dispersive)}) == 3
    assert repa.train.model_copy(update={"alignment": None}) == baseline.train


def test_irepas_projector_has_a_kernel_and_no_width_and_repa_no_field_of_irepa():
    repa = run()[1].train.alignment
    irepa = run("alignment.kernel=3", "alignment.alpha=0.6")[1].train.alignment
    assert irepa == repa.model_copy(update={"hidden": None, "kernel": 3, "alpha": 0.6})
    assert not {"kernel", "alpha"} & set(repa.model_dump(exclude_none=True))
    assert repa.model_dump(exclude_none=True).keys() >= {"hidden"}
    for wrong in ("alignment.kernel=2", "alignment.kernel=true", "alignment.alpha=1.1"):
        with pytest.raises(UserError, match=wrong.partition("=")[0].replace(".", r"\.")):
            run(wrong)
    with pytest.raises(UserError, match=r"alignment\.alpha: SiT-S/8 here has one token"):
        load_table(GRIDS / "table6.yaml", "smoke", ["model=SiT-S/8", "alignment.alpha=0.6"])


def test_long_residuals_are_of_the_model_and_a_network_without_them_is_what_it_was():
    table = load_table(GRIDS / "table2.yaml", "smoke")
    settings = table.cells[0].settings
    plain, long = (
        resolve(settings.model_copy(update={"residuals": residuals}), table.scale, 0)[0]
        for residuals in ("none", "long")
    )
    assert train_id(plain) == table.cells[0].runs[0].train_id != train_id(long)
    assert long.model == plain.model.model_copy(update={"residuals": "long"})
    assert '"residuals"' not in canonical(plain)
    assert str(architecture_of(long)) == str(architecture_of(plain)).replace("patch 2,", "patch 2, long residuals,")
    flat = {size: rung.model_copy(update={"depth": 1}) for size, rung in table.scale.ladder.items()}
    with pytest.raises(SettingError, match="has one block, and nothing to join; say none") as error:
        resolve(settings.model_copy(update={"residuals": "long"}), table.scale.model_copy(update={"ladder": flat}), 0)
    assert error.value.key == "residuals"


def test_sara_needs_tokens_to_compare_and_a_level_of_its_own():
    table = load_table(GRIDS / "table6.yaml", "smoke")
    settings = table.cells[1].settings
    sara = settings.model_copy(update={"alignment": settings.alignment.model_copy(update={"loss": "sara"})})
    repa, ours = (resolve(each, table.scale, 0)[0].alignment for each in (settings, sara))
    assert ours == repa.model_copy(update={"loss": "sara", "sara": SaraSettings()})
    assert repa.sara is None
    with pytest.raises(SettingError, match="SiT-S/8 here has one token") as error:
        resolve(sara.model_copy(update={"model": "SiT-S/8"}), table.scale, 0)
    assert error.value.key == "alignment.sara.structure"
    with pytest.raises(UserError, match="structure and adversary are both 0, which is REPA"):
        run("alignment.sara.structure=0", "alignment.sara.adversary=0")


def test_a_second_phase_is_of_the_row_without_it_and_named_by_all_that_it_is():
    def cell(*words: str, row: str = "none"):
        return next(c for c in load_table(GRIDS / "table8.yaml", "digits", words).cells if dict(c.at)["method"] == row)

    first, second = cell().runs[0], cell(row=SOFT).runs[0]
    assert train_id(second.train.first_phase) == first.train_id
    assert (second.train.soft_tokens.after, second.evaluation.step) == (first.evaluation.step, 32)
    changes = {"after": 5, "blocks": 1, "count": 2, "group": 8, "temperature": 0.1, "denoising": 10.0,
               "learning_rate": 0.1, "weight_decay": 0.0}  # fmt: skip
    assert changes.keys() == set(type(second.train.soft_tokens).model_fields)
    phases = [second.train.soft_tokens.model_copy(update={key: value}) for key, value in changes.items()]
    ids = {train_id(second.train.model_copy(update={"soft_tokens": phase})) for phase in phases}
    assert len(ids | {second.train_id, first.train_id}) == len(changes) + 2


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ("model=DiT-B/2", "soft_tokens.epochs", "defined for SiT"),
        ("evaluation.weights=raw", "evaluation.weights", "frozen average"),
        ("soft_tokens.group=3", "soft_tokens.group", "groups of 3 do not divide the batch of 128"),
        ("data.classes=1", "soft_tokens.epochs", "digits has one class"),
        ("soft_tokens.blocks=9", "soft_tokens.blocks", "no block 9 in a network of 6 blocks"),
    ],
)
def test_what_has_nothing_to_contrast_is_refused(change, key, words):
    with pytest.raises(UserError, match=rf"{re.escape(key)}: .*{words}"):
        load_table(GRIDS / "table2.yaml", "digits", ["soft_tokens.epochs=1", change])


def test_all_that_makes_the_alignment_is_hashed():
    def identity(**changes) -> str:
        return train_id(aligned_spec(alignment=REPA.model_copy(update=changes)))

    file = {"encoder": "vit_base_patch16_224", "own": None}
    ids = [identity(), identity(coefficient=0.4), identity(block=1), identity(hidden=25), identity(kernel=3),
           identity(kernel=3, alpha=1.0), identity(alpha=0.6),
           *(identity(sara=SaraSettings(**sara)) for sara in ({}, {"adversary": 0.2}, {"autocorrelation": "sum"})),
           identity(**file, weights="published"), identity(**file, weights="0" * 64),
           identity(**file, weights="published", side=96),
           *(identity(own=OWN.model_copy(update=change))
             for change in ({"steps": 3}, {"patch": 8}, {"architecture": "test_vit2"}, {"seed": 1}))]  # fmt: skip
    assert len({*ids, train_id(aligned_spec(alignment=None))}) == len(ids) + 1


def test_subset_warm_up_and_a_share_of_the_distance_are_hashed_and_what_was_stored_keeps_its_name():
    """A temperature is a number or a share: what a higher layer says of it takes the place of either."""
    share = "regularizer.tau={of_distance: 0.1}"
    words = (), ("data.subset=100",), ("regularizer.warm_up=3",), (share,), ("regularizer.tau.of_distance=0.1",)
    trains = [load_table(GRIDS / "figure4.yaml", "digits", list(said)).runs[-1].train for said in words]
    assert [canonical(trains[0]).count(word) for word in ("subset", "warm_up", "of_distance")] == [0, 0, 0]
    assert [trains[1].data.subset, trains[2].regularizer.warm_up, trains[3].regularizer.tau] == [
        100, 3 * 8, {"of_distance": 0.1}
    ]  # fmt: skip
    assert trains[3] == trains[4] == TrainSpec.model_validate_json(canonical(trains[3]))
    assert len({train_id(train) for train in trains}) == 4


@pytest.mark.parametrize(
    ("table", "word", "message"),
    [
        ("table2", "regularizer.tau={of_distance: 0.1}", "of_distance is of infonce-l2, whose D has no bound"),
        ("table4", "regularizer.tau={of_distance: 0.1}", "its label would lie"),
        ("figure4", "regularizer.tau={of_distance: 0}", "a number above 0, or of_distance: with one, is expected"),
        ("figure4", "regularizer.tau={share: 1}", "or of_distance: with a number, is expected"),
        ("table7a", "dropout=0.1", "SiT and DiT have it alone; leave it out of MF-"),
        ("figure4", "data.subset=0", "greater than or equal to 1"),
    ],
)
def test_a_wrong_axis_is_refused_in_one_line(table: str, word: str, message: str):
    with pytest.raises(UserError) as error:
        load_table(GRIDS / f"{table}.yaml", "digits", [word])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ({"block": 6}, "alignment.block"),
        ({"own": None}, "alignment.own"),
        ({"own": OWN.model_copy(update={"patch": 5})}, "alignment.own.patch"),
    ],
)
def test_what_does_not_fit_together_is_refused(words, key):
    table = load_table(GRIDS / "table6.yaml", "smoke")
    settings = table.cells[1].settings
    wrong = settings.model_copy(update={"alignment": settings.alignment.model_copy(update=words)})
    with pytest.raises(SettingError) as error:
        resolve(wrong, table.scale, 0)
    assert error.value.key == key


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["resources.processes=3"], "resources.processes: 3 processes cannot share a batch of 32 evenly"),
        (["resources.gpus=2", "resources.nodes=2"], "4 processes cannot share a batch of 32 evenly in whole groups"),
        (["resources.gpus=1", "resources.processes=2"], "resources.processes: 2 processes need as many GPUs, not 1"),
        (["resources.micro_batch=5"], "resources.micro_batch: 5 must divide a process's share of 32 samples"),
        (["resources.micro_batch=8"], "resources.micro_batch: 8 must divide a process's share of 32 samples and be a"),
        (["resources.processes=2", "resources.micro_batch=32"], "resources.micro_batch: 32 must divide a process's"),
        (["resources.checkpoint_blocks=true"], "resources.checkpoint_blocks: "),
    ],
)
def test_what_cannot_be_shared_is_refused_by_the_plan(settings: list[str], message: str):
    table = "table7a" if "checkpoint" in message else "table2"
    with pytest.raises(UserError, match=re.escape(message)):
        load_table(GRIDS / f"{table}.yaml", "smoke", settings)


def test_sharing_is_not_hashed_and_slurm_is_asked_for_it():
    plain = load_table(GRIDS / "table2.yaml", "smoke").runs
    settings = ["resources.nodes=2", "resources.gpus=1", "resources.cpus=3", "resources.micro_batch=16"]
    shared = load_table(GRIDS / "table2.yaml", "smoke", settings).runs
    assert [run.eval_id for run in plain] == [run.eval_id for run in shared]
    array = SlurmProfile().parameters(shared[0].resources, "name", 1)
    assert (array["nodes"], array["ntasks_per_node"], array["gpus_per_node"], array["cpus_per_task"]) == (2, 1, "1", 3)
    two = SlurmProfile().parameters(Resources(processes=2, memory_gb=3), "name", 1)
    assert (two["ntasks_per_node"], two["mem"]) == (2, "6GB")
    assert "gpus_per_node" not in two


def test_a_term_stops_after_the_papers_epochs_and_that_is_hashed():
    table = load_table(GRIDS / "table6.yaml", "smoke")
    settings, epoch = table.cells[1].settings, table.scale.steps_per_epoch

    def train(regularizer_stop: int | None, alignment_stop: int | None) -> TrainSpec:
        regularizer = settings.regularizer.model_copy(update={"loss": "infonce-l2", "stop": regularizer_stop})
        alignment = settings.alignment.model_copy(update={"stop": alignment_stop})
        changed = settings.model_copy(update={"regularizer": regularizer, "alignment": alignment})
        return resolve(changed, table.scale, 0)[0]

    plain, stopping = train(None, None), train(2, 3)
    assert (plain.regularizer.stop, plain.alignment.stop) == (None, None)
    assert '"stop"' not in canonical(plain)
    assert (stopping.regularizer.stop, stopping.alignment.stop) == (2 * epoch, 3 * epoch)
    assert len({train_id(train(*stops)) for stops in ((None, None), (2, 3), (2, None), (None, 3))}) == 4
    regularizer, alignment = (getattr(stopping, name) for name in ("regularizer", "alignment"))
    never = {"regularizer": regularizer.model_copy(update={"stop": None})}
    assert stopping.model_copy(update=never | {"alignment": alignment.model_copy(update={"stop": None})}) == plain
    with pytest.raises(UserError, match=r"alignment\.stop"):
        load_table(GRIDS / "table6.yaml", "smoke", ["alignment.stop=0"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=DiT-B/2", "sampler.method=heun"], "cannot be sampled by heun; legal: ancestral, ddim"),
        (["model=MF-B/2", "sampler.guidance=1.5"], "guidance in the training target"),
        (["model=MF-B/2", "sampler.guidance_to=2"], "meanflow.omega, kappa, start and end"),
        (["sampler.guidance=1.5", "sampler.guidance_from=2", "sampler.guidance_to=2"], "above 2 and up to 2"),
        (["model=Shortcut-B/2", "sampler.guidance=1.5"], "guidance in the training target"),
        (["model=Shortcut-B/2", "sampler.intervals=3"], "1, 2, 4, 8, 16, 32, 64 or 128 steps"),
        (["model=IMM-B/2", "batch=30"], "groups of 4"),
        (["model=IMM-B/2", "batch=12", "regularizer.group=6"], "groups of 4"),
        (["model=iCT-B/2"], "length of its curriculum"),
        (["model=iCT-B/2", "consistency.epochs=1", "consistency.finest=10000"], "8 steps are too few for a curriculum"),
        (["model=iCT-B/2", "consistency.epochs=80", "sampler.intervals=2"], "in 1 step"),
        (["model=iCT-B/2", "consistency.epochs=80", "sampler.guidance=1.5"], "without guidance"),
    ],
)
def test_what_a_family_cannot_do_is_refused(overrides, words):
    with pytest.raises(UserError, match=words):
        load_table(GRIDS / "table2.yaml", "digits", overrides)


@pytest.mark.parametrize(
    ("words", "depth", "numbers"),
    [
        ("3/12", 12, (3,)), ("3/12", 24, (6,)), ("3/12", 28, (7,)), ("3/12", 8, (2,)), ("1/12", 8, (1,)),
        ("last", 12, (12,)), ("all", 4, (1, 2, 3, 4)), (5, 12, (5,)), ((1, "last"), 12, (1, 12)),
    ],
)  # fmt: skip
def test_block_words(words, depth, numbers):
    assert resolve_blocks(words, depth) == numbers


def test_the_papers_default_block_and_where_a_share_of_the_depth_is_another():
    assert [resolve_blocks("3/12", depth) for depth in (12, 24, 28)] == [(12 // 4,), (24 // 4,), (28 // 4,)]
    assert [resolve_blocks("3/12", depth) for depth in (6, 10)] == [(6 // 4 + 1,), (10 // 4 + 1,)]


@pytest.mark.parametrize("words", [13, "13/12", (1, 99)])
def test_impossible_blocks(words):
    with pytest.raises(SettingError, match="no block"):
        resolve_blocks(words, 12)
