"""Checkpoints of somebody else: imported tensor by tensor, or refused by the tensor's name."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import strategies as st
from safetensors.torch import load_file, save
from support.fuzzing import SCALARS, Content, command, spliced
from support.public_checkpoints import SCALE, SIT

pytestmark = pytest.mark.fuzz

TENSORS = {
    "NaN": lambda t: torch.full_like(t, float("nan")),
    "one infinite": lambda t: t.index_fill(0, torch.tensor([0]), float("inf")) if t.dim() else t / 0,
    "half": lambda t: t.half(),
    "double": lambda t: t.double(),
    "huge": lambda t: (t.double() + 1e300),
    "whole": lambda t: t.int(),
    "complex": lambda t: t.to(torch.complex64),
    "transposed": lambda t: t.T if t.dim() == 2 else t[None],
    "part": lambda t: t[:1],
    "none": lambda t: t[:0],
    "expanded": lambda t: torch.zeros(1).expand(10**9),
    "sparse": lambda t: t.to_sparse(),
    "not a tensor": lambda t: "text",
}  # fmt: skip


def saved(state: dict[str, Any], wrapped: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"ema": state, "model": state} if wrapped else state, file)
    return file.getvalue()


@st.composite
def checkpoints(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw a file's suffix and bytes: tensors that are others, named otherwise, left out, or a torn file."""
    state: dict[str, Any] = dict(SIT)
    name = draw(st.sampled_from(sorted(state)))
    kind = draw(st.sampled_from((*sorted(TENSORS), "rename", "remove", "add", "torn", "torn", "as it is")))
    if kind in TENSORS:
        state[name] = TENSORS[kind](state[name])
    elif kind == "rename":
        state[str(draw(st.sampled_from(SCALARS))).replace("\udcff", "")] = state.pop(name)
    elif kind == "remove":
        del state[name]
    elif kind == "add":
        state[f"{name}.x"] = torch.zeros(2)
    if kind not in ("expanded", "sparse", "not a tensor") and draw(st.booleans()):
        plain = {key: t.contiguous().clone() for key, t in state.items()}
        suffix, content = ".safetensors", save(plain)
    else:
        suffix, content = draw(st.sampled_from((".pt", ".pth", ".bin", ".ckpt"))), saved(state, draw(st.booleans()))
    return suffix, draw(spliced(content)) if kind == "torn" else Content(content)


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    content = torch.load(path, weights_only=True)
    return content.get("ema", content)


def test_what_is_imported_is_finite_and_what_the_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, explore: Any
) -> None:
    (tmp_path / "golden.yaml").write_text(yaml.safe_dump(SCALE))
    names = iter(range(10**9))

    def check(drawn: tuple[str, bytes]) -> None:
        suffix, content = drawn
        given, out = tmp_path / f"given{suffix}", tmp_path / "out.safetensors"
        given.write_bytes(content)
        monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / f"weights{next(names)}"))
        words = ("--model", "SiT-S/2", "--scale", "golden", "--scales", ".")
        if command(tmp_path, "weights", "import", given.name, "--name", "given", *words).code:
            return
        out.unlink(missing_ok=True)
        assert command(tmp_path, "weights", "export", "given", out.name).code == 0
        written, held = tensors_of(out), tensors_of(given)
        for name, tensor in written.items():
            plain = name.removeprefix("ema.").removeprefix("model.")
            assert torch.isfinite(tensor).all(), name
            assert torch.equal(tensor.double(), held[plain if plain in held else name].double()), name

    explore(check, checkpoints(), 80)
