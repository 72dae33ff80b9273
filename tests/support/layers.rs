//! Layers of every kind, how their outputs end, and where their tensors lie: drawn from choices.

use super::choices::Choices;
use super::{Ending, Layer, Residual};
use tapwise::{Activation, Layout, PaddingMode, Strides};

/// The longest tensor whose elements lie anywhere.
const MOST_ELEMENTS: usize = 1 << 16;

/// Where the elements of input and output lie.
#[derive(Clone, Copy, Debug)]
pub enum Placing {
    Dense,
    /// As the layout has them, with elements left free after each channel, row and so on.
    Gaps(usize),
    /// The same for both layouts.
    Anywhere {
        input: Strides,
        output: Strides,
    },
}

/// A layer that takes a moment to run: all but a few have at most so many multiply-adds, and
/// elements of their input.
pub fn layer(choices: &mut Choices, most: usize) -> Layer {
    match choices.number_in(0..=255) {
        254 => colliding(choices),
        255 => long_rows(choices),
        _ => ordinary(choices, most),
    }
}

/// The same, but never transposed.
pub fn not_transposed(choices: &mut Choices, most: usize) -> Layer {
    let mut layer = layer(choices, most);
    if layer.transposed {
        (layer.transposed, layer.output_padding) = (false, [0; 3]);
        let per_group = [layer.in_channels, layer.out_channels].map(|all| all / layer.groups);
        cut_down(&mut layer, per_group, most);
    }
    layer
}

/// Extents, padding and batch of any kind.
fn ordinary(choices: &mut Choices, most: usize) -> Layer {
    let rank = choices.number_in(1..=3);
    let mut layer = Layer::new(rank, [1; 2], [1; 3], [1; 3]);
    layer.groups = match choices.number_in(0..=7) {
        0..=3 => 1,
        4..=6 => choices.small_in(20),
        _ => choices.choose(&[8, 17, 40]),
    };
    // One channel per group, which is depthwise, is a matter of its own.
    let per_group = [(); 2].map(|()| match choices.number_in(0..=3) {
        0 => 1,
        _ => choices.small_in(70),
    });
    layer.batch = choices.choose(&[1, 1, 1, 2, 2, 3]);
    layer.transposed = choices.number_in(0..=2) == 2;
    layer.flipped = choices.number_in(0..=3) == 3;
    let padded = choices.flag();
    for axis in 3 - rank..3 {
        layer.size[axis] = choices.small_in([100, 50, 40][rank - 1]);
        layer.kernel[axis] = choices.small_in(7);
        layer.stride[axis] = choices.small_in(3);
        layer.dilation[axis] = choices.small_in(3);
        if padded {
            layer.before[axis] = choices.number_in(0..=4);
            layer.after[axis] = choices.number_in(0..=4);
        }
        if layer.transposed {
            let most = layer.stride[axis].max(layer.dilation[axis]) - 1;
            layer.output_padding[axis] = choices.number_in(0..=most);
        }
    }
    cut_down(&mut layer, per_group, most);
    layer
}

/// Planes that are a multiple of 2 KiB: their channels, of which there are enough for kernels to
/// mind, collide in a cache, and are copied.
fn colliding(choices: &mut Choices) -> Layer {
    let channels = [choices.number_in(16..=18), choices.number_in(32..=35)];
    let (size, most_taps) = choices.choose(&[([1, 1, 512], [1, 3]), ([1, 8, 64], [2, 2])]);
    let kernel = [1, choices.number_in(1..=most_taps[0]), choices.number_in(1..=most_taps[1])];
    let mut layer = Layer::new(2, channels, size, kernel);
    layer.batch = choices.choose(&[1, 1, 1, 2]);
    layer.dilation[2] = choices.small_in(3);
    for axis in if size[1] == 1 { 2..3 } else { 1..3 } {
        layer.before[axis] = choices.number_in(0..=2);
        layer.after[axis] = choices.number_in(0..=2);
    }
    layer
}

