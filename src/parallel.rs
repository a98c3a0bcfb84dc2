//! The one place with threads: an ordered, bounded, parallel map.
//!
//! Every thread does the same in turn: take the next item from the source (one thread at a time),
//! work on it, put the result into its place, and hand over whatever is next in order to the sink
//! (one thread at a time). So reading, working and writing overlap; what comes out is in the
//! order of what went in, with any number of threads; with one thread everything happens in that
//! thread, one after the other. No thread belongs to a stage, so none idles while there is work.
//! What has to be done in one long chain beside the items (a digest) is done aside: between two
//! items, by whichever thread is free.
//!
//! At most [`ahead`] results wait for their turn, and no more than [`BYTES_AHEAD`] are in work or
//! wait (one item, if it is larger), so memory is bounded with any number of threads. The
//! first error, in the order of the items, ends the run, whichever thread met it first; so the same
//! input gives the same error with any number of threads.

use crate::stop::Stop;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

/// Results that may wait for their turn. Where the sink is long at one item (Parquet: a row group is
/// written and hashed), the other threads work on meanwhile: 4 are too few, more than 8 bring nothing
/// but memory (docs/performance.md).
fn ahead(threads: usize) -> usize {
    (2 * threads).max(8)
}

/// Bytes of items that may be in work or wait for their turn, unless it is one item alone; what comes
/// of them takes about as much again. Items are a megabyte, so that of more than 32 threads some have no
/// work; but hashing a file, which is one long chain, keeps up with fewer than that.
const BYTES_AHEAD: usize = 32 << 20;

/// What an item keeps in memory.
pub trait Item: Send {
    /// About how many bytes; nought for what is too small to count.
    fn bytes(&self) -> usize {
        0
    }
}

impl Item for std::ops::Range<u64> {}

/// Told to stop by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// The system did not give the threads asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system does not give {threads} threads; ask for fewer with --threads")]
pub struct NoThreads {
    threads: usize,
}

/// Maps what `source` gives through `work` into `sink`, on `threads` threads; see the module.
///
/// `worker` makes each thread's own worker: its buffers, its generator. `aside` does a piece of
/// what is to be done beside the items, if some waits and no other thread is at it, and says
/// whether it did; what still waits when the last item is through is the caller's to do.
pub fn ordered_map<In, Out, Worker, E>(
    threads: usize,
    stop: &Stop,
    source: impl FnMut() -> Result<Option<In>, E> + Send,
    worker: impl Fn() -> Result<Worker, E> + Sync,
    work: impl Fn(&mut Worker, In) -> Result<Out, E> + Sync,
    sink: impl FnMut(Out) -> Result<(), E> + Send,
    aside: impl Fn() -> bool + Sync,
) -> Result<(), E>
where
    In: Item,
    Out: Send,
    E: Send + From<Interrupted> + From<NoThreads>,
{
    let shared = Shared {
        source: Mutex::new(Source { next: source, number: 0, ended: false }),
        order: Mutex::new(Order { next: 0, waiting: BTreeMap::new(), bytes: 0, sink: Some(sink), end: None }),
        moved: Condvar::new(),
        ahead: ahead(threads),
    };
    let run = || {
        let guard = EndOnPanic(&shared);
        shared.run(stop, &worker, &work, &aside);
        std::mem::forget(guard);
    };
    if threads <= 1 {
        run();
    } else {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("rewrap-{i}"))
            .build()
            .map_err(|_| NoThreads { threads })?;
        pool.broadcast(|_| run());
    }
    let order = shared.order.into_inner().unwrap_or_else(PoisonError::into_inner);
    match order.end {
        Some(End::Failed(error)) => Err(error),
        Some(End::Panicked) => unreachable!("a panic goes on in the thread that called"),
        None => Ok(()),
    }
}

struct Source<F> {
    next: F,
    number: u64,
    ended: bool,
}

struct Order<Out, F, E> {
    /// Number of the item that is to be handed over next.
    next: u64,
    waiting: BTreeMap<u64, Taken<Result<Out, E>>>,
    /// What the items keep that were taken and not yet handed over.
    bytes: usize,
    /// Taken by the thread that is handing over.
    sink: Option<F>,
    end: Option<End<E>>,
}

/// What was taken from the source and is not handed over yet, or what became of it.
struct Taken<T> {
    bytes: usize,
    what: T,
}

enum End<E> {
    Failed(E),
    Panicked,
}

