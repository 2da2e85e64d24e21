//! `crosswan handover`: has the other member of the pair take the routes that lead here, and waits until nothing passes this gateway any more.
//!
//! It decides nothing and moves nothing itself. It orders `crosswan pair` to say that this gateway hands over, for as long as it runs itself,
//! and the other member takes the routes by its own judgement. What it tells is what EC2 shows and what the kernel has counted.

#![allow(clippy::disallowed_methods, reason = "edge: it waits for others, by a deadline")]

use std::{fmt, fs, pin::pin, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    files::{self, Hold},
    host, keyring,
    observe::ec2::{self, Clients},
    paths::Paths,
    status,
};
use crosswan_core::{
    error::{Context, Error, Kind, Result},
    model::{Holder, InstanceId, MAKES_WAY_TAG},
    pair::{Beside, Members, Newcomer, PairStatus, QUIET, Quiet, forwarded},
    settings::{AuthMethod, Settings, Tag},
};

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// The time between two questions to EC2.
const ASK: Duration = Duration::from_secs(1);
/// How long EC2 has for one answer.
const EC2: Duration = Duration::from_secs(8);
/// How long `crosswan pair` has to take note that this gateway stays.
const STAYS: Duration = Duration::from_secs(10);
/// How long the kernel of one that asks for a place has to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a pass has to show that this gateway has made way.
const PASS: Duration = Duration::from_secs(120);
/// How long the lock may be held by a look of `crosswan pair`, or by another handover that is about to end.
pub const LOCK: Duration = Duration::from_secs(2);

/// What came of a handover.
#[derive(Debug, Clone, Serialize)]
pub struct Handover {
    /// How it ended.
    pub outcome: Outcome,
    /// The other member of the pair.
    pub to: InstanceId,
    /// The routes that led here when it began, as `0.0.0.0/0 of rtb-…`.
    pub routes: Vec<String>,
    /// Those of them that lead here now, by EC2's last answer.
    pub left: Vec<String>,
    /// Milliseconds until EC2 showed none any more; `None` if it did not, or if there was none.
    pub moved_ms: Option<u64>,
    /// The packets that this gateway's kernel has forwarded since then.
    pub forwarded: u64,
    /// The gateway that is a member in this one's place; `None` if this one has not made way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_way_for: Option<InstanceId>,
    /// What else is to be said: why the routes are here still, or why EC2 could not be asked.
    pub why: Option<String>,
}

/// How a handover ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// EC2 shows that no route leads here any more, and nothing passes.
    HandedOver,
    /// None led here, and nothing passes.
    NothingToHandOver,
    /// Routes lead here still, and stay.
    NotTaken,
    /// No route leads here any more, and packets pass still.
    StillForwards,
}

impl Handover {
    /// The command's exit code.
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::HandedOver | Outcome::NothingToHandOver => 0,
            Outcome::NotTaken | Outcome::StillForwards => Kind::Apply.exit_code(),
        }
    }
}

/// Why there is no pair by these settings; `None` if there may be one.
pub fn no_pair(settings: &Settings) -> Option<&'static str> {
    match (settings.auth.method, &settings.pair) {
        (_, Some(_)) => None,
        (AuthMethod::Psk, _) => Some("auth.method is \"psk\", and beats are signed with keys"),
        _ => Some("pair.enabled is false"),
    }
}

/// What the last pass has written of the pair.
fn pair(paths: &Paths) -> Result<Option<String>> {
    Ok(files::read(&paths.pair)?.map(|(text, _)| text))
}

/// The other member, if there is one and `crosswan pair` runs here.
fn watched(paths: &Paths) -> Result<(Members, PairStatus)> {
    let text = pair(paths)?;
    if let Some(Beside { beside: [one, two], made_way, .. }) = text.as_deref().and_then(Beside::parse) {
        return Err(Error::observe(match made_way {
            Some(heir) => format!(
                "hand over: this gateway has made way for {heir}, and has nothing to hand over: end it when crosswan status on the other member \
                 shows {heir} alive and well"
            ),
            None => format!(
                "hand over: this gateway waits beside the pair of {one} and {two}, and has nothing to hand over; run it on the one that is \
                 to end"
            ),
        }));
    }
    let members = text.as_deref().and_then(Members::parse).ok_or_else(|| {
        Error::observe(
            "hand over: no other gateway makes a pair with this one; launch a second one of its mode in this VPC, and run crosswan refresh",
        )
    })?;
    let status = status::pair(paths)?.and_then(|(_, status)| status).ok_or_else(|| {
        Error::observe("hand over: crosswan pair does not run here, which has to tell the other member: systemctl start crosswan-pair")
    })?;
    Ok((members, status))
}

