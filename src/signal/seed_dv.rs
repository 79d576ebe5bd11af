//! SEED-DV's protocol in tables, and what its `meta_info/` says of every clip.
//!
//! ```text
//! block 0 … 6, slot 0 … 39 (one concept each), clip 0 … 4 of the slot; arrays over clips are [7, 200], index 5·slot + clip
//! meta_info/All_video_label.npy                [7, 40]   concept of each slot, 1 to 40
//!           All_video_color.npy                [7, 200]  0 none or many, 1 red … 6 grey or black
//!           All_video_face_apperance.npy       [7, 200]  0, 1 (also spelt `appearance`)
//!           All_video_human_apperance.npy      [7, 200]  0, 1
//!           All_video_obj_number.npy           [7, 200]  1, 2, 3 (many)
//!           All_video_optical_flow_score.npy   [7, 200]  mean magnitude of the optical flow
//!           class_names.txt                    40 lines; ours, for data with other concepts than SEED-DV's
//!           fast_from_flow.txt                 a number; ours, where another flow than 1.799 is fast
//! ```
//!
//! Source: Liu et al., "EEG2Video", NeurIPS 2024, and the arrays published with it. The names of the concepts are those
//! its captions suggest.

use super::npy;
use super::segments::{CLIPS, SLOTS};
use super::stack::BLOCKS;
use crate::error::{Error, Result, none_of};
use crate::files;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Concepts, and slots of a block.
pub const CLASSES: usize = 40;
/// Clips of a block.
pub const BLOCK_CLIPS: usize = SLOTS * CLIPS;
/// From this optical flow on a clip is fast: the median of the data set's 1400 clips.
pub const FAST_FLOW: f64 = 1.799;
/// Most bytes of `class_names.txt`.
const MAX_NAMES_BYTES: u64 = 64 << 10;

/// The concept of every slot, 1 to 40: `GT_label` of the published code, and its `All_video_label.npy`.
#[rustfmt::skip]
pub const ORDER: [[u8; SLOTS]; BLOCKS] = [
    [23, 22, 9, 6, 18, 14, 5, 36, 25, 19, 28, 35, 3, 16, 24, 40, 15, 27, 38, 33, 34, 4, 39, 17, 1, 26, 20, 29, 13, 32, 37, 2, 11, 12, 30, 31, 8, 21, 7, 10],
    [27, 33, 22, 28, 31, 12, 38, 4, 18, 17, 35, 39, 40, 5, 24, 32, 15, 13, 2, 16, 34, 25, 19, 30, 23, 3, 8, 29, 7, 20, 11, 14, 37, 6, 21, 1, 10, 36, 26, 9],
    [15, 36, 31, 1, 34, 3, 37, 12, 4, 5, 21, 24, 14, 16, 39, 20, 28, 29, 18, 32, 2, 27, 8, 19, 13, 10, 30, 40, 17, 26, 11, 9, 33, 25, 35, 7, 38, 22, 23, 6],
    [16, 28, 23, 1, 39, 10, 35, 14, 19, 27, 37, 31, 5, 18, 11, 25, 29, 13, 20, 24, 7, 34, 26, 4, 40, 12, 8, 22, 21, 30, 17, 2, 38, 9, 3, 36, 33, 6, 32, 15],
    [18, 29, 7, 35, 22, 19, 12, 36, 8, 15, 28, 1, 34, 23, 20, 13, 37, 9, 16, 30, 2, 33, 27, 21, 14, 38, 10, 17, 31, 3, 24, 39, 11, 32, 4, 25, 40, 5, 26, 6],
    [29, 16, 1, 22, 34, 39, 24, 10, 8, 35, 27, 31, 23, 17, 2, 15, 25, 40, 3, 36, 26, 6, 14, 37, 9, 12, 19, 30, 5, 28, 32, 4, 13, 18, 21, 20, 7, 11, 33, 38],
    [38, 34, 40, 10, 28, 7, 1, 37, 22, 9, 16, 5, 12, 36, 20, 30, 6, 15, 35, 2, 31, 26, 18, 24, 8, 3, 23, 19, 14, 13, 21, 4, 25, 11, 32, 17, 39, 29, 33, 27],
];

