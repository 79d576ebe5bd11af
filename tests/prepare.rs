//! `mindreel prepare` from outside: a chain of its commands on a simulated subject, and planted mistakes.
#![cfg(feature = "cli")]

#[path = "common/prepare.rs"]
mod prepare;

use mindreel::signal::{npy, seed_dv};
use prepare::World;

fn shape(world: &World, name: &str) -> Vec<usize> {
    npy::list(world.path(name)).unwrap()[0].shape.clone()
}

fn write(world: &World, name: &str, shape: &[usize], value: impl Fn(usize) -> f32) {
    let data: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    npy::write(world.path(name), shape, &data).unwrap();
}

fn wave(i: usize) -> f32 {
    1e-5 * (0.31 * i as f32).sin() + 2e-6 * ((i * i % 17) as f32 - 8.0)
}

#[test]
fn a_simulated_subject_goes_through_the_chain() {
    let world = World::new();
    world.done(&["simulate", "--output", "sim", "--seed", "1", "--clips", "none"]);
    assert_eq!(shape(&world, "sim/EEG/sub1.npy"), [7, 62, 104_000]);
    let readme = std::fs::read_to_string(world.path("sim/README.md")).unwrap();
    assert!(readme.starts_with("# A simulation\n"));
    let meta = seed_dv::Meta::open(world.path("sim")).unwrap();
    assert_eq!(meta.class_names[0], "slow red ball");
    assert_eq!(meta.order, seed_dv::ORDER);
    world.refused(&["simulate", "--output", "sim"], 5, "--force");

    let told = world.done(&["segment", "--eeg", "sim/EEG", "--output", "clips"]);
    assert!(told.contains("sub1.npy [7, 62, 104000] -> clips/sub1.npy [7, 40, 5, 62, 400]"), "{told}");
    let told = world.done(&["segment", "--eeg", "sim/EEG", "--output", "clips"]);
    assert!(told.contains("finished before"), "{told}");
    world.done(&["features", "--eeg", "clips", "--output-de", "de", "--output-psd", "psd", "--per", "2s"]);
    assert_eq!(shape(&world, "de/sub1.npy"), [7, 40, 5, 62, 5]);
    let table = world.done(&["meta", "--data", "sim", "--output", "clips.csv", "--json"]);
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    assert_eq!(table["tasks"].as_array().unwrap().len(), 7);

    // A nearest-mean classifier of the DE knows more than chance: speed, blocks 0 to 5 to block 6.
    let de = npy::read::<f64>(world.path("de/sub1.npy"), None).unwrap().data;
    let speed = meta.labels(seed_dv::Task::FastSlow).unwrap();
    let (train, test) = (0..1200, 1200..1400);
    let mut means = [vec![0.0; 310], vec![0.0; 310]];
    let mut squares = vec![0.0; 310];
    for clip in train {
        for f in 0..310 {
            means[speed[clip].unwrap()][f] += de[clip * 310 + f] / 600.0;
            squares[f] += de[clip * 310 + f].powi(2) / 1200.0;
        }
    }
    let right = test.filter(|&clip| {
        let score: f64 = (0..310)
            .map(|f| {
                let (slow, fast) = (means[0][f], means[1][f]);
                let variance = squares[f] - (0.5 * (slow + fast)).powi(2);
                (de[clip * 310 + f] - 0.5 * (slow + fast)) * (fast - slow) / variance
            })
            .sum();
        (score > 0.0) == (speed[clip] == Some(1))
    });
    let right = right.count();
    assert!(right > 130, "{right} of 200"); // p < 1e-5
}

#[test]
fn the_golden_vectors_come_out_of_the_command() {
    let world = World::new();
    let tau = std::f64::consts::TAU;
    let golden = [
        (
            200,
            [9.88002, 6.95875, 15.71637, 12.35381, 8.41520],
            [9.42283, 1.24392, 538.39314, 52.34405, 3.41372],
        ),
        (
            400,
            [10.62679, 11.73011, 15.66366, 12.33494, 8.49176],
            [15.81184, 33.97142, 519.07614, 51.66398, 3.59976],
        ),
        (
            100,
            [9.18717, 8.87701, 14.72306, 11.40945, 7.42239],
            [5.82928, 4.70161, 270.44740, 27.20109, 1.71538],
        ),
    ];
    for (n, de, psd) in golden {
        let x = (0..n).map(|k| k as f64 / 200.0).map(|t| {
            (tau * 10.0 * t).sin()
                + 0.5 * (tau * 20.0 * t).sin()
                + 0.25 * (tau * 40.0 * t).cos()
                + 0.1 * (tau * 2.0 * t).cos()
        });
        npy::write(world.path("x.npy"), &[1, n], &x.collect::<Vec<f64>>()).unwrap();
        let files = ["--eeg", "x.npy", "--output-de", "de.npy", "--output-psd", "psd.npy", "--force"];
        let window = (n as f64 / 200.0).to_string();
        let rest = ["--reproduce-original", "--window-s", &window];
        world.done(&[&["de-psd"], &files[..], &rest].concat());
        for (name, wanted) in [("de.npy", de), ("psd.npy", psd)] {
            let got = npy::read::<f64>(world.path(name), None).unwrap();
            assert_eq!(got.shape, [1, 5]);
            // Printed with five decimals.
            assert!(
                got.data.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 6e-6),
                "{n} {name}: {:?}",
                got.data
            );
        }
    }
}

