//! Text -> token ids, as the models' own tokenizers make them; OPT's back to text.

mod bert;
mod clip;
mod folder;
mod opt;

pub use bert::BertTokenizer;
pub use clip::ClipTokenizer;
pub use opt::OptTokenizer;