/// What the concepts show.
pub const CLASS_NAMES: [&str; CLASSES] = [
    "cat",
    "dog",
    "elephant",
    "horse",
    "panda",
    "rabbit",
    "bird",
    "fish",
    "jellyfish",
    "whale",
    "turtle",
    "flower",
    "mushroom",
    "tree",
    "boxing",
    "dancing",
    "running",
    "skiing",
    "face",
    "talking pair",
    "crowd",
    "beach",
    "city",
    "mountain",
    "road",
    "waterfall",
    "fireworks",
    "banana",
    "cake",
    "drink",
    "pizza",
    "watermelon",
    "drum",
    "guitar",
    "piano",
    "motorcycle",
    "car",
    "hot-air balloon",
    "airplane",
    "ship",
];

/// The nine coarse groups: name, first and last concept.
pub const CLUSTERS: [(&str, u8, u8); 9] = [
    ("land animal", 1, 7),
    ("water animal", 8, 11),
    ("plant", 12, 14),
    ("exercise", 15, 18),
    ("human", 19, 21),
    ("natural scene", 22, 27),
    ("food", 28, 32),
    ("musical instrument", 33, 35),
    ("transportation", 36, 40),
];

/// What the codes of the colour array mean.
pub const COLOURS: [&str; 7] = ["none", "red", "green", "blue", "yellow", "white", "grey"];

/// Group of a concept (1 to 40), from 0; `None` for another number.
pub fn cluster_of(class: u8) -> Option<usize> {
    CLUSTERS.iter().position(|&(_, first, last)| (first..=last).contains(&class))
}

/// Stem of a block's files: `1st_10min` to `7th_10min`.
pub fn block_stem(block: usize) -> String {
    let n = block + 1;
    let ending = match n {
        1 => "st",
        2 => "nd",
        3 => "rd",
        _ => "th",
    };
    format!("{n}{ending}_10min")
}

/// What is known of the clips of all seven blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Concept of each slot, 1 to 40.
    pub order: [[u8; SLOTS]; BLOCKS],
    /// Names of the concepts.
    pub class_names: Vec<String>,
    /// `[7 · 200]`: 0 to 6, see [`COLOURS`].
    pub colour: Option<Vec<u8>>,
    /// `[7 · 200]`: whether a face is seen.
    pub face: Option<Vec<u8>>,
    /// `[7 · 200]`: whether a human is seen.
    pub human: Option<Vec<u8>>,
    /// `[7 · 200]`: 1, 2 or 3 (many) main objects.
    pub number: Option<Vec<u8>>,
    /// `[7 · 200]`: optical flow.
    pub flow: Option<Vec<f64>>,
    /// From this optical flow on a clip is fast.
    pub fast_from: f64,
}

/// What is told apart in the EEG-VP benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// 40 concepts.
    Concept,
    /// 9 clusters of concepts.
    Cluster,
    /// 6 dominant colours; clips without one are left out.
    Colour,
    /// Fast or slow, by optical flow.
    FastSlow,
    /// 1, 2 or many main objects.
    Numbers,
    /// Whether a human face is seen.
    Face,
    /// Whether a human is seen.
    Human,
}

impl Task {
    /// All of them, with the names a user types.
    pub const ALL: [(&'static str, Task); 7] = [
        ("40c", Task::Concept),
        ("9c", Task::Cluster),
        ("colour", Task::Colour),
        ("fast-slow", Task::FastSlow),
        ("numbers", Task::Numbers),
        ("face", Task::Face),
        ("human", Task::Human),
    ];

    /// The name a user types.
    pub fn name(self) -> &'static str {
        Task::ALL.iter().find(|(_, task)| *task == self).map_or("", |(name, _)| name)
    }

