//! No kernel reads or writes an element beyond its slices: each of them, of just the length that
//! the plan asks for, begins or ends at a page that may not be touched.

#![cfg(all(unix, target_pointer_width = "64"))]

mod support;

use core::ffi::{c_int, c_long, c_void};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use support::{Layer, POISON, assert_same_bits, fill, last_axes, paths};
use tapwise::{
    Conv2d, DeformConv2d, Epilogue, Kernel, Layout, Plan, Separable2d, Strides, Unfold2d, Weights,
    reference,
};

unsafe extern "C" {
    fn mmap(
        at: *mut c_void,
        len: usize,
        protection: c_int,
        flags: c_int,
        file: c_int,
        offset: c_long,
    ) -> *mut c_void;
    fn mprotect(at: *mut c_void, len: usize, protection: c_int) -> c_int;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
}

const PROT_NONE: c_int = 0;
const PROT_READ_WRITE: c_int = 1 | 2;
const MAP_PRIVATE: c_int = 2;
const MAP_ANONYMOUS: c_int =
    if cfg!(any(target_os = "linux", target_os = "android")) { 0x20 } else { 0x1000 };

/// A multiple of every page size in use.
const PAGES: usize = 64 << 10;

/// At which end of its memory a slice touches a forbidden page.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Before,
    Behind,
}

/// Memory between two forbidden pages.
struct Guarded {
    first: *mut f32,
    len: usize,
}

impl Guarded {
    /// Room for at least `len` elements.
    fn new(len: usize) -> Guarded {
        let bytes = (4 * len).next_multiple_of(PAGES);
        // SAFETY: a new mapping, of which the middle becomes accessible.
        let first = unsafe {
            let flags = MAP_PRIVATE | MAP_ANONYMOUS;
            let all = mmap(core::ptr::null_mut(), bytes + 2 * PAGES, PROT_NONE, flags, -1, 0);
            assert_ne!(all.addr(), usize::MAX, "mmap");
            let middle = all.byte_add(PAGES);
            assert_eq!(mprotect(middle, bytes, PROT_READ_WRITE), 0, "mprotect");
            middle.cast()
        };
        Guarded { first, len: bytes / 4 }
    }

    /// `len` elements at one end, each of them `value`.
    fn filled(&mut self, side: Side, len: usize, value: f32) -> &mut [f32] {
        assert!(len <= self.len);
        let skipped = if side == Side::Before { 0 } else { self.len - len };
        // SAFETY: inside the accessible part, which is borrowed with `self`; any bits are an f32.
        let slice = unsafe { core::slice::from_raw_parts_mut(self.first.add(skipped), len) };
        slice.fill(value);
        slice
    }

    /// A copy of `values` at one end.
    fn copy(&mut self, side: Side, values: &[f32]) -> &mut [f32] {
        let slice = self.filled(side, values.len(), 0.0);
        slice.copy_from_slice(values);
        slice
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, of which no borrow is left.
        unsafe { munmap(self.first.byte_sub(PAGES).cast(), 4 * self.len + 2 * PAGES) };
    }
}

/// The slices of a call.
struct Memory {
    x: Guarded,
    weights: Guarded,
    packed: Guarded,
    bias: Guarded,
    residual: Guarded,
    scratch: Guarded,
    y: Guarded,
}

const ROOM: usize = 1 << 17;

impl Memory {
    fn new() -> Memory {
        let [x, weights, packed, bias, residual, scratch, y] = [(); 7].map(|()| Guarded::new(ROOM));
        Memory { x, weights, packed, bias, residual, scratch, y }
    }

