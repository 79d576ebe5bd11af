//! NeuroVision's data from outside: spectrograms, Alljoined's rows, statistics, and planted mistakes.
#![cfg(feature = "cli")]

#[path = "common/prepare.rs"]
mod prepare;

use mindreel::data::alljoined::Alljoined;
use mindreel::data::channel_stats;
use mindreel::data::pairs::{Captions, Pairs, Use};
use mindreel::signal::spectrogram::{Recipe, Spectrograms, spectrograms};
use mindreel::signal::{Units, npy, torch};
use prepare::World;
use std::collections::BTreeSet;
use std::path::Path;

fn spectrograms_in(world: &World, name: &str) -> Spectrograms {
    Spectrograms::read(world.path(name), None).unwrap()
}

fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/alljoined").join(name).display().to_string()
}

/// Sample of the golden rows.
fn sample(row: usize, channel: usize, i: usize) -> f64 {
    (((131 * row + 17 * channel + 7 * i) % 101) as f64 - 50.0) * 1e-6
}

#[test]
fn the_vectors_come_out_of_the_command() {
    let world = World::new();
    let tau = std::f64::consts::TAU;
    let x = |i: usize| {
        let t = i as f64 / 512.0;
        10.0 * (tau * 20.0 * t).sin() + 5.0 * (tau * 45.0 * t).cos() + 0.01 * i as f64
    };
    let data: Vec<f64> = (0..334).map(x).collect();
    npy::write(world.path("x.npy"), &[1, 334], &data).unwrap();
    let volts: Vec<f64> = data.iter().map(|v| v * 1e-6).collect();
    npy::write(world.path("volts.npy"), &[1, 334], &volts).unwrap();
    world.done(&["spectrogram", "--eeg", "x.npy", "--output", "new.npy"]);
    world.done(&["spectrogram", "--eeg", "volts.npy", "--output", "volts-new.npy"]);
    world.done(&["spectrogram", "--eeg", "x.npy", "--output", "old.npy", "--reproduce-original"]);
    for (name, first, sum) in [
        ("new", 2.53763964, 22.639582377570),
        ("volts-new", 2.53763964, 22.639582377570),
        ("old", 3.18559777, 31.748128655701),
    ] {
        let made = spectrograms_in(&world, &format!("{name}.npy"));
        assert_eq!(made.shape(), [1, 65, 4]);
        assert!((f64::from(made.data[20]) - first).abs() < 1e-6, "{name}");
        assert!((made.data.iter().map(|&v| f64::from(v)).sum::<f64>() - sum).abs() < 1e-6, "{name}");
    }
    world.refused(&["spectrogram", "--eeg", "x.npy", "--output", "new.npy"], 5, "--force");
    world.refused(&["spectrogram", "--eeg", "x.npy", "--output", "y.npy", "--units", "V"], 3, "--units uV");
    world.refused(
        &["spectrogram", "--eeg", "x.npy", "--output", "y.npy", "--sample-rate", "128"],
        2,
        "below 64 Hz",
    );
    world.refused(
        &["spectrogram", "--eeg", "x.npy", "--output", "y.npy", "--low", "8", "--reproduce-original"],
        2,
        "--low",
    );
    npy::write(world.path("short.npy"), &[2, 100], &[0.0f32; 200]).unwrap();
    world.refused(
        &["spectrogram", "--eeg", "short.npy", "--output", "y.npy"],
        3,
        "100 samples, a spectrogram at 512 Hz needs",
    );
    npy::write(world.path("flat.npy"), &[334], &volts).unwrap();
    world.refused(&["spectrogram", "--eeg", "flat.npy", "--output", "y.npy"], 3, "[..., channels, samples]");
}

