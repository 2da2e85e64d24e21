//! Of an answer to DescribeInstances only what is read ([`READ`]) reaches the SDK's decoder.
//!
//! An instance is 4 kB of XML, and nine tenths of them are no part of a gateway: to decode all of it was half of what a pass
//! costs. The rest is cut out of answers that are proven whole ([`plain`]); others reach the decoder as they are.

use aws_sdk_ec2::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, RuntimePlugin, http::HttpResponse,
        interceptors::BeforeSerializationInterceptorContextMut,
    },
    error::BoxError,
    operation::describe_instances::DescribeInstances,
};
use aws_smithy_runtime_api::client::{
    interceptors::context::{Error, Output},
    orchestrator::OrchestratorError,
    ser_de::{DeserializeResponse, SharedResponseDeserializer},
};
use aws_smithy_types::body::SdkBody;

use super::{answer::READ, plain};

/// Where instances are.
const INSTANCE: [&str; 5] = ["DescribeInstancesResponse", "reservationSet", "item", "instancesSet", "item"];

/// For the request: puts itself between the answer and its decoder.
#[derive(Debug)]
pub(super) struct Lean;

impl Intercept for Lean {
    fn name(&self) -> &'static str {
        "only what is read"
    }

    fn modify_before_serialization(
        &self,
        _: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(SharedResponseDeserializer::new(Lean));
        Ok(())
    }
}

impl DeserializeResponse for Lean {
    fn deserialize_nonstreaming_with_config(
        &self,
        answer: &HttpResponse,
        config: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        let operation = DescribeInstances::new().config();
        let decoder = operation.as_ref().and_then(|layer| layer.load::<SharedResponseDeserializer>());
        let decoder = decoder.ok_or_else(|| OrchestratorError::other("the SDK has no decoder for it"))?;
        let body = answer.body().bytes().filter(|_| answer.status().is_success());
        match body.and_then(|body| plain::only(body, &INSTANCE, &READ)) {
            Some(lean) => {
                let mut lean = HttpResponse::new(answer.status(), SdkBody::from(lean));
                *lean.headers_mut() = answer.headers().clone();
                decoder.deserialize_nonstreaming_with_config(&lean, config)
            }
            None => decoder.deserialize_nonstreaming_with_config(answer, config),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::operation::describe_instances::DescribeInstancesOutput;

    use super::*;

    const FULL: &str = "<instanceId>i-1</instanceId><instanceState><code>16</code><name>running</name></instanceState>\
        <placement><availabilityZone>eu-west-1a</availabilityZone></placement><monitoring/><vpcId>vpc-1</vpcId>\
        <tagSet><item><key>placement</key><value>here</value></item></tagSet><groupSet><item><groupId>sg-1</groupId></item></groupSet>\
        <networkInterfaceSet><item><vpcId>vpc-2</vpcId><placement>no</placement></item></networkInterfaceSet><architecture>arm64</architecture>";

    fn decoded(status: u16, before: &str, instance: &str) -> Result<DescribeInstancesOutput, OrchestratorError<Error>> {
        let page = format!(
            "{before}<DescribeInstancesResponse xmlns=\"x\"><reservationSet><item><groupSet><item><groupId>sg-2</groupId></item></groupSet>\
             <instancesSet><item>{instance}</item></instancesSet></item></reservationSet><nextToken>t</nextToken></DescribeInstancesResponse>"
        );
        let answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(page));
        let output = Lean.deserialize_nonstreaming_with_config(&answer, &ConfigBag::base())?;
        Ok(output.downcast::<DescribeInstancesOutput>().unwrap())
    }

    #[test]
    fn the_decoder_sees_what_is_read() {
        let all = decoded(200, "<!-- not plain -->", FULL).unwrap();
        let mut expected = all.clone();
        let instance = |output: &mut DescribeInstancesOutput| {
            let reservation = &mut output.reservations.as_mut().unwrap()[0];
            assert_eq!(reservation.groups()[0].group_id(), Some("sg-2"), "only an instance's parts are cut");
            reservation.instances.as_mut().unwrap().remove(0)
        };
        let (mut full, lean) = (instance(&mut expected), instance(&mut decoded(200, "", FULL).unwrap()));
        assert!(full.placement.is_some() && full.monitoring.is_some() && !full.network_interfaces().is_empty());
        (full.placement, full.monitoring, full.network_interfaces, full.security_groups) = (None, None, None, None);
        assert!(full.architecture.take().is_some() && lean.tags()[0].value() == Some("here"));
        assert_eq!(lean, full);
        assert_eq!(decoded(200, "", FULL).unwrap().next_token, all.next_token);
    }

    #[test]
    fn what_is_never_read_cannot_spoil_an_answer_and_an_error_stays_one() {
        let odd = "<launchTime>x</launchTime>";
        assert!(decoded(200, "", odd).is_err() && decoded(500, "", FULL).is_err());
        assert!(decoded(200, "", &format!("<placement>{odd}</placement>")).is_ok());
    }
}
