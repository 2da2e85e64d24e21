//! What only a real kernel shows: its own ESP, interfaces, the own VPC, path MTU, and bulk data.

use anyhow::{Context, Result};

use crate::region::{CLIENT, HUB, Region};

const BULK: u64 = 50 << 20;

pub fn kernel(region: &mut Region) -> Result<()> {
    let (a, hub) = (region.lab.host("a/host")?, region.lab.host("hub/host")?);
    for name in [HUB, CLIENT] {
        let states = region.vm(name)?.ok("ip xfrm state")?;
        let esp = states.matches("proto esp").count();
        let encap = states.matches("encap type espinudp").count();
        region.check(
            esp >= 2 && encap == esp,
            &format!("{name}: the kernel holds {esp} ESP states, {encap} of them in UDP"),
        );
    }
    own_vpc(region)?;
    for (from, to) in [(&a, &hub), (&hub, &a)] {
        let transfer = from.transfer(to.address, BULK)?;
        let rate = transfer.bytes as f64 * 8.0 / 1e6 / transfer.elapsed.as_secs_f64();
        region.check(transfer.bytes == BULK, &format!("{} -> {}: 50 MB arrived unchanged", from.name, to.name));
        region.report.figure(format!(
            "50 MB {} -> {} by kernel ESP, all under TCG: {:.1} s, {rate:.0} Mbit/s",
            from.name,
            to.name,
            transfer.elapsed.as_secs_f64()
        ));
    }
    interface_matches(region)?;
    path_mtu(region)
}

/// Rules by interface: MSS clamps both ways have matched.
fn interface_matches(region: &mut Region) -> Result<()> {
    for name in [HUB, CLIENT] {
        let rules = region.vm(name)?.ok("iptables -vnxL CROSSWAN-MSS")?;
        for (column, direction) in [(5, "in"), (6, "out")] {
            // packets bytes target prot opt in out source destination
            let line = rules.lines().find(|line| line.split_whitespace().nth(column) == Some("cw+"));
            let packets: u64 = line
                .and_then(|line| line.split_whitespace().next()?.parse().ok())
                .with_context(|| format!("no such rule in\n{rules}"))?;
            region.check(packets > 0, &format!("{name}: {packets} SYNs went {direction} by cw+"));
        }
    }
    Ok(())
}

/// The own VPC lies inside the private network, and its packets stay out of the tunnel.
fn own_vpc(region: &mut Region) -> Result<()> {
    let vm = region.vm(CLIENT)?;
    let own = region.lab.host("a/host")?.address;
    let before = esp_packets(vm)?;
    // The image has no ping; a TCP connection to the host's whoami does.
    let reached = vm.sh(&format!("exec 3<>/dev/tcp/{own}/7777 && timeout 5 cat <&3"))?;
    let after = esp_packets(vm)?;
    let me = vm.gateway.address.to_string();
    region.check(
        reached.stdout.trim() == me && after == before,
        &format!(
            "a/nat-vpn reaches {own} in its own VPC as {}, with {} ESP packets",
            reached.stdout.trim(),
            after - before
        ),
    );
    Ok(())
}

/// Packets through all outbound and inbound ESP states.
fn esp_packets(vm: &crosswan_lab::Vm) -> Result<u64> {
    let text = vm.ok("ip -s xfrm state")?;
    Ok(text
        .lines()
        .filter_map(|line| {
            line.split_once("(packets)")?.0.rsplit(' ').next()?.rsplit(',').next()?.trim().parse::<u64>().ok()
        })
        .sum())
}

/// Datagrams with DF around the limit. The VPC carries 9001, the internet 1500, ESP in UDP takes its part.
fn path_mtu(region: &mut Region) -> Result<()> {
    let (a, hub) = (region.lab.host("a/host")?, region.lab.host("hub/host")?);
    for (from, to) in [(&a, &hub), (&hub, &a)] {
        // The tunnel's interface tells its own MTU, and then the tunnel what ESP leaves of that.
        let mut large = from.udp_df(to.address, 4000)?;
        for _ in 0..3 {
            large = from.udp_df(to.address, large.mtu.saturating_sub(28) as usize + usize::from(large.mtu <= 1438))?;
        }
        let fits = from.udp_df(to.address, large.mtu.saturating_sub(28) as usize)?;
        let text = format!(
            "{} -> {}: datagrams with DF that are too large are refused with a path MTU of {}, and that much passes",
            from.name, to.name, large.mtu
        );
        region.check(large.too_big && !large.answered && (1400..=1438).contains(&large.mtu) && fits.answered, &text);
        region.report.figure(format!("path MTU {} -> {}: {}", from.name, to.name, large.mtu));
    }
    Ok(())
}
