//! Arithmetic with the same bits on every machine: random numbers from a seed, and sine, logarithm and exponential from
//! sums and products, because those of a platform's mathematics library differ in the last place. Square roots need
//! nothing of the kind: IEEE 754 says them exactly.

/// SplitMix64 (Steele, Lea and Flood, 2014): the n-th number is a function of the seed and n alone.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    state: u64,
    spare: Option<f64>,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Stream {
    pub(super) fn new(seed: u64) -> Stream {
        Stream { state: seed, spare: None }
    }

    /// A stream of its own for every path of numbers under a seed, such as subject 3, block 5, noise.
    pub(super) fn under(seed: u64, path: &[u64]) -> Stream {
        let mix = |state: u64, &step: &u64| Stream::new(state ^ step.wrapping_mul(GOLDEN)).bits();
        Stream::new(path.iter().fold(Stream::new(seed).bits(), mix))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Strictly between 0 and 1.
    pub(super) fn uniform(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Between `low` and `high`.
    pub(super) fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A standard normal number, by Box and Muller.
    pub(super) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * ln(self.uniform())).sqrt();
        let (sin, cos) = sin_cos_turns(self.uniform());
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// Mean 0, variance 1, nearly normal and within 3.5: four uniform numbers of 16 bits added up. Many times faster
    /// than [`Stream::normal`], and what is summed over time comes out normal anyway.
    pub(super) fn noise(&mut self) -> f64 {
        let bits = self.bits();
        let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
        // Standard deviation of the sum: √(4 (2³² − 1) / 12).
        (sum as f64 - 131_070.0) / 37_837.227_242_631_25
    }
}

/// Sine and cosine of 2π·`turns`, by Taylor series around the nearest quarter turn.
pub(super) fn sin_cos_turns(turns: f64) -> (f64, f64) {
    let turns = turns - turns.floor();
    let quarter = (4.0 * turns + 0.5).floor();
    let x = (turns - 0.25 * quarter) * std::f64::consts::TAU;
    let square = x * x;
    // sin x = x (1 − x²/(2·3) (1 − x²/(4·5) (…))), and cos x alike.
    let series = |first: u32| {
        (0..9)
            .rev()
            .map(|i| f64::from(first + 2 * i))
            .fold(1.0, |sum, n| 1.0 - square / (n * (n + 1.0)) * sum)
    };
    let (sin, cos) = (x * series(2), series(1));
    match quarter as u32 % 4 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// Natural logarithm of a positive normal number, from 2 artanh((m − 1) / (m + 1)) of its mantissa.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let series = (0..12).rev().fold(0.0, |sum, i| sum * s * s + 1.0 / f64::from(2 * i + 1));
    2.0 * s * series + exponent as f64 * std::f64::consts::LN_2
}

/// eˣ for |x| up to 700: a Taylor series of x / 1024, squared ten times.
pub(super) fn exp(x: f64) -> f64 {
    let small = x / 1024.0;
    let series = (1..12).rev().fold(1.0, |sum, n| 1.0 + small / f64::from(n) * sum);
    (0..10).fold(series, |power, _| power * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_are_exact_enough() {
        for i in 1..10_000 {
            let u = f64::from(i) / 10_007.0;
            let (sin, cos) = sin_cos_turns(u);
            let angle = std::f64::consts::TAU * u;
            assert!((sin - angle.sin()).abs() < 1e-14 && (cos - angle.cos()).abs() < 1e-14);
            assert!((ln(u) - u.ln()).abs() < 1e-14 * u.ln().abs().max(1.0));
            let power = 20.0 * u - 10.0;
            assert!((exp(power) / power.exp() - 1.0).abs() < 1e-12);
        }
        assert!((sin_cos_turns(-0.25).0 + 1.0).abs() < 1e-15);
    }

    #[test]
    fn numbers_have_the_moments_they_claim_and_streams_differ() {
        let mut stream = Stream::under(1, &[2, 3]);
        assert_ne!(stream.clone().bits(), Stream::under(1, &[3, 2]).bits());
        assert_ne!(stream.clone().bits(), Stream::under(2, &[2, 3]).bits());
        for draw in [Stream::normal, Stream::noise] {
            let values: Vec<f64> = (0..100_000).map(|_| draw(&mut stream)).collect();
            let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / 1e5;
            assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.02, "{} {}", moment(1), moment(2));
        }
        assert!((0..1000).all(|_| (2.0..3.0).contains(&stream.within(2.0, 3.0))));
    }
}
