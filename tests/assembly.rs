//! What the compiler has made of the kernels: in the loops that do the work, sums stay in
//! registers, no intrinsic is a call, and there are as many multiply-adds as the tile is large.
//!
//! `.ci/assembly` makes the listing, names it in `TAPWISE_ASSEMBLY` and runs this test; without
//! it the test is skipped.

#![cfg(target_arch = "x86_64")]

#[path = "support/listing.rs"]
mod listing;
mod support;

use listing::{Function, Loop};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A body that is compiled for tiles of one size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kernel {
    /// Vectors of output channels, pixels.
    Dense(usize, usize),
    /// Depthwise, full vectors: pixels; columns of the window that share their input, or 0.
    Channels(usize, usize),
    /// Output channels, vectors of pixels.
    Pixels(usize, usize),
    /// Tiles of 1, 2, 4 and up to so many vectors of pixels.
    Planes(usize),
}

/// An instruction set, and the sizes of its tiles as its source states them.
struct Isa {
    name: &'static str,
    source: &'static str,
}

const ISAS: [Isa; 2] = [
    Isa { name: "avx2", source: include_str!("../src/simd/avx2.rs") },
    Isa { name: "avx512", source: include_str!("../src/simd/avx512.rs") },
];

impl Isa {
    /// The numbers of a constant.
    fn numbers(&self, constant: &str) -> Vec<usize> {
        let start = format!("const {constant}: ");
        let line = self.source.lines().find_map(|line| line.trim().strip_prefix(&start));
        let value = line.unwrap_or_else(|| panic!("{}: no {constant}", self.name));
        let value = value.split_once("= ").unwrap().1;
        value.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
    }

    fn number(&self, constant: &str) -> usize {
        self.numbers(constant)[0]
    }

    /// The bodies that tiles of this instruction set enter.
    fn kernels(&self) -> Vec<Kernel> {
        let mut kernels = Vec::new();
        let tile_pixels = self.numbers("TILE_PIXELS");
        assert_eq!(tile_pixels.len(), self.number("TILE_VECTORS"));
        for (vectors, most) in (1..).zip(tile_pixels) {
            kernels.extend((1..=most).map(|pixels| Kernel::Dense(vectors, pixels)));
        }
        kernels.extend((1..=8).map(|pixels| Kernel::Channels(pixels, 0)));
        for columns in [3, 5] {
            kernels.extend((4..=8).map(|pixels| Kernel::Channels(pixels, columns)));
        }
        for channels in [1, 2, 4, 6, 8] {
            let most = match channels {
                1 => self.number("PIXEL_VECTORS_DEPTHWISE"),
                _ if channels <= self.number("PIXEL_CHANNELS") => self.number("PIXEL_VECTORS"),
                _ => 0,
            };
            let bodies = [1, 2, 3, 4, 6, 8].into_iter().filter(|vectors| *vectors <= most);
            kernels.extend(bodies.map(|vectors| Kernel::Pixels(channels, vectors)));
        }
        kernels.push(Kernel::Planes(self.number("PIXEL_VECTORS_DEPTHWISE")));
        kernels
    }
}

impl Kernel {
    /// From the name of a function, as version 0 of Rust's scheme mangles it.
    fn of(symbol: &str) -> Option<Kernel> {
        let (_, kernel) = symbol.split_once("6kernel")?;
        let (path, arguments) = kernel.split_once("4Body")?;
        let constants = match path {
            "8channels" => arguments.split_once("9Adjoining")?.1,
            _ => arguments,
        };
        match (path, &numbers(constants)[..]) {
            ("5dense4body", &[vectors, pixels]) => Some(Kernel::Dense(vectors, pixels)),
            ("8channels", &[pixels, columns]) => Some(Kernel::Channels(pixels, columns)),
            ("6pixels", &[channels, vectors]) => Some(Kernel::Pixels(channels, vectors)),
            ("6planes", &[]) => Some(Kernel::Planes(8)),
            _ => None,
        }
    }

    /// The multiply-adds of a step.
    fn multiply_adds(&self) -> usize {
        match *self {
            Kernel::Dense(a, b) | Kernel::Pixels(a, b) => a * b,
            Kernel::Channels(pixels, columns) => pixels * columns.max(1),
            Kernel::Planes(vectors) => vectors,
        }
    }