    /// Classes.
    pub fn n_classes(self) -> usize {
        match self {
            Task::Concept => 40,
            Task::Cluster => 9,
            Task::Colour => 6,
            Task::Numbers => 3,
            Task::FastSlow | Task::Face | Task::Human => 2,
        }
    }

    /// The array that tells it.
    pub fn file(self) -> &'static str {
        match self {
            Task::Concept | Task::Cluster => "All_video_label.npy",
            Task::Colour => "All_video_color.npy",
            Task::FastSlow => "All_video_optical_flow_score.npy",
            Task::Numbers => "All_video_obj_number.npy",
            Task::Face => "All_video_face_apperance.npy",
            Task::Human => "All_video_human_apperance.npy",
        }
    }

    /// The class of a value of SEED-DV's array; `Ok(None)` for what is left out.
    pub fn class(self, value: f64) -> Option<Option<usize>> {
        self.class_from(value, FAST_FLOW)
    }

    /// The same where another flow is fast: `fast_from` and above.
    pub fn class_from(self, value: f64, fast_from: f64) -> Option<Option<usize>> {
        if self == Task::FastSlow {
            return value.is_finite().then_some(Some(usize::from(value >= fast_from)));
        }
        if value.fract() != 0.0 || !(0.0..=40.0).contains(&value) {
            return None;
        }
        let code = value as i64;
        match self {
            Task::Concept => (code >= 1).then_some(Some((code - 1) as usize)),
            Task::Cluster => (code >= 1).then(|| cluster_of(code as u8)),
            Task::Colour => (code <= 6).then(|| usize::try_from(code - 1).ok()),
            Task::Numbers => (1..=3).contains(&code).then_some(Some((code - 1) as usize)),
            Task::FastSlow | Task::Face | Task::Human => (code <= 1).then_some(Some(code as usize)),
        }
    }

    /// What the array's values must be.
    pub fn wanted(self) -> &'static str {
        match self {
            Task::Concept | Task::Cluster => "classes 1 to 40",
            Task::Colour => "colours 0 to 6",
            Task::FastSlow => "finite numbers",
            Task::Numbers => "1, 2 or 3",
            Task::Face | Task::Human => "0 or 1",
        }
    }
}

impl std::str::FromStr for Task {
    type Err = Error;

    fn from_str(text: &str) -> Result<Task> {
        let text = if text == "color" { "colour" } else { text };
        Task::ALL.iter().find(|(name, _)| *name == text).map(|&(_, task)| task).ok_or_else(|| {
            let names = Task::ALL.map(|(name, _)| name);
            Error::setting("task", none_of(text, names))
        })
    }
}

