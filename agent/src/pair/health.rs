//! How this gateway is, as its beats say it.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use tokio::{net::UnixStream, time::timeout};

use crate::host;
use crosswan_core::pair::Health;

/// How long a connection to charon's socket may take.
const CHARON: Duration = Duration::from_millis(50);

/// Looks once, at charon only where its mode has one. Whether EC2 answers, and which tunnels are up, is not known here.
pub(super) async fn look(vici: Option<&PathBuf>) -> Health {
    let charon = match vici {
        Some(vici) => charon(vici).await,
        None => true,
    };
    Health { forwards: forwards(), uplink: uplink(), charon, ec2: false, tunnels: 0 }
}

fn forwards() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1")
}

/// Whether there is a default route, and its interface runs, which it does not without a carrier.
fn uplink() -> bool {
    let Ok(uplink) = host::default_route_interface() else { return false };
    let runs = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    getifaddrs().is_ok_and(|mut all| all.any(|i| i.interface_name == uplink.as_str() && i.flags.contains(runs)))
}

/// Whether somebody listens on charon's socket. One that is stopped still does: its kernel's SAs go on, and only its process's end counts.
async fn charon(vici: &Path) -> bool {
    match timeout(CHARON, UnixStream::connect(vici)).await {
        Ok(Err(e)) => !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused),
        _ => true,
    }
}
