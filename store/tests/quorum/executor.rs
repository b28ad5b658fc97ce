//! Runs futures one step at a time, in the order of the schedule. Owns the tasks; no time passes here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

#[derive(Default)]
pub(crate) struct Executor {
    tasks: Vec<Task>,
}

struct Task {
    node: usize,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    ready: Arc<Ready>,
    waker: Waker,
}

/// Whether a task has been woken. The order of wake-ups does not matter: the schedule picks any.
struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Executor {
    /// Spawns a task of a node; returns its number.
    pub(crate) fn spawn(&mut self, node: usize, future: impl Future<Output = ()> + 'static) -> usize {
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        let waker = Waker::from(ready.clone());
        self.tasks.push(Task { node, future: Some(Box::pin(future)), ready, waker });
        self.tasks.len() - 1
    }

    /// The tasks that can continue, of nodes that run.
    pub(crate) fn ready(&self, runs: impl Fn(usize) -> bool, into: &mut Vec<usize>) {
        let can = |(at, task): (usize, &Task)| {
            (task.future.is_some() && task.ready.0.load(Ordering::Relaxed) && runs(task.node)).then_some(at)
        };
        into.clear();
        into.extend(self.tasks.iter().enumerate().filter_map(can));
    }

    pub(crate) fn step(&mut self, at: usize) {
        let task = &mut self.tasks[at];
        task.ready.0.store(false, Ordering::Relaxed);
        let Some(future) = &mut task.future else { return };
        if let Poll::Ready(()) = future.as_mut().poll(&mut Context::from_waker(&task.waker)) {
            task.future = None;
        }
    }

    /// Drops the task; operations that it has begun continue.
    pub(crate) fn cancel(&mut self, at: usize) {
        self.tasks[at].future = None;
    }

    pub(crate) fn cancel_all_of(&mut self, node: usize) {
        self.tasks.iter_mut().filter(|task| task.node == node).for_each(|task| task.future = None);
    }
}
