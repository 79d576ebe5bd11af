"""Small JPEGs and PNGs, what Pillow reads from them, and what it resizes them to (bicubic).

    python pictures.py        writes pictures/ and pictures.safetensors beside this file
"""

import os

import numpy as np
import PIL
from PIL import Image

import fixture

HERE = os.path.dirname(os.path.abspath(__file__))


def smooth(height, width):
    """A picture with slopes and edges, as photographs have them."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [127 + 120 * np.sin(7 * x + 3 * y), 255 * y, np.where((x - 0.5) ** 2 + (y - 0.3) ** 2 < 0.04, 230, 40 + 100 * x)]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


def main():
    folder = os.path.join(HERE, "pictures")
    os.makedirs(folder, exist_ok=True)
    colour = Image.fromarray(smooth(37, 50))
    noise = np.random.Generator(np.random.PCG64(5)).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    colour.save(os.path.join(folder, "colour.jpg"), quality=90)
    colour.save(os.path.join(folder, "progressive.jpg"), quality=80, progressive=True, subsampling=0)
    colour.convert("L").save(os.path.join(folder, "grey.jpg"), quality=85)
    Image.fromarray(noise).save(os.path.join(folder, "noise.png"))
    outputs = {}
    for name in sorted(os.listdir(folder)):
        image = Image.open(os.path.join(folder, name)).convert("RGB")
        stem = os.path.splitext(name)[0]
        outputs[f"out.{stem}"] = np.asarray(image).astype(np.float32)
    # From pixels without loss: what comes out is the same to the byte.
    image = Image.open(os.path.join(folder, "noise.png"))
    for height, width in ((14, 14), (40, 40), (23, 9), (50, 31), (1, 3), (23, 31)):
        resized = image.resize((width, height), Image.BICUBIC)
        outputs[f"out.noise_{height}_{width}"] = np.asarray(resized).astype(np.float32)
    fixture.save(os.path.join(HERE, "pictures.safetensors"), outputs, {"source": f"Pillow {PIL.__version__}", "seed": "0"})


if __name__ == "__main__":
    main()