/// One of the arrays: what it is, under which names it is found (the first is written), its values.
struct Column {
    names: [&'static str; 2],
    lowest: f64,
    highest: f64,
}

const COLOUR: Column = column(["All_video_color.npy"; 2], 0.0, 6.0);
const FACE: Column = column(["All_video_face_apperance.npy", "All_video_face_appearance.npy"], 0.0, 1.0);
const HUMAN: Column = column(["All_video_human_apperance.npy", "All_video_human_appearance.npy"], 0.0, 1.0);
const NUMBER: Column = column(["All_video_obj_number.npy"; 2], 1.0, 3.0);
const FLOW: Column = column(["All_video_optical_flow_score.npy"; 2], 0.0, 1e6);
const LABEL: &str = "All_video_label.npy";
const NAMES: &str = "class_names.txt";
const FAST_FROM: &str = "fast_from_flow.txt";

const fn column(names: [&'static str; 2], lowest: f64, highest: f64) -> Column {
    Column { names, lowest, highest }
}

impl Meta {
    /// The protocol alone: order and names, nothing of the clips.
    pub fn protocol() -> Meta {
        Meta {
            order: ORDER,
            class_names: CLASS_NAMES.map(str::to_string).to_vec(),
            colour: None,
            face: None,
            human: None,
            number: None,
            flow: None,
            fast_from: FAST_FLOW,
        }
    }

    /// Reads a `meta_info` folder, or one that holds such a folder. Arrays that are not there are left out; without
    /// labels, the protocol's order stands.
    ///
    /// Errors: those of [`npy::read`]; [`Error::Format`] when nothing of it is there, for another shape, for values
    /// out of range with their place, and for a block that does not hold each concept once.
    pub fn open(folder: impl AsRef<Path>) -> Result<Meta> {
        let folder = folder.as_ref();
        let inner = folder.join("meta_info");
        let folder = if inner.is_dir() { inner } else { folder.to_path_buf() };
        let mut meta = Meta::protocol();
        let labels = folder.join(LABEL);
        if labels.exists() {
            meta.order = order(&labels)?;
        }
        let bytes = |column: &Column| -> Result<Option<Vec<u8>>> {
            let values = column.read(&folder, true)?;
            Ok(values.map(|values| values.into_iter().map(|v| v as u8).collect()))
        };
        meta.colour = bytes(&COLOUR)?;
        meta.face = bytes(&FACE)?;
        meta.human = bytes(&HUMAN)?;
        meta.number = bytes(&NUMBER)?;
        meta.flow = FLOW.read(&folder, false)?;
        meta.fast_from = fast_from_of(&folder)?;
        meta.class_names = class_names_of(&folder)?;
        let has_columns = [&meta.colour, &meta.face, &meta.human, &meta.number].iter().any(|c| c.is_some());
        if !labels.exists() && !has_columns && meta.flow.is_none() {
            std::fs::read_dir(&folder).map_err(Error::read(&folder))?;
            let detail = format!("holds none of SEED-DV's arrays, {LABEL} for one");
            return Err(Error::format(&folder, detail));
        }
        Ok(meta)
    }

    /// Writes the arrays as SEED-DV has them, and `class_names.txt` when the names are others. Errors:
    /// [`Error::Write`]; [`Error::Shape`] for a column that is not `[7 · 200]`.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let labels: Vec<i64> = self.order.as_flattened().iter().map(|&class| i64::from(class)).collect();
        npy::write(folder.join(LABEL), &[BLOCKS, SLOTS], &labels)?;
        for (column, values) in
            [(&COLOUR, &self.colour), (&FACE, &self.face), (&HUMAN, &self.human), (&NUMBER, &self.number)]
        {
            if let Some(values) = wide(values) {
                column.write(folder, &values)?;
            }
        }
        if let Some(flow) = &self.flow {
            FLOW.write(folder, flow)?;
        }
        if self.fast_from != FAST_FLOW {
            write_fast_from(folder, self.fast_from)?;
        }
        if self.class_names != CLASS_NAMES {
            let path = folder.join(NAMES);
            files::write_atomically(&path, |file| {
                writeln!(file, "{}", self.class_names.join("\n")).map_err(Error::write(&path))
            })?;
        }
        Ok(())
    }

    /// Concept (1 to 40) of a clip; blocks and clips are counted from 0.
    pub fn class_of(&self, block: usize, clip: usize) -> Option<u8> {
        self.order.get(block)?.get(clip / CLIPS).copied()
    }

    /// The answers to a task, `[7 · 200]`, from 0; `None` where a clip has no part in it (colour).
    ///
    /// Errors: [`Error::Setting`] when the array the task needs is not there.
    pub fn labels(&self, task: Task) -> Result<Vec<Option<usize>>> {
        let values: Option<Vec<f64>> = match task {
            Task::Concept | Task::Cluster => {
                Some(self.order.as_flattened().iter().flat_map(|&class| [f64::from(class); CLIPS]).collect())
            }
            Task::Colour => wide(&self.colour),
            Task::FastSlow => self.flow.clone(),
            Task::Numbers => wide(&self.number),
            Task::Face => wide(&self.face),
            Task::Human => wide(&self.human),
        };
        let values = values.ok_or_else(|| {
            let detail = format!("needs {}, which is not there", task.file());
            Error::setting(format!("task {}", task.name()), detail)
        })?;
        Ok(values.into_iter().map(|value| task.class_from(value, self.fast_from).flatten()).collect())
    }
}

fn wide(values: &Option<Vec<u8>>) -> Option<Vec<f64>> {
    values.as_ref().map(|values| values.iter().map(|&v| v.into()).collect())
}

/// How often each answer is given, and how well guessing does.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// Clips of each answer.
    pub counts: Vec<usize>,
    /// Clips that have part in the task.
    pub n: usize,
    /// Accuracy of always giving the most frequent answer.
    pub majority_chance: f64,
}

