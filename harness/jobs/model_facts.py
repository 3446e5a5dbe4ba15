"""`facts.json` of a run: what only torch can know of it, kept for the report, which has none."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.spec import TrainSpec
from harness.errors import UserError
from harness.files import read_json, write_json

if TYPE_CHECKING:
    from harness.networks.encoder import FrozenEncoder


def record_facts(folder: Path, train: TrainSpec, encoder: "FrozenEncoder | None") -> None:
    """Write the numbers of parameters and, where there is an alignment, which encoder it was.

    Raises:
        UserError: the training began with other weights of the encoder; half of each would be neither.
    """
    path = folder / "facts.json"
    found, held = facts_of(train, encoder), read_json(path)
    began = held["encoder"]["sha256"] if isinstance(held, dict) and held.get("encoder") else None
    if encoder and began and began != encoder.record["sha256"]:
        raise UserError(
            f"{path}: this training began with encoder weights of sha256 {began[:12]}, and now finds "
            f"{encoder.record['sha256'][:12]}; bring the first back, or remove the run's folders to begin anew"
        )
    if held != found:
        write_json(path, found)


def facts_of(train: TrainSpec, encoder: "FrozenEncoder | None") -> dict[str, Any]:
    """Count what the sampled network, the projector and the encoder hold; the network's positions are not learned."""
    import torch

    from harness.networks.build import build_net, build_terms

    with torch.device("meta"):  # counted without being made
        net = build_net(train)
        terms = build_terms(train, encoder.width) if encoder else []
    return {
        "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "projector_parameters": sum(p.numel() for term in terms for p in term.parameters()) if encoder else None,
        "encoder": encoder.record if encoder else None,
    }