#[test]
fn rows_of_parquet_are_read_whatever_their_pages() {
    let rows = Alljoined::open(golden("")).unwrap();
    assert_eq!(rows.len(), 15);
    assert_eq!((rows.trials[14].trial, rows.trials[14].coco_id, rows.trials[7].subject_id), (15, 2139, 2));
    let mut seen = vec![];
    rows.each(
        |row| row != 3,
        |_, row, epoch| {
            assert_eq!(epoch.shape(), [2, 140]);
            for channel in 0..2 {
                for i in 0..140 {
                    let got = epoch.data[channel * 140 + i];
                    assert!((got - sample(row, channel, i)).abs() < 1e-11, "{row} {channel} {i}: {got}");
                }
            }
            seen.push(row);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(seen, (0..15).filter(|row| *row != 3).collect::<Vec<_>>());

    let world = World::new();
    world.done(&["spectrogram", "--eeg", &golden(""), "--output", "all.npy"]);
    let made = spectrograms_in(&world, "all.npy");
    assert_eq!(made.shape(), [15, 2, 65, 1]);
    let one = spectrograms(&rows.first().unwrap(), 512.0, Units::Volts, &Recipe::corrected()).unwrap();
    assert_eq!(made.each().next().unwrap(), one.data);
    world.done(&[
        "spectrogram",
        "--eeg",
        &golden("test-00000-of-00001.parquet"),
        "--output",
        "old.npy",
        "--reproduce-original",
    ]);
    assert_eq!(spectrograms_in(&world, "old.npy").shape(), [3, 2, 65, 4]);
}

#[test]
fn damaged_parquet_is_refused_not_believed() {
    let world = World::new();
    let whole = std::fs::read(golden("train-00000-of-00001.parquet")).unwrap();
    let path = world.path("x.parquet");
    for n in [0, 3, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..n]).unwrap();
        let text = Alljoined::open(&path).unwrap_err().to_string();
        assert!(text.contains("is no whole parquet file") && text.contains("cut short"), "{n}: {text}");
    }
    std::fs::write(&path, &whole[..4000]).unwrap();
    world.refused(&["spectrogram", "--eeg", "x.parquet", "--output", "y.npy"], 3, "cut short");
    world.refused(&["alljoined", "--data", "x.parquet", "--output", "set"], 3, "cut short");
    // Any byte may be wrong: an error, or numbers, never a panic that comes through.
    let (mut n_refused, step) = (0, 11);
    for at in (0..whole.len()).step_by(step) {
        let mut changed = whole.clone();
        changed[at] ^= 0x2B;
        std::fs::write(&path, &changed).unwrap();
        let read = Alljoined::open(&path).and_then(|rows| rows.each(|_| true, |_, _, _| Ok(())));
        n_refused += usize::from(read.is_err());
    }
    assert!(n_refused > 50, "{n_refused}");
    for (name, said) in [
        ("flat", "no list of lists"),
        ("none", "has no column \"EEG\", it has subject_id"),
        ("null", "row 1: EEG is missing"),
        ("empty", "row 0: EEG is missing"),
        ("ragged", "row 1: channel 1 has 1 samples, channel 0 has 2"),
        ("nan", "row 0: EEG holds NaN"),
        ("words", "\"subject_id\" holds no integers"),
        ("integers", "holds no floats"),
    ] {
        let read = Alljoined::open(golden(&format!("bad/{name}.parquet")));
        let read = read.and_then(|rows| rows.each(|_| true, |_, _, _| Ok(())));
        let error = read.err().unwrap_or_else(|| panic!("{name} was taken"));
        assert!(error.exit_code() == 3 && error.to_string().contains(said), "{name}: {error}");
    }
    world.refused(&["alljoined", "--data", ".", "--output", "set"], 3, "");
    std::fs::create_dir(world.path("empty")).unwrap();
    world.refused(&["alljoined", "--data", "empty", "--output", "set"], 3, "holds no .parquet");
}

