use std::time::Duration;

use proptest::prelude::*;

use super::{CONN, HUB, SPOKE, conn, looks, sa, view};
use crate::{
    keep::{Action, Memory, Transition, View, decide},
    system::Sa,
};

const NAMES: [&str; 5] = [CONN, "crosswan-hub-1-2-3-4", "crosswan-own", "office", "crosswan-UPPER"];
const IKE: [&str; 6] = ["CREATED", "CONNECTING", "ESTABLISHED", "REKEYING", "REKEYED", "DELETING"];
const CHILD: [&str; 6] = ["CREATED", "INSTALLING", "INSTALLED", "REKEYING", "REKEYED", "DELETING"];

prop_compose! {
    fn any_sa()(conn in 0..NAMES.len(), id in 1..9u32, state in 0..IKE.len(), child_pending: bool,
                children in proptest::collection::vec((0..3usize, 1..30u32, 0..CHILD.len()), 0..4)) -> Sa {
        let children: Vec<_> = children.into_iter().map(|(n, id, s)| (["a", "b", "c"][n], id, CHILD[s])).collect();
        Sa { conn: NAMES[conn].into(), child_pending, ..sa(id, IKE[state], &children) }
    }
}

prop_compose! {
    fn any_view()(sas in proptest::collection::vec(any_sa(), 0..6), loaded in proptest::bits::u8::between(0, 5), up in 0..90u64) -> View {
        let loaded = NAMES.iter().enumerate().filter(|(n, _)| loaded & 1 << n != 0);
        let conns = loaded.map(|(_, name)| ((*name).into(), conn(&[("a", "tunnel"), ("b", "tunnel"), ("p", "pass")]))).collect();
        View { uptime: Duration::from_secs(up), conns, sas, ..View::default() }
    }
}

proptest! {
    #[test]
    fn no_history_makes_it_touch_what_it_must_not(
        views in proptest::collection::vec((any_view(), 0..40_000u64), 1..12), spoke: bool,
    ) {
        let (mut memory, mut now) = (Memory::default(), 0);
        for (view, later) in views {
            now += later;
            let actions = decide(now, &view, &mut memory, if spoke { SPOKE } else { HUB });
            for action in &actions {
                prop_assert!(NAMES[..2].contains(&action.conn()) && view.conns.contains_key(action.conn()), "{}", action);
                let mut sas = view.sas.iter().filter(|sa| sa.conn == action.conn());
                match action {
                    Action::Initiate { child, .. } => {
                        prop_assert!(child == "a" || child == "b");
                        let up = |sa: &Sa| sa.is_established() && sa.children.iter().any(|c| c.name == *child && c.is_up());
                        prop_assert!(!sas.any(|sa| sa.is_connecting() || sa.child_pending || up(sa)), "{}", action);
                    }
                    Action::Prove { .. } => prop_assert!(false, "{}: it has children", action),
                    Action::TerminateIke { id, .. } => {
                        prop_assert!(sas.any(|sa| sa.id == *id && sa.is_established()), "{}", action);
                    }
                    Action::TerminateChild { id, child, .. } => {
                        let whole = |sa: &Sa| sa.children.iter().any(|c| c.id == *id && c.name == *child && c.state == "INSTALLED");
                        prop_assert!(sas.any(whole), "{}", action);
                    }
                }
            }
        }
    }
}

#[test]
fn a_childs_name_is_shown_escaped() {
    let conns = [(CONN.to_owned(), conn(&[("a\nb", "tunnel")]))].into();
    let view = View { conns, ..view(&[]) };
    assert_eq!(looks(&[0, 500], &view, SPOKE), [r"500 initiate crosswan-vpc-0aaa1111 a\nb (attempt 1)"]);
    let twice = sa(1, "ESTABLISHED", &[("a\nb", 1, "INSTALLED"), ("a\nb", 2, "INSTALLED")]);
    let view = View { sas: vec![twice], ..view };
    let mut memory = Memory::default();
    let ended: Vec<String> =
        [0, 60_000].iter().flat_map(|t| decide(*t, &view, &mut memory, SPOKE)).map(|a| a.to_string()).collect();
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(ended[0].contains(r" a\nb: duplicate"), "{ended:?}");
    let down = Transition { conn: CONN.into(), child: "a\nb".into(), up_after: None, attempts: 0 };
    assert_eq!(down.to_string(), r"crosswan-vpc-0aaa1111 a\nb is down");
}
