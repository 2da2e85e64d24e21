//! charon's death is that of the data path for as long as it lasts, since its socket decapsulates; a new charon goes on with the
//! old SAs.

use std::{collections::BTreeSet, thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use crosswan_faults::look::{all_well, stream};
use crosswan_lab::Gateway;
use nix::libc::SIGKILL;

use crate::region::{Region, UP};

#[test]
fn a_charon_that_is_killed_and_started_goes_on_with_the_old_sas() -> Result<()> {
    let mut region = Region::standard()?;
    let capture = region.lab.capture_internet()?;
    for name in ["a/nat-vpn", "hub/vpn-hub"] {
        let gateway = region.gateway(name)?;
        region.keepers.remove(&gateway.name);
        let before = spis(&gateway)?;
        let packets = stream(&region, "a/host", "hub/host")?;
        gateway.kill_charon(SIGKILL)?;
        sleep(Duration::from_millis(200));
        let answers = packets.answers();
        sleep(Duration::from_secs(1));
        ensure!(packets.answers() == answers, "{name}: packets come in without charon");
        ensure!(spis(&gateway)? == before, "{name}: its SAs are gone");
        gateway.start_charon()?;
        let took = region.lab.host("a/host")?.wait_for(region.address("hub/host")?, UP)?;
        ensure!(spis(&gateway)? == before, "{name}: the SAs are others");
        eprintln!("{name}: charon was killed; the old SAs carry packets again {took:?} after the start of a new one");
        ensure!(took < Duration::from_secs(1), "{name}: {took:?}");
        let without_keep = packets.stop()?;
        // keep makes them anew, beside the old ones.
        let packets = stream(&region, "a/host", "hub/host")?;
        region.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
        all_well(&region, UP)?;
        let report = packets.stop()?;
        eprintln!(
            "{name}: lost while charon was away {}, while keep made the tunnel anew {}",
            without_keep.lost, report.lost
        );
        // As long as one exchange of IKE_AUTH takes: the peer ends the old SA with it.
        ensure!(report.longest_gap < Duration::from_secs(5), "{name}: {report:?}");
    }
    let packets = capture.stop()?;
    ensure!(packets.clear_private().is_empty(), "{:?}", packets.clear_private());
    Ok(())
}

/// The SPIs of all SAs in the kernel.
fn spis(gateway: &Gateway) -> Result<BTreeSet<String>> {
    let text = gateway.sh("ip xfrm state")?.ok()?.stdout;
    Ok(text.lines().filter_map(|line| Some(line.split_once(" spi ")?.1.split(' ').next()?.to_owned())).collect())
}
