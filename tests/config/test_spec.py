"""Identities: what they depend on, what they do not, and that they never drift."""

import pytest
from pydantic import ValidationError
from support.places import GRIDS

from harness.config.grid import load_table
from harness.config.spec import TrainSpec, canonical, eval_id, train_id


def run(table="table2", scale="imagenet256", overrides=(), index=0):
    return load_table(GRIDS / f"{table}.yaml", scale, overrides).runs[index]


OF_SAMPLER = ["sampler.matmul=null", "sampler.tile=null", "sampler.decode=null"]
BEFORE = ["evaluation.reference_part=null", *OF_SAMPLER]  # what these scales did not set when their ids were pinned


def test_ids_are_pinned():
    """A changed id orphans stored results: change these only together with the meaning of a field."""
    tables, scales = ("table2", "table3", "table4"), ("imagenet256", "cifar10")
    rows = {f"{t}/{s}/{i}": run(t, s, BEFORE, index=i) for t in tables for s in scales for i in (0, 3)}
    assert {key: f"{r.train_id} {r.eval_id}" for key, r in rows.items()} == PINNED


def test_a_default_of_the_sampler_said_is_the_measurement_that_says_none():
    said = ["sampler.matmul=fp32", "sampler.tile=64", "sampler.decode=1"]
    assert run(overrides=said).eval_id == run(overrides=OF_SAMPLER).eval_id
    others = ["sampler.matmul=tf32", "sampler.tile=16", "sampler.decode=8"]
    ids = {run(overrides=[*OF_SAMPLER, other]).eval_id for other in others}
    assert len(ids | {run(overrides=OF_SAMPLER).eval_id}) == 4


def test_measurement_does_not_touch_the_training():
    plain, guided = run(), run(overrides=["sampler.guidance=1.5"])
    assert plain.train_id == guided.train_id
    assert plain.eval_id != guided.eval_id


def test_longer_training_is_the_same_training():
    assert run(overrides=["epochs=800"]).train_id == run(overrides=["epochs=80"]).train_id


def test_resources_are_not_hashed():
    changed = run(overrides=["resources.cpus=3", "resources.log_every=7"])
    assert changed.resources == run().resources.model_copy(update={"cpus": 3, "log_every": 7}) != run().resources
    assert (changed.train_id, changed.eval_id) == (run().train_id, run().eval_id)


def test_every_method_field_is_hashed():
    base = run(index=3, overrides=["regularizer.tau=0.5"])
    changes = ["regularizer.tau=0.7", "regularizer.lambda=0.7", "regularizer.group=32", "regularizer.blocks=all",
               "optimizer.beta2=0.999", "label_drop=0.2", "ema=0.999", "batch=512", "precision=fp32", "matmul=high",
               "data.flip=false", "model=SiT-S/2", "seeds=[1]"]  # fmt: skip
    ids = [run(index=3, overrides=[change]).train_id for change in changes]
    assert len({base.train_id, *ids}) == len(changes) + 1


def test_a_new_optional_field_leaves_old_ids_alone():
    class Later(TrainSpec):
        knob: float | None = None

    train = run(index=3).train
    later = Later(**{name: getattr(train, name) for name in TrainSpec.model_fields})
    assert canonical(later) == canonical(train)
    assert train_id(later) == train_id(train)


def test_shortcut_models_learn_from_themselves_as_often_as_their_authors_code_says():
    """But at digits, where stored trainings have the paper's one in four and keep their identity."""
    shortcut = [run("table7b", "digits", index=2), run("table7b", index=1)]
    assert [r.train.shortcut.every for r in shortcut] == [4, 8]
    assert [r.train_id for r in shortcut] == ["9670b5249167", "2e8ea5dba28c"]


def test_the_baseline_does_not_know_the_regularizer():
    assert run(overrides=["regularizer.tau=2.0", "regularizer.group=32"]).train_id == run().train_id


def test_tables_share_the_baseline_and_the_default():
    two, three, four = (load_table(GRIDS / f"table{n}.yaml", "imagenet256") for n in (2, 3, 4))
    ids = [{run.eval_id for run in table.runs} for table in (two, three, four)]
    assert len(ids[0] & ids[1] & ids[2]) == 2


def test_eval_id_depends_on_the_training():
    a, b = run(index=0), run(index=1)
    assert a.evaluation == b.evaluation
    assert eval_id(a.train_id, a.evaluation) != eval_id(b.train_id, b.evaluation)


def test_specs_are_frozen():
    with pytest.raises(ValidationError):
        run().train.seed = 3  # type: ignore[misc]


PINNED = {
    "table2/imagenet256/0": "1f53196443be cd7a1954d04f",
    "table2/imagenet256/3": "8e9b085827fb 1b882e6da365",
    "table2/cifar10/0": "b1c6a8935c9e 242f5c10b04b",
    "table2/cifar10/3": "2a414f5e0018 67e85b1a8b9f",
    "table3/imagenet256/0": "1f53196443be cd7a1954d04f",
    "table3/imagenet256/3": "8b10231b778d 0fefc116a3f9",
    "table3/cifar10/0": "b1c6a8935c9e 242f5c10b04b",
    "table3/cifar10/3": "26c637706791 deb6dd50e5c3",
    "table4/imagenet256/0": "2d6e529e06e2 bdfe51a7b26a",
    "table4/imagenet256/3": "60d93f496f51 74653fe0f630",
    "table4/cifar10/0": "16bb9e0da385 471d8aec0653",
    "table4/cifar10/3": "35eedb126e5d bc5422c60bfd",
}
