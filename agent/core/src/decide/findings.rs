//! What has to be said about peers, whatever becomes of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    credential::{Credential, NoAuth},
    disabled::NotEnabled,
};
use crate::model::{Auth, Gateway, InstanceId, Refusal, Scope, VpcId};

/// The reasons for everything that is left out, left as it was, or waited for.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Gateways, VPCs and CIDRs that get no tunnel.
    pub refused: BTreeSet<Refusal>,
    /// Tunnels that stand although their peers were not seen as they should be.
    pub kept: Vec<Kept>,
    /// Gateways that will be used once they have worked.
    pub replacing: Vec<Replacing>,
    /// Gateways that were launched so recently that they should announce their key in a moment: another pass should follow
    /// soon.
    pub awaited: Vec<String>,
    /// Regions that are left out because this account has not enabled them.
    pub not_enabled: Vec<NotEnabled>,
    /// Things that an operator should know and that are not failures, a line each.
    pub notes: Vec<String>,
}

/// A tunnel that stands although this pass did not see its peer as it should be, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kept {
    /// The peer's VPC.
    pub vpc: VpcId,
    /// The region in which its gateway was last seen, and the account if it is another one.
    pub region: Scope,
    /// A phrase for the report: why it is kept.
    pub why: String,
}

/// A gateway that waits beside the one in use, with the reason (safety rule 4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replacing {
    /// The VPC of both gateways.
    pub vpc: VpcId,
    /// Their region, and their account if it is another one.
    pub region: Scope,
    /// The gateway in use.
    pub old: InstanceId,
    /// The gateway that waits.
    pub new: InstanceId,
    /// A phrase for the report: what it waits for.
    pub why: String,
}

impl Kept {
    /// The tunnel to this gateway stands because of `why`.
    pub fn new(gateway: &Gateway, why: String) -> Self {
        Kept { vpc: gateway.vpc.clone(), region: gateway.scope(), why }
    }
}

impl Findings {
    /// Adds what is wrong with the credential of a client VPC's tunnel. Returns the credential, if there is one.
    pub(super) fn of_credential(&mut self, credential: Credential, region: Scope, vpc: &VpcId) -> Option<Auth> {
        let vpc = vpc.clone();
        if let Some(why) = credential.kept {
            let kept = Kept { vpc: vpc.clone(), region: region.clone(), why };
            // Tunnels to two hubs may share it.
            self.kept.extend((!self.kept.contains(&kept)).then_some(kept));
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

    /// Adds a refusal of this gateway, or with `vpc` of its whole VPC, for `reason`.
    pub(super) fn refuse(&mut self, gateway: &Gateway, vpc: Option<&VpcId>, reason: String) {
        self.refused.insert(refusal(gateway, vpc, reason));
    }
}

/// A refusal of this gateway for `reason`.
pub(super) fn refusal(gateway: &Gateway, vpc: Option<&VpcId>, reason: String) -> Refusal {
    Refusal { region: gateway.scope(), vpc: vpc.cloned(), instance: Some(gateway.instance.clone()), cidr: None, reason }
}
