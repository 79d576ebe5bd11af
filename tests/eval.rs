//! Scores from outside: goldens of scikit-image, torchmetrics and transformers; `eval` and its classifier on small
//! clips, and planted mistakes. tests/golden/make_scores.py made the fixtures.

mod common;
#[path = "common/fixture.rs"]
mod fixture;

use assert_cmd::Command;
use common::gpu;
use fixture::{Golden, output, relative_error};
use mindreel::eval::pictures::{mse, psnr, ssim};
use mindreel::media::resize::{Filter, pillow};
use mindreel::media::{Frames, gif, png};
use mindreel::models::{self, Preprocess};
use mindreel::nn::Precision;
use mindreel::signal::npy;
use mindreel::weights::Dtype;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Twin of `picture` in make_scores.py.
fn picture(height: usize, width: usize, kind: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let value = (3 + kind) * y * y + 5 * (kind + 1) * x + 40 * c + (x * y) % (17 + kind);
                bytes.push((value % 256) as u8);
            }
        }
    }
    bytes
}

#[test]
fn pictures_score_as_in_scikit_image_and_torchmetrics() {
    let golden = Golden::open("scores");
    for at in 0..3 {
        let view = golden.file.get(&format!("pair.{at}")).unwrap();
        let values: Vec<f64> =
            view.bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
        let (height, width) = (values[0] as usize, values[1] as usize);
        let (a, b) = (picture(height, width, 0), picture(height, width, at + 1));
        let got = [ssim(&a, &b, height, width).unwrap(), mse(&a, &b).unwrap(), psnr(&a, &b).unwrap()];
        for (got, want) in got.iter().zip(&values[2..]) {
            assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "{height} x {width}: {got} {want}");
        }
    }
}

#[test]
fn resizes_are_pillows_bit_for_bit() {
    let golden = Golden::open("scores");
    let cases = [
        (Filter::Bilinear, [9, 17]),
        (Filter::Bilinear, [27, 40]),
        (Filter::Bicubic, [11, 13]),
        (Filter::Bicubic, [26, 35]),
    ];
    for (at, (filter, size)) in cases.into_iter().enumerate() {
        let got: Vec<f32> =
            pillow(&picture(20, 31, 2), [20, 31], size, filter).into_iter().map(f32::from).collect();
        assert!(got == golden.values(&format!("resize.{at}")), "{filter:?} {size:?}");
    }
}

#[test]
fn judges_see_what_transformers_processors_make() {
    let golden = Golden::open("scores");
    for (name, how) in [
        ("vit", Preprocess::vit([16, 14])),
        ("videomae", Preprocess::videomae([16, 16])),
        ("clip", Preprocess::clip(16)),
    ] {
        for (kind, [height, width]) in [[20, 31], [15, 12]].into_iter().enumerate() {
            let got = how.apply(&picture(height, width, 3), height, width).unwrap();
            let want = golden.values(&format!("{name}.{kind}"));
            let most = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(got.len() == want.len() && most < 1e-5, "{name} {height} x {width}: {most}");
        }
    }
}

#[test]
fn the_clip_classifier_is_its_pytorch_twin() {
    let Some(gpu) = gpu() else { return };
    let golden = Golden::open("clip_classifier");
    let folder = tempfile::tempdir().unwrap();
    golden.checkpoint(folder.path(), Dtype::F32);
    let loaded = models::open(&gpu, folder.path(), Precision::F32).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let outputs = loaded.model.forward(&golden.inputs(&[("pixel_values", "pixel_values")])).unwrap();
    let got = output(&outputs, "logits");
    assert_eq!(got.shape, golden.shape("out.logits"));
    let error = relative_error(&got.values, &golden.values("out.logits"));
    assert!(error < 1e-4, "{error}");
}

fn mindreel(words: &str, folder: &Path) -> Command {
    let mut command = Command::cargo_bin("mindreel").unwrap();
    command.arg("--quiet").args(words.split_whitespace()).current_dir(folder);
    command
}

