//! What is there: asked of AWS, or read from a file. Both give a [`Seen`] that is whole, or a failure.

mod balancing;
mod compute;
mod file;
mod names;
mod network;
mod query;
mod quotas;
mod references;
mod scaling;

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::{join, try_join, try_join3, try_join4, try_join5};
use tokio::time::{sleep, timeout};

pub use file::from_file;
pub use query::Query;

use crate::{
    aws::{Aws, Failure},
    document::Secret,
    seen::Seen,
    text,
};

/// A region of thousands of instances takes seconds.
const LONGEST: Duration = Duration::from_secs(180);
/// Between two lists something may come into being that the second names and the first does not have.
const ATTEMPTS: usize = 4;
const PAUSE: Duration = Duration::from_secs(2);

/// User data by its reference.
pub type References = BTreeMap<String, Secret>;

/// Asks a region for everything that the documents of `query` need to know, and for the texts that they refer to.
///
/// # Errors
/// A call failed, an answer was not whole, or the lists do not fit together after several attempts.
pub async fn region(aws: &Aws, query: &Query) -> Result<(Seen, References), Failure> {
    let mut attempts = 1;
    loop {
        let (mut seen, texts) = bounded(aws, query).await?;
        let gaps = seen.gaps();
        let Some(gap) = gaps.first() else {
            seen.references = texts.iter().map(|(reference, text)| (reference.clone(), text.digest())).collect();
            return Ok((seen, texts));
        };
        if attempts == ATTEMPTS {
            let region = text::plain(&aws.region);
            let why = format!("the lists of {region} do not fit together, after {ATTEMPTS} attempts: {gap}; try again");
            return Err(Failure::waited(why));
        }
        attempts += 1;
        sleep(PAUSE).await;
    }
}

async fn bounded(aws: &Aws, query: &Query) -> Result<(Seen, References), Failure> {
    let late =
        |_| Err(Failure::waited(format!("the region has not answered everything within {} s", LONGEST.as_secs())));
    // Boxed: the compiler gives up on futures of this depth otherwise.
    let both = try_join(Box::pin(once(aws, query)), Box::pin(references::references(aws, query)));
    timeout(LONGEST, both).await.unwrap_or_else(late)
}

/// Everything at once.
async fn once(aws: &Aws, query: &Query) -> Result<Seen, Failure> {
    let ec2 = &aws.ec2;
    let network = try_join5(
        network::vpcs(ec2, query),
        network::internet_gateways(ec2),
        network::subnets(ec2),
        network::route_tables(ec2),
        try_join3(network::acls(ec2), network::groups(ec2), network::zones(ec2)),
    );
    let compute = try_join4(
        // Instances last: then an interface that is shown has its instance shown.
        async {
            let interfaces = compute::interfaces(ec2).await?;
            Ok((interfaces, compute::instances(ec2).await?))
        },
        async { Ok(join(compute::addresses(ec2), quotas::quotas(aws, query)).await) },
        compute::images(ec2, query),
        try_join3(compute::instance_types(ec2, query), network::key_pairs(ec2), names::profiles(aws)),
    );
    let serving = try_join5(
        balancing::balancers(aws, query),
        balancing::classic(aws, query),
        balancing::target_groups(aws, query),
        scaling::templates(aws, query),
        scaling::groups(aws),
    );
    let dns = async {
        let zones = names::zones(aws, query).await?;
        let records = names::records(aws, query, &zones).await?;
        Ok((zones, records))
    };
    let outside = try_join3(names::account(aws), names::certificates(aws, query), dns);
    let (network, compute, serving, outside) =
        try_join4(Box::pin(network), Box::pin(compute), Box::pin(serving), Box::pin(outside)).await?;
    let (vpcs, internet_gateways, subnets, route_tables, (acls, groups, zones)) = network;
    let ((mut interfaces, mut instances), (addresses, quotas), images, (instance_types, key_pairs, profiles)) = compute;
    let (mut balancers, classic, target_groups, templates, scaling_groups) = serving;
    let (account, certificates, (hosted_zones, records)) = outside;
    balancers.extend(classic);
    // Interfaces of IPv6 alone are not shown, and so the instances on them.
    interfaces.retain(|_, e| subnets.contains_key(&e.subnet));
    instances.retain(|_, i| !i.state.is_up() || !i.interface.is_empty());
    Ok(Seen {
        region: aws.region.clone(),
        account,
        zones,
        vpcs,
        internet_gateways,
        subnets,
        route_tables,
        acls,
        groups,
        interfaces,
        addresses: addresses?,
        quotas,
        instances,
        images,
        instance_types,
        profiles,
        key_pairs,
        certificates,
        balancers,
        target_groups,
        templates,
        scaling_groups,
        hosted_zones,
        records,
        references: Default::default(),
    })
}
