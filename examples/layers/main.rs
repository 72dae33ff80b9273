//! Times the layers of a list on one path, in one layout or in the better of the two:
//!
//! ```text
//! cargo run --release --example layers -- benches/suite.json
//! ... -- SUITE.json [--only NAME] [--layout nchw|nhwc|best] [--isa NAME] [--threads N] [--json OUT]
//! ```
//!
//! Before a time is printed, outputs are checked against plain sums in `f64`. The hash is over
//! the bits of the whole output: it is the same for every layout, path and number of threads.

mod crew;
mod measure;
#[path = "../../benches/support/peak.rs"]
mod peak;
#[path = "../../benches/support/suite.rs"]
mod suite;

use measure::{Measured, measure};
use std::process::ExitCode;
use suite::Layer;
use tapwise::{Isa, Layout};

const USAGE: &str = "usage: layers SUITE.json [--only EXACT_NAME] [--layout nchw|nhwc|best] \
                     [--isa NAME] [--threads N] [--json OUT]";

struct Arguments {
    suite: String,
    only: Option<String>,
    layouts: &'static [Layout],
    isa: Isa,
    threads: usize,
    json: Option<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut suite = None;
        let mut arguments = Arguments {
            suite: String::new(),
            only: None,
            layouts: &[Layout::Nchw, Layout::Nhwc],
            isa: Isa::detect(),
            threads: 1,
            json: None,
        };
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                if suite.replace(word).is_some() {
                    return Err(USAGE.to_owned());
                }
                continue;
            }
            let value = words.next().ok_or(USAGE)?;
            let refused = || format!("{word} {value}?\n{USAGE}");
            match word.as_str() {
                "--only" => arguments.only = Some(value),
                "--json" => arguments.json = Some(value),
                "--isa" => arguments.isa = Isa::from_name(&value).ok_or_else(refused)?,
                "--threads" => match value.parse() {
                    Ok(threads) if threads > 0 => arguments.threads = threads,
                    _ => return Err(refused()),
                },
                "--layout" => match value.as_str() {
                    "nchw" => arguments.layouts = &[Layout::Nchw],
                    "nhwc" => arguments.layouts = &[Layout::Nhwc],
                    "best" => arguments.layouts = &[Layout::Nchw, Layout::Nhwc],
                    _ => return Err(refused()),
                },
                _ => return Err(refused()),
            }
        }
        arguments.suite = suite.ok_or(USAGE)?;
        Ok(arguments)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let text = std::fs::read_to_string(&arguments.suite)
        .map_err(|error| format!("{}: {error}", arguments.suite))?;
    let mut layers = suite::layers(&text)?;
    if let Some(only) = &arguments.only {
        layers.retain(|layer| layer.name == *only);
        if layers.is_empty() {
            return Err(format!("no layer is called {only}"));
        }
    }
    println!(
        "{:<24} {:<6} {:<8} {:<8} {:>12} {:>12} {:>9} {:>9} {:>7} {:>7}",
        "layer",
        "layout",
        "path",
        "kernel",
        "median us",
        "min us",
        "GFLOP/s",
        "peak",
        "% peak",
        "% roof"
    );
    let mut rows = Vec::new();
    for layer in &layers {
        let measured =
            better_layout(layer, &arguments).map_err(|e| format!("{}: {e}", layer.name))?;
        print_row(layer, &measured);
        rows.push(json_row(layer, &measured));
    }
    println!(
        "threads: {}. GFLOP/s: by nominal multiply-adds. % peak: of as many cores",
        arguments.threads
    );
    println!(
        "just before the layer. % roof: by the multiply-adds whose tap lies inside the input; the"
    );
    println!("roof is that of the multiply-adds alone, as if all values were in registers.");
    if let Some(path) = &arguments.json {
        let json = format!("[\n {}\n]\n", rows.join(",\n "));
        std::fs::write(path, json).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

/// The faster of the layouts, which have to agree on the bits.
fn better_layout(layer: &Layer, arguments: &Arguments) -> Result<Measured, String> {
    let mut best: Option<Measured> = None;
    for layout in arguments.layouts {
        let measured = measure(layer, *layout, arguments.isa, arguments.threads)?;
        match &best {
            Some(before) if before.hash != measured.hash => {
                return Err("the layouts differ in some bits".to_owned());
            }
            Some(before) if before.median_ns <= measured.median_ns => {}
            _ => best = Some(measured),
        }
    }
    best.ok_or_else(|| "no layout".to_owned())
}

fn layout_name(layout: Layout) -> &'static str {
    match layout {
        Layout::Nchw => "nchw",
        Layout::Nhwc => "nhwc",
    }
}

fn print_row(layer: &Layer, measured: &Measured) {
    print!(
        "{:<24} {:<6} {:<8} {:<8} {:>12.2} {:>12.2} {:>9.1} ",
        layer.name,
        layout_name(measured.plan.layout()),
        measured.plan.isa().name(),
        measured.plan.kernel_name(),
        measured.median_ns / 1e3,
        measured.min_ns / 1e3,
        measured.gflops(),
    );
    match measured.peak_gflops {
        Some(peak) => {
            let share = 100.0 * measured.gflops() / (peak * measured.threads as f64);
            println!("{peak:>9.1} {share:>7.1} {:>7.1}", share * layer.valid_share());
        }
        None => println!("{:>9} {:>7} {:>7}", "?", "?", "?"),
    }
}

fn json_row(layer: &Layer, measured: &Measured) -> String {
    let peak = match measured.peak_gflops {
        Some(peak) => format!("\"peak_gflops\": {peak:.2}, "),
        None => String::new(),
    };
    format!(
        "{{\"name\": \"{}\", \"layout\": \"{}\", \"isa\": \"{}\", \"threads\": {}, \
         \"median_ns\": {:.1}, \"min_ns\": {:.1}, \"kernel\": \"{}\", {peak}\"hash\": \"{:016x}\"}}",
        layer.name,
        layout_name(measured.plan.layout()),
        measured.plan.isa().name(),
        measured.threads,
        measured.median_ns,
        measured.min_ns,
        measured.plan.kernel_name(),
        measured.hash,
    )
}
