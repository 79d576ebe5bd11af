"""Makes the fixtures of the EEG networks, and of their training. README.md says how to run it.

The networks are those of eeg_networks.py. With checkouts of the originals at hand, each is first held
against its original.
"""

import argparse
import json
import os
import sys

import numpy as np
import torch

import eeg_networks
import fixture
import weights
from make_golden import normal, rng_for

LOCAL = [3, 4, 5, 9, 20, 21]
# Case: config, inputs. Two networks of a kind differ in the length of their windows.
NETWORKS = {
    "deepnet_200": ({"_class_name": "DeepNet", "n_outputs": 5, "n_chans": 11, "n_times": 200}, ["windows_200"]),
    "eegnet_200": ({"_class_name": "EEGNet", "n_outputs": 5, "n_chans": 11, "n_times": 200}, ["windows_200"]),
    "tsconv_200": ({"_class_name": "TSConv", "n_outputs": 5, "n_chans": 11, "n_times": 200}, ["windows_200"]),
    "conformer_200": ({"_class_name": "Conformer", "n_outputs": 5, "n_chans": 11, "n_times": 200}, ["windows_200"]),
    "shallownet_400": ({"_class_name": "ShallowNet", "n_outputs": 4, "n_chans": 32, "n_times": 400}, ["windows_400"]),
    "deepnet_400": ({"_class_name": "DeepNet", "n_outputs": 4, "n_chans": 32, "n_times": 400}, ["windows_400"]),
    "eegnet_400": ({"_class_name": "EEGNet", "n_outputs": 4, "n_chans": 32, "n_times": 400}, ["windows_400"]),
    "tsconv_400": ({"_class_name": "TSConv", "n_outputs": 4, "n_chans": 32, "n_times": 400}, ["windows_400"]),
    "conformer_400": (
        {
            "_class_name": "Conformer",
            "n_outputs": 4,
            "n_chans": 32,
            "n_times": 400,
            "emb_dim": 30,
            "n_heads": 5,
            "n_layers": 2,
            "attention_scale": "head_dim",
        },
        ["windows_400"],
    ),
    "glmnet_400": (
        {
            "_class_name": "GLMNet",
            "n_outputs": 4,
            "n_chans": 32,
            "n_times": 400,
            "emb_dim": 6,
            "local_chans": LOCAL,
        },
        ["windows_400"],
    ),
    "mlp": ({"_class_name": "MLP", "n_outputs": 5, "n_chans": 62, "n_features": 310}, ["features"]),
    "glmnet_mlp": (
        {"_class_name": "GLMNetMLP", "n_outputs": 5, "n_chans": 62, "n_features": 310, "emb_dim": 6},
        ["features"],
    ),
    "shallownet_encoder": ({"_class_name": "ShallowNetEncoder", "n_chans": 62, "n_times": 100}, ["windows_100"]),
    "mlp_encoder": ({"_class_name": "MLPEncoder", "n_outputs": 40, "n_features": 310}, ["flat"]),
    "mlp_encoder_feat": ({"_class_name": "MLPEncoder_feat", "n_features": 310}, ["flat"]),
    "glmnet_encoder": (
        {
            "_class_name": "GLMNetEncoder",
            "n_chans": 62,
            "n_features": 310,
            "local_chans": eeg_networks.OCCIPITAL,
            "emb_dim": 24,
            "n_tokens": 5,
            "token_dim": 12,
        },
        ["flat"],
    ),
    "glmnet_encoder_all": (
        {"_class_name": "GLMNetEncoder", "n_features": 310, "emb_dim": 24, "n_tokens": 5, "token_dim": 12},
        ["flat"],
    ),
    "glmnet_encoder_raw": (
        {
            "_class_name": "GLMNetEncoder",
            "n_chans": 62,
            "n_times": 100,
            "input_type": "raw",
            "local_chans": LOCAL,
            "n_tokens": 2,
            "token_dim": 3,
        },
        ["windows_100"],
    ),
    "glmnet_cv": (
        {"_class_name": "GLMNetCV", "n_outputs": 5, "n_chans": 62, "n_times": 100, "n_features": 310},
        ["windows_100", "features"],
    ),
    "glmnet_matched": (
        {
            "_class_name": "GLMNetMatched",
            "n_outputs": 5,
            "n_chans": 62,
            "n_times": 100,
            "n_features": 310,
            "emb_dim": 10,
        },
        ["windows_100", "features"],
    ),
    "eegnet_embedding": (
        {"_class_name": "MyEEGNet_embedding", "n_chans": 62, "n_times": 100, "emb_dim": 24},
        ["windows_100"],
    ),
}
# Nothing is dropped in training: what is drawn cannot be compared.
SMALL = {"n_outputs": 3, "n_chans": 9, "n_times": 160, "n_features": 45, "local_chans": [2, 3, 6], "drop_prob": 0}
TRAINED = {
    "shallownet": ({"_class_name": "ShallowNet"}, ["windows"]),
    "deepnet": ({"_class_name": "DeepNet"}, ["windows"]),
    "eegnet": ({"_class_name": "EEGNet"}, ["windows"]),
    "tsconv": ({"_class_name": "TSConv"}, ["windows"]),
    "conformer": ({"_class_name": "Conformer", "n_layers": 2}, ["windows"]),
    "glmnet": ({"_class_name": "GLMNet", "emb_dim": 8}, ["windows"]),
    "mlp": ({"_class_name": "MLP"}, ["features"]),
    "glmnet_mlp": ({"_class_name": "GLMNetMLP", "emb_dim": 8}, ["features"]),
    "mlp_encoder": ({"_class_name": "MLPEncoder"}, ["flat"]),
    "glmnet_cv": ({"_class_name": "GLMNetCV", "emb_dim": 16}, ["windows", "features"]),
    "glmnet_matched": ({"_class_name": "GLMNetMatched", "emb_dim": 16}, ["windows", "features"]),
}
# Values of each gradient that are kept, evenly spread.
SAMPLED = 5
# Of the optimiser, AdamW with PyTorch's defaults otherwise.
RATE, DECAY, STEPS = 2e-4, 1e-2, 20


