//! Threads that append for a while, and what is measured of it. One loop for the engine and for what it is compared with, so that both carry the
//! same load of measuring.
//!
//! - Closed loop: a thread hands in its next request when one of its own was answered.
//! - The latency of a request runs from just before it is handed in until its answer was taken. Making it is not counted.
//! - Requests handed in during the warm-up count for nothing. Those still out at the end count for latency, so that a stall at the end is not lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::usage::Usage;
use super::workload::{Shape, Source};
use crate::output::Failure;

/// Latencies are kept to three digits, up to ten minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
const WARM_UP_MAX: Duration = Duration::from_millis(500);
/// Completions closer together than this are one, to the search for the longest gap.
const GAP_RESOLUTION_NS: u64 = 10_000;

/// What takes requests and answers them.
pub(super) trait Target: Sync {
    /// What is handed in.
    type Request;
    /// What is held until the answer.
    type Ticket;

    /// Makes a request. Not timed.
    fn build(&self, source: &mut Source) -> Self::Request;
    /// Hands it in.
    fn submit(&self, request: Self::Request) -> Result<Self::Ticket, Failure>;
    /// Whether waiting would return at once.
    fn is_done(&self, ticket: &Self::Ticket) -> bool;
    /// Waits for the answer.
    fn wait(&self, ticket: Self::Ticket) -> Result<(), Failure>;
}

/// Throughput over one stretch of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// End of the stretch, in seconds from the end of the warm-up.
    pub(super) at_seconds: f64,
    pub(super) per_second: f64,
}

/// What was measured.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Events whose receipts were taken while it was measured.
    pub(super) events: u64,
    pub(super) seconds: f64,
    /// All events, those of the warm-up and those answered behind the end as well.
    pub(super) events_in_all: u64,
    /// Of requests, in ns.
    pub(super) latency: Histogram<u64>,
    /// Longest time in which no request was answered at all, in ns.
    pub(super) longest_gap_ns: u64,
    pub(super) timeline: Vec<Sample>,
    pub(super) usage: Usage,
}

impl Run {
    pub(super) fn events_per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// An empty histogram of latencies.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("three digits are allowed")
}

/// How long between two samples: some hundred points in a run, but none shorter than what the scheduler blurs.
pub(super) fn sample_interval(seconds: f64) -> Duration {
    Duration::from_secs_f64((seconds / 100.0).clamp(0.05, 0.1))
}

/// What all threads look at.
struct Course<'a> {
    start: Instant,
    measured_from_ns: u64,
    end_ns: u64,
    /// When anything was last answered.
    last_answer_ns: AtomicU64,
    longest_gap_ns: AtomicU64,
    failed: AtomicBool,
    interrupted: &'a AtomicBool,
}

impl Course<'_> {
    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn is_over(&self, now_ns: u64) -> bool {
        // Relaxed: the flags only end the run sooner.
        now_ns >= self.end_ns || self.failed.load(Ordering::Relaxed) || self.interrupted.load(Ordering::Relaxed)
    }

    /// Notes that something was answered; looks how long nothing was.
    fn answered(&self, now_ns: u64) {
        // Relaxed: the maximum is exact whatever the order, and it is read after the threads ended.
        let last = self.last_answer_ns.fetch_max(now_ns, Ordering::Relaxed).max(self.measured_from_ns);
        if now_ns > last {
            self.longest_gap_ns.fetch_max(now_ns - last, Ordering::Relaxed);
        }
    }
}

/// One thread's counts; alone in its cache lines, the sampler only reads.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

/// What one thread measures.
struct Meter<'a> {
    course: &'a Course<'a>,
    count: &'a Count,
    batch: u64,
    events: u64,
    latency: Histogram<u64>,
    noted_ns: u64,
}

impl Meter<'_> {
    fn answered(&mut self, submitted_ns: u64, now_ns: u64) {
        self.events += self.batch;
        // Relaxed: a number to look at.
        self.count.0.store(self.events, Ordering::Relaxed);
        if submitted_ns >= self.course.measured_from_ns {
            self.latency.saturating_record(now_ns - submitted_ns);
        }
        if now_ns >= self.noted_ns + GAP_RESOLUTION_NS {
            self.noted_ns = now_ns;
            self.course.answered(now_ns);
        }
    }
}

