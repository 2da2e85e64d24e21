//! What has to be said about peers, whatever comes of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    credential::{Credential, NoAuth},
    disabled::NotEnabled,
};
use crate::model::{Auth, Gateway, InstanceId, Refusal, Region, VpcId};

/// A reason for everything that is left out, left as it was, or waited for.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    pub refused: BTreeSet<Refusal>,
    pub kept: Vec<Kept>,
    /// Gateways that will be used once they have worked.
    pub replacing: Vec<Replacing>,
    /// Gateways so young that their key is only a matter of moments: the pass should be made again soon.
    pub awaited: Vec<String>,
    /// Regions that are left out, as this account has not enabled them.
    pub not_enabled: Vec<NotEnabled>,
    /// Worth reading, but no failure.
    pub notes: Vec<String>,
}

/// A tunnel that stands although this pass did not see its peer as it should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kept {
    pub vpc: VpcId,
    pub region: Region,
    pub why: String,
}

/// A gateway that waits beside the one in use, and for what (safety rule 4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replacing {
    pub vpc: VpcId,
    pub region: Region,
    /// The gateway in use.
    pub old: InstanceId,
    pub new: InstanceId,
    pub why: String,
}

impl Kept {
    /// The tunnel to this gateway stands, because of `why`.
    pub fn new(gateway: &Gateway, why: String) -> Self {
        Kept { vpc: gateway.vpc.clone(), region: gateway.region.clone(), why }
    }
}

impl Findings {
    /// Says what is wrong with the credential of a client VPC's tunnel; the credential, if there is one.
    pub(super) fn of_credential(&mut self, credential: Credential, region: &Region, vpc: &VpcId) -> Option<Auth> {
        let (vpc, region) = (vpc.clone(), region.clone());
        if let Some(why) = credential.kept {
            self.kept.push(Kept { vpc: vpc.clone(), region: region.clone(), why });
        }
        match credential.auth {
            Ok(auth) => return Some(auth),
            Err(NoAuth::Awaited(what)) => self.awaited.push(what),
            Err(NoAuth::Missing(reason)) => {
                self.refused.insert(Refusal { region, vpc: Some(vpc), instance: None, cidr: None, reason });
            }
            Err(NoAuth::Refused) => {}
        }
        None
    }

    /// Refuses a gateway, or with `vpc` its whole VPC.
    pub(super) fn refuse(&mut self, gateway: &Gateway, vpc: Option<&VpcId>, reason: String) {
        self.refused.insert(refusal(gateway, vpc, reason));
    }
}

/// A refusal of this gateway for `reason`.
pub(super) fn refusal(gateway: &Gateway, vpc: Option<&VpcId>, reason: String) -> Refusal {
    Refusal {
        region: gateway.region.clone(),
        vpc: vpc.cloned(),
        instance: Some(gateway.instance.clone()),
        cidr: None,
        reason,
    }
}
