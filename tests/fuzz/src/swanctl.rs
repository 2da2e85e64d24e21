//! swanctl's text: what is on disk in place of our files, parsed and planned against.

use std::sync::LazyLock;

use crosswan_core::{
    plan::plan,
    swanctl::{Summary, connections, parse, secrets},
    system::{Configuration, Files},
};

use crate::{fake, oracle, strongswan};

/// What the hub of [`fake`] renders.
pub static OURS: LazyLock<Configuration> = LazyLock::new(|| {
    let (settings, state) = (&fake::KINDS[0], Default::default());
    let decision = oracle::pass(settings, &fake::me(), &fake::answers(), &state, b"the key of both ends").unwrap();
    Configuration::of(crosswan_core::render::render(settings.mode, &decision, Default::default()).unwrap()).unwrap()
});

pub fn target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let tree = match parse(text) {
        Ok(tree) => tree,
        Err(e) => return oracle::line(e),
    };
    oracle::text_of(&tree);
    strongswan::agrees(text, &tree);
    let _ = secrets(&tree).map_err(oracle::line);
    connections(tree).values().for_each(|conn| drop(Summary::of(conn)));
    // The same bytes as both files: found on disk they are planned away, and that is said in lines.
    let files = Files { connections: Some(text.into()), secrets: Some(text.into()), ..Files::default() };
    match Configuration::of(files) {
        Ok(found) => {
            let mut now = oracle::settled(&found);
            oracle::steps(&plan(&OURS, &now));
            assert_eq!(plan(&found, &now).len(), 0, "what is there is no change");
            now.doubt = Some("cut off".into());
            oracle::steps(&plan(&OURS, &now));
        }
        Err(e) => oracle::error(&e),
    }
}
