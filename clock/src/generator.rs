//! Random numbers from one injected source.

use std::sync::{Arc, Mutex, PoisonError};

/// A shared, seedable source of random numbers: session ids, jitter, spreads. Cheap to clone; clones share the stream.
///
/// Not for secrets: keys come from the operating system's generator.
#[derive(Clone, Debug)]
pub struct Generator(Arc<Mutex<fastrand::Rng>>);

impl Generator {
    /// Seeded from the process's entropy.
    pub fn from_entropy() -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::new())))
    }

    /// The stream of `seed`, the same on every run.
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// 64 random bits.
    pub fn u64(&self) -> u64 {
        self.with(|rng| rng.u64(..))
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.with(|rng| rng.u64(..bound)) }
    }

    /// True with probability `percent` / 100.
    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A new generator whose stream is fixed by this one's state.
    pub fn fork(&self) -> Self {
        Self::from_seed(self.u64())
    }

    fn with<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream() {
        let draw = |generator: Generator| (0..8).map(|_| generator.below(1_000)).collect::<Vec<_>>();
        assert_eq!(draw(Generator::from_seed(7)), draw(Generator::from_seed(7)));
        assert_ne!(draw(Generator::from_seed(7)), draw(Generator::from_seed(8)));
        assert_eq!(Generator::from_seed(7).below(0), 0);
    }
}