def accepted(name, inputs):
    """Inputs as a network of this class takes them."""
    if name in ("ShallowNetEncoder", "GLMNetEncoder") and inputs[0].dim() == 4:
        return [inputs[0].squeeze(1)]
    return inputs


def forward(case, config, inputs, dtype):
    """Outputs of a network by field, in eval mode."""
    torch.set_default_dtype(dtype)
    model = eeg_networks.build(config)
    filled = weights.fill(model)
    model.to(dtype).eval()
    inputs = accepted(config["_class_name"], [torch.from_numpy(x).to(dtype) for x in inputs])
    field = "embeddings" if "n_outputs" not in config else "logits"
    with torch.no_grad():
        outputs = {field: model(*inputs)}
        if config["_class_name"] == "GLMNetMatched":
            outputs["embeddings"] = model.embed(*inputs)
    torch.set_default_dtype(torch.float32)
    return {k: v.double().numpy() for k, v in outputs.items()}, filled


def networks(out, versions):
    """Every network in eval mode."""
    rng = rng_for("eeg_networks")
    inputs = {
        "windows_200": normal(rng, 3, 1, 11, 200),
        "windows_400": normal(rng, 2, 1, 32, 400),
        "windows_100": normal(rng, 2, 1, 62, 100),
        "features": normal(rng, 2, 62, 5),
    }
    inputs["flat"] = inputs["features"].reshape(2, 310)
    tensors = {f"in.{k}": v for k, v in inputs.items() if k != "flat"}
    cases = {}
    for case, (config, names) in NETWORKS.items():
        given = [inputs[name] for name in names]
        exact, filled = forward(case, config, given, torch.float64)
        rounded, _ = forward(case, config, given, torch.float32)
        error = {k: float(np.abs(rounded[k] - v).max()) for k, v in exact.items()}
        for field, values in exact.items():
            rms = np.sqrt((values * values).mean())
            print(f"  {case}.{field} {list(values.shape)} rms {rms:.4f} f32 error {error[field]:.1e}")
            tensors[f"out.{case}.{field}"] = values.astype(np.float32)
        cases[case] = {
            "config": config,
            "inputs": ["features" if name == "flat" else name for name in names],
            "outputs": list(exact),
            "tensors": {k: list(s) for k, s in filled},
            "f32_error": {k: float(f"{v:.2e}") for k, v in error.items()},
        }
    save(out, "eeg_networks", tensors, cases, versions)


