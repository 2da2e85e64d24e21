//! SSM and Secrets Manager: answers as they come over the wire, through the SDK's own reader and ours. Each name that was asked for
//! gets a key or a reason in one line.

use std::sync::{Arc, LazyLock, Mutex};

use aws_config::SdkConfig;
use aws_sdk_ec2::config::Credentials;
use crosswan::observe::store::Store;
use crosswan_core::settings::{Fetched, Service, StoredPsk};

use crate::{
    fake::RUNTIME,
    oracle,
    wire::{Answers, config},
};

static ANSWERS: LazyLock<Answers> = LazyLock::new(|| Arc::new(Mutex::new(Vec::new().into_iter())));

static SHARED: LazyLock<(SdkConfig, Credentials)> = LazyLock::new(|| config(ANSWERS.clone()));

/// The first byte says which service, whether one name was asked for or three, and the status.
pub fn target(data: &[u8]) {
    let Some((first, json)) = data.split_first() else { return };
    let (service, prefix) = if first & 1 == 0 { (Service::Parameter, "/psk/") } else { (Service::Secret, "psk/") };
    let stored = StoredPsk { service, name: format!("{prefix}{{vpc}}"), region: None };
    let region = "eu-west-1".parse().unwrap();
    let count = if first & 2 == 0 { 1 } else { 3 };
    let names: Vec<String> = (1..=count).map(|n| format!("{prefix}vpc-{n:08x}")).collect();
    let status = if first & 4 == 0 { 200 } else { 400 };
    *ANSWERS.lock().unwrap() = vec![(status, json.to_vec())].into_iter();
    let mut fetched = Fetched::new();
    RUNTIME.block_on(Store::new(&SHARED, &stored, &region).fetch(&names, &mut fetched));
    assert!(fetched.keys().eq(&names), "an entry for each name");
    for (name, found) in &fetched {
        match found {
            // A key that no file might hold is none here either.
            Ok(key) => assert_eq!(stored.check(name, key.bytes()).as_ref(), Ok(key)),
            Err(no_key) => oracle::line(no_key),
        }
    }
}
