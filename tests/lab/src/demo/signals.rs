//! Ctrl-C and SIGTERM: asked for between two actions, so that the lab is taken down in order.

use std::io::{IsTerminal, stdin};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on the first signal is noted; a second one ends the process at once, and the kernel ends what it started.
///
/// A handler, not a blocked mask: programs that are started would inherit the mask.
pub fn catch() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESETHAND, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores an atomic.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("catch {signal}"))?;
    }
    Ok(())
}

/// Whether a signal came, or the reader of our output has gone.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// As a signal would.
pub fn interrupt() {
    note(0);
}

/// Sleeps, but not through a signal.
pub fn sleep(time: Duration) {
    let until = std::time::Instant::now() + time;
    while !interrupted() && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50).min(time));
    }
}

/// Waits for a signal or, on a terminal, for Enter. Without one standard input says nothing about anybody's patience.
pub fn wait_for_the_end() {
    let stdin = stdin();
    while !interrupted() {
        if !stdin.is_terminal() {
            sleep(Duration::from_secs(1));
        } else if poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], 250u16).is_ok_and(|ready| ready > 0) {
            let _ = stdin.read_line(&mut String::new());
            return;
        }
    }
}