def step(model, inputs, labels):
    model.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(*inputs), labels)
    loss.backward()
    return loss


def training(out, versions):
    """Gradients of one step, running statistics after it, and losses of 20 steps, in train mode."""
    rng = rng_for("eeg_training")
    inputs = {"windows": normal(rng, 6, 1, 9, 160), "features": normal(rng, 6, 9, 5)}
    labels = np.array([2, 0, 1, 1, 0, 2], dtype=np.int64)
    tensors = {**{f"in.{k}": v for k, v in inputs.items()}, "in.labels": labels}
    inputs["flat"] = inputs["features"].reshape(6, 45)
    cases = {}
    torch.set_default_dtype(torch.float64)
    for case, (config, names) in TRAINED.items():
        config = {**config, **SMALL}
        model = eeg_networks.build(config)
        filled = weights.fill(model)
        model.double().train()
        given = [torch.from_numpy(inputs[name]).double() for name in names]
        loss = step(model, given, torch.from_numpy(labels))
        # Parameters that nothing reads have no gradient.
        gradients = {k: p.grad.flatten() for k, p in sorted(model.named_parameters()) if p.grad is not None}
        statistics = {k: v for k, v in sorted(model.state_dict().items()) if "running" in k}
        places = {k: np.linspace(0, g.numel() - 1, min(SAMPLED, g.numel())).astype(int) for k, g in gradients.items()}
        tensors[f"out.{case}.norms"] = np.array([float(g.norm()) for g in gradients.values()], dtype=np.float32)
        sampled = [g.numpy()[places[k]] for k, g in gradients.items()]
        tensors[f"out.{case}.sampled"] = np.concatenate(sampled).astype(np.float32)
        if statistics:
            values = [v.numpy()[:SAMPLED] for v in statistics.values()]
            tensors[f"out.{case}.statistics"] = np.concatenate(values).astype(np.float32)
        optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
        losses = []
        for _ in range(STEPS):
            # The first gradient is at hand, but its statistics are moved once more: they are not read in training.
            loss = step(model, given, torch.from_numpy(labels))
            losses.append(loss.item())
            optimiser.step()
        tensors[f"out.{case}.losses"] = np.array(losses, dtype=np.float32)
        print(f"  {case}: {len(gradients)} gradients, loss {losses[0]:.4f} to {losses[-1]:.4f}")
        cases[case] = {
            "config": config,
            "inputs": ["features" if name == "flat" else name for name in names],
            "tensors": {k: list(s) for k, s in filled},
            "gradients": {k: places[k].tolist() for k in gradients},
            "statistics": list(statistics),
        }
    torch.set_default_dtype(torch.float32)
    optimiser = {"learning_rate": RATE, "weight_decay": DECAY, "steps": STEPS}
    save(out, "eeg_training", tensors, cases, versions, optimiser=json.dumps(optimiser))


def save(out, name, tensors, cases, versions, **more):
    metadata = {
        "cases": json.dumps(cases, separators=(",", ":")),
        "seed": "0",
        "source": f"eeg_networks.py; {versions}",
        **more,
    }
    fixture.save(os.path.join(out, f"{name}.safetensors"), tensors, metadata)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eeg2video", help="checkout of EEG2Video, to compare with")
    parser.add_argument("--fork", help="checkout of gaspachoo/EEG2Video 6322092, to compare with")
    parser.add_argument("--fork-later", help="checkout of gaspachoo/EEG2Video a5b6942, to compare with")
    parser.add_argument("--out", default=here, help="where the fixtures go (default: this folder)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.eeg2video:
        eeg_networks.compare_all(args.eeg2video, args.fork, args.fork_later)
    versions = f"python {sys.version.split()[0]}, torch {torch.__version__}, numpy {np.__version__}"
    networks(args.out, versions)
    training(args.out, versions)


if __name__ == "__main__":
    main()
