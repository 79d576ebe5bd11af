"""One full-size step of the reference, to compare a real checkpoint folder with.

Reads a folder in the diffusers layout (unet/ and vae/, each with config.json
and safetensors weights, whole or sharded), runs Tune-A-Video's UNet3D once and
decodes one frame with the VAE, both in float32 on the CPU, and writes
``out.sample`` and ``out.image``. Stable Diffusion v1-4 sizes need about 9 GiB, or
6 GiB with ``--slice 8``, and a minute and a half on one core.

The input file holds ``sample`` [1,4,6,36,64], ``timestep`` [1],
``encoder_hidden_states`` [1,77,768] and ``latents`` [1,4,36,64] (already divided
by the VAE's scale), with or without an ``in.`` prefix. Without ``latents`` the
first frame of ``sample`` is decoded.
"""

import argparse
import gc
import glob
import json
import os
import resource
import time

import torch
from safetensors import safe_open

import fixture
import reference


def weight_files(folder):
    files = sorted(glob.glob(os.path.join(folder, "*.safetensors")))
    if not files:
        raise SystemExit(f"no safetensors file in {folder}")
    return files


def assign(model, name, tensor):
    """Replace one meta parameter or buffer of a model."""
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    if leaf in owner._parameters:
        owner._parameters[leaf] = torch.nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


def load(cls, folder, rename=lambda name: name):
    """Build a model without memory, then give it its weights one by one."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    with torch.device("meta"):
        model = cls.from_config(config)
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    for path in weight_files(folder):
        with safe_open(path, "pt") as f:
            for stored in f.keys():
                name = rename(stored)
                if name not in wanted:
                    raise SystemExit(f"{path}: {stored} is not part of the reference model")
                shape = wanted.pop(name)
                tensor = f.get_tensor(stored).float()
                if tensor.shape != shape:
                    if [n for n in tensor.shape if n != 1] != [n for n in shape if n != 1]:
                        raise SystemExit(f"{path}: {stored} is {list(tensor.shape)}, wanted {list(shape)}")
                    tensor = tensor.reshape(shape)
                assign(model, name, tensor)
    if wanted:
        raise SystemExit(f"{folder} lacks {len(wanted)} tensors, among them {sorted(wanted)[:5]}")
    return model.eval()


def old_attention_names(name):
    """diffusers 0.11.1 names the VAE's attention query/key/value/proj_attn."""
    if ".attentions." in name:
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f".{new}.", f".{old}.")
    return name


def peak_gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune-a-video", required=True, help="checkout of Tune-A-Video")
    parser.add_argument("--diffusers-011", required=True, help="folder with diffusers 0.11.1")
    parser.add_argument("--checkpoint", required=True, help="folder with unet/ and vae/")
    parser.add_argument("--input", required=True, help="input safetensors")
    parser.add_argument("--out", default="out.safetensors", help="output safetensors")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slice", type=int, help="attention heads x frames computed at once (default: all)")
    parser.add_argument("--skip", choices=("unet", "vae"), help="leave one of the two out")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    diffusers = reference.use_diffusers_011(args.diffusers_011)
    unet3d = reference.unet3d_class(args.tune_a_video)

    with safe_open(args.input, "pt") as f:
        given = {name.removeprefix("in."): f.get_tensor(name) for name in f.keys()}
    results = {}

    if args.skip != "unet":
        start = time.monotonic()
        model = load(unet3d, os.path.join(args.checkpoint, "unet"))
        loaded = time.monotonic()
        if args.slice:
            for module in model.modules():
                if type(module).__name__ == "SparseCausalAttention":
                    module._slice_size = args.slice
        sample = model(
            given["sample"].float(), given["timestep"].reshape(-1), given["encoder_hidden_states"].float()
        ).sample
        results["out.sample"] = sample.numpy()
        print(
            f"unet: {sum(p.numel() for p in model.parameters())} parameters, load {loaded - start:.1f} s,"
            f" step {time.monotonic() - loaded:.1f} s, peak {peak_gib():.2f} GiB"
        )
        del model
        gc.collect()

    if args.skip != "vae":
        start = time.monotonic()
        model = load(diffusers.AutoencoderKL, os.path.join(args.checkpoint, "vae"), old_attention_names)
        loaded = time.monotonic()
        latents = given["latents"] if "latents" in given else given["sample"][:, :, 0]
        image = model.decode(latents.float()).sample
        results["out.image"] = image.numpy()
        print(
            f"vae: {sum(p.numel() for p in model.parameters())} parameters, load {loaded - start:.1f} s,"
            f" decode {time.monotonic() - loaded:.1f} s, peak {peak_gib():.2f} GiB"
        )

    fixture.save(args.out, results, {"source": f"torch {torch.__version__}, diffusers {diffusers.__version__}"})


if __name__ == "__main__":
    main()
