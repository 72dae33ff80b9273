//! As in firmware: a plan, its weights and its buffers are static, and nothing is ever allocated.

mod support;

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Mutex;
use support::paths;
use tapwise::{
    Conv2d, ConvTranspose1d, ConvTranspose2d, DeformConv2d, DeformPlan, Epilogue, Field, Layout,
    PackedWeights, Plan, Separable2d, SeparablePlan, Weights, conv_transpose2d, conv2d,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: as of `System`; the counter needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Memory) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `body` returns, provided that it allocates nothing.
fn without_allocation<T>(body: impl FnOnce() -> T) -> T {
    let before = ALLOCATIONS.get();
    let result = body();
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations");
    result
}

const CHANNELS: usize = 40;
const CONV: Conv2d = Conv2d::new(CHANNELS, CHANNELS, [3, 3]).padding([1, 1]);

const fn planned(conv: Conv2d, layout: Layout) -> Plan {
    match conv.plan(layout, 1, [6, 7]) {
        Ok(plan) => plan,
        Err(error) => error.panic(),
    }
}

/// With caches so small that the chain is cut and partial sums are kept.
const fn in_segments(plan: Plan) -> Plan {
    match plan.assume_caches(1 << 10, 1 << 15) {
        Ok(plan) => plan,
        Err(error) => error.panic(),
    }
}

const fn unpacked(plan: Plan) -> Plan {
    match plan.unpacked() {
        Ok(plan) => plan,
        Err(error) => error.panic(),
    }
}

const DENSE: Plan = in_segments(planned(CONV, Layout::Nhwc));
const PLANES: Plan = in_segments(planned(CONV, Layout::Nchw));
const DEPTHWISE: Plan = planned(CONV.groups(CHANNELS), Layout::Nhwc);
const BANDS: Plan = planned(CONV.groups(CHANNELS), Layout::Nchw);
const PAIRS: Plan = planned(CONV.groups(CHANNELS / 2), Layout::Nchw);
const PLANS: [Plan; 5] = [DENSE, PLANES, DEPTHWISE, BANDS, PAIRS];

const fn largest(lens: [usize; 5]) -> usize {
    let mut largest = 0;
    let mut at = 0;
    while at < lens.len() {
        if lens[at] > largest {
            largest = lens[at];
        }
        at += 1;
    }
    largest
}

const PACKED_LEN: usize = largest([
    DENSE.packed_len(),
    PLANES.packed_len(),
    DEPTHWISE.packed_len(),
    BANDS.packed_len(),
    PAIRS.packed_len(),
]);
const SCRATCH_LEN: usize = largest([
    unpacked(DENSE).scratch_len(),
    PLANES.scratch_len(),
    unpacked(DEPTHWISE).scratch_len(),
    BANDS.scratch_len(),
    PAIRS.scratch_len(),
]);

struct Buffers {
    packed: [f32; PACKED_LEN],
    scratch: [f32; SCRATCH_LEN],
    y: [f32; DENSE.output_len()],
}

static BUFFERS: Mutex<Buffers> = Mutex::new(Buffers {
    packed: [0.0; PACKED_LEN],
    scratch: [0.0; SCRATCH_LEN],
    y: [0.0; DENSE.output_len()],
});
static X: [f32; DENSE.input_len()] = [1.0; DENSE.input_len()];
static WEIGHTS: [f32; DENSE.weights_len()] = [0.25; DENSE.weights_len()];
static BIAS: [f32; CHANNELS] = [0.5; CHANNELS];

/// The output at the corner, where 2 x 2 of the 3 x 3 taps lie inside.
fn corner(plan: &Plan) -> f32 {
    let in_per_group = plan.weights_len() / CHANNELS / 9;
    0.5 + 0.25 * 4.0 * in_per_group as f32
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}