/// Depthwise, with rows longer than a band.
fn long_rows(choices: &mut Choices) -> Layer {
    let groups = choices.number_in(2..=3);
    let channels = [groups, groups * choices.number_in(1..=2)];
    let size = [1, 1, choices.number_in(65..=299)];
    let mut layer = Layer::new(1, channels, size, [1, 1, choices.number_in(4..=7)]);
    layer.groups = groups;
    layer.batch = choices.number_in(1..=2);
    layer.stride[2] = choices.small_in(3);
    layer.dilation[2] = choices.small_in(3);
    layer.before[2] = choices.number_in(0..=4);
    layer.after[2] = choices.number_in(0..=4);
    layer
}

/// Makes windows fit, and halves what is largest until the layer is small.
fn cut_down(layer: &mut Layer, mut per_group: [usize; 2], most: usize) {
    loop {
        for axis in 0..3 {
            if layer.transposed {
                // Some output has to be left.
                let Layer { size, stride, kernel, dilation, output_padding, .. } = layer;
                let spread = (size[axis] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis];
                let whole = spread + output_padding[axis] + 1;
                layer.before[axis] = layer.before[axis].min(whole - 1);
                layer.after[axis] = layer.after[axis].min(whole - 1 - layer.before[axis]);
                continue;
            }
            fit(layer, axis);
        }
        [layer.in_channels, layer.out_channels] = per_group.map(|n| layer.groups * n);
        let taps: usize = layer.kernel.iter().product();
        let outputs = layer.batch * layer.out_channels * layer.pixels_out();
        let elements = layer.batch * layer.in_channels * layer.pixels_in();
        let macs = if layer.transposed {
            elements * per_group[1] * taps
        } else {
            outputs * per_group[0] * taps
        };
        if macs.max(elements).max(outputs) <= most {
            return;
        }
        let extents = layer.size.iter_mut().chain(&mut layer.kernel);
        let all = extents.chain(&mut per_group).chain([&mut layer.groups]);
        let largest = all.max_by_key(|extent| **extent).unwrap();
        *largest = (*largest / 2).max(1);
    }
}

/// As much padding as the mode has, and a window that fits.
pub fn fit(layer: &mut Layer, axis: usize) {
    let Layer { size, before, after, kernel, dilation, .. } = layer;
    let most = match layer.padding_mode {
        PaddingMode::Reflect => size[axis] - 1,
        PaddingMode::Circular => size[axis],
        _ => usize::MAX,
    };
    before[axis] = before[axis].min(most);
    after[axis] = after[axis].min(most);
    let padded = size[axis] + before[axis] + after[axis];
    kernel[axis] = kernel[axis].min(padded);
    while (kernel[axis] - 1) * dilation[axis] + 1 > padded {
        dilation[axis] -= 1;
    }
}

/// How outputs end.
pub fn ending(choices: &mut Choices) -> Ending {
    let residuals =
        [Residual::None, Residual::None, Residual::None, Residual::Slice, Residual::Output];
    Ending {
        bias: choices.flag(),
        residual: choices.choose(&residuals),
        activation: match choices.number_in(0..=9) {
            0 => Activation::None,
            1 => Activation::Relu,
            2 => Activation::Clamp { lower: 0.0, upper: 6.0 },
            3 => Activation::Clamp { lower: -0.0, upper: f32::INFINITY },
            4 => Activation::Clamp { lower: -0.25, upper: 0.5 },
            5 => Activation::LeakyRelu { slope: 0.01 },
            6 => Activation::LeakyRelu { slope: -2.0 },
            7 => Activation::HardSwish,
            8 => Activation::LeakyRelu { slope: any_number(choices) },
            _ => {
                let (a, b) = (any_number(choices), any_number(choices));
                Activation::Clamp { lower: a.min(b), upper: a.max(b) }
            }
        },
    }
}

/// Anything but NaN.
fn any_number(choices: &mut Choices) -> f32 {
    let any = f32::from_bits(choices.word());
    if any.is_nan() { 0.5 } else { any }
}

/// Bytes of caches to assume: a plan cuts its loops by them.
pub fn caches(choices: &mut Choices) -> [usize; 2] {
    match choices.number_in(0..=5) {
        0 => [32 << 10, 512 << 10],
        1 => [512, 512],
        2 => [512, 8 << 10],
        3 => [4 << 10, 64 << 10],
        _ => [choices.number_in(1..=1 << 16), 1 << choices.number_in(0..=21)],
    }
}

