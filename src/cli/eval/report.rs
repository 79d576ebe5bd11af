//! What `eval video` leaves behind: JSON for each clip, a CSV, Markdown, sheets chosen by rank, and one page with it all.

use crate::cli::Shell;
use crate::error::Result;
use crate::eval::Confusion;
use crate::eval::clips::resized;
use crate::eval::video::{Table, number};
use crate::files;
use crate::media::frames::{MAX_PIXELS, MAX_SIDE};
use crate::media::{Frames, png};
use crate::plot;
use serde_json::{Value, json};
use std::path::Path;

/// Clips of a sheet.
const PER_SHEET: usize = 6;
/// Most clips of a sheet of all.
const PER_PAGE: usize = 50;
/// Pixels between frames of a sheet.
const MARGIN: usize = 2;

/// Everything that is told.
pub(super) struct Scores<'a> {
    pub table: &'a Table,
    pub pred: &'a [Frames],
    pub truth: &'a [&'a Frames],
    /// What the judge of concepts takes each predicted clip for, and what it is.
    pub classes: Option<&'a [usize]>,
    pub labels: Option<&'a [usize]>,
    pub confusion: Option<&'a Confusion>,
    pub n_resamples: usize,
    pub seed: u64,
    /// Column sheets are ranked by.
    pub rank_by: usize,
    pub settings: Value,
}

/// Some clips with a picture of them.
struct Sheet {
    name: String,
    clips: Vec<usize>,
    picture: Frames,
}

