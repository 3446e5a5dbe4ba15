"""docs/library.md: its examples run and lower both losses, and what it says of diffusers' networks is so."""

import inspect
import re
import runpy

import numpy as np
import pytest
import torch
from support.places import ROOT

from harness import DispersiveLoss, tap
from harness.method.loss_modules import Constants

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
PAGE = (ROOT / "docs" / "library.md").read_text("utf-8")


def test_the_page_leads_to_each_short_example_and_names_each_argument():
    assert sorted(re.findall(r"\]\(examples/(\w+\.py)\)", PAGE)) == [path.name for path in EXAMPLES]
    assert [len(path.read_text().splitlines()) <= 25 for path in EXAMPLES] == [True] * 3
    arguments = {name for public in (DispersiveLoss, tap) for name in inspect.signature(public).parameters}
    for name in (arguments | set(Constants.__annotations__)) - {"constants", "model"}:
        assert f"`{name}`" in PAGE, name


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_lowers_both_losses(path):
    if path.stem == "accelerate_loop":
        pytest.importorskip("accelerate")
    with torch.random.fork_rng():
        log = np.array(runpy.run_path(str(path))["log"])
    models = 2 if path.stem == "diffusers_models" else 1
    for denoising, repulsion in (run.T for run in np.split(log, models)):
        third = len(denoising) // 3
        assert denoising[-third:].mean() < denoising[:third].mean()
        assert repulsion[-third:].mean() < repulsion[:third].mean() < 0


@pytest.mark.slow
def test_blocks_of_a_network_like_sdxl_are_tapped_also_where_they_are_checkpointed():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    net = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), cross_attention_dim=24,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=64,
    ).train()  # fmt: skip
    x, t, words = torch.randn(4, 4, 8, 8), torch.arange(4), torch.randn(4, 7, 24)
    conditions = {"text_embeds": torch.randn(4, 16), "time_ids": torch.randn(4, 6)}

    def gradient() -> torch.Tensor:
        with tap(net, "mid_block", "down_blocks.1", output=0) as features:
            net(x, t, words, added_cond_kwargs=conditions)
        loss = sum(map(DispersiveLoss(), features.values()))
        return torch.autograd.grad(loss, net.conv_in.weight)[0]

    plain = gradient()
    assert plain.norm() > 0
    net.enable_gradient_checkpointing()
    assert torch.equal(gradient(), plain)
    with pytest.raises(TypeError, match=r"down_blocks\.1 returns a tuple"), tap(net, "down_blocks.1"):
        net(x, t, words, added_cond_kwargs=conditions)
