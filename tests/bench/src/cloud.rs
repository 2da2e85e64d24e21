//! A canned EC2 endpoint of any number of regions and gateways, with pages, latency and throttling to be set. moto needs
//! minutes for what this answers at once (`docs/facts.md`, "moto").

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use crosswan_lab::{Netns, Request, Response, Service, decoded};

use crate::key;
use crate::xml::{self, KEY_TAG};

const PORT: u16 = 8080;
/// The endpoint, inside the namespace it is served in.
pub const ENDPOINT: &str = "http://127.0.0.1:8080";
/// A page when the caller names no size, and the largest there is.
const PAGE: usize = 1000;

/// What the cloud holds and how it answers.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Number of regions, see [`region`].
    pub regions: usize,
    /// Gateways over all of them: number `n` is in region `n % regions`.
    pub gateways: usize,
    /// Before every answer.
    pub latency: Duration,
    /// So many first calls in each region are answered with RequestLimitExceeded.
    pub throttled: u64,
    /// Gateways that have their second public address now.
    pub moved: BTreeSet<usize>,
}

/// The endpoint, until dropped.
pub struct Cloud {
    state: Arc<Mutex<State>>,
    _service: Service,
}

#[derive(Default)]
struct State {
    shape: Shape,
    /// By region.
    calls: BTreeMap<String, u64>,
    /// What gateways announce, by number; made before anyone asks.
    keys: Arc<Vec<String>>,
    /// What the hub announces, by instance, as it was last written.
    own: BTreeMap<String, String>,
}

impl State {
    /// Changes the shape; nobody waits for the new gateways' keys later.
    fn change(&mut self, change: impl FnOnce(&mut Shape)) {
        change(&mut self.shape);
        let missing = self.keys.len()..self.shape.gateways;
        if !missing.is_empty() {
            Arc::make_mut(&mut self.keys).extend(missing.map(key::announced));
        }
        self.calls.clear();
    }
}

/// Name of region `n`, below 2,000: a region's number has two digits at most.
pub fn region(n: usize) -> String {
    const NUMBERS: usize = 90;
    let series = ('a'..='z').nth((n / NUMBERS).wrapping_sub(1)).map(String::from).unwrap_or_default();
    format!("xx-bench{series}-{}", n % NUMBERS + 1)
}

