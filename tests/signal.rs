//! Filters, resampling, references and spectrograms against SciPy's, MNE's and PyTorch's numbers.

use mindreel::signal::channel_stats::{ChannelStats, Divisor, Moments, SIDE};
use mindreel::signal::filter::{Filter, Pass};
use mindreel::signal::spectrogram::{Recipe, Spectrograms, spectrograms};
use mindreel::signal::{Stack, Units, interpolate};
use mindreel::signal::{reference::rereference, resample::resample_poly};
use mindreel::weights::{Checkpoint, Dtype};
use std::path::Path;

/// What the fixture holds under a name, in f64.
fn values(file: &Checkpoint, name: &str) -> Vec<f64> {
    let view = file.get(name).unwrap();
    assert_eq!(view.dtype, Dtype::F64);
    view.bytes.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn worst(got: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    got.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn numbers_are_scipys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/filters.safetensors");
    let file = Checkpoint::open(path).unwrap();
    let rate: f64 = file.metadata()["rate"].parse().unwrap();
    let x = values(&file, "x");
    let (n_channels, n_samples) = (3, x.len() / 3);
    let mut n_checked = 0;
    let names: Vec<String> = file.names().filter(|name| *name != "x").map(str::to_string).collect();
    for name in names {
        let wanted = values(&file, &name);
        let (kind, rest) = name.split_once(' ').unwrap();
        let numbers: Vec<f64> = rest.split(' ').map(|number| number.parse().unwrap()).collect();
        let mut got = x.clone();
        let mut single: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        if kind == "reference" {
            let channels: Vec<usize> = numbers.iter().map(|&idx| idx as usize).collect();
            rereference(&mut got, n_channels, n_samples, &channels).unwrap();
            rereference(&mut single, n_channels, n_samples, &channels).unwrap();
        } else if kind == "resample" {
            let (up, down) = (numbers[0] as usize, numbers[1] as usize);
            got = resample_poly(&got, n_samples, up, down).unwrap();
            single = resample_poly(&single, n_samples, up, down).unwrap();
        } else {
            let filter = match (kind, &numbers[..]) {
                ("notch", &[hz, q]) => Filter::notch(hz, q, rate),
                ("butter", &[order, low, high]) => {
                    let pass = match (low, high) {
                        (0.0, high) => Pass::Low(high),
                        (low, 0.0) => Pass::High(low),
                        (low, high) => Pass::Band(low, high),
                    };
                    Filter::butterworth(order as usize, pass, rate)
                }
                other => panic!("{name}: {other:?}"),
            };
            let filter = filter.unwrap();
            filter.filtfilt(&mut got, n_samples).unwrap();
            filter.filtfilt(&mut single, n_samples).unwrap();
        }
        let error = worst(&got, &wanted);
        assert!(error < 1e-9, "{name}: {error:.1e}");
        let single: Vec<f64> = single.into_iter().map(f64::from).collect();
        // Samples reach 50.
        assert!(worst(&single, &wanted) < 2e-5, "{name}, f32 in and out: {:.1e}", worst(&single, &wanted));
        eprintln!("{name}: {error:.1e}");
        n_checked += 1;
    }
    assert_eq!(n_checked, 19);
}

fn golden_spectrograms() -> Checkpoint {
    Checkpoint::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/spectrogram.safetensors"))
        .unwrap()
}

#[test]
fn spectrograms_are_scipys() {
    let file = golden_spectrograms();
    for name in ["eeg", "short", "long"] {
        let shape = file.get(name).unwrap().shape.to_vec();
        let (leading, n_samples) = (vec![shape[0]], shape[2]);
        let eeg = Stack { leading, n_channels: 2, n_samples, data: values(&file, name) };
        for (form, recipe) in [("original", Recipe::original()), ("corrected", Recipe::corrected())] {
            let made = spectrograms(&eeg, 512.0, Units::Microvolts, &recipe).unwrap();
            let name = format!("{form} {name}");
            assert_eq!(made.shape(), file.get(&name).unwrap().shape, "{name}");
            let got: Vec<f64> = made.data.into_iter().map(f64::from).collect();
            let error = worst(&got, &values(&file, &name));
            assert!(error < 5e-7, "{name}: {error:.1e}"); // f32 of numbers up to 4
            eprintln!("{name}: {error:.1e}");
        }
    }
}

#[test]
fn what_the_network_takes_is_pytorchs() {
    let file = golden_spectrograms();
    let whole: Vec<f32> = values(&file, "corrected eeg").into_iter().map(|v| v as f32).collect();
    let one = Spectrograms::new(&[2, 65, 4], whole[..520].to_vec()).unwrap();
    let some = |values: Vec<f32>, step| values.into_iter().step_by(step).map(f64::from).collect::<Vec<_>>();
    for (size, step) in [([224, 224], 37), ([70, 9], 1), ([20, 3], 1), ([7, 11], 1)] {
        let got = some(interpolate::resize(&one.data, [65, 4], size).unwrap(), step);
        let error = worst(&got, &values(&file, &format!("resize {} {}", size[0], size[1])));
        assert!(error < 5e-7, "{size:?}: {error:.1e}");
    }
    let stats = ChannelStats::new(values(&file, "mean"), values(&file, "std")).unwrap();
    let mut moments = Moments::default();
    moments.add(&one).unwrap();
    let own = moments.stats().unwrap();
    assert!(worst(&own.mean, &stats.mean) < 1e-7 && worst(&own.std, &stats.std) < 1e-7, "{own:?}"); // of f32
    let mut inputs = Vec::new();
    let each = |input| {
        inputs.push(input);
        Ok(())
    };
    stats.inputs(&one, [SIDE; 2], Divisor::Original, each).unwrap();
    assert!(worst(&some(inputs.remove(0), 37), &values(&file, "input")) < 2e-6);
}
