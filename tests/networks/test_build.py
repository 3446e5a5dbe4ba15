"""Networks are built from specs: as large as the published ones."""

import torch
from support.places import GRIDS

from harness.config.grid import model_specs
from harness.config.grid_file import read_scale
from harness.networks.build import build_net

# Millions of parameters, for patches 8, 4 and 2, as Table 4 of DiT prints them: of what is trained.
PUBLISHED = {"S": (33, 33, 33), "B": (131, 130, 130), "L": (459, 458, 458), "XL": (676, 675, 675)}


def parameters(family, size, patch):
    """Counted by hand: n blocks of width d, patches of p² × 4 numbers, 1001 labels; without the position table."""
    n, d = {"S": (12, 384), "B": (12, 768), "L": (24, 1024), "XL": (28, 1152)}[size]
    pixels, head = 4 * patch**2, (8 if family == "DiT" else 4) * patch**2
    block = (3 + 1 + 4 + 4 + 6) * d**2 + (3 + 1 + 4 + 1 + 6) * d
    times = (2 if family == "MF" else 1) * ((256 + 1) * d + (d + 1) * d)
    final = 2 * d**2 + 2 * d + (d + 1) * head
    return n * block + (pixels + 1) * d + times + 1001 * d + final


def test_parameter_counts_are_the_published_ones():
    specs = model_specs(read_scale("imagenet256", GRIDS / "scales"), ("SiT", "DiT", "MF"))
    assert len(specs) == 3 * 4 * 3
    counts = {}
    for name, spec in specs.items():
        family, size, patch = name.replace("/", "-").split("-")
        with torch.device("meta"):
            net = build_net(spec)
        counts[name] = sum(p.numel() for p in net.parameters() if p.requires_grad)
        assert counts[name] == parameters(family, size, int(patch)), name
        if family == "DiT":
            assert round(counts[name] / 1e6) == PUBLISHED[size][(8, 4, 2).index(int(patch))], name
    assert counts["DiT-XL/2"] + 256 * 1152 == 675_129_632  # what the public code prints, with the position table
    assert [round(counts[name] / 1e6) for name in ("SiT-XL/2", "MF-XL/2", "MF-B/4")] == [675, 676, 131]
