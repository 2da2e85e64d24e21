//! map: the network as one gateway sees it, as a picture (SVG), as a graph (dot) or as data (JSON). Pure.
//!
//! The gateway is at the top. Below it the VPCs stand in columns, a group of columns for each region. Everything in a picture is a box
//! whose place [`layout`] decides, so that a test can see that none overlaps another.

mod dot;
mod layout;
mod svg;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::{
    model::Timestamp,
    text::{bytes, span},
};
pub use dot::dot;
pub use svg::svg;

/// The network as one gateway sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Map {
    /// When it was looked at.
    pub at: Timestamp,
    /// The gateway that looked.
    pub own: Own,
    /// The others, by account and region.
    pub groups: Vec<Group>,
}

/// The gateway that looked.
#[derive(Debug, Clone, Serialize)]
pub struct Own {
    /// Its mode.
    pub mode: String,
    /// Its VPC.
    pub vpc: String,
    /// Its instance.
    pub instance: String,
    /// Its region.
    pub region: String,
    /// Its public address.
    pub address: Option<String>,
    /// Its VPC's CIDRs.
    pub cidrs: Vec<String>,
}

/// VPCs of one account in one region.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// The account; `None` for this gateway's own.
    pub account: Option<String>,
    /// The region; `None` if EC2 did not show one.
    pub region: Option<String>,
    /// Why the region could not be asked.
    pub failed: Option<String>,
    /// Its gateways with a tunnel, then what was refused.
    pub peers: Vec<Peer>,
}

/// A gateway of another VPC, or what was refused.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    /// Its VPC, if it is known.
    pub vpc: Option<String>,
    /// Its instance, or the hub's address.
    pub gateway: Option<String>,
    /// Its networks.
    pub cidrs: Vec<String>,
    /// How it is.
    pub is: Is,
    /// The segment of its VPC; `None` where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// Why it was refused.
    pub reason: Option<String>,
    /// Seconds since its IKE_SA was established.
    pub established: Option<u64>,
    /// Bytes received from it and sent to it, since boot.
    pub bytes: Option<(u64, u64)>,
}

/// How a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Is {
    /// Its tunnel is down.
    Down,
    /// charon could not be asked.
    Unknown,
    /// Its tunnel is up.
    Up,
    /// Its tunnel is up or down, and routes lead to another gateway of its VPC.
    StandsBy,
    /// It gets no tunnel.
    Refused,
}

impl Is {
    /// In a word.
    fn word(self) -> &'static str {
        match self {
            Is::Down => "DOWN",
            Is::Unknown => "unknown",
            Is::Up => "up",
            Is::StandsBy => "stands by",
            Is::Refused => "refused",
        }
    }

    const ALL: [Is; 5] = [Is::Up, Is::Down, Is::StandsBy, Is::Unknown, Is::Refused];
}

impl Map {
    fn count(&self, is: Is) -> usize {
        self.groups.iter().flat_map(|group| &group.peers).filter(|peer| peer.is == is).count()
    }

    /// `3 up, 1 DOWN, 2 refused`; what there is none of is left out.
    fn summary(&self) -> String {
        let counts = Is::ALL.iter().map(|is| (self.count(*is), is.word())).filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
        if counts.is_empty() { "no other gateway".into() } else { counts.join(", ") }
    }
}

impl Group {
    /// Its heading.
    fn title(&self) -> String {
        let region = self.region.as_deref().unwrap_or("region unknown");
        self.account.iter().map(|account| format!("{account} · ")).collect::<String>() + region
    }
}

impl Peer {
    /// Its name in a picture.
    fn title(&self) -> &str {
        self.vpc.as_deref().or(self.gateway.as_deref()).unwrap_or("an instance without an id")
    }

    /// Its state with what belongs to it.
    fn state(&self) -> String {
        let since = self.established.map(|seconds| format!(" {}", span(seconds))).unwrap_or_default();
        let bytes = |(from, to)| format!(", {} in, {} out", bytes(from), bytes(to));
        let segment = self.segment.iter().map(|segment| format!(", {segment}")).collect::<String>();
        format!("{}{since}{segment}{}", self.is.word(), self.bytes.map(bytes).unwrap_or_default())
    }
}
