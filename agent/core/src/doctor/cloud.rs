//! Checks of what AWS says of this gateway: IMDS, its role, its own instance.

use super::{
    examined::Examined,
    verdict::{Matter, Verdict, failure, few, unasked, warning},
};
use crate::{
    decide::{AddressIs, OwnAddress, address},
    model::{AccountId, Announcement, AskError, Holder, KEY_TAG, Mode, OwnKeys, OwnTags, Scope, printable},
    settings::Account,
    text::plural,
};

/// The options of the `aws` command that name this instance.
fn options(x: &Examined) -> String {
    x.known_as().map_or("--region REGION --instance-id INSTANCE".into(), |me| {
        format!("--region {} --instance-id {}", me.region, me.instance)
    })
}

pub(super) fn imds(x: &Examined) -> Verdict {
    let wanted = "IMDSv2 says who this instance is";
    let remedy = || {
        format!(
            "aws ec2 modify-instance-metadata-options {} --http-endpoint enabled --http-tokens required",
            options(x)
        )
    };
    let me = x.me.as_ref().map_err(|why| unasked(why, wanted, remedy()))?;
    Ok(format!("{} in {} ({}), {}", me.instance, me.vpc, me.region, me.private))
}

pub(super) fn role(x: &Examined) -> Verdict {
    let why = match x.own.as_ref().ok_or(Matter::Blocked("imds"))? {
        // The SDK's words where IMDS has answered just now, but did not within the second that the SDK gives it.
        Err(why @ AskError::NoCredentials { why: text }) if text.contains("could not communicate with IMDS") => {
            return Err(unasked(why.to_string(), "IMDS has credentials", "crosswan doctor, again in a moment"));
        }
        Err(
            why
            @ (AskError::NoCredentialSource | AskError::NoCredentials { .. } | AskError::CredentialsTimedOut { .. }),
        ) => why,
        Err(why @ (AskError::NotAccepted { .. } | AskError::Expired { .. })) => {
            return Err(unasked(why.to_string(), "credentials that EC2 accepts", "timedatectl; chronyc tracking"));
        }
        _ => return Ok("its credentials are accepted".into()),
    };
    if !x.asks_ec2() {
        return Err(Matter::Absent("with these settings EC2 need not be asked, and there is no role".into()));
    }
    let remedy = format!("aws ec2 associate-iam-instance-profile {} --iam-instance-profile Name=PROFILE", options(x));
    Err(failure(why.to_string(), "an instance profile with the role of docs/iam", remedy))
}

/// What mends it that EC2 did not do what it was asked for.
fn remedy(x: &Examined, why: &AskError) -> String {
    let region = x.known_as().map_or("REGION", |me| me.region.as_str());
    match why {
        AskError::Denied { permission, .. } => format!("allow {permission} in the policy of the role: docs/iam"),
        _ => format!("curl -sS https://ec2.{region}.amazonaws.com/ping, to see whether it can be reached at all"),
    }
}

/// EC2's answer about the own instance.
pub(super) fn own(x: &Examined) -> Result<&OwnTags, Matter> {
    x.own.as_ref().ok_or(Matter::Blocked("imds"))?.as_ref().map_err(|why| {
        let no_role = matches!(why, AskError::NoCredentialSource | AskError::NoCredentials { .. });
        if no_role && !x.asks_ec2() {
            return Matter::Absent("EC2 was not asked, as there is no role".into());
        }
        unasked(why.to_string(), "EC2 describes this instance", remedy(x, why))
    })
}

pub(super) fn ec2(x: &Examined) -> Verdict {
    own(x).map(|_| "describes this instance".into())
}

/// A verdict for each call that this mode makes beyond describing instances.
pub(super) fn actions(x: &Examined) -> Vec<(String, Verdict)> {
    let all = |matter| vec![("iam-<action>".to_owned(), Err(matter))];
    let Ok(settings) = x.settings.as_ref() else { return all(Matter::Blocked("settings")) };
    let keys = x.needs_key();
    let hub = settings.mode == Mode::VpnHub;
    let of_place = ["modify-instance-attribute", "create-route", "replace-route", "associate-address"];
    let of_place = of_place.map(|action| (action, x.allowed.contains_key(action)));
    let needed = [("create-tags", keys), ("describe-vpcs", hub)].into_iter().chain(of_place);
    let needed: Vec<&str> = needed.filter(|(_, needed)| *needed).map(|(action, _)| action).collect();
    if needed.is_empty() {
        return all(Matter::Absent("with these settings no more is asked of EC2".into()));
    }
    let judged = |action: &str| {
        let verdict = match x.allowed.get(action) {
            None => Err(Matter::Blocked("ec2")),
            Some(Ok(())) => Ok("allowed".into()),
            Some(Err(why)) => Err(unasked(why.to_string(), "allowed", remedy(x, why))),
        };
        (format!("iam-{action}"), verdict)
    };
    needed.into_iter().map(judged).collect()
}

