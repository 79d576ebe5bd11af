//! Named configurations of single EEG networks, at the sizes of the authors' benchmark: a second of 62 channels at
//! 200 Hz, 40 classes.

use super::presets::Part;
use super::transformer_presets::transformers;
use crate::weights::Dtype;
use serde_json::{Value, json};

/// One model that stands alone, without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// What the user types.
    pub name: &'static str,
    /// The model, in no folder of its own.
    pub part: Part,
    /// Number type on disk where none is asked for.
    pub dtype: Dtype,
}

/// Every model that stands alone: the EEG networks, then the transformers.
pub fn singles() -> Vec<Network> {
    networks().into_iter().chain(transformers()).collect()
}

/// The named networks.
///
/// Sizes: XuanhaoLiu/EEG2Video 7254ad8 `EEG-VP/EEG_VP_train_test.py`, and the constructors of `EEG-VP/models.py`.
pub fn networks() -> Vec<Network> {
    let windows = || json!({ "n_outputs": 40, "n_chans": 62, "n_times": 200 });
    let features = || json!({ "n_outputs": 40, "n_chans": 62, "n_features": 310 });
    // Weights that nobody has trained yet need not follow the original's scale.
    let attention = json!({ "emb_dim": 40, "n_heads": 10, "n_layers": 3, "attention_scale": "head_dim" });
    vec![
        network("shallownet", "ShallowNet", windows(), json!({})),
        network("deepnet", "DeepNet", windows(), json!({})),
        network("eegnet", "EEGNet", windows(), json!({})),
        network("tsconv", "TSConv", windows(), json!({})),
        network("conformer", "Conformer", windows(), attention),
        network("glmnet", "GLMNet", windows(), json!({ "emb_dim": 256 })),
        network("mlp", "MLP", features(), json!({})),
        network("glmnet-mlp", "GLMNetMLP", features(), json!({ "emb_dim": 64 })),
    ]
}

fn network(name: &'static str, class: &str, sizes: Value, more: Value) -> Network {
    let mut config = json!({ "_class_name": class });
    for part in [sizes, more] {
        for (key, value) in part.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
    }
    Network { name, part: Part { folder: "", library: "mindreel", config }, dtype: Dtype::F32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::n_parameters;

    /// Counts of the original modules; the Conformer's without its head that nothing reads, a norm of 40 and a linear
    /// layer of 40 to 40.
    #[test]
    fn networks_have_the_originals_parameters() {
        let counts = [
            ("shallownet", 142_000),
            ("deepnet", 334_690),
            ("eegnet", 29_344),
            ("tsconv", 142_080),
            ("conformer", 174_120 - 2 * 40 - 41 * 40),
            ("glmnet", 674_232),
            ("mlp", 300_840),
            ("glmnet-mlp", 491_176),
        ];
        for (network, (name, count)) in networks().iter().zip(counts) {
            assert_eq!(network.name, name);
            assert_eq!(n_parameters(&network.part.wanted().unwrap()), count, "{name}");
        }
    }
}
