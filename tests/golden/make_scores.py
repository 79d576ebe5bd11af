"""Fixtures of src/eval and of the clip classifier.

    python tests/golden/make_scores.py

scikit-image 0.26, torchmetrics 1.9, Pillow 13, transformers 5, PyTorch 2. Pictures are wide, or grow: where a tall one
shrinks, Pillow 13 resizes in another order than those before. They are not stored: `picture` is twinned in tests/eval.rs.
"""

import json
import os

import numpy as np
import torch
from PIL import Image
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr
from transformers import CLIPImageProcessor, VideoMAEImageProcessor, ViTImageProcessor

import weights
from fixture import save

HERE = os.path.dirname(os.path.abspath(__file__))


def picture(height, width, kind):
    """u8 [height, width, 3]; its twin is in tests/eval.rs."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return (((3 + kind) * y * y + 5 * (kind + 1) * x + 40 * c + (x * y) % (17 + kind)) % 256).astype(np.uint8)


def scores():
    tensors = {}
    sizes = [(7, 7), (20, 31), (40, 64)]
    for at, (height, width) in enumerate(sizes):
        a, b = picture(height, width, 0), picture(height, width, at + 1)
        ssim = structural_similarity(a, b, channel_axis=-1, win_size=7, data_range=255)
        mse = mean_squared_error(a / 255.0, b / 255.0)
        psnr = peak_signal_noise_ratio(a, b, data_range=255)
        other = torch_psnr(torch.tensor(a).double(), torch.tensor(b).double(), data_range=255.0).item()
        assert abs(psnr - other) < 1e-6, (psnr, other)
        tensors[f"pair.{at}"] = np.array([height, width, ssim, mse, psnr])
    for at, (filter, size) in enumerate(
        [(Image.BILINEAR, (9, 17)), (Image.BILINEAR, (27, 40)), (Image.BICUBIC, (11, 13)), (Image.BICUBIC, (26, 35))]
    ):
        resized = Image.fromarray(picture(20, 31, 2)).resize((size[1], size[0]), filter)
        tensors[f"resize.{at}"] = np.asarray(resized).astype(np.float32)
    for name, make in {
        "vit": lambda: ViTImageProcessor(size={"height": 16, "width": 14}),
        "videomae": lambda: VideoMAEImageProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16},
            # As the published checkpoints' preprocessor_config.json has them; the class's defaults are 0.5.
            image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]),
        "clip": lambda: CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    }.items():
        for kind, (height, width) in enumerate([(20, 31), (15, 12)]):
            image = Image.fromarray(picture(height, width, 3))
            images = [[image]] if name == "videomae" else [image]
            values = np.asarray(make()(images, return_tensors="np")["pixel_values"])
            values = values.reshape(values.shape[-3:])  # [3, h, w]
            tensors[f"{name}.{kind}"] = values.transpose(1, 2, 0).astype(np.float32)
    save(os.path.join(HERE, "scores.safetensors"), tensors, {"seed": 0})


class ClipClassifier(nn.Module):
    """src/models/clip_classifier.rs in PyTorch's words."""

    def __init__(self, channels, groups, labels):
        super().__init__()
        blocks, inputs = [], 6
        for outputs, stride in [(c, 2) for c in channels] + [(channels[-1], 1)]:
            block = nn.Module()
            block.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
            block.norm = nn.GroupNorm(groups, outputs)
            blocks.append(block)
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.classifier = nn.Linear(2 * inputs, labels)

    def forward(self, x):  # [b, f, 3, h, w]
        b, f = x.shape[:2]
        z = torch.cat([x[:, :-1], x[:, 1:] - x[:, :-1]], 2).flatten(0, 1)
        for block in self.blocks:
            z = F.silu(block.norm(block.conv(z)))
        z = torch.cat([z.mean((2, 3)), z.amax((2, 3))], 1)
        return self.classifier(z.reshape(b, f - 1, -1).mean(1))


def clip_classifier(seed=6):
    torch.set_grad_enabled(False)
    channels, groups, labels, frames, size = [8, 12], 4, 7, 4, (13, 18)
    model = ClipClassifier(channels, groups, labels)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({n: torch.tensor(weights.tensor(n, shape, seed)) for n, shape in shapes.items()})
    x = torch.tensor(weights.uniform("pixel_values", 2 * frames * 3 * size[0] * size[1], seed)).float()
    x = x.reshape(2, frames, 3, *size)
    config = {"_class_name": "ClipClassifier", "num_frames": frames, "image_size": list(size), "channels": channels,
              "norm_num_groups": groups, "num_labels": labels}
    save(
        os.path.join(HERE, "clip_classifier.safetensors"),
        {"in.pixel_values": x.numpy(), "out.logits": model(x).numpy()},
        {"seed": seed, "config": json.dumps(config), "tensors": json.dumps(shapes)},
    )


if __name__ == "__main__":
    scores()
    clip_classifier()
