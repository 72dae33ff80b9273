//! A listing of assembly for x86-64, as rustc writes it: functions, and the loops in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A function: instructions in blocks that are entered at their beginning and left at their end.
pub struct Function<'a> {
    pub symbol: &'a str,
    blocks: Vec<Block<'a>>,
    /// Whether a register points to the frame, by which the stack is addressed as well.
    has_frame: bool,
}

struct Block<'a> {
    instructions: Vec<&'a str>,
    next: Vec<usize>,
}

/// A loop: the instructions of its blocks, in the order of the listing.
pub struct Loop<'a> {
    header: usize,
    blocks: BTreeSet<usize>,
    instructions: Vec<&'a str>,
}

/// The functions of a listing whose names are Rust's.
pub fn functions(text: &str) -> Vec<Function<'_>> {
    let mut functions = Vec::new();
    let mut current: Option<(&str, Vec<&str>)> = None;
    for line in text.lines() {
        match line.strip_suffix(':') {
            Some(symbol) if symbol.starts_with("_R") => current = Some((symbol, Vec::new())),
            Some(label) if label.starts_with(".Lfunc_end") => {
                functions
                    .extend(current.take().map(|(symbol, lines)| Function::of(symbol, &lines)));
            }
            _ => {
                if let Some((_, lines)) = &mut current {
                    lines.push(line.trim());
                }
            }
        }
    }
    functions
}

/// `.LBB…` of a line that is such a label.
fn label(line: &str) -> Option<&str> {
    line.strip_suffix(':').filter(|label| label.starts_with(".L"))
}

impl<'a> Function<'a> {
    fn of(symbol: &'a str, lines: &[&'a str]) -> Function<'a> {
        let mut blocks = vec![Block { instructions: Vec::new(), next: Vec::new() }];
        let mut labels = BTreeMap::new();
        let mut ended = false;
        for line in lines {
            let is_label = label(line).is_some();
            if line.is_empty() || line.starts_with('#') || line.starts_with('.') && !is_label {
                continue; // comments and directives
            }
            if is_label || ended {
                blocks.push(Block { instructions: Vec::new(), next: Vec::new() });
                ended = false;
            }
            match label(line) {
                Some(label) => {
                    labels.insert(label, blocks.len() - 1);
                }
                None => {
                    blocks.last_mut().unwrap().instructions.push(line);
                    ended = line.starts_with('j') || line.starts_with("ret") || *line == "ud2";
                }
            }
        }
        let count = blocks.len();
        for (at, block) in blocks.iter_mut().enumerate() {
            let last = block.instructions.last().copied().unwrap_or("");
            if last.starts_with('j') {
                let target = last.split_whitespace().nth(1).unwrap_or("");
                block.next.extend(labels.get(target));
            }
            let falls_through =
                !last.starts_with("jmp") && !last.starts_with("ret") && last != "ud2";
            if falls_through && at + 1 < count {
                block.next.push(at + 1);
            }
        }
        let has_frame = lines.iter().any(|line| line.replace('\t', " ") == "movq %rsp, %rbp");
        Function { symbol, blocks, has_frame }
    }

    /// The symbols that it calls, or jumps to for good.
    pub fn callees(&self) -> impl Iterator<Item = &'a str> {
        self.blocks.iter().flat_map(|block| &block.instructions).filter_map(|text| {
            let (name, target) = text.split_once(char::is_whitespace)?;
            let calls = name.starts_with("call") || name.starts_with("jmp");
            (calls && !target.starts_with(".L")).then(|| target.trim())
        })
    }

    /// A fused multiply-add of vectors.
    pub fn is_multiply_add(text: &str) -> bool {
        let name = text.split_whitespace().next().unwrap_or("");
        name.starts_with("vfmadd") && name.ends_with("ps")
    }

    /// A vector instruction with an operand in the stack.
    pub fn is_on_stack(&self, text: &str) -> bool {
        let stack = text.contains("(%rsp") || self.has_frame && text.contains("(%rbp");
        text.starts_with('v') && stack
    }

    /// The loops in which there is such an instruction, and no smaller loop with one.
    pub fn innermost_loops_with(&self, wanted: impl Fn(&str) -> bool) -> Vec<Loop<'a>> {
        let loops: Vec<Loop> =
            self.loops().into_iter().filter(|body| body.count(&wanted) > 0).collect();
        let is_inside = |inner: &Loop, outer: &Loop| {
            inner.header != outer.header && inner.blocks.is_subset(&outer.blocks)
        };
        let innermost: Vec<bool> =
            loops.iter().map(|outer| !loops.iter().any(|inner| is_inside(inner, outer))).collect();
        loops.into_iter().zip(innermost).filter_map(|(body, keep)| keep.then_some(body)).collect()
    }

    /// The natural loops: a block to which another one jumps back that cannot be reached but
    /// through it, and all blocks between.
    fn loops(&self) -> Vec<Loop<'a>> {
        let dominators = self.dominators();
        let mut loops: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (from, block) in self.blocks.iter().enumerate() {
            for &header in &block.next {
                if !dominators[from].contains(&header) {
                    continue;
                }
                let body = loops.entry(header).or_insert_with(|| BTreeSet::from([header]));
                let mut todo = vec![from];
                while let Some(block) = todo.pop() {
                    if body.insert(block) {
                        todo.extend(self.before(block));
                    }
                }
            }
        }
        let instructions = |blocks: &BTreeSet<usize>| {
            blocks.iter().flat_map(|at| self.blocks[*at].instructions.clone()).collect()
        };
        let body = |(header, blocks): (usize, BTreeSet<usize>)| {
            let instructions = instructions(&blocks);
            Loop { header, blocks, instructions }
        };
        loops.into_iter().map(body).collect()
    }

    fn before(&self, block: usize) -> impl Iterator<Item = usize> {
        (0..self.blocks.len()).filter(move |other| self.blocks[*other].next.contains(&block))
    }

    /// For each block, those through which every way from the beginning leads; nothing for blocks
    /// that no way leads to.
    fn dominators(&self) -> Vec<BTreeSet<usize>> {
        let count = self.blocks.len();
        let mut found: Vec<Option<BTreeSet<usize>>> = vec![None; count];
        found[0] = Some(BTreeSet::from([0]));
        let mut changed = true;
        while changed {
            changed = false;
            for block in 1..count {
                let mut common: Option<BTreeSet<usize>> = None;
                for before in self.before(block) {
                    let Some(of_before) = &found[before] else { continue };
                    common = Some(match common {
                        None => of_before.clone(),
                        Some(common) => common.intersection(of_before).copied().collect(),
                    });
                }
                if let Some(common) = &mut common {
                    common.insert(block);
                }
                if found[block] != common {
                    found[block] = common;
                    changed = true;
                }
            }
        }
        found.into_iter().map(Option::unwrap_or_default).collect()
    }
}

impl Loop<'_> {
    pub fn count(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.instructions.iter().filter(|text| wanted(text)).count()
    }
}

impl fmt::Display for Loop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.instructions.iter().try_for_each(|text| writeln!(f, "    {text}"))
    }
}
