//! Following the log: everything from a position on that is there, and then everything that comes.
//!
//! A subscription is a place in the order of the log, nothing more: the writer knows of no subscribers, keeps nothing for slow ones, and moves one counter
//! with every commit, which those who wait sleep on. What is shown is durable, every event once, in order, without a gap.

use std::ops::Range;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use chainring_format::Position;

use super::View;
use super::event::EventRef;
use super::scan::Events;
use crate::error::ReadError;
use crate::log::Store;

/// A reader that follows the log.
///
/// ```
/// # use chainring::{Event, Log, Position};
/// # let directory = tempfile::tempdir()?;
/// # let log = Log::open(directory.path())?;
/// let mut subscription = log.subscribe(Position(0)).stream_prefix("order-");
/// let reader = std::thread::spawn(move || {
///     let mut seen = 0;
///     while let Some(events) = subscription.next_batch() {
///         for event in events {
///             seen += event?.body().map_or(0, <[u8]>::len);
///         }
///     }
///     Ok::<usize, chainring::ReadError>(seen)
/// });
/// log.append(Event::new("order-1", "OrderPlaced").body("placed"))?;
/// log.append(Event::new("payment-1", "Paid").body("paid"))?;
/// log.close()?;
/// assert_eq!(reader.join().unwrap()?, "placed".len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Subscription {
    view: View,
    /// The next position to look at.
    position: u64,
    chosen: Chosen,
    /// It follows a writer in another process, who has to be asked: how often at most.
    asks_every: Option<Duration>,
    /// When it asked last.
    asked_at: Option<Instant>,
}

/// How long a subscription that has to ask waits before it asks again, if it is not told. Being woken and asking costs some twenty microseconds, which a
/// writer in the same machine lacks: with four who ask once a millisecond, 4 % of what it does.
const PAUSE: Duration = Duration::from_millis(4);
const PAUSE_MIN: Duration = Duration::from_micros(100);
/// How long it waits while nothing comes.
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// What a subscription shows.
#[derive(Debug, Clone, Default)]
struct Chosen {
    stream_prefix: Option<String>,
    event_types: Option<Vec<String>>,
    buckets: Option<Range<u16>>,
}

impl Chosen {
    /// The cheapest questions first: a name may have to be looked up in the stream's first event.
    fn has(&self, event: &EventRef<'_>) -> Result<bool, ReadError> {
        if self.buckets.as_ref().is_some_and(|buckets| !buckets.contains(&event.stream_id().bucket())) {
            return Ok(false);
        }
        if self.event_types.as_ref().is_some_and(|types| types.iter().all(|chosen| chosen != event.event_type())) {
            return Ok(false);
        }
        match &self.stream_prefix {
            Some(prefix) => Ok(event.stream()?.starts_with(prefix)),
            None => Ok(true),
        }
    }
}

impl Store {
    /// Follows the log from a position on: 0 for everything, [`Subscription::position`] of an earlier one to go on where it stopped.
    ///
    /// Of a log, a subscription ends when the log is closed or poisoned and everything durable was shown; of a store that was opened for reading, where
    /// that store ends.
    #[must_use]
    pub fn subscribe(&self, from: Position) -> Subscription {
        Subscription { view: self.latest(), position: from.0, chosen: Chosen::default(), asks_every: None, asked_at: None }
    }

    /// As [`Store::subscribe`], for a store that was opened for reading: follows whoever writes it, in other processes, one after the other. It does not end
    /// by itself; [`Subscription::next_batch_timeout`] gives time to think about that. A task that follows cannot be woken by another process: it asks
    /// [`Store::refresh`] and takes [`Subscription::ready`] when its own timer says so.
    ///
    /// It looks every four milliseconds at most ([`Subscription::look_every`]). Where this process may look at the memory of the writer's, what comes is read
    /// there, and costs a sixth of a microsecond an event; else it is read from the file, for twice that. Heads and ids are taken in when something is asked
    /// about a stream or an id, for as much again.
    #[must_use]
    pub fn follow(&self, from: Position) -> Subscription {
        let asks_every = (!self.shared.is_written_here()).then_some(PAUSE);
        Subscription { asks_every, ..self.subscribe(from) }
    }
}

impl Subscription {
    /// Shows only streams whose names begin like this.
    #[must_use]
    pub fn stream_prefix(mut self, prefix: impl Into<String>) -> Subscription {
        self.chosen.stream_prefix = Some(prefix.into());
        self
    }

    /// Shows only events of these types.
    #[must_use]
    pub fn event_types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Subscription {
        self.chosen.event_types = Some(types.into_iter().map(Into::into).collect());
        self
    }

    /// Shows only streams in these buckets, of 0..4096: several subscriptions can share a log out among them, and each stream stays with one of them.
    #[must_use]
    pub fn buckets(mut self, buckets: Range<u16>) -> Subscription {
        self.chosen.buckets = Some(buckets);
        self
    }