#[test]
fn a_data_set_is_made_and_its_statistics_are_numpys() {
    let world = World::new();
    let call = ["alljoined", "--data", &golden(""), "--output", "set", "--val", "0.2", "--test", "0.2"];
    let told = world.done(&call);
    assert!(told.contains("train     ") && !told.contains("in train too"), "{told}");
    let set = Pairs::open(world.path("set")).unwrap();
    set.check_files(false).unwrap();
    assert_eq!(set.pairs.len(), 15);
    let pictures = |split| set.of(split).into_iter().map(|pair| pair.image.clone()).collect::<BTreeSet<_>>();
    assert_eq!(Use::ALL.map(|split| pictures(split).len()), [4, 1, 1]);
    assert!(pictures(Use::Train).is_disjoint(&pictures(Use::Test)));
    let table = std::fs::read_to_string(world.path("set/metadata.csv")).unwrap();
    assert!(table.starts_with(
        "image_path,spectrogram_path,split,row,subject_id,session,block,trial,nsd_id,coco_id\n"
    ));
    world.refused(&call, 5, "--force");
    // Stopped before the table was written: the same call goes on, another one does not.
    std::fs::remove_file(world.path("set/metadata.csv")).unwrap();
    world.refused(&[&call[..], &["--low", "8"]].concat(), 3, "other settings");
    world.done(&call);
    assert_eq!(std::fs::read_to_string(world.path("set/metadata.csv")).unwrap(), table);

    world.done(&["stats", "--spectrograms", "set", "--output", "set", "--reproduce-original"]);
    let stats = channel_stats::open(world.path("set")).unwrap();
    for channel in 0..2 {
        let of = |pair: &&mindreel::data::pairs::Pair| {
            let one = Spectrograms::read(world.path("set").join(&pair.spectrogram), None).unwrap();
            one.data[channel * 65..][..65].iter().map(|&v| f64::from(v)).collect::<Vec<_>>()
        };
        let all: Vec<f64> = set.of(Use::Train).iter().flat_map(of).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let std = (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
        assert!(
            (stats.mean[channel] / mean - 1.0).abs() < 1e-12
                && (stats.std[channel] / std - 1.0).abs() < 1e-12
        );
        let single = torch::read(world.path("set/spec_std.pt")).unwrap();
        assert_eq!((single.shape, single.data[channel]), (vec![2], stats.std[channel] as f32));
        assert_eq!(npy::read::<f64>(world.path("set/mean.npy"), None).unwrap().data, stats.mean);
    }
    world.refused(&["stats", "--spectrograms", "set", "--output", "set"], 5, "--force");
    world.refused(
        &["stats", "--spectrograms", "set", "--output", "other", "--channels", "64"],
        3,
        "of 2 channels, --channels says 64",
    );
    std::fs::remove_file(world.path("set").join(&set.of(Use::Train)[1].spectrogram)).unwrap();
    world.refused(&["stats", "--spectrograms", "set", "--output", "other"], 3, "is not there");
}

#[test]
fn the_originals_data_set_has_its_files_and_its_leak() {
    let world = World::new();
    std::fs::create_dir_all(world.path("coco/val2017")).unwrap();
    for picture in 0..6 {
        let folder = if picture == 2 { "coco/val2017" } else { "coco" };
        std::fs::write(world.path(&format!("{folder}/{:012}.jpg", 139 + 1000 * picture)), [picture as u8])
            .unwrap();
    }
    let data = golden("");
    let call = ["alljoined", "--data", &data, "--output", "old", "--reproduce-original", "--images", "coco"];
    world.refused(&call, 2, "17000 rows");
    let told = world.done(&[&call[..], &["--rows", "12", "--val", "3", "--test", "2"]].concat());
    assert!(told.contains("in train too"), "{told}");
    let set = Pairs::open(world.path("old")).unwrap();
    set.check_files(true).unwrap();
    assert_eq!(Use::ALL.map(|split| set.of(split).len()), [7, 3, 2]);
    let one = torch::read(world.path("old").join(&set.pairs[0].spectrogram)).unwrap();
    assert_eq!(one.shape, [2, 65, 4]);
    assert!(set.pairs[0].spectrogram.starts_with("spectrograms/train/sample_"));
    assert!(set.pairs[0].image.starts_with("coco_images_17k/000000"));
    std::fs::remove_file(world.path("coco/val2017/000000002139.jpg")).unwrap();
    world.refused(
        &["alljoined", "--data", &data, "--output", "x", "--images", "coco"],
        3,
        "holds no 000000002139.jpg",
    );

    // Captions as the original keeps them.
    let captions = world.path("train_gt_captions.json");
    Captions::write(&captions, (0..6).map(|row| (row.to_string(), format!("caption {row}")))).unwrap();
    let error = Captions::open(&captions).unwrap().of(&set.of(Use::Train), false).unwrap_err().to_string();
    assert!(error.contains("1 of 7 captions are missing, the first of row 6"), "{error}");
}

#[test]
fn mindbigdatas_files_become_spectrograms() {
    let world = World::new();
    std::fs::create_dir(world.path("csv")).unwrap();
    let text: String = ["AF3", "AF4", "T7", "T8", "Pz"]
        .iter()
        .enumerate()
        .map(|(channel, name)| {
            let samples =
                (0..384).map(|i| format!("{:.2}", 4200.0 + (0.3 * (i + 5 * channel) as f64).sin() * 20.0));
            format!("{name},{}\n", samples.collect::<Vec<_>>().join(","))
        })
        .collect();
    let name = "MindBigData_Imagenet_Insight_n00007846_6247_1_785";
    std::fs::write(world.path(&format!("csv/{name}.csv")), &text).unwrap();
    let call = ["spectrogram", "--eeg", "csv", "--output", "out", "--window-s", "0.5", "--hop-s", "0.25"];
    world.refused(&call, 2, "below 64 Hz");
    let told = world.done(&[&call[..], &["--unfiltered"]].concat());
    assert!(told.contains("AF3 AF4 T7 T8 Pz"), "{told}");
    assert_eq!(spectrograms_in(&world, &format!("out/{name}.npy")).shape(), [5, 33, 11]);
    std::fs::write(world.path("csv/z.csv"), &text[..text.len() - 2000]).unwrap();
    world.refused(
        &["spectrogram", "--eeg", "csv/z.csv", "--output", "z.npy", "--unfiltered"],
        3,
        "channel \"Pz\"",
    );
}

#[test]
fn wrong_spectrograms_are_refused() {
    let world = World::new();
    npy::write(world.path("a.npy"), &[65, 4], &[0.5f32; 260]).unwrap();
    world.refused(&["stats", "--spectrograms", "a.npy", "--output", "s"], 3, "[..., channels, bins, frames]");
    std::fs::create_dir(world.path("mixed")).unwrap();
    npy::write(world.path("mixed/1.npy"), &[64, 3, 4], &[0.5f32; 768]).unwrap();
    npy::write(world.path("mixed/2.npy"), &[5, 3, 4], &[0.5f32; 60]).unwrap();
    world.refused(
        &["stats", "--spectrograms", "mixed", "--output", "s"],
        3,
        "2.npy: has spectrograms of 5 channels, those before have 64",
    );
    npy::write(world.path("nan.npy"), &[1, 1, 2], &[0.5f32, f32::NAN]).unwrap();
    world.refused(&["stats", "--spectrograms", "nan.npy", "--output", "s"], 3, "NaN");
    assert!(!world.path("s").exists());
    for command in ["spectrogram", "stats", "alljoined"] {
        let help = world.done(&[command, "--help"]);
        assert!(help.contains("Usage: mindreel prepare") && help.contains("Examples:"), "{command}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{command}: {help}");
    }
}