impl Scores<'_> {
    /// The table on stdout, and with a folder everything else.
    ///
    /// Errors: [`Error::Write`].
    pub(super) fn tell(&self, output: Option<&Path>, shell: &Shell) -> Result<()> {
        let intervals = self.table.intervals(self.n_resamples, self.seed);
        let p_values = self.table.p_values(self.seed);
        let mut told = self.table.summary(&intervals, &p_values);
        told["settings"] = self.settings.clone();
        if let Some(classes) = self.classes {
            told["predicted_classes"] = json!(classes);
            told["labels"] = json!(self.labels);
        }
        let cells = self.table.cells(&intervals, &p_values);
        if let Some(output) = output {
            if self.layout().is_none() {
                shell.note("without sheets: two frames are more than a picture holds");
            }
            files::make_folder_atomically(output, |folder| self.write(folder, &told, &cells))?;
            told["output"] = json!(output.display().to_string());
        }
        shell.print(&aligned(&cells), &told)
    }

    fn write(&self, folder: &Path, told: &Value, cells: &[Vec<String>]) -> Result<()> {
        let table = self.table;
        files::write_json(folder.join("eval.json"), told)?;
        files::write_text(folder.join("scores.csv"), &table.csv())?;
        files::write_text(folder.join("table.md"), &markdown(cells))?;
        for (at, name) in table.clips.iter().enumerate() {
            let row = |row: &crate::eval::video::Scored| {
                let values = table.columns.iter().zip(&row.values);
                let values: serde_json::Map<_, _> =
                    values.map(|(column, values)| (column.key.clone(), number(values[at]))).collect();
                (row.name.clone(), Value::Object(values))
            };
            let scores: serde_json::Map<_, _> = table.rows.iter().map(row).collect();
            let place = self.table.ranked(self.rank_by).iter().position(|&clip| clip == at);
            let told = json!({ "clip": name, "rank": place, "scores": scores });
            files::write_json(folder.join(format!("clips/{at:04}.json")), &told)?;
        }
        let sheets = self.sheets()?;
        for sheet in &sheets {
            let Frames { rgb, height, width, .. } = &sheet.picture;
            png::write(folder.join(format!("{}.png", sheet.name)), rgb, *height, *width, "")?;
        }
        if let Some(confusion) = self.confusion {
            let scene = plot_of(confusion, "decoded clips by the classifier")?;
            scene.map_or(Ok(()), |scene| scene.save(folder.join("confusion.png")))?;
        }
        files::write_text(folder.join("report.html"), &self.page(cells, &sheets, folder)?)
    }

    /// Frames of a row and clips of a sheet; nothing where two frames are more than a picture holds.
    fn layout(&self) -> Option<[usize; 2]> {
        let Frames { height, width, .. } = *self.truth[0];
        let most = |length: usize| (MAX_SIDE - MARGIN) / (length + MARGIN);
        let n_frames = self.truth.iter().map(|clip| clip.count).max().unwrap_or(1);
        let rows = |columns: usize| {
            let pixels = MAX_PIXELS as usize / (columns * (width + MARGIN) + MARGIN);
            most(height).min(pixels.saturating_sub(MARGIN) / (height + MARGIN))
        };
        let columns = (1..=n_frames.min(most(width))).rev().find(|&columns| rows(columns) >= 2)?;
        Some([columns, (rows(columns) / 2).min(PER_PAGE)])
    }

    /// The best, those in the middle and the worst, and all of them; in each row what was
    /// shown, and under it what was decoded. Clips of more frames than a sheet is wide lose some at even distances, and
    /// those of another size than the first are brought to it.
    fn sheets(&self) -> Result<Vec<Sheet>> {
        let Some([columns, per_sheet]) = self.layout() else { return Ok(Vec::new()) };
        let Frames { height, width, .. } = *self.truth[0];
        let order = self.table.ranked(self.rank_by);
        let n = order.len().min(PER_SHEET).min(per_sheet);
        let middle = (order.len() - n) / 2;
        let mut worst = order[order.len() - n..].to_vec();
        worst.reverse();
        let mut chosen = vec![
            ("best".to_string(), order[..n].to_vec()),
            ("median".to_string(), order[middle..middle + n].to_vec()),
            ("worst".to_string(), worst),
        ];
        // All of them, on as many sheets as they need.
        let all: Vec<usize> = (0..order.len()).collect();
        let n_sheets = all.len().div_ceil(per_sheet);
        for (at, clips) in all.chunks(per_sheet).enumerate() {
            let name = if n_sheets == 1 { "all".into() } else { format!("all-{}", at + 1) };
            chosen.push((name, clips.to_vec()));
        }
        let row = |clip: &Frames| {
            let thinned = thinned(clip, columns)?;
            match (clip.height, clip.width) == (height, width) {
                true => Ok(thinned),
                false => resized(&thinned, height, width),
            }
        };
        let sheet = |(name, clips): (String, Vec<usize>)| {
            let both = clips.iter().flat_map(|&at| [self.truth[at], &self.pred[at]]);
            let picture = png::sheet(&both.map(row).collect::<Result<Vec<_>>>()?, MARGIN)?;
            Ok(Sheet { name, clips, picture })
        };
        chosen.into_iter().map(sheet).collect()
    }

    /// One page, everything inside it.
    fn page(&self, cells: &[Vec<String>], sheets: &[Sheet], folder: &Path) -> Result<String> {
        let column = &self.table.columns[self.rank_by];
        let intro = format!(
            "{} clips; {} against {}. Every cell: mean [95 % bootstrap interval over clips]. Chance: what answers at random \
             reach. p: one-sided sign-flip test of the predictions against shuffled pairs.",
            self.table.clips.len(),
            self.settings["pred"].as_str().unwrap_or_default(),
            self.settings["truth"].as_str().unwrap_or_default()
        );
        let mut body = String::new();
        for sheet in sheets.iter().filter(|sheet| !sheet.name.starts_with("all-")) {
            let title = match sheet.name.as_str() {
                "all" => "All clips".to_string(),
                name => format!("The {name}, ranked by {}", column.key),
            };
            let values = &self.table.rows[0].values[self.rank_by];
            let told = |&at: &usize| format!("{} ({})", self.table.clips[at], column.show(values[at]));
            let list = if sheet.name == "all" {
                "in order".to_string()
            } else {
                sheet.clips.iter().map(told).collect::<Vec<_>>().join(", ")
            };
            let Frames { rgb, height, width, .. } = &sheet.picture;
            body += &format!(
                "<h2>{}</h2>\n<p>Above what was shown, below what was decoded: {}.</p>\n{}\n",
                escaped(&title),
                escaped(&list),
                image(&png::encode(rgb, *height, *width)?, &title)
            );
        }
        if self.confusion.is_some() {
            let picture = image_of(&folder.join("confusion.png"), "confusion")?;
            body += &format!("<h2>Which class decoded clips show</h2>\n{picture}\n");
        }
        body += &format!("<h2>Settings</h2>\n<pre>{}</pre>\n", escaped(&format!("{:#}", self.settings)));
        Ok(page("Decoded clips against what was shown", &intro, cells, &body))
    }
}

