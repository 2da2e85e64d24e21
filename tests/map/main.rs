//! `crosswan map` in a real browser: everything is drawn where it should be, and what others have written stays text.

#![allow(clippy::disallowed_methods, reason = "a test runs a browser on files that it writes")]

use std::{fs, process::Command};

use crosswan_core::{
    map::{Group, Is, Map, Own, Peer, svg},
    model::Timestamp,
};
use serde_json::Value;

/// What the browser finds out about the picture, as base64 of JSON in an element of the page: the browser's own measures of boxes and texts.
const LOOK: &str = r#"
const box = e => { const r = e.getBoundingClientRect(); return { x: r.left, y: r.top, right: r.right, bottom: r.bottom } };
const svg = document.querySelector('svg'), groups = [...svg.querySelectorAll('g')];
const found = groups.map(g => ({ class: g.querySelector('rect').getAttribute('class'), fill: getComputedStyle(g.querySelector('rect')).fill,
    box: box(g.querySelector('rect')), title: g.querySelector('title').textContent,
    texts: [...g.querySelectorAll('text')].map(t => ({ text: t.textContent, box: box(t) })) }));
const result = { canvas: box(svg), found, lines: svg.querySelectorAll('polyline').length, evil: window.evil === true,
    scripts: document.querySelectorAll('svg script, svg image, svg a, svg foreignObject').length };
const out = document.createElement('pre');
out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(result))));
document.body.append(out);
"#;

