//! IMDS that fails during a pass: hub and spokes go on as who they were.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Result, anyhow, ensure};
use crosswan_lab::{Gateway, ImdsFault};

use super::{ensure_no_steps, standard, watch::Watch};
use crate::region::{lines, refresh, refresh_with};

#[test]
fn imds_that_fails_changes_nothing_on_hub_and_spokes() -> Result<()> {
    let region = standard()?;
    let gateways = ["hub/vpn-hub", "a/nat-vpn", "b/nat-vpn"].map(|name| region.gateway(name));
    let [hub, a, b] = gateways;
    let (hub, a, b) = (hub?, a?, b?);
    refresh(&hub)?;
    let pairs = [("a/host", "b/host"), ("b/host-2", "hub/host"), ("hub/host", "a/host")];
    let watch = Watch::over(&region, &pairs)?;
    let vpc_id = format!("meta-data/network/interfaces/macs/{}/vpc-id", mac(&a)?);
    let cidrs = format!("meta-data/network/interfaces/macs/{}/vpc-ipv4-cidr-blocks", mac(&hub)?);
    let garbage = |text: &str| ImdsFault::Garbage(text.into());

    // One fault each on three gateways at once: those that may pass are waited for ten seconds.
    let rounds = [
        [
            (&hub, "", ImdsFault::Down),
            (&a, "", ImdsFault::Status(500)),
            (&b, "", ImdsFault::Slow(Duration::from_secs(5))),
        ],
        [
            (&hub, cidrs.as_str(), garbage("10.0.0.0/16\n}\n10.9.0.0/16")),
            (&a, vpc_id.as_str(), garbage("vpc-0\u{1b}[31m\n`reboot`")),
            (&b, "", garbage("<html>not found</html>")),
        ],
        [
            (&hub, "meta-data/public-ipv4", garbage("")),
            (&a, "meta-data/mac", garbage("../../../../secret")),
            (&b, "api/token", ImdsFault::Status(403)),
        ],
    ];
    for round in rounds {
        let pass = |(gateway, path, fault): (&Arc<Gateway>, &str, ImdsFault)| -> Result<()> {
            gateway.imds.set(path, Some(fault.clone()));
            let report = refresh_with(gateway, &[], 3);
            gateway.imds.set(path, None);
            let report = report?;
            ensure_no_steps(&report)?;
            let reason = lines(&report, "unasked").join("\n");
            let known = format!("going on as {} of the last good pass", gateway.instance);
            ensure!(reason.contains("IMDS") && reason.contains(&known), "{fault:?}: {reason}");
            ensure!(!reason.contains('\u{1b}') && !reason.contains("\n`"), "{reason:?}");
            Ok(())
        };
        thread::scope(|scope| {
            let passes = round.map(|one| scope.spawn(|| pass(one)));
            passes.into_iter().try_for_each(|p| p.join().map_err(|_| anyhow!("a pass panicked"))?)
        })?;
    }
    for gateway in [&hub, &a, &b] {
        ensure_no_steps(&refresh(gateway)?)?;
    }
    watch.undisturbed("IMDS failed on three gateways")
}

fn mac(gateway: &Gateway) -> Result<String> {
    let view = gateway.view();
    view.instance(&gateway.instance).map(|i| i.mac.clone()).ok_or_else(|| anyhow!("no such instance"))
}
