//! The hubs that settings name: the address of one or of two, and the keys of each.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::parse::{self, Parsed, Raw};
use crate::model::{PublicKey, printable};

/// The keys of the hubs, as settings name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HubKeys {
    /// Settings name none: what a hub's tag says counts.
    #[default]
    Unnamed,
    /// One or two keys of the only hub, whatever its address is.
    OfTheHub(Vec<PublicKey>),
    /// One or two keys for each address of `hub`.
    ByAddress(BTreeMap<Ipv4Addr, Vec<PublicKey>>),
}

impl HubKeys {
    /// The keys of the hub at this address: one, or two during its rotation. Empty if settings name none.
    pub fn of(&self, address: Option<Ipv4Addr>) -> &[PublicKey] {
        match self {
            HubKeys::Unnamed => &[],
            HubKeys::OfTheHub(keys) => keys,
            HubKeys::ByAddress(keys) => address.and_then(|address| keys.get(&address)).map_or(&[], |keys| keys),
        }
    }

    /// Whether settings leave it to tags which keys count.
    pub fn is_unnamed(&self) -> bool {
        *self == HubKeys::Unnamed
    }
}

/// One address, or two different ones in the order of preference.
pub(super) fn addresses(raw: &Raw) -> Parsed<Vec<Ipv4Addr>> {
    let hubs = match raw {
        Raw::Text(_) => vec![parse::unicast(raw)?],
        _ => parse::list(raw, parse::unicast)?,
    };
    match hubs[..] {
        [] => Err("none".into()),
        [one, other] if one == other => Err(format!("{one} twice")),
        [_] | [_, _] => Ok(hubs),
        _ => Err(format!("{} addresses", hubs.len())),
    }
}

/// A key or a list of them; or a table of such by address, whose form in one word is `198.51.100.100=KEY`, an entry for each key.
pub(super) fn keys(raw: &Raw) -> Parsed<HubKeys> {
    let word = match raw {
        Raw::Word(text) | Raw::Text(text) => Raw::Word(text.clone()),
        Raw::Table(table) if !table.is_empty() => {
            let entry = |(address, keys): (&String, &Raw)| {
                let address = of(address)
                    .ok_or_else(|| format!("the address {}, which is none between quotes", printable(address)))?;
                Ok((address, listed(keys)?))
            };
            return by_address(table.iter().map(entry).collect::<Parsed<_>>()?);
        }
        _ => return some(listed(raw)?).map(HubKeys::OfTheHub),
    };
    let entries = parse::list(&word, entry)?;
    if entries.iter().all(|(address, _)| address.is_none()) {
        return some(entries.into_iter().map(|(_, key)| key).collect()).map(HubKeys::OfTheHub);
    }
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for (address, key) in entries {
        let address = address.ok_or_else(|| format!("{key} without an address beside one that has one"))?;
        keys.entry(address).or_default().push(key);
    }
    by_address(keys)
}

/// A key, and before it the address of its hub if there is one.
fn entry(raw: &Raw) -> Parsed<(Option<Ipv4Addr>, PublicKey)> {
    let text: String = parse::word(raw)?;
    // A key ends with `=` as well.
    match text.split_once('=').and_then(|(address, key)| Some((of(address)?, key))) {
        Some((address, key)) => Ok((Some(address), parse::word(&Raw::Word(key.into()))?)),
        None => Ok((None, parse::word(raw)?)),
    }
}

fn of(address: &str) -> Option<Ipv4Addr> {
    address.parse().ok()
}

fn listed(raw: &Raw) -> Parsed<Vec<PublicKey>> {
    match raw {
        Raw::Text(one) => parse::list(&Raw::Word(one.clone()), parse::word),
        _ => parse::list(raw, parse::word),
    }
}

/// The current key, and perhaps the next one.
fn some(keys: Vec<PublicKey>) -> Parsed<Vec<PublicKey>> {
    if (1..=2).contains(&keys.len()) { Ok(keys) } else { Err(format!("{} keys", keys.len())) }
}

fn by_address(keys: BTreeMap<Ipv4Addr, Vec<PublicKey>>) -> Parsed<HubKeys> {
    let each = |(address, keys)| Ok((address, some(keys).map_err(|found| format!("{found} for {address}"))?));
    keys.into_iter().map(each).collect::<Parsed<_>>().map(HubKeys::ByAddress)
}

/// Whether the keys are those of `hubs`. The error is what was expected and found, with the remedy.
pub(super) fn checked(hubs: &[Ipv4Addr], keys: &HubKeys) -> Parsed<()> {
    match (keys, hubs) {
        (HubKeys::OfTheHub(_), [one, other]) => Err(format!(
            "the keys of each hub by its address, found keys without an address; set \"{one}\" = [\"KEY\"] and \"{other}\" = [\"KEY\"] \
             below [auth.hub_key], or CROSSWAN_HUB_KEY={one}=KEY,{other}=KEY"
        )),
        (HubKeys::ByAddress(keys), hubs) => {
            if let Some(without) = hubs.iter().find(|hub| !keys.contains_key(hub)) {
                return Err(format!(
                    "keys of each hub, found none for {without}; add \"{without}\" = [\"KEY\"] below [auth.hub_key], or {without}=KEY to \
                     CROSSWAN_HUB_KEY"
                ));
            }
            match keys.keys().find(|address| !hubs.contains(address)) {
                Some(other) => Err(format!(
                    "keys of the addresses in hub, found some for {other}; add {other} to hub, which takes up to two addresses, or take its \
                     keys away"
                )),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
