"""Makes embed_clip.safetensors: what a whole CLIP model of formula weights makes of texts and pictures.

    pip install torch==2.15.0 transformers==5.23.0 pillow
    python tests/golden/embed.py

Texts through tests/golden/tokenizer, pictures of tests/golden/pictures through CLIPImageProcessor. The model runs in
float64.
"""

import json
import os

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

import fixture
import weights

FOLDER = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["", "a cat is sitting on a chair", "A dog!", "two people at night 日本 😀", "a " * 40]
PICTURES = ["noise.png", "colour.jpg", "grey.jpg"]


def main():
    config = CLIPConfig(
        text_config={
            "vocab_size": 774, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": 20, "hidden_act": "quick_gelu", "bos_token_id": 772, "eos_token_id": 773,
            "pad_token_id": 773,
        },
        vision_config={
            "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 28,
            "patch_size": 7, "hidden_act": "quick_gelu",
        },
        projection_dim=20,
    )
    model = CLIPModel(config).eval()
    filled = weights.fill(model)
    model = model.double()
    tokenizer = CLIPTokenizer.from_pretrained(os.path.join(FOLDER, "tokenizer"))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=20, return_tensors="pt")["input_ids"]
    pictures = [Image.open(os.path.join(FOLDER, "pictures", name)).convert("RGB") for name in PICTURES]
    pixels = torch.cat([processor(picture, return_tensors="pt")["pixel_values"] for picture in pictures])
    with torch.no_grad():
        # Without a mask, as Stable Diffusion and our encoder have it: what follows the end token is not seen before it.
        text = model.text_projection(model.text_model(input_ids=ids).pooler_output)
        image = model.visual_projection(model.vision_model(pixel_values=pixels.double()).pooler_output)
    outputs = {"text_embeds": text.float().numpy(), "image_embeds": image.float().numpy()}
    saved = {k: v for k, v in model.config.to_dict().items() if k not in ("transformers_version", "dtype")}
    saved["architectures"] = ["CLIPModel"]
    metadata = {
        "config": json.dumps(saved, default=str), "seed": 0, "tensors": json.dumps(dict(filled)), "texts": json.dumps(TEXTS),
        "pictures": json.dumps(PICTURES), "source": f"transformers {transformers.__version__} CLIPModel",
    }
    fixture.save(os.path.join(FOLDER, "embed_clip.safetensors"), outputs, metadata)


if __name__ == "__main__":
    main()