struct Shared<S, Out, K, E> {
    source: Mutex<Source<S>>,
    order: Mutex<Order<Out, K, E>>,
    /// The order moved on, or the run ended.
    moved: Condvar,
    ahead: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of another thread ends the run (`EndOnPanic`); what it held is not used after that.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<In, S, Out, K, E> Shared<S, Out, K, E>
where
    In: Item,
    S: FnMut() -> Result<Option<In>, E>,
    K: FnMut(Out) -> Result<(), E>,
    E: From<Interrupted>,
{
    fn run<Worker>(
        &self,
        stop: &Stop,
        worker: &impl Fn() -> Result<Worker, E>,
        work: &impl Fn(&mut Worker, In) -> Result<Out, E>,
        aside: &impl Fn() -> bool,
    ) {
        let mut worker = match worker() {
            Ok(worker) => worker,
            Err(error) => return self.end(End::Failed(error)),
        };
        while let Some((number, Taken { bytes, what: item })) = self.take(stop, aside) {
            let result = item.and_then(|item| work(&mut worker, item));
            if !self.put(number, Taken { bytes, what: result }) {
                return;
            }
            // Once an item, so that the chain keeps up with the items and nothing piles up.
            aside();
        }
        // The other threads may still be at their last items.
        while lock(&self.order).end.is_none() && aside() {}
    }

    /// The source, when no other thread reads from it; until then there may be something to do.
    fn source(&self, aside: &impl Fn() -> bool) -> MutexGuard<'_, Source<S>> {
        loop {
            match self.source.try_lock() {
                Ok(source) => return source,
                Err(TryLockError::WouldBlock) if aside() => {}
                Err(_) => return lock(&self.source),
            }
        }
    }