    /// Runs with packed and with unpacked weights, at once and in tiles.
    fn check(&mut self, layer: &Layer, plan: &Plan, side: Side, full: bool, expected: &[f32]) {
        let x = self.x.copy(side, &fill(plan.input_len(), 1));
        let w = self.weights.copy(side, &fill(plan.weights_len(), 2));
        let packed = self.packed.filled(side, plan.packed_len(), POISON);
        let bias = self.bias.copy(side, &fill(layer.out_channels, 3));
        let residual = self.residual.copy(side, &fill(plan.output_len(), 4));
        let packed = Weights::Packed(plan.pack(w, packed).unwrap());
        let epilogue = if full {
            Epilogue::new().bias(bias).residual(residual).hard_swish()
        } else {
            Epilogue::new()
        };
        let unpacked = (plan.unpacked().unwrap(), Weights::Unpacked(w));
        for (plan, weights) in [(*plan, packed), unpacked] {
            let scratch = self.scratch.filled(side, plan.scratch_len(), POISON);
            let y = self.y.filled(side, plan.output_len(), POISON);
            plan.run(x, weights, epilogue, scratch, y).unwrap();
            assert_same_bits(y, expected, (layer, plan.layout(), plan.isa(), side));

            let y = self.y.filled(side, plan.output_len(), POISON);
            let mut job = plan.job(x, weights, epilogue, y).unwrap();
            for tile in job.tiles(5) {
                tile.run(scratch).unwrap();
            }
            assert_same_bits(y, expected, (layer, plan.layout(), plan.isa(), side, "tiles"));

            if full {
                let y = self.y.copy(side, residual);
                for (y, expected) in y.iter_mut().zip(expected) {
                    // Between elements.
                    if expected.to_bits() == POISON.to_bits() {
                        *y = POISON;
                    }
                }
                let epilogue = epilogue.residual_from_output();
                plan.run(x, weights, epilogue, scratch, y).unwrap();
                assert_same_bits(y, expected, (layer, plan.layout(), plan.isa(), side, "added"));
            }
        }
    }
}

