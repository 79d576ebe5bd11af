"""Makes the fixtures of whole models' gradients. README.md says how to run it.

A loss is the sum of an output times fixed numbers, so that its gradient by the output is those numbers. They come from the
formula of the weights, as the weights do; inputs are those of the fixtures of the forward pass. Of the gradient of every
tensor its norm is kept, and a few values spread evenly. Computed in float64, models in eval mode.
"""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import torch
from safetensors.numpy import load_file

import fixture
import reference
import weights
from make_golden import Maker

# Values of each gradient that are kept, evenly spread.
SAMPLED = 6

# Times of the fine-tune's step, one for each video of the batch.
FINETUNE_TIMES = (37, 801, 400, 990)


def slopes(name, shape):
    """The gradient of an output, by the weights' formula."""
    return torch.from_numpy(weights.tensor(f"gradient.{name}", shape)).double()


def save(out, name, of, model, outputs, config, source, skip=(), more=None, last=None):
    """Walks back from ``outputs`` {field: tensor} and saves every parameter's gradient; ``last`` are their own."""
    if last is None:
        last = [slopes(k, v.shape) for k, v in outputs.items()]
    torch.autograd.backward(list(outputs.values()), last)
    # Parameters that nothing reads have no gradient, or one of exact zeros.
    found = {k: p.grad.flatten().numpy() for k, p in sorted(model.named_parameters()) if p.grad is not None}
    found = {k: g for k, g in found.items() if np.any(g)}
    places = {k: np.linspace(0, g.size - 1, min(SAMPLED, g.size)).astype(int) for k, g in found.items()}
    tensors = {
        **(more or {}),
        "out.norms": np.array([np.linalg.norm(g) for g in found.values()], dtype=np.float32),
        "out.sampled": np.concatenate([g[places[k]] for k, g in found.items()]).astype(np.float32),
    }
    state = {k: list(v.shape) for k, v in model.state_dict().items() if v.dim() > 0 and v.is_floating_point()}
    metadata = {
        "config": json.dumps(config),
        "seed": "0",
        "source": source,
        "inputs": of,
        "tensors": json.dumps({k: v for k, v in state.items() if k not in skip}, separators=(",", ":")),
        "gradients": json.dumps({k: places[k].tolist() for k in found}, separators=(",", ":")),
    }
    print(f"  {name}: {len(found)} of {len(list(model.parameters()))} parameters have a gradient")
    fixture.save(os.path.join(out, f"gradients_{name}.safetensors"), tensors, metadata)


def inputs(out, name):
    given = load_file(os.path.join(out, f"{name}.safetensors"))
    given = {k.removeprefix("in."): torch.from_numpy(v) for k, v in given.items() if k.startswith("in.")}
    return {k: v.double() if v.is_floating_point() else v for k, v in given.items()}


def unet3d(args, maker):
    """In a process of its own: diffusers 0.11.1."""
    import diffusers

    cls = reference.unet3d_class(args.tune_a_video)
    commit = reference.commit_of(args.tune_a_video)
    source = f"Tune-A-Video {commit} tuneavideo/models/unet.py, diffusers {diffusers.__version__}; {maker.versions}"
    model = cls.from_config(maker.UNET3D_A)
    weights.fill(model)
    model = model.double().eval()
    sample = model(**inputs(args.inputs, "unet3d_a")).sample
    save(args.out, "unet3d", "unet3d_a", model, {"sample": sample}, maker.UNET3D_A, source)

    # One step of the fine-tune: noised latents, the loss of their noise, gradients of what the originals train.
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    for name, module in model.named_modules():
        if name.endswith(("attn1.to_q", "attn2.to_q", "attn_temp")):
            module.requires_grad_(True)
    given = inputs(args.inputs, "unet3d_a")
    latents = given["sample"]
    noise = slopes("noise", latents.shape)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000, **schedule)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    timesteps = torch.tensor(FINETUNE_TIMES[: latents.shape[0]])
    noised = scheduler.add_noise(latents, noise, timesteps)
    predicted = model(noised, timesteps, given["encoder_hidden_states"]).sample
    loss = torch.nn.functional.mse_loss(predicted, noise)
    save(
        args.out, "finetune", "unet3d_a", model, {"loss": loss}, maker.UNET3D_A, source,
        more={"out.loss": np.array([loss.item()], dtype=np.float32)}, last=torch.ones_like(loss),
    )


def eeg(args, maker):
    models = reference.eeg_vp_models(args.eeg2video)
    model = models.shallownet(out_dim=5, C=9, T=200)
    weights.fill(model)
    model = model.double().eval()
    config = {"_class_name": "ShallowNet", "n_outputs": 5, "n_chans": 9, "n_times": 200}
    source = maker.eeg2video("EEG-VP/models.py (class shallownet)")
    logits = model(**{"x": inputs(args.inputs, "shallownet")["eeg"]})
    save(args.out, "shallownet", "shallownet", model, {"logits": logits}, config, source)

    module = reference.seq2seq(args.eeg2video)
    torch.backends.mha.set_fastpath_enabled(False)
    model = module.myTransformer()
    skip = ("positional_encoding.pe",)
    weights.fill(model, skip=skip)
    model = model.double().eval()
    given = inputs(args.inputs, "eeg2video_transformer")["eeg"]
    classes, latents = model(given, torch.zeros(given.shape[0], 7, 4, 36, 64, dtype=torch.float64))
    config = {"_class_name": "EEG2VideoTransformer"}
    source = maker.eeg2video(
        "EEG2Video/EEG2Video_New/Seq2Seq/my_autoregressive_transformer.py (class myTransformer)"
    )
    outputs = {"class_logits": classes, "latents": latents}
    save(args.out, "eeg2video_transformer", "eeg2video_transformer", model, outputs, config, source, skip)


GROUPS = {"unet3d": unet3d, "eeg": eeg}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eeg2video", required=True, help="checkout of EEG2Video")
    parser.add_argument("--tune-a-video", required=True, help="checkout of Tune-A-Video")
    parser.add_argument("--diffusers-011", required=True, help="folder with diffusers 0.11.1")
    parser.add_argument("--inputs", default=here, help="where the fixtures of the forward pass lie (default: this folder)")
    parser.add_argument("--out", default=here, help="where the fixtures go (default: this folder)")
    parser.add_argument("--only", choices=GROUPS, help="one group")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.only is None:
        # The old diffusers hides transformers.
        for group in GROUPS:
            subprocess.run([sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--only", group], check=True)
        return
    print(f"== {args.only}", flush=True)
    if args.only == "unet3d":
        reference.use_diffusers_011(args.diffusers_011)
    torch.set_default_dtype(torch.float64)
    GROUPS[args.only](args, Maker(args))


if __name__ == "__main__":
    main()
