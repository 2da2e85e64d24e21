//! Host or user-mode kernel: found out by trying, and said in one line.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::netns::Netns;

/// What the lab runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// This machine's own.
    Host,
    /// One booted for the purpose.
    Uml,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Kernel::Host => "on this machine's own kernel",
            Kernel::Uml => "in a user-mode kernel",
        })
    }
}

/// As `CROSSWAN_KERNEL` says, `host` or `uml`; without it this machine's own where that has what the lab needs. Says which, and why.
pub fn choose() -> Result<Kernel> {
    let (kernel, why) = match std::env::var_os("CROSSWAN_KERNEL") {
        None => match missing() {
            None => (Kernel::Host, "which has ESP and XFRM interfaces".to_owned()),
            Some(what) => (Kernel::Uml, what),
        },
        Some(asked) if asked == "host" => match missing() {
            None => (Kernel::Host, "as CROSSWAN_KERNEL asks".to_owned()),
            Some(what) => {
                bail!("the lab cannot run on this machine's own kernel, as CROSSWAN_KERNEL=host asks: {what}")
            }
        },
        Some(asked) if asked == "uml" => (Kernel::Uml, "as CROSSWAN_KERNEL asks".to_owned()),
        Some(other) => bail!("CROSSWAN_KERNEL: expected host or uml, found {other:?}"),
    };
    eprintln!("kernel: the lab runs {kernel}: {why}");
    Ok(kernel)
}

/// What keeps the lab from this machine's own kernel. Tried in a network namespace that ends with the attempt.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root may make network namespaces on this machine's own".into());
    }
    let Ok(ns) = Netns::new() else {
        return Some("this machine's own lets nobody make network namespaces here".into());
    };
    let key = "0x000102030405060708090a0b0c0d0e0f10111213";
    let esp = format!(
        "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 1 mode tunnel aead rfc4106(gcm(aes)) {key} 128"
    );
    for (words, what) in [(esp.as_str(), "ESP"), ("link add cw1 type xfrm if_id 1", "XFRM interfaces")] {
        let words: Vec<&str> = words.split(' ').collect();
        let tried = ns.command("ip", &words, "", Duration::from_secs(10));
        if !tried.is_ok_and(|output| output.code == 0) {
            return Some(format!("this machine's own has no {what}"));
        }
    }
    None
}
