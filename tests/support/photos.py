"""Photos packed as latents, and the crop transcribed."""

import numpy as np
from PIL import Image

from harness.data.encode import Encoding

SIZE = 32


def pack(
    photos, vae_folder, root, name="photos", keep_images=True, workers=0, tell=lambda done, total: None, size=SIZE
):
    return Encoding(photos, name, vae_folder, root, size, keep_images, batch=4).run(workers, tell, shard=4)


def adm(image, size):
    """Transcribe the procedure of guided-diffusion's center_crop_arr: halve by boxes, bicubic, cut the array."""
    width, height = image.size
    while min(width, height) >= 2 * size:
        width, height = width // 2, height // 2
        image = image.resize((width, height), resample=Image.BOX)
    scale = size / min(width, height)
    array = np.array(image.resize((round(width * scale), round(height * scale)), resample=Image.BICUBIC))
    y, x = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return np.moveaxis(array[y : y + size, x : x + size], -1, 0)


def packed_arrays(folder):
    """Return the bytes of a packed folder's arrays and descriptions, by file."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in (".npy", ".json")}
