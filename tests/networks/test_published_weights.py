"""Published checkpoints: every public layout loads, samples as its reference did, and is written back as it was."""

import argparse
import json
import os
import pickle
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from support.places import GOLDEN as GOLDEN_FOLDER
from support.places import GRIDS

from harness.cli import cli
from harness.config import imported_weights as imported
from harness.config.grid import load_table, model_specs
from harness.config.grid_file import read_scale
from harness.config.spec import train_id
from harness.errors import UserError
from harness.files import read_json, read_jsonl
from harness.jobs.job import jobs_for
from harness.jobs.local_pool import LocalPool
from harness.method.backbone import DiT
from harness.method.processes import ddpm, flow, meanflow
from harness.networks import checkpoint
from harness.networks.build import build_net
from harness.networks.public_layouts import read_parts
from harness.networks.published_weights import export, import_file, place
from harness.store.store import Store

GOLDEN = {name: load_file(GOLDEN_FOLDER / f"{name}_given.safetensors") for name in ("disp", "dit", "mf")}
# The network of the golden files: one size, which every family has.
SCALE = {
    "scale": "golden", "title": "the golden files' network", "steps_per_epoch": 1, "seeds": [0],
    "ladder": {"S": {"depth": 3, "width": 48, "heads": 3}}, "patches": {"2": 2, "4": 4},
    "settings": {"batch": 32, "data": {"name": "golden", "channels": 4, "size": 8, "classes": 10, "flip": False}},
    "families": {"DiT": {"sampler": {"method": "ancestral"}}, "MF": {"sampler": {"method": "average-velocity"}}},
}  # fmt: skip


def golden(file, head):
    prefix = f"{head}.weights/"
    return {name.removeprefix(prefix): t for name, t in GOLDEN[file].items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scales")
    (folder / "golden.yaml").write_text(yaml.safe_dump(SCALE))
    return model_specs(read_scale("golden", folder), ("SiT", "DiT", "MF"))


def other(state):
    """The weights of `model` where those of `ema` are given; the position table is the same."""
    return {name: t if name == "pos_embed" else t + 0.125 for name, t in state.items()}


def release(state, prefix=""):
    """What train.py of DiT, SiT and DispLoss saves: network, EMA, optimiser and arguments."""
    model = {prefix + name: t for name, t in other(state).items()}
    optimizer = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    args = argparse.Namespace(model="SiT-XL/2", image_size=256, disp=True, results_dir="results")
    return {"model": model, "ema": state, "opt": optimizer, "args": args}


SIT, SIT_SIGMA, DIT, MF = golden("disp", "sit"), golden("disp", "sit_ls"), golden("dit", "dit"), golden("mf", "mf")
PORT = {name.replace("h_embedder", "r_embedder"): t.float() for name, t in MF.items()} | {"pos_embed": SIT["pos_embed"]}
# file name, what torch.save is given, model, the weights of `ema` (or all) under their plain names
LAYOUTS = {
    "DiT, raw": ("a.pt", DIT, "DiT-S/2", DIT),
    "SiT, raw, learned sigma": ("a.pt", SIT_SIGMA, "SiT-S/2", SIT_SIGMA),
    "DispLoss, release, learned sigma": ("a.pt", release(SIT_SIGMA), "SiT-S/2", SIT_SIGMA),
    "DispLoss, DDP and compile": ("a.pth", release(SIT, "module._orig_mod."), "SiT-S/2", SIT),
    "state_dict": ("a.bin", {"state_dict": SIT, "epoch": 3}, "SiT-S/2", SIT),
    "MeanFlow, official names": ("a.pt", {"ema": MF}, "MF-S/2", MF),
    "MeanFlow, PyTorch port": ("a.pt", {"ema": PORT, "model": other(PORT), "steps": 7}, "MF-S/2", PORT),
    "half": ("a.pt", {name: t.bfloat16() for name, t in SIT.items()}, "SiT-S/2", None),
}


def endpoints(name, net):
    """Sample as the reference did: (ours, its)."""
    disp, dit, mf = GOLDEN["disp"], GOLDEN["dit"], GOLDEN["mf"]
    if name.startswith("DiT"):
        noises = dit["ddpm10.noises"]
        ours = ddpm.sample(net, dit["ddpm10.z"], dit["ddpm10.y"], "ancestral", 10, lambda step: noises[step])
        return ours, dit["ddpm10.sample"]
    if name.startswith("MeanFlow"):
        return meanflow.sample(net, mf["mf.e"], mf["mf.y"].long(), 2), mf["mf.sample2.from_e"]
    if "sigma" in name:
        return net(disp["sit_ls.x"], (disp["sit_ls.t"],), disp["sit_ls.y"])[0], disp["sit_ls.out"]
    return flow.sample(net, disp["ode.z"], disp["ode.y"], "heun", 11), disp["ode.heun2_12gridpoints"]


@pytest.mark.parametrize("name", LAYOUTS)
@torch.no_grad()
def test_every_public_layout_loads_samples_and_is_written_back(name, specs, tmp_path):
    file, content, model, state = LAYOUTS[name]
    path, root, kept = tmp_path / file, tmp_path / "weights", tmp_path / "run"
    torch.save(content, path)
    held = import_file(path, "given", {model: specs[model]}, root)
    place(specs[model].model_copy(update={"weights": held.sha256}), root, kept)
    net = build_net(specs[model])
    net.load_state_dict(checkpoint.load_weights(kept, 0, "ema"))
    ours, expected = endpoints(name, net.eval())
    tolerance = 0.05 if name == "half" else 1e-4
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)
    for suffix in (".pt", ".safetensors"):
        out = tmp_path / f"out{suffix}"
        export(imported.tensors_path(root, "given"), out)
        assert_equal_parts(read_parts(out), read_parts(path))
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    if state is not None:
        assert_equal_parts({"": written.get("ema", written.get("state_dict", written))}, {"": state})
    assert (tmp_path / "out.pt").stat().st_size < 1.3 * (tmp_path / "out.safetensors").stat().st_size


