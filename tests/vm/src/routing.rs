//! Interfaces, policy rules and routes: what other programs on a booted image take away, and how long it is gone.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::region::{CLIENT, HUB, Region, UP};
use crate::report::{GAP, losses};

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
    let [a, hub] = [region.lab.host("a/host")?, region.lab.host("hub/host")?];
    let (seen, names) = (&*region, [HUB, CLIENT]);
    let on_each = |line: &str| seen.on_each(names, |name| seen.vm(name)?.ok(line));
    let routing = || seen.on_each(names, |name| shown(seen, name));
    let before = routing()?;
    let put_back = || -> Result<()> {
        let started = Instant::now();
        while routing()? != before {
            ensure!(started.elapsed() < UP, "watch runs, and does not put back {before:#?}; now {:#?}", routing()?);
        }
        hub.wait_for(a.address, UP)?;
        Ok(())
    };

    // watch would put it back, and nobody would see that it was gone.
    on_each("systemctl stop crosswan-watch.service")?;
    let stream = a.ping_stream(hub.address)?;
    on_each(RESTART)?;
    let kept = (stream.stop()?, routing()?);

    on_each(&format!("mv {SETTINGS} {SETTINGS}.off"))?;
    on_each(RESTART)?;
    let gone = routing()?;
    on_each("systemctl start crosswan-watch.service")?;
    put_back()?;
    let stream = a.ping_stream(hub.address)?;
    on_each(RESTART)?;
    put_back()?;
    let watched = stream.stop()?;
    on_each(&format!("mv {SETTINGS}.off {SETTINGS} && systemctl restart systemd-networkd"))?;

    let (report, after) = kept;
    for (name, ((before, after), gone)) in names.into_iter().zip(before.iter().zip(&after).zip(&gone)) {
        let whole = ["if_id 0x2", "lookup 7105", "dev cw"].iter().all(|part| before.contains(part));
        let listed = before.trim().replace('\n', "; ");
        region.check(whole && after == before, &format!("{name}: nothing is gone without watch, of: {listed}"));
        region.check(gone != before, &format!("{name}: without {SETTINGS} is left: {:?}", gone.trim()));
    }
    let few = report.sent > 20 && report.lost * 10 < report.sent;
    region.check(
        few,
        &format!("networkd restarts on both ends, with the package's settings for it: {}", losses(&report)),
    );
    let text =
        format!("networkd restarts on both ends without these settings, and watch puts all back: {}", losses(&watched));
    region.report.check_figure(watched.longest_gap < GAP, text);
    Ok(())
}

/// See [`SHOWN`].
pub fn shown(region: &Region, name: &str) -> Result<String> {
    region.vm(name)?.ok(SHOWN)
}
