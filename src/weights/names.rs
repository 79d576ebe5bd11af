//! Spelling variants: the names a file may use -> the one name a model asks for.
//!
//! Each function returns the new name, or `None` where the name stays; made for [`super::Checkpoint::renamed`].
//! The model's names carry no wrapper's prefix: `embeddings.token_embedding.weight`, not
//! `text_model.embeddings.token_embedding.weight`; but for models with a head, whose files have one for the rest
//! (`vit.embeddings.cls_token` beside `classifier.weight`).

/// Wrappers that put their own name before a whole model: torch's DataParallel and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// Any model: without torch's wrappers and without the base-model prefixes `model.` and `bert.`.
///
/// ```
/// use mindreel::weights::plain;
/// assert_eq!(plain("bert.embeddings.LayerNorm.weight").as_deref(), Some("embeddings.LayerNorm.weight"));
/// assert_eq!(plain("conv_in.weight"), None);
/// ```
pub fn plain(name: &str) -> Option<String> {
    let inner = strip(strip(name, &WRAPPERS), &["model.", "bert."]);
    (inner != name).then(|| inner.to_owned())
}

/// `CLIPTextModel`: with and without `text_model.` (transformers before 5 writes it, 5 does not).
pub fn clip_text_names(name: &str) -> Option<String> {
    let inner = strip(strip(strip(name, &WRAPPERS), &["model."]), &["text_model."]);
    (inner != name).then(|| inner.to_owned())
}

/// `AutoencoderKL`: the attention of diffusers before 0.18, `query/key/value/proj_attn`, as
/// `to_q/to_k/to_v/to_out.0`.
///
/// ```
/// let old = "encoder.mid_block.attentions.0.proj_attn.weight";
/// let new = "encoder.mid_block.attentions.0.to_out.0.weight";
/// assert_eq!(mindreel::weights::vae_names(old).as_deref(), Some(new));
/// ```
pub fn vae_names(name: &str) -> Option<String> {
    const OLD_AND_NEW: [(&str, &str); 4] =
        [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];
    let inner = strip(name, &WRAPPERS);
    if inner.contains(".attentions.") {
        for (old, new) in OLD_AND_NEW {
            for kind in ["weight", "bias"] {
                if let Some(block) = inner.strip_suffix(&format!(".{old}.{kind}")) {
                    return Some(format!("{block}.{new}.{kind}"));
                }
            }
        }
    }
    (inner != name).then(|| inner.to_owned())
}

/// `BertModel`: without the prefix of models with a head, and with the newer names of a norm's scale and shift.
///
/// ```
/// let old = "bert.embeddings.LayerNorm.gamma";
/// assert_eq!(mindreel::weights::bert_names(old).as_deref(), Some("embeddings.LayerNorm.weight"));
/// ```
pub fn bert_names(name: &str) -> Option<String> {
    let inner = strip(strip(name, &WRAPPERS), &["model.", "bert."]);
    let new = [("gamma", "weight"), ("beta", "bias")]
        .iter()
        .find_map(|(old, new)| Some(format!("{}.{new}", inner.strip_suffix(&format!(".{old}"))?)));
    new.or_else(|| (inner != name).then(|| inner.to_owned()))
}

/// `OPTForCausalLM`: the decoder of a bare model as that of one with a head.
pub fn opt_names(name: &str) -> Option<String> {
    under(strip(name, &WRAPPERS), "model.", &["decoder."], name)
}

/// `ViTForImageClassification`: a bare model as one with a head, and the layers as files have them whatever
/// transformers calls them in memory.
///
/// ```
/// let inside = "vit.layers.3.attention.o_proj.weight";
/// let file = "vit.encoder.layer.3.attention.output.dense.weight";
/// assert_eq!(mindreel::weights::vit_names(inside).as_deref(), Some(file));
/// ```
pub fn vit_names(name: &str) -> Option<String> {
    const INSIDE_AND_FILE: [(&str, &str); 6] = [
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ];
    let bare = ["embeddings.", "encoder.", "layers.", "layernorm."];
    let whole = under(strip(name, &WRAPPERS), "vit.", &bare, name).unwrap_or_else(|| name.to_owned());
    let Some((layer, part)) = whole.strip_prefix("vit.layers.").and_then(|rest| rest.split_once('.')) else {
        return (whole != name).then_some(whole);
    };
    let part = INSIDE_AND_FILE
        .iter()
        .find_map(|(inside, file)| Some(format!("{file}{}", part.strip_prefix(inside)?)))
        .unwrap_or_else(|| part.to_owned());
    Some(format!("vit.encoder.layer.{layer}.{part}"))
}

/// `CLIPVisionModelWithProjection`: from a whole CLIP, or a bare image encoder.
pub fn clip_vision_names(name: &str) -> Option<String> {
    let bare = ["embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm."];
    under(strip(strip(name, &WRAPPERS), &["model.", "clip."]), "vision_model.", &bare, name)
}

/// `Blip2QFormerModel`: alone, or of a whole BLIP-2.
pub fn qformer_names(name: &str) -> Option<String> {
    let inner = strip(strip(name, &WRAPPERS), &["model.", "blip.", "qformer."]);
    (inner != name).then(|| inner.to_owned())
}