    /// Of one that follows a writer in another process: how often it looks for news at most. More often means sooner, and more that the writer lacks if they
    /// share a machine. While nothing comes it looks less often, every ten milliseconds in the end. Less than a tenth of a millisecond counts as that.
    #[must_use]
    pub fn look_every(mut self, pause: Duration) -> Subscription {
        self.asks_every = self.asks_every.map(|_| pause.max(PAUSE_MIN));
        self
    }

    /// Where it goes on: the position after the last event that was taken or passed over.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.position)
    }

    /// Whether everything was shown and nothing will come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        if self.asks_every.is_some() {
            return false;
        }
        // First whether something can come, then what is there: the other way round, the last of it could be missed.
        let has_ended = self.view.shared.has_ended();
        has_ended && self.position >= self.view.shared.watermark()
    }

    /// What is there now and was not taken yet; maybe nothing.
    pub fn ready(&mut self) -> Batch<'_> {
        // The watermark first, as for every view.
        let limit = self.view.shared.watermark();
        if limit > self.view.limit {
            self.view.limit = limit;
            self.view.catalog = self.view.shared.catalog();
        }
        let Subscription { view, position, chosen, .. } = self;
        Batch { events: Events::new(view, *position, view.limit), position, chosen, has_failed: false }
    }

    /// What is there, once there is something; what was filtered out counts as something. `None` when the log has ended, or another process's log can no
    /// longer be followed: [`Store::refresh`] says why.
    pub fn next_batch(&mut self) -> Option<Batch<'_>> {
        let has_news = self.wait(|| None).expect("it waits for ever");
        has_news.then(|| self.ready())
    }

    /// As [`Subscription::next_batch`], but waits no longer than `at_most`; then the batch is empty.
    pub fn next_batch_timeout(&mut self, at_most: Duration) -> Option<Batch<'_>> {
        let until = Instant::now().checked_add(at_most);
        let has_news = self.wait(|| until.map(|until| until.saturating_duration_since(Instant::now())));
        has_news.unwrap_or(true).then(|| self.ready())
    }

    /// As [`Subscription::next_batch`], for tasks of any runtime.
    pub async fn next_batch_async(&mut self) -> Option<Batch<'_>> {
        let has_news = std::future::poll_fn(|context| self.poll_news(context)).await;
        has_news.then(|| self.ready())
    }

    /// Whether there is something to take; `Ready(false)` when the log has ended, `Pending` if neither is known yet: then the task is woken.
    pub fn poll_news(&self, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            let moved = &self.view.shared.moved;
            let seen = moved.now();
            if let Some(has_news) = self.news() {
                return Poll::Ready(has_news);
            }
            if moved.wake_later(seen, context.waker()) {
                return Poll::Pending;
            }
        }
    }

    /// Waits for news: `Some(true)` if there are some, `Some(false)` if none will come, `None` if no time is left.
    fn wait(&mut self, left: impl FnMut() -> Option<Duration>) -> Option<bool> {
        if let Some(pause) = self.asks_every {
            return self.ask(pause, left);
        }
        self.view.shared.moved.wait(|| self.news(), || false, left)
    }

    /// As [`Subscription::wait`], where nobody says when something comes.
    fn ask(&mut self, mut pause: Duration, mut left: impl FnMut() -> Option<Duration>) -> Option<bool> {
        let pause_max = pause.max(PAUSE_MAX);
        loop {
            if self.position < self.view.shared.watermark() {
                return Some(true);
            }
            let rest = self.asked_at.map_or(Duration::ZERO, |at| pause.saturating_sub(at.elapsed()));
            if rest.is_zero() {
                self.asked_at = Some(Instant::now());
                match self.view.shared.refresh() {
                    Ok(true) => {}
                    Ok(false) => pause = (pause * 2).min(pause_max),
                    Err(_) => return Some(false),
                }
                continue;
            }
            let left = left().unwrap_or(PAUSE_MAX);
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(rest.min(left));
        }
    }

    fn news(&self) -> Option<bool> {
        let has_ended = self.view.shared.has_ended();
        if self.position < self.view.shared.watermark() { Some(true) } else { has_ended.then_some(false) }
    }
}

/// Events that a subscription has to show now. What is not taken stays for the next batch.
#[derive(Debug)]
pub struct Batch<'s> {
    events: Events<'s>,
    position: &'s mut u64,
    chosen: &'s Chosen,
    has_failed: bool,
}

impl<'s> Iterator for Batch<'s> {
    type Item = Result<EventRef<'s>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.has_failed {
            let Some(next) = self.events.next() else {
                // The engine's own records behind the last event are passed over as well.
                *self.position = (*self.position).max(self.events.limit());
                return None;
            };
            let chosen = next.and_then(|event| Ok((event, self.chosen.has(&event)?)));
            match chosen {
                Ok((event, is_chosen)) => {
                    *self.position = event.position().0 + 1;
                    if is_chosen {
                        return Some(Ok(event));
                    }
                }
                // What cannot be read is not passed over: whoever goes on meets it again.
                Err(error) => {
                    self.has_failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
