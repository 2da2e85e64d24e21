//! This terminal, lent to a program inside.

use std::io::{IsTerminal, stdin, stdout};

use nix::libc;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Rows and columns, where both input and output are on a terminal.
pub fn size() -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure is ours; an error leaves it as it is.
    unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (stdin().is_terminal() && stdout().is_terminal()).then_some((size.ws_row, size.ws_col))
}

/// Passes every key on, Ctrl-C too, until it is dropped.
pub struct Raw(Termios);

impl Raw {
    pub fn new() -> nix::Result<Raw> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &self.0);
    }
}
