//! z = (x − mean) / scale per feature, fitted on training rows.     [n, features] -> [n, features]
//!
//! The same as scikit-learn's `StandardScaler`: population standard deviation, and constant features are
//! divided by 1. Fit on the training set only and keep the two vectors beside the model.

use super::Real;
use crate::error::{Error, Result};

/// Mean and divisor of every feature.
#[derive(Clone, Debug, PartialEq)]
pub struct StandardScaler {
    /// `[features]`.
    pub mean: Vec<f64>,
    /// `[features]`; population standard deviation, 1 for a constant feature.
    pub scale: Vec<f64>,
}

impl StandardScaler {
    /// Fits on `rows` `[n, n_features]`.
    ///
    /// Errors: [`Error::Shape`] when `rows` is empty, not whole rows, or holds NaN or infinity.
    pub fn fit<T: Real>(rows: &[T], n_features: usize) -> Result<StandardScaler> {
        check(rows.len(), n_features)?;
        if let Some(at) = rows.iter().position(|&v| !v.into().is_finite()) {
            let detail =
                format!("row {}, feature {} is not a finite number", at / n_features, at % n_features);
            return Err(Error::shape("StandardScaler", detail));
        }
        let n = (rows.len() / n_features) as f64;
        let mut mean = vec![0.0; n_features];
        for row in rows.chunks_exact(n_features) {
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += v.into() / n);
        }
        let mut variance = vec![0.0; n_features];
        for row in rows.chunks_exact(n_features) {
            for ((sum, &v), m) in variance.iter_mut().zip(row).zip(&mean) {
                *sum += (v.into() - m).powi(2) / n;
            }
        }
        // Rounding leaves a trace of variance in a constant column; scikit-learn's bound for it.
        let is_constant = |variance: f64, mean: f64| {
            variance <= n * f64::EPSILON * variance + (n * mean * f64::EPSILON).powi(2)
        };
        let scale = variance.iter().zip(&mean).map(|(&v, &m)| if is_constant(v, m) { 1.0 } else { v.sqrt() });
        Ok(StandardScaler { scale: scale.collect(), mean })
    }

    /// `rows` `[n, features]` -> z-scores of the same shape.
    ///
    /// Errors: [`Error::Shape`] when `rows` is empty or not whole rows of as many features as were fitted.
    pub fn transform<T: Real>(&self, rows: &[T]) -> Result<Vec<T>> {
        let n_features = self.mean.len();
        check(rows.len(), n_features)?;
        if self.scale.len() != n_features {
            let detail = format!("{n_features} means and {} scales", self.scale.len());
            return Err(Error::shape("StandardScaler", detail));
        }
        let z = rows.iter().enumerate().map(|(i, &v)| {
            let feature = i % n_features;
            T::from_f64((v.into() - self.mean[feature]) / self.scale[feature])
        });
        Ok(z.collect())
    }
}

fn check(n_values: usize, n_features: usize) -> Result<()> {
    if n_features == 0 || n_values == 0 || !n_values.is_multiple_of(n_features) {
        let detail = format!("{n_values} values are not [n, {n_features} features]");
        return Err(Error::shape("StandardScaler", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_values() {
        // Column 0: 1, 3 (mean 2, population deviation 1). Column 1 is constant. Column 2: 0.1, 0.5.
        let rows = [1.0, 7.0, 0.1, 3.0, 7.0, 0.5];
        let scaler = StandardScaler::fit(&rows, 3).unwrap();
        assert_eq!(scaler.mean, [2.0, 7.0, 0.3]);
        assert_eq!(scaler.scale[..2], [1.0, 1.0]);
        assert!((scaler.scale[2] - 0.2).abs() < 1e-15);
        let z = scaler.transform(&rows).unwrap();
        assert_eq!(z[..2], [-1.0, 0.0]);
        let narrow: Vec<f32> = rows.iter().map(|&v| v as f32).collect();
        let z32 = StandardScaler::fit(&narrow, 3).unwrap().transform(&narrow).unwrap();
        assert!(z32.iter().zip(&z).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6));
    }

    #[test]
    fn a_constant_that_binary_cannot_write_stays_constant() {
        let scaler = StandardScaler::fit(&[0.1; 30], 1).unwrap();
        assert_eq!(scaler.scale, [1.0]);
        assert!(scaler.transform(&[0.1f64]).unwrap()[0].abs() < 1e-15);
    }

    #[test]
    fn misfits_are_refused() {
        assert!(StandardScaler::fit::<f32>(&[], 3).is_err());
        assert!(StandardScaler::fit(&[1.0f32; 4], 3).is_err());
        assert!(StandardScaler::fit(&[1.0f32; 4], 0).is_err());
        assert!(StandardScaler::fit(&[1.0, f64::NAN], 1).is_err());
        let scaler = StandardScaler { mean: vec![0.0; 2], scale: vec![1.0] };
        assert!(scaler.transform(&[1.0f32; 2]).is_err());
    }
}
