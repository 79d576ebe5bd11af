"""Makes filters.safetensors: filters, resampling and references by SciPy and MNE's definition, in float64.

    pip install numpy==2.4.6 scipy==1.17.1
    python tests/golden/filters.py

Each output is named by how it was made: ``butter ORDER LOW HIGH`` with 0 for a corner that is not there,
``notch HZ Q``, ``resample UP DOWN``, ``reference CHANNEL ...``.
"""

import os

import numpy as np
import scipy
from scipy import signal

import fixture

RATE = 200.0
BUTTERWORTH = [
    (4, 1.0, 40.0),
    (3, 8.0, 13.0),
    (5, 0.5, 90.0),
    (8, 20.0, 60.0),
    (1, 2.0, 30.0),
    (5, 0.0, 30.0),
    (6, 0.0, 12.5),
    (2, 0.5, 0.0),
    (3, 10.0, 0.0),
]
NOTCH = [(50.0, 30.0), (60.0, 5.0)]
RESAMPLE = [(1, 5), (25, 16), (5, 4), (16, 41), (3, 1)]
REFERENCE = [[0, 1, 2], [1], [0, 2]]


def main():
    rng = np.random.Generator(np.random.PCG64(62))
    t = np.arange(121) / RATE
    x = rng.standard_normal((3, t.size)) + 3 * np.sin(2 * np.pi * 50 * t) + np.array([[5.0], [0.0], [-40.0]])
    out = {"x": x}
    for order, low, high in BUTTERWORTH:
        corners, kind = ([low, high], "bandpass") if low and high else (low or high, "highpass" if low else "lowpass")
        sos = signal.butter(order, corners, kind, fs=RATE, output="sos")
        out[f"butter {order} {low:g} {high:g}"] = signal.sosfiltfilt(sos, x)
    for hz, q in NOTCH:
        out[f"notch {hz:g} {q:g}"] = signal.filtfilt(*signal.iirnotch(hz, q, fs=RATE), x)
    for up, down in RESAMPLE:
        out[f"resample {up} {down}"] = signal.resample_poly(x, up, down, axis=-1)
    for channels in REFERENCE:
        # mne.set_eeg_reference: the mean of the reference channels is taken off every channel.
        out[f"reference {' '.join(map(str, channels))}"] = x - x[channels].mean(0)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "filters.safetensors")
    fixture.save(path, out, {"rate": RATE, "source": f"scipy {scipy.__version__}, numpy {np.__version__}"})


if __name__ == "__main__":
    main()