def assert_equal_parts(a, b):
    assert a.keys() == b.keys()
    for part, tensors in b.items():
        assert a[part].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert a[part][name].dtype == tensor.dtype
            assert torch.equal(a[part][name], tensor)


@torch.no_grad()
def test_a_head_with_learned_sigma_samples_as_the_public_code_does(specs, tmp_path):
    """Which runs all 2C channels and takes the first half."""
    torch.save(release(SIT_SIGMA), tmp_path / "a.pt")
    held = import_file(tmp_path / "a.pt", "given", {"SiT-S/2": specs["SiT-S/2"]}, tmp_path)
    place(specs["SiT-S/2"].model_copy(update={"weights": held.sha256}), tmp_path, tmp_path / "run")
    net, whole = build_net(specs["SiT-S/2"]), DiT(8, 2, 4, 48, 3, 3, num_classes=10, learn_sigma=True)
    net.load_state_dict(checkpoint.load_weights(tmp_path / "run", 0, "model"))
    whole.load_state_dict(other(SIT_SIGMA))

    def public(x, times, y, taps=()):
        return whole(x, times, y, taps)[0].chunk(2, dim=1)[0], []

    z, y = GOLDEN["disp"]["ode.z"], GOLDEN["disp"]["ode.y"]
    ours, expected = (flow.sample(field, z, y, "heun", 4) for field in (net, public))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_network_and_ema_get_their_own(specs, tmp_path):
    torch.save(release(SIT), tmp_path / "a.pt")
    held = import_file(tmp_path / "a.pt", "given", {"SiT-S/2": specs["SiT-S/2"]}, tmp_path)
    place(specs["SiT-S/2"].model_copy(update={"weights": held.sha256}), tmp_path, tmp_path / "run")
    name = "blocks.1.mlp.fc1.weight"
    assert torch.equal(checkpoint.load_weights(tmp_path / "run", 0, "ema")[name], SIT[name])
    assert torch.equal(checkpoint.load_weights(tmp_path / "run", 0, "model")[name], SIT[name] + 0.125)


