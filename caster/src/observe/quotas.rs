//! Quotas, as far as the services tell them. One that cannot be asked for stops nothing: AWS knows it all the same.

use std::collections::BTreeMap;

use futures_util::future::join4;

use super::Query;
use crate::{
    aws::{Aws, Failure, listed},
    seen::quota,
};

type Quotas = BTreeMap<String, usize>;

/// By the names in [`quota`] and those of AWS; only of what the documents may have to make.
pub(super) async fn quotas(aws: &Aws, query: &Query) -> Quotas {
    let all = join4(
        addresses(aws),
        async { if query.balancers { balancers(aws).await } else { Ok(Quotas::new()) } },
        async { if query.classic { classic(aws).await } else { Ok(Quotas::new()) } },
        async { if query.scaling { scaling(aws).await } else { Ok(Quotas::new()) } },
    );
    let (addresses, balancers, classic, scaling) = all.await;
    [addresses, balancers, classic, scaling].into_iter().flatten().flatten().collect()
}

async fn addresses(aws: &Aws) -> Result<Quotas, Failure> {
    let call = aws.ec2.describe_account_attributes();
    let call = call.attribute_names(quota::ELASTIC_IPS.into()).attribute_names(quota::GROUPS_PER_INTERFACE.into());
    let found = listed!("ec2:DescribeAccountAttributes", call, account_attributes).await?;
    let quota = |a: aws_sdk_ec2::types::AccountAttribute| {
        let value = a.attribute_values?.into_iter().find_map(|v| v.attribute_value)?;
        Some((a.attribute_name?, value.parse().ok()?))
    };
    Ok(found.into_iter().filter_map(quota).collect())
}

async fn balancers(aws: &Aws) -> Result<Quotas, Failure> {
    let call = aws.balancing.describe_account_limits();
    let found = listed!("elasticloadbalancing:DescribeAccountLimits", call, limits).await?;
    Ok(found.into_iter().filter_map(|limit| Some((limit.name?, limit.max?.parse().ok()?))).collect())
}

async fn classic(aws: &Aws) -> Result<Quotas, Failure> {
    let call = aws.classic.describe_account_limits();
    let found = listed!("elasticloadbalancing:DescribeAccountLimits", call, limits).await?;
    Ok(found.into_iter().filter_map(|limit| Some((limit.name?, limit.max?.parse().ok()?))).collect())
}

async fn scaling(aws: &Aws) -> Result<Quotas, Failure> {
    let answer = aws.scaling.describe_account_limits().send().await;
    let answer = answer.map_err(|e| Failure::of("autoscaling:DescribeAccountLimits", &e))?;
    let groups = answer.max_number_of_auto_scaling_groups.and_then(|max| usize::try_from(max).ok());
    Ok(groups.map(|max| (quota::SCALING_GROUPS.to_owned(), max)).into_iter().collect())
}
