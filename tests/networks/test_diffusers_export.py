"""A DiT is written as a folder with which diffusers computes the same."""

from functools import partial

import pytest
import torch
from click.testing import CliRunner
from support.public_checkpoints import DIT, GOLDEN, SIT, release

from harness.cli import cli
from harness.errors import UserError
from harness.networks.build import build_net
from harness.networks.published_weights import import_file


def test_diffusers_computes_the_same_from_the_exported_folder(specs, tmp_path, monkeypatch):
    """But for its frequencies of time, which are not the public DiT's: equal at t = 0, and when mended everywhere."""
    import diffusers

    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "weights"))
    torch.save(release(DIT), tmp_path / "a.pt")
    import_file(tmp_path / "a.pt", "dit", {"DiT-S/2": specs["DiT-S/2"]}, tmp_path / "weights")
    result = CliRunner().invoke(cli, ["weights", "export", "dit", str(tmp_path / "out"), "--format", "diffusers"])
    assert "downscale_freq_shift = 0" in result.output
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
    result = CliRunner().invoke(cli, ["weights", "export", "sit", str(tmp_path / "out"), "--format", "diffusers"])
    assert isinstance(result.exception, UserError)
    assert "this flow model is not so" in str(result.exception)
    assert not (tmp_path / "out").exists()