#[test]
fn nothing_is_allocated() {
    assert!(DENSE.scratch_len() > 0 && PLANES.scratch_len() > 0);
    let kernels = PLANS.map(|plan| plan.kernel_name());
    assert_eq!(kernels, ["dense", "dense", "channels", "planes", "pixels"]);
    let mut buffers = BUFFERS.lock().unwrap();
    let Buffers { packed, scratch, y } = &mut *buffers;
    let epilogue = Epilogue::new().bias(&BIAS).relu6();
    let epilogues = [epilogue, epilogue.hard_swish(), epilogue.leaky_relu(0.1)];
    let paths = paths();
    without_allocation(|| {
        for plan in PLANS {
            let weights = &WEIGHTS[..plan.weights_len()];
            plan.pack(weights, packed).unwrap();
            let packed = PackedWeights::from_slice(&plan, packed).unwrap();
            for &isa in &paths {
                let plan = plan.with_isa(isa).unwrap();
                for epilogue in epilogues {
                    y.fill(f32::NAN);
                    plan.run(&X, packed, epilogue.residual_from_output(), scratch, y).unwrap();
                    assert!(y[0].is_nan());
                    plan.run(&X, packed, epilogue, scratch, y).unwrap();
                }
                let weights = Weights::Unpacked(weights);
                let taking = unpacked(plan);
                taking.run(&X, weights, Epilogue::new().bias(&BIAS), scratch, y).unwrap();
                assert_eq!(y[0], corner(&plan));

                y.fill(f32::NAN);
                let mut job = plan.job(&X, packed, Epilogue::new().bias(&BIAS), y).unwrap();
                for tile in job.tiles(7) {
                    tile.run(scratch).unwrap();
                }
                assert_eq!((y[0], y.last()), (corner(&plan), Some(&corner(&plan))));

                let error = plan.run(&X[1..], packed, epilogue, scratch, y).unwrap_err();
                assert_eq!(error.field(), Field::Input);
            }
        }
    });
}

#[test]
fn nothing_is_allocated_in_one_call() {
    let mut y = [f32::NAN; PLANES.output_len()];
    let (shape, weight_shape) = ([1, CHANNELS, 6, 7], [CHANNELS, CHANNELS, 3, 3]);
    let ones = [1; 2];
    let result = without_allocation(|| {
        conv2d(shape, &X, weight_shape, &WEIGHTS, Some(&BIAS), ones, ones, ones, 1, &mut y)
    });
    assert_eq!(result, Ok(shape));
    assert_eq!(y[0], corner(&PLANES));
    let error = without_allocation(|| {
        conv2d(shape, &X, weight_shape, &WEIGHTS, Some(&BIAS), ones, ones, ones, 3, &mut y)
    });
    assert_eq!(error.unwrap_err().field(), Field::Groups);
}

const UP: ConvTranspose2d =
    ConvTranspose2d::new(CHANNELS, CHANNELS, [3, 3]).stride([2, 2]).padding([1, 1]);

const fn grown(layer: ConvTranspose2d, layout: Layout) -> Plan {
    match layer.plan(layout, 1, [6, 7]) {
        Ok(plan) => plan,
        Err(error) => error.panic(),
    }
}

const UP_PLANES: Plan = grown(UP, Layout::Nchw);
const UP_CHANNELS: Plan = grown(UP.groups(CHANNELS).flipped(), Layout::Nhwc);
const UP_SCRATCH_LEN: usize = largest([
    UP_PLANES.scratch_len(),
    unpacked(UP_PLANES).scratch_len(),
    UP_CHANNELS.scratch_len(),
    unpacked(UP_CHANNELS).scratch_len(),
    0,
]);

/// As many phases as outputs, of which three have taps.
const FAR: Plan = {
    let layer = ConvTranspose1d::new(1, 1, [3]).stride([1 << 20]).dilation([300]);
    match layer.padding([200]).plan(Layout::NCL, 1, [1]) {
        Ok(plan) => plan,
        Err(error) => error.panic(),
    }
};