/// Layers whose channels and widths leave every kind of remainder.
fn layers() -> Vec<Layer> {
    let mut layers = Vec::new();
    let flat = |channels, size: [usize; 2], kernel: [usize; 2]| {
        Layer::new(2, channels, [1, size[0], size[1]], [1, kernel[0], kernel[1]])
    };
    let padded = |layer: Layer| {
        let pad = layer.kernel.map(|taps| taps / 2);
        Layer { before: pad, after: pad, ..layer }
    };
    let grouped = |groups: usize, per_group: [usize; 2], layer: Layer| Layer {
        groups,
        in_channels: groups * per_group[0],
        out_channels: groups * per_group[1],
        ..layer
    };
    let two = |layer: Layer| [layer, padded(layer)];
    // Every number of channels: dense and depthwise.
    for channels in 1..=40 {
        let other = 1 + channels * 7 % 40;
        layers.push(flat([channels, other], [2, 3], [1, 1]));
        let dense = flat([other, channels], [3, 4], [2, 3]);
        layers.push(if channels % 2 == 0 { padded(dense) } else { dense });
        let depthwise = grouped(channels, [1, 1], flat([1, 1], [3, 7], [3, 3]));
        layers.push(if channels % 2 == 0 { padded(depthwise) } else { depthwise });
    }
    for channels in [47, 48, 49, 63, 64, 65, 95, 96, 97] {
        layers.extend(two(flat([9, channels], [3, 3], [2, 2])));
        layers.push(grouped(channels, [1, 1], flat([1, 1], [4, 4], [3, 2])));
    }
    // Every width, with few channels, as many as a vector, and in groups.
    for width in 1..=40 {
        let kernel = [1, 1 + width % 4];
        let narrow = flat([2, 1 + width % 5], [2, width + 3], kernel);
        layers.push(if width % 2 == 0 { padded(narrow) } else { narrow });
        let wide = flat([3, 17], [2, width], [1, 3]);
        layers.push(padded(wide));
        layers.push(padded(grouped(3, [1, 1], flat([1, 1], [2, width], [2, 3]))));
        let steps = grouped(3, [1, 1], flat([1, 1], [9, width + 2], [3, 1 + width % 3]));
        let steps = Layer { stride: [1, 1 + width % 2, 2], ..steps };
        layers.push(if width % 5 < 2 { padded(steps) } else { steps });
        let line = Layer::new(1, [5, 4], [1, 1, width + 4], [1, 1, 1 + width % 5]);
        layers.push(if width % 2 == 0 { line } else { padded(line) });
    }
    // Rows of outputs that share what they read.
    for width in 1..=40 {
        for (taps, rows) in [(3, 4), (5, 6 + width % 4), (7, 8 + width % 5), (9, 8 + width % 7)] {
            let [height, columns] = [rows + taps - 1, 2 + width];
            layers.push(grouped(2, [1, 1], flat([1, 1], [height, columns], [taps, 3])));
        }
    }
    // Strides and dilations.
    for stride in 1..=3 {
        for dilation in 1..=3 {
            for groups in [1, 20] {
                let per_group = if groups == 1 { [10, 20] } else { [1, 1] };
                let layer = grouped(groups, per_group, flat([1, 1], [7, 23], [3, 3]));
                let stride = [1, stride, stride];
                let dilation = [1, dilation, dilation];
                layers.extend(two(Layer { stride, dilation, ..layer }));
            }
        }
    }
    // Narrow groups, wide groups, and several outputs of an input.
    for (at, per_group) in
        [1, 2, 3, 4, 6, 8, 12].into_iter().flat_map(|o| [1, 2, 3, 5, 9].map(|i| [i, o])).enumerate()
    {
        let layer = grouped(2 + at % 6, per_group, flat([1, 1], [3, 9], [2, 3]));
        layers.push(if at % 2 == 0 { layer } else { padded(layer) });
    }
    for per_group in [[3, 16], [8, 17], [1, 33], [9, 20]] {
        layers.extend(two(grouped(3, per_group, flat([1, 1], [3, 5], [3, 3]))));
    }
    // Several images, volumes, long chains, padding wider than the window.
    for groups in [1, 6] {
        let volume = Layer::new(3, [6, 18], [3, 4, 5], [2, 3, 2]);
        layers.extend(two(Layer { groups, batch: 2, ..volume }));
        let long = flat([126, 18], [3, 4], [3, 3]);
        layers.extend(two(Layer { groups, batch: 2, ..long }));
        let far = flat([6, 12], [2, 3], [2, 2]);
        layers.push(Layer { groups, before: [0, 3, 5], after: [0, 4, 3], ..far });
    }
    // Transposed: every width, stride and dilation; outputs that no tap meets; rows of two phases, of
    // more, and of more than there are columns.
    let spread = |layer: Layer| Layer { transposed: true, ..layer };
    for width in 1..=34 {
        let stride = [1, 1 + width % 3, [2, 2, 3, 5, 40][width % 5]];
        let dilation = [1, 1 + width % 2, [1, 1, 2, 3][width % 4]];
        let flipped = width % 3 == 0;
        for layer in [
            flat([2, 1 + width % 5], [2, width], [2, 1 + width % 4]),
            flat([3, 15 + width % 6], [1, width.min(12)], [2, 3]),
            grouped(3, [1, 1], flat([1, 1], [3, width], [2, 3])),
            grouped(2 + width % 3, [2, 1 + width % 3], flat([1, 1], [2, width], [1, 2])),
        ] {
            let layer = spread(Layer { stride, dilation, flipped, ..layer });
            let output_padding = stride.map(|stride| stride - 1);
            layers.push(match width % 2 {
                0 => layer,
                _ => padded(Layer { output_padding, ..layer }),
            });
        }
    }
    let volume = spread(Layer::new(3, [5, 18], [2, 3, 4], [2, 3, 2]));
    layers.extend(two(Layer { batch: 2, stride: [2, 2, 3], output_padding: [1, 0, 2], ..volume }));
    layers.push(Layer { flipped: true, ..padded(flat([5, 18], [3, 7], [3, 2])) });
    // Rows that fill vectors, and planes whose channels collide in a cache.
    for width in [32, 48, 64, 65, 70, 79, 80] {
        layers.extend(two(flat([5, 17 + width % 7], [2, width], [2, 3])));
    }
    for layer in [
        flat([16, 32], [16, 32], [1, 1]),
        flat([17, 33], [8, 64], [3, 3]),
        Layer::new(1, [16, 40], [1, 1, 512], [1, 1, 4]),
        Layer::new(3, [18, 32], [2, 4, 64], [2, 1, 2]),
    ] {
        layers.extend([layer, padded(layer), padded(layer), layer]);
    }
    layers
}

