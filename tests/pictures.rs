//! Pictures read and resized, against Pillow: tests/golden/pictures.py made the fixtures.

#[path = "common/fixture.rs"]
mod fixture;

use fixture::Golden;
use mindreel::media::picture;
use mindreel::media::resize::{self, Filter};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures")
}

fn bytes(golden: &Golden, name: &str) -> Vec<u8> {
    golden.values(name).into_iter().map(|value| value as u8).collect()
}

/// Decoders round their transforms each in their own way.
#[test]
fn pictures_are_read_as_pillow_reads_them() {
    let golden = Golden::open("pictures");
    for (name, most, mean) in
        [("colour.jpg", 6, 0.5), ("progressive.jpg", 3, 0.4), ("grey.jpg", 2, 0.2), ("noise.png", 0, 0.0)]
    {
        let frames = picture::read(folder().join(name)).unwrap();
        let key = format!("out.{}", name.split('.').next().unwrap());
        assert_eq!([frames.height, frames.width, 3].to_vec(), golden.shape(&key), "{name}");
        let off: Vec<u8> =
            frames.rgb.iter().zip(bytes(&golden, &key)).map(|(&got, want)| got.abs_diff(want)).collect();
        let largest = off.iter().max().unwrap();
        let average = off.iter().map(|&v| f64::from(v)).sum::<f64>() / off.len() as f64;
        assert!(*largest <= most && average <= mean, "{name}: {largest}, {average} on average");
    }
}

#[test]
fn bicubic_is_pillows_to_the_byte() {
    let golden = Golden::open("pictures");
    let source = picture::read(folder().join("noise.png")).unwrap();
    for (height, width) in [(14, 14), (40, 40), (23, 9), (50, 31), (1, 3), (23, 31)] {
        let got =
            resize::pillow(&source.rgb, [source.height, source.width], [height, width], Filter::Bicubic);
        let want = bytes(&golden, &format!("out.noise_{height}_{width}"));
        let wrong = got.iter().zip(&want).filter(|(a, b)| a != b).count();
        assert_eq!((got.len(), wrong), (want.len(), 0), "{height} x {width}");
    }
}
