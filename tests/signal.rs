//! Filters, resampling and references against SciPy's and MNE's numbers; features of a recording.

use mindreel::signal::filter::{Filter, Pass};
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
