"""Files of the public code: what does not fit is refused by name, and nothing of a file is run."""

import argparse
import os
import pickle

import pytest
import torch
from support.public_checkpoints import GOLDEN, SIT, SIT_SIGMA, other, release

from harness.errors import UserError
from harness.method.backbone import DiT
from harness.method.processes import flow
from harness.networks import checkpoint
from harness.networks.build import build_net
from harness.networks.published_weights import import_file, place


@torch.no_grad()
def test_a_head_with_learned_sigma_samples_as_the_public_code_does(specs, tmp_path):
    """Which runs all 2C channels and takes the first half."""
    torch.save(release(SIT_SIGMA), tmp_path / "a.pt")
    description = import_file(tmp_path / "a.pt", "given", {"SiT-S/2": specs["SiT-S/2"]}, tmp_path)
    place(specs["SiT-S/2"].model_copy(update={"weights": description.sha256}), tmp_path, tmp_path / "run")
    net, whole = build_net(specs["SiT-S/2"]), DiT(8, 2, 4, 48, 3, 3, num_classes=10, learn_sigma=True)
    net.load_state_dict(checkpoint.load_weights(tmp_path / "run", 0, "model"))
    whole.load_state_dict(other(SIT_SIGMA))

    def public(x, times, y, taps=()):
        return whole(x, times, y, taps)[0].chunk(2, dim=1)[0], []

    z, y = GOLDEN["disp"]["ode.z"], GOLDEN["disp"]["ode.y"]
    ours, expected = (flow.sample(field, z, y, "heun", 4) for field in (net, public))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


QKV, LABELS = "blocks.1.attn.qkv.bias", "y_embedder.embedding_table.weight"


ONE_INFINITE = SIT[QKV].index_fill(0, torch.tensor([7]), float("inf"))
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
    "NaN": (SIT | {QKV: SIT[QKV] * float("nan")}, f"raw: {QKV}: 144 of 144 values are not finite (the first is nan)"),
    "infinite": ({"ema": SIT, "model": SIT | {QKV: ONE_INFINITE}}, f"model: {QKV}: 1 of 144 values are not finite"),
    "beyond float32": (SIT | {QKV: SIT[QKV].double() + 1e300}, f"{QKV}: 144 of 144 values are not finite"),
    "sparse": (SIT | {QKV: SIT[QKV].to_sparse()}, f"{QKV} is sparse; dense tensors of real numbers are read"),
    "complex": (SIT | {QKV: SIT[QKV].to(torch.complex64)}, f"{QKV} is complex"),
    "endless": (SIT | {QKV: torch.zeros(1).expand(10**12)}, f"{QKV}: expected (144,), found (1000000000000,)"),
    "numbers for names": ({0: torch.ones(3)}, "expected at the top or under ema"),
    "numbers for names within": ({"ema": {0: torch.ones(3)}}, "ema: names and tensors are expected"),
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