#[test]
fn transposed_layers_are_static() {
    // The first output has one tap, the second two, and that behind both four.
    let expected =
        |plan: &Plan, taps: f32| 0.5 + 0.25 * taps * (plan.weights_len() / CHANNELS / 9) as f32;
    assert!(UP_PLANES.scratch_len() > 0);
    let mut packed = [0.0; UP_PLANES.packed_len()];
    let mut scratch = [0.0; UP_SCRATCH_LEN];
    let mut y = [f32::NAN; UP_PLANES.output_len()];
    assert_eq!(y.len(), UP_CHANNELS.output_len());
    let paths = paths();
    without_allocation(|| {
        for plan in [UP_PLANES, UP_CHANNELS] {
            let weights = &WEIGHTS[..plan.weights_len()];
            let packed = plan.pack(weights, &mut packed).unwrap();
            for &isa in &paths {
                let unpacked = (unpacked(plan), Weights::Unpacked(weights));
                for (plan, weights) in [(plan, Weights::Packed(packed)), unpacked] {
                    let plan = plan.with_isa(isa).unwrap();
                    y.fill(f32::NAN);
                    let epilogue = Epilogue::new().bias(&BIAS);
                    plan.run(&X, weights, epilogue, &mut scratch, &mut y).unwrap();
                    let (row, pixel) = (plan.output_strides().row, plan.output_strides().pixel);
                    let found = [y[0], y[pixel], y[row], y[row + pixel]];
                    assert_eq!(found, [1.0, 2.0, 2.0, 4.0].map(|taps| expected(&plan, taps)));

                    y.fill(f32::NAN);
                    let mut job = plan.job(&X, weights, epilogue, &mut y).unwrap();
                    for tile in job.tiles(7) {
                        tile.run(&mut scratch).unwrap();
                    }
                    assert!(!y.iter().any(|y| y.is_nan()));
                }
            }
        }
    });
}

#[test]
fn strides_of_a_million_are_static() {
    let mut packed = [0.0; FAR.packed_len()];
    let mut scratch = [0.0; FAR.scratch_len()];
    let mut y = [f32::NAN; FAR.output_len()];
    let packed = FAR.pack(&[1.0, 2.0, 4.0], &mut packed).unwrap();
    for isa in paths() {
        let plan = FAR.with_isa(isa).unwrap();
        y.fill(f32::NAN);
        without_allocation(|| {
            plan.run(&[3.0], packed, Epilogue::new(), &mut scratch, &mut y).unwrap();
        });
        // The first tap and the last one are left out.
        let expected = |at| if at == 100 { 6.0 } else { 0.0 };
        assert!(y.iter().enumerate().all(|(at, y)| *y == expected(at)));
    }
}

#[test]
fn nothing_is_allocated_in_one_transposed_call() {
    let mut y = [f32::NAN; UP_PLANES.output_len()];
    let (shape, weight_shape) = ([1, CHANNELS, 6, 7], [CHANNELS, CHANNELS, 3, 3]);
    let (ones, twos, zeros) = ([1; 2], [2; 2], [0; 2]);
    let bias = Some(&BIAS[..]);
    let mut call = |groups| {
        without_allocation(|| {
            conv_transpose2d(
                shape,
                &X,
                weight_shape,
                &WEIGHTS,
                bias,
                twos,
                ones,
                zeros,
                groups,
                ones,
                &mut y,
            )
        })
    };
    assert_eq!(call(3).unwrap_err().field(), Field::Groups);
    assert_eq!(call(1), Ok([1, CHANNELS, 11, 13]));
    let one_tap = 0.5 + 0.25 * CHANNELS as f32;
    assert_eq!(y[0], one_tap);
}

const DEFORM: DeformPlan = {
    let layer = DeformConv2d::new(CHANNELS, CHANNELS, [3, 3]).padding([1, 1]).modulated();
    match layer.plan(Layout::Nchw, 1, [6, 7]) {
        Ok(plan) => plan,
        Err(error) => error.panic(),
    }
};
static OFFSETS: [f32; DEFORM.offsets_len()] = [0.0; DEFORM.offsets_len()];
static MASK: [f32; DEFORM.mask_len()] = [1.0; DEFORM.mask_len()];

#[test]
fn a_deformable_layer_allocates_nothing() {
    let mut packed = [0.0; DEFORM.packed_len()];
    let mut scratch = vec![f32::NAN; DEFORM.unpacked().unwrap().scratch_len()];
    let mut y = [f32::NAN; DEFORM.output_len()];
    let packed = DEFORM.pack(&WEIGHTS, &mut packed).unwrap();
    for isa in paths() {
        without_allocation(|| {
            let plan = DEFORM.with_isa(isa).unwrap();
            assert_eq!(plan.scratch_len(), DEFORM.scratch_len());
            let epilogue = Epilogue::new().bias(&BIAS);
            plan.run(&X, &OFFSETS, Some(&MASK), packed, epilogue, &mut scratch, &mut y).unwrap();
            assert_eq!(y[0], corner(&PLANES));
            let plan = plan.unpacked().unwrap();
            let weights = Weights::Unpacked(&WEIGHTS);
            plan.run(&X, &OFFSETS, Some(&MASK), weights, epilogue, &mut scratch, &mut y).unwrap();
            assert_eq!(y[0], corner(&PLANES));
            let mut job = plan.job(&X, &OFFSETS, Some(&MASK), weights, epilogue, &mut y).unwrap();
            job.tiles(3).for_each(|tile| tile.run(&mut scratch).unwrap());
        });
    }
}