/// A gap behind each element but the last.
fn doubled(strides: Strides) -> Strides {
    let Strides { batch, channel, depth, row, pixel } = strides;
    Strides {
        batch: 2 * batch,
        channel: 2 * channel,
        depth: 2 * depth,
        row: 2 * row,
        pixel: 2 * pixel,
    }
}

#[test]
fn every_kernel_stays_inside() {
    let layers = layers();
    assert!(layers.len() > 400);
    let mut kernels = std::collections::BTreeSet::new();
    let mut memory = Memory::new();
    for (number, layer) in layers.iter().enumerate() {
        let full = number % 3 != 0;
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let mut plan = layer.plan(layout).unwrap();
            if number % 2 == 1 {
                plan = plan.assume_caches(512, 16 << 10).unwrap();
            }
            if number % 5 == 4 {
                plan = plan.with_input_strides(doubled(plan.input_strides())).unwrap();
                plan = plan.with_output_strides(doubled(plan.output_strides())).unwrap();
            }
            let bias = fill(layer.out_channels, 3);
            let residual = fill(plan.output_len(), 4);
            let epilogue = if full {
                Epilogue::new().bias(&bias).residual(&residual).hard_swish()
            } else {
                Epilogue::new()
            };
            let mut expected = vec![POISON; plan.output_len()];
            let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
            reference::run(&plan, &x, &w, epilogue, &mut expected).unwrap();
            for plan in Kernel::ALL.into_iter().filter_map(|kernel| plan.with_kernel(kernel).ok()) {
                kernels.insert((plan.kernel_name(), plan.scratch_len() > 0));
                for isa in paths() {
                    for side in [Side::Before, Side::Behind] {
                        let plan = plan.with_isa(isa).unwrap();
                        memory.check(layer, &plan, side, full, &expected);
                    }
                }
            }
        }
    }
    for kernel in [("dense", true), ("channels", false), ("pixels", false), ("planes", true)] {
        assert!(kernels.contains(&kernel), "{kernels:?}");
    }
}

