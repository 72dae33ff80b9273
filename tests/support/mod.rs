//! What several tests share: layers of any rank, data by a formula, the paths of this machine.

#![allow(dead_code)] // each test uses a part

pub mod case;
pub mod choices;
pub mod layers;
pub mod values;

use std::io::Write;
use std::sync::LazyLock;
use tapwise::{Activation, Conv, ConvTranspose, Epilogue, Error, Isa, Layout, PaddingMode, Plan};

/// What outputs hold before a call: a NaN that no run writes.
pub const POISON: f32 = f32::from_bits(0x7fe1_2345);

/// A layer on an input. A layer of fewer than three dimensions uses the last entries of arrays.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    pub rank: usize,
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub size: [usize; 3],
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub dilation: [usize; 3],
    pub before: [usize; 3],
    pub after: [usize; 3],
    /// Of a convolution.
    pub padding_mode: PaddingMode,
    pub transposed: bool,
    /// Outputs behind the last one, of a transposed convolution.
    pub output_padding: [usize; 3],
    pub flipped: bool,
}

impl Layer {
    /// One image, one group, stride 1, no padding.
    pub fn new(rank: usize, channels: [usize; 2], size: [usize; 3], kernel: [usize; 3]) -> Self {
        let [in_channels, out_channels] = channels;
        Layer {
            rank,
            batch: 1,
            in_channels,
            out_channels,
            groups: 1,
            size,
            kernel,
            stride: [1; 3],
            dilation: [1; 3],
            before: [0; 3],
            after: [0; 3],
            padding_mode: PaddingMode::Zeros,
            transposed: false,
            output_padding: [0; 3],
            flipped: false,
        }
    }

    pub fn plan(&self, layout: Layout) -> Result<Plan, Error> {
        match self.rank {
            1 => self.plan_of_rank::<1>(layout),
            2 => self.plan_of_rank::<2>(layout),
            _ => self.plan_of_rank::<3>(layout),
        }
    }

    fn plan_of_rank<const D: usize>(&self, layout: Layout) -> Result<Plan, Error> {
        let axes = last_axes::<D>;
        if self.transposed {
            let layer =
                ConvTranspose::<D>::new(self.in_channels, self.out_channels, axes(self.kernel))
                    .stride(axes(self.stride))
                    .padding_sides(axes(self.before), axes(self.after))
                    .output_padding(axes(self.output_padding))
                    .dilation(axes(self.dilation))
                    .groups(self.groups);
            let layer = if self.flipped { layer.flipped() } else { layer };
            return layer.plan(layout, self.batch, axes(self.size));
        }
        let layer = Conv::<D>::new(self.in_channels, self.out_channels, axes(self.kernel))
            .stride(axes(self.stride))
            .padding_sides(axes(self.before), axes(self.after))
            .padding_mode(self.padding_mode)
            .dilation(axes(self.dilation))
            .groups(self.groups);
        let layer = if self.flipped { layer.flipped() } else { layer };
        layer.plan(layout, self.batch, axes(self.size))
    }

    /// The size of the output, by the formula of PyTorch's documentation.
    pub fn output(&self) -> [usize; 3] {
        std::array::from_fn(|axis| {
            let window = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            if self.transposed {
                let spread = (self.size[axis] - 1) * self.stride[axis] + window;
                return spread + self.output_padding[axis] - self.before[axis] - self.after[axis];
            }
            let padded = self.size[axis] + self.before[axis] + self.after[axis];
            (padded - window) / self.stride[axis] + 1
        })
    }

    pub fn pixels_in(&self) -> usize {
        self.size.iter().product()
    }

    pub fn pixels_out(&self) -> usize {
        self.output().iter().product()
    }

