//! Reading to planning for one document against AWS: what `plan`, `cast`, `status` and `adopt` begin with.

use std::collections::BTreeMap;

use crate::{
    aws::{Aws, Failure},
    decide::decide,
    desired::{Desired, Fault},
    document::{Digest, Ready, Secret, UserData},
    observe::{self, Query},
    plan::{Options, Plan, plan},
    problem::{Level, Problem},
    seen::Seen,
};

/// A document with what was seen of its region and what is to be done.
pub struct Survey {
    pub seen: Seen,
    pub desired: Desired,
    pub plan: Plan,
    /// That are not those of the reading.
    pub problems: Vec<Problem>,
    /// User data by digest.
    pub texts: BTreeMap<Digest, Secret>,
}

impl Survey {
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.level == Level::Error)
    }
}

/// Clients for the region of a document.
///
/// # Errors
/// There are no credentials.
pub async fn connect(ready: &Ready) -> Result<Aws, Failure> {
    let aws = &ready.document.aws;
    Aws::connect(&aws.region, aws.r53xacct.as_deref()).await
}

/// Asks the region and plans.
///
/// # Errors
/// The region could not be asked: nothing is known.
pub async fn survey(aws: &Aws, ready: &mut Ready, options: Options) -> Result<Survey, Failure> {
    let mut query = Query::default();
    query.add(&ready.document, ready.data.values());
    let (seen, references) = observe::region(aws, &query).await?;
    let mut survey = of(ready, seen, options);
    survey.texts.extend(references.into_values().map(|text| (text.digest(), text)));
    Ok(survey)
}

/// The pure part: a document against an observation.
pub fn of(ready: &mut Ready, seen: Seen, options: Options) -> Survey {
    let Ready { source, document, data } = ready;
    // The problems of the reading are there already.
    let before = source.problems();
    let decision = decide(document, data, &seen);
    let plan = plan(&decision.desired, &seen, options);
    for Fault { path, what } in decision.faults.iter().chain(&plan.faults) {
        source.error(path, what);
    }
    for Fault { path, what } in &decision.warnings {
        source.warn(path, what);
    }
    let problems = source.problems().into_iter().filter(|p| !before.contains(p)).collect();
    let text = |data: &UserData| match data {
        UserData::Text(text) => Some((text.digest(), text.clone())),
        UserData::Reference(_) => None,
    };
    let mut texts = decision.texts;
    texts.extend(data.values().filter_map(text));
    Survey { seen, desired: decision.desired, plan, problems, texts }
}

/// What documents that are given together make together, against the quotas of their regions. Each alone has been looked at.
pub fn together<'a>(all: impl IntoIterator<Item = (&'a mut Ready, &'a mut Survey)>) {
    let mut made: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for (ready, survey) in all {
        let before = ready.source.problems();
        for need in &survey.plan.needs {
            let made = made.entry((survey.seen.region.clone(), need.quota)).or_default();
            if *made > 0
                && let Some(Fault { path, what }) = need.exceeds(&survey.seen, *made)
            {
                ready.source.error(&path, what);
            }
            *made += need.new;
        }
        survey.problems.extend(ready.source.problems().into_iter().filter(|p| !before.contains(p)));
    }
}
