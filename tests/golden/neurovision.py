"""Fixtures of the transformers that NeuroVision is made of: tiny configurations, the reference's own code.

Weights have the names that published files have, whatever transformers calls them in memory.
"""

import re

import numpy as np
import torch
import transformers
from transformers import (
    BertConfig,
    BertModel,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2QFormerModel,
    Blip2VisionConfig,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    OPTConfig,
    OPTForCausalLM,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    ViTConfig,
    ViTForImageClassification,
)

import weights


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def saved(model):
    """The config as save_pretrained writes it, without what changes from version to version."""
    config = model.config.to_dict()
    config = {k: v for k, v in config.items() if k not in ("transformers_version", "dtype", "torch_dtype")}
    config["architectures"] = [type(model).__name__]
    return config


def vit_name(name):
    """Names in the files of ViT, from those in memory."""
    pairs = (
        (r"^vit\.layers\.", "vit.encoder.layer."),
        (r"\.attention\.q_proj\.", ".attention.attention.query."),
        (r"\.attention\.k_proj\.", ".attention.attention.key."),
        (r"\.attention\.v_proj\.", ".attention.attention.value."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    )
    for inside, file in pairs:
        name = re.sub(inside, file, name)
    return name


def videomae_name(name):
    return name.replace("query.bias", "q_bias").replace("value.bias", "v_bias")


def padded(rng, vocabulary, mask, padding):
    """Random ids, the padding id where the mask is 0."""
    mask = np.array(mask, dtype=np.int64)
    ids = rng.integers(3, vocabulary, mask.shape)
    return np.where(mask == 1, ids, padding).astype(np.int64), mask


class EEGTransformerEncoder(torch.nn.Module):
    """The encoder of NeuroVision's notebook, at any size; its projection stands beside it there."""

    def __init__(self, channels, width, heads, layers, inner):
        super().__init__()
        nn = torch.nn
        self.conv_stem = nn.Sequential(
            nn.Conv2d(channels, width // 4, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width // 4),
            nn.ELU(),
            nn.Conv2d(width // 4, width // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ELU(),
            nn.Conv2d(width // 2, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        layer = nn.TransformerEncoderLayer(width, heads, inner, 0.3, "gelu", batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.output_layernorm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.conv_stem(x).flatten(2).transpose(1, 2)
        return self.output_layernorm(self.transformer_encoder(x))


class Maker:
    """Fills, runs and saves, with the functions of make_golden.py."""

    def __init__(self, maker, rng_for, evaluate):
        self.maker, self.rng_for, self.evaluate = maker, rng_for, evaluate
        self.source = f"transformers {transformers.__version__} %s; {maker.versions}"

    def model(self, name, model, inputs, call, rename=None, skip=(), config=None, extra=None, **more):
        filled = weights.fill(model, rename=rename, skip=skip)
        outputs, error = self.evaluate(model, inputs, call)
        outputs.update(extra(model, inputs) if extra else {})
        source = self.source % type(model).__name__
        self.maker.save(name, inputs, outputs, config or saved(model), source, filled, error, **more)

    def bert(self):
        def call(m, **inputs):
            r = m(**inputs)
            return {"last_hidden_state": r.last_hidden_state, "pooler_output": r.pooler_output}

        rng = self.rng_for("bert_a")
        mask = [[1] * 19, [1] * 11 + [0] * 8, [1] * 3 + [0] + [1] * 9 + [0] * 6]
        ids, mask = padded(rng, 99, mask, 0)
        config = BertConfig(vocab_size=99, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
                            intermediate_size=80, max_position_embeddings=40)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": rng.integers(0, 2, ids.shape)}
        self.model("bert_a", BertModel(config), inputs, call)

        rng = self.rng_for("bert_b")
        ids, mask = padded(rng, 70, [[1] * 7, [0] * 2 + [1] * 5], 0)
        config = BertConfig(vocab_size=70, hidden_size=30, num_hidden_layers=2, num_attention_heads=6,
                            intermediate_size=50, max_position_embeddings=7, hidden_act="gelu_new",
                            type_vocab_size=1, layer_norm_eps=1e-5)
        self.model("bert_b", BertModel(config), {"input_ids": ids, "attention_mask": mask}, call,
                   rename=lambda n: f"bert.{n}")

    def opt(self):
        def call(m, **inputs):
            return {"logits": m(**inputs).logits}

        tied = ("lm_head.weight",)
        rng = self.rng_for("opt_a")
        ids, mask = padded(rng, 101, [[1] * 13, [0] * 4 + [1] * 9, [1] * 6 + [0] * 7], 1)
        config = OPTConfig(vocab_size=101, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, ffn_dim=100,
                           max_position_embeddings=20, word_embed_proj_dim=48)
        self.model("opt_a", OPTForCausalLM(config), {"input_ids": ids, "attention_mask": mask}, call, skip=tied)

        rng = self.rng_for("opt_b")
        ids, mask = padded(rng, 67, [[0] * 2 + [1] * 5, [1] * 3 + [0] + [1] * 3], 1)
        config = OPTConfig(vocab_size=67, hidden_size=40, num_hidden_layers=2, num_attention_heads=2, ffn_dim=72,
                           max_position_embeddings=9, word_embed_proj_dim=24, do_layer_norm_before=False)
        self.model("opt_b", OPTForCausalLM(config), {"input_ids": ids, "attention_mask": mask}, call, skip=tied,
                   rename=lambda n: n.removeprefix("model."))

        rng = self.rng_for("opt_c")
        ids, mask = padded(rng, 50, [[1] * 5], 1)
        config = OPTConfig(vocab_size=50, hidden_size=36, num_hidden_layers=2, num_attention_heads=3, ffn_dim=50,
                           max_position_embeddings=9, word_embed_proj_dim=36, activation_function="gelu",
                           enable_bias=False, layer_norm_elementwise_affine=False, tie_word_embeddings=False)
        self.model("opt_c", OPTForCausalLM(config), {"input_ids": ids, "attention_mask": mask}, call)

    def generate(self):
        """Greedy texts: one row ends early, one starts behind padding."""
        def sequences(m, inputs):
            given = {k: torch.from_numpy(v) for k, v in inputs.items()}
            m = m.to(torch.float64)
            generate = lambda eos: m.generate(**given, do_sample=False, max_new_tokens=11, eos_token_id=eos)
            free = generate(None)[:, given["input_ids"].shape[1]:].tolist()
            # The id that ends one text first, and as late as can be.
            def first(row, id):
                return row.index(id) if id in row else len(row)
            id = max(sum(free, []), key=lambda id: (min(first(r, id) for r in free) + 2 * sum(id not in r for r in free)))
            print("  texts", free, "end", id)
            m.config.eos_token_id = m.generation_config.eos_token_id = id
            with torch.no_grad():
                top = m(**given).logits[:, -1].topk(2).values
            print("  margin of the first token", (top[:, 0] - top[:, 1]).min().item())
            return {"sequences": generate(id).numpy()}

        rng = self.rng_for("opt_generate")
        ids, mask = padded(rng, 101, [[1] * 6, [0] * 2 + [1] * 4, [0] * 5 + [1]], 1)
        config = OPTConfig(vocab_size=101, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, ffn_dim=100,
                           max_position_embeddings=20, word_embed_proj_dim=32)
        model = OPTForCausalLM(config)
        self.model("opt_generate", model, {"input_ids": ids, "attention_mask": mask},
                   lambda m, **inputs: {"logits": m(**inputs).logits}, skip=("lm_head.weight",), extra=sequences)

    # Settings of generate() without a draw, and what each of them leaves as it is.
    TEXTS = {
        "greedy": {},
        "penalty": {"repetition_penalty": 1.4},
        "late": {"min_new_tokens": 7, "repetition_penalty": 1.2},
        "beams": {"num_beams": 4, "num_return_sequences": 4},
        "evaluation": {"num_beams": 4, "repetition_penalty": 1.4, "min_new_tokens": 5, "num_return_sequences": 2},
        "long": {"num_beams": 3, "length_penalty": 2.0, "num_return_sequences": 3},
        "short": {"num_beams": 3, "length_penalty": -0.5, "num_return_sequences": 3},
        "early": {"num_beams": 3, "early_stopping": True, "num_return_sequences": 3},
        "never": {"num_beams": 2, "early_stopping": "never", "length_penalty": 0.7, "num_return_sequences": 2},
    }
    DRAWS = {
        "plain": {"top_k": 0},
        "temperature": {"temperature": 2.5, "top_k": 0},
        "top_k": {"top_k": 5},
        "top_p": {"top_p": 0.5, "top_k": 0},
        "neurovision": {"temperature": 0.85, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.4, "min_new_tokens": 5},
        "pseudo": {"temperature": 0.81, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.25, "min_new_tokens": 8},
    }

    def decoding(self):
        """Texts of every way to choose them, and the distributions that tokens are drawn from."""
        rng = self.rng_for("opt_decoding")
        ids, mask = padded(rng, 101, [[1] * 6, [0] * 2 + [1] * 4, [0] * 5 + [1]], 1)
        config = OPTConfig(vocab_size=101, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, ffn_dim=100,
                           max_position_embeddings=24, word_embed_proj_dim=48)
        model = OPTForCausalLM(config)

        def texts(m, inputs):
            given = {k: torch.from_numpy(v) for k, v in inputs.items()}
            m = m.to(torch.float64)
            prompt = ids.shape[1]
            free = m.generate(**given, do_sample=False, max_new_tokens=12, eos_token_id=None)[:, prompt:]
            # Two ids end texts; one of three goes on to the end when it is greedy.
            ends = sorted({int(free[0, 8]), int(free[2, 3])})
            m.config.eos_token_id = m.generation_config.eos_token_id = ends
            print("  texts", free.tolist(), "ends", ends)
            found = {}
            for name, settings in self.TEXTS.items():
                result = m.generate(**given, do_sample=False, max_new_tokens=12, return_dict_in_generate=True,
                                    output_scores=True, **settings)
                found[f"{name}_sequences"] = result.sequences[:, prompt:].numpy()
                if settings.get("num_beams", 1) > 1:
                    found[f"{name}_scores"] = result.sequences_scores.numpy().astype(np.float32)
            # No ids, as where a prompt is an image's: the penalty counts what is new alone. Without padding, for which
            # transformers 5 passes over as many new tokens.
            embeds = m.get_input_embeddings()(given["input_ids"][:1])
            found["embeds_sequences"] = m.generate(
                inputs_embeds=embeds, do_sample=False, max_new_tokens=12, **self.TEXTS["penalty"]).numpy()
            with torch.no_grad():
                found["next"] = m(**given).logits[:, -1].float().numpy()
            for name, settings in self.DRAWS.items():
                result = m.generate(**given, do_sample=True, max_new_tokens=max(1, settings.get("min_new_tokens", 0)),
                                    return_dict_in_generate=True, output_scores=True, **settings)
                found[f"{name}_probabilities"] = result.scores[0].double().softmax(-1).float().numpy()
            return found

        self.model("opt_decoding", model, {"input_ids": ids, "attention_mask": mask},
                   lambda m, **inputs: {"logits": m(**inputs).logits}, skip=("lm_head.weight",), extra=texts,
                   texts=self.TEXTS, draws=self.DRAWS)

    def vit(self):
        def call(m, pixel_values):
            return {"logits": m(pixel_values).logits}

        rng = self.rng_for("vit_a")
        config = ViTConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80,
                           image_size=[30, 42], patch_size=[10, 14], num_labels=5)
        self.model("vit_a", ViTForImageClassification(config), {"pixel_values": normal(rng, 2, 3, 30, 42)}, call,
                   rename=vit_name)
        rng = self.rng_for("vit_b")
        config = ViTConfig(hidden_size=30, num_hidden_layers=2, num_attention_heads=2, intermediate_size=50,
                           image_size=27, patch_size=8, num_channels=5, qkv_bias=False, num_labels=3,
                           hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
        self.model("vit_b", ViTForImageClassification(config), {"pixel_values": normal(rng, 3, 5, 27, 27)}, call)

    def clip_vision(self):
        def call(m, pixel_values):
            r = m(pixel_values)
            return {"image_embeds": r.image_embeds, "last_hidden_state": r.last_hidden_state}

        rng = self.rng_for("clip_vision_a")
        config = CLIPVisionConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80,
                                  image_size=28, patch_size=7, projection_dim=20)
        self.model("clip_vision_a", CLIPVisionModelWithProjection(config),
                   {"pixel_values": normal(rng, 2, 3, 28, 28)}, call)
        rng = self.rng_for("clip_vision_b")
        config = CLIPVisionConfig(hidden_size=30, num_hidden_layers=2, num_attention_heads=2, intermediate_size=50,
                                  image_size=19, patch_size=6, projection_dim=33, hidden_act="gelu", num_channels=1)
        self.model("clip_vision_b", CLIPVisionModelWithProjection(config),
                   {"pixel_values": normal(rng, 3, 1, 19, 19)}, call)

    def qformer(self):
        def call(m, **inputs):
            return {"last_hidden_state": m(**inputs).last_hidden_state}

        for name, layers, frequency, heads in (("qformer_a", 4, 2, 4), ("qformer_b", 5, 3, 6)):
            rng = self.rng_for(name)
            config = Blip2QFormerConfig(hidden_size=48, num_hidden_layers=layers, num_attention_heads=heads,
                                        intermediate_size=80, encoder_hidden_size=36,
                                        cross_attention_frequency=frequency)
            inputs = {"query_embeds": normal(rng, 2, 7, 48), "encoder_hidden_states": normal(rng, 2, 23, 36)}
            self.model(name, Blip2QFormerModel(config), inputs, call,
                       rename=None if name.endswith("a") else lambda n: f"qformer.{n}")

    def blip2(self):
        def config(image_token, **vision):
            return Blip2Config(
                vision_config=Blip2VisionConfig(hidden_size=44, intermediate_size=90, num_hidden_layers=3,
                                                num_attention_heads=2, image_size=20, patch_size=5, **vision),
                qformer_config=Blip2QFormerConfig(hidden_size=36, num_hidden_layers=3, num_attention_heads=3,
                                                  intermediate_size=50),
                text_config=OPTConfig(vocab_size=61, hidden_size=40, num_hidden_layers=2, num_attention_heads=4,
                                      ffn_dim=70, max_position_embeddings=30, word_embed_proj_dim=40,
                                      eos_token_id=7),
                num_query_tokens=4, image_token_index=image_token)

        def outputs(logits, answers):
            return {"logits": logits, "qformer_last_hidden_state": answers}

        def call(m, **inputs):
            r = m(**inputs)
            return outputs(r.logits, r.qformer_outputs.last_hidden_state)

        def sequences(m, inputs):
            given = {k: torch.from_numpy(v) for k, v in inputs.items()}
            m = m.to(torch.float64)
            given["pixel_values"] = given["pixel_values"].double()
            return {
                "sequences": m.generate(**given, do_sample=False, max_new_tokens=8).numpy(),
                "bare_sequences": m.generate(given["pixel_values"], do_sample=False, max_new_tokens=8).numpy(),
            }

        tied = ("language_model.lm_head.weight",)
        rng = self.rng_for("blip2_a")
        ids, mask = padded(rng, 59, [[1] * 9, [0] * 2 + [1] * 7], 1)
        ids[0, :4], ids[1, 2:6] = 60, 60
        inputs = {"pixel_values": normal(rng, 2, 3, 20, 20), "input_ids": ids, "attention_mask": mask}
        self.model("blip2_a", Blip2ForConditionalGeneration(config(60)), inputs, call, skip=tied, extra=sequences)

        # Before there was an id for an image's places, its answers stood before the text.
        def older(m, pixel_values, input_ids, attention_mask):
            seen = m.vision_model(pixel_values).last_hidden_state
            queries = m.query_tokens.expand(len(seen), -1, -1)
            answers = m.qformer(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state
            images, text = m.language_projection(answers), m.get_input_embeddings()(input_ids)
            mask = torch.cat([torch.ones(images.shape[:2], dtype=torch.long), attention_mask], 1)
            r = m.language_model(inputs_embeds=torch.cat([images, text], 1), attention_mask=mask)
            return outputs(r.logits, answers)

        rng = self.rng_for("blip2_b")
        ids, mask = padded(rng, 61, [[1] * 3, [1] * 2 + [0], [1] * 3], 1)
        inputs = {"pixel_values": normal(rng, 3, 3, 20, 20), "input_ids": ids, "attention_mask": mask}
        self.model("blip2_b", Blip2ForConditionalGeneration(config(None, qkv_bias=False)), inputs, older, skip=tied)

    def videomae(self):
        def call(m, pixel_values):
            return {"logits": m(pixel_values).logits}

        rng = self.rng_for("videomae_a")
        config = VideoMAEConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80,
                                image_size=24, patch_size=8, num_frames=6, tubelet_size=2, num_labels=7)
        self.model("videomae_a", VideoMAEForVideoClassification(config),
                   {"pixel_values": normal(rng, 2, 6, 3, 24, 24)}, call, rename=videomae_name)
        rng = self.rng_for("videomae_b")
        config = VideoMAEConfig(hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=50,
                                image_size=[15, 10], patch_size=5, num_frames=7, tubelet_size=3, num_labels=2,
                                qv_bias=False, use_mean_pooling=False, num_channels=2)
        self.model("videomae_b", VideoMAEForVideoClassification(config),
                   {"pixel_values": normal(rng, 2, 7, 2, 15, 10)}, call)

    def eeg_encoder(self):
        torch.backends.mha.set_fastpath_enabled(False)
        model = torch.nn.Module()
        model.eeg_encoder = EEGTransformerEncoder(6, 48, 4, 2, 80)
        model.eeg_projection = torch.nn.Linear(48, 20)
        rng = self.rng_for("eeg_encoder")
        self.source = "NeuroVision notebooks/eeg_text_image.ipynb, as its description has it (%s); " + self.maker.versions
        self.model(
            "eeg_encoder", model, {"spectrogram": normal(rng, 2, 6, 21, 18)},
            lambda m, spectrogram: {"last_hidden_state": m.eeg_projection(m.eeg_encoder(spectrogram))},
            config={"_class_name": "EEGTransformerEncoder", "n_heads": 4},
        )

    def all(self):
        for make in (self.bert, self.opt, self.generate, self.decoding, self.vit, self.clip_vision, self.qformer, self.blip2,
                     self.videomae, self.eeg_encoder):
            torch.manual_seed(0)
            make()
