//! A timer with a precision of some microseconds. Tokio's own timers are rounded up to milliseconds, which would be
//! most of the measured latencies.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::{NS_PER_S, now_ns};

/// Waits for moments of [`now_ns`].
pub(crate) struct Timer {
    descriptor: AsyncFd<OwnedFd>,
}

impl Timer {
    /// # Errors
    /// No descriptors are left.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        #[expect(deprecated, reason = "an OwnedFd keeps its descriptor; what takes its place is unsafe")]
        Ok(Self { descriptor: AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)? })
    }

    /// Waits until `moment_ns`; returns at once if it is over.
    ///
    /// # Errors
    /// None known; otherwise the system's error.
    pub(crate) async fn until(&self, moment_ns: u64) -> io::Result<()> {
        while now_ns() < moment_ns {
            let value = Timespec { tv_sec: (moment_ns / NS_PER_S) as _, tv_nsec: (moment_ns % NS_PER_S) as _ };
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let setting = Itimerspec { it_interval: zero, it_value: value };
            timerfd_settime(&self.descriptor, TimerfdTimerFlags::ABSTIME, &setting)?;
            let mut ready = self.descriptor.readable().await?;
            // An unread expiry of a cancelled wait ends this one early: hence the loop.
            let read = ready.try_io(|descriptor| Ok(rustix::io::read(descriptor.get_ref(), &mut [0; 8])?));
            if let Ok(Err(error)) = read {
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_until_the_moment_and_not_for_one_that_is_over() {
        let timer = Timer::new().unwrap();
        let moment_ns = now_ns() + 3_000_000;
        timer.until(moment_ns).await.unwrap();
        assert!(now_ns() >= moment_ns);
        timer.until(1).await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_does_not_end_the_next_one() {
        let timer = Timer::new().unwrap();
        let given_up_ns = now_ns() + 1_000_000;
        tokio::select! {
            biased;
            _ = timer.until(given_up_ns) => panic!("it is too early"),
            () = std::future::ready(()) => {}
        }
        let moment_ns = given_up_ns + 3_000_000;
        timer.until(moment_ns).await.unwrap();
        assert!(now_ns() >= moment_ns);
    }
}
