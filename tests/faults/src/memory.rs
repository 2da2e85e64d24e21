//! Memory of a process over time, and whether it grows: a straight line through what was measured.

use std::fs;

/// A figure of `/proc/PID/status`, kB: `RssAnon` is what the process allocated and touched, `VmHWM` its peak with all
/// that is mapped. `None` once the process has ended.
pub fn status_kb(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// One figure over the refreshes of a run.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<(f64, f64)>);

/// The line of least squares through the second half of a series. The first is warming up: each of charon's threads
/// gets memory of its own from the allocator, and keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Fit {
    /// Mean, kB.
    pub mean: f64,
    /// What the line rises from its start to its end, kB.
    pub rise: f64,
    /// Of the whole series, kB.
    pub first: f64,
    pub last: f64,
}

impl Series {
    pub fn push(&mut self, refresh: u32, kb: u64) {
        self.0.push((f64::from(refresh), kb as f64));
    }

    /// `None` with fewer than twelve figures.
    pub fn fit(&self) -> Option<Fit> {
        let (first, last) = (self.0.first()?, self.0.last()?);
        let settled = &self.0[self.0.len() / 2..];
        let n = settled.len() as f64;
        if n < 6.0 {
            return None;
        }
        let (x, y) = settled.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
        let (sxy, sxx) =
            settled.iter().fold((0.0, 0.0), |(a, b), p| (a + (p.0 - x) * (p.1 - y), b + (p.0 - x) * (p.0 - x)));
        let rise = if sxx > 0.0 { sxy / sxx * (last.0 - settled[0].0) } else { 0.0 };
        Some(Fit { mean: y, rise, first: first.1, last: last.1 })
    }
}

impl Fit {
    /// Whether the line rises by less than this part of the mean.
    pub fn is_flat(&self, most: f64) -> bool {
        self.rise < self.mean * most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_no_flat_line_and_noise_is() {
        let mut leak = Series::default();
        let mut noise = Series::default();
        for n in 0..1000u32 {
            leak.push(n, 5_000 + u64::from(n));
            noise.push(n, 5_000 + u64::from(n * 7919 % 400));
        }
        let (leak, noise) = (leak.fit().unwrap(), noise.fit().unwrap());
        assert!(!leak.is_flat(0.08) && (leak.rise - 499.0).abs() < 1.0, "{leak:?}");
        assert!(noise.is_flat(0.05) && noise.rise.abs() < 60.0, "{noise:?}");
    }
}
