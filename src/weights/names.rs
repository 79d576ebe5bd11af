//! Spelling variants: the names a file may use -> the one name a model asks for.
//!
//! Each function returns the new name, or `None` where the name stays; made for [`super::Checkpoint::renamed`].
//! The model's names carry no wrapper's prefix: `embeddings.token_embedding.weight`, not
//! `text_model.embeddings.token_embedding.weight`.

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
