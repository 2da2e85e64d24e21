//! Kernel state beyond the rules that decides how well a gateway works: the table of tracked connections, and IPv6 forwarding.

#![allow(clippy::disallowed_methods, reason = "edge: reads /proc")]

use std::{collections::BTreeMap, fs};

use crosswan_core::{forwarding::Problem, system::Conntrack};

/// For this many seconds a flow that ended silently (its host died, or a firewall is on the way) occupies its entry. With the kernel's
/// default of five days the table of a busy gateway fills. It should not be much less than a day, because a live flow that is silent
/// for longer is cut.
const LONGEST_IDLE: u64 = 86_400;

/// The table now; `None` if the kernel does not track connections.
pub fn conntrack() -> Option<Conntrack> {
    let stat = fs::read_to_string("/proc/net/stat/nf_conntrack").ok()?;
    counted(number("nf_conntrack_count")?, number("nf_conntrack_max")?, &stat)
}

fn number(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?.trim().parse().ok()
}

/// The table, with the counters of `/proc/net/stat/nf_conntrack`: a header, then a line of hexadecimal counters for each CPU. The
/// columns differ between kernels, so they are found by their names.
fn counted(entries: u64, max: u64, stat: &str) -> Option<Conntrack> {
    let mut lines = stat.lines();
    let names: Vec<&str> = lines.next()?.split_whitespace().collect();
    let mut sums = BTreeMap::new();
    for line in lines {
        for (name, count) in names.iter().zip(line.split_whitespace()) {
            *sums.entry(*name).or_insert(0) += u64::from_str_radix(count, 16).ok()?;
        }
    }
    let sum = |name: &str| sums.get(name).copied().unwrap_or(0);
    Some(Conntrack { entries, max, dropped: sum("drop") + sum("early_drop"), raced: sum("insert_failed") })
}

/// What is wrong with this kernel's settings for a gateway, with the command that mends it.
pub fn problems() -> Vec<Problem> {
    let ipv6 = fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap_or_default();
    ipv6_forwarding(ipv6.trim()).into_iter().collect()
}

/// What is worth a change but stops nothing: one line each, with the command. Only with `masquerade` does every flow need an entry.
pub fn notes(masquerade: bool) -> Vec<String> {
    let idle = number("nf_conntrack_tcp_timeout_established").filter(|_| masquerade);
    idle.and_then(long_idle).into_iter().collect()
}

fn ipv6_forwarding(value: &str) -> Option<Problem> {
    const KEY: &str = "net.ipv6.conf.all.forwarding";
    (value == "1").then(|| Problem {
        found: format!("{KEY} is 1: IPv6 is forwarded past every rule of this gateway"),
        remedy: format!("sysctl -w {KEY}=0"),
    })
}

fn long_idle(seconds: u64) -> Option<String> {
    const KEY: &str = "net.netfilter.nf_conntrack_tcp_timeout_established";
    (seconds > LONGEST_IDLE).then(|| {
        format!("{KEY} is {seconds}: dead connections fill the table for days; sysctl -w {KEY}={LONGEST_IDLE}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_all_cpus_are_found_by_their_names() {
        let stat = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error\n\
                    0000001f  0 0 0 0 0 0 0 0 00000002 00000010 00000001 0\n0000001f  0 0 0 0 0 0 0 0 0000000a 00000000 00000001 0\n";
        let table = counted(31, 262_144, stat).unwrap();
        assert_eq!(table, Conntrack { entries: 31, max: 262_144, dropped: 18, raced: 12 });
        assert_eq!(
            table.to_string(),
            "CONNTRACK 31 of 262144 entries, 18 dropped because it was full, 12 lost a race for a port; \
             sysctl -w net.netfilter.nf_conntrack_max=524288"
        );
        let calm = Conntrack { dropped: 0, ..table };
        assert_eq!(
            calm.to_string(),
            "conntrack 31 of 262144 entries, 0 dropped because it was full, 12 lost a race for a port"
        );
        assert!(Conntrack { entries: 210_000, ..calm }.to_string().starts_with("CONNTRACK 210000 of "));
        assert_eq!(counted(1, 2, ""), None);
        assert_eq!(counted(1, 2, "entries drop\nzz"), None);
    }

    #[test]
    fn this_kernel_can_be_asked() {
        // The machine that runs the tests tracks connections, as every gateway does: the guard and NAT need it.
        assert!(conntrack().is_some_and(|table| table.max > 0));
    }

    #[test]
    fn forwarding_of_ipv6_and_a_timeout_of_days_are_reported_with_their_remedy() {
        assert_eq!(ipv6_forwarding("0"), None);
        assert_eq!(ipv6_forwarding(""), None, "a kernel without IPv6");
        assert!(ipv6_forwarding("1").unwrap().remedy.ends_with("sysctl -w net.ipv6.conf.all.forwarding=0"));
        assert_eq!(long_idle(86_400), None);
        let note = long_idle(432_000).unwrap();
        assert!(note.ends_with("sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=86400"), "{note}");
    }
}