/// Batch, channels, depth, height and width.
pub fn extents(layer: &Layer, channels: usize, [depth, height, width]: [usize; 3]) -> [usize; 5] {
    [layer.batch, channels, depth, height, width]
}

pub fn placing(choices: &mut Choices, layer: &Layer) -> Placing {
    match choices.number_in(0..=7) {
        0..=3 => Placing::Dense,
        4 | 5 => Placing::Gaps(choices.number_in(1..=3)),
        _ => {
            let input = extents(layer, layer.in_channels, layer.size);
            let output = extents(layer, layer.out_channels, layer.output());
            let [inputs, outputs] = [input_strides(choices, input), disjoint(choices, output)];
            let reach = |strides: [usize; 5], extents: [usize; 5]| {
                let dims = strides.iter().zip(extents).filter(|(_, extent)| *extent > 1);
                dims.map(|(stride, extent)| (extent - 1) * stride).sum::<usize>()
            };
            if reach(inputs, input).max(reach(outputs, output)) >= MOST_ELEMENTS {
                return Placing::Gaps(1);
            }
            Placing::Anywhere { input: named(inputs), output: named(outputs) }
        }
    }
}

fn named([batch, channel, depth, row, pixel]: [usize; 5]) -> Strides {
    Strides { batch, channel, depth, row, pixel }
}

/// Strides by which no two elements meet: the dimensions in any order, with gaps.
fn disjoint(choices: &mut Choices, extents: [usize; 5]) -> [usize; 5] {
    let mut order = [4, 3, 2, 1, 0];
    choices.shuffle(&mut order);
    let mut strides = [0; 5];
    let mut reach = 0;
    for dim in order {
        strides[dim] = reach + 1 + choices.choose(&[0, 0, 0, 1, 2, 5]);
        if extents[dim] > 1 {
            reach += (extents[dim] - 1) * strides[dim];
        } else if choices.one_in(4) {
            strides[dim] = choices.choose(&[0, usize::MAX, usize::MAX / 2 + 2]);
        }
    }
    strides
}

/// An input may repeat elements, or have any strides at all.
fn input_strides(choices: &mut Choices, extents: [usize; 5]) -> [usize; 5] {
    if !choices.one_in(4) {
        return disjoint(choices, extents);
    }
    extents.map(|extent| match extent {
        1 => choices.number(),
        _ => choices.number_in(0..=300),
    })
}

/// Strides that leave `gap` elements free after the innermost dimension, twice as many after the
/// next, and so on; with a gap of 3, also between neighbours of the innermost one.
pub fn with_gaps(layout: Layout, channels: usize, size: [usize; 3], gap: usize) -> Strides {
    let [depth, height, width] = size;
    let inner = if gap == 3 { 2 } else { 1 };
    match layout {
        Layout::Nchw => {
            let pixel = inner;
            let row = width * pixel + gap;
            let plane = height * row + gap;
            let channel = depth * plane + 2 * gap;
            Strides { batch: channels * channel + gap, channel, depth: plane, row, pixel }
        }
        Layout::Nhwc => {
            let channel = inner;
            let pixel = channels * channel + gap;
            let row = width * pixel + gap;
            let plane = height * row + gap;
            Strides { batch: depth * plane + 3 * gap, channel, depth: plane, row, pixel }
        }
    }
}

/// The places of a tensor's elements, in PyTorch's order.
pub fn places(extents: [usize; 5], strides: Strides) -> Vec<usize> {
    let Strides { batch, channel, depth, row, pixel } = strides;
    let mut places = vec![0];
    for (extent, stride) in extents.into_iter().zip([batch, channel, depth, row, pixel]) {
        let all = |place: &usize| {
            let place = *place;
            (0..extent).map(move |index| place + index * stride)
        };
        places = places.iter().flat_map(all).collect();
    }
    places
}

/// A tensor of these elements at other places, and [`POISON`](super::POISON) between them.
pub fn placed(values: &[f32], extents: [usize; 5], strides: Strides, len: usize) -> Vec<f32> {
    let mut tensor = vec![super::POISON; len];
    for (value, place) in values.iter().zip(places(extents, strides)) {
        tensor[place] = *value;
    }
    tensor
}
