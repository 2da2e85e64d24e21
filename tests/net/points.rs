//! What the demo shows, by real packets.

use anyhow::Result;

use crate::region::{Region, refresh};

#[test]
fn private_hosts_reach_each_other_and_a_second_refresh_changes_nothing() -> Result<()> {
    let region = Region::standard()?;
    for gateway in region.lab.gateways() {
        let report = refresh(&gateway)?;
        assert_eq!(
            (report["outcome"].as_str(), report["steps"].as_array().map(Vec::len)),
            (Some("unchanged"), Some(0))
        );
    }
    Ok(())
}
