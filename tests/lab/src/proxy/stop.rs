//! A stop in the middle: from a chosen call on nothing is answered any more, so that a test can kill the caller there.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// On which side of the chosen call everything stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It never reaches moto.
    Before,
    /// It takes effect, and its answer is lost.
    After,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Stop {
    state: Mutex<State>,
    reached: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Changing calls to let through, and where to stop at the next one.
    at: Option<(u32, Side)>,
    stopped: bool,
}

impl Stop {
    /// Lets `calls` changing calls through and stops at the next one.
    pub fn at(&self, calls: u32, side: Side) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { at: Some((calls, side)), stopped: false };
    }

    /// Waits until it has stopped; false if that takes longer than `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.reached.wait_timeout_while(state, limit, |state| !state.stopped);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Everything goes on; calls that were stopped are lost.
    pub fn lift(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
        self.reached.notify_all();
    }

    /// Whether this call stops, and on which side. Calls that only ask stop once one that changes something has.
    pub(super) fn side(&self, changes: bool) -> Option<Side> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return Some(Side::Before);
        }
        let (left, side) = state.at.as_mut().filter(|_| changes)?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let side = *side;
        state.stopped = true;
        Some(side)
    }

    /// Notes that the call that stops has done what it does.
    pub(super) fn reached(&self) {
        self.reached.notify_all();
    }

    /// Until the stop is lifted.
    pub(super) fn hold(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.reached.wait_timeout_while(state, Duration::from_secs(120), |state| state.stopped);
        drop(held);
    }
}