/// From which optical flow on a clip is fast, by a `meta_info` folder: `fast_from_flow.txt`, or SEED-DV's median.
///
/// Errors: [`Error::Read`]; [`Error::Format`] for a file without a number above 0.
pub fn fast_from_of(folder: &Path) -> Result<f64> {
    let path = folder.join(FAST_FROM);
    if !path.exists() {
        return Ok(FAST_FLOW);
    }
    let text = String::from_utf8_lossy(&files::read_small(&path, MAX_NAMES_BYTES)?).trim().to_string();
    let number = text.parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0);
    number.ok_or_else(|| {
        Error::format(&path, format!("holds '{}', wanted a number above 0", text.escape_debug()))
    })
}

/// Writes what [`fast_from_of`] reads.
///
/// Errors: [`Error::Write`].
pub fn write_fast_from(folder: &Path, flow: f64) -> Result<()> {
    files::write_text(folder.join(FAST_FROM), &format!("{flow}\n"))
}

/// Writes the optical flow of the clips, `[7 · 200]`, as SEED-DV has it.
///
/// Errors: [`Error::Write`]; [`Error::Shape`] for another number of clips.
pub fn write_flow(folder: &Path, flow: &[f64]) -> Result<PathBuf> {
    FLOW.write(folder, flow)?;
    Ok(folder.join(FLOW.names[0]))
}

/// Names of the concepts of a `meta_info` folder: `class_names.txt`, or SEED-DV's own.
///
/// Errors: [`Error::Read`]; [`Error::Format`] for other than 40 names.
pub fn class_names_of(folder: &Path) -> Result<Vec<String>> {
    let names = folder.join(NAMES);
    if names.exists() { class_names(&names) } else { Ok(CLASS_NAMES.map(str::to_string).to_vec()) }
}

/// Counts answers. A task without clips has a chance of 0.
pub fn counts(labels: &[Option<usize>], n_classes: usize) -> Counts {
    let mut counts = vec![0; n_classes];
    labels.iter().flatten().filter(|&&label| label < n_classes).for_each(|&label| counts[label] += 1);
    let n: usize = counts.iter().sum();
    let most = counts.iter().copied().max().unwrap_or(0);
    Counts { counts, n, majority_chance: most as f64 / n.max(1) as f64 }
}

impl Column {
    fn path(&self, folder: &Path) -> Option<PathBuf> {
        self.names.iter().map(|name| folder.join(name)).find(|path| path.exists())
    }

    fn read(&self, folder: &Path, is_whole: bool) -> Result<Option<Vec<f64>>> {
        let Some(path) = self.path(folder) else { return Ok(None) };
        let array = npy::read::<f64>(&path, None)?;
        if array.shape != [BLOCKS, BLOCK_CLIPS] {
            let detail = format!("shape {:?}, wanted [{BLOCKS}, {BLOCK_CLIPS}]", array.shape);
            return Err(Error::format(&path, detail));
        }
        let (lowest, highest) = (self.lowest, self.highest);
        let is_wrong = |v: f64| !(lowest..=highest).contains(&v) || (is_whole && v.fract() != 0.0);
        if let Some(at) = array.data.iter().position(|&v| is_wrong(v)) {
            let kind = if is_whole { "a whole number of" } else { "a number of" };
            let detail = format!(
                "block {}, clip {} is {}, wanted {kind} {lowest} to {highest}",
                at / BLOCK_CLIPS,
                at % BLOCK_CLIPS,
                array.data[at]
            );
            return Err(Error::format(&path, detail));
        }
        Ok(Some(array.data))
    }

