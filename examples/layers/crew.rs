//! Calls on threads that persist from call to call and wait by spinning, as those of an inference
//! engine do.

use crate::suite::{Aligned, Prepared};
use std::sync::atomic::{AtomicUsize, Ordering};
use tapwise::{Epilogue, Error};

/// No run writes these bits: the only NaN of an output is the canonical one.
const UNTOUCHED: f32 = f32::from_bits(0x7fc0_0001);

/// Beyond this many looks at the counter a waiting thread lets others have the processor.
const PATIENCE: usize = 1 << 14;

/// Hands `body` a function that computes the layer once on `threads` threads, this one included;
/// returns what `body` does, and the output in the layout of the plan.
pub fn with_threads<R>(
    prepared: &Prepared,
    threads: usize,
    body: impl FnOnce(&mut dyn FnMut() -> Result<(), Error>) -> Result<R, String>,
) -> Result<(R, Vec<f32>), String> {
    let weights = prepared.call_weights().map_err(|error| error.to_string())?;
    let (plan, x) = (&prepared.plan, &prepared.input);
    if threads == 1 {
        let (mut scratch, mut y) = (prepared.scratch(), prepared.output());
        let result =
            body(&mut || plan.run(x, weights, Epilogue::new(), &mut scratch, &mut y).map(|_| ()))?;
        return Ok((result, y.to_vec()));
    }
    let rounds = Rounds { started: AtomicUsize::new(0), finished: AtomicUsize::new(0) };
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for member in 1..threads {
            let rounds = &rounds;
            workers.push(scope.spawn(move || -> Result<Aligned, Error> {
                let mut share = Share::new(prepared, member, threads);
                let mut outcome = Ok(());
                let mut round = 0;
                while rounds.wait_for(round + 1) {
                    round += 1;
                    outcome = outcome.and(share.run());
                    rounds.finished.fetch_add(1, Ordering::Release);
                }
                outcome.map(|()| share.y)
            }));
        }
        let mut own = Share::new(prepared, 0, threads);
        let result = {
            let rounds = EndAtLast(&rounds);
            body(&mut || rounds.0.lead(threads - 1, || own.run()))
        };
        let mut outputs = vec![own.y];
        for worker in workers {
            let output = worker.join().map_err(|_| "a thread panicked")?;
            outputs.push(output.map_err(|error| error.to_string())?);
        }
        Ok((result?, merged(outputs)?))
    })
}

/// The tile of one thread, always the same one, in an output of its own.
///
/// Safe code cannot lend a part of one output to a thread that outlives the call, so each thread
/// has a job of its own over a whole output and runs only its tile of it. What is timed is the
/// same: a thread touches only the memory of its tile, whichever output that lies in.
struct Share<'a> {
    prepared: &'a Prepared,
    member: usize,
    threads: usize,
    scratch: Vec<f32>,
    y: Aligned,
}

impl<'a> Share<'a> {
    fn new(prepared: &'a Prepared, member: usize, threads: usize) -> Share<'a> {
        let mut y = prepared.output();
        y.fill(UNTOUCHED);
        Share { prepared, member, threads, scratch: prepared.scratch(), y }
    }

    fn run(&mut self) -> Result<(), Error> {
        let Prepared { plan, input, .. } = self.prepared;
        let weights = self.prepared.call_weights()?;
        let mut job = plan.job(input, weights, Epilogue::new(), &mut self.y)?;
        match job.tiles(self.threads).nth(self.member) {
            Some(tile) => Ok(tile.run(&mut self.scratch)?),
            None => Ok(()),
        }
    }
}

/// The output of which each thread has computed a part; an element that none or several have
/// computed is an error.
fn merged(mut outputs: Vec<Aligned>) -> Result<Vec<f32>, String> {
    let untouched = |value: f32| value.to_bits() == UNTOUCHED.to_bits();
    let mut whole = outputs.pop().map_or(Vec::new(), |output| output.to_vec());
    for part in outputs {
        for (at, (to, from)) in whole.iter_mut().zip(part.iter().copied()).enumerate() {
            match (untouched(*to), untouched(from)) {
                (true, _) => *to = from,
                (false, true) => {}
                (false, false) => return Err(format!("two tiles contain the element {at}")),
            }
        }
    }
    match whole.iter().position(|value| untouched(*value)) {
        Some(at) => Err(format!("no tile contains the element {at}")),
        None => Ok(whole),
    }
}

/// Counts calls: how many were started, and how often a worker has finished its share of one.
struct Rounds {
    started: AtomicUsize,
    finished: AtomicUsize,
}

impl Rounds {
    const END: usize = usize::MAX;

    /// One call, with the leader's share in the middle.
    fn lead(&self, workers: usize, share: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let round = self.started.fetch_add(1, Ordering::Release) + 1;
        let outcome = share();
        spin_until(|| self.finished.load(Ordering::Acquire) == round * workers);
        outcome
    }

    /// Waits for a call to start; `false` if there will be none.
    fn wait_for(&self, round: usize) -> bool {
        spin_until(|| self.started.load(Ordering::Acquire) >= round);
        self.started.load(Ordering::Relaxed) != Self::END
    }
}

/// Sends the workers home, also if the leader panics.
struct EndAtLast<'a>(&'a Rounds);

impl Drop for EndAtLast<'_> {
    fn drop(&mut self) {
        self.0.started.store(Rounds::END, Ordering::Release);
    }
}

fn spin_until(mut done: impl FnMut() -> bool) {
    let mut looks = 0;
    while !done() {
        if looks < PATIENCE {
            looks += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}