/// Runs it and gives what it printed as JSON.
fn run(words: &str, folder: &Path) -> Value {
    let output = mindreel(&format!("--json {words}"), folder).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

/// The one line it refuses with, and the code.
fn refused(words: &str, folder: &Path) -> (String, i32) {
    let output = mindreel(words, folder).assert().failure().get_output().clone();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    (text, output.status.code().unwrap())
}

const FRAMES: usize = 4;
const SIZE: [usize; 2] = [16, 20];

/// A clip of a class: a bar of a place and colour of its own, with some noise.
fn clip(class: usize, seed: usize) -> Frames {
    let [height, width] = SIZE;
    let mut rgb = Vec::new();
    for frame in 0..FRAMES {
        for y in 0..height {
            for x in 0..width {
                for c in 0..3 {
                    let bar = (y + frame) % height / 4 == class % 4;
                    let base = if bar && class / 4 % 3 == c { 220 } else { 60 };
                    rgb.push((base + (x * 7 + y * 13 + frame * 5 + seed * 31 + c * 3) % 17) as u8);
                }
            }
        }
    }
    Frames::new(FRAMES, height, width, rgb, 3.0).unwrap()
}

fn write_clips(folder: &Path, clips: impl IntoIterator<Item = Frames>) {
    for (at, clip) in clips.into_iter().enumerate() {
        png::write_frames(folder.join(format!("clip-{at}")), &clip, "").unwrap();
    }
}

/// Two blocks of 80 clips, two of each class.
fn data_set(folder: &Path) {
    std::fs::create_dir_all(folder.join("meta_info")).unwrap();
    std::fs::create_dir_all(folder.join("Video")).unwrap();
    let class = |block: usize, slot: usize| (slot * 7 + block * 3) % 40;
    let labels: Vec<f64> =
        (0..2).flat_map(|block| (0..40).map(move |slot| class(block, slot) as f64 + 1.0)).collect();
    npy::write(folder.join("meta_info/All_video_label.npy"), &[2, 40], &labels).unwrap();
    let mut bytes = Vec::new();
    for block in 0..2 {
        (0..80).for_each(|at| bytes.extend(clip(class(block, at / 2), block * 80 + at).rgb));
    }
    npy::write(folder.join("Video/clips.npy"), &[2, 80, FRAMES, SIZE[0], SIZE[1], 3], &bytes).unwrap();
}

#[test]
fn clips_are_scored_beside_their_baselines() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    write_clips(&folder.join("truth"), (0..12).map(|at| clip(at, at)));
    write_clips(&folder.join("pred"), (0..12).map(|at| clip(at, at + 5)));
    write_clips(&folder.join("noise"), (0..12).map(|at| clip((at + 5) % 12, at)));
    let told = run(
        "eval video --pred pred --truth truth --metrics ssim,mse,psnr,hue --control noise=noise --output scores \
         --resamples 200",
        folder,
    );
    let rows = told["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["prediction", "noise", "shuffled pairs", "truth"]);
    let mean = |row: usize, key: &str| rows[row]["scores"][key]["mean"].as_f64().unwrap();
    assert!(mean(0, "ssim") > mean(1, "ssim") && mean(0, "ssim") > mean(2, "ssim"));
    assert!((mean(3, "ssim") - 1.0).abs() < 1e-12 && mean(3, "mse") == 0.0);
    assert_eq!(rows[3]["scores"]["psnr"]["mean"], "inf");
    let own = [clip(0, 0), clip(0, 5)];
    let want: f64 = (0..FRAMES)
        .map(|at| ssim(own[1].frame(at).unwrap(), own[0].frame(at).unwrap(), SIZE[0], SIZE[1]).unwrap())
        .sum::<f64>()
        / FRAMES as f64;
    let scores = folder.join("scores");
    let first: Value =
        serde_json::from_slice(&std::fs::read(scores.join("clips/0000.json")).unwrap()).unwrap();
    assert_eq!(first["clip"], "clip-0");
    assert!((first["scores"]["prediction"]["ssim"].as_f64().unwrap() - want).abs() < 1e-12);
    assert_eq!(std::fs::read_to_string(scores.join("scores.csv")).unwrap().lines().count(), 1 + 4 * 12);
    assert!(
        std::fs::read_to_string(scores.join("table.md"))
            .unwrap()
            .contains("| metric | chance | prediction |")
    );
    let page = std::fs::read_to_string(scores.join("report.html")).unwrap();
    assert!(page.contains("data:image/png;base64,") && !page.contains("http"), "nothing from outside");
    for sheet in ["best", "median", "worst", "all"] {
        assert!(png::read(scores.join(format!("{sheet}.png"))).is_ok(), "{sheet}");
    }
    assert_eq!(told["metrics"]["hue"]["chance"], 90.0);
    run("plot sheet truth pred noise --clips 3 --output sheet.png", folder);
    let (sheet, _) = png::read(folder.join("sheet.png")).unwrap();
    assert_eq!((sheet.height, sheet.width), (9 * (SIZE[0] + 2) + 2, FRAMES * (SIZE[1] + 2) + 2));
    // Again gives the same bytes, and nothing is overwritten unasked.
    let (text, code) = refused("eval video --pred pred --truth truth --output scores", folder);
    assert!(text.contains("--force") && code == 5, "{text}");
    let words = "eval video --pred pred --truth truth --metrics ssim,mse,psnr,hue --control noise=noise --resamples 200";
    let again = run(words, folder);
    assert_eq!(again["rows"], told["rows"]);
}

#[test]
fn planted_mistakes_end_in_one_line() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    write_clips(&folder.join("truth"), (0..3).map(|at| clip(at, at)));
    write_clips(&folder.join("pred"), (0..3).map(|at| clip(at, at)));
    write_clips(&folder.join("fewer"), (0..2).map(|at| clip(at, at)));
    let small = Frames::new(FRAMES, 8, 10, vec![9; FRAMES * 8 * 10 * 3], 3.0).unwrap();
    write_clips(&folder.join("small"), vec![small; 3]);
    let tiny = Frames::new(FRAMES, 6, 10, vec![9; FRAMES * 6 * 10 * 3], 3.0).unwrap();
    write_clips(&folder.join("tiny"), vec![tiny]);
    write_clips(&folder.join("one"), [clip(0, 0)]);
    write_clips(&folder.join("broken"), (0..2).map(|at| clip(at, at)));
    gif::write(folder.join("broken/clip-2.gif"), &clip(2, 2), "").unwrap();
    let whole = std::fs::read(folder.join("broken/clip-2.gif")).unwrap();
    std::fs::write(folder.join("broken/clip-2.gif"), &whole[..whole.len() / 2]).unwrap();
    std::fs::create_dir(folder.join("bert")).unwrap();
    std::fs::write(folder.join("bert/config.json"), r#"{"architectures": ["BertModel"]}"#).unwrap();
    std::fs::create_dir(folder.join("vit")).unwrap();
    std::fs::write(folder.join("vit/config.json"), r#"{"architectures": ["ViTForImageClassification"]}"#)
        .unwrap();
    for (words, wanted, code) in [
        ("--pred nowhere --truth truth", "nowhere: cannot be read", 3),
        ("--pred pred --truth fewer", "pred: holds 3 clips, fewer holds 2", 3),
        ("--pred small --truth truth", "--resize brings them to the truth's size", 3),
        ("--pred pred --truth truth --metrics ssmi", "did you mean 'ssim'?", 2),
        ("--pred broken --truth truth", "clip-2.gif: is no whole gif", 3),
        ("--pred pred --truth truth --classifier bert", "'BertModel'", 3),
        ("--pred pred --truth truth --video-classifier vit", "wanted a VideoMAEForVideoClassification", 2),
        ("--pred pred --truth truth --classifier vit", "vit: ", 3),
        ("--pred pred --truth truth --classifier nowhere", "nowhere/config.json", 3),
        ("--pred pred --truth truth --metrics topk-image", "ViTForImageClassification", 2),
        ("--pred pred --truth truth --control noise", "NAME=DIR", 2),
        ("--pred pred --truth truth --control truth=pred", "'truth' is the name of another row", 2),
        ("--pred tiny --truth tiny", "clip-0: frames are 10 x 6, ssim wants 7 x 7 or more", 3),
        ("--pred pred --truth truth --baselines shufled", "did you mean 'shuffled'?", 2),
        ("--pred pred --truth truth --baselines mean", "--train", 2),
        ("--pred pred --truth truth --rank-by sim", "did you mean 'ssim'?", 2),
        ("--pred pred --truth truth --baselines none,truth", "'none' stands alone", 2),
        ("--pred pred --truth truth --test-block 1", "--test-block: is of a data set: truth is none", 2),
        ("--pred pred --truth truth --labels nowhere.npy", "nowhere.npy: cannot be read", 3),
        ("--pred one --truth one --baselines shuffled", "holds one clip", 3),
    ] {
        let (text, got) = refused(&format!("eval video {words}"), folder);
        assert!(text.contains(wanted) && got == code, "{words}: {text} ({got})");
    }
    run("eval video --pred small --truth truth --resize --resamples 10", folder);
}

/// Clips too wide for a sheet, and of several sizes, are on it all the same.
#[test]
fn sheets_hold_long_clips_and_several_sizes() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let grey =
        |height, width| Frames::new(48, height, width, vec![9; 48 * height * width * 3], 24.0).unwrap();
    write_clips(&folder.join("truth"), [grey(8, 200), grey(8, 100)]);
    run("eval video --pred truth --truth truth --metrics mse,mse --resamples 10 --output scores", folder);
    for sheet in ["best", "median", "worst", "all"] {
        let (sheet, _) = png::read(folder.join(format!("scores/{sheet}.png"))).unwrap();
        assert_eq!((sheet.height, sheet.width), (4 * 10 + 2, 40 * 202 + 2));
    }
    let csv = std::fs::read_to_string(folder.join("scores/scores.csv")).unwrap();
    assert!(csv.starts_with("row,clip,mse\n"), "{csv}");
}

/// A judge learns on a small data set, and scores clips of the block it has not seen.
#[test]
fn a_clip_classifier_learns_and_judges() {
    if gpu().is_none() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    data_set(&folder.join("sim"));
    let train = "train clip-classifier --data sim --steps 6 --batch-size 8 --channels 8 --validation-steps 0";
    let told = run(&format!("{train} --output judge"), folder);
    assert!((told["n_clips"] == 80) && told["chance"] == 0.025, "{told}");
    // Stopped and gone on with, it is the same to the bit.
    let (text, code) = refused(&format!("{train} --output again --stop-after 3"), folder);
    assert!(code == 130 && text.contains("--resume"), "{text}");
    run(&format!("{train} --output again --resume"), folder);
    let weights = |name: &str| std::fs::read(folder.join(name).join("model/model.safetensors")).unwrap();
    assert!(weights("judge") == weights("again"));
    let (text, _) = refused(&format!("{train} --output other --test-block 2"), folder);
    assert!(text.contains("blocks 0 to 1"), "{text}");
    // The block it has not seen, from the data set; decoded: the same clips in another order.
    let class = |slot: usize| (slot * 7 + 3) % 40;
    write_clips(&folder.join("pred"), (0..80).map(|at| clip(class(at / 2), at)));
    let told = run(
        "eval video --pred pred --truth sim --train sim --classifier judge/model --metrics class,ssim \
         --output scores --resamples 50",
        folder,
    );
    let names: Vec<&str> =
        told["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["prediction", "shuffled pairs", "mean clip", "class-mean clip", "truth"]);
    assert_eq!(told["metrics"]["class-top1"]["chance"], 0.025);
    assert_eq!(told["metrics"]["class-top5"]["chance"], 0.125);
    // One clip for all is right for one class of 40.
    let share = told["rows"][2]["scores"]["class-top1"]["mean"].as_f64().unwrap();
    assert!((share - 0.025).abs() < 1e-12, "{share}");
    assert!(folder.join("scores/confusion.png").is_file());
    // In the order of classes the truth and its classes move together.
    let words =
        "eval video --pred pred --truth sim --train sim --metrics ssim --resamples 50 --baselines class-mean";
    let [told, ordered] =
        [words.to_string(), format!("{words} --class-order")].map(|words| run(&words, folder));
    let mean = |told: &Value, row: usize| told["rows"][row]["scores"]["ssim"]["mean"].as_f64().unwrap();
    assert!((mean(&told, 1) - mean(&ordered, 1)).abs() < 1e-9, "the mean clip of a class beside its clips");
    assert!((mean(&told, 0) - mean(&ordered, 0)).abs() > 1e-3, "other pairs");
    let (text, _) =
        refused("eval video --pred pred --truth pred --classifier judge/model --metrics class", folder);
    assert!(text.contains("--labels"), "{text}");
}

/// ViT, VideoMAE and CLIP look at clips; sizes are those of the tiny configurations.
#[test]
fn large_judges_look_at_clips() {
    if gpu().is_none() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    write_clips(&folder.join("truth"), (0..3).map(|at| clip(at, at)));
    write_clips(&folder.join("pred"), (0..3).map(|at| clip(at + 1, at + 5)));
    for name in ["vit-base-patch16-224-tiny", "videomae-base-tiny", "clip-vit-base-patch32-tiny"] {
        mindreel(&format!("init {name} --output {name}"), folder).assert().success();
    }
    let told = run(
        "eval video --pred pred --truth truth --metrics topk-image,topk-video,clip,clip-pcc --ways 2,3 \
         --classifier vit-base-patch16-224-tiny --classifier videomae-base-tiny --clip clip-vit-base-patch32-tiny \
         --reproduce-original --trials 20 --resamples 20",
        folder,
    );
    let metrics = told["metrics"].as_object().unwrap();
    let chance = |key: &str| metrics[key]["chance"].as_f64().unwrap();
    assert_eq!((chance("image-2way-top1"), chance("image-2way-top1-original")), (0.5, 0.75));
    assert!((chance("video-3way-top1-original") - 0.6).abs() < 1e-12);
    let rows = told["rows"].as_array().unwrap();
    let truth = &rows[rows.len() - 1]["scores"];
    for key in ["image-2way-top1", "video-3way-top1", "clip-3way", "clip-cosine"] {
        assert!((truth[key]["mean"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{key}: {truth}");
    }
    let (text, _) = refused(
        "eval video --pred pred --truth truth --classifier vit-base-patch16-224-tiny --ways 4000",
        folder,
    );
    assert!(text.contains("--ways") && text.contains("4000-way"), "{text}");
}

#[test]
fn classes_are_scored() {
    let place = tempfile::tempdir().unwrap();
    let folder: PathBuf = place.path().into();
    let truth: Vec<f64> = (0..60).map(|at| f64::from(at % 6)).collect();
    npy::write(folder.join("labels.npy"), &[60], &truth).unwrap();
    // Two of three are right; of the others the truth is second.
    let scores: Vec<f32> = (0..60_usize)
        .flat_map(|at| {
            (0..6_usize).map(move |class| match (class == at % 6, at % 3 == 0) {
                (true, false) => 3.0,
                (true, true) => 2.0,
                (false, true) if class == (at + 1) % 6 => 2.5,
                _ => 0.1 * class as f32,
            })
        })
        .collect();
    npy::write(folder.join("scores.npy"), &[60, 6], &scores).unwrap();
    let told = run(
        "eval classify --predictions scores.npy --labels labels.npy --output out --permutations 500",
        &folder,
    );
    let result = &told["results"][0];
    assert!((result["top1"]["mean"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(result["top5"]["mean"], 1.0);
    assert!((result["top5_chance"].as_f64().unwrap() - 5.0 / 6.0).abs() < 1e-12);
    assert_eq!((&result["n_classes"], &result["confusion"][0][1]), (&6.into(), &10.into()));
    assert!(result["p_value"].as_f64().unwrap() < 0.01);
    for file in
        ["eval.json", "table.md", "classes-scores.csv", "predictions-scores.csv", "confusion-scores.png"]
    {
        assert!(folder.join("out").join(file).is_file(), "{file}");
    }
    let classes: Vec<f64> = (0..60).map(|at| f64::from(at / 10 % 6)).collect();
    npy::write(folder.join("classes.npy"), &[60], &classes).unwrap();
    let told = run("eval classify --predictions classes.npy --labels labels.npy --permutations 200", &folder);
    assert!(told["results"][0]["p_value"].as_f64().unwrap() > 0.05);
    npy::write(folder.join("few.npy"), &[2], &[0.0, 1.0]).unwrap();
    let (text, _) = refused("eval classify --predictions few.npy --labels labels.npy", &folder);
    assert!(text.contains("few.npy: holds 2 predictions, labels.npy 60 labels"), "{text}");
    npy::write(folder.join("odd.npy"), &[1, 10, 6], &[0.0_f32; 60]).unwrap();
    let both = "--predictions classes.npy --labels labels.npy";
    for (words, wanted, code) in [
        ("--runs nowhere", "nowhere", 3),
        ("", "--predictions: is missing; give it and --labels, or --runs", 2),
        (
            "--predictions odd.npy --labels labels.npy",
            "odd.npy: is [1, 10, 6], wanted classes [n] or scores",
            3,
        ),
        (
            &format!("{both} --classes 5"),
            "--classes: wanted 6 (by labels.npy and classes.npy) to 10000, got 5",
            2,
        ),
        (
            "--predictions scores.npy --labels labels.npy --classes 40",
            "--classes: scores.npy holds scores of 6 classes, got 40",
            2,
        ),
        (&format!("{both} --permutations 0"), "--permutations: wanted 1 to 1000000, got 0", 2),
    ] {
        let (text, got) = refused(&format!("eval classify {words}"), &folder);
        assert!(text.contains(wanted) && got == code, "{words}: {text} ({got})");
    }
}