/// Refuses where there can be no pair.
///
/// # Errors
/// Why there can be none by these settings.
pub fn check(settings: &Settings) -> Result<()> {
    let Some(why) = no_pair(settings) else { return Ok(()) };
    Err(Error::settings(format!(
        "hand over: this gateway is not one of a pair, as {why}; its routes have nowhere to go (docs/operating.md, \"A pair\", makes one)"
    )))
}

/// Has `crosswan pair` take note that this gateway stays, whatever EC2 has told of its end.
///
/// # Errors
/// There is no pair, `crosswan pair` does not run or does not take note, or a handover is under way by order.
pub async fn cancel(settings: &Settings, paths: &Paths) -> Result<()> {
    check(settings)?;
    watched(paths)?;
    // As a look of crosswan pair does: held alone it would be an order.
    drop(files::lock(&paths.handover, Hold::Shared, LOCK, "a crosswan handover, which ends when it is interrupted,")?);
    files::touch(&paths.stay)?;
    let deadline = Instant::now() + STAYS;
    while Instant::now() < deadline {
        sleep(LOOK).await;
        let (_, status) = watched(paths)?;
        if !paths.stay.exists() && status.hands_over.is_none() {
            return Ok(());
        }
    }
    files::remove(&paths.stay)?;
    Err(Error::apply(format!(
        "stay: crosswan pair has not taken note of it for {STAYS:?}: systemctl restart crosswan-pair"
    )))
}

/// What is asked of a handover.
pub struct Order<'a> {
    /// Why it hands over.
    pub why: &'a str,
    /// How long it may take.
    pub timeout: Duration,
    /// For whom it makes way, once it has handed over; `None` if it stays a member.
    pub make_way: Option<MakeWay>,
    /// How long another handover may keep this one waiting. The thread sleeps meanwhile.
    pub patience: Duration,
}

/// For whom a member makes way: what a refresh says that is asked for first, as somebody who waited may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MakeWay {
    /// The next one that waits beside the pair.
    Next,
    /// The one that asks for this member's place.
    Asked,
}

/// Hands over the routes of tables with this `tag`, until it is done or `interrupted`, and tells `progress` what happens.
///
/// # Errors
/// Nothing was tried: there is no other member, nobody waits for whom it could make way, `crosswan pair` does not run, EC2 does not
/// answer, or another handover is under way. Or it has handed over, and the gateway that waits is not shown in its place.
pub async fn run(
    tag: &Tag,
    paths: &Paths,
    Order { why, timeout, make_way, patience }: Order<'_>,
    interrupted: impl Future,
    progress: impl Fn(&str),
) -> Result<Handover> {
    let (members, _) = watched(paths)?;
    let began = Instant::now();
    let mut run = Run { members, paths, tag, clients: Clients::default(), began, progress, said: String::new() };
    let heir = match make_way {
        Some(make_way) => Some(run.heir(make_way).await?),
        None => None,
    };
    let deadline = Instant::now() + timeout;
    let routes =
        run.held(EC2).await.map_err(|why| Error::observe("hand over: ask EC2 which routes lead here").because(why))?;
    let mut handover = Handover {
        outcome: Outcome::NotTaken,
        to: run.members.other.instance.clone(),
        left: routes.clone(),
        routes,
        moved_ms: None,
        forwarded: 0,
        made_way_for: None,
        why: None,
    };
    run.say(match handover.routes.is_empty() {
        true => "no route of a managed table leads here".into(),
        false => format!("{} lead here; {} is to take them", handover.routes.join(", "), handover.to),
    });
    // Held until the end: it is the order. Without a route far ends may still send here, and are told by the other one.
    let _order = files::lock_saying(&paths.handover, why, patience, "another crosswan handover")?;
    let handed = async {
        run.until_taken(&mut handover, deadline).await;
        if handover.left.is_empty() {
            run.until_quiet(&mut handover, deadline).await?;
        }
        if let Some(heir) = heir.filter(|_| handover.exit_code() == 0) {
            run.make_way(&heir).await?;
            handover.made_way_for = Some(heir);
        }
        Ok::<_, Error>(())
    };
    let ended = {
        let (mut handed, mut interrupted) = (pin!(handed), pin!(interrupted));
        tokio::select! {
            ended = &mut handed => Some(ended),
            _ = &mut interrupted => None,
        }
    };
    match ended {
        Some(ended) => ended?,
        None if make_way.is_some() && handover.exit_code() == 0 => {
            return Err(Error::apply(
                "make way: it has handed over, and was interrupted before a refresh has found who takes its place: run crosswan handover \
                 --make-way again, which goes on",
            ));
        }
        None => handover.why = Some("it was interrupted".into()),
    }
    Ok(handover)
}