/// A verdict for each further account, over all its regions.
pub(super) fn accounts(x: &Examined) -> Vec<(String, Verdict)> {
    let all = |matter| vec![("account-<name>".to_owned(), Err(matter))];
    let Ok(settings) = x.settings.as_ref() else { return all(Matter::Blocked("settings")) };
    if settings.accounts.is_empty() {
        return all(Matter::Absent("settings list no further account".into()));
    }
    let judged = |(id, account): (&AccountId, &Account)| {
        let of = x.accounts.iter().filter(|(scope, _)| scope.account.as_ref() == Some(id));
        let (mut gateways, mut failed, mut remedy) = (None, Vec::new(), String::new());
        for (Scope { region, .. }, answer) in of {
            match answer {
                Ok(found) => gateways = Some(gateways.unwrap_or(0) + found),
                Err(why) => {
                    failed.push(format!("{region}: {why}"));
                    remedy = of_account(account, why);
                }
            }
        }
        let verdict = match (&failed[..], gateways) {
            ([], None) => Err(Matter::Blocked("ec2")),
            ([], Some(gateways)) => Ok(format!("{id} shows {}", plural(gateways, "gateway"))),
            _ => Err(unasked(few(&failed), format!("{} shows its gateways", account.role), remedy)),
        };
        (format!("account-{}", account.name), verdict)
    };
    settings.accounts.iter().map(judged).collect()
}

/// What mends it that an account did not answer.
fn of_account(account: &Account, why: &AskError) -> String {
    match why {
        AskError::RoleDenied { role, permission, .. } => {
            format!("allow {permission} in the policy of {role}: docs/iam/discover.json")
        }
        AskError::Denied { .. } => format!(
            "aws iam get-role --role-name {}, in that account, to see whether it exists and whom it trusts: docs/iam/discover-trust.json; \
             and docs/iam/assume-roles.json for this gateway's own role",
            account.role.as_str().rsplit('/').next().unwrap_or_default()
        ),
        _ => "crosswan doctor, again in a moment".into(),
    }
}

pub(super) fn source_dest_check(x: &Examined) -> Verdict {
    let remedy = || format!("aws ec2 modify-instance-attribute {} --no-source-dest-check", options(x));
    match own(x)?.source_dest_check {
        Some(false) => Ok("off".into()),
        Some(true) => Err(failure("on: EC2 drops everything that this gateway forwards", "off", remedy())),
        None => Err(unasked("EC2's answer does not say", "off", remedy())),
    }
}

pub(super) fn public_address(x: &Examined) -> Verdict {
    let me = x.me.as_ref().map_err(|_| Matter::Blocked("imds"))?;
    if let Some(address) = me.public {
        return Ok(address.to_string());
    }
    let found = x.elsewhere.clone().unwrap_or_else(|| "none".into());
    let remedy = format!("aws ec2 associate-address {} --allocation-id ADDRESS", options(x));
    Err(failure(found, "an Elastic IP on the first interface", remedy))
}

/// The Elastic IP that settings ask for, as a pass would decide.
pub(super) fn elastic_ip(x: &Examined) -> Verdict {
    let observed = x.observed().ok_or(Matter::Blocked("ec2"))?;
    let settings = x.settings.as_ref().map_err(|_| Matter::Blocked("settings"))?;
    let Some(wanted) = &settings.address else {
        return Err(Matter::Absent("no setting asks for one: the public address is an operator's".into()));
    };
    if let Some(Err(why)) = &x.addresses {
        return Err(unasked(why.to_string(), "EC2 describes the Elastic IPs", remedy(x, why)));
    }
    let look = || format!("aws ec2 describe-addresses --region {}", observed.me.region);
    let wanted = wanted.to_string();
    match address(settings, &observed) {
        OwnAddress::Is(AddressIs::Here(id)) => Ok(format!("{id} is here")),
        OwnAddress::Is(AddressIs::Kept(why)) => Err(warning(why, wanted, look())),
        OwnAddress::Is(AddressIs::Waits(what)) => Err(failure(what, wanted, look())),
        OwnAddress::Take(_) => Err(failure("another address", wanted, "crosswan refresh")),
        OwnAddress::Unasked => Err(Matter::Blocked("ec2")),
    }
}

pub(super) fn key_tag(x: &Examined) -> Verdict {
    let tags = own(x)?;
    let me = x.me.as_ref().map_err(|_| Matter::Blocked("imds"))?;
    let ring = x.keyring.as_ref().ok().and_then(Option::as_ref).ok_or(Matter::Blocked("key-file"))?;
    let mode = x.mode().ok_or(Matter::Blocked("settings"))?;
    let keys =
        OwnKeys::of(ring, mode, &Holder { vpc: &me.vpc, instance: &me.instance }).ok_or(Matter::Blocked("key-file"))?;
    let fingerprint = keys.current.key.fingerprint();
    let announcement = Announcement { key: keys.current, next: keys.next.map(|(_, succession)| succession) };
    match announcement.missing_from(tags.key.as_deref(), tags.next.as_deref()).first() {
        None => Ok(format!("{KEY_TAG} announces {fingerprint}")),
        Some((tag, _)) => {
            let found =
                tags.get(tag).map_or_else(|| format!("no tag {tag}"), |value| format!("{tag} is {}", printable(value)));
            Err(failure(found, format!("the announcement of {fingerprint}"), "crosswan refresh"))
        }
    }
}
