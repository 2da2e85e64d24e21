//! `adopt`: tag what the rules of 2014 recognise, and nothing else.

use super::{CastArguments, Outcome, cast};

/// As `cast`, with no step but adoptions.
pub async fn adopt(arguments: CastArguments) -> Outcome {
    cast(CastArguments { adopt_only: true, ..arguments }).await
}
