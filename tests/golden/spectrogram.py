"""Makes spectrogram.safetensors: NeuroVision's spectrograms by SciPy in float64, its input transform by PyTorch.

    pip install numpy==2.4.6 scipy==1.17.1 torch==2.15.0
    python tests/golden/spectrogram.py

``original`` says 250 Hz of the recording and pads in front or cuts to 334 samples, ``corrected`` says 512 Hz; both of
``eeg`` [2, 2, 334], ``short`` [1, 2, 200] and ``long`` [1, 2, 700], numbers as they stand. ``resize HEIGHT WIDTH`` are
the first corrected spectrograms resized (antialias on, as torchvision has it; every 37th value of the largest);
``input`` is that less ``mean`` and divided by ``std`` + 1e-6.
"""

import os

import numpy as np
import scipy
import torch
from scipy import signal

import fixture


def spectrogram(x, rate, length=None):
    if length:
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(max(0, length - x.shape[-1]), 0)])[..., -length:]
    for hz in (50.0, 60.0):
        sos = signal.tf2sos(*signal.iirnotch(hz, 30.0, fs=rate))
        x = signal.sosfiltfilt(sos, x, axis=-1)
    x = signal.sosfiltfilt(signal.butter(5, [4.0, 100.0], "bandpass", fs=rate, output="sos"), x, axis=-1)
    _, _, power = signal.spectrogram(x, fs=rate, nperseg=128, noverlap=64)
    return np.log1p(power)


def main():
    rng = np.random.Generator(np.random.PCG64(64))
    out = {}
    for name, shape in [("eeg", (2, 2, 334)), ("short", (1, 2, 200)), ("long", (1, 2, 700))]:
        t = np.arange(shape[-1]) / 512
        x = 12 * rng.standard_normal(shape) + 20 * np.sin(2 * np.pi * 11 * t) - 4
        out[name] = x
        out[f"original {name}"] = spectrogram(x, 250.0, 334)
        out[f"corrected {name}"] = spectrogram(x, 512.0)
    one = torch.from_numpy(out["corrected eeg"][:1])
    for size in [(224, 224), (70, 9), (20, 3), (7, 11)]:
        resized = torch.nn.functional.interpolate(one, size, mode="bilinear", antialias=True)
        flat = resized.numpy().reshape(-1)
        out[f"resize {size[0]} {size[1]}"] = flat[::37] if size == (224, 224) else flat
        if size == (224, 224):
            plain = torch.nn.functional.interpolate(one, size, mode="bilinear")
            assert (plain - resized).abs().max() < 1e-12
            mean, std = one.mean((0, 2, 3)), one.std((0, 2, 3), correction=0)
            out["mean"], out["std"] = mean.numpy(), std.numpy()
            scaled = (resized - mean.view(1, -1, 1, 1)) / (std.view(1, -1, 1, 1) + 1e-6)
            out["input"] = scaled.numpy().reshape(-1)[::37]
    source = f"scipy {scipy.__version__}, numpy {np.__version__}, torch {torch.__version__}"
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "spectrogram.safetensors")
    fixture.save(path, out, {"source": source})


if __name__ == "__main__":
    main()