impl Cloud {
    /// Serves [`ENDPOINT`] inside `ns`.
    pub fn serve(ns: &Netns) -> Result<Cloud> {
        let state = Arc::new(Mutex::<State>::default());
        let shared = state.clone();
        let service = Service::tcp(ns, Ipv4Addr::LOCALHOST, PORT, move |mut stream| {
            // EC2 leaves connections open, too. The caller may give up while it waits.
            while let Ok(request) = Request::read(&mut stream) {
                if stream.write_all(&answer(&shared, &request).bytes_before_more()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Cloud { state, _service: service })
    }

    /// Changes what it holds, and counts calls from zero.
    pub fn set(&self, change: impl FnOnce(&mut Shape)) {
        lock(&self.state).change(change);
    }

    /// What it holds.
    pub fn shape(&self) -> Shape {
        lock(&self.state).shape.clone()
    }

    /// Calls since the last [`Cloud::set`].
    pub fn calls(&self) -> u64 {
        lock(&self.state).calls.values().sum()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_account(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn answer(state: &Mutex<State>, request: &Request) -> Response {
    // Credential=<key>/<date>/<region>/ec2/aws4_request
    let scope = request.header("authorization").unwrap_or_default();
    let region = scope.split('/').nth(2).unwrap_or_default().to_string();
    let owner = scope.split_once("Credential=ASIA").and_then(|(_, key)| key.get(..12)).filter(|key| is_account(key));
    let owner = owner.unwrap_or(xml::ACCOUNT);
    let (call, shape, keys) = {
        let mut state = lock(state);
        let call = state.calls.entry(region.clone()).or_default();
        *call += 1;
        (*call, state.shape.clone(), state.keys.clone())
    };
    std::thread::sleep(shape.latency);
    let body = String::from_utf8_lossy(&request.body);
    let form: BTreeMap<&str, &str> = body.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let number = |key: &str| form.get(key).and_then(|value| value.parse::<usize>().ok());
    let text = |key: &str| form.get(key).map(|value| decoded(value));
    let index = (0..shape.regions).find(|n| self::region(*n) == region);
    // The hub asks for itself, by its id, in its own region: none of those that have gateways.
    let hub = text("InstanceId.1").or_else(|| text("ResourceId.1"));
    if let (Some(&"AssumeRole"), Some(role)) = (form.get("Action"), text("RoleArn")) {
        return Response::new(200, xml::session(role.split(':').nth(4).unwrap_or_default()));
    }
    if index.is_none() && hub.is_none() && form.get("Action") != Some(&"DescribeVpcs") {
        return Response::new(401, xml::error("AuthFailure"));
    }
    if call <= shape.throttled {
        return Response::new(503, xml::error("RequestLimitExceeded"));
    }
    match (form.get("Action"), hub, index) {
        (Some(&"DescribeInstances"), Some(hub), _) => Response::new(200, xml::own(&hub, lock(state).own.get(&hub))),
        (Some(&"CreateTags"), Some(hub), _) if text("Tag.1.Key").as_deref() == Some(KEY_TAG) => {
            lock(state).own.insert(hub, text("Tag.1.Value").unwrap_or_default());
            Response::new(200, xml::written())
        }
        (Some(&"DescribeInstances"), None, Some(index)) => {
            let (from, size) = (number("NextToken").unwrap_or(0), number("MaxResults").unwrap_or(PAGE).min(PAGE));
            // Gateways that the last answer lacked are asked for by their ids; the tags are not looked at.
            let ids: BTreeSet<&str> = form.values().copied().filter(|value| value.starts_with("i-")).collect();
            let asked = |n: &usize| ids.is_empty() || ids.contains(xml::instance_id(*n).as_str());
            let all: Vec<usize> = (index..shape.gateways).step_by(shape.regions).filter(asked).collect();
            let next = (from + size < all.len()).then_some(from + size);
            let page = all.into_iter().skip(from).take(size).map(|n| (n, shape.moved.contains(&n), &*keys[n]));
            Response::new(200, xml::instances(&region, page, next))
        }
        (Some(&"DescribeVpcs"), ..) => {
            let ids = form.iter().filter(|(key, value)| key.contains(".Value.") && value.starts_with("vpc-"));
            Response::new(200, xml::vpcs(ids.map(|(_, id)| *id), owner))
        }
        _ => Response::new(400, xml::error("InvalidAction")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(shape: Shape) -> Mutex<State> {
        let mut state = State::default();
        state.change(|empty| *empty = shape);
        Mutex::new(state)
    }

    fn ask(state: &Mutex<State>, region: usize, form: &str) -> (u16, String) {
        let authorization = format!("AWS4-HMAC-SHA256 Credential=A/20260101/{}/ec2/aws4_request", self::region(region));
        let headers = vec![("authorization".to_string(), authorization)];
        let request = Request { headers, body: form.as_bytes().to_vec(), ..Request::default() };
        let response = answer(state, &request);
        (response.status, String::from_utf8(response.body).unwrap())
    }

    fn between<'t>(text: &'t str, start: &str, end: &str) -> Vec<&'t str> {
        text.split(start).skip(1).map(|rest| rest.split_once(end).unwrap().0).collect()
    }

    #[test]
    fn ten_thousand_gateways_in_twenty_regions_come_in_pages_once_each() {
        let shape = Shape { regions: 20, gateways: 10_000, moved: [40].into(), ..Shape::default() };
        let state = holding(shape);
        let (mut seen, mut addresses, mut keys, mut calls) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), 0);
        for region in 0..20 {
            let mut token = String::new();
            loop {
                calls += 1;
                let (_, page) = ask(&state, region, &format!("Action=DescribeInstances&MaxResults=200{token}"));
                assert!(roxmltree::Document::parse(&page).is_ok());
                let ids = between(&page, "<reservationId>r-", "<");
                assert!(ids.len() <= 200);
                assert!(ids.iter().all(|id| seen.insert(id.to_string())), "twice");
                addresses.extend(between(&page, "<ipAddress>", "<").into_iter().map(str::to_string));
                keys.extend(between(&page, "<key>crosswan-key</key><value>", "<").into_iter().map(str::to_string));
                match between(&page, "<nextToken>", "<").first() {
                    Some(next) => token = format!("&NextToken={next}"),
                    None => break,
                }
            }
        }
        assert_eq!((seen.len(), addresses.len(), keys.len(), calls), (10_000, 10_000, 10_000, 60));
        assert!(keys.iter().all(|key| key.parse::<crosswan_core::model::ProvenKey>().is_ok()));
        assert!(addresses.contains(&xml::public(40, true).to_string()));
        let (_, text) = ask(
            &state,
            0,
            &format!("Action=DescribeVpcs&Filter.1.Name=vpc-id&Filter.1.Value.1={}", xml::vpc_id(9_999)),
        );
        assert_eq!(between(&text, "<cidrBlock>", "<"), ["10.40.15.0/24"; 2]);
    }

    #[test]
    fn gateways_are_found_by_their_ids_and_one_that_is_not_there_is_no_error() {
        let state = holding(Shape { regions: 2, gateways: 6, ..Shape::default() });
        let filter = [2, 3, 8]
            .map(xml::instance_id)
            .iter()
            .zip(1..)
            .fold("Action=DescribeInstances&Filter.1.Name=instance-id".to_owned(), |form, (id, n)| {
                form + &format!("&Filter.1.Value.{n}={id}")
            });
        let (status, page) = ask(&state, 0, &filter);
        assert_eq!((status, between(&page, "<instanceId>", "<")), (200, vec![xml::instance_id(2).as_str()]));
    }

    #[test]
    fn throttling_ends_after_as_many_calls_in_each_region() {
        let shape = Shape { regions: 2, gateways: 2, throttled: 2, ..Shape::default() };
        let state = holding(shape);
        for region in [0, 1] {
            let codes = (0..3).map(|_| ask(&state, region, "Action=DescribeInstances").0).collect::<Vec<_>>();
            assert_eq!(codes, [503, 503, 200]);
        }
        assert_eq!(ask(&state, 2, "Action=DescribeInstances").0, 401, "a region that does not exist");
    }

    #[test]
    fn the_hub_finds_the_tag_it_wrote_and_no_other() {
        let state = holding(Shape { regions: 1, gateways: 1, ..Shape::default() });
        let me = |state| ask(state, 7, "Action=DescribeInstances&InstanceId.1=i-1");
        let (status, before) = me(&state);
        assert_eq!(
            (status, between(&before, "<instanceId>", "<"), before.contains(KEY_TAG)),
            (200, vec!["i-1"], false)
        );
        let write = "Action=CreateTags&ResourceId.1=i-1&Tag.1.Key=crosswan-key&Tag.1.Value=MCow%2B%2F%3D%20sig";
        assert_eq!(ask(&state, 7, write).0, 200);
        assert_eq!(between(&me(&state).1, "<key>crosswan-key</key><value>", "<"), ["MCow+/= sig"]);
        let (_, other) = ask(&state, 7, "Action=DescribeInstances&InstanceId.1=i-2");
        assert!(!other.contains(KEY_TAG), "{other}");
    }
}