/// `Blip2ForConditionalGeneration`: alone, or as NeuroVision keeps it, under `blip.`.
pub fn blip2_names(name: &str) -> Option<String> {
    let inner = strip(strip(name, &WRAPPERS), &["model.", "blip."]);
    match inner.strip_prefix("language_model.decoder.") {
        Some(rest) => Some(format!("language_model.model.decoder.{rest}")),
        None => (inner != name).then(|| inner.to_owned()),
    }
}

/// `VideoMAEForVideoClassification`: a bare model as one with a head, and the biases of queries and values as files
/// have them.
///
/// ```
/// let inside = "videomae.encoder.layer.0.attention.attention.query.bias";
/// let file = "videomae.encoder.layer.0.attention.attention.q_bias";
/// assert_eq!(mindreel::weights::videomae_names(inside).as_deref(), Some(file));
/// ```
pub fn videomae_names(name: &str) -> Option<String> {
    let bare = ["embeddings.", "encoder.", "layernorm."];
    let whole = under(strip(name, &WRAPPERS), "videomae.", &bare, name).unwrap_or_else(|| name.to_owned());
    let new = [("query.bias", "q_bias"), ("value.bias", "v_bias")]
        .iter()
        .find_map(|(inside, file)| Some(format!("{}{file}", whole.strip_suffix(inside)?)));
    new.or_else(|| (whole != name).then_some(whole))
}

/// `EEGTransformerEncoder`: alone, or with its projection as NeuroVision keeps both.
pub fn eeg_encoder_names(name: &str) -> Option<String> {
    let bare = ["conv_stem.", "transformer_encoder.", "output_layernorm."];
    under(strip(strip(name, &WRAPPERS), &["model."]), "eeg_encoder.", &bare, name)
}

/// `inner` with a prefix where it begins as a bare model's names do; nothing where that is `name` itself.
fn under(inner: &str, prefix: &str, bare: &[&str], name: &str) -> Option<String> {
    let is_bare = bare.iter().any(|start| inner.starts_with(start));
    let whole = if is_bare { format!("{prefix}{inner}") } else { inner.to_owned() };
    (whole != name).then_some(whole)
}

/// Without the prefixes, one after the other, each at most once; never down to nothing.
fn strip<'a>(name: &'a str, prefixes: &[&str]) -> &'a str {
    prefixes.iter().fold(name, |rest, prefix| {
        rest.strip_prefix(prefix).filter(|inner| !inner.is_empty()).unwrap_or(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_of_one_name_meet() {
        let wanted = "encoder.layers.0.mlp.fc1.weight";
        for prefix in ["text_model.", "module.text_model.", "_orig_mod.model.text_model."] {
            assert_eq!(clip_text_names(&format!("{prefix}{wanted}")).as_deref(), Some(wanted));
        }
        assert_eq!(clip_text_names(wanted), None);
        assert_eq!(plain("model.decoder.layers.0.fc1.bias").as_deref(), Some("decoder.layers.0.fc1.bias"));
        assert_eq!(plain("bert."), None);
        assert_eq!(plain("language_model.model.decoder.embed_tokens.weight"), None);
    }

    #[test]
    fn bare_models_take_the_names_of_whole_ones() {
        type Rename = fn(&str) -> Option<String>;
        let cases: [(Rename, &str, &str); 12] = [
            (
                bert_names,
                "bert.encoder.layer.0.output.LayerNorm.beta",
                "encoder.layer.0.output.LayerNorm.bias",
            ),
            (opt_names, "decoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"),
            (opt_names, "module.lm_head.weight", "lm_head.weight"),
            (vit_names, "embeddings.cls_token", "vit.embeddings.cls_token"),
            (vit_names, "layers.11.mlp.fc2.bias", "vit.encoder.layer.11.output.dense.bias"),
            (vit_names, "vit.layers.1.layernorm_after.bias", "vit.encoder.layer.1.layernorm_after.bias"),
            (clip_vision_names, "pre_layrnorm.bias", "vision_model.pre_layrnorm.bias"),
            (qformer_names, "blip.qformer.layernorm.bias", "layernorm.bias"),
            (blip2_names, "blip.language_model.decoder.x", "language_model.model.decoder.x"),
            (
                videomae_names,
                "encoder.layer.0.attention.attention.value.bias",
                "videomae.encoder.layer.0.attention.attention.v_bias",
            ),
            (eeg_encoder_names, "conv_stem.0.weight", "eeg_encoder.conv_stem.0.weight"),
            (eeg_encoder_names, "module.eeg_projection.bias", "eeg_projection.bias"),
        ];
        for (rename, name, wanted) in cases {
            assert_eq!(rename(name).as_deref(), Some(wanted));
            assert_eq!(rename(wanted), None);
        }
        assert_eq!(clip_vision_names("visual_projection.weight"), None);
    }

    #[test]
    fn old_vae_attention_takes_its_new_name_and_nothing_else_does() {
        let place = "decoder.mid_block.attentions.0";
        for (old, new) in [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")] {
            let renamed = vae_names(&format!("{place}.{old}.bias"));
            assert_eq!(renamed, Some(format!("{place}.{new}.bias")));
        }
        assert_eq!(vae_names("decoder.mid_block.attentions.0.group_norm.weight"), None);
        assert_eq!(vae_names("decoder.query.weight"), None);
    }
}
