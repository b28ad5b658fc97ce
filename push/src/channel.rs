//! A table with one entry per channel.

use switchboard_store::Channel;

/// One `T` for each channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerChannel<T>([T; Channel::ALL.len()]);

impl<T> PerChannel<T> {
    pub(crate) fn of(&self, channel: Channel) -> &T {
        &self.0[channel as usize]
    }

    pub(crate) fn of_mut(&mut self, channel: Channel) -> &mut T {
        &mut self.0[channel as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Channel, &T)> {
        Channel::ALL.into_iter().zip(&self.0)
    }
}
