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
use std::collections::BTreeSet;
use tapwise::{Facts, Isa, Kernel, LoopBody};

/// All kernels' loops on an instruction set; a kernel without one would not be looked at.
fn bodies(isa: Isa) -> Vec<(Kernel, LoopBody)> {
    let mut bodies = Vec::new();
    for kernel in Kernel::ALL {
        let before = bodies.len();
        kernel.loop_bodies(Facts::of(isa), &mut |body| bodies.push((kernel, body)));
        assert!(bodies.len() > before, "{}: no loops to look at", kernel.name());
    }
    bodies
}

/// Whether a function, whose name is mangled by version 0 of Rust's scheme, is that of the loop.
fn is_of(symbol: &str, body: &LoopBody) -> bool {
    let Some((_, mut rest)) = symbol.split_once("6kernel") else { return false };
    for name in body.types {
        match rest.split_once(&format!("{}{name}", name.len())) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    let expected: Vec<usize> = match body.sizes {
        [(_, 0), _] => Vec::new(),
        sizes => sizes.map(|(_, size)| size).to_vec(),
    };
    numbers(rest) == expected
}

fn name(kernel: Kernel, body: &LoopBody) -> String {
    let sizes = body.sizes.iter().filter(|(_, size)| *size > 0);
    let sizes: Vec<String> = sizes.map(|(what, size)| format!(" {size} {what}")).collect();
    let comma = if sizes.is_empty() { "" } else { "," };
    format!("{}{comma}{}", kernel.name(), sizes.join(" x"))
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
    for isa in [Isa::Avx2, Isa::Avx512] {
        let entry = format!("enter_{}", isa.name());
        let of_isa = functions.iter().filter(|function| function.symbol.contains(&entry));
        let of_isa: Vec<&Function> = of_isa.collect();
        for (kernel, body) in bodies(isa) {
            let name = name(kernel, &body);
            let found = match of_isa.iter().find(|function| is_of(function.symbol, &body)) {
                Some(function) => check(&body, function),
                None => Err("is not in the listing".into()),
            };
            match found {
                Ok(summary) => eprintln!("{:<7} {name}: {summary}", isa.name()),
                Err(fault) => faults.push(format!("{} {name}: {fault}", isa.name())),
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// The passes of activations with an exponential: whole vectors go from memory to memory, and what is
/// computed on the way stays in registers.
#[test]
fn passes_stay_in_registers() {
    let Ok(path) = std::env::var("TAPWISE_ASSEMBLY") else {
        return support::say("SKIPPED: no listing in TAPWISE_ASSEMBLY (.ci/assembly makes one)");
    };
    let text = std::fs::read_to_string(path).unwrap();
    let functions = listing::functions(&text);
    let is_spill = |text: &str| text.starts_with("vmov") && text.ends_with("(%rsp)");
    for isa in [Isa::Avx2, Isa::Avx512] {
        let entry = format!("enter_{}", isa.name());
        for name in ["Sigmoid", "Silu", "Tanh", "Elu", "Gelu", "GeluTanh"] {
            let pass = format!("9functions{}{name}E", name.len());
            let of_pass = |function: &&Function| {
                function.symbol.contains(&entry) && function.symbol.contains(&pass)
            };
            let function = functions.iter().find(of_pass).expect("a pass in the listing");
            assert_eq!(function.callees().count(), 0, "{name}: calls");
            // A reduction of two, a polynomial of four, one at the end, at least.
            let loops = function.innermost_loops_with(Function::is_multiply_add);
            let whole = |body: &&Loop| {
                body.count(Function::is_multiply_add) >= 7 && body.count(is_spill) == 0
            };
            let body = loops.iter().find(whole);
            let body = body.unwrap_or_else(|| panic!("{} {name}: spilled", isa.name()));
            eprintln!("{:<7} {name}: {} instructions", isa.name(), body.count(|_| true));
        }
    }
}

/// Writes the loops on NEON for `.ci/mca`: what they are, their multiply-adds, and the name of their
/// function as a regular expression.
#[test]
fn loops_on_neon() {
    let Ok(path) = std::env::var("TAPWISE_LOOPS") else {
        return support::say("SKIPPED: no file for a list in TAPWISE_LOOPS (.ci/mca names one)");
    };
    let mut lines = String::new();
    for (kernel, body) in bodies(Isa::Neon) {
        let types = body.types.iter().map(|name| format!("{}{name}", name.len()));
        let mut symbol = types.collect::<Vec<String>>().join(".*");
        if body.sizes[0].1 > 0 {
            let [first, second] = body.sizes.map(|(_, size)| size);
            // A number that is the one before is referred to.
            let second =
                if first == second { "B[^_]*_".to_owned() } else { format!("j{second:x}_") };
            symbol += &format!("Kj{first:x}_K{second}E");
        }
        lines += &format!("{}:{}:{symbol}\n", name(kernel, &body), body.multiply_adds);
    }
    std::fs::write(path, lines).unwrap();
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
fn check(body: &LoopBody, function: &Function) -> Result<String, String> {
    let wanted = body.multiply_adds;
    let left: Vec<usize> = body.multiply_adds_left.into_iter().filter(|n| *n > 0).collect();
    let sizes = [&left[..], &[wanted]].concat();
    let loops = function.innermost_loops_with(Function::is_multiply_add);
    let plain: Vec<&Loop> = loops.iter().filter(|body| is_plain(body)).collect();
    for body in &loops {
        let count = body.count(Function::is_multiply_add);
        let of = |left: &usize| if *left == 1 { count == 1 } else { count % left == 0 };
        if count % wanted > 0 && !left.iter().any(of) {
            return Err(format!("{count} multiply-adds, not of {wanted} each:\n{body}"));
        }
    }
    let occurs = |size: &usize| {
        plain.iter().any(|body| body.count(Function::is_multiply_add).is_multiple_of(*size))
    };
    if let Some(size) = sizes.iter().find(|size| !occurs(size)) {
        return Err(format!("has no loop of {size} that loads vectors as they lie"));
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
