"""Accelerate: bf16, and pairs among the samples of all processes, however many `accelerate launch` starts."""

import torch
from accelerate import Accelerator
from torch import nn

from harness import DispersiveLoss, tap

torch.manual_seed(0)
accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
model = nn.Sequential(nn.Linear(65, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64))
loader = torch.utils.data.DataLoader(torch.rand(640, 64), batch_size=16)
model, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3), loader)
disperse = DispersiveLoss(tau=0.5, weight=0.5, gather=True)
log = []
with tap(model, "1") as features:
    for images in loader:
        noise, t = torch.randn_like(images), torch.rand(len(images), 1, device=images.device)
        velocity = model(torch.cat([(1 - t) * images + t * noise, t], dim=1))
        denoising, repulsion = (velocity - (noise - images)).square().mean(), disperse(features["1"])
        optimizer.zero_grad()
        accelerator.backward(denoising + repulsion)
        optimizer.step()
        log.append((denoising.item(), repulsion.item()))
