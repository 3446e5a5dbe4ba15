"""Published checkpoints: every public layout loads, samples as its reference did, and is written back as it was."""

import subprocess

import pytest
import torch
from safetensors.torch import save_file
from support.public_checkpoints import DIT, GOLDEN, MF, PORT, SIT, SIT_SIGMA, other, release

from harness.config import imported_weights as imported
from harness.errors import UserError
from harness.method.processes import ddpm, flow, meanflow
from harness.networks import checkpoint, published_weights
from harness.networks.build import build_net
from harness.networks.public_layouts import read_parts
from harness.networks.published_weights import export, import_file, place

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
    path, root, folder = tmp_path / file, tmp_path / "weights", tmp_path / "run"
    torch.save(content, path)
    description = import_file(path, "given", {model: specs[model]}, root)
    place(specs[model].model_copy(update={"weights": description.sha256}), root, folder)
    net = build_net(specs[model])
    net.load_state_dict(checkpoint.load_weights(folder, 0, "ema"))
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


def test_network_and_ema_get_their_own(specs, tmp_path):
    torch.save(release(SIT), tmp_path / "a.pt")
    description = import_file(tmp_path / "a.pt", "given", {"SiT-S/2": specs["SiT-S/2"]}, tmp_path)
    place(specs["SiT-S/2"].model_copy(update={"weights": description.sha256}), tmp_path, tmp_path / "run")
    name = "blocks.1.mlp.fc1.weight"
    assert torch.equal(checkpoint.load_weights(tmp_path / "run", 0, "ema")[name], SIT[name])
    assert torch.equal(checkpoint.load_weights(tmp_path / "run", 0, "model")[name], SIT[name] + 0.125)


def test_weights_that_were_imported_before_they_were_looked_at_are_refused(specs, tmp_path, monkeypatch):
    name = "blocks.1.mlp.fc1.weight"
    torch.save(SIT | {name: SIT[name] / 0}, tmp_path / "a.pt")
    spec = specs["SiT-S/2"]
    with monkeypatch.context() as patched:
        patched.setattr(published_weights, "check_weights", lambda *_: None)
        sha256 = import_file(tmp_path / "a.pt", "given", {"SiT-S/2": spec}, tmp_path).sha256
    with pytest.raises(UserError, match=rf"given\.safetensors: raw: {name}: .* values are not finite"):
        place(spec.model_copy(update={"weights": sha256}), tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=rf"given\.safetensors: raw: {name}: .* values are not finite"):
        export(imported.tensors_path(tmp_path, "given"), tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


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


def test_a_name_is_never_given_to_other_weights(specs, tmp_path):
    torch.save(SIT, tmp_path / "a.pt")
    first = import_file(tmp_path / "a.pt", "given", specs, tmp_path)
    assert import_file(tmp_path / "a.pt", "given", specs, tmp_path) == first
    torch.save(other(SIT), tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds other weights under this name"):
        import_file(tmp_path / "a.pt", "given", specs, tmp_path)
    with pytest.raises(UserError, match="a name is at most 100 letters"):
        import_file(tmp_path / "a.pt", "../given", specs, tmp_path)
    spec = specs["SiT-S/2"].model_copy(update={"weights": first.sha256})
    save_file({name: t + 1 for name, t in SIT.items()}, tmp_path / "given.safetensors")
    with pytest.raises(UserError, match=r"not the tensors that given\.json names"):
        place(spec, tmp_path, tmp_path / "run")
