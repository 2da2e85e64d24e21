//! Two nat-hub: what those who reach the internet lose when the one that has the routes dies, hands over or returns.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use crosswan_faults::attended::Attended;
use crosswan_faults::pair::{SOON, believes, forget_moves, leads_to};
use crosswan_faults::region::{Region, agent, eventually, status};
use crosswan_lab::{AgentProcess, Gateway, Host, Lab, Role, VpcSpec};

use crate::probes::{Connections, Lost};
use crate::say;
use crate::takeover::{calls, die, hand_over, phases};

const REGION: &str = "us-west-2";
const DEFAULT: &str = "0.0.0.0/0";

/// What one death cost: the longest time, in seconds, without a new connection, and how long EC2's calls took the heir.
pub struct Death {
    pub effect: Duration,
    pub connection: f64,
    pub calls: f64,
    pub phases: String,
}

/// What was measured.
pub struct Measured {
    pub deaths: Vec<Death>,
    pub handed: Lost,
    pub returned: Lost,
}

impl Measured {
    /// The deaths where EC2's changes take effect after so many seconds.
    pub fn of(&self, effect: u64) -> impl Iterator<Item = &Death> {
        self.deaths.iter().filter(move |death| death.effect.as_secs() == effect)
    }
}

/// A member, as systemd attends to it.
struct Member {
    /// Ends before the gateway does.
    attended: Attended,
    pair: AgentProcess,
    gateway: Arc<Gateway>,
}

impl Member {
    fn start(gateway: &Arc<Gateway>) -> Result<Member> {
        let attended = Attended::refreshed(gateway.clone());
        Ok(Member { attended, pair: gateway.spawn_agent(&["pair"])?, gateway: gateway.clone() })
    }
}

struct Stage {
    /// First the one that has the routes.
    members: [Member; 2],
    host: Arc<Host>,
    region: Region,
}

impl Stage {
    fn new() -> Result<Stage> {
        let hub = VpcSpec::new("hub", REGION, &["10.0.0.0/16"], &[Role::NatHub])?.bare();
        let region = Region::booted(Lab::builder(agent()?).vpc(hub).build()?)?;
        let (one, host) = (region.gateway("hub/nat-hub")?, region.lab.host("hub/host")?);
        host.wait_for(region.lab.internet().address, SOON)?;
        let one = Member::start(&one)?;
        let two = Member::start(&region.lab.add_gateway("hub", Role::NatHub)?)?;
        Ok(Stage { members: [one, two], host, region })
    }

    /// Both are well, the first one has the routes, packets pass, and no move is remembered.
    fn ready(&mut self) -> Result<()> {
        for Member { gateway, pair, .. } in &mut self.members {
            forget_moves(gateway, pair)?;
        }
        for (member, role) in self.members.iter().zip(["active", "standby"]) {
            believes(&member.gateway, "alive")?;
            eventually(SOON, "each is well and knows where the routes lead", || {
                let pair = &status(&member.gateway)?["pair"];
                Ok(pair["role"] == role && pair["own_health"] == "well" && pair["its_health"] == "well")
            })?;
        }
        self.moved(0)
    }

    /// Waits until the routes lead to this member, and packets pass.
    fn moved(&self, to: usize) -> Result<()> {
        let lab = &self.region.lab;
        let [_, table] = lab.route_tables("hub")?;
        let heir = &self.members[to].gateway;
        eventually(SOON, "the routes have moved", || leads_to(lab, REGION, heir, &table, DEFAULT))?;
        self.host.wait_for(lab.internet().address, SOON).map(drop)
    }

    /// The pings to the internet that are lost meanwhile.
    fn lost(&mut self, what: impl FnOnce(&mut Stage) -> Result<()>) -> Result<Lost> {
        let stream = self.host.ping_stream(self.region.lab.internet().address)?;
        std::thread::sleep(Duration::from_secs(1));
        what(self)?;
        std::thread::sleep(Duration::from_secs(1));
        let report = stream.stop()?;
        Ok(Lost { lost: report.lost, sent: report.sent })
    }

    fn death(&mut self, effect: Duration) -> Result<Death> {
        self.ready()?;
        self.region.lab.ec2_effect_delay(effect);
        let connections = Connections::start(&self.host, self.region.lab.internet().address);
        std::thread::sleep(Duration::from_secs(2));
        die(&self.members[0].gateway)?;
        self.moved(1)?;
        std::thread::sleep(Duration::from_secs(1));
        let connection = connections.stop()?.as_secs_f64();
        self.region.lab.ec2_effect_delay(Duration::ZERO);
        let taken = || Ok::<_, anyhow::Error>(status(&self.members[1].gateway)?["pair"]["taken"].clone());
        eventually(SOON, "the takeover is shown", || Ok(!taken()?.is_null()))?;
        let taken = taken()?;
        let (calls, phases) = (calls(&taken)?, phases(&taken));
        say(&format!("nothing for {connection:.3} s; {phases}"));
        Ok(Death { effect, connection, calls, phases })
    }

    /// EC2 stops the one that is dead, and it boots again, as by systemd.
    fn comes_back(&mut self) -> Result<()> {
        let [dead, heir] = &mut self.members;
        dead.attended.end()?;
        self.region.lab.stop_instance(&dead.gateway)?;
        self.region.lab.start_guarded(&dead.gateway)?;
        *dead = Member::start(&dead.gateway)?;
        believes(&heir.gateway, "alive")?;
        believes(&dead.gateway, "alive")
    }
}

/// So many deaths for each time after which EC2's changes take effect, in seconds, and as many handovers.
pub fn measure(effects: &[u64], rounds: usize) -> Result<Measured> {
    say("two nat-hub");
    let mut stage = Stage::new()?;
    let (mut deaths, mut handed, mut returned) = (Vec::new(), Lost::default(), Lost::default());
    for round in 1..=rounds {
        say(&format!("handover {round} of {rounds}"));
        stage.ready()?;
        handed = handed.plus(stage.lost(|stage| {
            hand_over(&stage.members[0].gateway)?;
            stage.moved(1)
        })?);
        stage.members.reverse();
    }
    for effect in effects {
        for round in 1..=rounds {
            say(&format!("death {round} of {rounds}, packets follow EC2 {effect} s later"));
            deaths.push(stage.death(Duration::from_secs(*effect))?);
            returned = returned.plus(stage.lost(Stage::comes_back)?);
            stage.members.reverse();
        }
    }
    Ok(Measured { deaths, handed, returned })
}