    /// Those of the steps for what is left over.
    fn multiply_adds_left(&self) -> Vec<usize> {
        match *self {
            Kernel::Channels(pixels, columns) if columns > 0 => vec![pixels],
            Kernel::Planes(_) => vec![4, 2],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Kernel::Dense(vectors, pixels) => {
                write!(f, "dense, {vectors} vectors x {pixels} pixels")
            }
            Kernel::Channels(pixels, 0) => write!(f, "channels, {pixels} pixels"),
            Kernel::Channels(pixels, columns) => {
                write!(f, "channels, {pixels} pixels, {columns} columns")
            }
            Kernel::Pixels(channels, vectors) => {
                write!(f, "pixels, {channels} channels x {vectors} vectors")
            }
            Kernel::Planes(vectors) => write!(f, "planes, up to {vectors} vectors"),
        }
    }
}

/// The constants that follow each other in a mangled name; the second may refer to the first.
fn numbers(mut arguments: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    while let Some((number, rest)) =
        arguments.strip_prefix('K').and_then(|rest| rest.split_once('_'))
    {
        numbers.push(match number.strip_prefix('j') {
            Some(digits) => usize::from_str_radix(digits, 16).unwrap(),
            None => numbers[0],
        });
        arguments = rest;
    }
    numbers
}

#[test]
fn sums_stay_in_registers() {
    let Ok(path) = std::env::var("TAPWISE_ASSEMBLY") else {
        return support::say("SKIPPED: no listing in TAPWISE_ASSEMBLY (.ci/assembly makes one)");
    };
    let text = std::fs::read_to_string(path).unwrap();
    let functions = listing::functions(&text);
    let mut faults = no_calls(&functions);
    for isa in &ISAS {
        let entry = format!("enter_{}", isa.name);
        let bodies: BTreeMap<Kernel, &Function> = functions
            .iter()
            .filter(|function| function.symbol.contains(&entry))
            .filter_map(|function| Some((Kernel::of(function.symbol)?, function)))
            .collect();
        for kernel in isa.kernels() {
            let found = match bodies.get(&kernel) {
                Some(function) => check(&kernel, function),
                None => Err("is not in the listing".into()),
            };
            match found {
                Ok(summary) => eprintln!("{:<7} {kernel}: {summary}", isa.name),
                Err(fault) => faults.push(format!("{} {kernel}: {fault}", isa.name)),
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// Functions that enable an instruction set call no intrinsic and no wrapper of one.
fn no_calls(functions: &[Function]) -> Vec<String> {
    let is_entry = |symbol: &str| symbol.contains("5enter");
    // The portable path redoes the rare doubtful lanes in a function of its own.
    let is_portable = |symbol: &str| symbol.contains("8portable");
    let mut faults = Vec::new();
    let entries = functions.iter().filter(|function| is_entry(function.symbol));
    for function in entries.filter(|function| !is_portable(function.symbol)) {
        let callees: BTreeSet<&str> = function.callees().collect();
        for callee in callees {
            let wrapper = callee.contains("4simd") && !is_entry(callee);
            if wrapper || callee.contains("core_arch") {
                faults.push(format!("{} calls {callee}", function.symbol));
            }
        }
    }
    faults
}

/// Looks at the innermost loops that multiply and add vectors.
fn check(kernel: &Kernel, function: &Function) -> Result<String, String> {
    let (wanted, left) = (kernel.multiply_adds(), kernel.multiply_adds_left());
    let sizes = [&left[..], &[wanted]].concat();
    let loops = function.innermost_loops_with(Function::is_multiply_add);
    let plain: Vec<&Loop> = loops.iter().filter(|body| is_plain(body)).collect();
    for body in &loops {
        let count = body.count(Function::is_multiply_add);
        if count % wanted > 0 && !left.iter().any(|left| count % left == 0) {
            return Err(format!("{count} multiply-adds, not of {wanted} each:\n{body}"));
        }
    }
    let occurs = |size: &usize| {
        plain.iter().any(|body| body.count(Function::is_multiply_add).is_multiple_of(*size))
    };
    if !sizes.iter().all(occurs) {
        return Err("has no loop that loads vectors as they lie".into());
    }
    let dirty = plain.iter().find(|body| body.count(|text| function.is_on_stack(text)) > 0);
    if let Some(body) = dirty {
        return Err(format!("vectors on the stack:\n{body}"));
    }
    let sizes: Vec<String> = plain
        .iter()
        .map(|body| {
            let count = body.count(Function::is_multiply_add);
            format!("{count} multiply-adds of {} instructions", body.count(|_| true))
        })
        .collect();
    Ok(sizes.join("; "))
}

/// Whether vectors are loaded as they lie, all lanes, which is where layers spend their time;
/// other loops mask lanes or collect them at the borders and for odd strides.
fn is_plain(body: &Loop) -> bool {
    let usual = |text: &str| {
        let moves = ["vmovup", "vmovap", "vbroadcastss"].iter().any(|name| text.starts_with(name));
        !text.starts_with('v') || Function::is_multiply_add(text) || moves && !text.contains('{')
    };
    body.count(|text| !usual(text)) == 0
}
