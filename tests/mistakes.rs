//! Planted mistakes: each ends in one clear line and the right exit code, none in a panic.
#![cfg(feature = "cli")]

mod common;

use mindreel::weights::{self, Checkpoint, NewTensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const SETTING: i32 = 2;
const INPUT: i32 = 3;
const GPU: i32 = 4;
const DISK: i32 = 5;

/// A folder with a small checkpoint and a good recording.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let world = World { folder };
        let init = world.mindreel(&["init", "tiny", "--output", "MODEL", "--seed", "1"]);
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        world.write_eeg("eeg.npy", &[62, 800], |channel, sample| {
            10e-6 * ((channel + 1) as f32 * 0.37 + sample as f32 * 0.31).sin()
        });
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the binary; words in capitals and file names of this world are paths.
    fn mindreel(&self, args: &[&str]) -> std::process::Output {
        let args = args.iter().map(|arg| match *arg {
            "MODEL" => self.path("model").into_os_string(),
            "OUT" => self.path("out").into_os_string(),
            other if other.contains('.') && !other.starts_with('-') && other.parse::<f64>().is_err() => {
                self.path(other).into_os_string()
            }
            other => other.into(),
        });
        Command::new(env!("CARGO_BIN_EXE_mindreel"))
            .args(args)
            .env_remove("XDG_RUNTIME_DIR")
            .output()
            .unwrap()
    }

    /// The mistake is refused with this code, in one line that says all of these.
    fn refused(&self, args: &[&str], code: i32, said: &[&str]) {
        let run = self.mindreel(&[&["--quiet"], args].concat());
        let stderr = String::from_utf8_lossy(&run.stderr);
        let what = format!("{args:?}: {stderr}");
        assert_eq!(run.status.code(), Some(code), "{what}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "one line: {what}");
        assert!(stderr.starts_with("mindreel: "), "{what}");
        assert!(!stderr.contains("panicked") && !stderr.contains("internal error"), "{what}");
        for words in said {
            assert!(stderr.contains(words), "'{words}' is not said: {what}");
        }
    }

    fn video(&self, more: &[&str], code: i32, said: &[&str]) {
        let usual = ["video", "--model", "MODEL", "--output", "OUT", "--num-inference-steps", "2"];
        let eeg = if more.contains(&"--eeg") { vec![] } else { vec!["--eeg", "eeg.npy"] };
        self.refused(&[&usual, eeg.as_slice(), more].concat(), code, said);
    }

    fn write_eeg(&self, name: &str, shape: &[usize], value: impl Fn(usize, usize) -> f32) {
        let samples = shape[shape.len() - 1];
        let count: usize = shape.iter().product();
        let data: Vec<f32> = (0..count).map(|at| value(at / samples, at % samples)).collect();
        mindreel::signal::npy::write(self.path(name), shape, &data).unwrap();
    }

    /// Rewrites a part's weights; `change` returns the new name, shape and values of each tensor, or nothing.
    fn rewrite(
        &self,
        file: &str,
        change: impl Fn(&str, &[usize], Vec<f32>) -> Option<(Vec<usize>, Vec<f32>)>,
    ) {
        let path = self.path(file);
        let tensors: Vec<_> = {
            let checkpoint = Checkpoint::open(&path).unwrap();
            let changed = checkpoint.views().filter_map(|view| {
                let values = weights::to_f32(&view).unwrap();
                change(view.name, view.shape, values)
                    .map(|(shape, values)| (view.name.to_string(), shape, values))
            });
            changed.collect()
        };
        let tensors = tensors.iter().map(|(name, shape, values)| {
            NewTensor::streamed(name.as_str(), weights::Dtype::F32, shape.as_slice(), |sink| {
                sink.put_f32(values)
            })
        });
        weights::write(&path, tensors.collect(), &BTreeMap::new()).unwrap();
    }
}

const UNET: &str = "model/unet/diffusion_pytorch_model.safetensors";

fn kept(shape: &[usize], values: Vec<f32>) -> Option<(Vec<usize>, Vec<f32>)> {
    Some((shape.to_vec(), values))
}

#[test]
fn recordings() {
    let world = World::new();
    let video = |more: &[&str], said: &[&str]| world.video(more, INPUT, said);
    video(&["--rate", "250"], &["250", "200"]);
    world.write_eeg("61.npy", &[61, 800], |_, sample| 1e-5 * (sample as f32).sin());
    video(&["--eeg", "61.npy"], &["61", "62"]);
    world.write_eeg("nan.npy", &[62, 800], |channel, sample| {
        if (channel, sample) == (3, 77) { f32::NAN } else { 1e-5 * (sample as f32).sin() }
    });
    video(&["--eeg", "nan.npy"], &["nan.npy"]);
    world.write_eeg("short.npy", &[62, 100], |_, sample| 1e-5 * (sample as f32).sin());
    video(&["--eeg", "short.npy"], &["short.npy"]);
    world.write_eeg("uv.npy", &[62, 800], |_, sample| 20.0 * (sample as f32).sin());
    video(&["--eeg", "uv.npy"], &["--units uV"]);
    std::fs::write(world.path("empty.npy"), b"").unwrap();
    video(&["--eeg", "empty.npy"], &["empty.npy"]);
    std::fs::write(world.path("text.npy"), b"channel,sample\n1,2\n").unwrap();
    video(&["--eeg", "text.npy"], &["text.npy"]);
    let mut cut = std::fs::read(world.path("eeg.npy")).unwrap();
    cut.truncate(cut.len() - 1000);
    std::fs::write(world.path("cut.npy"), cut).unwrap();
    video(&["--eeg", "cut.npy"], &["cut.npy"]);
    video(&["--eeg", "absent.npy"], &["absent.npy"]);
}

#[test]
fn settings() {
    let world = World::new();
    let video = |more: &[&str], said: &[&str]| world.video(more, SETTING, said);
    video(&["--height", "100"], &["--height", "multiple of 8", "100", "104"]);
    video(&["--num-frames", "0"], &["--num-frames"]);
    video(&["--num-frames", "4"], &["--num-frames"]);
    video(&["--scheduler", "ddmi"], &["ddim"]);
    video(&["--eta", "2"], &["--eta"]);
    video(&["--guidance-scale", "NaN"], &["--guidance-scale"]);
    video(&["--clips", "7"], &["--clips"]);
    video(&["--units", "mV"], &["--units"]);
    video(&["--vae-tile", "2"], &["tile"]);
    std::fs::write(world.path("run.toml"), "num_inference_step = 3\n").unwrap();
    video(&["--config", "run.toml"], &["num-inference-steps"]);
    let zero =
        ["video", "--model", "MODEL", "--output", "OUT", "--eeg", "eeg.npy", "--num-inference-steps", "0"];
    world.refused(&zero, SETTING, &["--num-inference-steps"]);
}

#[test]
fn checkpoints() {
    let plant = |change: &dyn Fn(&World), said: &[&str]| {
        let world = World::new();
        change(&world);
        world.video(&[], INPUT, said);
    };
    let name = "mid_block.attentions.0.proj_in.weight";
    let drop_one = |world: &World| {
        world.rewrite(UNET, |n, shape, values| (n != name).then(|| kept(shape, values)).flatten());
    };
    plant(&drop_one, &[name, "missing"]);
    let transpose = |world: &World| {
        world.rewrite("model/semantic/model.safetensors", |n, shape, values| match n {
            "mlp.0.weight" => kept(&[shape[1], shape[0]], values),
            _ => kept(shape, values),
        });
    };
    plant(&transpose, &["mlp.0.weight"]);
    let poison = |world: &World| {
        world.rewrite(UNET, |n, shape, mut values| {
            if n == name {
                values[5] = f32::NAN;
            }
            kept(shape, values)
        });
    };
    plant(&poison, &[name]);
    let cut = |world: &World| {
        let bytes = std::fs::read(world.path(UNET)).unwrap();
        std::fs::write(world.path(UNET), &bytes[..bytes.len() / 2]).unwrap();
    };
    plant(&cut, &["diffusion_pytorch_model.safetensors"]);
    let huge = |world: &World| {
        let mut bytes = std::fs::read(world.path(UNET)).unwrap();
        bytes[..8].copy_from_slice(&(1_u64 << 60).to_le_bytes());
        std::fs::write(world.path(UNET), bytes).unwrap();
    };
    plant(&huge, &["diffusion_pytorch_model.safetensors"]);
    let pickle = |world: &World| {
        std::fs::remove_file(world.path(UNET)).unwrap();
        std::fs::write(world.path("model/unet/diffusion_pytorch_model.bin"), b"\x80\x02").unwrap();
    };
    plant(&pickle, &["pickle"]);
    let json = |world: &World| std::fs::write(world.path("model/unet/config.json"), "{\"a\": ").unwrap();
    plant(&json, &["config.json", "JSON"]);
    let unknown = |world: &World| {
        std::fs::write(world.path("model/unet/config.json"), "{\"_class_name\": \"UNet9D\"}").unwrap();
    };
    plant(&unknown, &["UNet9D"]);
    let gone = |world: &World| std::fs::remove_dir_all(world.path("model/vae")).unwrap();
    plant(&gone, &["vae"]);
    let scaler = |world: &World| {
        world.rewrite("model/scaler.safetensors", |_, _, values| {
            kept(&[values.len() - 1], values[1..].to_vec())
        });
    };
    plant(&scaler, &["scaler.safetensors"]);
}

#[test]
fn machine_and_disk() {
    let world = World::new();
    world.video(&["--adapter", "no such card"], GPU, &["no such card"]);
    let run = Command::new(env!("CARGO_BIN_EXE_mindreel"))
        .args(["--quiet", "video", "--num-inference-steps", "2", "--eeg"])
        .args([
            world.path("eeg.npy"),
            "--model".into(),
            world.path("model"),
            "--output".into(),
            world.path("out"),
        ])
        .env("VK_ICD_FILENAMES", "absent.json")
        .env("VK_DRIVER_FILES", "absent.json")
        .output()
        .unwrap();
    if cfg!(target_os = "linux") {
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(GPU), "{stderr}");
        assert!(stderr.contains("no adapter found") && stderr.contains("mesa-vulkan-drivers"), "{stderr}");
    }
    if common::gpu().is_some() {
        world.video(&["--max-memory", "0.001"], GPU, &["memory"]);
    }
    std::fs::write(world.path("a.file"), b"").unwrap();
    let below = ["video", "--model", "MODEL", "--eeg", "eeg.npy", "--output", "a.file/clips"];
    world.refused(&below, DISK, &["a.file"]);
    std::fs::create_dir_all(world.path("out")).unwrap();
    std::fs::write(world.path("out").join("clip-0001.gif"), b"mine").unwrap();
    world.video(&[], DISK, &["clip-0001.gif", "--force"]);
    assert_eq!(std::fs::read(world.path("out").join("clip-0001.gif")).unwrap(), b"mine");
}

