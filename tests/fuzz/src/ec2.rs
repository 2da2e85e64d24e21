//! EC2: answers as they come over the wire, through the SDK's own reader and ours.
//!
//! The first byte says what the rest is: the pages themselves, or what stands in an answer's fields, from which pages are
//! made. The first finds broken XML, the second gets past the XML.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, LazyLock, Mutex},
};

use aws_sdk_ec2::Client;
use crosswan::observe::ec2::{self, Known, Query};
use crosswan_core::{
    model::{Region, Scope},
    settings::Tag,
    state::State,
};

use crate::{
    fake::{self, KINDS, RUNTIME},
    oracle,
    wire::{Answers, config},
};

static PAGES: LazyLock<Answers> = LazyLock::new(|| Arc::new(Mutex::new(Vec::new().into_iter())));

static EC2: LazyLock<(Client, Region)> = LazyLock::new(|| {
    let region: Region = "eu-west-1".parse().unwrap();
    (ec2::client(&config(PAGES.clone()), &region), region)
});

/// Peers of the last pass, one of them in what the corpus shows.
static KNOWN: LazyLock<BTreeMap<Scope, Known>> = LazyLock::new(|| {
    let ids = |kind: &str| ["00000001", "00000009"].map(|n| format!("{kind}-{n}"));
    let known = Known {
        instances: ids("i").map(|id| id.parse().unwrap()).into(),
        vpcs: ids("vpc").map(|id| id.parse().unwrap()).into(),
    };
    [("eu-west-1".parse().unwrap(), known)].into()
});

pub fn target(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let pages = if first & 1 == 0 { raw(rest) } else { made(rest) };
    let last = pages.last().filter(|_| first & 1 == 0).map(|(_, page)| page.clone());
    *PAGES.lock().unwrap() = pages.into_iter();
    let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
    let (client, region) = &*EC2;
    let query = Query {
        regions: [region.clone()].into(),
        accounts: BTreeMap::new(),
        home: (region.clone(), "i-0000ffff".parse().unwrap()),
        tag: tag("service", "nat"),
        environment: None,
        with_cidrs: first & 2 == 0,
        segment_tag: (first & 4 == 0).then(|| "crosswan-segment".to_owned()),
        known: KNOWN.clone(),
    };
    let scope = Scope::from(region.clone());
    let ask = || RUNTIME.block_on(ec2::region_answer(client, &query, &scope));
    let answer = ask();
    match &answer {
        Ok(view) => {
            view.unusable.iter().for_each(oracle::line);
            if let Some(cut) = last.as_deref().and_then(|page| cut(page)) {
                *PAGES.lock().unwrap() = vec![(200, cut.to_vec())].into_iter();
                assert!(ask().is_err(), "half a page is taken for an answer: {}", String::from_utf8_lossy(cut));
            }
        }
        Err(why) => oracle::line(why),
    }
    let kind = if query.with_cidrs { &KINDS[0] } else { &KINDS[2] };
    let answers = [(scope.clone(), answer)].into();
    if let Some(decision) = oracle::pass(kind, &fake::me(), &answers, &State::default(), b"the key of both ends") {
        // The same answer again: nobody leaves, nobody changes.
        let again = oracle::pass(kind, &fake::me(), &answers, &decision.state, b"the key of both ends").unwrap();
        assert_eq!((&again.tunnels, again.removed.len()), (&decision.tunnels, 0), "the same answer, another decision");
    }
}

/// Pages with NUL between them; one that begins with a control character comes with another status.
fn raw(data: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let page = |page: &[u8]| match page {
        [status @ 1..=4, page @ ..] => ([400, 403, 500, 503][usize::from(*status) - 1], page.to_vec()),
        page => (200, page.to_vec()),
    };
    data.split(|b| *b == 0).map(page).collect()
}

/// The page up to somewhere before its last closing tag; `None` if that is not what it ends with.
fn cut(page: &[u8]) -> Option<&[u8]> {
    let end = page.trim_ascii_end().strip_suffix(b">")?.iter().rposition(|b| *b == b'<')?;
    let somewhere = page.iter().fold(0usize, |hash, b| hash.wrapping_mul(31).wrapping_add(usize::from(*b)));
    (page.get(end + 1) == Some(&b'/')).then(|| &page[..somewhere % (end + 1)])
}

/// One page of instances and one of VPCs. A line is an instance or a VPC: the first byte says which of its fields there are
/// and what else is odd, the fields follow with `|` between them.
fn made(data: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let (mut instances, mut vpcs) = (String::new(), String::new());
    for line in data.split(|b| *b == b'\n') {
        let [first, rest @ ..] = line else { continue };
        let text = String::from_utf8_lossy(rest);
        let mut fields = text.split('|').map(escaped);
        let mut next = || fields.next().unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = if first & 0x80 == 0 {
            let mut field = |bit: u8, name: &str| {
                let value = next();
                if first & bit == 0 { format!("<{name}>{value}</{name}>") } else { String::new() }
            };
            let [id, vpc, private, public, launched, state] = [
                (1, "instanceId"),
                (2, "vpcId"),
                (4, "privateIpAddress"),
                (8, "ipAddress"),
                (16, "launchTime"),
                (32, "name"),
            ]
            .map(|(bit, name)| field(bit, name));
            write!(
                instances,
                "<item><instancesSet><item>{id}{vpc}{private}{public}{launched}<instanceState>{state}</instanceState>\
                 </item></instancesSet></item>"
            )
        } else {
            let id = next();
            let cidr = |cidr: String| {
                let (cidr, state) = cidr.split_once(' ').map_or((&cidr[..], "associated"), |(c, s)| (c, s));
                format!(
                    "<item><cidrBlock>{cidr}</cidrBlock><cidrBlockState><state>{state}</state></cidrBlockState></item>"
                )
            };
            let cidrs: String = fields.map(cidr).collect();
            write!(vpcs, "<item><vpcId>{id}</vpcId><cidrBlockAssociationSet>{cidrs}</cidrBlockAssociationSet></item>")
        };
    }
    let page = |action: &str, set: &str, items: &str| {
        (200, format!("<{action}Response><{set}>{items}</{set}></{action}Response>").into_bytes())
    };
    vec![page("DescribeInstances", "reservationSet", &instances), page("DescribeVpcs", "vpcSet", &vpcs)]
}

/// As XML carries it: what is markup, or no character of XML at all, as a reference.
fn escaped(text: &str) -> String {
    let reference = |c: char| match c {
        '<' | '>' | '&' | '"' => format!("&#{};", u32::from(c)),
        c if c.is_control() => format!("&#{};", u32::from(c)),
        c => c.into(),
    };
    text.chars().map(reference).collect()
}
