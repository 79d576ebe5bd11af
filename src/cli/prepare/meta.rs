//! `mindreel prepare meta`: labels and metadata as a file people can read.

use super::super::progress::Progress;
use super::super::{Shell, stop};
use crate::data::Clips;
use crate::error::{Error, Result, nearest};
use crate::files;
use crate::media;
use crate::signal::seed_dv::{self, BLOCK_CLIPS, CLUSTERS, COLOURS, Meta, Task};
use crate::signal::segments::CLIPS;
use crate::signal::stack::BLOCKS;
use crate::train::dynamics::median;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
.csv has a line for each of the 1400 clips: block, slot and clip (from 0), the concept (1 to 40) with its name and
group, and what --data tells: colour, face, human, number of objects, optical flow and whether that is fast
(1.799 and above, or what fast_from_flow.txt says). .json and .toml hold the same by block. Without --data it is the protocol alone.

On stdout stands what each task has: classes, clips, and how well guessing does.

--flow-from computes the optical flow of clips (Video/clips.npy, Block0.npy .. or GIFs, as `prepare clips` and
`prepare simulate` write them) and puts it into --data's meta_info, with the median of --train-blocks as that from which
a clip is fast. A clip's flow is the mean over pixels and pairs of neighbouring frames of how far they move, in pixels
of a picture 36 high, found by Lucas and Kanade's method from coarse to fine.

Examples:
  mindreel prepare meta --output protocol.csv
  mindreel prepare meta --data SEED-DV --output clips.csv
  mindreel prepare meta --data SEED-DV/meta_info --output clips.toml
  mindreel prepare meta --data SEED-DV --flow-from SEED-DV/Video_Gif --output clips.csv";

/// SEED-DV's labels and metadata as CSV, JSON or TOML
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The data set, or its meta_info folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Compute the optical flow of these clips, for --data
    #[arg(long, value_name = "DIR", requires = "data")]
    flow_from: Option<PathBuf>,

    /// Blocks whose median is fast, from 0
    #[arg(long, value_delimiter = ',', value_name = "K,…", default_value = "0,1,2,3,4")]
    train_blocks: Vec<usize>,

    /// File to write; its ending says how
    #[arg(long, short, value_name = "FILE.csv|json|toml")]
    output: PathBuf,

    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<()> {
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
    if let (Some(clips), Some(data)) = (&args.flow_from, &args.data) {
        let threshold = flow(clips, data, args, shell, stopped)?;
        shell.note(&format!("a clip is fast from {threshold:.3} pixels a frame on"));
    }
    let meta = args.data.as_deref().map_or_else(|| Ok(Meta::protocol()), Meta::open)?;
    files::write_text(&args.output, &render(&meta))?;
    let (text, tasks) = tasks(&meta);
    let path = args.output.display();
    let json = json!({ "output": path.to_string(), "clips": BLOCKS * BLOCK_CLIPS, "tasks": tasks });
    shell.print(&format!("{text}{path}: {} clips", BLOCKS * BLOCK_CLIPS), &json)
}

/// Computes the optical flow of every clip and writes it into the data set; returns from where on it is fast.
fn flow(clips: &Path, data: &Path, args: &Args, shell: &Shell, stopped: &AtomicBool) -> Result<f64> {
    let inner = data.join("meta_info");
    let folder = if inner.is_dir() { inner } else { data.to_path_buf() };
    files::refuse_existing(&folder.join(Task::FastSlow.file()), args.force)?;
    if let Some(block) = args.train_blocks.iter().find(|&&block| block >= BLOCKS) {
        return Err(Error::setting(
            "--train-blocks",
            format!("no block {block}: there are 0 to {}", BLOCKS - 1),
        ));
    }
    let clips = Clips::open(clips)?;
    if [clips.n_blocks(), clips.per_block()] != [BLOCKS, BLOCK_CLIPS] {
        let detail = format!(
            "holds {} blocks of {} clips, wanted {BLOCKS} of {BLOCK_CLIPS}",
            clips.n_blocks(),
            clips.per_block()
        );
        return Err(Error::format(clips.folder(), detail));
    }
    let mut progress = Progress::new(shell.quiet, "clips", (BLOCKS * BLOCK_CLIPS) as u64);
    let mut flows = Vec::with_capacity(BLOCKS * BLOCK_CLIPS);
    for block in 0..BLOCKS {
        for first in (0..BLOCK_CLIPS).step_by(TOGETHER) {
            let some: Vec<Vec<u8>> = (first..(first + TOGETHER).min(BLOCK_CLIPS))
                .map(|number| clips.clip(block, number))
                .collect::<Result<_>>()?;
            flows.extend(scores(&some, clips.shape())?);
            progress.set(flows.len() as u64);
            stop::check(stopped, "nothing was written")?;
        }
    }
    progress.finish();
    let of_training: Vec<f64> = args
        .train_blocks
        .iter()
        .flat_map(|&block| &flows[block * BLOCK_CLIPS..(block + 1) * BLOCK_CLIPS])
        .copied()
        .collect();
    let threshold = median(&of_training)
        .filter(|&flow| flow > 0.0)
        .ok_or_else(|| Error::format(clips.folder(), "nothing moves in most clips of the training blocks"))?;
    seed_dv::write_flow(&folder, &flows)?;
    seed_dv::write_fast_from(&folder, threshold)?;
    Ok(threshold)
}

/// Clips that are looked at between two looks at Ctrl-C.
const TOGETHER: usize = 40;