#[test]
fn forward() {
    let world = World::new();
    let inputs = |tensors: &[(&str, &[usize])]| {
        let values = vec![0.5; 1 << 16];
        let tensors = tensors.iter().map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let values = values[..count].to_vec();
            NewTensor::streamed(*name, weights::Dtype::F32, *shape, move |sink| sink.put_f32(&values))
        });
        let path: &Path = &world.path("in.safetensors");
        weights::write(path, tensors.collect(), &BTreeMap::new()).unwrap();
    };
    let forward = |part: &str, said: &[&str]| {
        let model = format!("model/{part}/.");
        world.refused(
            &["forward", "--model", &model, "--input", "in.safetensors", "--output", "result.safetensors"],
            INPUT,
            said,
        );
    };
    if common::gpu().is_none() {
        return;
    }
    inputs(&[("sample", &[1, 4, 2, 8, 8])]);
    forward("unet", &["timestep", "missing"]);
    inputs(&[("eeg", &[2, 311])]);
    forward("semantic", &["310", "311"]);
    inputs(&[("eeg", &[2, 310]), ("egg", &[1])]);
    forward("semantic", &["egg"]);
    inputs(&[("latents", &[1, 3, 8, 8])]);
    forward("vae", &["latents"]);
    assert!(!world.path("result.safetensors").exists());
}
