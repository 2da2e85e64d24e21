//! Single calls of AWS.

use aws_sdk_ec2::{
    config::{Config, retry::RetryConfig},
    types::Filter,
};

/// `call`, and the failure with its name.
macro_rules! send {
    ($call:literal, $builder:expr) => {
        async { $builder.send().await.map_err(|e| $crate::aws::Failure::of($call, &e)) }
    };
}
pub(super) use send;

/// For calls without a client token: the SDK does not make them again by itself.
pub(super) fn once() -> aws_sdk_ec2::config::Builder {
    Config::builder().retry_config(RetryConfig::disabled())
}

pub(super) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}
