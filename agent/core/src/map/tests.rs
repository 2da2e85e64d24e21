use proptest::prelude::*;

use super::{
    layout::{Block, Layout, layout, text, width},
    *,
};

fn peer(n: usize, is: Is) -> Peer {
    Peer {
        vpc: Some(format!("vpc-{n:017x}")),
        gateway: Some(format!("i-{n:017x}")),
        cidrs: vec![format!("10.{}.{}.0/24", n / 256, n % 256)],
        is,
        segment: None,
        reason: (is == Is::Refused)
            .then(|| "its CIDR 10.1.0.0/16 overlaps that of vpc-0a0000000000000aa, which is older".into()),
        established: (is == Is::Up).then_some(86_400 * 3),
        bytes: (is != Is::Refused).then_some((1_234_567, 89)),
    }
}

/// A hub with as many VPCs in each of its regions.
fn map(regions: &[usize]) -> Map {
    let groups = regions.iter().enumerate().map(|(r, peers)| Group {
        account: (r % 3 == 2).then(|| "team-b".into()),
        region: Some(format!("eu-west-{r}")),
        failed: (r % 5 == 4).then(|| "throttled: EC2 answered \"RequestLimitExceeded\"".into()),
        peers: (0..*peers).map(|p| peer(r * 1000 + p, Is::ALL[p % Is::ALL.len()])).collect(),
    });
    Map {
        at: Timestamp(1_700_000_000),
        own: Own {
            mode: "vpn-hub".into(),
            vpc: "vpc-0c0000000000000cc".into(),
            instance: "i-0c0000000000000c1".into(),
            region: "us-west-2".into(),
            address: Some("198.51.100.1".into()),
            cidrs: vec!["10.0.0.0/16".into()],
        },
        groups: groups.collect(),
    }
}

/// What is wrong with a picture: boxes that overlap or leave it, and text that leaves its box.
fn wrong(layout: &Layout) -> Vec<String> {
    let name = |block: &Block| block.lines.join(" | ");
    let mut wrong = Vec::new();
    for (n, a) in layout.blocks.iter().enumerate() {
        if a.x < 0.0 || a.y < 0.0 || a.x + a.width > layout.width || a.y + a.height > layout.height {
            wrong.push(format!("outside: {}", name(a)));
        }
        for (x, base, line) in text(a) {
            if x + width(line) > a.x + a.width || base > a.y + a.height || base - 10.0 < a.y {
                wrong.push(format!("text leaves its box: {line}"));
            }
        }
        let apart =
            |b: &Block| a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
        wrong.extend(
            layout.blocks[n + 1..].iter().filter(|b| !apart(b)).map(|b| format!("{} covers {}", name(a), name(b))),
        );
    }
    wrong
}

#[test]
fn no_box_covers_another_with_none_3_or_300_vpcs() {
    for regions in [vec![], vec![0], vec![1, 2], vec![300], vec![20; 15], vec![1; 30], vec![250, 0, 49, 1]] {
        let layout = layout(&map(&regions));
        assert_eq!(wrong(&layout), Vec::<String>::new(), "{regions:?}");
        assert_eq!(layout.blocks.len(), 1 + regions.len() + regions.iter().sum::<usize>());
    }
    // 300 VPCs are a page that one can scroll through, not a ribbon.
    let layout = layout(&map(&[100, 100, 100]));
    assert!((0.4..4.0).contains(&(layout.width / layout.height)), "{} x {}", layout.width, layout.height);
}

#[test]
fn boxes_that_overlap_would_be_noticed() {
    let mut layout = layout(&map(&[2]));
    layout.blocks[2].y += 40.0;
    layout.blocks[0].x = -1.0;
    layout.blocks[3].lines[0] = "x".repeat(60);
    assert_eq!(wrong(&layout).len(), 3, "{:#?}", wrong(&layout));
}

/// A reason of about this length in which words and characters of all widths are.
fn foreign() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z <&\"é€\u{1f600}]{0,200}", any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_a_peer_says_the_picture_keeps_its_form(
        regions in prop::collection::vec(0..40usize, 0..6),
        reason in foreign(),
        cidrs in prop::collection::vec("[0-9./]{0,18}", 0..8),
    ) {
        let mut map = map(&regions);
        for peer in map.groups.iter_mut().flat_map(|group| &mut group.peers) {
            peer.cidrs = cidrs.clone();
            peer.reason = peer.reason.take().map(|_| reason.clone());
        }
        prop_assert_eq!(wrong(&layout(&map)), Vec::<String>::new());
        let picture = svg(&map);
        prop_assert_eq!(picture.matches("<rect").count(), 1 + regions.len() + regions.iter().sum::<usize>());
        prop_assert!(!picture.chars().any(|c| c.is_control() && c != '\n'));
    }
}

#[test]
fn text_of_others_stays_text_in_each_form() {
    let mut map = map(&[1]);
    let evil = "</title><script>alert(1)</script>\u{1}\\\" onload='x'";
    map.groups[0].peers[0] =
        Peer { is: Is::Refused, reason: Some(evil.into()), vpc: Some("\"\\]; evil -- own".into()), ..peer(1, Is::Up) };
    map.groups[0].region = Some("<b>".into());
    let picture = svg(&map);
    assert!(!picture.contains("<script") && !picture.contains("<b>") && !picture.contains('\u{1}'), "{picture}");
    assert!(picture.contains("&lt;/title&gt;&lt;script&gt;alert(1)"), "{picture}");
    let graph = dot(&map);
    assert!(graph.contains(r#"label="\"\\]; evil -- own\n"#), "{graph}");
    assert!(graph.contains(r#"</script>"#) && graph.contains(r#"\\\" onload"#), "{graph}");
    // Nothing refers to anything outside of the file but its own name.
    assert_eq!(picture.matches("http").count(), 1, "{picture}");
}

#[test]
fn a_picture_of_each_state_is_the_one_that_was_looked_at() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/map/golden.svg");
    let found = svg(&map(&[5, 2]));
    if std::env::var_os("BLESS").is_some() {
        #[allow(clippy::disallowed_methods, reason = "a test writes its golden file")]
        std::fs::write(golden, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(golden).unwrap(), "BLESS=1 writes it anew; then look at it");
}

#[test]
fn a_graph_has_a_line_to_each_tunnel_and_none_to_what_is_refused() {
    let graph = dot(&map(&[5]));
    assert_eq!(graph.matches(" -- ").count(), 4, "{graph}");
    assert!(graph.contains("peer_0_4 [label=") && !graph.contains("own -- peer_0_4"), "{graph}");
}