/// Samples at every border of the input, from slices that end or begin there.
#[test]
fn samples_stay_inside() {
    let mut memory = Memory::new();
    let (mut moves, mut masks) = (Guarded::new(ROOM), Guarded::new(ROOM));
    let mut taps_outside = 0;
    for number in 0..40 {
        let channels = [1 + number * 7 % 34, 1 + number * 5 % 19];
        let size = [1, 1 + number % 7, 1 + number * 3 % 11];
        let layer = Layer::new(2, channels, size, [1, 1 + number % 3, 1 + number % 4]);
        let groups = if number % 4 == 3 { layer.in_channels } else { 1 };
        let layer = Layer { groups, out_channels: channels[1] * groups, ..layer };
        let deform =
            DeformConv2d::new(layer.in_channels, layer.out_channels, last_axes(layer.kernel))
                .padding([2, 3])
                .stride([1 + number % 2, 1])
                .groups(groups);
        let modulated = number % 3 > 0;
        let deform = if modulated { deform.modulated() } else { deform };
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let plan = deform.plan(layout, 2, last_axes(layer.size)).unwrap();
            let plan = if number % 2 == 1 { plan.assume_caches(512, 512).unwrap() } else { plan };
            let distance = [0.0, 1.5, 6.0, 20.0][number % 4];
            let offsets: Vec<f32> = fill(plan.offsets_len(), 5)
                .iter()
                .map(|offset| (offset * distance * 2.0).round() / 2.0)
                .collect();
            taps_outside += offsets.iter().filter(|offset| offset.abs() > 5.0).count();
            let (x, w) = (fill(plan.input_len(), 1), fill(plan.weights_len(), 2));
            let mask = fill(plan.mask_len(), 6);
            let bias = fill(layer.out_channels, 3);
            let residual = fill(plan.output_len(), 4);
            let epilogue = Epilogue::new().bias(&bias).residual(&residual).relu6();
            let mut expected = vec![POISON; plan.output_len()];
            reference::deform_conv2d(
                &plan,
                &x,
                &offsets,
                modulated.then_some(&mask[..]),
                &w,
                epilogue,
                &mut expected,
            )
            .unwrap();
            for kernel in Kernel::ALL {
                let Ok(plan) = plan.with_kernel(kernel) else { continue };
                for isa in paths() {
                    for side in [Side::Before, Side::Behind] {
                        let plan = plan.with_isa(isa).unwrap();
                        let x = memory.x.copy(side, &x);
                        let w = memory.weights.copy(side, &w);
                        let packed = memory.packed.filled(side, plan.packed_len(), POISON);
                        let packed = Weights::Packed(plan.pack(w, packed).unwrap());
                        let offsets = moves.copy(side, &offsets);
                        let mask = masks.copy(side, &mask);
                        let mask = modulated.then_some(&*mask);
                        let bias = memory.bias.copy(side, &bias);
                        let residual = memory.residual.copy(side, &residual);
                        let epilogue = Epilogue::new().bias(bias).residual(residual).relu6();
                        let unpacked = (plan.unpacked().unwrap(), Weights::Unpacked(w));
                        for (plan, weights) in [(plan, packed), unpacked] {
                            let scratch = memory.scratch.filled(side, plan.scratch_len(), POISON);
                            let y = memory.y.filled(side, plan.output_len(), POISON);
                            plan.run(x, offsets, mask, weights, epilogue, scratch, y).unwrap();
                            assert_same_bits(y, &expected, (layer, layout, kernel, isa, side));

                            let y = memory.y.filled(side, plan.output_len(), POISON);
                            let mut job = plan.job(x, offsets, mask, weights, epilogue, y).unwrap();
                            for tile in job.tiles(5) {
                                tile.run(scratch).unwrap();
                            }
                            assert_same_bits(y, &expected, (layer, layout, kernel, isa, side));
                        }
                    }
                }
            }
        }
    }
    assert!(taps_outside > 10_000, "{taps_outside}");
}

const TRAP: &str = "GUARD_PAGES_TRAP";

/// What the other test relies on: a process of its own that touches such a page is killed.
#[test]
fn forbidden_pages_end_the_process() {
    if let Ok(side) = std::env::var(TRAP) {
        let mut memory = Guarded::new(10);
        let (side, step) = if side == "before" { (Side::Before, -1) } else { (Side::Behind, 10) };
        let slice = memory.filled(side, 10, 1.0);
        // SAFETY: none: it has to end the process.
        let value = unsafe { slice.as_ptr().wrapping_offset(step).read_volatile() };
        panic!("read {value}");
    }
    for side in ["before", "behind"] {
        let exe = std::env::current_exe().unwrap();
        // An emulated process starts another by way of the emulator.
        let mut child = match std::env::var("TAPWISE_EMULATOR") {
            Ok(emulator) => {
                let mut child = Command::new(emulator);
                child.arg(exe);
                child
            }
            Err(_) => Command::new(exe),
        };
        child.args(["--exact", "forbidden_pages_end_the_process"]).env(TRAP, side);
        let output = child.output().unwrap();
        assert!(output.status.signal().is_some(), "{side}: {output:?}");
    }
}

