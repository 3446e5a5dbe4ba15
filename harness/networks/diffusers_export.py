"""A DiT as a folder of diffusers' `DiTTransformer2DModel`: config.json and safetensors, written without diffusers."""

import itertools
import json
from pathlib import Path

from safetensors.torch import save_file

from harness.config.imported_weights import Architecture
from harness.errors import UserError
from harness.files import as_umask, make_folder
from harness.networks.public_layouts import Tensors

# Our modules → diffusers', for block i; there, each block has its own embedders.
NAMES = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "transformer_blocks.{i}.norm1.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "transformer_blocks.{i}.norm1.emb.timestep_embedder.linear_2",
    "y_embedder.embedding_table": "transformer_blocks.{i}.norm1.emb.class_embedder.embedding_table",
    "blocks.{i}.adaLN_modulation.1": "transformer_blocks.{i}.norm1.linear",
    "blocks.{i}.attn.proj": "transformer_blocks.{i}.attn1.to_out.0",
    "blocks.{i}.mlp.fc1": "transformer_blocks.{i}.ff.net.0.proj",
    "blocks.{i}.mlp.fc2": "transformer_blocks.{i}.ff.net.2",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
FREQUENCIES_NOTE = (
    "diffusers embeds the time with frequencies 10000^(−i/127), the public DiT code and ours with 10000^(−i/128): for "
    "equal outputs set norm1.emb.time_proj.downscale_freq_shift = 0 in each of its transformer_blocks"
)


def export_diffusers(state: Tensors, architecture: Architecture, out: Path) -> None:
    """Write the state of a DiT's network as a new folder that `DiTTransformer2DModel.from_pretrained` loads.

    Raises:
        UserError: the model is no DiT, or one with long residuals.
    """
    if architecture.process != "ddpm":
        raise UserError(
            f"--format diffusers: its DiTTransformer2DModel is given times 0 to 999 and predicts noise; nothing in its "
            f"config could say that this {architecture.process} model is not so: export it as --format public"
        )
    if architecture.model.residuals:
        raise UserError(
            "--format diffusers: its DiTTransformer2DModel has no long residuals: export the model as --format public"
        )

    def fill(folder: Path) -> None:
        tensors = diffusers_names(state, architecture.model.depth)
        path = folder / "diffusion_pytorch_model.safetensors"
        save_file(tensors, path, {"format": "pt"})
        as_umask(path)
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
    """The network's state → diffusers' names; positions are no weights there; queries, keys and values lie apart."""
    named: Tensors = {}
    for i, ending in itertools.product(range(depth), ("weight", "bias")):
        for ours, theirs in NAMES.items():
            name = f"{ours.format(i=i)}.{ending}"
            if name in state:  # the table of labels has no bias
                named[f"{theirs.format(i=i)}.{ending}"] = state[name]
        for letter, third in zip("qkv", state[f"blocks.{i}.attn.qkv.{ending}"].chunk(3), strict=True):
            named[f"transformer_blocks.{i}.attn1.to_{letter}.{ending}"] = third
    return {name: tensor.clone() for name, tensor in named.items()}
