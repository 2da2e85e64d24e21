//! `status`: what of a document exists, by id and address, what is missing, and what differs.

use std::{fmt::Write as _, path::PathBuf};

use serde_json::{Value, json};

use super::{Outcome, plan::not_observed, said};
use crate::{
    cast::watch,
    document::{Options, load},
    exit::Exit,
    part::{PART, Tags},
    plan,
    progress::Progress,
    seen::{Seen, Tagged},
    survey::{self, Survey},
    text,
};

/// For each document what there is of it. The exit code is [`Exit::Changes`] with `exit_code` if something is missing or differs.
pub async fn status(files: &[PathBuf], exit_code: bool, allow_unknown: bool, json: bool) -> Outcome {
    let loaded = load(files, Options { allow_unknown });
    if loaded.has_errors() {
        return Outcome { exit: Exit::Document, output: String::new(), errors: said(&loaded.problems, loaded.unread) };
    }
    let progress = Progress { json: false };
    let (mut output, mut list, mut changes) = (String::new(), Vec::new(), false);
    for mut ready in loaded.documents {
        let file = ready.source.file().to_owned();
        let surveyed = async {
            let aws = survey::connect(&ready).await?;
            survey::survey(&aws, &mut ready, plan::Options::default()).await
        };
        let survey = match progress.during(&format!("ask AWS about {file}"), surveyed).await {
            Ok(survey) => survey,
            Err(failure) => return not_observed(&failure.to_string(), json),
        };
        let there = parts(&survey);
        let costs = watch(&survey.seen, &survey.desired.cast);
        changes |= !survey.plan.steps.is_empty() || survey.has_errors();
        if json {
            list.push(as_json(&file, &survey, &there, &costs));
        } else {
            output.push_str(&as_text(&survey, &there, &costs));
        }
    }
    let exit = if exit_code && changes { Exit::Changes } else { Exit::Done };
    if json {
        output = format!("{:#}\n", json!({ "exit": exit.code(), "documents": list }));
    }
    Outcome { exit, output, errors: String::new() }
}

/// A resource of the cast: its part, its id, and what an operator wants to know of it.
struct There {
    part: String,
    id: String,
    about: String,
}

fn parts(survey: &Survey) -> Vec<There> {
    let Survey { seen, desired, .. } = survey;
    let mut there: Vec<There> = Vec::new();
    let mut add = |id: &str, tags: &Tags, about: String| {
        let ours = tags.get(crate::part::CAST) == Some(&desired.cast);
        if let Some(part) = tags.get(PART).filter(|_| ours) {
            there.push(There { part: text::plain(part), id: text::plain(id), about });
        }
    };
    for (id, vpc) in &seen.vpcs {
        add(id, vpc.tags(), vpc.cidr.to_string());
    }
    for (id, gateway) in &seen.internet_gateways {
        add(id, gateway.tags(), String::new());
    }
    for (id, subnet) in &seen.subnets {
        add(id, subnet.tags(), text::plain(&subnet.zone));
    }
    for (id, table) in &seen.route_tables {
        let routes = table.routes.iter().map(|(to, target)| format!("{to} to {}", text::plain(target)));
        add(id, table.tags(), routes.collect::<Vec<_>>().join(", "));
    }
    for (id, group) in &seen.groups {
        add(id, group.tags(), text::count(group.rules.len(), "rule"));
    }
    for (id, interface) in &seen.interfaces {
        add(id, interface.tags(), addresses(interface.private, interface.public));
    }
    for (id, address) in &seen.addresses {
        add(id, address.tags(), address.public.to_string());
    }
    for (id, instance) in seen.instances.iter().filter(|(_, i)| i.state.is_up() || i.state.is_stopped()) {
        add(id, instance.tags(), instance_text(seen, instance));
    }
    for (id, balancer) in &seen.balancers {
        add(id, balancer.tags(), text::plain(&balancer.dns));
    }
    for (id, group) in &seen.target_groups {
        add(id, group.tags(), text::count(group.targets.len(), "target"));
    }
    for (id, template) in &seen.templates {
        add(id, template.tags(), format!("version {}", template.version));
    }
    for (id, group) in &seen.scaling_groups {
        let about = format!("{} to {}, {} in service", group.min, group.max, group.instances.len());
        add(id, group.tags(), about);
    }
    there.sort_by(|a, b| (&a.part, &a.id).cmp(&(&b.part, &b.id)));
    there
}

fn addresses(private: std::net::Ipv4Addr, public: Option<std::net::Ipv4Addr>) -> String {
    public.map_or_else(|| private.to_string(), |public| format!("{private}, {public}"))
}

fn instance_text(seen: &Seen, instance: &crate::seen::Instance) -> String {
    let at = seen.interfaces.get(&instance.interface).map(|e| format!(", {}", addresses(e.private, e.public)));
    let state = format!("{:?}", instance.state).to_lowercase();
    format!("{state}, {}{}", text::plain(&instance.instance_type), at.unwrap_or_default())
}

fn as_text(survey: &Survey, there: &[There], costs: &str) -> String {
    let plan = &survey.plan;
    let missing = match plan.steps.len() {
        0 => "as the document says".to_owned(),
        n => format!("{} missing or different", text::count(n, "thing")),
    };
    let mut out = format!("{}: {missing}\n", plan.subject);
    let wide = |of: fn(&There) -> usize| there.iter().map(of).max().unwrap_or_default();
    let (parts, ids) = (wide(|t| t.part.len()), wide(|t| t.id.len()).min(40));
    for There { part, id, about } in there {
        let _ = writeln!(out, "{}", format!("  {part:parts$}  {id:ids$}  {about}").trim_end());
    }
    for record in survey.desired.records.iter() {
        let at = survey.seen.records.iter().find(|r| r.name == record.name);
        let at = at.map_or_else(|| "(no record)".to_owned(), |r| format!("{} {}", r.kind, text::plain(&r.value)));
        let _ = writeln!(out, "  {}  {at}", record.name);
    }
    for (heading, lines) in [
        ("missing or different", plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ("about the document", survey.problems.iter().map(ToString::to_string).collect()),
        ("left alone", plan.left.iter().map(|n| format!("{}: {}", text::plain(&n.what), n.why)).collect()),
        ("in the way", plan.foreign.iter().map(|n| format!("{}: {}", text::plain(&n.what), n.why)).collect()),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(out, "{heading}:\n  {}", lines.join("\n  "));
        }
    }
    if !costs.is_empty() {
        let _ = writeln!(out, "costs: {costs}");
    }
    out
}

fn as_json(file: &str, survey: &Survey, there: &[There], costs: &str) -> Value {
    let part = |t: &There| json!({ "part": t.part, "id": t.id, "about": t.about });
    let names: Vec<&String> = survey.desired.records.iter().map(|r| &r.name).collect();
    json!({
        "file": file,
        "subject": survey.plan.subject,
        "parts": there.iter().map(part).collect::<Vec<_>>(),
        "records": survey.seen.records.iter().filter(|r| names.contains(&&r.name)).collect::<Vec<_>>(),
        "missing": survey.plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "problems": survey.problems,
        "left": survey.plan.left,
        "in_the_way": survey.plan.foreign,
        "costs": costs,
    })
}
