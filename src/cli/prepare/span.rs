//! A stretch of time as people write it: `500ms`, `0.5s`, or `100` samples.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Time, or samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Span {
    /// Seconds.
    Seconds(f64),
    /// Samples.
    Samples(usize),
}

impl Span {
    /// In samples at this rate.
    ///
    /// Errors: [`Error::Setting`] naming `flag` when it is no whole number of samples.
    pub(super) fn samples(self, flag: &str, rate: f64) -> Result<usize> {
        let seconds = match self {
            Span::Samples(n) => return Ok(n),
            Span::Seconds(seconds) => seconds,
        };
        let n = (seconds * rate).round();
        if !(rate.is_finite() && rate > 0.0) {
            return Err(Error::setting("--sample-rate", format!("{rate} Hz is no sample rate")));
        }
        if (seconds * rate - n).abs() > 1e-6 * n.max(1.0) || !(0.0..1e12).contains(&n) {
            let detail =
                format!("{self} at {rate} Hz is {:.6} samples, wanted a whole number", seconds * rate);
            return Err(Error::setting(flag, detail));
        }
        Ok(n as usize)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let text = text.trim();
        let seconds = |number: &str, scale: f64| {
            let value: f64 = number.trim().parse().map_err(|_| format!("\"{number}\" is no number"))?;
            if value.is_finite() && value >= 0.0 {
                Ok(Span::Seconds(value * scale))
            } else {
                Err("wanted 0 or more".to_string())
            }
        };
        match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(number), _) => seconds(number, 1e-3),
            (None, Some(number)) => seconds(number, 1.0),
            _ => text
                .parse()
                .map(Span::Samples)
                .map_err(|_| "wanted time, such as 500ms or 0.5s, or a whole number of samples".to_string()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Seconds(seconds) => write!(f, "{seconds}s"),
            Span::Samples(n) => write!(f, "{n} samples"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_time_or_samples() {
        let samples = |text: &str| text.parse::<Span>().unwrap().samples("--size", 200.0);
        assert_eq!(samples("500ms").unwrap(), 100);
        assert_eq!(samples("0.5s").unwrap(), 100);
        assert_eq!(samples("2 s").unwrap(), 400);
        assert_eq!(samples("100").unwrap(), 100);
        assert_eq!(samples("0").unwrap(), 0);
        let error = samples("333ms").unwrap_err();
        assert!(error.to_string().contains("66.600000 samples") && error.exit_code() == 2, "{error}");
        for wrong in ["0.5", "-1", "-1s", "s", "ms", "1h", "nans", "infs", ""] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        assert!(Span::Seconds(1.0).samples("--size", f64::NAN).is_err());
    }
}
