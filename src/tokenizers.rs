//! Text -> token ids, as the models' own tokenizers make them; OPT's back to text.

mod bert;
mod clip;
mod folder;
mod made;
mod opt;

pub use bert::BertTokenizer;
pub use clip::ClipTokenizer;
pub use made::{write_bert, write_clip, write_opt};
pub use opt::OptTokenizer;
