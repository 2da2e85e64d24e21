//! What a request to the endpoint is: which service, region and operation, and whether it changes anything.

use crate::http::Request;

/// A request as AWS's services tell them apart.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// `ec2`, `elasticloadbalancing`, `route53`, …: of the signature's scope.
    pub service: String,
    /// Of the scope, too.
    pub region: String,
    /// Whose credentials signed it.
    pub access_key: String,
    /// `CreateVpc`, `ChangeResourceRecordSets`, …
    pub action: String,
    /// A JSON service, whose errors look otherwise.
    pub json: bool,
}

impl Call {
    /// Of a request and its body as text.
    pub fn of(request: &Request, form: &str) -> Call {
        let authorization = request.header("authorization").unwrap_or_default();
        let scope = authorization.split("Credential=").nth(1).unwrap_or_default();
        let part = |n: usize| scope.split(['/', ',']).nth(n).unwrap_or_default().to_string();
        // A JSON call names its operation in a header: `AmazonSSM.GetParameters`.
        let target = request.header("x-amz-target").and_then(|target| target.rsplit('.').next());
        let service = part(3);
        let action = match (target, service.as_str()) {
            (Some(target), _) => target.to_string(),
            (None, "route53") => route53(&request.method, &request.path).to_string(),
            _ => field(form, "Action").unwrap_or_default().to_string(),
        };
        Call { service, region: part(2), access_key: part(0), action, json: target.is_some() }
    }

    /// Anything but a question.
    pub fn changes(&self) -> bool {
        !["Describe", "Get", "List", "Assume"].iter().any(|verb| self.action.starts_with(verb))
    }
}

/// Route 53 is REST: the operation is in method and path.
fn route53(method: &str, path: &str) -> &'static str {
    let path = path.split('?').next().unwrap_or_default();
    match (method, path) {
        (_, path) if path.contains("/hostedzonesbyname") => "ListHostedZonesByName",
        ("GET", path) if path.contains("/rrset") => "ListResourceRecordSets",
        (_, path) if path.contains("/rrset") => "ChangeResourceRecordSets",
        (_, path) if path.contains("/change/") => "GetChange",
        ("GET", _) => "ListHostedZones",
        _ => "CreateHostedZone",
    }
}

/// The first field of that name in a form, still encoded.
pub fn field<'a>(form: &'a str, name: &str) -> Option<&'a str> {
    form.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}
