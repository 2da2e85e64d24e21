//! Ratios of paired measurements, and how sure they are.

use std::fmt;

/// The median of the rounds' ratios and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub median: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    /// Of values and baselines measured in the same rounds. The interval is between the order statistics that hold the median with
    /// a probability of at least 0.95 (binomial, one half); with fewer than six rounds, between the least and the greatest.
    pub fn of(values: &[f64], baselines: &[f64]) -> Ratio {
        let ratios = sorted(values.iter().zip(baselines).map(|(value, base)| value / base).collect());
        let below = rank(ratios.len());
        Ratio { median: median(&ratios), low: ratios[below], high: ratios[ratios.len() - 1 - below] }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.median, self.low, self.high)
    }
}

/// How many of `n` sorted values lie below the interval, and as many above it.
fn rank(n: usize) -> usize {
    // The probability that at most k of n fair coins are heads.
    let (mut choose, mut tail, mut k) = (0.5f64.powi(n as i32), 0.0, 0);
    while tail + choose <= 0.025 {
        tail += choose;
        choose *= (n - k) as f64 / (k + 1) as f64;
        k += 1;
    }
    k.saturating_sub(1).min(n.saturating_sub(1) / 2)
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The middle one, or the mean of the two in the middle. There must be one.
pub fn median(values: &[f64]) -> f64 {
    let values = sorted(values.to_vec());
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_median_has_the_ranks_of_the_tables() {
        // 1-based lower ranks of 95 % intervals, from tables of the sign test.
        for (n, lower) in [(1, 1), (6, 1), (10, 2), (20, 6), (30, 10), (50, 18), (100, 40)] {
            assert_eq!(rank(n) + 1, lower, "of {n}");
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was ten times slower in the second round: for both.
        let ratio = Ratio::of(&[100.0, 10.0, 101.0], &[50.0, 5.0, 50.0]);
        assert_eq!((ratio.median, ratio.low, ratio.high), (2.0, 2.0, 2.02));
    }
}