    /// The next item with its number. An error of the source takes an item's place, and is the
    /// last one.
    fn take(&self, stop: &Stop, aside: &impl Fn() -> bool) -> Option<(u64, Taken<Result<In, E>>)> {
        let mut source = self.source(aside);
        if source.ended || lock(&self.order).end.is_some() {
            return None;
        }
        let item = if stop.is_requested() { Err(Interrupted.into()) } else { (source.next)().transpose()? };
        // Whatever the source said, a stop while it waited is a stop.
        let item = if stop.is_requested() { Err(Interrupted.into()) } else { item };
        let number = source.number;
        source.number += 1;
        source.ended = item.is_err();
        let bytes = item.as_ref().map_or(0, Item::bytes);
        // What waits for room here is the last one taken, and nobody waits for it: the others go on.
        let mut order = lock(&self.order);
        while order.end.is_none() && order.bytes > 0 && order.bytes + bytes > BYTES_AHEAD {
            order = self.moved.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
        order.bytes += bytes;
        Some((number, Taken { bytes, what: item }))
    }

    /// Puts a result into its place and hands over what is next; false when the run has ended.
    fn put(&self, number: u64, result: Taken<Result<Out, E>>) -> bool {
        let mut order = lock(&self.order);
        // The item that is next never waits here, so somebody always moves the order on.
        while order.end.is_none() && number != order.next && order.waiting.len() >= self.ahead {
            order = self.moved.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
        order.waiting.insert(number, result);
        loop {
            if order.end.is_some() {
                return false;
            }
            let next = order.next;
            let Some(mut sink) = order.sink.take() else { return true };
            let Some(Taken { bytes, what: result }) = order.waiting.remove(&next) else {
                order.sink = Some(sink);
                return true;
            };
            drop(order);
            let handed = result.and_then(&mut sink);
            order = lock(&self.order);
            order.sink = Some(sink);
            order.next += 1;
            order.bytes -= bytes;
            if let Err(error) = handed {
                order.end.get_or_insert(End::Failed(error));
            }
            self.moved.notify_all();
        }
    }

    fn end(&self, end: End<E>) {
        lock(&self.order).end.get_or_insert(end);
        self.moved.notify_all();
    }
}

/// Ends the run for the other threads when one panics: they would wait for its item forever.
struct EndOnPanic<'a, S, Out, K, E>(&'a Shared<S, Out, K, E>);

impl<S, Out, K, E> Drop for EndOnPanic<'_, S, Out, K, E> {
    fn drop(&mut self) {
        lock(&self.0.order).end.get_or_insert(End::Panicked);
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    impl Item for u64 {}
    impl Item for i32 {}

    /// An item that says it is large.
    struct Large;

    impl Item for Large {
        fn bytes(&self) -> usize {
            BYTES_AHEAD / 2 - 1
        }
    }

    #[derive(Debug, PartialEq)]
    enum Error {
        Interrupted,
        Source,
        Work(u64),
        Sink(u64),
    }

    impl From<NoThreads> for Error {
        fn from(_: NoThreads) -> Self {
            unreachable!("a test asks for few")
        }
    }

    impl From<Interrupted> for Error {
        fn from(_: Interrupted) -> Self {
            Error::Interrupted
        }
    }

    fn count(to: u64) -> impl FnMut() -> Result<Option<u64>, Error> {
        let mut items = 0..to;
        move || Ok(items.next())
    }

    /// Some items take longer, so that results come out of order.
    fn uneven(item: u64) {
        if item.is_multiple_of(7) {
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    #[test]
    fn order_is_kept_with_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let mut out = vec![];
            let sink = |item| {
                out.push(item);
                Ok::<_, Error>(())
            };
            let work = |(): &mut (), item| {
                uneven(item);
                Ok(item * 2)
            };
            ordered_map(threads, &Stop::default(), count(500), || Ok(()), work, sink, || false).unwrap();
            assert_eq!(out, (0..500).map(|i| i * 2).collect::<Vec<_>>(), "{threads} threads");
        }
    }

    #[test]
    fn the_first_error_in_order_ends_the_run_and_nothing_comes_after_it() {
        for threads in [1, 2, 8] {
            for fail in ["source", "work", "sink"] {
                let mut out = vec![];
                let mut items = count(1000);
                let source = || match items()? {
                    Some(40) if fail == "source" => Err(Error::Source),
                    item => Ok(item),
                };
                let work = |(): &mut (), item| {
                    uneven(item);
                    if fail == "work" && item >= 40 { Err(Error::Work(item)) } else { Ok(item) }
                };
                let sink = |item| {
                    if fail == "sink" && item >= 40 {
                        return Err(Error::Sink(item));
                    }
                    out.push(item);
                    Ok(())
                };
                let error = ordered_map(threads, &Stop::default(), source, || Ok(()), work, sink, || false)
                    .unwrap_err();
                let expected = match fail {
                    "source" => Error::Source,
                    "work" => Error::Work(40),
                    _ => Error::Sink(40),
                };
                assert_eq!((error, out), (expected, (0..40).collect()), "{threads} threads");
            }
        }
    }

    #[test]
    fn few_items_are_in_work_at_once() {
        for threads in [1, 2, 4] {
            let in_work = AtomicUsize::new(0);
            let most = AtomicUsize::new(0);
            let mut items = count(400);
            let source = || {
                let item = items();
                let now = in_work.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                item
            };
            let sink = |item: u64| {
                if item == 0 {
                    std::thread::sleep(Duration::from_millis(50)); // everything piles up behind it
                }
                in_work.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            };
            ordered_map(
                threads,
                &Stop::default(),
                source,
                || Ok::<_, Error>(()),
                |(), item| Ok(item),
                sink,
                || false,
            )
            .unwrap();
            let bound = threads + ahead(threads) + 2;
            assert!(most.load(Ordering::SeqCst) <= bound, "{most:?} > {bound} with {threads} threads");
        }
    }

    #[test]
    fn large_items_are_few_with_any_number_of_threads() {
        for threads in [1, 2, 8] {
            let in_work = AtomicUsize::new(0);
            let most = AtomicUsize::new(0);
            let mut left = 40;
            let source = || {
                if left == 0 {
                    return Ok::<_, Error>(None);
                }
                left -= 1;
                let now = in_work.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                Ok(Some(Large))
            };
            let work = |(): &mut (), item| {
                std::thread::sleep(Duration::from_millis(1));
                Ok(item)
            };
            let sink = |_| {
                in_work.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            };
            ordered_map(threads, &Stop::default(), source, || Ok(()), work, sink, || false).unwrap();
            // Two in work, and the next one read.
            assert!(most.load(Ordering::SeqCst) <= 3, "{most:?} with {threads} threads");
        }
    }

    #[test]
    fn what_waits_aside_is_done_by_any_number_of_threads() {
        for threads in [1, 2, 8] {
            let waiting = AtomicUsize::new(0);
            let done = AtomicUsize::new(0);
            let sink = |_| {
                waiting.fetch_add(3, Ordering::SeqCst);
                Ok::<_, Error>(())
            };
            let aside = || {
                let one =
                    waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
                done.fetch_add(usize::from(one), Ordering::SeqCst);
                one
            };
            ordered_map(
                threads,
                &Stop::default(),
                count(200),
                || Ok(()),
                |(): &mut (), item| Ok(item),
                sink,
                aside,
            )
            .unwrap();
            assert_eq!(done.load(Ordering::SeqCst) + waiting.load(Ordering::SeqCst), 600);
            // Each thread looks once more when there are no items left, the one with the last item too.
            assert_eq!(waiting.load(Ordering::SeqCst), 0, "{threads} threads");
        }
    }

    #[test]
    fn a_wish_to_stop_ends_the_run() {
        for threads in [1, 2] {
            let stop = Stop::default();
            let source = || Ok(Some(1)); // without end
            let mut seen = 0;
            let sink = |_| {
                seen += 1;
                if seen == 10 {
                    stop.request();
                }
                Ok(())
            };
            let end = ordered_map(
                threads,
                &stop,
                source,
                || Ok(()),
                |(): &mut (), item: i32| Ok(item),
                sink,
                || false,
            );
            assert_eq!(end, Err(Error::Interrupted));
        }
    }

    #[test]
    fn a_panic_ends_the_run_and_goes_on() {
        for threads in [1, 2, 4] {
            let run = std::panic::catch_unwind(|| {
                let work = |(): &mut (), item: u64| if item == 5 { panic!("at five") } else { Ok(item) };
                ordered_map(
                    threads,
                    &Stop::default(),
                    count(1000),
                    || Ok::<_, Error>(()),
                    work,
                    |_| Ok(()),
                    || false,
                )
            });
            assert!(run.is_err(), "{threads} threads");
        }
    }
}
