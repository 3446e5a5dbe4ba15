"""Checkpoints as the public code saves them, of the golden files' one network."""

import argparse
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from support.places import GOLDEN as GOLDEN_FOLDER

from harness.config.grid import model_specs
from harness.config.grid_file import read_scale
from harness.config.spec import TrainSpec

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


def golden_specs(folder: Path) -> dict[str, TrainSpec]:
    """The training of every family with the golden files' network, by the model's name; `folder`: an empty one."""
    (folder / "golden.yaml").write_text(yaml.safe_dump(SCALE))
    return model_specs(*read_scale("golden", folder), ("SiT", "DiT", "MF"))


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
