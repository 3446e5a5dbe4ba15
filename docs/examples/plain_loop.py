"""A plain loop of torch: a flow model of 8×8 pictures, with Dispersive Loss on the output of its second layer."""

import torch
from torch import nn

from harness import DispersiveLoss, tap

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(65, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64))
disperse = DispersiveLoss.preset("paper")  # λ 0.5, τ 0.5, pairs inside groups of 16 samples
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
images = torch.rand(64, 64)
log = []
with tap(model, "1") as features:
    for _ in range(40):
        noise, t = torch.randn_like(images), torch.rand(len(images), 1)
        velocity = model(torch.cat([(1 - t) * images + t * noise, t], dim=1))
        denoising, repulsion = (velocity - (noise - images)).square().mean(), disperse(features["1"])
        optimizer.zero_grad()
        (denoising + repulsion).backward()
        optimizer.step()
        log.append((denoising.item(), repulsion.item()))
