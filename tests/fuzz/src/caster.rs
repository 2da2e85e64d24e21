//! CloudCaster's documents: the scanner against serde_json, the reader, and the plan of what it accepts.

use std::collections::BTreeMap;

use cloudcaster::{
    decide::decide,
    document::{Options, parse},
    plan::{self, plan},
    problem::Level,
    seen::Seen,
    tree::scan,
};

/// A document; one that is accepted is also planned against an empty region.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // What the scanner takes, serde_json takes too, and reads as the same (objects with a key twice aside).
    if let Ok(node) = scan(text)
        && let Err(e) = serde_json::from_str::<serde_json::Value>(text.trim_start_matches('\u{feff}'))
    {
        // serde_json refuses numbers beyond f64 where it keeps them.
        assert!(e.to_string().contains("number out of range"), "{node:?}: {e}");
    }
    for allow_unknown in [false, true] {
        let (document, problems) = parse("doc.json", text.to_owned(), Options { allow_unknown });
        for problem in &problems {
            let line = problem.to_string();
            assert!(is_plain(&line), "{line:?}");
            assert!(!line.contains("disagree"), "{line}");
        }
        assert!(document.is_some() != problems.iter().any(|p| p.level == Level::Error));
        let Some(document) = document else { continue };
        let seen = Seen { region: document.aws.region.clone(), ..Seen::default() };
        let decision = decide(&document, &BTreeMap::new(), &seen);
        let planned = plan(&decision.desired, &seen, plan::Options::default());
        for line in planned.to_string().lines() {
            assert!(is_plain(line), "{line:?}");
        }
    }
}

/// Foreign text is escaped, and `…` ends what was cut.
fn is_plain(line: &str) -> bool {
    line.chars().all(|c| matches!(c, ' '..='~' | '…'))
}