#[test]
fn mistakes_are_one_line() {
    let world = World::new();
    write(&world, "good.npy", &[2, 3, 800], wave);
    write(&world, "nan.npy", &[2, 3, 800], |i| if i == 4000 { f32::NAN } else { wave(i) });
    write(&world, "flat.npy", &[3], |_| 1.0);
    write(&world, "loud.npy", &[3, 800], |i| 1e6 * wave(i));
    let good = std::fs::read(world.path("good.npy")).unwrap();
    std::fs::write(world.path("cut.npy"), &good[..good.len() / 2]).unwrap();
    std::fs::write(world.path("note.txt"), "hello").unwrap();
    let one = |command: &str, eeg: &str, more: &[&str], code: i32, said: &str| {
        world.refused(&[&[command, "--eeg", eeg, "--output", "out.npy"], more].concat(), code, said);
        assert!(!world.path("out.npy").exists());
    };
    for (command, more) in [
        ("windows", &[][..]),
        ("filter", &["--low", "1"]),
        ("resample", &["--sample-rate", "1000"]),
        ("reference", &[]),
    ] {
        one(command, "nan.npy", more, 3, "1 of 4800 samples is NaN or infinite, the first at [1, 2, 0]");
        one(command, "cut.npy", more, 3, "cut short");
        one(command, "flat.npy", more, 3, "wanted [..., channels, samples]");
        one(command, "note.txt", more, 3, "neither .npy nor .npz");
        one(command, "nothing.npy", more, 3, "cannot be read");
        world.refused(&[&[command, "--eeg", "good.npy", "--output", "out.txt"], more].concat(), 2, ".npy");
        world.refused(&[&[command, "--eeg", "good.npy", "--output", "nan.npy"], more].concat(), 5, "--force");
        let own = [&[command, "--eeg", "good.npy", "--output", "./good.npy", "--force"], more].concat();
        world.refused(&own, 2, "--output: is the file that is read");
        assert!(std::fs::read(world.path("good.npy")).unwrap() == good);
    }
    one("segment", "good.npy", &[], 3, "[7, 62, 104000]");
    one("segment", "good.npy", &["--sample-rate", "1000"], 2, "resample");
    one("windows", "good.npy", &["--size", "0.5"], 2, "500ms");
    one("windows", "good.npy", &["--size", "100", "--overlap", "100"], 2, "less than --size");
    one("windows", "good.npy", &["--size", "5s"], 3, "800 samples");
    one("filter", "good.npy", &[], 2, "--low, --high, --notch");
    one("filter", "good.npy", &["--low", "-1"], 2, "-1 Hz");
    one("filter", "good.npy", &["--high", "100"], 2, "below 100 Hz");
    one("resample", "good.npy", &["--sample-rate", "0"], 2, "above 0");
    one("resample", "good.npy", &[], 2, "--sample-rate");
    one("reference", "good.npy", &["--to", "OZ"], 3, "give an index");
    one("reference", "good.npy", &["--to", "9"], 3, "no channel");

    let features = ["--output-de", "de.npy", "--output-psd", "psd.npy"];
    let de_psd = |eeg: &str, more: &[&str], code: i32, said: &str| {
        world.refused(&[&["de-psd", "--eeg", eeg], &features[..], more].concat(), code, said);
        assert!(!world.path("de.npy").exists() && !world.path("psd.npy").exists());
    };
    de_psd("nan.npy", &[], 3, "NaN");
    de_psd("loud.npy", &[], 3, "--units uV");
    de_psd("good.npy", &["--units", "uV"], 3, "these look like volts");
    de_psd("good.npy", &["--units", "mV"], 2, "V or uV");
    de_psd("good.npy", &["--window-s", "2"], 3, "prepare windows");
    de_psd("good.npy", &["--sample-rate", "128"], 2, "198 Hz");
    de_psd("good.npy", &["--sample-rate", "250", "--reproduce-original"], 2, "200 Hz only");

    let labels: Vec<i64> = (0..280).map(|i| i % 40).collect();
    npy::write(world.path("wrong/meta_info/All_video_label.npy"), &[7, 40], &labels).unwrap();
    world.refused(&["meta", "--data", "wrong", "--output", "m.csv"], 3, "labels are 1 to 40");
    world.refused(&["meta", "--data", "nothing", "--output", "m.csv"], 3, "cannot be read");
    world.refused(&["meta", "--output", "m.xml"], 2, ".csv, .json or .toml");
    world.refused(&["simulate", "--output", "s", "--subjects", "0"], 2, "--subjects");
    world.refused(&["simulate", "--output", "s", "--snr", "nan"], 2, "--snr");
    world.refused(&["clips", "--video", "nothing.mp4", "--output", "c"], 3, "cannot be read");
    world.refused(&["clips", "--video", "good.npy", "--output", "c", "--frames", "7"], 2, "divisor");
    assert!(!world.path("s").exists() && !world.path("c").exists());

    // What cannot be written ends with 5, and nothing half-done is left.
    let below = ["--output", "note.txt/out.npy"];
    world.refused(&[&["windows", "--eeg", "good.npy"], &below[..]].concat(), 5, "cannot be written");
    world.refused(&["meta", "--output", "note.txt/m.csv"], 5, "cannot be written");
    let names = std::fs::read_dir(world.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".tmp")));
}

#[test]
fn every_command_has_help_with_examples() {
    let world = World::new();
    for command in [
        "sample",
        "simulate",
        "reference",
        "filter",
        "resample",
        "segment",
        "windows",
        "de-psd",
        "features",
        "clips",
        "meta",
    ] {
        let help = world.done(&[command, "--help"]);
        assert!(help.contains("Usage: mindreel prepare") && help.contains("Examples:"), "{command}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{command}: {help}");
    }
}