def test_what_is_known_of_the_weights_is_told(specs, tmp_path):
    torch.save({"ema": PORT}, tmp_path / "b.pt")
    port = import_file(tmp_path / "b.pt", "port", specs, tmp_path)
    torch.save(release(SIT_SIGMA), tmp_path / "a.pt")
    sigma = import_file(tmp_path / "a.pt", "sigma", {"SiT-S/2": specs["SiT-S/2"]}, tmp_path)
    assert (port.label, port.parts, sigma.parts) == ("MF-S/2", ("ema",), ("ema", "model"))
    assert port.remarks[0].startswith("r_embedder")
    assert sigma.remarks[0].startswith("learned sigma")
    assert sigma == imported.describe(tmp_path, "sigma")
    checked = subprocess.run(["sha256sum", tmp_path / "a.pt"], capture_output=True, text=True, check=True)
    assert sigma.origin == imported.Origin(file="a.pt", sha256=checked.stdout.split()[0])
    save_file({f"ema.{name}": t for name, t in PORT.items()}, tmp_path / "c.safetensors")
    again = import_file(tmp_path / "c.safetensors", "copy", specs, tmp_path)
    assert again.sha256 == port.sha256 != sigma.sha256  # the identity is of the tensors, whatever file


def test_the_model_is_inferred_from_shapes_where_they_leave_no_choice(specs, tmp_path):
    for name, state, label in (("a", SIT, "SiT-S/2"), ("b", MF, "MF-S/2")):
        torch.save(state, tmp_path / f"{name}.pt")
        assert import_file(tmp_path / f"{name}.pt", name, specs, tmp_path).label == label
    torch.save(SIT_SIGMA, tmp_path / "c.pt")
    with pytest.raises(UserError, match="SiT-S/2, DiT-S/2 have tensors of these shapes; say which with --model"):
        import_file(tmp_path / "c.pt", "c", specs, tmp_path)
    torch.save(SIT | {"pos_embed": SIT["pos_embed"][:, :4]}, tmp_path / "d.pt")
    with pytest.raises(UserError, match="fits no model of the scale; say --model"):
        import_file(tmp_path / "d.pt", "d", specs, tmp_path)


QKV, LABELS = "blocks.1.attn.qkv.bias", "y_embedder.embedding_table.weight"
WRONG = {
    "missing": ({n: t for n, t in SIT.items() if n != QKV}, f"{QKV}: expected (144,), found none"),
    "extra": (SIT | {"projector.weight": torch.ones(2, 3)}, "projector.weight: expected no such tensor, found (2, 3)"),
    "misshapen": (SIT | {LABELS: torch.ones(10, 48)}, f"{LABELS}: expected (11, 48), found (10, 48)"),
    "of integers": (SIT | {QKV: SIT[QKV].long()}, f"{QKV}: expected (144,), found torch.int64"),
    "several": ({n: t for n, t in SIT.items() if "attn.proj" not in n}, "(and 5 more)"),
    "other positions": (SIT | {"pos_embed": SIT["pos_embed"].flip(1)}, "pos_embed: off the fixed sines by"),
    "no positions": ({n: t for n, t in SIT.items() if n != "pos_embed"}, "pos_embed: expected (1, 16, 48), found none"),
    "in model alone": ({"ema": SIT, "model": SIT | {QKV: torch.ones(3)}}, f"model: {QKV}: expected (144,), found (3,)"),
    "no weights": ({"opt": {}, "args": argparse.Namespace()}, "expected at the top or under ema, model, state_dict"),
    "a list": ([1, 2], "names and tensors are expected, found list"),
    "a number among them": ({"ema": SIT | {"depth": 3}}, "found something else among them"),
    "two of a name": (SIT | {f"module.{QKV}": SIT[QKV]}, f"two tensors are called {QKV}"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_does_not_fit_is_refused_by_name(mistake, specs, tmp_path):
    content, message = WRONG[mistake]
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError) as error:
        import_file(tmp_path / "a.pt", "given", {"SiT-S/2": specs["SiT-S/2"]}, tmp_path / "weights")
    assert message in str(error.value)
    assert str(tmp_path / "a.pt") in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "weights").exists()