/// Optical flow of some clips, each `[frames, height, width, 3]`, on all cores.
fn scores(clips: &[Vec<u8>], [frames, height, width]: [usize; 3]) -> Result<Vec<f64>> {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let each = clips.len().div_ceil(n_threads).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = clips
            .chunks(each)
            .map(|some| {
                let score = move |clip: &Vec<u8>| media::flow::score(clip, frames, height, width);
                scope.spawn(move || some.iter().map(score).collect::<Result<Vec<f64>>>())
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(scores) => all.extend(scores?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
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
        columns.push(("fast", Box::new(|i| u8::from(flow[i] >= meta.fast_from).to_string())));
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
        "fast_from_flow": meta.fast_from,
        "clips_per_slot": CLIPS,
        "classes": classes,
        "blocks": (0..BLOCKS).map(block).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{going, shell};
    use super::*;
    use crate::signal::npy;
    use crate::signal::simulate::Simulation;

    fn args(data: Option<PathBuf>, output: PathBuf) -> Args {
        Args { data, output, flow_from: None, train_blocks: vec![0, 1, 2, 3, 4], force: false }
    }

    /// Place of each value among all.
    fn ranks(values: &[f64]) -> Vec<f64> {
        values.iter().map(|v| values.iter().filter(|other| *other < v).count() as f64).collect()
    }

    #[test]
    fn the_flow_of_simulated_clips_is_that_of_their_objects() {
        let world = Simulation::new(3, 0.0).unwrap();
        let clips: Vec<_> = (0..7).flat_map(|block| world.clips(block).iter().step_by(13)).collect();
        // The first two of the six frames.
        let pictures: Vec<Vec<u8>> =
            clips.iter().map(|clip| clip.frames(6, 36, 64)[..2 * 36 * 64 * 3].to_vec()).collect();
        let found = ranks(&scores(&pictures, [2, 36, 64]).unwrap());
        let known = ranks(&clips.iter().map(|clip| clip.flow).collect::<Vec<_>>());
        // Spearman's rank correlation.
        let n = found.len() as f64;
        let apart: f64 = found.iter().zip(&known).map(|(a, b)| (a - b).powi(2)).sum();
        let correlation = 1.0 - 6.0 * apart / (n * (n * n - 1.0));
        assert!(n > 100.0 && correlation > 0.9, "{correlation} of {n}");
    }

    #[test]
    fn flow_goes_into_the_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let n = BLOCKS * BLOCK_CLIPS;
        Meta::protocol().write(folder.path().join("meta_info")).unwrap();
        // A bar that falls by no, one, two or three pixels.
        let mut bytes = Vec::with_capacity(n * 2 * 36 * 4 * 3);
        for clip in 0..n {
            for frame in 0..2 {
                let first = 4 + clip % BLOCK_CLIPS / 50 * frame;
                let grey = |i: usize| if (first..first + 8).contains(&(i / 4)) { 200u8 } else { 50 };
                bytes.extend((0..36 * 4).flat_map(|i| [grey(i); 3]));
            }
        }
        npy::write(folder.path().join("Video/clips.npy"), &[BLOCKS, BLOCK_CLIPS, 2, 36, 4, 3], &bytes)
            .unwrap();
        let flows = |force| Args {
            flow_from: Some(folder.path().into()),
            force,
            ..args(Some(folder.path().into()), folder.path().join("a.csv"))
        };
        run(&flows(false), &shell(), &going()).unwrap();
        let meta = Meta::open(folder.path()).unwrap();
        let flow = meta.flow.clone().unwrap();
        assert_eq!(flow[..50], [0.0; 50]);
        assert!(flow[50] < flow[100] && flow[100] < flow[150] && flow[150] == flow[199 + 200]);
        assert_eq!(meta.fast_from, flow[100]);
        let counts = seed_dv::counts(&meta.labels(Task::FastSlow).unwrap(), 2);
        assert_eq!(counts.counts, [n / 2, n / 2]);
        let refused = |args: Args| {
            let error = run(&args, &shell(), &going()).unwrap_err();
            (error.exit_code(), error.to_string())
        };
        let other = |args: Args| Args { output: folder.path().join("b.csv"), ..args };
        assert_eq!(refused(other(flows(false))).0, 5, "it is there");
        let wrong = Args { train_blocks: vec![7], ..other(flows(true)) };
        assert!(refused(wrong).1.contains("no block 7"));
        let wrong = Args { flow_from: Some(folder.path().join("meta_info")), ..other(flows(true)) };
        assert!(refused(wrong).1.contains("holds no clips"));
    }

    #[test]
    fn a_line_for_every_clip() {
        let folder = tempfile::tempdir().unwrap();
        let n = BLOCKS * BLOCK_CLIPS;
        let meta = Meta { flow: Some(vec![1.799; n]), colour: Some(vec![2; n]), ..Meta::protocol() };
        meta.write(folder.path().join("meta_info")).unwrap();
        let make = |data: Option<PathBuf>, name: &str| {
            let output = folder.path().join(name);
            run(&args(data, output.clone()), &shell(), &going()).unwrap();
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
            run(&args(data, folder.path().join(name)), &shell(), &going()).unwrap_err().exit_code()
        };
        assert_eq!(code(None, "a.xlsx"), 2);
        assert_eq!(code(Some("nothing"), "a.csv"), 3);
        assert_eq!(code(Some(""), "a.csv"), 3);
        std::fs::write(folder.path().join("b.csv"), "mine").unwrap();
        assert_eq!(code(None, "b.csv"), 5);
    }
}
