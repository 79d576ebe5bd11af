//! `mindreel prepare meta`: labels and metadata as a file people can read.

use super::super::Shell;
use crate::error::{Error, Result, nearest};
use crate::files;
use crate::signal::seed_dv::{self, BLOCK_CLIPS, CLUSTERS, COLOURS, FAST_FLOW, Meta, Task};
use crate::signal::segments::CLIPS;
use crate::signal::stack::BLOCKS;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
.csv has a line for each of the 1400 clips: block, slot and clip (from 0), the concept (1 to 40) with its name and
group, and what --data tells: colour, face, human, number of objects, optical flow and whether that is fast
(1.799 and above). .json and .toml hold the same by block. Without --data it is the protocol alone.

On stdout stands what each task has: classes, clips, and how well guessing does.

Examples:
  mindreel prepare meta --output protocol.csv
  mindreel prepare meta --data SEED-DV --output clips.csv
  mindreel prepare meta --data SEED-DV/meta_info --output clips.toml";

/// SEED-DV's labels and metadata as CSV, JSON or TOML
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The data set, or its meta_info folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// File to write; its ending says how
    #[arg(long, short, value_name = "FILE.csv|json|toml")]
    output: PathBuf,

    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell) -> Result<()> {
    let ending =
        args.output.extension().and_then(|ending| ending.to_str()).unwrap_or("").to_ascii_lowercase();
    let render = match ending.as_str() {
        "csv" => csv,
        "json" => |meta: &Meta| format!("{:#}\n", tree(meta)),
        "toml" => |meta: &Meta| toml::to_string(&tree(meta)).unwrap_or_default(),
        other => {
            let hint = match nearest(other, ["csv", "json", "toml"]) {
                Some(near) => format!("did you mean .{near}?"),
                None => "give .csv, .json or .toml".to_string(),
            };
            let detail = format!("'{}' has no known ending; {hint}", args.output.display());
            return Err(Error::setting("--output", detail));
        }
    };
    files::refuse_existing(&args.output, args.force)?;
    let meta = args.data.as_deref().map_or_else(|| Ok(Meta::protocol()), Meta::open)?;
    write(&args.output, &render(&meta))?;
    let (text, tasks) = tasks(&meta);
    let path = args.output.display();
    let json = json!({ "output": path.to_string(), "clips": BLOCKS * BLOCK_CLIPS, "tasks": tasks });
    shell.print(&format!("{text}{path}: {} clips", BLOCKS * BLOCK_CLIPS), &json)
}

/// One line for each task whose labels are there.
fn tasks(meta: &Meta) -> (String, Value) {
    let (mut text, mut json) = (String::new(), Vec::new());
    for (_, task) in Task::ALL {
        let Ok(labels) = meta.labels(task) else { continue };
        let counts = seed_dv::counts(&labels, task.n_classes());
        let (uniform, majority) = (100.0 / task.n_classes() as f64, 100.0 * counts.majority_chance);
        text += &format!(
            "{:<9} {:>2} classes {:>5} clips   chance {uniform:>5.2} %, most frequent answer {majority:>5.2} %\n",
            task.name(),
            task.n_classes(),
            counts.n
        );
        json.push(json!({
            "task": task.name(),
            "classes": task.n_classes(),
            "clips": counts.n,
            "counts": counts.counts,
            "uniform_chance": uniform / 100.0,
            "majority_chance": counts.majority_chance,
        }));
    }
    (text, Value::Array(json))
}

/// A column of the table: its head, and what stands in it for a clip.
type Column<'a> = (&'static str, Box<dyn Fn(usize) -> String + 'a>);

/// What is told of a clip besides its concept.
fn columns(meta: &Meta) -> Vec<Column<'_>> {
    let mut columns: Vec<Column> = Vec::new();
    if let Some(colour) = &meta.colour {
        columns.push((
            "colour",
            Box::new(|i| COLOURS[usize::from(colour[i]).min(COLOURS.len() - 1)].to_string()),
        ));
    }
    for (name, values) in [("face", &meta.face), ("human", &meta.human), ("objects", &meta.number)] {
        if let Some(values) = values {
            columns.push((name, Box::new(|i| values[i].to_string())));
        }
    }
    if let Some(flow) = &meta.flow {
        columns.push(("flow", Box::new(|i| flow[i].to_string())));
        columns.push(("fast", Box::new(|i| u8::from(flow[i] >= FAST_FLOW).to_string())));
    }
    columns
}

fn cluster_name(class: u8) -> &'static str {
    seed_dv::cluster_of(class).map_or("", |cluster| CLUSTERS[cluster].0)
}

