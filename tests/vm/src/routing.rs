//! Interfaces, policy rules and routes: what other programs on a booted image take away, and how long it is gone.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::region::{CLIENT, HUB, Region, UP};
use crate::report::losses;

/// What leads packets into tunnels. The index of an interface may change, and the routes' order with it.
pub const SHOWN: &str =
    "{ ip -d -o link show type xfrm | grep -oE 'cw[0-9].* mtu|if_id [^ ]*'; ip rule | grep 'proto 205'
    ip route show table 7105 2>/dev/null; } | sort";
/// networkd starts anew and sets up every link anew; then it has time to take away what it does not know.
const RESTART: &str =
    "systemctl restart systemd-networkd && networkctl reload && networkctl reconfigure $(ls /sys/class/net | grep ^e)
    sleep 4; networkctl --no-legend | grep -c configured";
const SETTINGS: &str = "/usr/lib/systemd/networkd.conf.d/60-crosswan.conf";

/// With the package's settings for networkd nothing goes away; without them `crosswan watch` puts it back.
pub fn networkd(region: &mut Region) -> Result<()> {
    for name in [HUB, CLIENT] {
        let before = shown(region, name)?;
        let [a, hub] = [region.lab.host("a/host")?, region.lab.host("hub/host")?];
        // watch would put it back, and nobody would see that it was gone.
        region.vm(name)?.ok("systemctl stop crosswan-watch.service")?;
        let stream = a.ping_stream(hub.address)?;
        region.vm(name)?.ok(RESTART)?;
        let report = stream.stop()?;
        let after = shown(region, name)?;
        region.check(
            before.contains("if_id 0x2")
                && before.contains("lookup 7105")
                && before.contains("dev cw")
                && after == before,
            &format!("{name}: nothing is gone without watch, of: {}", before.trim().replace('\n', "; ")),
        );
        let lost = format!("{name}: {} packets meanwhile, {} lost", report.sent, report.lost);
        region.check(report.sent > 20 && report.lost * 10 < report.sent, &lost);

        region.vm(name)?.ok(&format!("mv {SETTINGS} {SETTINGS}.off"))?;
        region.vm(name)?.ok(RESTART)?;
        let gone = shown(region, name)?;
        region.check(gone != before, &format!("{name}: without {SETTINGS} is left: {:?}", gone.trim()));
        let started = Instant::now();
        region.vm(name)?.ok("systemctl start crosswan-watch.service")?;
        while shown(region, name)? != before {
            ensure!(started.elapsed() < UP, "{name}: watch was started, and does not put it back");
        }
        hub.wait_for(a.address, UP)?;
        let stream = a.ping_stream(hub.address)?;
        region.vm(name)?.ok(RESTART)?;
        let report = stream.stop()?;
        let same = shown(region, name)? == before;
        let text = format!(
            "{name}: networkd restarts without the package's settings for it, watch puts all back: {same}; {}",
            losses(&report)
        );
        region.report.check_figure(same && report.longest_gap < Duration::from_secs(5), text);
        region.vm(name)?.ok(&format!("mv {SETTINGS}.off {SETTINGS} && systemctl restart systemd-networkd"))?;
    }
    Ok(())
}

/// See [`SHOWN`].
pub fn shown(region: &Region, name: &str) -> Result<String> {
    region.vm(name)?.ok(SHOWN)
}
