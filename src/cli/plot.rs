//! `mindreel plot`: recordings, embeddings, tables and clips as pictures.

mod recording;
mod sheet;
mod table;
mod tables;
mod tsne;

use super::Shell;
use crate::error::Result;
use crate::files;
use crate::plot::Scene;
use crate::plot::scene::FileKind;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  mindreel plot traces eeg.npy --output traces.png --start-s 20 --seconds 5 --channels O1,OZ,O2
  mindreel plot psd eeg.npy --output psd.svg --log-log
  mindreel plot topomap eeg.npy --output bands.png
  mindreel plot topomap eeg.npy --output alpha.png --band alpha
  mindreel plot tsne embeddings.npy --labels labels.npy --output tsne.png
  mindreel plot tsne eeg.npy targets.npy --output both.png
  mindreel plot confusion confusion.csv --output confusion.png
  mindreel plot sheet shown decoded --output sheet.png
  mindreel plot curves log.csv --output curves.png
  mindreel plot bars scores.csv --output bars.png

The ending of --output chooses PNG or SVG. The same input gives the same bytes.";

/// Pictures of recordings, embeddings and tables
#[derive(clap::Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Traces(recording::Traces),
    Psd(recording::Psd),
    Topomap(recording::Topomap),
    Tsne(tsne::Args),
    Confusion(tables::Confusion),
    Curves(tables::Curves),
    Bars(tables::Bars),
    Sheet(sheet::Args),
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    match &args.what {
        What::Traces(args) => recording::traces(args, shell),
        What::Psd(args) => recording::psd(args, shell),
        What::Topomap(args) => recording::topomap(args, shell),
        What::Tsne(args) => tsne::run(args, shell),
        What::Confusion(args) => tables::confusion(args, shell),
        What::Curves(args) => tables::curves(args, shell),
        What::Bars(args) => tables::bars(args, shell),
        What::Sheet(args) => sheet::run(args, shell),
    }
}

/// Where a picture goes.
#[derive(clap::Args)]
struct Output {
    /// Picture to write
    #[arg(long, short, value_name = "FILE.png|.svg")]
    output: PathBuf,

    /// What stands above it; the name of the file where none is given
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// Replace a picture that is there
    #[arg(long)]
    force: bool,
}

impl Output {
    /// Refuses a name that is taken or has another ending, before anything is read.
    fn check(&self) -> Result<()> {
        FileKind::of(&self.output, "--output")?;
        files::refuse_existing(&self.output, self.force)
    }

    fn title(&self, input: &Path) -> String {
        let name = || input.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.title.clone().unwrap_or_else(name)
    }

    /// Writes the picture and tells of it; `more` is told with `--json` alone.
    fn write(&self, scene: &Scene, shell: &Shell, what: &str, more: &Value) -> Result<()> {
        scene.save(&self.output)?;
        let path = self.output.display();
        let mut told = json!({ "output": path.to_string() });
        if let (Some(told), Some(more)) = (told.as_object_mut(), more.as_object()) {
            told.extend(more.clone());
        }
        shell.print(&format!("{path}: {what}"), &told)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use super::*;
    use crate::error::Error;
    use crate::signal::{npy, sample_recording};
    use clap::{CommandFactory, FromArgMatches, Parser};
    use std::collections::BTreeMap;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn shell() -> Shell {
        let (kernels, checked) = (Kernels::Auto, false);
        Shell { adapter: None, kernels, checked, quiet: true, json: false, check_finite: false }
    }

    /// Runs `plot` with words apart by spaces in a folder; `@` before a name makes it a path there.
    fn plot(folder: &Path, line: &str) -> Result<()> {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => folder.join(name).display().to_string(),
            None => word.to_string(),
        };
        let words = std::iter::once("plot".to_string()).chain(line.split(' ').map(word));
        let found = crate::cli::with_negative_numbers(Line::command()).try_get_matches_from(words);
        let line = found
            .and_then(|found| Line::from_arg_matches(&found))
            .map_err(|e| Error::setting("call", e.to_string()))?;
        run(&line.args, &shell())
    }