fn csv(meta: &Meta) -> String {
    let columns = columns(meta);
    let heads: String = columns.iter().map(|(name, _)| format!(",{name}")).collect();
    let mut text = format!("block,slot,clip,class,name,cluster{heads}\n");
    for i in 0..BLOCKS * BLOCK_CLIPS {
        let (block, within) = (i / BLOCK_CLIPS, i % BLOCK_CLIPS);
        let class = meta.order[block][within / CLIPS];
        let name = quoted(&meta.class_names[usize::from(class) - 1]);
        let rest: String = columns.iter().map(|(_, of)| format!(",{}", of(i))).collect();
        let (slot, clip) = (within / CLIPS, within % CLIPS);
        text += &format!("{block},{slot},{clip},{class},{name},{}{rest}\n", cluster_name(class));
    }
    text
}

/// A name from a file may hold anything.
fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_string()
    }
}

fn tree(meta: &Meta) -> Value {
    let class = |(i, name): (usize, &String)| {
        let id = i as u8 + 1;
        json!({ "id": id, "name": name, "cluster": cluster_name(id) })
    };
    let block = |block: usize| {
        let span = block * BLOCK_CLIPS..(block + 1) * BLOCK_CLIPS;
        let mut value = json!({ "block": block, "classes": meta.order[block].to_vec() });
        if let Some(colour) = &meta.colour {
            let names = span.clone().map(|i| COLOURS[usize::from(colour[i]).min(COLOURS.len() - 1)]);
            value["colour"] = names.collect();
        }
        for (name, values) in [("face", &meta.face), ("human", &meta.human), ("objects", &meta.number)] {
            if let Some(values) = values {
                value[name] = json!(values[span.clone()]);
            }
        }
        if let Some(flow) = &meta.flow {
            value["flow"] = json!(flow[span]);
        }
        value
    };
    let classes: Vec<Value> = meta.class_names.iter().enumerate().map(class).collect();
    json!({
        "fast_from_flow": FAST_FLOW,
        "clips_per_slot": CLIPS,
        "classes": classes,
        "blocks": (0..BLOCKS).map(block).collect::<Vec<_>>(),
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    files::write_atomically(path, |file| file.write_all(text.as_bytes()).map_err(Error::write(path)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::shell;
    use super::*;

    #[test]
    fn a_line_for_every_clip() {
        let folder = tempfile::tempdir().unwrap();
        let n = BLOCKS * BLOCK_CLIPS;
        let meta = Meta { flow: Some(vec![1.799; n]), colour: Some(vec![2; n]), ..Meta::protocol() };
        meta.write(folder.path().join("meta_info")).unwrap();
        let make = |data: Option<PathBuf>, name: &str| {
            let output = folder.path().join(name);
            run(&Args { data, output: output.clone(), force: false }, &shell()).unwrap();
            std::fs::read_to_string(output).unwrap()
        };
        let lines = make(Some(folder.path().into()), "a.csv");
        assert_eq!(lines.lines().count(), 1401);
        assert_eq!(lines.lines().next(), Some("block,slot,clip,class,name,cluster,colour,flow,fast"));
        assert_eq!(lines.lines().nth(1 + 200 + 5), Some("1,1,0,33,drum,musical instrument,green,1.799,1"));
        assert_eq!(make(None, "b.csv").lines().nth(1400), Some("6,39,4,27,fireworks,natural scene"));
        let json: Value = serde_json::from_str(&make(Some(folder.path().into()), "a.json")).unwrap();
        assert_eq!(json["blocks"][6]["classes"][0], 38);
        assert_eq!(json["classes"][39]["name"], "ship");
        let table: toml::Table = make(Some(folder.path().into()), "a.toml").parse().unwrap();
        assert_eq!(table["blocks"][0]["colour"][199].as_str(), Some("green"));
        assert_eq!(quoted("a \"b\", c"), "\"a \"\"b\"\", c\"");
    }

    #[test]
    fn mistakes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let code = |data: Option<&str>, name: &str| {
            let data = data.map(|data| folder.path().join(data));
            run(&Args { data, output: folder.path().join(name), force: false }, &shell())
                .unwrap_err()
                .exit_code()
        };
        assert_eq!(code(None, "a.xlsx"), 2);
        assert_eq!(code(Some("nothing"), "a.csv"), 3);
        assert_eq!(code(Some(""), "a.csv"), 3);
        std::fs::write(folder.path().join("b.csv"), "mine").unwrap();
        assert_eq!(code(None, "b.csv"), 5);
    }
}