    /// Calls `visit` with the flat places in x and w, in PyTorch's order, that an output sums up, if
    /// padding is zeros.
    pub fn visit_taps(
        &self,
        image: usize,
        out_channel: usize,
        at: [usize; 3],
        mut visit: impl FnMut(usize, usize),
    ) {
        let in_per_group = self.in_channels / self.groups;
        let out_per_group = self.out_channels / self.groups;
        let group = out_channel / out_per_group;
        let coordinate = |axis: usize, tap: usize| {
            if self.transposed {
                let spread =
                    (at[axis] + self.before[axis]).checked_sub(tap * self.dilation[axis])?;
                let place = spread / self.stride[axis];
                return Some(place)
                    .filter(|_| spread % self.stride[axis] == 0 && place < self.size[axis]);
            }
            let padded = at[axis] * self.stride[axis] + tap * self.dilation[axis];
            padded.checked_sub(self.before[axis]).filter(|place| *place < self.size[axis])
        };
        let [depth, height, width] = self.kernel;
        for channel in 0..in_per_group {
            let plane = image * self.in_channels + group * in_per_group + channel;
            let filter = if self.transposed {
                (group * in_per_group + channel) * out_per_group + out_channel % out_per_group
            } else {
                out_channel * in_per_group + channel
            };
            let taps = depth * height * width;
            for kd in 0..depth {
                let Some(d) = coordinate(0, kd) else { continue };
                for kh in 0..height {
                    let Some(h) = coordinate(1, kh) else { continue };
                    for kw in 0..width {
                        let Some(w) = coordinate(2, kw) else { continue };
                        let tap = (kd * height + kh) * width + kw;
                        visit(
                            ((plane * self.size[0] + d) * self.size[1] + h) * self.size[2] + w,
                            filter * taps + if self.flipped { taps - 1 - tap } else { tap },
                        );
                    }
                }
            }
        }
    }

    /// The image, channel and coordinates of an element of the output in PyTorch's order.
    pub fn output_place(&self, element: usize) -> (usize, usize, [usize; 3]) {
        let [depth, height, width] = self.output();
        let (row, w) = (element / width, element % width);
        let (plane, h) = (row / height, row % height);
        let (volume, d) = (plane / depth, plane % depth);
        (volume / self.out_channels, volume % self.out_channels, [d, h, w])
    }
}

/// How the outputs of a call end.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    pub bias: bool,
    pub residual: Residual,
    pub activation: Activation,
}

/// Where a call finds its residual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Residual {
    None,
    Slice,
    Output,
}

impl Ending {
    pub fn epilogue<'a>(&self, bias: &'a [f32], residual: &'a [f32]) -> Epilogue<'a> {
        let mut epilogue = Epilogue::new().activation(self.activation);
        if self.bias {
            epilogue = epilogue.bias(bias);
        }
        match self.residual {
            Residual::None => epilogue,
            Residual::Slice => epilogue.residual(residual),
            Residual::Output => epilogue.residual_from_output(),
        }
    }

    /// What the output holds before a call.
    pub fn before(&self, poison: f32, residual: &[f32]) -> Vec<f32> {
        match self.residual {
            Residual::Output => residual.to_vec(),
            _ => vec![poison; residual.len()],
        }
    }
}

/// The last `D` of three axes.
pub fn last_axes<const D: usize>(all: [usize; 3]) -> [usize; D] {
    std::array::from_fn(|axis| all[3 - D + axis])
}

/// Element `index` of the tensor with that seed, in [-1, 1): the formula of the golden vectors.
pub fn value(index: usize, seed: usize) -> f32 {
    (hash(index, seed) >> 8) as f32 / 8_388_608.0 - 1.0
}

pub fn hash(index: usize, seed: usize) -> u32 {
    let mut h = (index as u32).wrapping_mul(2_654_435_761);
    h = h.wrapping_add((seed as u32).wrapping_mul(40_503)).wrapping_add(12_345);
    h = (h ^ h >> 15).wrapping_mul(2_246_822_519);
    h = (h ^ h >> 13).wrapping_mul(3_266_489_917);
    h ^ h >> 16
}

/// The first `len` elements of the tensor with that seed.
pub fn fill(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|index| value(index, seed)).collect()
}

/// From PyTorch's order to that of the layout.
pub fn to_layout(layout: Layout, values: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    reorder(layout, values, channels, pixels, |tensor, nchw, nhwc| tensor[nhwc] = values[nchw])
}

/// From the order of the layout to PyTorch's.
pub fn from_layout(layout: Layout, values: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    reorder(layout, values, channels, pixels, |tensor, nchw, nhwc| tensor[nchw] = values[nhwc])
}

