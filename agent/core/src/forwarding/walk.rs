//! Follows one flow through one base chain.

use super::{
    chains::{Base, Rule, Table, Verdict},
    flow::{Answer, Flow},
};

/// The depth of jumps within jumps; nft refuses more than 16 (linux/netfilter/nf_tables.h, NFT_JUMP_STACK_SIZE).
const DEPTH: usize = 20;
/// The number of rules that are judged for one flow in one base chain: chains that jump to each other in a lattice could take
/// for ever.
const BUDGET: usize = 50_000;

/// Something that stops packets of a flow, or replaces their source address.
pub(super) struct Obstacle {
    /// Whether it does that to all packets of the flow.
    pub sure: bool,
    /// What it is and what it does: `the policy drop stops`.
    pub what: String,
    pub remedy: String,
}

struct Walk<'a> {
    table: &'a Table,
    base: &'a Base,
    flow: &'a Flow,
    left: usize,
    /// The number of verdicts that ended the way of some packets through this base chain.
    decided: usize,
    obstacles: Vec<Obstacle>,
}

/// The first obstacle that is certain, otherwise the first that is possible; `None` if the flow passes.
pub(super) fn walk(table: &Table, name: &str, base: &Base, flow: &Flow) -> Option<Obstacle> {
    let mut walk = Walk { table, base, flow, left: BUDGET, decided: 0, obstacles: Vec::new() };
    let rest = walk.chain(name, Answer::All, 0);
    if walk.left == 0 {
        walk.add(Answer::Some, "more rules than can be judged", "stop", "");
    } else if let (Some(remedy), true) = (&base.drops, rest != Answer::None) {
        walk.add(rest, "the policy drop", "stop", remedy);
    }
    let first = walk.obstacles.iter().position(|obstacle| obstacle.sure).unwrap_or(0);
    walk.obstacles.into_iter().nth(first)
}

impl Walk<'_> {
    fn add(&mut self, much: Answer, what: &str, does: &str, remedy: &str) {
        let sure = much == Answer::All;
        let (verb, object) = does.split_once(' ').map_or((does, String::new()), |(v, o)| (v, format!(" {o}")));
        let what = if sure { format!("{what} {verb}s{object}") } else { format!("{what} may {does} some of:") };
        self.obstacles.push(Obstacle { sure, what, remedy: remedy.to_owned() });
    }

    fn decide(&mut self, rule: &Rule, much: Answer, does: &str) {
        self.decided += 1;
        self.add(much, &rule.text, does, &rule.remedy);
    }

    /// Follows the packets of the flow that arrive at a chain, all or some. The answer is how many of them leave it at its end.
    fn chain(&mut self, name: &str, arriving: Answer, depth: usize) -> Answer {
        let Some(chain) = self.table.chains.get(name).filter(|_| depth < DEPTH) else { return arriving };
        let before = self.decided;
        // The packets that are still in the chain, and those that a `return` has taken out of it.
        let (mut on, mut returned) = (arriving, Answer::None);
        for rule in &chain.rules {
            if self.left == 0 {
                return Answer::Some;
            }
            self.left -= 1;
            let holds = rule.matches.iter().map(|m| m.holds(self.flow, self.base.hook)).min().unwrap_or(Answer::All);
            let matched = holds.min(on);
            if matched == Answer::None {
                continue;
            }
            match &rule.verdict {
                Verdict::Next => continue,
                Verdict::Translate if self.base.nat.is_none() => continue,
                Verdict::Accept => self.decided += 1,
                Verdict::Translate if !self.flow.keeps_source => self.decided += 1,
                Verdict::Stop => self.decide(rule, matched, "stop"),
                Verdict::Translate => self.decide(rule, matched, "replace the source address of"),
                Verdict::Return => returned = returned.max(matched),
                Verdict::Goto(to) => returned = returned.max(self.chain(to, matched, depth + 1)),
                Verdict::Jump(to) => {
                    let decided = self.decided;
                    let back = self.chain(to, matched, depth + 1);
                    on = match holds {
                        Answer::All => back,
                        _ if self.decided == decided => on,
                        _ => Answer::Some,
                    };
                    continue;
                }
            }
            on = if holds == Answer::All { Answer::None } else { Answer::Some };
            if on == Answer::None {
                break;
            }
        }
        if self.decided == before { arriving } else { on.max(returned) }
    }
}
