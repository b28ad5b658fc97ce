//! What a schedule is made of: how stormy it is, and what is done to the nodes how often.

use crate::store::Weather;
use switchboard_clock::Generator;

/// What a schedule is made of; the seed draws the rest.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) conversations: usize,
    pub(crate) steps: usize,
    pub(crate) weather: Weather,
    /// Of steps, in percent: something is done to the nodes.
    pub(crate) stimuli: u64,
    /// Of steps, in percent: something that was late happens.
    pub(crate) late: u64,
    pub(crate) wrongly_gone: u64,
    /// How often the time passes after which rows expire.
    pub(crate) ages: usize,
    /// Whether it is told what happens.
    pub(crate) traced: bool,
    /// How likely each stimulus is.
    weights: [(Stimulus, u64); 13],
}

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stimulus {
    /// Clients send, for the first time or again.
    Send,
    /// The conversation becomes idle.
    End,
    /// The same, whatever its task is doing.
    EndMeanwhile,
    /// The task forgets its term.
    GiveUp,
    TakeOver,
    /// Another node asks for a release.
    AskForRelease,
    Raise,
    /// Somebody reads.
    Show,
    /// The node stops as it is, and is seen to be gone.
    Stop,
    Resume,
    /// The process ends, and another one begins.
    Crash,
    /// A conversation's task is dropped in the middle of what it does, and another one begins.
    Cancel,
    /// Another one begins beside it.
    Double,
}

const WEIGHTS: [(Stimulus, u64); 13] = [
    (Stimulus::Send, 40),
    (Stimulus::End, 3),
    (Stimulus::EndMeanwhile, 2),
    (Stimulus::GiveUp, 2),
    (Stimulus::TakeOver, 8),
    (Stimulus::AskForRelease, 6),
    (Stimulus::Raise, 6),
    (Stimulus::Show, 12),
    (Stimulus::Stop, 6),
    (Stimulus::Resume, 5),
    (Stimulus::Crash, 2),
    (Stimulus::Cancel, 2),
    (Stimulus::Double, 1),
];

impl Plan {
    /// Every kind of schedule: calm ones and stormy ones.
    pub(crate) fn draw(generator: &Generator) -> Self {
        let one_of = |of: &[u64]| of[generator.below(of.len() as u64) as usize];
        let weather = Weather {
            lost: one_of(&[0, 0, 5, 15]),
            late: one_of(&[0, 5, 15, 30]),
            repeated: one_of(&[0, 5, 20]),
            timed_out: one_of(&[0, 2, 10, 25]),
            partial: one_of(&[0, 0, 10, 30]),
            refused: one_of(&[0, 0, 0, 3]),
            undecided: one_of(&[0, 0, 10, 30]),
        };
        Self {
            nodes: 2 + generator.below(2) as usize,
            conversations: 1 + usize::from(generator.percent(20)),
            steps: 100 + generator.below(250) as usize,
            weather,
            stimuli: one_of(&[5, 10, 20]),
            late: one_of(&[2, 10]),
            wrongly_gone: one_of(&[0, 20, 80]),
            ages: if generator.percent(12) { 1 + generator.below(3) as usize } else { 0 },
            traced: false,
            weights: WEIGHTS,
        }
    }

    /// Makes a stimulus more or less likely.
    pub(crate) fn weigh(&mut self, stimulus: Stimulus, weight: u64) {
        self.weights.iter_mut().filter(|(of, _)| *of == stimulus).for_each(|(_, old)| *old = weight);
    }

    pub(crate) fn draw_stimulus(&self, generator: &Generator) -> Stimulus {
        let mut roll = generator.below(self.weights.iter().map(|(_, weight)| weight).sum());
        for (stimulus, weight) in self.weights {
            match roll.checked_sub(weight) {
                Some(rest) => roll = rest,
                None => return stimulus,
            }
        }
        unreachable!("one of them is drawn")
    }
}
