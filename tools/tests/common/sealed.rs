//! A log that was sealed, for the tests of proofs.

use std::sync::Arc;

use chainring::{Event, KeyFile, Log, Options, Request, Sealer};
use chainring_reader::Checkpoint;

use super::Place;

pub(crate) const ORIGIN: &str = "log.example/orders";

/// A log with several segments, a batch, a change of keys, and its prover's checkpoint; `sealer` is what sealed it last.
pub(crate) struct Sealed {
    pub(crate) place: Place,
    pub(crate) log: Log,
    pub(crate) sealer: Sealer,
    pub(crate) first_key: String,
    pub(crate) last_key: String,
    /// A checkpoint from before the change of keys.
    pub(crate) earlier: Checkpoint,
}

impl Sealed {
    /// The files of the keys are `first` and `second`.
    pub(crate) fn new(name: &str) -> Sealed {
        let place = Place::new(name);
        let key = |name: &str| Arc::new(KeyFile::generate(place.join(name), ORIGIN).unwrap());
        let (first, second) = (key("first"), key("second"));
        let log = Options::new().segment_bytes(64 << 10).origin(ORIGIN).open(place.log()).unwrap();
        let sealer = log.sealer(first.clone()).unwrap();
        append(&log, 0, 300);
        let earlier = Checkpoint::parse(&sealer.seal().unwrap().note).unwrap();
        let batch = (0..3).map(|n| Event::new("order-5", "Changed").body(format!("{{\"b\":{n}}}")));
        log.append(Request::batch(batch.collect::<Vec<_>>())).unwrap();
        sealer.rotate(second.clone()).unwrap();
        append(&log, 300, 400);
        sealer.seal().unwrap();
        Sealed { place, log, sealer, first_key: first.verifier_key(), last_key: second.verifier_key(), earlier }
    }
}

/// Events over 23 streams.
pub(crate) fn append(log: &Log, from: usize, count: usize) {
    for index in from..from + count {
        let event = Event::new(format!("order-{}", index % 23), "Placed").body(format!("{{\"n\":{index}}}"));
        log.append(event).unwrap();
    }
}
