//! `mindreel prepare text-embeddings`: the table of embeddings that the semantic predictor learns to predict.

use super::super::Shell;
use crate::data::{SeedDv, TextTable};
use crate::error::{Error, Result};
use crate::files;
use crate::generate::encode_texts;
use crate::nn::Precision;
use crate::signal::Units;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

const EXAMPLES: &str = "\
The table holds `embeddings` [40 or 1400, tokens, width], by class or by clip in the order of presentation, and
`negative` [tokens, width], that of the empty text.

With --text-encoder, texts go through the tokenizer and CLIP's text encoder of a Stable Diffusion folder. With --words
no weights are needed: each word has a random vector of variance 1, the same wherever it stands; a text is its words and
one token that ends it; the empty text has a vector of its own in every place.

Examples:
  mindreel prepare text-embeddings --data sim --output text_embeddings.safetensors --words 64
  mindreel prepare text-embeddings --data SEED-DV --output captions.safetensors --text-encoder stable-diffusion-v1-4";

/// Text embeddings of captions or class names
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("how").required(true).args(["text_encoder", "words"]))]
pub(super) struct Args {
    /// The data set: captions in BLIP-caption/, names of classes in meta_info/class_names.txt or SEED-DV's own
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// File to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// A folder with text_encoder/ and tokenizer/
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,

    /// A random vector of this width for each word
    #[arg(long, value_name = "DIM")]
    words: Option<usize>,

    /// Seed of the words' vectors
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Which texts [default: caption with --text-encoder, class with --words]
    #[arg(long)]
    by: Option<By>,

    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

/// `--by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// The names of the 40 classes
    Class,
    /// The caption of each clip
    Caption,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    files::refuse_existing(&args.output, args.force)?;
    let usual = if args.words.is_some() { By::Class } else { By::Caption };
    let by = args.by.unwrap_or(usual);
    let data = SeedDv::open(&args.data, Units::Volts)?;
    let texts = match by {
        By::Class => data.class_names()?,
        By::Caption => {
            let subject = data.subjects().next().unwrap_or_default().to_string();
            data.captions(SeedDv::n_blocks(data.n_clips(&subject)?))?
        }
    };
    let (table, how) = match (&args.text_encoder, args.words) {
        (Some(folder), _) => {
            let gpu = shell.open_gpu()?;
            shell.note(&format!("{} texts on '{}'", texts.len(), gpu.facts().name));
            let with_empty: Vec<String> = texts.iter().cloned().chain([String::new()]).collect();
            let (shape, mut values) = encode_texts(&gpu, folder, Precision::F32, &with_empty)?;
            let negative = values.split_off(texts.len() * shape[0] * shape[1]);
            (TextTable::new(shape, values, negative)?, folder.display().to_string())
        }
        (None, Some(width @ 1..=65_536)) => {
            (TextTable::of_words(&texts, width, args.seed)?, format!("words, seed {}", args.seed))
        }
        (None, width) => {
            let detail = format!("{}, wanted a width of 1 to 65536", width.unwrap_or(0));
            return Err(Error::setting("--words", detail));
        }
    };
    let by = if by == By::Class { "class" } else { "clip" };
    let metadata = [("by", by), ("source", how.as_str())];
    let metadata: BTreeMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    table.write(&args.output, &metadata)?;
    let (path, rows) = (args.output.display(), table.n_rows());
    let told = json!({
        "output": path.to_string(),
        "rows": rows,
        "by": by,
        "tokens": table.tokens,
        "width": table.width,
        "source": how,
    });
    shell.print(&format!("{path}: {rows} texts by {by}, {} tokens of {}", table.tokens, table.width), &told)
}

#[cfg(test)]
mod tests {
    use super::super::tests::shell;
    use super::*;
    use crate::signal::npy;
    use crate::signal::seed_dv::Meta;
    use std::path::Path;

    fn args(folder: &Path, name: &str) -> Args {
        Args {
            data: folder.into(),
            output: folder.join(name),
            text_encoder: None,
            words: Some(8),
            seed: 0,
            by: None,
            force: false,
        }
    }

    #[test]
    fn a_table_of_words_needs_no_weights() {
        let folder = tempfile::tempdir().unwrap();
        npy::write(folder.path().join("EEG/sub1.npy"), &[7, 40, 5, 1, 1], &[0.0_f32; 1400]).unwrap();
        let mut meta = Meta::protocol();
        meta.class_names[0] = "slow red ball".into();
        meta.write(folder.path().join("meta_info")).unwrap();
        run(&args(folder.path(), "a.safetensors"), &shell()).unwrap();
        let table = TextTable::open(folder.path().join("a.safetensors")).unwrap();
        assert_eq!((table.n_rows(), table.tokens, table.width), (40, 4, 8));
        let refused = |args: Args| {
            let error = run(&args, &shell()).unwrap_err();
            (error.exit_code(), error.to_string())
        };
        assert_eq!(refused(args(folder.path(), "a.safetensors")).0, 5, "it is there");
        assert_eq!(refused(Args { words: Some(0), ..args(folder.path(), "b.safetensors") }).0, 2);
        let (code, text) = refused(Args { by: Some(By::Caption), ..args(folder.path(), "b.safetensors") });
        assert!(code == 3 && text.contains("1st_10min.txt"), "{text}");
        // Captions: 200 lines for each block that has a file.
        let lines = |n: usize| (0..n).map(|i| format!("a ball of clip {i}\n")).collect::<String>();
        let captions = folder.path().join("BLIP-caption");
        std::fs::create_dir(&captions).unwrap();
        for block in 0..7 {
            let n = if block == 3 { 199 } else { 200 };
            std::fs::write(
                captions.join(format!("{}.txt", crate::signal::seed_dv::block_stem(block))),
                lines(n),
            )
            .unwrap();
        }
        let captioned = || Args { by: Some(By::Caption), ..args(folder.path(), "c.safetensors") };
        let (code, text) = refused(captioned());
        assert!(code == 3 && text.contains("4th_10min.txt") && text.contains("199"), "{text}");
        std::fs::write(captions.join("4th_10min.txt"), lines(200)).unwrap();
        run(&captioned(), &shell()).unwrap();
        let table = TextTable::open(folder.path().join("c.safetensors")).unwrap();
        assert_eq!((table.n_rows(), table.tokens), (1400, 6));
    }
}
