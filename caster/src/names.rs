//! How things are called: the names of 2014, kept, so that what it made is found again.

use crate::document::Document;

/// The names of one document's environment.
#[derive(Debug, Clone)]
pub struct Names {
    env: String,
    domain: String,
    cidr: String,
}

impl Names {
    pub fn of(document: &Document) -> Self {
        let aws = &document.aws;
        Names {
            env: aws.env.clone(),
            domain: format!("{}-{}.{}.{}", aws.provider, aws.region, aws.continent, aws.zone),
            cidr: document.vpc.cidr.to_string(),
        }
    }
    /// `NAME-ENV`: instances, load balancers, Auto Scaling groups, launch templates.
    pub fn full(&self, name: &str) -> String {
        format!("{name}-{}", self.env)
    }
    /// `NAME-ENV.PROVIDER-REGION.CONTINENT.ZONE`, with the final dot. In small letters, as DNS compares.
    pub fn dns(&self, name: &str) -> String {
        format!("{}.{}", self.full(name), self.domain).to_lowercase()
    }
    /// A target group's: `NAME-PORT-ENV`, for 32 characters too.
    pub fn target_group(&self, name: &str, port: u16) -> String {
        format!("{name}-{port}-{}", self.env)
    }
    /// Value of the tag `crosswan-cast`: which cast a resource belongs to.
    pub fn cast(&self) -> String {
        format!("{}/{}", self.env, self.cidr)
    }
}
