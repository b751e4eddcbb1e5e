//! Ranks from a Zipf distribution, in constant time and without a table.
//!
//! Rejection-inversion after W. Hörmann and G. Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions", ACM TOMACS 6
//! (1996): the sum over ranks is replaced by the integral of the same power, whose inverse is known; a draw is taken back where the integral covers
//! more than the rank is worth, which happens to fewer than one in three draws.

use super::workload::Random;

/// Rank `k` of `1..=ranks` has a weight of `k` to the power of `-exponent`.
#[derive(Debug, Clone)]
pub(super) struct Zipf {
    ranks: f64,
    exponent: f64,
    /// Integral of the weight up to just above rank 1, less that rank's own weight: where draws begin.
    low: f64,
    /// Integral of the weight up to half a rank beyond the last: where draws end.
    high: f64,
    /// A draw that rounds up by at most this much is always right.
    sure: f64,
}

impl Zipf {
    pub(super) fn new(ranks: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf { ranks: ranks as f64, exponent, low: 0.0, high: 0.0, sure: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.ranks + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    /// The next rank, from 1.
    pub(super) fn rank(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.high + random.unit() * (self.low - self.high);
            let point = self.inverse(area);
            let rank = point.round().clamp(1.0, self.ranks);
            if rank - point <= self.sure || area >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u64;
            }
        }
    }

    fn weight(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// Integral of the weight from 1 to `x`. Written with `exp_m1`, it stays exact where the exponent is nearly 1.
    fn integral(&self, x: f64) -> f64 {
        let power = (1.0 - self.exponent) * x.ln();
        if power == 0.0 { x.ln() } else { power.exp_m1() / power * x.ln() }
    }

    /// Where the integral has this value.
    fn inverse(&self, area: f64) -> f64 {
        // Rounding may leave the domain by a little.
        let power = ((1.0 - self.exponent) * area).max(-1.0);
        if power == 0.0 { area.exp() } else { (power.ln_1p() / power * area).exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of the first ranks and of the tail come out as the weights say.
    #[test]
    fn shares_follow_the_weights() {
        const DRAWS: u32 = 200_000;
        for (ranks, exponent) in [(10, 0.5), (1000, 0.9), (1000, 1.0), (10_000, 1.1), (100, 2.0), (2, 1.0), (1, 1.5)] {
            let (zipf, mut random) = (Zipf::new(ranks, exponent), Random::new(42));
            let mut hits = vec![0_u32; ranks as usize];
            for _ in 0..DRAWS {
                hits[zipf.rank(&mut random) as usize - 1] += 1;
            }
            let weights: Vec<f64> = (1..=ranks).map(|rank| (rank as f64).powf(-exponent)).collect();
            let total: f64 = weights.iter().sum();
            let half = ranks as usize / 2;
            let cuts = [0..1, 0..half.max(1), 1.min(ranks as usize - 1)..2.min(ranks as usize), half..ranks as usize];
            for cut in cuts {
                let expected = weights[cut.clone()].iter().sum::<f64>() / total;
                let found = f64::from(hits[cut.clone()].iter().sum::<u32>()) / f64::from(DRAWS);
                let deviation = (expected * (1.0 - expected) / f64::from(DRAWS)).sqrt();
                let within = 6.0 * deviation + 1e-9;
                assert!((found - expected).abs() <= within, "{ranks} ranks, exponent {exponent}, {cut:?}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn every_rank_is_in_range() {
        for exponent in [0.01, 0.99, 1.0, 1.000_001, 3.0, 10.0] {
            let (zipf, mut random) = (Zipf::new(1_000_000, exponent), Random::new(1));
            assert!((0..10_000).all(|_| (1..=1_000_000).contains(&zipf.rank(&mut random))), "exponent {exponent}");
        }
    }
}
