//! The parameters of a schedule: how many faults there are, and how often nodes are stimulated.

use crate::store::Weather;
use switchboard_clock::Generator;

/// The parameters of a schedule; the seed draws the rest.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) conversations: usize,
    pub(crate) steps: usize,
    pub(crate) weather: Weather,
    /// The percentage of steps that stimulate a node.
    pub(crate) stimuli: u64,
    /// The percentage of steps in which a late event happens.
    pub(crate) late: u64,
    pub(crate) wrongly_gone: u64,
    /// How often the time after which rows expire passes.
    pub(crate) ages: usize,
    /// Whether events are printed.
    pub(crate) traced: bool,
    /// The weight of each stimulus.
    weights: [(Stimulus, u64); 13],
}

/// A stimulus of a node.
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
    /// The node is suspended, and seen as gone.
    Stop,
    Resume,
    /// The process ends, and another one begins.
    Crash,
    /// A conversation's task is dropped in the middle of its work, and another one begins.
    Cancel,
    /// Another task begins beside it.
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
    /// All kinds of schedules, from calm to stormy.
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
