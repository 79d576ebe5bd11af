"""The weight formula shared by the fixtures and the Rust tests.

Weights are not stored. Both sides make them, bit for bit the same, from the
tensor's name, its shape and a seed:

    h    = splitmix64(fnv1a64(name as UTF-8) XOR seed)
    u_i  = (splitmix64(h + i * 0x9E3779B97F4A7C15) >> 40) / 2^23 - 1     in [-1, 1)

with all u64 arithmetic wrapping and ``i`` the row-major flat index. The value
is computed in f64 and rounded once to f32:

    two or more dimensions          u_i * sqrt(3 / fan_in), fan_in = product(shape[1:])
    1-D, name ends "running_var"    1 + 0.5 * u_i
    1-D, name ends "running_mean"   0.2 * u_i
    1-D, name ends "weight"         1 + 0.2 * u_i
    any other 1-D                   0.2 * u_i
    0-D and integer tensors         left out

Fixed tables that a model computes for itself and happens to keep in its state
dict (sinusoidal positions) are left out as well.
"""

import math

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
MASK = (1 << 64) - 1


def fnv1a64(data):
    """64-bit FNV-1a of a bytes object, as a Python int."""
    h = FNV_OFFSET
    for byte in data:
        h = ((h ^ byte) * FNV_PRIME) & MASK
    return h


def splitmix64(x):
    """One splitmix64 output for every element of a uint64 array."""
    with np.errstate(over="ignore"):
        z = x + GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(name, count, seed=0):
    """The numbers u_0 .. u_{count-1} of one tensor, f64 in [-1, 1)."""
    start = np.array([fnv1a64(name.encode("utf-8")) ^ seed], dtype=np.uint64)
    with np.errstate(over="ignore"):
        state = splitmix64(start) + np.arange(count, dtype=np.uint64) * GOLDEN
    return (splitmix64(state) >> np.uint64(40)).astype(np.float64) / float(1 << 23) - 1.0


def tensor(name, shape, seed=0):
    """One tensor of weights as float32."""
    shape = tuple(shape)
    if not shape:
        raise ValueError(f"{name}: 0-D tensors have no formula")
    u = uniform(name, math.prod(shape), seed)
    if len(shape) >= 2:
        u = u * math.sqrt(3.0 / math.prod(shape[1:]))
    elif name.endswith("running_var"):
        u = 1.0 + 0.5 * u
    elif name.endswith("running_mean"):
        u = 0.2 * u
    elif name.endswith("weight"):
        u = 1.0 + 0.2 * u
    else:
        u = 0.2 * u
    return u.astype(np.float32).reshape(shape)


def fill(module, seed=0, rename=None, skip=()):
    """Overwrite a torch module's parameters and float buffers by the formula.

    ``rename`` maps a state-dict name to the name that is hashed; names in
    ``skip`` keep what the module computed. Returns the list of
    (hashed name, shape) that were filled.
    """
    import torch

    filled = []
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name in skip or value.dim() == 0 or not value.is_floating_point():
                continue
            hashed = rename(name) if rename else name
            value.copy_(torch.from_numpy(tensor(hashed, value.shape, seed)))
            filled.append((hashed, tuple(value.shape)))
    return filled


if __name__ == "__main__":
    # Check values for other implementations of the formula.
    for name, shape, seed in (
        ("conv_in.weight", (4, 3, 3, 3), 0),
        ("norm.weight", (5,), 0),
        ("norm.bias", (5,), 0),
        ("bn.running_mean", (5,), 0),
        ("bn.running_var", (5,), 0),
        ("conv_in.weight", (4, 3, 3, 3), 7),
    ):
        values = tensor(name, shape, seed).ravel()[:5]
        bits = " ".join(f"{v:08x}" for v in values.view(np.uint32))
        print(f"{name} {list(shape)} seed {seed}: {' '.join(repr(float(v)) for v in values)} | {bits}")
