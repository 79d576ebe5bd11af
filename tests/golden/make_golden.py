"""Makes the golden tensors in this folder. README.md says how to run it.

Every fixture is one safetensors file: ``in.*`` are the arguments, ``out.*``
what the reference returned, computed in float64 where it can be and stored as
float32. The weights are not stored; they come from the formula in weights.py.
"""

import argparse
import json
import os
import subprocess
import sys
import zlib

import numpy as np
import torch

import fixture
import reference
import weights

# The scheduler part of a Stable Diffusion v1-4 folder.
SD_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def rng_for(name):
    """The input generator of one fixture; it depends on nothing but the name."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def evaluate(model, inputs, call, skip=()):
    """Run ``call(model, **inputs)`` in float64 and in float32.

    ``call`` returns {field: tensor}. Gives the float64 results as float32
    arrays, and per field the largest difference between the two runs, which
    is what a float32 implementation can be expected to reach.
    """
    results = {}
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        model = torch.nn.Module.to(model, dtype).eval()
        given = {
            k: torch.from_numpy(v).to(dtype) if v.dtype.kind == "f" else torch.from_numpy(v)
            for k, v in inputs.items()
        }
        with torch.no_grad():
            results[dtype] = {k: v.double().numpy() for k, v in call(model, **given).items()}
    torch.set_default_dtype(torch.float32)
    exact = results[torch.float64]
    error = {k: float(np.abs(results[torch.float32][k] - v).max()) for k, v in exact.items()}
    for k, v in exact.items():
        print(f"  {k} {list(v.shape)} rms {np.sqrt((v * v).mean()):.4f} f32 error {error[k]:.1e}")
    return {k: v.astype(np.float32) for k, v in exact.items()}, error


class Maker:
    def __init__(self, args):
        self.args = args
        self.versions = f"python {sys.version.split()[0]}, torch {torch.__version__}, numpy {np.__version__}"

    def eeg2video(self, file):
        return f"EEG2Video {reference.commit_of(self.args.eeg2video)} {file}; {self.versions}"

    def save(self, name, inputs, outputs, config, source, filled=None, error=None, **extra):
        tensors = {f"in.{k}": v for k, v in inputs.items()}
        tensors.update({f"out.{k}": v for k, v in outputs.items()})
        metadata = {"config": json.dumps(config), "seed": "0", "source": source}
        if filled is not None:
            metadata["tensors"] = json.dumps({k: list(s) for k, s in filled}, separators=(",", ":"))
        if error is not None:
            metadata["f32_error"] = json.dumps({k: float(f"{v:.2e}") for k, v in error.items()})
        metadata.update({k: json.dumps(v) for k, v in extra.items()})
        fixture.save(os.path.join(self.args.out, f"{name}.safetensors"), tensors, metadata)

    def model(self, name, model, inputs, call, config, source, rename=None, skip=()):
        """Fill, run and save one model."""
        filled = weights.fill(model, rename=rename, skip=skip)
        outputs, error = evaluate(model, inputs, call)
        self.save(name, inputs, outputs, config, source, filled, error)

    # ---- EEG models ----

    def eeg(self):
        models = reference.eeg_vp_models(self.args.eeg2video)
        source = self.eeg2video("EEG-VP/models.py")

        rng = rng_for("glmnet")
        self.model(
            "glmnet",
            models.glfnet(out_dim=5, emb_dim=6, C=62, T=200),
            {"eeg": normal(rng, 3, 1, 62, 200)},
            lambda m, eeg: {"logits": m(eeg)},
            {"_class_name": "GLMNet", "n_outputs": 5, "n_chans": 62, "n_times": 200, "emb_dim": 6},
            source + " (class glfnet)",
        )

        rng = rng_for("shallownet")
        self.model(
            "shallownet",
            models.shallownet(out_dim=5, C=9, T=200),
            {"eeg": normal(rng, 3, 1, 9, 200)},
            lambda m, eeg: {"logits": m(eeg)},
            {"_class_name": "ShallowNet", "n_outputs": 5, "n_chans": 9, "n_times": 200},
            source + " (class shallownet)",
        )

        self.semantic_predictor()
        self.eeg2video_transformer()

    def semantic_predictor(self):
        """The original layers with the original names, but narrow."""
        n_tokens, emb_dim, hidden = 5, 12, 40
        module = reference.semantic(self.args.eeg2video)
        with torch.device("meta"):
            model = module.CLIP()
        width = {310: 310, 10000: hidden, 77 * 768: n_tokens * emb_dim}
        for i, layer in enumerate(model.mlp):
            if isinstance(layer, torch.nn.Linear):
                model.mlp[i] = torch.nn.Linear(width[layer.in_features], width[layer.out_features])
        rng = rng_for("semantic_predictor")
        self.model(
            "semantic_predictor",
            model,
            {"features": normal(rng, 3, 310)},
            lambda m, features: {"embeddings": m(features).reshape(-1, n_tokens, emb_dim)},
            {
                "_class_name": "SemanticPredictor",
                "n_features": 310,
                "hidden_dims": [hidden] * 4,
                "n_tokens": n_tokens,
                "emb_dim": emb_dim,
            },
            self.eeg2video("EEG2Video/EEG2Video_New/Semantic/eeg_text.py (class CLIP, narrowed)"),
        )

    def eeg2video_transformer(self):
        module = reference.seq2seq(self.args.eeg2video)
        torch.backends.mha.set_fastpath_enabled(False)
        torch.set_default_dtype(torch.float64)
        model = module.myTransformer()
        rng = rng_for("eeg2video_transformer")

        def call(m, eeg):
            # Only the length of the target sequence matters.
            target = torch.zeros(eeg.shape[0], 7, 4, 36, 64)
            classes, latents = m(eeg, target)
            return {
                "class_logits": classes,
                "latents_sample": latents.flatten()[::37],
                "latents_norm": latents.flatten(2).norm(dim=2),
            }

        self.model(
            "eeg2video_transformer",
            model,
            {"eeg": normal(rng, 2, 7, 62, 100)},
            call,
            {
                "_class_name": "EEG2VideoTransformer",
                "n_windows": 7,
                "n_chans": 62,
                "n_times": 100,
                "d_model": 512,
                "n_heads": 4,
                "dim_feedforward": 2048,
                "n_encoder_layers": 2,
                "n_decoder_layers": 4,
                "n_classes": 13,
                "latent_shape": [4, 36, 64],
            },
            self.eeg2video("EEG2Video/EEG2Video_New/Seq2Seq/my_autoregressive_transformer.py (class myTransformer)"),
            skip=("positional_encoding.pe",),
        )

    # ---- schedulers ----

    def scheduler(self):
        import diffusers

        source = f"diffusers {diffusers.__version__} %s; {self.versions}"
        start = np.array([[1.0, -0.5, 0.25], [2.0, 0.0, -1.5]], dtype=np.float32)
        counts = (1, 2, 3, 10, 50, 100)

        def toy(x, t):
            return 0.1 * x + float(t) / 1000.0

        def run(scheduler, count, **step):
            """Timesteps, and x after every call of step()."""
            noises = step.pop("noises", None)
            scheduler.set_timesteps(count)
            x = torch.from_numpy(start).double() * scheduler.init_noise_sigma
            trace = []
            for i, t in enumerate(scheduler.timesteps):
                more = dict(step, variance_noise=torch.from_numpy(noises[i]).double()) if noises is not None else step
                x = scheduler.step(toy(x, t), t, x, **more).prev_sample
                trace.append(x.double().numpy().astype(np.float32))
            return scheduler.timesteps.numpy().astype(np.int64), np.stack(trace)

        # DDIM, eta 0 and eta 1.
        config = dict(SD_SCHEDULER, _class_name="DDIMScheduler")
        config.pop("skip_prk_steps")
        inputs, outputs = {"x": start}, {}
        rng = rng_for("scheduler_ddim")
        for count in counts:
            outputs[f"timesteps_{count}"], outputs[f"x_{count}"] = run(
                diffusers.DDIMScheduler.from_config(config), count, eta=0.0
            )
            noise = normal(rng, count, 2, 3)
            inputs[f"noise_{count}"] = noise
            _, outputs[f"x_eta1_{count}"] = run(
                diffusers.DDIMScheduler.from_config(config), count, eta=1.0, noises=noise
            )
        self.save("scheduler_ddim", inputs, outputs, config, source % "DDIMScheduler")

        # PNDM without the Runge-Kutta part.
        outputs = {}
        for count in counts:
            outputs[f"timesteps_{count}"], outputs[f"x_{count}"] = run(
                diffusers.PNDMScheduler.from_config(SD_SCHEDULER), count
            )
        self.save("scheduler_pndm", {"x": start}, outputs, SD_SCHEDULER, source % "PNDMScheduler")

        # DPM-Solver++; "leading" is what a folder whose config names it would give.
        config = dict(
            SD_SCHEDULER,
            _class_name="DPMSolverMultistepScheduler",
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
        )
        for key in ("clip_sample", "set_alpha_to_one", "skip_prk_steps"):
            config.pop(key)
        outputs = {}
        for count in counts:
            outputs[f"timesteps_{count}"], outputs[f"x_{count}"] = run(
                diffusers.DPMSolverMultistepScheduler.from_config(config), count
            )
            outputs[f"timesteps_leading_{count}"], outputs[f"x_leading_{count}"] = run(
                diffusers.DPMSolverMultistepScheduler.from_config(config, timestep_spacing="leading"), count
            )
        self.save("scheduler_dpm", {"x": start}, outputs, config, source % "DPMSolverMultistepScheduler")

        # What the commands offer beside: steps of NeuroVision, some noise, Karras' sigmas, a config of another sampler.
        classes = {"ddim": diffusers.DDIMScheduler, "pndm": diffusers.PNDMScheduler,
                   "dpmsolver++": diffusers.DPMSolverMultistepScheduler}
        karras = {"use_karras_sigmas": True}
        cases = {
            "neurovision": ["pndm", 20, {}, 0.0],
            "ddim_20": ["ddim", 20, {}, 0.0],
            "ddim_half": ["ddim", 7, {}, 0.5],
            "ddim_one_trailing": ["ddim", 7, {"set_alpha_to_one": True, "timestep_spacing": "trailing"}, 0.5],
            "ddim_v": ["ddim", 7, {"prediction_type": "v_prediction"}, 0.5],
            "dpm_20": ["dpmsolver++", 20, {"timestep_spacing": "leading"}, 0.0],
            "dpm_v": ["dpmsolver++", 20, {"prediction_type": "v_prediction"}, 0.0],
            "dpm_low": ["dpmsolver++", 20, {"euler_at_final": True}, 0.0],
            "dpm_first": ["dpmsolver++", 9, {"solver_order": 1}, 0.0],
            "karras_1": ["dpmsolver++", 1, karras, 0.0],
            "karras_9": ["dpmsolver++", 9, karras, 0.0],
            "karras_25": ["dpmsolver++", 25, karras, 0.0],
            "karras_v": ["dpmsolver++", 20, dict(karras, prediction_type="v_prediction"), 0.0],
            "karras_sigma_min": ["dpmsolver++", 20, dict(karras, final_sigmas_type="sigma_min"), 0.0],
        }
        rng = rng_for("scheduler_options")
        inputs, outputs = {"x": start, "noise": normal(rng, 7, 2, 3)}, {}
        for name, (sampler, count, over, eta) in cases.items():
            config = {k: v for k, v in SD_SCHEDULER.items() if k != "_class_name"}
            made = classes[sampler].from_config(dict(config, **over))
            more = dict(eta=eta, noises=inputs["noise"]) if eta else {}
            outputs[f"timesteps_{name}"], outputs[f"x_{name}"] = run(made, count, **more)
        self.save("scheduler_options", inputs, outputs, SD_SCHEDULER, source % "schedulers", cases=cases)

        # The noise table and the forward process.
        scheduler = diffusers.DDIMScheduler.from_config(dict(SD_SCHEDULER, _class_name="DDIMScheduler"))
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        exact = np.cumprod(1.0 - betas)
        rng = rng_for("scheduler_noise")
        timesteps = np.array([0, 1, 250, 500, 991, 999], dtype=np.int64)
        x, noise = normal(rng, 6, 2, 3), normal(rng, 6, 2, 3)
        noisy = scheduler.add_noise(
            torch.from_numpy(x).double(), torch.from_numpy(noise).double(), torch.from_numpy(timesteps)
        )
        self.save(
            "scheduler_noise",
            {"x": x, "noise": noise, "timesteps": timesteps},
            {
                "alphas_cumprod": scheduler.alphas_cumprod.numpy().astype(np.float32),
                "alphas_cumprod_f64": exact,
                "noisy": noisy.numpy().astype(np.float32),
            },
            SD_SCHEDULER,
            source % "DDIMScheduler.add_noise; alphas_cumprod_f64 by numpy in float64",
        )
        self.check_scheduler_traces()

    def check_scheduler_traces(self):
        """Compare with trajectories that were published independently (x = 1, 10 steps)."""
        known = {
            "scheduler_pndm": (
                [901, 801, 801, 701, 601, 501, 401, 301, 201, 101, 1],
                [0.992286, 1.023651, 1.095567, 1.207146, 1.345351, 1.492659, 1.631863, 1.749024, 1.834626, 1.867582, 1.866724],
            ),
            "scheduler_ddim": (
                [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
                [0.992286, 1.025249, 1.093172, 1.184723, 1.285648, 1.381923, 1.462221, 1.518484, 1.528511, 1.527296],
            ),
        }
        from safetensors.numpy import load_file

        for name, (timesteps, trace) in known.items():
            got = load_file(os.path.join(self.args.out, f"{name}.safetensors"))
            assert got["out.timesteps_10"].tolist() == timesteps, name
            worst = np.abs(got["out.x_10"][:, 0, 0] - np.array(trace)).max()
            assert worst < 2e-6, (name, worst)
            print(f"  {name} agrees with the published trajectory to {worst:.1e}")

    # ---- 3-D UNet ----

    UNET3D_A = {
        "_class_name": "UNet3DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": 4,
        "block_out_channels": [32, 64],
        "center_input_sample": False,
        "cross_attention_dim": 24,
        "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 1,
        "mid_block_scale_factor": 1,
        "mid_block_type": "UNetMidBlock3DCrossAttn",
        "norm_eps": 1e-05,
        "norm_num_groups": 8,
        "out_channels": 4,
        "sample_size": 9,
        "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
    }
    UNET3D_B = dict(
        UNET3D_A,
        attention_head_dim=8,
        block_out_channels=[32, 64, 96],
        cross_attention_dim=40,
        down_block_types=["CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"],
        layers_per_block=2,
        norm_num_groups=16,
        sample_size=10,
        up_block_types=["UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"],
    )

    def unet3d(self):
        """Runs in a process of its own: diffusers 0.11.1."""
        import diffusers

        cls = reference.unet3d_class(self.args.tune_a_video)
        source = (
            f"Tune-A-Video {reference.commit_of(self.args.tune_a_video)} tuneavideo/models/unet.py,"
            f" diffusers {diffusers.__version__}; {self.versions}"
        )

        def call(m, sample, timestep, encoder_hidden_states):
            return {"sample": m(sample, timestep, encoder_hidden_states).sample}

        rng = rng_for("unet3d_a")
        self.model(
            "unet3d_a",
            cls.from_config(self.UNET3D_A),
            {
                "sample": normal(rng, 2, 4, 3, 9, 14),
                "timestep": np.array([37, 812], dtype=np.int64),
                "encoder_hidden_states": normal(rng, 2, 7, 24),
            },
            call,
            self.UNET3D_A,
            source,
        )
        rng = rng_for("unet3d_b")
        self.model(
            "unet3d_b",
            cls.from_config(self.UNET3D_B),
            {
                "sample": normal(rng, 3, 4, 5, 10, 6),
                "timestep": np.array([999, 1, 490], dtype=np.int64),
                "encoder_hidden_states": normal(rng, 3, 11, 40),
            },
            call,
            self.UNET3D_B,
            source,
        )

        # A short guided sampling loop with the weights of unet3d_a.
        steps, scale = 12, 7.5
        config = dict(SD_SCHEDULER, _class_name="DDIMScheduler")
        config.pop("skip_prk_steps")
        timesteps = None

        def sample(m, latents, encoder_hidden_states):
            nonlocal timesteps
            scheduler = diffusers.DDIMScheduler.from_config(config)
            scheduler.set_timesteps(steps)
            timesteps = scheduler.timesteps.numpy().astype(np.int64)
            norms = []
            for t in scheduler.timesteps:
                both = m(torch.cat([latents, latents]), t, encoder_hidden_states).sample
                without, with_text = both.chunk(2)
                noise = without + scale * (with_text - without)
                latents = scheduler.step(noise, t, latents, eta=0.0).prev_sample
                norms.append(latents.norm())
            return {"latents": latents, "norms": torch.stack(norms)}

        rng = rng_for("ddim_guided")
        inputs = {
            "latents": normal(rng, 1, 4, 3, 9, 14),
            "encoder_hidden_states": normal(rng, 2, 7, 24),
        }
        model = cls.from_config(self.UNET3D_A)
        filled = weights.fill(model)
        outputs, error = evaluate(model, inputs, sample)
        outputs["timesteps"] = timesteps
        self.save(
            "ddim_guided",
            inputs,
            outputs,
            self.UNET3D_A,
            source,
            filled,
            error,
            scheduler_config=config,
            num_inference_steps=steps,
            guidance_scale=scale,
        )

    # ---- 2-D UNet, VAE ----

    UNET2D_A = {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": 4,
        "block_out_channels": [32, 64],
        "center_input_sample": False,
        "cross_attention_dim": 24,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 1,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 8,
        "out_channels": 4,
        "sample_size": 9,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    }
    UNET2D_B = dict(UNET2D_A, attention_head_dim=[2, 4], use_linear_projection=True)
    # 7 heads leave 28 of 32 and 63 of 64 channels.
    UNET2D_C = dict(UNET2D_A, attention_head_dim=7)

    def unet2d(self):
        import diffusers

        source = f"diffusers {diffusers.__version__} UNet2DConditionModel; {self.versions}"
        for name, config in (
            ("unet2d_a", self.UNET2D_A),
            ("unet2d_b", self.UNET2D_B),
            ("unet2d_c", self.UNET2D_C),
        ):
            rng = rng_for(name)
            self.model(
                name,
                diffusers.UNet2DConditionModel.from_config(config),
                {
                    "sample": normal(rng, 2, 4, 9, 14),
                    "timestep": np.array([37, 812], dtype=np.int64),
                    "encoder_hidden_states": normal(rng, 2, 7, 24),
                },
                lambda m, sample, timestep, encoder_hidden_states: {
                    "sample": m(sample, timestep, encoder_hidden_states).sample
                },
                config,
                source,
            )

    VAE_A = {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [32, 64],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "out_channels": 3,
        "sample_size": 28,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
    }
    VAE_B = dict(
        VAE_A,
        block_out_channels=[32, 64, 96],
        down_block_types=["DownEncoderBlock2D"] * 3,
        layers_per_block=2,
        norm_num_groups=16,
        sample_size=36,
        up_block_types=["UpDecoderBlock2D"] * 3,
    )

    def vae(self):
        import diffusers

        source = f"diffusers {diffusers.__version__} AutoencoderKL; {self.versions}"

        def call(m, latents, sample):
            posterior = m.encode(sample).latent_dist
            return {
                "sample": m.decode(latents).sample,
                "mean": posterior.mean,
                "logvar": posterior.logvar,
            }

        for name, config, latents, sample in (
            ("vae_a", self.VAE_A, (2, 4, 5, 7), (2, 3, 20, 28)),
            ("vae_b", self.VAE_B, (3, 4, 5, 3), (3, 3, 36, 20)),
            ("vae_c", self.VAE_B, (1, 4, 1, 2), (1, 3, 23, 14)),
        ):
            rng = rng_for(name)
            self.model(
                name,
                diffusers.AutoencoderKL.from_config(config),
                {"latents": normal(rng, *latents), "sample": normal(rng, *sample)},
                call,
                config,
                source,
            )

    # ---- text ----

    def clip(self):
        import transformers

        source = f"transformers {transformers.__version__} CLIPTextModel; {self.versions}"

        def published(name):
            return name if name.startswith("text_model.") else "text_model." + name

        for name, eos, act in (("clip_text_a", 98, "quick_gelu"), ("clip_text_b", 2, "gelu")):
            config = {
                "architectures": ["CLIPTextModel"],
                "attention_dropout": 0.0,
                "bos_token_id": 97,
                "eos_token_id": eos,
                "hidden_act": act,
                "hidden_size": 48,
                "intermediate_size": 96,
                "layer_norm_eps": 1e-05,
                "max_position_embeddings": 20,
                "model_type": "clip_text_model",
                "num_attention_heads": 4,
                "num_hidden_layers": 3,
                "pad_token_id": 1,
                "projection_dim": 48,
                "vocab_size": 99,
            }
            rng = rng_for(name)
            ids = rng.integers(3, 97, size=(3, 20))
            ids[:, 0] = 97
            ids[0, 5:] = 98  # padded with the end token, as Stable Diffusion does
            ids[1, 19] = 98  # full
            ids[2, 11] = 98  # padded with 0
            ids[2, 12:] = 0
            ids[1, 4] = 2  # an ordinary token, also for clip_text_b
            model = transformers.CLIPTextModel._from_config(
                transformers.CLIPTextConfig(**config), attn_implementation="eager"
            )
            self.model(
                name,
                model,
                {"input_ids": ids.astype(np.int64)},
                lambda m, input_ids: {
                    "last_hidden_state": (r := m(input_ids=input_ids)).last_hidden_state,
                    "pooler_output": r.pooler_output,
                },
                config,
                source,
                rename=published,
            )

    def tokenizer(self):
        import tokenizer_cases

        tokenizer_cases.make(os.path.join(self.args.out, "tokenizer"))

    def text(self):
        import text_cases

        text_cases.opt(os.path.join(self.args.out, "tokenizer_opt"))
        text_cases.bert(os.path.join(self.args.out, "tokenizer_bert"))

    # ---- features ----

    def features(self):
        de_psd = reference.de_psd(self.args.eeg2video)
        rng = rng_for("features")
        inputs, outputs = {}, {}
        for length, window in ((400, 2), (200, 1), (100, reference.HalfSecond())):
            # Channels of very different size, one with an offset.
            signal = rng.standard_normal((5, length)) * np.array([[1.0], [30.0], [1e-3], [5.0], [0.2]])
            signal[3] += 40.0
            de, psd = de_psd(signal, 200, window)
            inputs[f"signal_{length}"] = signal
            outputs[f"de_{length}"] = de
            outputs[f"psd_{length}"] = psd
        import scipy

        self.save(
            "features",
            inputs,
            outputs,
            {"_class_name": "DePsd", "sample_rate": 200, "windows": {"400": 2.0, "200": 1.0, "100": 0.5}},
            self.eeg2video("EEG_preprocessing/DE_PSD.py") + f", scipy {scipy.__version__}",
        )
        self.check_features(de_psd)

    def check_features(self, de_psd):
        """Compare with values that were published independently."""
        known = {
            200: [9.88002, 6.95875, 15.71637, 12.35381, 8.41520],
            400: [10.62679, 11.73011, 15.66366, 12.33494, 8.49176],
            100: [9.18717, 8.87701, 14.72306, 11.40945, 7.42239],
        }
        for length, window in ((200, 1), (400, 2), (100, reference.HalfSecond())):
            t = np.arange(length) / 200.0
            x = sum(a * f(2 * np.pi * hz * t) for a, f, hz in
                    ((1, np.sin, 10), (0.5, np.sin, 20), (0.25, np.cos, 40), (0.1, np.cos, 2)))
            de, _ = de_psd(x[None], 200, window)
            worst = np.abs(de[0] - known[length]).max()
            assert worst < 1e-5, (length, worst)
            print(f"  DE of {length} samples agrees with the published values to {worst:.1e}")

    # ---- NeuroVision ----

    def neurovision(self):
        import neurovision

        neurovision.Maker(self, rng_for, evaluate).all()


GROUPS = ("eeg", "scheduler", "unet3d", "unet2d", "vae", "clip", "tokenizer", "features", "neurovision", "text")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eeg2video", required=True, help="checkout of EEG2Video")
    parser.add_argument("--tune-a-video", required=True, help="checkout of Tune-A-Video")
    parser.add_argument("--diffusers-011", required=True, help="folder with diffusers 0.11.1")
    parser.add_argument("--out", default=here, help="where the fixtures go (default: this folder)")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="groups to make")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for group in args.only:
        if group == "unet3d" and len(args.only) > 1:
            # The old diffusers cannot live in one process with the new one.
            flags = ["--eeg2video", args.eeg2video, "--tune-a-video", args.tune_a_video]
            flags += ["--diffusers-011", args.diffusers_011, "--out", args.out, "--only", "unet3d"]
            subprocess.run([sys.executable, os.path.abspath(__file__), *flags], check=True)
            continue
        print(f"== {group}", flush=True)
        if group == "unet3d":
            reference.use_diffusers_011(args.diffusers_011)
        getattr(Maker(args), group)()


if __name__ == "__main__":
    main()