    fn write(&self, folder: &Path, values: &[f64]) -> Result<()> {
        npy::write(folder.join(self.names[0]), &[BLOCKS, BLOCK_CLIPS], values)
    }
}

fn order(path: &Path) -> Result<[[u8; SLOTS]; BLOCKS]> {
    let array = npy::read::<f64>(path, None)?;
    if array.shape != [BLOCKS, SLOTS] {
        let detail = format!("shape {:?}, wanted [{BLOCKS}, {SLOTS}]", array.shape);
        return Err(Error::format(path, detail));
    }
    let mut order = [[0u8; SLOTS]; BLOCKS];
    for (block, (row, values)) in order.iter_mut().zip(array.data.chunks_exact(SLOTS)).enumerate() {
        for (slot, (label, &value)) in row.iter_mut().zip(values).enumerate() {
            if !(1.0..=CLASSES as f64).contains(&value) || value.fract() != 0.0 {
                let detail =
                    format!("block {block}, slot {slot} is labelled {value}, labels are 1 to {CLASSES}");
                return Err(Error::format(path, detail));
            }
            *label = value as u8;
        }
        if let Some(missing) = (1..=CLASSES as u8).find(|class| !row.contains(class)) {
            let detail =
                format!("block {block} does not show concept {missing}, each is shown once in a block");
            return Err(Error::format(path, detail));
        }
    }
    Ok(order)
}