const SEPARABLE: SeparablePlan = {
    let block = Separable2d::new(CONV.groups(CHANNELS), Conv2d::new(CHANNELS, 3, [1, 1]));
    let plan = match block.plan(Layout::Nchw, 1, [6, 7]) {
        Ok(plan) => plan.assume_caches(1 << 10, 1 << 11),
        Err(error) => error.panic(),
    };
    match plan {
        Ok(plan) => plan,
        Err(error) => error.panic(),
    }
};

/// A depthwise layer and a pointwise one: the buffer between them has no row more than it needs.
#[test]
fn one_pass() {
    let mut packed = [0.0; SEPARABLE.depthwise_packed_len()];
    let mut pointwise_packed = [0.0; SEPARABLE.pointwise_packed_len()];
    let mut scratch = [0.0; SEPARABLE.scratch_len()];
    let mut y = [0.0; SEPARABLE.output_len()];
    const { assert!(SEPARABLE.pixels_in_buffer() < 6 * 7) };
    for isa in paths() {
        without_allocation(|| {
            let plan = SEPARABLE.with_isa(isa).unwrap();
            let w = plan.pack_depthwise(&[0.25; 9 * CHANNELS], &mut packed).unwrap();
            let v = plan.pack_pointwise(&[0.5; 3 * CHANNELS], &mut pointwise_packed).unwrap();
            let (start, end) = (Epilogue::new().bias(&BIAS), Epilogue::new());
            plan.run(&X, w, start, v, end, &mut scratch, &mut y).unwrap();
            assert_eq!(y[0], CHANNELS as f32 * 0.5 * (4.0 * 0.25 + 0.5));
            y.fill(0.0);
            for tile in plan.job(&X, w, start, v, end, &mut y).unwrap().tiles(2) {
                tile.run(&mut scratch).unwrap();
            }
            assert_eq!(y[0], CHANNELS as f32 * 0.5 * (4.0 * 0.25 + 0.5));
        });
    }
}

#[test]
fn outputs_need_not_be_initialised() {
    let mut buffers = BUFFERS.lock().unwrap();
    let Buffers { packed, scratch, .. } = &mut *buffers;
    for plan in PLANS {
        let packed = plan.pack(&WEIGHTS[..plan.weights_len()], packed).unwrap();
        let mut y = [MaybeUninit::<f32>::uninit(); DENSE.output_len()];
        without_allocation(|| {
            plan.run(&X, packed, Epilogue::new().bias(&BIAS), scratch, &mut y).unwrap();
        });
        // SAFETY: the run has initialised every element, the strides being dense.
        let y = y.map(|value| unsafe { value.assume_init() });
        assert_eq!(y[0], corner(&plan));
        let inner = 0.5 + 0.25 * 9.0 * (plan.weights_len() / CHANNELS / 9) as f32;
        assert!(
            y.contains(&inner) && y.iter().all(|value| (corner(&plan)..=inner).contains(value))
        );
    }
}

/// They are constants; a plan for another path has them, too.
#[test]
fn sizes_do_not_depend_on_the_path() {
    for plan in PLANS {
        let sizes = |plan: &Plan| {
            [
                plan.input_len(),
                plan.output_len(),
                plan.weights_len(),
                plan.packed_len(),
                plan.scratch_len(),
                unpacked(*plan).scratch_len(),
            ]
        };
        for isa in paths() {
            let on_path = plan.with_isa(isa).unwrap();
            assert_eq!(on_path.isa(), isa);
            assert_eq!(sizes(&on_path), sizes(&plan));
            let in_segments = on_path.assume_caches(512, 512).unwrap();
            assert_eq!(sizes(&in_segments), sizes(&plan.assume_caches(512, 512).unwrap()));
        }
    }
}
