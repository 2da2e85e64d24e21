//! The baseline: the second hub runs, and no pair.

use std::time::Duration;

use anyhow::Result;

use super::stage::Stage;
use crate::results::seconds;
use crate::say;
use crate::takeover::die;

/// How long everybody is left alone before all are refreshed by hand.
const ALONE: Duration = Duration::from_mins(5);

/// What the same death costs where nobody takes over.
pub struct Cold {
    alone: Duration,
    /// When all ways passed again, if they did by themselves.
    healed: Option<Duration>,
    /// The longest time, in seconds, without an arrival, each way.
    pub gaps: [f64; 4],
}

impl Cold {
    /// The last that happens to these hubs.
    pub fn standby(mut stage: Stage, quick: bool) -> Result<Cold> {
        let alone = if quick { Duration::from_secs(2) } else { ALONE };
        say(&format!("the same without a pair; left alone for at most {} s", alone.as_secs()));
        let used = stage.part()?;
        let mut healed = None;
        let echoes = stage.echoes(|stage| {
            die(&used)?;
            stage.stop(&used)?;
            healed = stage.left_alone(alone)?;
            while healed.is_none() && !stage.reach()? {
                stage.refresh_all()?;
            }
            Ok(())
        })?;
        Ok(Cold { alone, healed, gaps: echoes.each_ref().map(|echoed| echoed.there.as_secs_f64()) })
    }

    /// Of the ways from spoke to spoke.
    pub fn spokes(&self) -> f64 {
        self.gaps[0].max(self.gaps[1])
    }

    /// A figure of these for the table of budgets.
    pub fn baseline(&self, gap: f64) -> String {
        let alone = self.alone.as_secs_f64();
        if gap > alone { format!("none in {alone:.0} s") } else { seconds(gap) }
    }

    /// What it was.
    pub fn text(&self) -> String {
        let end = match self.healed {
            Some(after) => format!("all passed again after {}", seconds(after.as_secs_f64())),
            None => "not all passed again; then everybody was refreshed by hand".into(),
        };
        format!(
            "Cold standby: `pair.enabled = false` on all, the second hub runs, and DPD, `keep` and the passes that it asks for do what they \
             do. It was left alone for {} s, in which {end}.\n",
            self.alone.as_secs()
        )
    }
}
