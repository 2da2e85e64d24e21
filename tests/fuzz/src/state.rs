//! The state file: whatever it holds, a pass over it renders only what could have come from EC2.

use std::time::Duration;

use crosswan::{observe::disk, paths::Paths};
use crosswan_core::model::{Answers, AskError};

use crate::{fake, oracle};

pub fn target(data: &[u8]) {
    fake::put("var/lib/crosswan/state.json", Some(data));
    let (state, warning) = disk::state(&Paths::below(fake::root()));
    warning.into_iter().for_each(oracle::line);
    let silent = AskError::TimedOut { after: Duration::from_secs(60) };
    let unasked: Answers = fake::answers().into_keys().map(|region| (region, Err(silent.clone()))).collect();
    let key = b"the key of both ends";
    // Without IMDS the remembered identity stands in; with it, a state of another VPC counts for nothing.
    if let Some(me) = &state.identity {
        oracle::pass(&fake::KINDS[0], me, &unasked, &state, key);
        oracle::pass(&fake::KINDS[1], me, &Answers::new(), &state, key);
    }
    let state = state.for_vpc(&fake::me().vpc);
    oracle::pass(&fake::KINDS[0], &fake::me(), &fake::answers(), &state, key);
    oracle::pass(&fake::KINDS[2], &fake::me(), &unasked, &state, key);
}
