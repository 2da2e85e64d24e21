//! Which of the two gateways of a far end is followed: the one that says that routes lead to it, with the highest generation.

use super::Says;

/// What one party's gateways have said. `T` tells them apart.
///
/// It never goes back: only a takeover that nobody has spoken of before moves anything. So whoever returns with an old word, or repeats the
/// last one, moves nothing, and neither does silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow<T>(Option<(T, u32)>);

impl<T> Default for Follow<T> {
    fn default() -> Self {
        Follow(None)
    }
}

impl<T: PartialEq> Follow<T> {
    /// `followed` was followed last, in this generation.
    pub fn known(followed: T, generation: u32) -> Follow<T> {
        Follow(Some((followed, generation)))
    }

    /// The one that is followed, if one has been.
    pub fn followed(&self) -> Option<&T> {
        self.0.as_ref().map(|(followed, _)| followed)
    }

    /// The takeover that it is followed for; 0 before the first.
    pub fn generation(&self) -> u32 {
        self.0.as_ref().map_or(0, |(_, generation)| *generation)
    }

    /// Whether this is the word of a takeover that nobody has spoken of before. Its tunnel has to carry packets before it is followed.
    pub fn is_news(&self, says: &Says) -> bool {
        says.holds && says.generation > self.generation()
    }

    /// Follows `from` in this generation, if that is news still.
    pub fn follow(&mut self, from: T, generation: u32) -> bool {
        let news = generation > self.generation();
        if news {
            self.0 = Some((from, generation));
        }
        news
    }
}
