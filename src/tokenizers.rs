//! Text -> token ids, as the models' own tokenizers make them.

mod clip;

pub use clip::ClipTokenizer;