fn class_names(path: &Path) -> Result<Vec<String>> {
    let bytes = files::read_small(path, MAX_NAMES_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::format(path, "is not UTF-8"))?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    if names.len() != CLASSES || names.iter().any(String::is_empty) {
        let detail = format!("{} lines, wanted {CLASSES}, a name on each", names.len());
        return Err(Error::format(path, detail));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Meta {
        let n = BLOCKS * BLOCK_CLIPS;
        Meta {
            colour: Some((0..n).map(|i| (i % 7) as u8).collect()),
            face: Some(vec![0; n]),
            human: Some((0..n).map(|i| (i % 2) as u8).collect()),
            number: Some((0..n).map(|i| 1 + (i % 3) as u8).collect()),
            flow: Some((0..n).map(|i| i as f64 * 0.01).collect()),
            ..Meta::protocol()
        }
    }

    #[test]
    fn every_block_shows_every_concept_once() {
        for row in ORDER {
            let mut sorted = row;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(1..=40));
        }
        // Of the specification: the slots of classes 1, 2, 3 and 40 in the last block.
        let slot = |class| ORDER[6].iter().position(|&c| c == class).unwrap();
        assert_eq!([slot(1), slot(2), slot(3), slot(40)], [6, 19, 25, 2]);
        assert_eq!((1..=40).map(|class| cluster_of(class).unwrap()).collect::<Vec<_>>().len(), 40);
        assert_eq!((cluster_of(0), cluster_of(41), cluster_of(18)), (None, None, Some(3)));
        assert_eq!((CLASS_NAMES[0], CLASS_NAMES[39], CLASS_NAMES[26]), ("cat", "ship", "fireworks"));
        assert_eq!([0, 1, 2, 6].map(block_stem), ["1st_10min", "2nd_10min", "3rd_10min", "7th_10min"]);
    }

    #[test]
    fn a_folder_comes_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut meta = full();
        meta.class_names[3] = "slow red ball".to_string();
        meta.order[2].swap(0, 7);
        meta.write(folder.path().join("meta_info")).unwrap();
        assert_eq!(Meta::open(folder.path()).unwrap(), meta);
        assert_eq!(Meta::open(folder.path().join("meta_info")).unwrap(), meta);
        // The other spelling is read, too.
        let inner = folder.path().join("meta_info");
        std::fs::rename(inner.join(FACE.names[0]), inner.join(FACE.names[1])).unwrap();
        assert_eq!(Meta::open(folder.path()).unwrap().face, meta.face);
    }

    #[test]
    fn wrong_arrays_are_refused_with_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |change: &dyn Fn(&Path)| {
            full().write(folder.path()).unwrap();
            change(folder.path());
            let error = Meta::open(folder.path()).unwrap_err();
            assert_eq!(error.exit_code(), 3);
            error.to_string()
        };
        let label = |at: usize, value: i64| {
            move |folder: &Path| {
                let mut labels: Vec<i64> = ORDER.as_flattened().iter().map(|&c| i64::from(c)).collect();
                labels[at] = value;
                npy::write(folder.join(LABEL), &[7, 40], &labels).unwrap();
            }
        };
        assert!(refused(&label(43, 41)).contains("block 1, slot 3 is labelled 41"));
        assert!(refused(&label(0, 0)).contains("labels are 1 to 40"));
        assert!(refused(&label(0, 22)).contains("does not show concept 23"));
        let array = |name: &'static str, shape: &'static [usize], value: f64| {
            move |folder: &Path| {
                npy::write(folder.join(name), shape, &vec![value; shape.iter().product()]).unwrap()
            }
        };
        assert!(refused(&array(LABEL, &[40, 7], 1.0)).contains("[40, 7]"));
        assert!(refused(&array("All_video_color.npy", &[7, 200], 7.0)).contains("0 to 6"));
        assert!(refused(&array("All_video_obj_number.npy", &[7, 200], 1.5)).contains("1.5"));
        assert!(refused(&array("All_video_optical_flow_score.npy", &[7, 200], f64::NAN)).contains("NaN"));
        let empty = tempfile::tempdir().unwrap();
        assert!(Meta::open(empty.path()).unwrap_err().to_string().contains("none of SEED-DV's arrays"));
        assert_eq!(Meta::open(empty.path().join("no")).unwrap_err().exit_code(), 3);
    }

    #[test]
    fn values_become_classes() {
        assert_eq!(Task::Concept.class(40.0), Some(Some(39)));
        assert_eq!(Task::Concept.class(0.0), None);
        assert_eq!(Task::Concept.class(41.0), None);
        assert_eq!(Task::Concept.class(f64::NAN), None);
        let cluster = |class: i64| Task::Cluster.class(class as f64).unwrap().unwrap();
        assert_eq!([1, 7, 8, 11, 12, 35, 36, 40].map(cluster), [0, 0, 1, 1, 2, 7, 8, 8]);
        assert_eq!((Task::Colour.class(0.0), Task::Colour.class(6.0)), (Some(None), Some(Some(5))));
        assert_eq!(
            (Task::FastSlow.class(1.799), Task::FastSlow.class(1.7989)),
            (Some(Some(1)), Some(Some(0)))
        );
        assert_eq!((Task::Numbers.class(3.0), Task::Face.class(2.0)), (Some(Some(2)), None));
        assert!("40".parse::<Task>().is_err() && "color".parse::<Task>().unwrap() == Task::Colour);
    }

    #[test]
    fn tasks_have_labels_and_chances() {
        let meta = full();
        let all = |task: Task| counts(&meta.labels(task).unwrap(), task.n_classes());
        assert_eq!(all(Task::Concept), Counts { counts: vec![35; 40], n: 1400, majority_chance: 0.025 });
        assert_eq!(all(Task::Cluster).majority_chance, 0.175);
        assert_eq!(all(Task::Colour).n, 1200);
        assert_eq!(all(Task::FastSlow).counts, [180, 1220]);
        assert_eq!(all(Task::Face).counts, [1400, 0]);
        assert_eq!(meta.class_of(6, 199), Some(27));
        assert_eq!(meta.class_of(7, 0), None);
        let error = Meta::protocol().labels(Task::FastSlow).unwrap_err();
        assert!(error.to_string().contains("optical_flow") && error.exit_code() == 2, "{error}");
        assert!("fast-slwo".parse::<Task>().unwrap_err().to_string().contains("did you mean 'fast-slow'?"));
    }
}