    fn inputs() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let eeg = sample_recording(5, 6.0).unwrap();
        npy::write(at("eeg.npy"), &[62, 1200], &eeg.data).unwrap();
        npy::write(at("two.npy"), &[2, 62, 600], &eeg.data).unwrap();
        let microvolts: Vec<f32> = eeg.data[..8 * 1200].iter().map(|v| v * 1e6).collect();
        npy::write(at("uv.npy"), &[8, 1200], &microvolts).unwrap();
        npy::write(at("de.npy"), &[62, 5], &eeg.data[..310]).unwrap();
        npy::write(at("one.npy"), &[62], &eeg.data[..62]).unwrap();
        npy::write(at("vectors.npy"), &[30, 40], &eeg.data[..1200]).unwrap();
        let labels: Vec<f32> = (0..30).map(|i| (i % 3) as f32).collect();
        npy::write(at("labels.npy"), &[30], &labels).unwrap();
        let tables = [
            (
                "log.csv",
                "epoch,train_loss,val_loss,train_accuracy\n1,3.5,3.6,0.1\n2,2.5,,0.2\n3,2.0,3.0,0.4\n",
            ),
            ("confusion.csv", "cat,\"dog, small\"\n8,2\n1,9\n"),
            ("named.csv", ",cat,dog\ncat,8,2\ndog,1,9\n"),
            ("confusion.json", "{\"counts\": [[8, 2], [1, 9]], \"names\": [\"cat\", \"dog\"]}"),
            ("bare.json", "[[8, 2], [1, 9]]"),
            ("scores.csv", "model,accuracy,error,chance\nEEGNet,0.12,0.02,0.025\nMLP,0.08,,0.025\n"),
        ];
        for (name, text) in tables {
            std::fs::write(at(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn every_picture_is_drawn_twice_alike_as_png_and_svg() {
        let folder = inputs();
        let lines = [
            "traces @eeg.npy",
            "traces @two.npy --recording 1 --start-s 1 --seconds 1.5 --channels oz,O1",
            "traces @uv.npy --units uV --sample-rate 250 --title µV",
            "psd @eeg.npy",
            "psd @eeg.npy --log-log --band 1-40 --channels FZ,OZ --window-s 1",
            "topomap @eeg.npy",
            "topomap @eeg.npy --band alpha,15-25 --seconds 4",
            "topomap @de.npy --band beta",
            "topomap @one.npy",
            "tsne @vectors.npy --labels @labels.npy --names a,b,c --steps 30",
            "confusion @confusion.csv",
            "confusion @named.csv",
            "confusion @confusion.json",
            "confusion @bare.json --names cat,dog",
            "curves @log.csv --log-y",
            "bars @scores.csv",
        ];
        for line in lines {
            let mut seen: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
            for (round, kind) in [(0, "png"), (0, "svg"), (1, "svg")] {
                let force = if round == 1 { " --force" } else { "" };
                plot(folder.path(), &format!("{line} --output @out.{kind}{force}"))
                    .unwrap_or_else(|e| panic!("{line}: {e}"));
                let bytes = std::fs::read(folder.path().join(format!("out.{kind}"))).unwrap();
                match seen.get(kind) {
                    None => drop(seen.insert(kind, bytes)),
                    Some(before) => assert!(*before == bytes, "{line}: {kind} differs"),
                }
            }
            let svg = String::from_utf8(seen["svg"].clone()).unwrap();
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{line}");
            assert!(seen["png"].starts_with(b"\x89PNG"), "{line}");
            for kind in ["png", "svg"] {
                std::fs::remove_file(folder.path().join(format!("out.{kind}"))).unwrap();
            }
        }
    }

    #[test]
    fn each_mistake_has_its_line() {
        let folder = inputs();
        let cases = [
            ("traces @eeg.npy --output @a.pdf", 2, "neither .png nor .svg"),
            ("traces @none.npy --output @a.png", 3, "none.npy"),
            ("traces @eeg.npy --output @eeg.npy", 2, "neither"),
            ("traces @eeg.npy --output @a.png --channels OZ,OOZ", 2, "did you mean \"OZ\""),
            ("traces @eeg.npy --output @a.png --start-s 7", 2, "6 s"),
            ("traces @eeg.npy --output @a.png --start-s 3 --seconds 4", 2, "6 s"),
            ("traces @eeg.npy --output @a.png --seconds -1", 2, "--seconds"),
            ("traces @eeg.npy --output @a.png --sample-rate 0", 2, "sample rate"),
            ("traces @two.npy --output @a.png --recording 2", 2, "2 recordings"),
            ("traces @uv.npy --output @a.png", 3, "--units uV"),
            ("psd @eeg.npy --output @a.png --band 50-40", 2, "--band"),
            ("psd @eeg.npy --output @a.png --band sigma", 2, "--band"),
            ("psd @eeg.npy --output @a.png --band 150-200", 2, "100 Hz"),
            ("topomap @uv.npy --units uV --output @a.png", 2, "not one of the 62"),
            ("topomap @eeg.npy --output @a.png --channels OZ,FZ", 3, "needs 3"),
            ("topomap @vectors.npy --output @a.png", 2, "not one of the 62"),
            ("tsne @one.npy --output @a.png", 3, "[62]"),
            ("tsne @vectors.npy --labels @one.npy --output @a.png", 3, "one.npy"),
            ("tsne @vectors.npy --labels @labels.npy --names a,b --output @a.png", 3, "class 2 has no name"),
            ("tsne @vectors.npy --perplexity 0 --output @a.png", 2, "--perplexity"),
            ("confusion @log.csv --output @a.png", 3, "log.csv"),
            ("confusion @confusion.csv --names a --output @a.png", 3, "1 names for 2"),
            ("confusion @eeg.npy --output @a.png", 3, "eeg.npy"),
            ("curves @confusion.json --output @a.png", 3, "confusion.json"),
            ("bars @log.csv --output @a.png", 3, "log.csv"),
        ];
        for (line, code, wanted) in cases {
            let error = plot(folder.path(), line).expect_err(line);
            let said = error.to_string();
            assert!(
                error.exit_code() == code && said.contains(wanted),
                "{line}: {} {said}",
                error.exit_code()
            );
            assert!(!said.contains('\n'), "{line}: {said}");
        }
        std::fs::write(folder.path().join("b.png"), "mine").unwrap();
        let error = plot(folder.path(), "psd @eeg.npy --output @b.png").unwrap_err();
        assert_eq!(error.exit_code(), 5);
        assert!(!folder.path().join("a.png").exists());
    }
}
