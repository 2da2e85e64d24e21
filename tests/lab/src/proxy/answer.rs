//! The answers that the proxy gives in moto's place.

use std::io::Write;
use std::net::TcpStream;

use anyhow::Result;

use super::call::Call;
use crate::http::Response;

/// An XML document.
pub(super) fn xml(status: u16, body: String) -> Response {
    let mut response = Response::new(status, body);
    response.headers.push(("Content-Type", "text/xml;charset=UTF-8".into()));
    response
}

/// An error as the JSON services have it.
pub(super) fn json_error(stream: &mut TcpStream, status: u16, code: &str) -> Result<()> {
    let response = Response::new(status, format!(r#"{{"__type":"{code}","message":"by the lab"}}"#));
    Ok(stream.write_all(&response.bytes())?)
}

pub(super) fn error(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
         <Message>{message}</Message></Error></Errors><RequestID>lab</RequestID></Response>"
    )
}

/// The code of a refusal.
pub(super) fn denied(call: &Call) -> &'static str {
    if call.service == "ec2" { "UnauthorizedOperation" } else { "AccessDenied" }
}

/// EC2 has its errors in a list; the other query services do not.
pub(super) fn error_of(call: &Call, code: &str, message: &str) -> String {
    match call.service.as_str() {
        "ec2" => error(code, message),
        _ => format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>lab</RequestId></ErrorResponse>"
        ),
    }
}

pub(super) fn empty(action: &str) -> String {
    let set = match action {
        "DescribeInstances" => "<reservationSet/>",
        "DescribeVpcs" => "<vpcSet/>",
        "DescribeAddresses" => "<addressesSet/>",
        "DescribeRouteTables" => "<routeTableSet/>",
        _ => "",
    };
    format!(
        "<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15\"><requestId>lab</requestId>{set}</{action}Response>"
    )
}
