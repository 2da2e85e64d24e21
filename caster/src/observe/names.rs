//! What is outside EC2: the caller, instance profiles, certificates, hosted zones and records.

#![allow(clippy::disallowed_methods, reason = "edge: how long certificates are valid")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_sdk_acm::types::{CertificateStatus, CertificateSummary, Filters, KeyAlgorithm};
use aws_sdk_route53::types::{ResourceRecordSet, RrType};
use futures_util::future::{try_join, try_join_all};

use super::Query;
use crate::{
    aws::{Aws, Failure, pages},
    seen::{Certificate, Id, Record},
};

const DAY: i64 = 86400;

/// The account of the credentials.
pub(super) async fn account(aws: &Aws) -> Result<String, Failure> {
    const CALL: &str = "sts:GetCallerIdentity";
    let answer = aws.sts.get_caller_identity().send().await.map_err(|e| Failure::of(CALL, &e))?;
    answer.account.ok_or_else(|| Failure::misfit(CALL, "Account"))
}

/// Names of instance profiles.
pub(super) async fn profiles(aws: &Aws) -> Result<BTreeSet<String>, Failure> {
    let mut pages = aws.iam.list_instance_profiles().into_paginator().stop_on_duplicate_token(false).send();
    let mut found = BTreeSet::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|e| Failure::of("iam:ListInstanceProfiles", &e))?;
        found.extend(page.instance_profiles.into_iter().map(|p| p.instance_profile_name));
    }
    Ok(found)
}

/// In IAM and in ACM, by ARN, if a document names any.
pub(super) async fn certificates(aws: &Aws, query: &Query) -> Result<BTreeMap<Id, Certificate>, Failure> {
    if !query.certificates {
        return Ok(BTreeMap::new());
    }
    let (mut all, acm) = try_join(in_iam(aws), in_acm(aws)).await?;
    all.extend(acm);
    Ok(all)
}

async fn in_iam(aws: &Aws) -> Result<BTreeMap<Id, Certificate>, Failure> {
    let mut pages = aws.iam.list_server_certificates().into_paginator().stop_on_duplicate_token(false).send();
    let mut found = BTreeMap::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|e| Failure::of("iam:ListServerCertificates", &e))?;
        for c in page.server_certificate_metadata_list {
            let days_left = c.expiration.map(|at| days_left(at.secs()));
            found.insert(
                c.arn,
                Certificate { names: [c.server_certificate_name].into(), iam: true, issued: true, days_left },
            );
        }
    }
    Ok(found)
}

async fn in_acm(aws: &Aws) -> Result<BTreeMap<Id, Certificate>, Failure> {
    // Without these ACM lists only RSA keys of 2048 bits and smaller.
    let every = [
        KeyAlgorithm::Rsa1024,
        KeyAlgorithm::Rsa2048,
        KeyAlgorithm::Rsa3072,
        KeyAlgorithm::Rsa4096,
        KeyAlgorithm::EcPrime256v1,
        KeyAlgorithm::EcSecp384r1,
        KeyAlgorithm::EcSecp521r1,
    ];
    let call = aws.acm.list_certificates().includes(Filters::builder().set_key_types(Some(every.to_vec())).build());
    let found = pages!("acm:ListCertificates", call, certificate_summary_list).await?;
    let with_tags = found.into_iter().map(|summary| with_tags(aws, summary));
    Ok(try_join_all(with_tags).await?.into_iter().flatten().collect())
}

async fn with_tags(aws: &Aws, summary: CertificateSummary) -> Result<Option<(Id, Certificate)>, Failure> {
    const CALL: &str = "acm:ListTagsForCertificate";
    let Some(arn) = summary.certificate_arn else { return Ok(None) };
    let answer = aws.acm.list_tags_for_certificate().certificate_arn(&arn).send().await;
    let tags = answer.map_err(|e| Failure::of(CALL, &e))?.tags.unwrap_or_default();
    let name = tags.into_iter().find(|t| t.key == "Name").and_then(|t| t.value);
    let certificate = Certificate {
        names: summary.domain_name.into_iter().chain(name).collect(),
        iam: false,
        issued: summary.status == Some(CertificateStatus::Issued),
        days_left: summary.not_after.map(|at| days_left(at.secs())),
    };
    Ok(Some((arn, certificate)))
}

fn days_left(until: i64) -> i64 {
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    (until - now).div_euclid(DAY)
}

/// The public hosted zones of the documents' names.
pub(super) async fn zones(aws: &Aws, query: &Query) -> Result<BTreeMap<String, Id>, Failure> {
    let mut zones = BTreeMap::new();
    for name in &query.zones {
        const CALL: &str = "route53:ListHostedZonesByName";
        // They come sorted, beginning with the name; two of one name may be there.
        let call = aws.dns.list_hosted_zones_by_name().dns_name(name).max_items(10);
        let answer = call.send().await.map_err(|e| Failure::of(CALL, &e))?;
        let private = |z: &aws_sdk_route53::types::HostedZone| z.config.as_ref().is_some_and(|c| c.private_zone);
        let mut found = answer.hosted_zones.into_iter().filter(|z| z.name.to_lowercase() == *name && !private(z));
        match (found.next(), found.next()) {
            (Some(zone), None) => _ = zones.insert(name.clone(), id(&zone.id)),
            (Some(a), Some(b)) => {
                let why = format!("two public hosted zones are called {name}, {} and {}", id(&a.id), id(&b.id));
                return Err(Failure::waited(why));
            }
            _ => {}
        }
    }
    Ok(zones)
}

/// Route 53 writes `/hostedzone/Z123`.
fn id(id: &str) -> Id {
    id.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The records of the documents' names, of the types that matter.
pub(super) async fn records(
    aws: &Aws,
    query: &Query,
    zones: &BTreeMap<String, Id>,
) -> Result<BTreeSet<Record>, Failure> {
    let zone_of = |name: &str| zones.iter().find(|(zone, _)| name.ends_with(&format!(".{zone}")));
    let asked = query.records.iter().filter_map(|name| Some((name, zone_of(name)?.1)));
    let found = try_join_all(asked.map(|(name, zone)| async move {
        // Sorted from the name on; its types fit into one page.
        let call = aws.dns.list_resource_record_sets().hosted_zone_id(zone).start_record_name(name).max_items(20);
        let answer = call.send().await.map_err(|e| Failure::of("route53:ListResourceRecordSets", &e))?;
        let records = answer.resource_record_sets.into_iter().filter(|r| r.name.to_lowercase() == *name);
        Ok::<_, Failure>(records.filter_map(record).collect::<Vec<_>>())
    }));
    Ok(found.await?.into_iter().flatten().collect())
}

fn record(record: ResourceRecordSet) -> Option<Record> {
    if !matches!(record.r#type, RrType::A | RrType::Aaaa | RrType::Cname) {
        return None;
    }
    let first = || record.resource_records.as_ref().and_then(|all| all.first()).map(|r| r.value.clone());
    let alias = record.alias_target.as_ref().map(|a| a.dns_name.clone());
    let value = alias.clone().or_else(first)?;
    Some(Record {
        name: record.name.to_lowercase(),
        kind: record.r#type.as_str().to_owned(),
        value: value.trim_end_matches('.').to_lowercase(),
        alias: alias.is_some(),
    })
}
