//! Noise in the place of EEG: what a decoder makes of a recording in which there is nothing to decode.

use super::Real;
use super::portable::Stream;
use crate::error::{Error, Result};

/// Every channel of every stretch of `data` `[…, channels, samples]` becomes white Gaussian noise of that channel's mean
/// and deviation, in place. The same seed gives the same bits on every machine.
///
/// Errors: [`Error::Shape`] when `data` is not whole channels.
pub fn replace<T: Real>(data: &mut [T], n_samples: usize, seed: u64) -> Result<()> {
    if n_samples == 0 || !data.len().is_multiple_of(n_samples) {
        return Err(Error::shape("noise", format!("{} values are not [..., {n_samples}]", data.len())));
    }
    for (channel, samples) in data.chunks_exact_mut(n_samples).enumerate() {
        let n = n_samples as f64;
        let mean = samples.iter().map(|&v| v.into()).sum::<f64>() / n;
        let deviation = (samples.iter().map(|&v| (v.into() - mean).powi(2)).sum::<f64>() / n).sqrt();
        let mut stream = Stream::under(seed, &[channel as u64]);
        samples.iter_mut().for_each(|v| *v = T::from_f64(mean + deviation * stream.normal()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_stay_and_nothing_else() {
        let wave = |at: usize| 3.0 + 2.0 * (at as f64 * 0.05).sin();
        let before: Vec<f64> = (0..40_000).map(|at| if at < 20_000 { wave(at) } else { -1.0 }).collect();
        let mut data = before.clone();
        replace(&mut data, 20_000, 7).unwrap();
        let mean = data[..20_000].iter().sum::<f64>() / 2e4;
        let variance = data[..20_000].iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2e4;
        assert!((mean - 3.0).abs() < 0.05 && (variance - 2.0).abs() < 0.1, "{mean} {variance}");
        assert!(data[20_000..].iter().all(|&v| v == -1.0), "a flat channel stays flat");
        let alike = data[..20_000].iter().zip(&before).map(|(a, b)| (a - 3.0) * (b - 3.0)).sum::<f64>() / 4e4;
        assert!(alike.abs() < 0.05, "{alike}");
        let mut again = before;
        replace(&mut again, 20_000, 7).unwrap();
        assert_eq!(again, data);
        assert!(replace(&mut again, 3, 0).is_err());
    }
}
