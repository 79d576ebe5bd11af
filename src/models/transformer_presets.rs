//! Named configurations of single transformers, at the sizes they are published in and, `-tiny`, in a few hundred KB.
//!
//! Numbers: the `config.json` of Salesforce/blip2-opt-2.7b, facebook/opt-2.7b, sentence-transformers/all-MiniLM-L6-v2,
//! openai/clip-vit-base-patch32, google/vit-base-patch16-224, MCG-NJU/videomae-base; Ajinkya-18/NeuroVision
//! `notebooks/eeg_text_image.ipynb`.

use super::networks::Network;
use super::presets::Part;
use crate::weights::Dtype;
use serde_json::{Value, json};

/// The named transformers.
pub fn transformers() -> Vec<Network> {
    let full = [
        ("blip2-opt-2.7b", "Blip2ForConditionalGeneration", blip2(), Dtype::F16),
        ("blip2-qformer", "Blip2QFormerModel", qformer(), Dtype::F32),
        ("opt-2.7b", "OPTForCausalLM", opt(50_272, 2), Dtype::F16),
        ("all-minilm-l6-v2", "BertModel", minilm(), Dtype::F32),
        ("clip-vit-base-patch32", "CLIPVisionModelWithProjection", clip(), Dtype::F32),
        ("vit-base-patch16-224", "ViTForImageClassification", vit(), Dtype::F32),
        ("videomae-base", "VideoMAEForVideoClassification", videomae(), Dtype::F32),
        ("neurovision-eeg", "EEGTransformerEncoder", eeg(), Dtype::F32),
    ];
    let tiny = [
        ("blip2-opt-2.7b-tiny", "Blip2ForConditionalGeneration", tiny_blip2()),
        ("blip2-qformer-tiny", "Blip2QFormerModel", of(qformer(), tiny_qformer())),
        ("opt-2.7b-tiny", "OPTForCausalLM", of(opt(512, 2), tiny_opt())),
        ("all-minilm-l6-v2-tiny", "BertModel", of(minilm(), tiny(json!({ "vocab_size": 512 })))),
        (
            "clip-vit-base-patch32-tiny",
            "CLIPVisionModelWithProjection",
            of(clip(), tiny_image(json!({ "projection_dim": 32 }))),
        ),
        (
            "vit-base-patch16-224-tiny",
            "ViTForImageClassification",
            of(vit(), tiny_image(json!({ "num_labels": 10 }))),
        ),
        (
            "videomae-base-tiny",
            "VideoMAEForVideoClassification",
            of(videomae(), tiny_image(json!({ "num_frames": 4, "num_labels": 10 }))),
        ),
        ("neurovision-eeg-tiny", "EEGTransformerEncoder", of(eeg(), tiny_eeg())),
    ];
    let tiny = tiny.into_iter().map(|(name, class, config)| (name, class, config, Dtype::F32));
    full.into_iter()
        .chain(tiny)
        .map(|(name, class, config, dtype)| network(name, class, config, dtype))
        .collect()
}

fn network(name: &'static str, class: &'static str, config: Value, dtype: Dtype) -> Network {
    // As the reference writes it; our own model keeps braindecode's word.
    let (library, key) = if class == "EEGTransformerEncoder" {
        ("mindreel", "_class_name")
    } else {
        ("transformers", "architectures")
    };
    let class = if library == "mindreel" { json!(class) } else { json!([class]) };
    Network { name, part: Part { folder: "", library, config: of(json!({ key: class }), config) }, dtype }
}

/// Settings with others over them.
pub(super) fn of(mut settings: Value, over: Value) -> Value {
    for (key, value) in over.as_object().into_iter().flatten() {
        settings[key] = value.clone();
    }
    settings
}

pub(super) fn blip2() -> Value {
    json!({
        "model_type": "blip-2",
        "image_token_index": 50_265,
        "num_query_tokens": 32,
        "vision_config": {
            "hidden_act": "gelu",
            "hidden_size": 1408,
            "image_size": 224,
            "intermediate_size": 6144,
            "layer_norm_eps": 1e-6,
            "model_type": "blip_2_vision_model",
            "num_attention_heads": 16,
            "num_hidden_layers": 39,
            "patch_size": 14,
            "qkv_bias": true,
        },
        "qformer_config": qformer(),
        "text_config": opt(50_304, 50_118),
    })
}

fn qformer() -> Value {
    json!({
        "model_type": "blip_2_qformer",
        "cross_attention_frequency": 2,
        "encoder_hidden_size": 1408,
        "hidden_act": "gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "use_qformer_text_input": false,
    })
}