/// At most so many frames of a clip, at even distances.
fn thinned(clip: &Frames, most: usize) -> Result<Frames> {
    let count = clip.count.min(most);
    let size = clip.height * clip.width * 3;
    let frames = (0..count).map(|at| &clip.rgb[at * clip.count / count * size..][..size]);
    Frames::new(count, clip.height, clip.width, frames.collect::<Vec<_>>().concat(), clip.frame_rate_fps)
}

/// A page of its own: a title, a sentence, a table, and what follows it.
pub(super) fn page(title: &str, intro: &str, cells: &[Vec<String>], body: &str) -> String {
    let mut table = String::new();
    for (at, line) in cells.iter().enumerate() {
        let tag = if at == 0 { "th" } else { "td" };
        let cells: String = line.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
        table += &format!("<tr>{cells}</tr>\n");
    }
    let (title, intro) = (escaped(title), escaped(intro));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <body>\n<h1>{title}</h1>\n<p>{intro}</p>\n<table>\n{table}</table>\n{body}</body>\n</html>\n"
    )
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}\
table{border-collapse:collapse;display:block;overflow-x:auto}th,td{border:1px solid #ccc;padding:.3rem .6rem;text-align:left;\
white-space:nowrap}th{background:#f2f2f2}img{max-width:100%;image-rendering:pixelated}pre{overflow-x:auto}";

/// Counts as a picture, classes by their numbers.
pub(super) fn plot_of(confusion: &Confusion, title: &str) -> Result<Option<plot::Scene>> {
    if confusion.n_classes > plot::CONFUSION_MAX_CLASSES {
        return Ok(None);
    }
    let names: Vec<String> = (0..confusion.n_classes).map(|class| class.to_string()).collect();
    plot::confusion(title, &confusion.counts, &names).map(Some)
}

/// A picture inside the page.
fn image(png: &[u8], alt: &str) -> String {
    format!("<img alt=\"{}\" src=\"data:image/png;base64,{}\">", escaped(alt), base64(png))
}

/// The same of a file.
///
/// Errors: [`Error::Read`].
pub(super) fn image_of(path: &Path, alt: &str) -> Result<String> {
    Ok(image(&files::read_small(path, 64 << 20)?, alt))
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let word =
            part.iter().fold(0_u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - part.len()));
        for place in 0..4 {
            match place <= part.len() {
                true => text.push(char::from(ALPHABET[(word >> (18 - 6 * place)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

/// A table as Markdown has it.
pub(super) fn markdown(cells: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let mut text = String::new();
    for (at, row) in cells.iter().enumerate() {
        text += &line(row);
        if at == 0 {
            text += &format!("|{}\n", "---|".repeat(row.len()));
        }
    }
    text
}

/// The same for a terminal.
pub(super) fn aligned(cells: &[Vec<String>]) -> String {
    let n = cells.first().map_or(0, Vec::len);
    let width = |at: usize| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..n).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| {
            let padding = " ".repeat(width - cell.chars().count());
            format!("{cell}{padding}")
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_by_the_standard() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfb, 0xef]), "//vv");
    }

    #[test]
    fn tables_are_told_both_ways() {
        let cells = [["metric", "x|y"], ["ssim ↑", "1"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(markdown(&cells), "| metric | x\\|y |\n|---|---|\n| ssim ↑ | 1 |\n");
        assert_eq!(aligned(&cells), "metric  x|y\nssim ↑  1");
        assert_eq!(escaped("<a href=\"&\">"), "&lt;a href=&quot;&amp;&quot;&gt;");
    }
}