class Code:
    """Makes a folder when it is unpickled as pickles usually are."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_a_pickle_with_code_is_refused_and_does_not_run(form, specs, tmp_path):
    content, path, mark = {"ema": SIT, "args": Code(tmp_path / "mark")}, tmp_path / "a.pt", tmp_path / "mark"
    if form == "bare":
        path.write_bytes(pickle.dumps(Code(mark), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UserError, match=r"refused, it (holds posix\.mkdir|is not tensors as .*): pickles can run"):
        import_file(path, "given", specs, tmp_path / "weights")
    assert not mark.exists()
    pickle.loads(pickle.dumps(content["args"]))
    assert mark.exists()  # it would have run


def test_no_checkpoint_at_all(specs, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"no checkpoint")
    (tmp_path / "a.safetensors").write_bytes(b"no checkpoint")
    (tmp_path / "a.ckpt").write_bytes(b"no checkpoint")
    for name, message in (("a.pt", "a.pt: "), ("a.safetensors", "not a safetensors file"), ("a.ckpt", "found '.ckpt'"),
                          ("b.pt", "no such file")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            import_file(tmp_path / name, "given", specs, tmp_path / "weights")


def test_a_name_is_never_given_to_other_weights(specs, tmp_path):
    torch.save(SIT, tmp_path / "a.pt")
    first = import_file(tmp_path / "a.pt", "given", specs, tmp_path)
    assert import_file(tmp_path / "a.pt", "given", specs, tmp_path) == first
    torch.save(other(SIT), tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds other weights under this name"):
        import_file(tmp_path / "a.pt", "given", specs, tmp_path)
    with pytest.raises(UserError, match="a name is letters"):
        import_file(tmp_path / "a.pt", "../given", specs, tmp_path)
    spec = specs["SiT-S/2"].model_copy(update={"weights": first.sha256})
    save_file({name: t + 1 for name, t in SIT.items()}, tmp_path / "given.safetensors")
    with pytest.raises(UserError, match=r"not the tensors that given\.json names"):
        place(spec, tmp_path, tmp_path / "run")


def test_diffusers_computes_the_same_from_the_exported_folder(specs, tmp_path, monkeypatch):
    """But for its frequencies of time, which are not the public DiT's: equal at t = 0, and when mended everywhere."""
    import diffusers

    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "weights"))
    torch.save(release(DIT), tmp_path / "a.pt")
    import_file(tmp_path / "a.pt", "dit", {"DiT-S/2": specs["DiT-S/2"]}, tmp_path / "weights")
    said = CliRunner().invoke(cli, ["weights", "export", "dit", str(tmp_path / "out"), "--format", "diffusers"])
    assert "downscale_freq_shift = 0" in said.output
    net, report = diffusers.DiTTransformer2DModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    x, y, given = GOLDEN["dit"]["dit.x"], GOLDEN["dit"]["dit.y"], GOLDEN["dit"]["dit.t"]
    ours = build_net(specs["DiT-S/2"])
    ours.load_state_dict(DIT)
    compare = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        compare(net(x, given * 0, y).sample, ours(x, (given * 0,), y)[0])
        with pytest.raises(AssertionError):
            compare(net(x, given, y).sample, GOLDEN["dit"]["dit.out"])
        for block in net.transformer_blocks:
            block.norm1.emb.time_proj.downscale_freq_shift = 0
        compare(net(x, given, y).sample, GOLDEN["dit"]["dit.out"])


def test_diffusers_has_no_place_for_velocities(specs, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path))
    torch.save(SIT, tmp_path / "a.pt")
    import_file(tmp_path / "a.pt", "sit", specs, tmp_path)
    said = CliRunner().invoke(cli, ["weights", "export", "sit", str(tmp_path / "out"), "--format", "diffusers"])
    assert isinstance(said.exception, UserError)
    assert "this flow model is not so" in str(said.exception)
    assert not (tmp_path / "out").exists()


GRID = """
table: imported
title: Published checkpoints
question: What do they give here?
rows: weights
base: {preset: paper, model: SiT-S/2}
axes:
  weights:
    given: {weights: given, epochs: 0}
vary: [{row: {weights: given}}]
"""


