//! A compare-and-set whose outcome holds for ever, done once for all who need it.
//!
//! One caller tries at a time, and those who ask meanwhile share the outcome, also if there is none. So a thousand
//! conversations that need the same fence neither compete for its row nor try one after the other.

use crate::StoreError;
use tokio::sync::{Mutex, watch};

pub(super) struct Once<T> {
    /// Held by the caller who tries.
    trying: Mutex<()>,
    tries: watch::Sender<Tries<T>>,
}

struct Tries<T> {
    outcome: Option<T>,
    /// Those that ended without one.
    failed: u64,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { trying: Mutex::default(), tries: watch::Sender::new(Tries { outcome: None, failed: 0 }) }
    }
}

impl<T: Clone> Once<T> {
    /// The outcome, if it is known already.
    pub(super) fn known(&self) -> Option<T> {
        self.tries.borrow().outcome.clone()
    }

    /// The outcome of `attempt`, or of another caller's. If the caller who tries is dropped, another one takes over.
    ///
    /// # Errors
    /// Its error; for those who waited for it, [`StoreError::Unavailable`]. Whoever asks after that tries again.
    pub(super) async fn get(&self, attempt: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let mut tries = self.tries.subscribe();
        let failed = tries.borrow().failed;
        let shared = async {
            let tries = tries.wait_for(|tries| tries.outcome.is_some() || tries.failed > failed).await;
            let outcome = tries.ok().and_then(|tries| tries.outcome.clone());
            outcome.ok_or_else(|| StoreError::unavailable("the compare-and-set that this waited for failed"))
        };
        tokio::select! {
            biased;
            shared = shared => shared,
            _trying = self.trying.lock() => {
                let outcome = attempt.await;
                self.tries.send_modify(|tries| match &outcome {
                    Ok(outcome) => tries.outcome = Some(outcome.clone()),
                    Err(_) => tries.failed += 1,
                });
                outcome
            }
        }
    }
}
