//! What packets cost: the rules of a NAT, one tunnel, and a hub with many, each beside what others would use.
//!
//! Every variant has gateways of its own, all of them stand at once, and each round sends through one after the other for a moment:
//! what disturbs the machine disturbs all. Only ratios within a round are compared.

mod flow;
mod paths;
mod ratio;

use std::time::Duration;

use anyhow::Result;

use crate::results::{Budget, Section, table};
use crate::{Setup, say};
use flow::{first_packet, rate};
use paths::Path;
use ratio::Ratio;

/// Long enough for thousands of packets, short enough that a disturbance seldom falls between two variants.
const SLICE: Duration = Duration::from_millis(150);
/// Flows of which the first packet is timed, in each round and variant.
const FLOWS: usize = 50;
/// Bytes of UDP: a small packet, because rules and policies cost the same for any size, and a full one, whose bytes are encrypted.
const SMALL: usize = 64;
const FULL: usize = 1300;

/// What was measured of one variant: a value for each round.
struct Measured {
    name: String,
    rates: Vec<f64>,
    first: Vec<f64>,
}

/// Sends through each path in turn, for `rounds` rounds, in a different order each time.
fn rounds(paths: &[Path], rounds: usize, bytes: usize, slice: Duration) -> Result<Vec<Measured>> {
    let blank = |path: &Path| Measured { name: path.name.clone(), rates: Vec::new(), first: Vec::new() };
    let mut all: Vec<_> = paths.iter().map(blank).collect();
    // What is done once, such as finding a neighbour or WireGuard's handshake, belongs to no round.
    paths.iter().try_for_each(|path| first_packet(path, 1).map(drop))?;
    for round in 0..rounds {
        for n in 0..paths.len() {
            let n = if round % 2 == 0 { n } else { paths.len() - 1 - n };
            all[n].rates.push(rate(&paths[n], bytes, slice)?);
            all[n].first.push(first_packet(&paths[n], FLOWS)?);
        }
    }
    Ok(all)
}

/// Each variant's own medians, and its ratios to the variant at `base`.
fn rows(all: &[Measured], base: usize, bytes: usize) -> Vec<Vec<String>> {
    let row = |one: &Measured| {
        let rate = ratio::median(&one.rates);
        vec![
            one.name.clone(),
            bytes.to_string(),
            format!("{:.1}", rate / 1e3),
            format!("{:.0}", rate * bytes as f64 * 8.0 / 1e6),
            Ratio::of(&one.rates, &all[base].rates).to_string(),
            format!("{:.0} µs", ratio::median(&one.first) * 1e6),
            Ratio::of(&one.first, &all[base].first).to_string(),
        ]
    };
    all.iter().map(row).collect()
}

fn budget(work: &str, all: &[Measured], of: usize, base: usize, least: f64) -> Budget {
    let ratio = Ratio::of(&all[of].rates, &all[base].rates);
    Budget {
        work: work.into(),
        budget: format!("at least {least} of the rate of {}", all[base].name),
        baseline: format!("{}: {:.1} thousand a second", all[base].name, ratio::median(&all[base].rates) / 1e3),
        measured: format!("{ratio}"),
        met: ratio.median >= least,
    }
}

/// See the module. Takes about three minutes.
pub fn bench(setup: &Setup) -> Result<Section> {
    let (n, slice) = if setup.quick { (1, SLICE / 5) } else { (30, SLICE) };
    let tunnels = if setup.quick { [2, 5, 10] } else { [2, 100, 1000] };

    say(&format!("NAT: {n} rounds"));
    let nat = rounds(&paths::nat()?, n, SMALL, slice)?;
    say(&format!("one tunnel: {n} rounds"));
    let one = paths::tunnel()?;
    let (small, full) = (rounds(&one, n, SMALL, slice)?, rounds(&one, n, FULL, slice)?);
    drop(one);
    say(&format!("a hub with {} to {} tunnels: {n} rounds", tunnels[0], tunnels[2]));
    let hub = rounds(&paths::hub(&tunnels)?, n, SMALL, slice)?;

    let head = |base: &str| {
        format!(
            "variant | bytes | thousand packets a second | Mbit/s | rate to {base} | first packet of a flow | to {base}"
        )
    };
    let mut of_tunnel = rows(&small, 1, SMALL);
    of_tunnel.extend(rows(&full, 1, FULL));
    let text = format!(
        "Gateways are network namespaces of one kernel, joined by veth; UDP is sent as fast as the first of them takes it, for {} ms a round and \
         variant, and counted where it arrives. A round's rate is that of its median batch of 64 packets times what part arrived, WireGuard's what arrived in the whole \
         time, because it queues. Rates and times are medians of {n} rounds, in which the variants take turns. A ratio is the \
         median of the rounds' ratios, with its 95 % confidence interval by order statistics. The rules, interfaces and routes are those of the golden \
         cases, so exactly what the agent writes. SAs and policies are set by `ip xfrm` as charon sets them (AES-256-GCM in UDP).\n\n\
         NAT, beside fck-nat's one MASQUERADE rule and beside forwarding without any rule or connection tracking. The budget is about iptables' \
         rules; a gateway with tunnels also has rules of routing, for which the kernel looks up every packet's route in several tables:\n\n{}\n\
         One tunnel between two gateways: ours (interfaces, routes and rules), the same SAs by policies alone and without rules as a plain \
         swanctl.conf has them, and WireGuard, which encrypts on all processors:\n\n{}\n\
         From one client to another over a hub that has so many tunnels' SAs, policies and routes, and last with 50 segments, of which the \
         clients are in the last:\n\n{}",
        slice.as_millis(),
        table(&head("fck-nat"), rows(&nat, 1, SMALL).into_iter()),
        table(&head("plain swanctl"), of_tunnel.into_iter()),
        table(&head(&format!("{} tunnels", tunnels[0])), rows(&hub, 0, SMALL).into_iter()),
    );
    let budgets = vec![
        budget("packets a second through nat-vpn's rules", &nat, 0, 1, 0.97),
        budget(&format!("packets a second over a hub with {} tunnels", tunnels[2]), &hub, 2, 0, 0.9),
        budget("packets a second over a hub with 50 segments, each of which reaches every other", &hub, 3, 0, 0.9),
    ];
    Ok(Section { name: "throughput", title: "Packets a second", budgets, text, plots: Vec::new() })
}
