//! Reads handwritten digits with a small network, on every path of this machine and in both
//! layouts, and compares every bit of every layer:
//!
//! ```text
//! cargo run --release --example digits
//! ```
//!
//! The images were held out when `train.py`, beside this file, trained the network. Only this
//! file and `outcome.rs` need `std`; `network.rs` does not.

mod network;
mod outcome;

use network::{CHECKSUM, Image, LAYERS, Memory, NCHW, NHWC, Network, PACKED_LEN, SIZE, digit};
use outcome::Outcome;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tapwise::{Error, Isa};

static IMAGES: &[u8] = include_bytes!("test_images.bin");
static LABELS: &[u8] = include_bytes!("test_labels.bin");

/// In per cent.
const LEAST_ACCURACY: f64 = 97.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("FAILED: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (images, _) = IMAGES.as_chunks();
    let mut packed = [0.0; PACKED_LEN];
    network::pack(&mut packed).map_err(in_words)?;

    // The path that every machine has, in software, says what the others have to compute.
    let expected =
        Network::new(NCHW, &packed).and_then(|network| network.with_isa(Isa::ScalarSoft));
    let expected = Outcome::of(&expected.map_err(in_words)?, images).map_err(in_words)?;
    let answers: Vec<u8> = expected.logits.iter().map(digit).collect();
    draw(images, &answers);
    let right = answers.iter().zip(LABELS).filter(|(answer, label)| answer == label).count();
    let accuracy = 100.0 * right as f64 / images.len() as f64;
    println!("{right} of {} held-out images read correctly: {accuracy:.2} %\n", images.len());

    println!("time per image      NCHW        NHWC");
    let mut paths = 0;
    for isa in Isa::ALL {
        print!("{:<12}", isa.name());
        if !isa.is_available() {
            println!("SKIPPED: this machine or this build lacks it");
            continue;
        }
        for (layout, plans) in [("NCHW", NCHW), ("NHWC", NHWC)] {
            let network = Network::new(plans, &packed).and_then(|network| network.with_isa(isa));
            let network = network.map_err(in_words)?;
            let outcome = Outcome::of(&network, images).map_err(in_words)?;
            if let Some(place) = expected.difference(&outcome) {
                return Err(format!("{} in {layout} computes other bits: {place}", isa.name()));
            }
            print!("{:>9.2} us", microseconds_per_image(&network, images).map_err(in_words)?);
        }
        println!();
        paths += 1;
    }

    println!(
        "\n{paths} of {} paths, in both layouts, agree on every bit of every layer:",
        Isa::ALL.len()
    );
    println!("{} layers, {} images, {} activations.", LAYERS.len(), images.len(), expected.count());
    println!("checksum of the logits on every machine: {:016x}", expected.checksum());
    if expected.checksum() != CHECKSUM {
        return Err(format!("the checksum has to be {CHECKSUM:016x}"));
    }
    if accuracy < LEAST_ACCURACY {
        return Err(format!("fewer than {LEAST_ACCURACY} % of the images were read correctly"));
    }
    Ok(())
}

fn in_words(error: Error) -> String {
    error.to_string()
}

/// Different digits that were read correctly, and the first that was not, if there is one.
fn draw(images: &[Image], answers: &[u8]) {
    const SHADES: [&str; 5] = ["  ", "░░", "▒▒", "▓▓", "██"];
    let (right, wrong): (Vec<usize>, Vec<usize>) =
        (0..images.len()).partition(|at| answers[*at] == LABELS[*at]);
    let mut shown: Vec<usize> = wrong.into_iter().take(1).collect();
    for at in right {
        if shown.len() < 4 && shown.iter().all(|other| LABELS[*other] != LABELS[at]) {
            shown.push(at);
        }
    }
    shown.rotate_left(1);
    for row in 0..SIZE {
        for at in &shown {
            for pixel in &images[*at][row * SIZE..][..SIZE] {
                print!("{}", SHADES[(usize::from(*pixel) + 2) / 4]);
            }
            print!("   ");
        }
        println!();
    }
    for at in &shown {
        let (answer, label) = (answers[*at], LABELS[*at]);
        let mark = if answer == label { "" } else { "  WRONG" };
        print!("{:<19}", format!("read {answer}, is {label}{mark}"));
    }
    println!("\n");
}

/// The best pass over all images.
fn microseconds_per_image(network: &Network, images: &[Image]) -> Result<f64, Error> {
    let mut memory = Memory::new();
    let mut best = Duration::MAX;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        for image in images {
            std::hint::black_box(network.run(image, &mut memory, |_, _| ())?);
        }
        best = best.min(start.elapsed());
    }
    Ok(best.as_secs_f64() * 1e6 / images.len() as f64)
}