/// Appends with the threads of a shape for so many seconds, and a short warm-up before.
pub(super) fn drive<T: Target>(target: &T, shape: &Shape, seconds: f64, interrupted: &AtomicBool) -> Result<Run, Failure> {
    let mut sources: Vec<Source> = (0..shape.threads).map(|thread| Source::new(shape, thread as u64 + 1)).collect();
    let counts: Vec<Count> = sources.iter().map(|_| Count::default()).collect();
    let measured = Duration::from_secs_f64(seconds);
    let warm_up = (measured / 10).min(WARM_UP_MAX);
    let course = Course {
        start: Instant::now(),
        measured_from_ns: warm_up.as_nanos() as u64,
        end_ns: (warm_up + measured).as_nanos() as u64,
        last_answer_ns: AtomicU64::new(0),
        longest_gap_ns: AtomicU64::new(0),
        failed: AtomicBool::new(false),
        interrupted,
    };
    let (watched, appended) = thread::scope(|scope| {
        let threads: Vec<_> = sources
            .iter_mut()
            .zip(&counts)
            .map(|(source, count)| {
                let course = &course;
                scope.spawn(move || {
                    let answer = append(target, source, course, count, shape);
                    if answer.is_err() {
                        course.failed.store(true, Ordering::Relaxed);
                    }
                    answer
                })
            })
            .collect();
        let watched = watch(&course, &counts, sample_interval(seconds));
        // Of several failures the first thread's is told.
        let appended: Result<Vec<_>, Failure> =
            threads.into_iter().map(|thread| thread.join().expect("a thread of the benchmark panicked")).collect();
        (watched, appended)
    });
    let mut latency = latencies();
    let mut events_in_all = 0;
    for (own, events) in appended? {
        latency.add(own).expect("the bounds are the same");
        events_in_all += events;
    }
    if interrupted.load(Ordering::Relaxed) {
        return Err(Failure::Cannot("interrupted".into()));
    }
    let Watched { events, seconds, timeline, usage } = watched;
    Ok(Run { events, seconds, events_in_all, latency, longest_gap_ns: course.longest_gap_ns.into_inner(), timeline, usage })
}

/// One thread, from start to end: its latencies, and how many events it appended in all.
fn append<T: Target>(
    target: &T,
    source: &mut Source,
    course: &Course<'_>,
    count: &Count,
    shape: &Shape,
) -> Result<(Histogram<u64>, u64), Failure> {
    let mut meter = Meter { course, count, batch: shape.batch as u64, events: 0, latency: latencies(), noted_ns: 0 };
    let mut outstanding: VecDeque<(T::Ticket, u64)> = VecDeque::with_capacity(shape.in_flight);
    let mut is_over = false;
    loop {
        while !is_over && outstanding.len() < shape.in_flight {
            let request = target.build(source);
            let submitted_ns = course.now_ns();
            is_over = course.is_over(submitted_ns);
            if !is_over {
                outstanding.push_back((target.submit(request)?, submitted_ns));
            }
        }
        let Some((ticket, submitted_ns)) = outstanding.pop_front() else { break };
        target.wait(ticket)?;
        // One look at the clock for all that were answered together.
        let now_ns = course.now_ns();
        meter.answered(submitted_ns, now_ns);
        while outstanding.front().is_some_and(|(ticket, _)| target.is_done(ticket)) {
            let Some((ticket, submitted_ns)) = outstanding.pop_front() else { break };
            target.wait(ticket)?;
            meter.answered(submitted_ns, now_ns);
        }
    }
    course.answered(course.now_ns());
    Ok((meter.latency, meter.events))
}

/// What was seen from outside while the threads worked.
struct Watched {
    events: u64,
    seconds: f64,
    timeline: Vec<Sample>,
    usage: Usage,
}

/// Looks at the counts until the run is over. Both ends of what is measured are read here, so that rates hold however late this thread wakes.
fn watch(course: &Course<'_>, counts: &[Count], interval: Duration) -> Watched {
    let total = || counts.iter().map(|count| count.0.load(Ordering::Relaxed)).sum::<u64>();
    sleep_until(course, course.measured_from_ns);
    let (usage, from_ns, from_events) = (Usage::now(), course.now_ns(), total());
    let (mut last_ns, mut last_events) = (from_ns, from_events);
    let mut timeline = Vec::new();
    let mut due_ns = from_ns;
    loop {
        due_ns = (due_ns + interval.as_nanos() as u64).min(course.end_ns);
        sleep_until(course, due_ns);
        let (now_ns, events) = (course.now_ns(), total());
        if now_ns > last_ns {
            let per_second = (events - last_events) as f64 / (now_ns - last_ns) as f64 * 1e9;
            timeline.push(Sample { at_seconds: (now_ns - from_ns) as f64 / 1e9, per_second });
        }
        (last_ns, last_events) = (now_ns, events);
        if course.is_over(now_ns) {
            break;
        }
    }
    Watched {
        events: last_events - from_events,
        seconds: (last_ns - from_ns).max(1) as f64 / 1e9,
        timeline,
        usage: Usage::now().since(usage),
    }
}

fn sleep_until(course: &Course<'_>, due_ns: u64) {
    let now_ns = course.now_ns();
    if due_ns > now_ns && !course.is_over(now_ns) {
        thread::sleep(Duration::from_nanos(due_ns - now_ns));
    }
}