fn opt(vocab_size: usize, eos_token_id: usize) -> Value {
    json!({
        "model_type": "opt",
        "activation_function": "relu",
        "bos_token_id": 2,
        "do_layer_norm_before": true,
        "eos_token_id": eos_token_id,
        "ffn_dim": 10_240,
        "hidden_size": 2560,
        "max_position_embeddings": 2048,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "pad_token_id": 1,
        "vocab_size": vocab_size,
        "word_embed_proj_dim": 2560,
    })
}

fn minilm() -> Value {
    json!({
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "num_attention_heads": 12,
        "num_hidden_layers": 6,
        "type_vocab_size": 2,
        "vocab_size": 30_522,
    })
}

fn clip() -> Value {
    json!({
        "model_type": "clip_vision_model",
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "image_size": 224,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-5,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "patch_size": 32,
        "projection_dim": 512,
    })
}

fn vit() -> Value {
    json!({
        "model_type": "vit",
        "hidden_act": "gelu",
        "hidden_size": 768,
        "image_size": 224,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "num_labels": 1000,
        "patch_size": 16,
        "qkv_bias": true,
    })
}

fn videomae() -> Value {
    of(
        vit(),
        json!({
            "model_type": "videomae",
            "num_frames": 16,
            "num_labels": 400,
            "qkv_bias": null,
            "qv_bias": true,
            "tubelet_size": 2,
            "use_mean_pooling": true,
        }),
    )
}

pub(super) fn eeg() -> Value {
    json!({
        "n_chans": 64,
        "d_model": 768,
        "n_heads": 8,
        "n_layers": 4,
        "dim_feedforward": 3072,
        "projection_dim": 1408,
    })
}

fn tiny(more: Value) -> Value {
    let sizes = json!({
        "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2,
    });
    of(sizes, more)
}

fn tiny_image(more: Value) -> Value {
    of(tiny(json!({ "image_size": 32, "patch_size": 8 })), more)
}

fn tiny_qformer() -> Value {
    tiny(json!({ "encoder_hidden_size": 48 }))
}

fn tiny_opt() -> Value {
    json!({
        "ffn_dim": 128, "hidden_size": 64, "max_position_embeddings": 128, "num_attention_heads": 4,
        "num_hidden_layers": 2, "word_embed_proj_dim": 64,
    })
}

/// Its image's places and ends are ids of a vocabulary of 512.
pub(super) fn tiny_blip2() -> Value {
    let parts = blip2();
    let vision = tiny_image(json!({ "hidden_size": 48, "intermediate_size": 96 }));
    of(
        parts.clone(),
        json!({
            "image_token_index": 511,
            "num_query_tokens": 8,
            "vision_config": of(parts["vision_config"].clone(), vision),
            "qformer_config": of(qformer(), tiny_qformer()),
            "text_config": of(opt(512, 10), tiny_opt()),
        }),
    )
}

pub(super) fn tiny_eeg() -> Value {
    json!({ "d_model": 64, "n_heads": 4, "n_layers": 2, "dim_feedforward": 128, "projection_dim": 48 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Gpu;
    use crate::models::{Clip, Inputs, n_parameters};
    use crate::nn::Precision;

    /// Counts of the published modules; the EEG encoder's with its projection.
    #[test]
    fn transformers_have_the_originals_parameters() {
        let counts = [
            ("blip2-opt-2.7b", 3_744_761_856),
            ("blip2-qformer", 105_137_664),
            ("opt-2.7b", 2_651_596_800),
            ("all-minilm-l6-v2", 22_713_216),
            ("clip-vit-base-patch32", 87_849_216),
            ("vit-base-patch16-224", 86_567_656),
            ("videomae-base", 86_534_800),
            ("neurovision-eeg", 31_784_064 + 1_082_752),
        ];
        for (network, (name, count)) in transformers().iter().zip(counts) {
            assert_eq!(network.name, name);
            assert_eq!(n_parameters(&network.part.wanted().unwrap()), count, "{name}");
        }
    }

    /// With bytes for weights BLIP-2 fits a card of 6 GB; every configuration runs on inputs of its own.
    #[test]
    fn all_can_be_planned_and_bytes_halve_what_blip2_needs() {
        let memory = |network: &Network, precision| {
            let config = network.part.model_config().unwrap();
            let inputs = Inputs::example(&config, &Clip::FULL).unwrap();
            network.part.memory(&Gpu::plan(), precision, &inputs).unwrap().peak
        };
        for network in transformers() {
            let needed = memory(&network, Precision::Int8);
            let most = if network.name.ends_with("-tiny") { 64 << 20 } else { 11 << 29 };
            assert!((1 << 16..most).contains(&needed), "{}: {needed}", network.name);
        }
        let blip2 = &transformers()[0];
        let [half, bytes] = [Precision::F16, Precision::Int8].map(|precision| memory(blip2, precision));
        assert!(bytes < half * 2 / 3, "{half} {bytes}");
    }
}
