"""A DiT as a folder of diffusers' `DiTTransformer2DModel`: config.json and safetensors, written without diffusers."""

import json
from pathlib import Path

from safetensors.torch import save_file

from harness.config.imported_weights import Architecture
from harness.errors import UserError
from harness.files import make_folder
from harness.networks.public_layouts import Tensors

# Our names → diffusers' names, outside the blocks and inside one.
OUTSIDE = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
INSIDE = {
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
CONDITIONING = {
    "t_embedder.mlp.0": "timestep_embedder.linear_1",
    "t_embedder.mlp.2": "timestep_embedder.linear_2",
    "y_embedder.embedding_table": "class_embedder.embedding_table",
}
FREQUENCIES_NOTE = (
    "diffusers embeds the time with frequencies 10000^(−i/127), the public DiT code and ours with 10000^(−i/128): for "
    "equal outputs set norm1.emb.time_proj.downscale_freq_shift = 0 in each of its transformer_blocks"
)


def export_diffusers(state: Tensors, architecture: Architecture, out: Path) -> None:
    """Write the state of a DiT's network as a folder that `DiTTransformer2DModel.from_pretrained` loads.

    Raises:
        UserError: the model is no DiT, or `out` exists.
    """
    if architecture.process != "ddpm":
        raise UserError(
            f"--format diffusers: its DiTTransformer2DModel is given times 0 to 999 and predicts noise; nothing in its "
            f"config could say that this {architecture.process} model is not so: export it as --format public"
        )
    if out.exists():
        raise UserError(f"{out}: exists already; choose another name")

    def fill(folder: Path) -> None:
        tensors = diffusers_names(state, architecture.model.depth)
        save_file(tensors, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config(architecture), indent=2) + "\n", encoding="utf-8")

    make_folder(out, fill)


def config(architecture: Architecture) -> dict[str, object]:
    """Return config.json. diffusers' own default of norm_eps is 1e-5, the public code's is 1e-6."""
    return {
        "_class_name": "DiTTransformer2DModel",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": architecture.model.width // architecture.model.heads,
        "in_channels": architecture.channels,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "norm_type": "ada_norm_zero",
        "num_attention_heads": architecture.model.heads,
        "num_embeds_ada_norm": architecture.classes,
        "num_layers": architecture.model.depth,
        "out_channels": 2 * architecture.channels,
        "patch_size": architecture.model.patch,
        "sample_size": architecture.size,
    }


def diffusers_names(state: Tensors, depth: int) -> Tensors:
    """The network's state → diffusers' names; its position table is no weight, and each block has its own embedders."""
    named: Tensors = {}
    for ending in ("weight", "bias"):
        named |= {f"{theirs}.{ending}": state[f"{ours}.{ending}"] for ours, theirs in OUTSIDE.items()}
        for number in range(depth):
            ours_block, theirs_block = f"blocks.{number}", f"transformer_blocks.{number}"
            for ours, theirs in INSIDE.items():
                named[f"{theirs_block}.{theirs}.{ending}"] = state[f"{ours_block}.{ours}.{ending}"]
            for letter, third in zip("qkv", state[f"{ours_block}.attn.qkv.{ending}"].chunk(3), strict=True):
                named[f"{theirs_block}.attn1.to_{letter}.{ending}"] = third
            for ours, theirs in CONDITIONING.items():
                if f"{ours}.{ending}" in state:
                    named[f"{theirs_block}.norm1.emb.{theirs}.{ending}"] = state[f"{ours}.{ending}"]
    return {name: tensor.clone() for name, tensor in named.items()}
