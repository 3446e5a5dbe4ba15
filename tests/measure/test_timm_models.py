"""Features of any network of timm."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

from harness.errors import UserError
from harness.measure.extractors.extractor import array_features, extractor

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "width"), [("test_vit.r160_in1k", 64), ("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", 512)]
)
def test_features_of_any_network_of_timm(tmp_path, name: str, width: int) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    made = extractor(name, "", tmp_path, tmp_path, tmp_path / "weights.pth")
    images = rng.integers(0, 256, (2, 3, 20, 20), np.uint8)
    found = array_features(images, made).pool
    cfg = network.pretrained_cfg
    x = torch.stack([torch.from_numpy(image).float() / 255 for image in images])
    x = F.interpolate(x, cfg["input_size"][1:], mode="bicubic", antialias=True)
    x = (x - torch.tensor(cfg["mean"])[:, None, None]) / torch.tensor(cfg["std"])[:, None, None]
    with torch.no_grad():  # CLIP's embedding is what timm has for its classes
        expected = network(x) if "clip" in name else network.forward_head(network.forward_features(x), pre_logits=True)
    assert found.shape == (2, width)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    grey = array_features(images[:, :1], made).pool
    np.testing.assert_allclose(grey, array_features(images[:, :1].repeat(3, 1), made).pool, rtol=1e-5, atol=1e-5)
    assert made.foreign
    with pytest.raises(UserError, match=r"weights.pth: not weights of test_resnet: "):
        extractor("test_resnet", "", tmp_path, tmp_path, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="features 'vit_nano' are unknown; legal: "):
        extractor("vit_nano", "", tmp_path, tmp_path)
