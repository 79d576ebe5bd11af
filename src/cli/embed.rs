//! `mindreel embed`: texts or pictures to vectors.

use super::progress::Progress;
use super::{Float, Shell, stop};
use crate::error::{Error, Result};
use crate::eval::embed::{Embedder, Of, cosine};
use crate::eval::judges::to_unit;
use crate::files;
use crate::media::picture;
use crate::signal::npy;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Largest file of texts read.
const MAX_TEXT_BYTES: u64 = 256 << 20;
/// Up to so many, all cosines are shown.
const MOST_SHOWN: usize = 12;

const EXAMPLES: &str = "\
--model is a folder as transformers writes it, with its tokenizer: a BertModel such as all-MiniLM-L6-v2 (sentences: mean
over tokens, length 1, at most 256 tokens), a CLIP text model (the end token, projected where the checkpoint has
text_projection), a CLIP vision model with projection, a whole CLIP model, or a Stable Diffusion folder for its texts.
CLIP's embeddings are as the reference gives them; --normalize brings them to length 1.

Examples:
  mindreel embed --text \"a dog\" --text \"a cat\" --model all-MiniLM-L6-v2
  mindreel embed --text-file captions.txt --model all-MiniLM-L6-v2 --output captions.npy
  mindreel embed --image a.jpg b.png --model clip-vit-base-patch32 --output pictures.json";

/// Texts or pictures to vectors
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["text", "text_file", "image"])))]
pub(super) struct Args {
    /// A text; may be given several times
    #[arg(long, value_name = "TEXT", num_args = 1.., allow_hyphen_values = false)]
    text: Vec<String>,

    /// File with a text to a line; empty lines are texts, too
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,

    /// Pictures, JPEG or PNG; a folder stands for all in it
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    image: Vec<PathBuf>,

    /// Folder of the model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// Where the vectors go: .npy [n, width], or .json with what each is of [default: told on stdout]
    #[arg(long, short, value_name = "FILE.npy|json")]
    output: Option<PathBuf>,

    /// Bring every vector to length 1
    #[arg(long)]
    normalize: bool,

    /// Number type on the GPU
    #[arg(long, default_value = "f32")]
    dtype: Float,

    /// Replace an output that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let write = args.output.as_deref().map(writer).transpose()?;
    if let Some(output) = &args.output {
        files::refuse_existing(output, args.force)?;
    }
    let (of, what, names) = wanted(args)?;
    let stopped = stop::watch(shell.quiet)?;
    let gpu = shell.open_gpu()?;
    let embedder = Embedder::open(&gpu, &args.model, of, args.dtype.precision())?;
    for warning in &embedder.warnings {
        shell.note(&format!("warning: {}: {warning}", args.model.display()));
    }
    if of == Of::Texts {
        let too_long = names.iter().map(|text| embedder.too_long(text)).collect::<Result<Vec<_>>>()?;
        let mut found = too_long.iter().flatten();
        if let Some([n, heard]) = found.next() {
            shell.note(&format!(
                "warning: a text has {n} tokens, of which the model hears the first {heard}{}",
                match found.count() {
                    0 => String::new(),
                    more => format!("; so it is with {more} more"),
                }
            ));
        }
    }
    let mut progress = Progress::new(shell.quiet, "embed", names.len() as u64);
    let mut rows = match of {
        Of::Texts => embedder.texts(&names, |n| {
            progress.set(n as u64);
            stop::check(&stopped, "nothing was written")
        })?,
        Of::Images => {
            let mut rows = Vec::with_capacity(names.len());
            for (n, path) in what.iter().enumerate() {
                stop::check(&stopped, "nothing was written")?;
                rows.push(embedder.image(&picture::read(path)?)?);
                progress.set(n as u64 + 1);
            }
            rows
        }
    };
    progress.finish();
    if args.normalize {
        rows.iter_mut().for_each(|row| to_unit(row));
    }
    let width = rows.first().map_or(0, Vec::len);
    let key = if of == Of::Texts { "text" } else { "image" };
    let embeddings = || -> Value {
        let one = |(name, row): (&String, &Vec<f32>)| json!({ key: name, "embedding": row });
        names.iter().zip(&rows).map(one).collect()
    };
    let n = rows.len();
    if let (Some(output), Some(write)) = (&args.output, write) {
        let json = || json!({ "model": args.model.display().to_string(), "width": width, "embeddings": embeddings() });
        write(output, &rows, width, &json)?;
        let text = format!("{}: {n} vectors of {width}", output.display());
        return shell.print(&text, &json!({ "output": output.display().to_string(), "shape": [n, width] }));
    }
    shell.print(&table(&names, &rows), &embeddings())
}

/// What is embedded: files of pictures, and what each vector is called.
fn wanted(args: &Args) -> Result<(Of, Vec<PathBuf>, Vec<String>)> {
    if let Some(path) = &args.text_file {
        let text = String::from_utf8(files::read_small(path, MAX_TEXT_BYTES)?)
            .map_err(|_| Error::format(path, "is not UTF-8"))?;
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        if lines.is_empty() {
            return Err(Error::format(path, "is empty; give a text to a line"));
        }
        return Ok((Of::Texts, vec![], lines));
    }
    if !args.text.is_empty() {
        return Ok((Of::Texts, vec![], args.text.clone()));
    }
    let mut found = Vec::new();
    for path in &args.image {
        if path.is_dir() { found.extend(picture::list(path)?) } else { found.push(path.clone()) }
    }
    let names = found.iter().map(|path| path.display().to_string()).collect();
    Ok((Of::Images, found, names))
}

/// Path, rows, their width, and the JSON.
type Writer = fn(&Path, &[Vec<f32>], usize, &dyn Fn() -> Value) -> Result<()>;

/// How a file of this ending is written.
fn writer(output: &Path) -> Result<Writer> {
    match output.extension().and_then(|ending| ending.to_str()).unwrap_or("").to_ascii_lowercase().as_str() {
        "npy" => Ok(|path, rows, width, _| npy::write(path, &[rows.len(), width], &rows.concat())),
        "json" => Ok(|path, _, _, json| files::write_json(path, &json())),
        _ => Err(Error::setting(
            "--output",
            format!("'{}' has no known ending; give .npy or .json", output.display()),
        )),
    }
}

/// The first numbers of each vector, and how near a few are to each other.
fn table(names: &[String], rows: &[Vec<f32>]) -> String {
    let mut text = String::new();
    for (name, row) in names.iter().zip(rows) {
        let first: Vec<String> = row.iter().take(4).map(|v| format!("{v:8.5}")).collect();
        let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
        text += &format!("{} … [{}]  {name}\n", first.join(" "), row.len());
    }
    if (2..=MOST_SHOWN).contains(&rows.len()) {
        text += "cosines\n";
        for row in rows {
            let line: Vec<String> = rows.iter().map(|other| format!("{:6.3}", cosine(row, other))).collect();
            text += &format!("{}\n", line.join(" "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_vectors_are_held_against_each_other() {
        let names = ["a\nb".to_string(), "c".to_string()];
        let text = table(&names, &[vec![1.0, 0.0], vec![3.0, 4.0]]);
        assert!(text.contains("[2]  ab\n") && text.contains(" 1.000  0.600\n 0.600  1.000\n"), "{text}");
        assert!(!table(&names[..1], &[vec![1.0]]).contains("cosines"));
    }

    #[test]
    fn files_are_known_by_their_ending() {
        assert!(writer(Path::new("a.npy")).is_ok() && writer(Path::new("a.JSON")).is_ok());
        assert!(writer(Path::new("a.csv")).err().unwrap().to_string().contains("give .npy or .json"));
    }
}
