//! Makes items on a separate thread, each while the one before it is used. It is never more than
//! one item ahead.

use std::mem;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// The items of an iterator; the next one is made in the background.
#[derive(Debug)]
pub(super) struct Prefetch<'scope, T> {
    wanted: SyncSender<()>,
    made: Receiver<T>,
    next: Next<T>,
    /// `None` after the thread was seen to have ended.
    maker: Option<ScopedJoinHandle<'scope, ()>>,
}

#[derive(Debug)]
enum Next<T> {
    /// The item was requested from the thread.
    Making,
    Made(T),
    /// There are no more items.
    End,
}

impl<'scope, T: Send + 'scope> Prefetch<'scope, T> {
    /// Starts making the first item. The thread ends when this is dropped.
    ///
    /// # Panics
    /// If the system cannot start a thread.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        mut items: impl Iterator<Item = T> + Send + 'scope,
    ) -> Self {
        let (wanted, asked) = sync_channel(1);
        let (sender, made) = sync_channel(1);
        let make = move || {
            while asked.recv().is_ok() {
                let Some(item) = items.next() else { return };
                if sender.send(item).is_err() {
                    return;
                }
            }
        };
        let maker = Builder::new().name("batches".to_owned()).spawn_scoped(scope, make);
        let maker = Some(maker.expect("the system can start a thread"));
        let prefetch = Self { wanted, made, next: Next::Making, maker };
        prefetch.ask();
        prefetch
    }

    /// Waits for the next item, and starts making the one after it. If the iterator panicked,
    /// panics with the same message.
    pub(super) fn take(&mut self) -> Option<T> {
        self.rest();
        match mem::replace(&mut self.next, Next::End) {
            Next::Made(item) => {
                self.next = Next::Making;
                self.ask();
                Some(item)
            }
            Next::Making | Next::End => None,
        }
    }

    /// Waits until the item in progress is made. After that the thread is idle until the next
    /// [`Prefetch::take`].
    pub(super) fn rest(&mut self) {
        if !matches!(self.next, Next::Making) {
            return;
        }
        self.next = match self.made.recv() {
            Ok(item) => Next::Made(item),
            Err(_) => {
                // The thread has ended, normally or with a panic.
                if let Some(Err(panic)) = self.maker.take().map(ScopedJoinHandle::join) {
                    resume_unwind(panic);
                }
                Next::End
            }
        };
    }

    fn ask(&self) {
        // Fails after the last item, when the thread has ended.
        self.wanted.send(()).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::thread::scope;
    use std::time::Duration;

    use super::*;

    /// Long enough on any machine; only a failing test waits this long.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn all_items_are_returned_in_order() {
        scope(|scope| {
            let mut items = Prefetch::start(scope, 0..3);
            let taken: Vec<Option<i32>> = (0..5).map(|_| items.take()).collect();
            assert_eq!(taken, [Some(0), Some(1), Some(2), None, None]);
        });
    }

    #[test]
    fn only_one_item_is_made_ahead() {
        let (sender, begun) = sync_channel(9);
        scope(|scope| {
            let items = (0..3).inspect(|&item| sender.send(item).unwrap());
            let mut items = Prefetch::start(scope, items);
            assert_eq!(begun.recv_timeout(LONG), Ok(0));
            for item in 0..3 {
                assert_eq!(items.take(), Some(item));
                // While this item is in use, the next one is made.
                if item < 2 {
                    assert_eq!(begun.recv_timeout(LONG), Ok(item + 1));
                }
                items.rest();
                items.rest();
                assert!(begun.recv_timeout(Duration::from_millis(20)).is_err(), "one ahead");
            }
        });
    }

    #[test]
    #[should_panic(expected = "out of images")]
    fn a_panic_of_the_iterator_is_passed_on() {
        scope(|scope| {
            let items = (0..9).inspect(|&item| assert!(item < 2, "out of images"));
            let mut items = Prefetch::start(scope, items);
            while items.take().is_some() {}
        });
    }
}
