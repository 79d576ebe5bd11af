"""Inputs for one full-size step, and the comparison of its two results.

``input FOLDER`` writes ``unet.safetensors`` and ``vae.safetensors`` for `mindreel forward` and
``reference.safetensors`` for full_size.py, from a fixed seed. ``compare FOLDER`` holds
``unet_out.safetensors`` and ``vae_out.safetensors`` against ``reference_out.safetensors`` and fails
above a relative error of 1e-4.
"""

import argparse
import os
import sys

import torch
from safetensors.torch import load_file, save_file


def write_inputs(folder):
    os.makedirs(folder, exist_ok=True)
    generator = torch.Generator().manual_seed(5)
    unet = {
        "sample": torch.randn(1, 4, 6, 36, 64, generator=generator),
        "timestep": torch.tensor([481]),
        "encoder_hidden_states": torch.randn(1, 77, 768, generator=generator),
    }
    vae = {"latents": torch.randn(1, 4, 36, 64, generator=generator)}
    save_file(unet, os.path.join(folder, "unet.safetensors"))
    save_file(vae, os.path.join(folder, "vae.safetensors"))
    save_file({**unet, **vae}, os.path.join(folder, "reference.safetensors"))


def relative_error(got, want):
    return float((got.double() - want.double()).norm() / want.double().norm())


def compare(folder):
    reference = load_file(os.path.join(folder, "reference_out.safetensors"))
    fits = True
    for part, field in [("unet", "out.sample"), ("vae", "out.image")]:
        got = load_file(os.path.join(folder, f"{part}_out.safetensors"))["sample"]
        error = relative_error(got, reference[field])
        fits &= error <= 1e-4
        print(f"{part}: shape {tuple(got.shape)}, relative error {error:.1e}")
    return fits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("input", "compare"))
    parser.add_argument("folder")
    arguments = parser.parse_args()
    if arguments.action == "input":
        write_inputs(arguments.folder)
    elif not compare(arguments.folder):
        sys.exit("above 1e-4")


if __name__ == "__main__":
    main()