/// Both layers in one pass: the buffer between them is a part of the scratch memory.
#[test]
fn separable_layers_stay_inside() {
    let mut memory = Memory::new();
    let mut second = [Guarded::new(ROOM), Guarded::new(ROOM)];
    let mut several = 0;
    for number in 0..120 {
        let channels = 1 + number * 7 % 40;
        let multiplier = 1 + usize::from(number % 6 == 5);
        let size = [2 + number % 5, 1 + number * 11 % 37];
        let kernel = [1 + number % 3, 1 + number % 4];
        let depthwise = Conv2d::new(channels, channels * multiplier, kernel)
            .groups(channels)
            .stride([1 + number % 2, 1 + number / 2 % 2])
            .padding([1, 2]);
        let out_channels = 1 + number * 5 % 50;
        let pointwise = Conv2d::new(channels * multiplier, out_channels, [1, 1]);
        let l2 = [256, 1 << 10, 4 << 10, 16 << 10, 1 << 20][number % 5];
        let (start, end) = (Epilogue::new().relu6(), Epilogue::new().relu());
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let batch = 1 + number % 2;
            let alone = depthwise.plan(layout, batch, size).unwrap();
            let [_, height, width] = alone.output_size();
            let behind = pointwise.plan(layout, batch, [height, width]).unwrap();
            let x = fill(alone.input_len(), 1);
            let [w, v] = [fill(alone.weights_len(), 2), fill(behind.weights_len(), 3)];
            let mut between = vec![POISON; alone.output_len()];
            reference::run(&alone, &x, &w, start, &mut between).unwrap();
            let mut expected = vec![POISON; behind.output_len()];
            reference::run(&behind, &between, &v, end, &mut expected).unwrap();
            let plan = Separable2d::new(depthwise, pointwise).plan(layout, batch, size).unwrap();
            let plan = plan.assume_caches(512, l2).unwrap();
            several += usize::from(plan.pixels_in_buffer() < batch * height * width);
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                for side in [Side::Before, Side::Behind] {
                    let what = (number, layout, isa, side);
                    let x = memory.x.copy(side, &x);
                    let [packed, pointwise_packed] = &mut second;
                    let packed = packed.filled(side, plan.depthwise_packed_len(), POISON);
                    let pointwise_packed =
                        pointwise_packed.filled(side, plan.pointwise_packed_len(), POISON);
                    let w = plan.pack_depthwise(&w, packed).unwrap();
                    let v = plan.pack_pointwise(&v, pointwise_packed).unwrap();
                    let scratch = memory.scratch.filled(side, plan.scratch_len(), POISON);
                    let y = memory.y.filled(side, plan.output_len(), POISON);
                    plan.run(x, w, start, v, end, scratch, y).unwrap();
                    assert_same_bits(y, &expected, what);

                    let y = memory.y.filled(side, plan.output_len(), POISON);
                    let mut job = plan.job(x, w, start, v, end, y).unwrap();
                    for tile in job.tiles(3) {
                        tile.run(scratch).unwrap();
                    }
                    assert_same_bits(y, &expected, what);
                }
            }
        }
    }
    assert!(several > 60, "{several}");
}

/// Vectors that reach beyond what they are stored for do not reach beyond the slice.
#[test]
fn unfolding_stays_inside() {
    let [mut from, mut to] = [Guarded::new(ROOM), Guarded::new(ROOM)];
    for number in 0..480 {
        let (width, padding) = (1 + number % 40, number / 40 % 4);
        let kernel = [[3, 3], [1, 1], [2, 1], [5, 5], [1, 3]][number % 5];
        if width + 2 * padding < kernel[1] {
            continue;
        }
        let unfold = Unfold2d::new(kernel).padding([2, padding]).stride([1, 1 + number / 160]);
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let channels = [1, 2, 5, 17][number / 7 % 4];
            let plan = unfold.plan(layout, 1 + number % 2, channels, [2, width]).unwrap();
            let x = fill(plan.input_len(), 1);
            let mut expected = vec![POISON; plan.output_len()];
            reference::unfold(&plan, &x, &mut expected).unwrap();
            for (isa, side) in
                paths().into_iter().flat_map(|i| [(i, Side::Before), (i, Side::Behind)])
            {
                let plan = plan.with_isa(isa).unwrap();
                let what = (number, layout, isa, side);
                let x = from.copy(side, &x);
                let y = to.filled(side, plan.output_len(), POISON);
                plan.run(x, y).unwrap();
                assert_same_bits(y, &expected, what);

                let y = to.filled(side, plan.output_len(), POISON);
                plan.tiles(x, y, 5).unwrap().for_each(|tile| tile.run());
                assert_same_bits(y, &expected, what);
            }
        }
    }
}
