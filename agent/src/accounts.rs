//! `crosswan accounts`: the further accounts of settings beside the last report, or an organization's accounts as settings.

use std::{collections::BTreeSet, path::Path, time::Duration};

use crate::{
    files,
    observe::{ec2::Clients, imds, organization},
    paths::Paths,
};
use crosswan_core::{
    accounts::{Accounts, Listing, Partition, Wanted},
    error::{Context as _, Error, Kind, Result},
    model::{AccountId, Region},
    report::Report,
    settings::Settings,
};

/// How long IMDS may take to say which account this instance is in.
const IMDS: Duration = Duration::from_secs(3);
/// How long Organizations may take for all pages, with what it throttles.
const PATIENCE: Duration = Duration::from_secs(60);

/// The accounts that settings list, with what the last refresh said of each.
///
/// # Errors
/// Of kind `Observe`: the report cannot be read.
pub fn look(settings: &Settings, paths: &Paths) -> Result<Accounts> {
    let report: Option<Report> = files::read_json(&paths.status)?;
    Ok(Accounts::of(&settings.accounts, report.as_ref()))
}

/// Asks AWS Organizations. `regions` are separated by commas or spaces; without `hub`, that is the account of this instance.
///
/// # Errors
/// Of kind `Settings`: an argument is wrong, or the hub's account is not known. Of kind `Observe`: Organizations did not answer, or not
/// with all accounts.
pub async fn organization(
    role: String,
    external_id: Option<String>,
    regions: Option<String>,
    hub: Option<String>,
) -> Result<Listing> {
    let regions = regions.as_deref().unwrap_or_default().split([',', ' ']).filter(|region| !region.is_empty());
    let regions: BTreeSet<Region> =
        regions.map(str::parse).collect::<std::result::Result<_, _>>().context(|| Error::settings("--regions"))?;
    let hub: Option<AccountId> = hub.map(|hub| hub.parse()).transpose().context(|| Error::settings("--hub-account"))?;
    // Whoever names everything need not wait for an IMDS that is not there.
    let here = if hub.is_none() { imds::account(IMDS).await } else { None };
    let region = regions.first().or(here.as_ref().map(|(_, region)| region));
    let partition = Partition::of(region);
    let hub = hub.or(here.as_ref().map(|(account, _)| account.clone())).ok_or_else(|| {
        Error::settings(
            "--hub-account is missing: IMDS did not say which account this is, and the hub's own must not be listed",
        )
    })?;
    let wanted = Wanted::new(partition, role, external_id, regions, hub)?;
    let members = organization::members(&Clients::default(), partition, PATIENCE).await.context(|| {
        Error::observe(
            "list the accounts of the organization (its management account or a delegated administrator may)",
        )
    })?;
    Listing::of(members, &wanted)
}

/// Writes the listing for its owner alone, as it may have an external id.
///
/// # Errors
/// Of kind `Apply`, with the path.
pub fn write(path: &Path, listing: &Listing, json: bool) -> Result<()> {
    let text = match json {
        true => serde_json::to_string_pretty(listing).context(|| Error::new(Kind::Other, "encode the accounts"))?,
        false => listing.to_string(),
    };
    // Beside a file without a folder.
    let path = if path.is_relative() { Path::new(".").join(path) } else { path.to_owned() };
    files::write_atomic(&path, (text + "\n").as_bytes(), 0o600)
}
