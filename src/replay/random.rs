//! Numbers that look random and are the same for the same seed, on every machine and in every
//! version: what a seed showed yesterday can be shown again. Not for secrets.

/// xoshiro256++ (Blackman and Vigna, 2018), seeded by SplitMix64.
#[derive(Debug, Clone)]
pub struct Random([u64; 4]);

impl Random {
    /// One of many independent sequences of a seed, so that one user's days do not depend on how
    /// many users there are.
    pub fn new(seed: u64, sequence: u64) -> Random {
        let mut state = mix(seed) ^ mix(sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut word = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(state)
        };
        Random([word(), word(), word(), word()])
    }

    fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// From 0 up to, but not, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From `low` up to, but not, `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// Exponential, as the times between independent events are.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Log-normal, as the lengths of what people do are.
    pub fn log_normal(&mut self, median: f64, spread: f64) -> f64 {
        // Box and Muller.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.unit()).cos();
        median * (spread * normal).exp()
    }

    /// One of several things, by weights that add up to 1.
    pub fn choose<T: Copy>(&mut self, first: T, others: &[(T, f64)]) -> T {
        let mut draw = self.unit();
        for (thing, weight) in others {
            draw -= weight;
            if draw < 0.0 {
                return *thing;
            }
        }
        first
    }
}

fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_gives_others() {
        let draw = |seed, sequence| {
            let mut random = Random::new(seed, sequence);
            [random.bits(), random.bits(), random.bits()]
        };
        assert_eq!(draw(1, 7), draw(1, 7));
        assert_ne!(draw(1, 7), draw(1, 8));
        assert_ne!(draw(1, 7), draw(2, 7));
        assert_ne!(draw(0, 0)[0], 0);
    }

    #[test]
    fn numbers_are_spread_as_they_should_be() {
        let mut random = Random::new(1, 1);
        let mean = |draws: &[f64]| draws.iter().sum::<f64>() / draws.len() as f64;
        let units: Vec<f64> = (0..50_000).map(|_| random.unit()).collect();
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)));
        assert!((mean(&units) - 0.5).abs() < 0.01);
        let waits: Vec<f64> = (0..50_000).map(|_| random.exponential(3.0)).collect();
        assert!((mean(&waits) - 3.0).abs() < 0.1);
        let below = (0..50_000).filter(|_| random.log_normal(10.0, 1.0) < 10.0);
        assert!((below.count() as f64 - 25_000.0).abs() < 600.0);
        let twos = (0..50_000).filter(|_| random.choose(1, &[(2, 0.25)]) == 2);
        assert!((twos.count() as f64 - 12_500.0).abs() < 500.0);
    }
}