fn reorder(
    layout: Layout,
    values: &[f32],
    channels: usize,
    pixels: usize,
    copy: impl Fn(&mut [f32], usize, usize),
) -> Vec<f32> {
    let mut tensor = values.to_vec();
    if layout == Layout::Nhwc {
        for image in 0..values.len() / (channels * pixels) {
            for channel in 0..channels {
                for pixel in 0..pixels {
                    let nchw = (image * channels + channel) * pixels + pixel;
                    let nhwc = (image * pixels + pixel) * channels + channel;
                    copy(&mut tensor, nchw, nhwc);
                }
            }
        }
    }
    tensor
}

/// The paths of this machine; the others are named on standard error, once. What a machine can run
/// is asked of the standard library: a path that the library overlooks is a failure, not a skip.
pub fn paths() -> Vec<Isa> {
    static PATHS: LazyLock<Vec<Isa>> = LazyLock::new(|| {
        let mut here = Vec::new();
        for isa in Isa::ALL {
            let name = isa.name();
            let skipped = reason_to_skip(isa);
            let available = isa.is_available();
            assert_eq!(
                available,
                skipped.is_none(),
                "{name} is available: {available}; {skipped:?}"
            );
            match skipped {
                None => here.push(isa),
                Some(reason) => say(&format!("SKIPPED: {reason} {name}")),
            }
        }
        here.extend(Isa::MODELS);
        let names: Vec<&str> = here.iter().map(|isa| isa.name()).collect();
        say(&format!("PATHS: {}", names.join(" "))); // .ci/paths compares them with the machine
        here
    });
    PATHS.clone()
}

/// How many of so many random cases a test takes: all of them, or on machines that are emulated one
/// of as many as `TAPWISE_ONE_OF` says.
pub fn share(cases: usize) -> usize {
    static ONE_OF: LazyLock<usize> = LazyLock::new(|| {
        let one_of = std::env::var("TAPWISE_ONE_OF").map_or(1, |n| n.parse().unwrap());
        if one_of > 1 {
            say(&format!("TAPWISE_ONE_OF={one_of}: one of {one_of} random cases"));
        }
        one_of
    });
    cases.div_ceil(*ONE_OF)
}

/// Why a test cannot run a path, if it cannot.
fn reason_to_skip(isa: Isa) -> Option<&'static str> {
    let (built, machine) = match isa {
        // Where the target has a multiply-add in hardware and no other, the soft one is left out.
        Isa::ScalarSoft => (!cfg!(all(target_arch = "arm", target_abi = "eabihf")), true),
        Isa::Scalar => (true, true),
        Isa::Portable => (
            cfg!(feature = "portable"),
            cfg!(any(target_feature = "sse2", target_feature = "simd128")),
        ),
        Isa::Avx2 => (cfg!(feature = "avx2"), has_avx2()),
        Isa::Avx512 => (cfg!(feature = "avx512"), has_avx2() && has_avx512()),
        Isa::Neon => (
            cfg!(feature = "neon"),
            cfg!(all(target_arch = "aarch64", target_endian = "little", target_feature = "neon")),
        ),
        _ => panic!("which machines and builds have {}?", isa.name()),
    };
    match (built, machine) {
        (true, true) => None,
        (false, _) => Some("this build leaves out"),
        (true, false) => Some("this machine lacks"),
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2") && has!("fma")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

/// Writes to standard error, whether or not the test passes.
pub fn say(text: &str) {
    // The macros would be silenced in a test that passes.
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// Packs and runs, with just as much memory as the plan asks for.
pub fn run(plan: &Plan, x: &[f32], weights: &[f32], epilogue: Epilogue) -> Vec<f32> {
    let mut packed = vec![POISON; plan.packed_len()];
    let mut scratch = vec![POISON; plan.scratch_len()];
    let mut y = vec![POISON; plan.output_len()];
    let packed = plan.pack(weights, &mut packed).unwrap();
    plan.run(x, packed, epilogue, &mut scratch, &mut y).unwrap();
    y
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[track_caller]
pub fn assert_same_bits(found: &[f32], expected: &[f32], what: impl std::fmt::Debug) {
    assert_eq!(found.len(), expected.len(), "{what:?}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits();
        assert!(same, "{what:?}: at {at}: {found:e}, expected {expected:e}");
    }
}