/// A handover that is under way.
struct Run<'a, F> {
    members: Members,
    paths: &'a Paths,
    tag: &'a Tag,
    clients: Clients,
    began: Instant,
    progress: F,
    said: String,
}

impl<F: Fn(&str)> Run<'_, F> {
    /// Tells it once.
    fn say(&mut self, what: String) {
        if self.said != what {
            (self.progress)(&format!("{:5.1}s  {what}", self.began.elapsed().as_secs_f64()));
            self.said = what;
        }
    }

    /// The routes that lead here, by EC2.
    async fn held(&self, patience: Duration) -> std::result::Result<Vec<String>, String> {
        let tables = ec2::tables_of(&self.clients, &self.members.me, self.tag, patience).await;
        let tables = tables.map_err(|why| why.to_string())?;
        let held = self.members.held(&tables);
        Ok(held.into_iter().map(|(table, to)| format!("{to} of {table}")).collect())
    }

    /// The gateway for which this one makes way. A refresh finds one that has just been launched or ended, and the next one may come in an
    /// hour only.
    async fn heir(&mut self, make_way: MakeWay) -> Result<InstanceId> {
        let pass = || files::stamps(&self.paths.status)[0];
        let (last, deadline) = (pass(), Instant::now() + PASS);
        (self.progress)("a refresh is asked for, to see who waits beside this pair");
        files::touch(&self.paths.wanted)?;
        while pass() == last {
            if Instant::now() >= deadline {
                return Err(Error::observe(format!(
                    "make way: no refresh was made within {PASS:?}, which would see who waits beside this pair: journalctl -u crosswan-refresh"
                )));
            }
            sleep(LOOK).await;
        }
        // An order before this one has got so far.
        let text = pair(self.paths)?;
        if let Some(Beside { made_way: Some(heir), .. }) = text.as_deref().and_then(Beside::parse) {
            return Ok(heir);
        }
        self.members = watched(self.paths)?.0;
        let Members { waiting, asked_by, port, .. } = &self.members;
        if make_way == MakeWay::Next {
            return waiting.first().cloned().ok_or_else(|| {
                Error::observe(
                    "make way: a refresh has found no gateway that waits beside this pair; launch the new one, and wait until crosswan \
                     status there says that it waits",
                )
            });
        }
        let newcomer = asked_by.as_ref();
        let Newcomer { instance, address } =
            newcomer.ok_or_else(|| Error::observe("make way: no gateway asks for this one's place any more"))?;
        if timeout(ANSWER, host::kernel_answers((*address, *port).into())).await != Ok(Some(true)) {
            return Err(Error::observe(format!(
                "make way: {instance} ({address}) asks for this gateway's place, and its kernel does not answer (TCP port {port}): is it \
                 alive, and do security groups let this pass?"
            )));
        }
        Ok(instance.clone())
    }

    /// Leaves the place in the pair to `heir`, and waits until a pass has read that from EC2: then the others read it, too.
    async fn make_way(&mut self, heir: &InstanceId) -> Result<()> {
        let me = &self.members.me;
        let holder = Holder { vpc: &me.vpc, instance: &me.instance };
        let left = keyring::read(self.paths)?.and_then(|ring| ring.current.makes_way(heir.clone(), &holder));
        let left = left.ok_or_else(|| {
            Error::observe("make way: this gateway has no key to say so with: crosswan refresh makes one")
        })?;
        let tags = [(MAKES_WAY_TAG, left.to_string())];
        let written = ec2::announce(&self.clients, &me.region, &me.instance, &tags, EC2).await;
        written
            .map_err(|e| Error::apply(format!("make way: write tag {MAKES_WAY_TAG} of {}", me.instance)).because(e))?;
        self.say(format!("EC2 shows that this gateway has made way for {heir}; a refresh is asked for"));
        files::touch(&self.paths.wanted)?;
        let deadline = Instant::now() + PASS;
        let made_way = |text: String| Beside::parse(&text)?.made_way;
        while pair(self.paths)?.and_then(made_way).as_ref() != Some(heir) {
            if Instant::now() >= deadline {
                return Err(Error::apply(format!(
                    "make way: no refresh has found within {PASS:?} that {heir} is a member in this one's place: crosswan refresh says \
                     who is"
                )));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until EC2 shows that none of the routes leads here.
    async fn until_taken(&mut self, handover: &mut Handover, deadline: Instant) {
        let mut asked = Instant::now();
        while !handover.left.is_empty() && Instant::now() < deadline {
            sleep(LOOK).await;
            handover.why = match watched(self.paths) {
                Ok((_, status)) => {
                    self.say(format!("{}: {}", status.member, status.judgement));
                    Some(status.judgement)
                }
                Err(e) => Some(e.chain()),
            };
            if asked.elapsed() < ASK {
                continue;
            }
            asked = Instant::now();
            match self.held(EC2.min(deadline.duration_since(asked)).max(ASK)).await {
                Ok(left) => handover.left = left,
                Err(why) => {
                    self.say(format!("cannot ask EC2 for the routes: {why}"));
                    handover.why = Some(format!("EC2 does not say where they lead: {why}"));
                }
            }
        }
        if handover.left.is_empty() {
            handover.why = None;
        }
        if handover.left.is_empty() && !handover.routes.is_empty() {
            handover.moved_ms = u64::try_from(self.began.elapsed().as_millis()).ok();
            self.say(format!("EC2 shows that they lead to {}; packets that are under way pass", handover.to));
        }
    }

    /// Waits until the kernel has forwarded nothing for some seconds, and looks again where the routes lead then.
    async fn until_quiet(&mut self, handover: &mut Handover, deadline: Instant) -> Result<()> {
        handover.outcome = Outcome::StillForwards;
        // What moved at the last moment is looked at all the same.
        let deadline = deadline.max(Instant::now() + Duration::from_millis(QUIET) + 2 * LOOK);
        let now = |began: Instant| u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut quiet = Quiet::new(now(self.began), count()?);
        loop {
            sleep(LOOK).await;
            let is_quiet = quiet.look(now(self.began), count()?);
            handover.forwarded = quiet.passed();
            if is_quiet {
                break;
            }
            if Instant::now() >= deadline {
                return Ok(());
            }
        }
        // What EC2 cannot say again it has said some seconds ago.
        if let Ok(left) = self.held(EC2).await {
            handover.left = left;
        }
        handover.outcome = match (handover.left.is_empty(), handover.routes.is_empty()) {
            (false, _) => Outcome::NotTaken,
            (true, true) => Outcome::NothingToHandOver,
            (true, false) => Outcome::HandedOver,
        };
        Ok(())
    }
}

/// The packets that this gateway's kernel has forwarded since boot.
fn count() -> Result<u64> {
    const PATH: &str = "/proc/net/snmp";
    let text = fs::read_to_string(PATH).context(|| Error::observe(format!("read {PATH}")))?;
    forwarded(&text).ok_or_else(|| Error::observe(format!("understand {PATH}: there is no ForwDatagrams")))
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handover { outcome, to, routes, left, moved_ms, forwarded, made_way_for, why } = self;
        let quiet = QUIET / 1000;
        match outcome {
            Outcome::HandedOver => {
                let took = moved_ms.unwrap_or_default() as f64 / 1000.0;
                write!(f, "handed over to {to} in {took:.1}s: {}; no route leads here any more, ", routes.join(", "))?;
                write!(f, "and no packet has passed for {quiet}s ({forwarded} had since then)")?;
            }
            Outcome::NothingToHandOver => {
                write!(
                    f,
                    "nothing to hand over: no route of a managed table leads here, and no packet has passed for {quiet}s"
                )?;
            }
            Outcome::NotTaken => {
                write!(
                    f,
                    "NOT handed over: {} lead here still, and this gateway keeps them and forwards",
                    left.join(", ")
                )?;
            }
            Outcome::StillForwards => {
                write!(f, "NOT done: no route leads here any more, but packets pass still ({forwarded} so far): ")?;
                f.write_str(
                    "do not stop this gateway yet, but run crosswan handover again, which waits until nothing passes",
                )?;
            }
        }
        if let Some(heir) = made_way_for {
            write!(
                f,
                "; {heir} takes this gateway's place: end this one when crosswan status on {to} shows {heir} alive and well"
            )?;
        }
        why.as_ref().map_or(Ok(()), |why| write!(f, "; {to}: {why}"))
    }
}
