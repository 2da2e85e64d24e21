//! SSM and Secrets Manager: their answers as JSON. Each name that was asked for gets a key or a reason in one line.

use crosswan::observe::store::{Place, answered};
use crosswan_core::settings::{NoKey, Service, StoredKey};

use crate::oracle;

/// The first byte says which service, and whether one name was asked for or three.
pub fn target(data: &[u8]) {
    let Some((first, json)) = data.split_first() else { return };
    let Ok(found) = serde_json::from_slice(json) else { return };
    let (service, prefix) = if first & 1 == 0 { (Service::Parameter, "/psk/") } else { (Service::Secret, "psk/") };
    let stored = StoredKey { service, name: format!("{prefix}{{vpc}}"), region: None };
    let place = Place { stored: &stored, region: &"eu-west-1".parse().unwrap() };
    let count = if first & 2 == 0 { 1 } else { 3 };
    let names: Vec<String> = (1..=count).map(|n| format!("{prefix}vpc-{n:08x}")).collect();
    match answered(place, &found, &names) {
        Ok(fetched) => {
            assert!(fetched.keys().eq(&names), "an entry for each name");
            for (name, found) in &fetched {
                match found {
                    // A key that no file might hold is none here either.
                    Ok(key) => assert_eq!(stored.check(name, key.bytes()).as_ref(), Ok(key)),
                    Err(NoKey::Refused(why) | NoKey::Unasked(why)) => oracle::line(why),
                }
            }
        }
        Err(why) => oracle::line(&why),
    }
}
