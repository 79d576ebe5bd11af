//! Another reference: from every channel the mean of some is taken off, sample by sample.
//!
//! The same as MNE's `set_eeg_reference("average")`, or `(["T7", "T8"])`, without a projector: a channel that is the
//! only reference becomes zero.

use super::Real;
use crate::error::{Error, Result};

/// `data` `[…, channels, samples]`, in place; `reference` holds channel indices.
///
/// Errors: [`Error::Setting`] when no channel is named, one twice, or one that is not there; [`Error::Shape`] when
/// `data` is not whole stretches.
pub fn rereference<T: Real>(
    data: &mut [T],
    n_channels: usize,
    n_samples: usize,
    reference: &[usize],
) -> Result<()> {
    let size = n_channels.saturating_mul(n_samples);
    if size == 0 || !data.len().is_multiple_of(size) {
        let detail = format!("{} values are not [..., {n_channels}, {n_samples}]", data.len());
        return Err(Error::shape("reference", detail));
    }
    let mut sorted = reference.to_vec();
    sorted.sort_unstable();
    if sorted.is_empty() || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::setting("reference", "wanted one channel or more, each once"));
    }
    if let Some(beyond) = sorted.into_iter().find(|&idx| idx >= n_channels) {
        let detail = format!("channel {beyond} is beyond the last, {}", n_channels - 1);
        return Err(Error::setting("reference", detail));
    }
    let mut mean = vec![0.0; n_samples];
    for stretch in data.chunks_exact_mut(size) {
        mean.fill(0.0);
        for &idx in reference {
            let channel = &stretch[idx * n_samples..][..n_samples];
            mean.iter_mut().zip(channel).for_each(|(sum, &v)| *sum += v.into());
        }
        mean.iter_mut().for_each(|sum| *sum /= reference.len() as f64);
        for channel in stretch.chunks_exact_mut(n_samples) {
            channel.iter_mut().zip(&mean).for_each(|(v, mean)| *v = T::from_f64((*v).into() - mean));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_taken_off() {
        // [2, 3, 2]
        let x = [1.0, 2.0, 4.0, 6.0, 7.0, 1.0, 0.0, 0.0, 3.0, 3.0, 6.0, 0.0];
        let mut average = x;
        rereference(&mut average, 3, 2, &[0, 1, 2]).unwrap();
        assert_eq!(average, [-3.0, -1.0, 0.0, 3.0, 3.0, -2.0, -3.0, -1.0, 0.0, 2.0, 3.0, -1.0]);
        let mut one = x;
        rereference(&mut one, 3, 2, &[1]).unwrap();
        assert_eq!(one, [-3.0, -4.0, 0.0, 0.0, 3.0, -5.0, -3.0, -3.0, 0.0, 0.0, 3.0, -3.0]);
    }

    #[test]
    fn impossible_references_are_refused() {
        let mut x = [0.0f32; 12];
        for wrong in [&[][..], &[0, 0], &[3]] {
            assert_eq!(rereference(&mut x, 3, 2, wrong).unwrap_err().exit_code(), 2);
        }
        assert!(rereference(&mut x, 5, 2, &[0]).is_err() && rereference(&mut x, 0, 2, &[0]).is_err());
    }
}
