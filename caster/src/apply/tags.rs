//! Tags in the call that makes a resource, and tokens.

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};

use crate::part::{CAST, PART, Tags};

pub(super) fn list(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

pub(super) fn specification(kind: ResourceType, tags: &Tags) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(list(tags))).build()
}

/// A client token for the one part of the one cast, made in a context such as its VPC.
pub(super) fn token(tags: &Tags, context: &str) -> String {
    let of = |key| tags.get(key).map(String::as_str).unwrap_or_default();
    digest(&format!("{} {} {context}", of(CAST), of(PART)))
}

/// 32 characters that are the same for the same text.
pub(super) fn digest(text: &str) -> String {
    let sum = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    sum.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}
