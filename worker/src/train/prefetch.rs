//! Items that are made on a thread of their own while the last one is used, one ahead of whoever takes
//! them and never more.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// The items of an iterator, the next of which is in the making.
#[derive(Debug)]
pub(super) struct Prefetch<T> {
    wanted: SyncSender<()>,
    made: Receiver<Option<T>>,
    /// `None`: it has not come from the thread yet.
    next: Option<Option<T>>,
}

impl<T: Send> Prefetch<T> {
    /// Begins with the first item. The thread ends when this is dropped; if it panics, so does the scope.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        mut items: impl Iterator<Item = T> + Send + 'scope,
    ) -> Self
    where
        T: 'scope,
    {
        let (wanted, asked) = sync_channel(1);
        let (sender, made) = sync_channel(1);
        scope.spawn(move || {
            while asked.recv().is_ok() {
                let item = items.next();
                if item.is_none() || sender.send(item).is_err() {
                    return;
                }
            }
        });
        let prefetch = Self { wanted, made, next: None };
        prefetch.ask();
        prefetch
    }

    /// The next item, as soon as it is there; the one after it is begun.
    pub(super) fn take(&mut self) -> Option<T> {
        self.rest();
        let item = self.next.take().flatten();
        self.ask();
        item
    }

    /// Waits for the item in the making. The thread does nothing from then on until the next
    /// [`Prefetch::take`].
    pub(super) fn rest(&mut self) {
        // The thread is gone after the last item.
        self.next.get_or_insert_with(|| self.made.recv().ok().flatten());
    }

    fn ask(&self) {
        // Nobody hears it after the last item.
        self.wanted.send(()).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread::scope;
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_items_come_in_order_and_then_none() {
        scope(|scope| {
            let mut items = Prefetch::start(scope, 0..3);
            let taken: Vec<Option<i32>> = (0..5).map(|_| items.take()).collect();
            assert_eq!(taken, [Some(0), Some(1), Some(2), None, None]);
        });
    }

    #[test]
    fn the_next_item_is_made_while_the_last_one_is_used() {
        let (sender, begun) = sync_channel(3);
        scope(|scope| {
            let items = (0..3).inspect(|&item| sender.send(item).unwrap());
            let mut items = Prefetch::start(scope, items);
            for item in 0..3 {
                assert_eq!(items.take(), Some(item));
                assert_eq!(begun.recv_timeout(Duration::from_secs(60)), Ok(item));
                if item < 2 {
                    // Used here, and the next one is made without being asked for.
                    let next = begun.recv_timeout(Duration::from_secs(60));
                    assert_eq!(next, Ok(item + 1));
                    sender.send(item + 1).unwrap();
                }
            }
        });
    }

    #[test]
    fn at_rest_one_item_is_made_and_no_more() {
        let made = AtomicU32::new(0);
        scope(|scope| {
            let items = (0..9).inspect(|_| {
                made.fetch_add(1, Ordering::SeqCst);
            });
            let mut items = Prefetch::start(scope, items);
            for taken in 1..9 {
                items.take();
                items.rest();
                assert_eq!(made.load(Ordering::SeqCst), taken + 1);
                items.rest();
                assert_eq!(made.load(Ordering::SeqCst), taken + 1);
            }
        });
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_of_the_maker_is_not_the_end_of_the_items() {
        scope(|scope| {
            let items = (0..9).inspect(|&item| assert!(item < 2, "out of images"));
            let mut items = Prefetch::start(scope, items);
            while items.take().is_some() {}
        });
    }
}