@pytest.fixture
def project(tmp_path, monkeypatch, scratch):
    """A folder with a grid of imported weights, and a file that fits SiT-S/2 at smoke."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_WEIGHTS", raising=False)
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "imported.yaml").write_text(GRID)
    for part in ("scales", "presets"):
        (tmp_path / "grids" / part).symlink_to(GRIDS / part)
    net = DiT(8, 2, 1, 16, 4, 2, num_classes=10, learn_sigma=True).initialise(5)
    torch.manual_seed(0)
    torch.nn.init.normal_(net.final_layer.linear.weight, std=0.02)
    torch.save(release(net.state_dict()), "given.pt")
    return tmp_path


def harness(*words):
    return " ".join(CliRunner().invoke(cli, words, catch_exceptions=False).output.split())


def test_an_imported_model_is_measured_by_the_same_job_and_nothing_is_trained(project):
    with pytest.raises(UserError, match=r"imported.yaml:9: weights: no weights 'given' in weights; 'harness weights"):
        harness("plan", "grids/imported.yaml", "--scale", "smoke")
    said = harness("weights", "import", "given.pt", "--name", "given", "--model", "SiT-S/2", "--scale", "smoke")
    assert "given: SiT-S/2 (flow, 4 blocks of width 16" in said
    assert "given: SiT-S/2, ema and model" in harness("weights", "list")
    assert "0 steps of 32; 1 trainings" in harness("plan", "grids/imported.yaml", "--scale", "smoke")
    harness("run", "grids/imported.yaml", "--scale", "smoke")
    (run,) = load_table(Path("grids/imported.yaml"), "smoke").runs
    store = Store(Path("results"), Path("scratch"), "smoke")
    assert read_json(store.eval_path(run.train_id, run.eval_id))["metrics"]["fid"] > 0
    assert read_jsonl(store.run_folder(run.train_id) / "train.jsonl") == []
    assert read_json(store.run_folder(run.train_id) / "spec.json")["weights"] == run.train.weights
    assert [p.name for p in store.scratch_folder(run.train_id).glob("*.safetensors")] == [
        "weights-00000000.safetensors"
    ]
    harness("weights", "export", f"smoke/{run.train_id}", "back.pt")
    back, given = torch.load("back.pt", weights_only=True), read_parts(Path("given.pt"))
    for part in ("ema", "model"):
        for name, tensor in back[part].items():
            kept = given[part][name]
            assert torch.equal(tensor, kept.unflatten(0, (-1, 2))[:, 0] if "final_layer.linear" in name else kept)
    for missing in (Path("weights/given.safetensors"), Path("given.pt")):
        missing.unlink()
    assert "1 done" in harness("status", "smoke")  # the JSON is enough
    with pytest.raises(UserError, match=r"given\.safetensors is not here; import the file again"):
        harness("run", "grids/imported.yaml", "--scale", "smoke", "--study", "again")


def test_weights_of_another_shape_are_refused_by_the_plan(project):
    harness("weights", "import", "given.pt", "--name", "given", "--model", "SiT-S/2", "--scale", "smoke")
    with pytest.raises(UserError, match=r"--set: weights: 'givn'|no weights 'givn' in weights; did you mean 'given'"):
        harness("plan", str(GRIDS / "table2.yaml"), "--scale", "smoke", "--set", "weights=givn")
    with pytest.raises(
        UserError, match=r"'given' is SiT-S/2 \(flow, 4 blocks of width 16 .*SiT-B/2 here is flow, 4 bl"
    ):
        harness("plan", str(GRIDS / "table2.yaml"), "--scale", "smoke", "--set", "weights=given")
    content = json.loads(Path("weights/given.json").read_text())
    Path("weights/given.json").write_text(json.dumps(content | {"sha256": 3}))
    with pytest.raises(UserError, match=r"weights/given.json: sha256: Input should be a valid string; import"):
        harness("plan", "grids/imported.yaml", "--scale", "smoke")


def test_fine_tuning_begins_from_both_and_is_another_training(project, monkeypatch):
    harness("weights", "import", "given.pt", "--name", "given", "--model", "SiT-S/2", "--scale", "smoke")
    Path("grids/imported.yaml").write_text(GRID.replace("epochs: 0", "epochs: 2"))
    overrides = ["optimizer.learning_rate=1.0e-9", "ema=0.5"]
    (tuned,) = load_table(Path("grids/imported.yaml"), "smoke", overrides).runs
    monkeypatch.setattr("harness.jobs.job.Job._evaluate", lambda *_: None)
    (job,) = jobs_for([tuned], Store(Path("results"), Path("scratch"), "smoke"), Path("data"))
    assert job().state == "done"
    kept, given = job.store.scratch_folder(job.train_id), read_parts(Path("given.pt"))
    name = "blocks.1.mlp.fc1.weight"
    torch.testing.assert_close(checkpoint.load_weights(kept, 2, "model")[name], given["model"][name], rtol=0, atol=1e-6)
    quarter = 0.25 * given["ema"][name] + 0.75 * given["model"][name]  # two steps of EMA 0.5
    torch.testing.assert_close(checkpoint.load_weights(kept, 2, "ema")[name], quarter, rtol=0, atol=1e-6)
    assert train_id(tuned.train.model_copy(update={"weights": None})) != tuned.train_id


@pytest.mark.slow
def test_two_processes_begin_from_them_and_align_as_one_does(project):
    """One of the two places the weights and tells the facts; the encoder is trained once."""
    harness("weights", "import", "given.pt", "--name", "given", "--model", "SiT-S/2", "--scale", "smoke")
    Path("grids/imported.yaml").write_text(GRID.replace("epochs: 0", "epochs: 20"))
    aligned = ["alignment.loss=cosine", "alignment.block=last"]
    jobs = {}
    for study, words in (("one", []), ("two", ["resources.processes=2"])):
        (run,) = load_table(Path("grids/imported.yaml"), "smoke", [*aligned, *words]).runs
        store = Store(Path("results"), Path("scratch"), study)
        (jobs[study],) = jobs_for([run], store, Path("data"))
    outcomes = []
    LocalPool(list(jobs.values()), 1, lambda job, outcome: outcomes.append(outcome)).run()
    assert [outcome.state for outcome in outcomes if outcome] == ["done", "done"]
    assert jobs["one"].train_id == jobs["two"].train_id
    folders = [job.store.run_folder(job.train_id) for job in jobs.values()]
    facts, logs = [read_json(f / "facts.json") for f in folders], [read_jsonl(f / "train.jsonl") for f in folders]
    assert facts[0] == facts[1]
    assert facts[0]["projector_parameters"] > 0
    assert len(logs[0]) == 5
    for line, line2 in zip(*logs, strict=True):
        told = ("denoising", "alignment", "gradient_norm")
        assert [line[name] for name in told] == pytest.approx([line2[name] for name in told], rel=1e-3)


# Millions of parameters, for patches 8, 4 and 2, as Table 4 of DiT prints them: of what is trained.
PUBLISHED = {"S": (33, 33, 33), "B": (131, 130, 130), "L": (459, 458, 458), "XL": (676, 675, 675)}


def parameters(family, size, patch):
    """Counted by hand: n blocks of width d, patches of p² × 4 numbers, 1001 labels; without the position table."""
    n, d = {"S": (12, 384), "B": (12, 768), "L": (24, 1024), "XL": (28, 1152)}[size]
    pixels, head = 4 * patch**2, (8 if family == "DiT" else 4) * patch**2
    block = (3 + 1 + 4 + 4 + 6) * d**2 + (3 + 1 + 4 + 1 + 6) * d
    times = (2 if family == "MF" else 1) * ((256 + 1) * d + (d + 1) * d)
    final = 2 * d**2 + 2 * d + (d + 1) * head
    return n * block + (pixels + 1) * d + times + 1001 * d + final


def test_parameter_counts_are_the_published_ones():
    specs = model_specs(read_scale("imagenet256", GRIDS / "scales"), ("SiT", "DiT", "MF"))
    assert len(specs) == 3 * 4 * 3
    counts = {}
    for name, spec in specs.items():
        family, size, patch = name.replace("/", "-").split("-")
        with torch.device("meta"):
            net = build_net(spec)
        counts[name] = sum(p.numel() for p in net.parameters() if p.requires_grad)
        assert counts[name] == parameters(family, size, int(patch)), name
        if family == "DiT":
            assert round(counts[name] / 1e6) == PUBLISHED[size][(8, 4, 2).index(int(patch))], name
    assert counts["DiT-XL/2"] + 256 * 1152 == 675_129_632  # what the public code prints, with the position table
    assert [round(counts[name] / 1e6) for name in ("SiT-XL/2", "MF-XL/2", "MF-B/4")] == [675, 676, 131]
