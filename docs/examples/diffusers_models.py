"""Diffusers: DiTTransformer2DModel with its second block tapped, and UNet2DModel with its middle."""

import torch
from diffusers import DDPMScheduler, DiTTransformer2DModel, UNet2DModel

from harness import DispersiveLoss, tap

torch.manual_seed(0)
shared = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "norm_num_groups": 8}
dit = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=16, num_layers=3, **shared)
unet = UNet2DModel(block_out_channels=(16, 16, 32, 32), num_class_embeds=1000, **shared)
schedule, disperse = DDPMScheduler(), DispersiveLoss("infonce-l2", tau=0.5, weight=0.5)
images, labels, log = torch.randn(16, 4, 8, 8), torch.arange(16) % 10, []
for model, name in ((dit, "transformer_blocks.1"), (unet, "mid_block")):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with tap(model, name) as features:
        for _ in range(12):
            noise, t = torch.randn_like(images), torch.randint(1000, (16,))
            predicted = model(schedule.add_noise(images, noise, t), t, class_labels=labels).sample
            denoising, repulsion = (predicted - noise).square().mean(), disperse(features[name])
            optimizer.zero_grad()
            (denoising + repulsion).backward()
            optimizer.step()
            log.append((denoising.item(), repulsion.item()))
