//! Another account's role: its credentials, and what its refusals mean.
//!
//! A session is fetched once in a pass, for all regions of its account. It is not kept for the next pass: a session that one role makes of
//! another lasts an hour at most (IAM User Guide, "Role chaining"), which is as long as passes are apart, and would lie on the disk.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_sdk_ec2::config::Credentials;
use aws_sdk_sts::Client;

use super::reason::{self, Asked};
use crosswan_core::{
    model::{AskError, Format, InstanceId, Region},
    settings::Account,
};

const OPERATION: &str = "AssumeRole";

/// What the clients of this account's regions share. STS is asked in the gateway's own region, and the session has its instance's id as
/// its name, by which CloudTrail of the account shows who asks.
///
/// # Errors
/// STS could not be asked, or the role may not be assumed.
pub(super) async fn assumed(
    (config, own): &(SdkConfig, Credentials),
    account: &Account,
    (home, instance): &(Region, InstanceId),
) -> Result<(SdkConfig, Credentials), AskError> {
    let sts = aws_sdk_sts::config::Builder::from(config)
        .region(aws_sdk_sts::config::Region::new(home.to_string()))
        .credentials_provider(own.clone())
        .build();
    let external_id = account.external_id.as_ref().map(|id| String::from_utf8_lossy(id.bytes()).into_owned());
    let needed = |_: &str| {
        let id = if account.external_id.is_some() { ", with the external_id of settings" } else { "" };
        format!("sts:AssumeRole on {}, and that role must exist and trust it{id}", account.role)
    };
    let asked = Asked { service: "STS", format: Format::Xml, operation: OPERATION, region: home, needed: &needed };
    let request = Client::from_conf(sts).assume_role().role_arn(account.role.as_str());
    let request = request.role_session_name(instance.as_str()).set_external_id(external_id);
    let answer = request.send().await.map_err(|error| reason::failed_at(&asked, error))?;
    let session = answer.credentials.ok_or_else(|| reason::misfit(OPERATION, "it has no Credentials"))?;
    let until = SystemTime::try_from(session.expiration).ok();
    let token = Some(session.session_token);
    let session = Credentials::new(session.access_key_id, session.secret_access_key, token, until, OPERATION);
    Ok((config.clone(), session))
}

/// The reason for a failure, with the role that lacks a permission.
pub(super) fn of_account(why: AskError, account: Option<&Account>) -> AskError {
    match (why, account) {
        (AskError::Denied { permission, code, explicitly }, Some(account)) if permission.starts_with("ec2:") => {
            AskError::RoleDenied { role: account.role.clone(), permission, code, explicitly }
        }
        (why, _) => why,
    }
}