/// Draws the map in the browser, and returns what it has found out.
fn drawn(map: &Map) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("map.html");
    let picture = svg(map);
    // Also by itself it must be XML: a browser shows an error in place of a file that is not.
    fs::write(dir.path().join("map.svg"), &picture).unwrap();
    fs::write(&page, format!("<!doctype html><meta charset=utf-8><body>{picture}<script>{LOOK}</script>")).unwrap();
    let run = |file: &str| {
        let out = Command::new("chromium-headless-shell")
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1600,1200", "--dump-dom"])
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .arg(format!("file://{}/{file}", dir.path().display()))
            .output()
            .expect("chromium-headless-shell, of Debian's package of that name, is needed: tests/setup/debian.sh fuzz");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let alone = run("map.svg");
    assert!(alone.contains("<svg") && !alone.contains("parsererror"), "{alone}");
    let shown = run("map.html");
    let result = shown.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>")).expect(&shown).0;
    use base64::Engine;
    let json = base64::engine::general_purpose::STANDARD.decode(result).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn side(of: &Value, name: &str) -> f64 {
    of["box"][name].as_f64().unwrap()
}

/// What is wrong with what the browser has drawn.
fn wrong(result: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let (canvas, all) = (&result["canvas"], result["found"].as_array().unwrap());
    let limit = |name: &str| canvas[name].as_f64().unwrap();
    for (n, a) in all.iter().enumerate() {
        let name = &a["title"];
        if side(a, "x") < limit("x") || side(a, "right") > limit("right") || side(a, "bottom") > limit("bottom") {
            wrong.push(format!("outside: {name}"));
        }
        for text in a["texts"].as_array().unwrap() {
            let inside = side(text, "x") >= side(a, "x") && side(text, "right") <= side(a, "right");
            if !inside || side(text, "y") < side(a, "y") - 1.0 || side(text, "bottom") > side(a, "bottom") + 1.0 {
                wrong.push(format!("leaves its box: {text}"));
            }
            if side(text, "right") - side(text, "x") < 1.0 {
                wrong.push(format!("not drawn: {text}"));
            }
        }
        let covers = |b: &&Value| {
            side(a, "x") < side(b, "right")
                && side(b, "x") < side(a, "right")
                && side(a, "y") < side(b, "bottom")
                && side(b, "y") < side(a, "bottom")
        };
        wrong.extend(all[n + 1..].iter().filter(covers).map(|b| format!("{name} covers {}", b["title"])));
    }
    wrong
}

/// A hub with as many VPCs in each of its regions; every tenth of them is down, and every tenth is refused.
fn map(regions: &[usize], reason: &str) -> Map {
    let peer = |n: usize| Peer {
        vpc: Some(format!("vpc-0a{n:015}")),
        gateway: Some(format!("i-0a{n:015}")),
        cidrs: vec![format!("10.{}.{}.0/24", n / 256, n % 256), "10.200.0.0/16".into(), "10.201.0.0/16".into()],
        is: match n % 10 {
            1 => Is::Down,
            2 => Is::Refused,
            _ => Is::Up,
        },
        segment: (n % 10 == 3).then(|| "segment prod".into()),
        reason: (n % 10 == 2).then(|| reason.into()),
        established: Some(7000),
        bytes: Some((999_900_000_000, 999_900_000_000)),
    };
    let groups = regions.iter().enumerate().map(|(r, peers)| Group {
        account: Some("a team with a long name".into()),
        region: Some(format!("ap-southeast-{r}")),
        failed: None,
        peers: (0..*peers).map(peer).collect(),
    });
    Map {
        at: Timestamp(0),
        own: Own {
            mode: "vpn-hub".into(),
            vpc: "vpc-0c0000000000000cc".into(),
            instance: "i-0c0000000000000c1".into(),
            region: "us-west-2".into(),
            address: Some("198.51.100.100".into()),
            cidrs: vec!["10.0.0.0/16".into()],
        },
        groups: groups.collect(),
    }
}

#[test]
fn a_browser_draws_every_vpc_apart_from_the_others_and_all_text_in_its_box() {
    for (regions, down) in [(vec![1, 2], 1), (vec![140, 100, 40, 20], 30)] {
        let count: usize = regions.iter().sum();
        let result =
            drawn(&map(&regions, "its CIDR 10.1.0.0/16 overlaps that of vpc-0a0000000000000aa, which is older"));
        assert_eq!(wrong(&result), Vec::<String>::new());
        let all = result["found"].as_array().unwrap();
        assert_eq!(all.len(), 1 + regions.len() + count);
        // The style is in force: what is down is red.
        let red = all.iter().filter(|found| found["fill"] == "rgb(255, 235, 233)");
        assert_eq!((red.count(), all.iter().filter(|found| found["class"] == "down").count()), (down, down));
        let refused: Vec<&Value> = all.iter().filter(|found| found["class"] == "refused").collect();
        let told = |found: &&Value| found["title"].as_str().unwrap().ends_with("which is older");
        assert!(refused.len() == count / 10 && refused.iter().all(told), "{refused:#?}");
        let with = |text: &str| {
            let has = |found: &&Value| {
                let mut texts = found["texts"].as_array().unwrap().iter();
                texts.any(|line| line["text"].as_str().unwrap().contains(text))
            };
            all.iter().filter(has).count()
        };
        let prod: usize = regions.iter().map(|peers| (0..*peers).filter(|n| n % 10 == 3).count()).sum();
        assert_eq!((with("a team with a long name"), with("segment prod")), (regions.len(), prod), "{all:#?}");
    }
}

#[test]
fn boxes_that_cover_each_other_in_the_browser_are_noticed() {
    let mut result = drawn(&map(&[2], ""));
    let other = result["found"][2]["box"].clone();
    result["found"][3]["box"] = other;
    assert!(!wrong(&result).is_empty(), "{result:#}");
}

#[test]
fn what_others_have_written_is_text_for_the_browser_and_runs_nothing() {
    let evil =
        "</title></svg><script>window.evil = true</script><img src=x onerror='window.evil=true'> ]]> &amp; \u{1}";
    let mut map = map(&[10], evil);
    map.groups[0].region = Some("<script>window.evil=true</script>".into());
    map.groups[0].peers[0].vpc = Some("\"/><a href='javascript:evil()'>".into());
    let result = drawn(&map);
    assert_eq!((result["evil"].as_bool(), result["scripts"].as_u64()), (Some(false), Some(0)), "{result:#}");
    assert_eq!(wrong(&result), Vec::<String>::new());
    let all = result["found"].as_array().unwrap();
    let shown =
        all.iter().any(|found| found["title"].as_str().unwrap().contains("<script>window.evil = true</script>"));
    assert!(shown, "{result:#}");
}
