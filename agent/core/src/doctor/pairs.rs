//! Whether this hub follows the pairs at the far ends of its tunnels, and where each is followed.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::{
    examined::Examined,
    verdict::{Matter, Verdict, failure, few, unasked, warning},
};
use crate::{
    model::{ConnName, Mode, VpcId},
    system::{Followee, Routing},
};

const WANTED: &str = "the member that has taken over last is used at once";

/// Whether a program hears UDP at `port`, by the text of `/proc/net/udp` (proc_net_udp(5): the local address and port in hexadecimal).
/// That of `crosswan pair` out of tunnels has the gateway's private address.
pub fn hears(proc_net_udp: &str, port: u16) -> bool {
    let local = |line: &str| {
        line.split_whitespace().nth(1).and_then(|local| local.rsplit_once(':')).map(|(_, port)| port.to_owned())
    };
    let ports = proc_net_udp.lines().skip(1).filter_map(local);
    ports.filter_map(|found| u16::from_str_radix(&found, 16).ok()).any(|found| found == port)
}

/// A verdict for each VPC that has two gateways with keys and tunnels.
pub(super) fn followed(x: &Examined) -> Vec<(String, Verdict)> {
    let port = x
        .settings
        .as_ref()
        .ok()
        .filter(|settings| settings.mode == Mode::VpnHub)
        .and_then(|settings| settings.far_port);
    let (Some(port), Some(report)) = (port, x.last_report()) else { return Vec::new() };
    let with_keys = report.tunnels.iter().filter(|(_, tunnel)| !tunnel.peer_keys.is_empty());
    let mut gateways: BTreeMap<VpcId, usize> = BTreeMap::new();
    for (vpc, _) in with_keys.filter_map(|(name, _)| name.parse::<ConnName>().ok()?.gateway()) {
        *gateways.entry(vpc).or_default() += 1;
    }
    let pairs = gateways.into_iter().filter(|(_, gateways)| *gateways > 1).map(|(vpc, _)| vpc);
    pairs.map(|vpc| (format!("followed-{vpc}"), of(x, &vpc, port))).collect()
}

fn of(x: &Examined, vpc: &VpcId, port: u16) -> Verdict {
    let word = x.followed.of(vpc.as_str());
    let instance = |word: &Followee| {
        word.connection.gateway().map_or(word.connection.to_string(), |(_, instance)| instance.to_string())
    };
    let look = "ss -lun sport = ".to_owned() + &port.to_string();
    if !*x.hears.as_ref().map_err(|why| unasked(why, WANTED, look))? {
        let found = format!(
            "crosswan pair does not run here, so no takeover in {vpc} is heard: its route moves by passes, after minutes"
        );
        return Err(warning(found, WANTED, "systemctl enable --now crosswan-pair"));
    }
    let Some(word) = word else { return Ok("none of the two has taken over: passes decide which is used".into()) };
    let (instance, generation) = (instance(word), word.generation);
    if word.overruled {
        return Ok(format!(
            "takeover {generation} of {instance} was overruled, as no packet could pass there: passes decide which is used"
        ));
    }
    let now = &x.routing.as_ref().map_err(|_| Matter::Blocked("interfaces-and-routes"))?.own;
    match &elsewhere(word, now)[..] {
        [] => Ok(format!("reached through {instance} by its word, takeover {generation}")),
        nets => {
            let found = format!("{} does not lead to {instance}, which says that it has taken over", few(nets));
            Err(failure(found, WANTED, "systemctl restart crosswan-watch"))
        }
    }
}

/// The networks behind the one that is followed whose routes lead to another tunnel.
fn elsewhere(word: &Followee, now: &Routing) -> Vec<Ipv4Net> {
    let leads = |net: &&Ipv4Net| now.routes.get(*net).is_some_and(|via| via.place == word.place);
    word.networks.iter().filter(|net| !leads(net)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_heard_if_the_kernel_lists_it() {
        let text = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n  \
                    617: 0A00000A:12BB 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 3411 2 ffff 0\n";
        assert!(hears(text, 4795) && !hears(text, 4796) && !hears(text, 0));
        for text in ["", "sl local_address\n", "sl\n 1: x\n", "sl\n 1: 0A00000A:zz\n"] {
            assert!(!hears(text, 4795), "{text:?}");
        }
    }
}
