//! Items that are made on a thread of their own, each while the one before it is used: one ahead of whoever
//! takes them and never more.

use std::mem;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// The items of an iterator, the next of which is in the making.
#[derive(Debug)]
pub(super) struct Prefetch<'scope, T> {
    wanted: SyncSender<()>,
    made: Receiver<T>,
    next: Next<T>,
    /// Until it is seen to have ended.
    maker: Option<ScopedJoinHandle<'scope, ()>>,
}

#[derive(Debug)]
enum Next<T> {
    /// The thread has been asked for it.
    Making,
    Made(T),
    /// There is none.
    End,
}

impl<'scope, T: Send + 'scope> Prefetch<'scope, T> {
    /// Begins with the first item. The thread ends when this is dropped.
    ///
    /// # Panics
    /// When the system has no thread left.
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
        let maker = Some(maker.expect("the system has a thread left"));
        let prefetch = Self { wanted, made, next: Next::Making, maker };
        prefetch.ask();
        prefetch
    }

    /// The next item, as soon as it is there; the one after it is begun. Panics as the iterator did.
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

    /// Waits for the item in the making. The thread does nothing from then on until the next
    /// [`Prefetch::take`].
    pub(super) fn rest(&mut self) {
        if !matches!(self.next, Next::Making) {
            return;
        }
        self.next = match self.made.recv() {
            Ok(item) => Next::Made(item),
            Err(_) => {
                // The thread has ended, by itself or not.
                if let Some(Err(panic)) = self.maker.take().map(ScopedJoinHandle::join) {
                    resume_unwind(panic);
                }
                Next::End
            }
        };
    }

    fn ask(&self) {
        // Nobody hears it after the last item.
        self.wanted.send(()).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::thread::scope;
    use std::time::Duration;

    use super::*;

    /// Long enough on any machine; only a failing test waits for it.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn all_items_come_in_order_and_then_none() {
        scope(|scope| {
            let mut items = Prefetch::start(scope, 0..3);
            let taken: Vec<Option<i32>> = (0..5).map(|_| items.take()).collect();
            assert_eq!(taken, [Some(0), Some(1), Some(2), None, None]);
        });
    }

    #[test]
    fn the_next_item_is_made_while_one_is_used_and_then_nothing_is() {
        let (sender, begun) = sync_channel(9);
        scope(|scope| {
            let items = (0..3).inspect(|&item| sender.send(item).unwrap());
            let mut items = Prefetch::start(scope, items);
            assert_eq!(begun.recv_timeout(LONG), Ok(0));
            for item in 0..3 {
                assert_eq!(items.take(), Some(item));
                // In use here, and the next one is made without being asked for.
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
    fn a_panic_of_the_maker_is_not_the_end_of_the_items() {
        scope(|scope| {
            let items = (0..9).inspect(|&item| assert!(item < 2, "out of images"));
            let mut items = Prefetch::start(scope, items);
            while items.take().is_some() {}
        });
    }
}
