//! The golden cases of the operators beside the ordinary convolution, by plain loops in `f64`,
//! written from PyTorch's documentation: they give what is stored (`check_sums`). What the crate
//! gives is compared with both (`check`): bits where data are integers, and otherwise within what
//! the magnitudes that a loop adds up allow.

#[path = "support/deform.rs"]
mod deformable;
#[path = "support/family.rs"]
mod family;
mod support;

use deformable::deform;
use family::{ActivationCase, Case, Operator, PaddingMode, Sum, cases, family};
use support::{Layer, POISON, from_layout, last_axes, paths, run, to_layout};
use tapwise::{
    Conv, Conv2d, Correlation, CorrelationPlan, Epilogue, Fold2d, Kernel, Layout, Plan,
    Separable2d, Unfold2d, Weights,
};

/// All places of a volume, the last axis fastest.
fn places([depth, height, width]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..depth).flat_map(move |d| (0..height).flat_map(move |h| (0..width).map(move |w| [d, h, w])))
}

/// Where a place is in memory.
fn flat(size: [usize; 3], [d, h, w]: [usize; 3]) -> usize {
    (d * size[1] + h) * size[2] + w
}

/// Where a tap of an output reads.
fn reads(layer: &Layer, output: [usize; 3], tap: [usize; 3]) -> [isize; 3] {
    std::array::from_fn(|axis| {
        let padded = output[axis] * layer.stride[axis] + tap[axis] * layer.dilation[axis];
        padded as isize - layer.before[axis] as isize
    })
}

/// The place, if it lies inside.
fn inside(size: [usize; 3], place: [isize; 3]) -> Option<[usize; 3]> {
    let within = (0..3).all(|axis| (0..size[axis] as isize).contains(&place[axis]));
    within.then(|| place.map(|coordinate| coordinate as usize))
}

/// The element of a plane of the input, 0 outside.
fn padded(layer: &Layer, x: &[f32], plane: usize, place: [isize; 3]) -> f64 {
    inside(layer.size, place)
        .map_or(0.0, |place| f64::from(x[plane * layer.pixels_in() + flat(layer.size, place)]))
}

/// The sums over windows: `read` gives the element of a plane of the input at any place, `weight`
/// that of an image, an output channel, an input channel of its group and a tap.
fn windows(
    case: &Case,
    read: impl Fn(usize, [isize; 3]) -> f64,
    weight: impl Fn([usize; 3], [usize; 3]) -> f32,
) -> Vec<Sum> {
    let layer = &case.layer;
    let bias = case.bias();
    let in_per_group = layer.in_channels / layer.groups;
    let mut sums = Vec::new();
    for image in 0..layer.batch {
        for (out, bias) in bias.iter().enumerate() {
            let group = out / (layer.out_channels / layer.groups);
            for place in places(case.out_size) {
                let mut sum = Sum::of(f64::from(*bias));
                for channel in 0..in_per_group {
                    let plane = image * layer.in_channels + group * in_per_group + channel;
                    for tap in places(layer.kernel) {
                        let weight = f64::from(weight([image, out, channel], tap));
                        sum.add(read(plane, reads(layer, place, tap)) * weight);
                    }
                }
                sums.push(sum);
            }
        }
    }
    sums
}

/// Where the weight of an output channel, an input channel of its group and a tap lies.
fn filter(case: &Case, [out, channel]: [usize; 2], tap: [usize; 3]) -> usize {
    let in_per_group = case.layer.in_channels / case.layer.groups;
    (out * in_per_group + channel) * case.taps() + flat(case.layer.kernel, tap)
}

/// Each element of the input, times the window, is added to the output: a stride apart.
fn conv_transpose(case: &Case) -> Vec<Sum> {
    let layer = &case.layer;
    let (x, w, bias) = (case.input(), case.weights(), case.bias());
    let out_per_group = layer.out_channels / layer.groups;
    let pixels = case.places();
    let output = |index| Sum::of(f64::from(bias[index / pixels % layer.out_channels]));
    let mut sums: Vec<Sum> = (0..case.output_len()).map(output).collect();
    for plane in 0..layer.batch * layer.in_channels {
        let (image, channel) = (plane / layer.in_channels, plane % layer.in_channels);
        let group = channel / (layer.in_channels / layer.groups);
        for place in places(layer.size) {
            let x = f64::from(x[plane * layer.pixels_in() + flat(layer.size, place)]);
            for tap in places(layer.kernel) {
                // What a convolution that reads at `place` writes here.
                let Some(at) = inside(case.out_size, reads(layer, place, tap)) else { continue };
                for out in 0..out_per_group {
                    let filter = channel * out_per_group + out;
                    let weight = w[filter * case.taps() + flat(layer.kernel, tap)];
                    let out = image * layer.out_channels + group * out_per_group + out;
                    sums[out * pixels + flat(case.out_size, at)].add(x * f64::from(weight));
                }
            }
        }
    }
    sums
}

/// The first weight of the window meets the last element.
fn flipped(case: &Case) -> Vec<Sum> {
    let (x, w) = (case.input(), case.weights());
    let read = |plane, place| padded(&case.layer, &x, plane, place);
    windows(case, read, |[_, out, channel], tap| {
        let turned = std::array::from_fn(|axis| case.layer.kernel[axis] - 1 - tap[axis]);
        w[filter(case, [out, channel], turned)]
    })
}

/// Each image has weights of its own.
fn correlation(case: &Case) -> Vec<Sum> {
    let (x, w) = (case.input(), case.weights());
    let read = |plane, place| padded(&case.layer, &x, plane, place);
    windows(case, read, |[image, out, channel], tap| {
        w[filter(case, [image * case.layer.out_channels + out, channel], tap)]
    })
}

/// Places outside stand for others.
fn padding_mode(case: &Case, mode: PaddingMode) -> Vec<Sum> {
    let layer = &case.layer;
    let (x, w) = (case.input(), case.weights());
    let read = |plane, place: [isize; 3]| {
        let place = std::array::from_fn(|axis| {
            let (at, last) = (place[axis], layer.size[axis] as isize - 1);
            match mode {
                PaddingMode::Reflect if at > last => 2 * last - at,
                PaddingMode::Reflect => at.abs(),
                PaddingMode::Replicate => at.clamp(0, last),
                PaddingMode::Circular => at.rem_euclid(last + 1),
            }
        });
        assert!(inside(layer.size, place).is_some(), "{}: {place:?}", case.name);
        padded(layer, &x, plane, place)
    };
    windows(case, read, |[_, out, channel], tap| w[filter(case, [out, channel], tap)])
}

/// ReLU of the pointwise layer on ReLU6 of the depthwise one.
fn separable(case: &Case) -> Vec<Sum> {
    let (x, w) = (case.input(), case.weights());
    let (pointwise, bias) = (case.pointwise_weights(), case.pointwise_bias());
    let read = |plane, place| padded(&case.layer, &x, plane, place);
    let middle = windows(case, read, |[_, out, _], tap| w[filter(case, [out, 0], tap)]);
    let (channels, pixels) = (case.layer.out_channels, case.places());
    let mut sums = Vec::new();
    for image in middle.chunks(channels * pixels) {
        for (filter, bias) in pointwise.chunks(channels).zip(&bias) {
            for pixel in 0..pixels {
                let mut sum = Sum::of(f64::from(*bias));
                for (weight, middle) in filter.iter().zip(image.chunks(pixels)) {
                    let Sum { value, magnitude } = middle[pixel];
                    sum.value += f64::from(*weight) * value.clamp(0.0, 6.0);
                    sum.magnitude += f64::from(*weight).abs() * magnitude;
                }
                sums.push(Sum { value: sum.value.max(0.0), ..sum });
            }
        }
    }
    sums
}

/// Windows read between elements, each tap where its offset says.
fn deform_conv(case: &Case, offset_groups: usize) -> Vec<Sum> {
    let layer = &case.layer;
    let (x, w, offsets, mask) = (case.input(), case.weights(), case.offsets(), case.mask());
    let bias = case.bias();
    let [ins, outs] = [layer.in_channels, layer.out_channels].map(|all| all / layer.groups);
    let pixels = case.places();
    let mut sums = Vec::new();
    for image in 0..layer.batch {
        for (out, bias) in bias.iter().enumerate() {
            for place in places(case.out_size) {
                let mut sum = Sum::of(f64::from(*bias));
                for channel in 0..ins {
                    let in_channel = out / outs * ins + channel;
                    let plane = (image * ins * layer.groups + in_channel) * layer.pixels_in();
                    let offset_group = in_channel / (layer.in_channels / offset_groups);
                    for (number, tap) in places(layer.kernel).enumerate() {
                        let set = (image * offset_groups + offset_group) * case.taps() + number;
                        let at = flat(case.out_size, place);
                        let offset = |axis| f64::from(offsets[(2 * set + axis) * pixels + at]);
                        let [_, y, x_] = reads(layer, place, tap);
                        let [y, x_] = [y as f64 + offset(0), x_ as f64 + offset(1)];
                        let sample = bilinear(layer, &x[plane..][..layer.pixels_in()], y, x_);
                        let mask = mask.as_ref().map_or(1.0, |mask| mask[set * pixels + at]);
                        let weight = f64::from(w[filter(case, [out, channel], tap)]);
                        sum.value += sample.value * f64::from(mask) * weight;
                        sum.magnitude += sample.magnitude * f64::from(mask) * weight.abs();
                    }
                }
                sums.push(sum);
            }
        }
    }
    sums
}

/// torchvision's sample: 0 from a whole element outside on; corners outside are 0. What a position
/// that is rounded changes counts to the magnitude.
fn bilinear(layer: &Layer, plane: &[f32], y: f64, x: f64) -> Sum {
    let [_, height, width] = layer.size;
    let mut sum = Sum::default();
    if y <= -1.0 || y >= height as f64 || x <= -1.0 || x >= width as f64 {
        return sum;
    }
    for [row, column] in [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] {
        let (top, left) = (y.floor() + row, x.floor() + column);
        let Some(place) = inside(layer.size, [0, top as isize, left as isize]) else { continue };
        let value = f64::from(plane[flat(layer.size, place)]);
        let [in_y, in_x] = [1.0 - (y - top).abs(), 1.0 - (x - left).abs()];
        sum.add(in_y * in_x * value);
        sum.magnitude += (y.abs() * in_x + x.abs() * in_y) * value.abs();
    }
    sum
}

/// Calls `visit` with the places of an image's element and of its copy among the blocks: a row of
/// the blocks for each channel and tap.
fn copies(case: &Case, mut visit: impl FnMut(usize, usize)) {
    let layer = &case.layer;
    for plane in 0..layer.batch * layer.in_channels {
        for (number, tap) in places(layer.kernel).enumerate() {
            for block in places(case.out_size) {
                let Some(place) = inside(layer.size, reads(layer, block, tap)) else { continue };
                let row = plane * case.taps() + number;
                visit(
                    plane * layer.pixels_in() + flat(layer.size, place),
                    row * case.places() + flat(case.out_size, block),
                );
            }
        }
    }
}

fn unfold(case: &Case) -> Vec<Sum> {
    let (x, mut sums) = (case.input(), vec![Sum::default(); case.output_len()]);
    copies(case, |image, blocks| sums[blocks] = Sum::of(f64::from(x[image])));
    sums
}

fn fold(case: &Case) -> Vec<Sum> {
    let (x, mut sums) = (case.input(), vec![Sum::default(); case.output_len()]);
    copies(case, |image, blocks| sums[image].add(f64::from(x[blocks])));
    sums
}

/// By PyTorch's formulas, without their cancellation.
fn activation(function: &str, parameter: f64, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match function {
        "sigmoid" => sigmoid(x),
        "tanh" => x.tanh(),
        "silu" => x * sigmoid(x),
        "gelu" => 0.5 * x * erfc(-x / 2.0_f64.sqrt()),
        "gelu_tanh" => {
            // (1 + tanh(u)) / 2 is the sigmoid of 2 u.
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x * sigmoid(2.0 * u)
        }
        "elu" if x <= 0.0 => parameter * x.exp_m1(),
        "prelu" if x <= 0.0 => parameter * x,
        "elu" | "prelu" => x,
        "hardsigmoid" => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        "hardswish" => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        _ => panic!("activation {function}"),
    }
}

/// 1 - erf(x): the power series of erf near 0, the continued fraction of erfc beyond.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let root = std::f64::consts::PI.sqrt();
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - 2.0 / root * sum;
    }
    let below = (1..100).rev().fold(x, |below, n| x + f64::from(n) / 2.0 / below);
    (-x * x).exp() / root / below
}

/// Compares what the layer of a case gives: in both layouts, on all paths, with packed and with
/// unpacked weights.
#[track_caller]
fn check_layer(case: &Case, sums: &[Sum]) {
    let layer = &case.layer;
    let (w, bias) = (case.weights(), case.bias());
    let epilogue = Epilogue::new().bias(&bias);
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let x = to_layout(layout, &case.input(), layer.in_channels, layer.pixels_in());
        let check = |y: &[f32]| {
            case.check(&from_layout(layout, y, layer.out_channels, layer.pixels_out()), sums);
        };
        for isa in paths() {
            let plan = layer.plan(layout).unwrap().with_isa(isa).unwrap();
            check(&run(&plan, &x, &w, epilogue));
            let plan = plan.unpacked().unwrap();
            let mut y = vec![POISON; plan.output_len()];
            let mut scratch = vec![POISON; plan.scratch_len()];
            plan.run(&x, Weights::Unpacked(&w), epilogue, &mut scratch, &mut y).unwrap();
            check(&y);
        }
    }
}

#[test]
fn transposed_convolutions() {
    for case in cases(93, |operator| matches!(operator, Operator::ConvTranspose)) {
        let sums = conv_transpose(&case);
        case.check_sums(&sums);
        check_layer(&case, &sums);
    }
}

/// Also as convolutions with the weights turned around.
#[test]
fn flipped_convolutions() {
    for case in cases(27, |operator| matches!(operator, Operator::Flipped)) {
        let sums = flipped(&case);
        case.check_sums(&sums);
        check_layer(&case, &sums);

        let mut turned = case.weights();
        turned.chunks_mut(case.taps()).for_each(<[f32]>::reverse);
        let plan = Layer { flipped: false, ..case.layer }.plan(Layout::Nchw).unwrap();
        let bias = case.bias();
        case.check(&run(&plan, &case.input(), &turned, Epilogue::new().bias(&bias)), &sums);
    }
}

#[test]
fn deformable_convolutions() {
    for case in cases(51, |operator| matches!(operator, Operator::DeformConv { .. })) {
        let Operator::DeformConv { offset_groups, .. } = case.operator else { continue };
        let sums = deform_conv(&case, offset_groups);
        case.check_sums(&sums);

        let (x, w, offsets, mask) = (case.input(), case.weights(), case.offsets(), case.mask());
        let deform = deform(&case.layer, offset_groups, mask.is_some());
        let Layer { batch, in_channels, out_channels, size: [_, height, width], .. } = case.layer;
        let bias = case.bias();
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let of = |values: &[f32], channels: usize, pixels: usize| {
                to_layout(layout, values, channels, pixels)
            };
            let x = of(&x, in_channels, case.layer.pixels_in());
            let sets = offset_groups * case.taps();
            let offsets = of(&offsets, 2 * sets, case.places());
            let mask = mask.as_ref().map(|mask| of(mask, sets, case.places()));
            let epilogue = Epilogue::new().bias(&bias);
            for isa in paths() {
                let plan = deform.plan(layout, batch, [height, width]).unwrap();
                let plan = plan.with_isa(isa).unwrap();
                let mut packed = vec![POISON; plan.packed_len()];
                let packed = plan.pack(&w, &mut packed).unwrap();
                let mut scratch = vec![POISON; plan.scratch_len()];
                let mut y = vec![POISON; plan.output_len()];
                plan.run(&x, &offsets, mask.as_deref(), packed, epilogue, &mut scratch, &mut y)
                    .unwrap();
                case.check(&from_layout(layout, &y, out_channels, case.places()), &sums);
            }
        }
    }
}

/// Also as a convolution of each image.
#[test]
fn correlations() {
    for case in cases(30, |operator| matches!(operator, Operator::Correlation)) {
        let sums = correlation(&case);
        case.check_sums(&sums);

        let plan = Layer { batch: 1, ..case.layer }.plan(Layout::Nchw).unwrap();
        let (x, w) = (case.input(), case.weights());
        let images = x.chunks(plan.input_len()).zip(w.chunks(plan.weights_len()));
        let y: Vec<f32> = images.flat_map(|(x, w)| run(&plan, x, w, Epilogue::new())).collect();
        case.check(&y, &sums);

        let layer = &case.layer;
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let plan = match layer.rank {
                1 => correlation_plan::<1>(layer, layout),
                2 => correlation_plan::<2>(layer, layout),
                _ => correlation_plan::<3>(layer, layout),
            };
            let channels = layer.out_channels * (layer.in_channels / layer.groups);
            let x = to_layout(layout, &x, layer.in_channels, layer.pixels_in());
            let kernels = to_layout(layout, &w, channels, case.taps());
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let mut y = vec![POISON; plan.output_len()];
                let mut scratch = vec![POISON; plan.scratch_len()];
                plan.run(&x, &kernels, Epilogue::new(), &mut scratch, &mut y).unwrap();
                case.check(&from_layout(layout, &y, layer.out_channels, layer.pixels_out()), &sums);
            }
        }
    }
}

fn correlation_plan<const D: usize>(layer: &Layer, layout: Layout) -> CorrelationPlan {
    let axes = last_axes::<D>;
    Correlation::<D>::new(layer.in_channels, layer.out_channels, axes(layer.kernel))
        .stride(axes(layer.stride))
        .padding_sides(axes(layer.before), axes(layer.after))
        .dilation(axes(layer.dilation))
        .groups(layer.groups)
        .plan(layout, layer.batch, axes(layer.size))
        .unwrap()
}

#[test]
fn padding_modes() {
    for case in cases(63, |operator| matches!(operator, Operator::PaddingMode(_))) {
        let Operator::PaddingMode(mode) = case.operator else { continue };
        let sums = padding_mode(&case, mode);
        case.check_sums(&sums);

        let layer = &case.layer;
        let bias = case.bias();
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let plan = match layer.rank {
                1 => padded_plan::<1>(layer, mode, layout),
                2 => padded_plan::<2>(layer, mode, layout),
                _ => padded_plan::<3>(layer, mode, layout),
            };
            let x = to_layout(layout, &case.input(), layer.in_channels, layer.pixels_in());
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let y = run(&plan, &x, &case.weights(), Epilogue::new().bias(&bias));
                case.check(&from_layout(layout, &y, layer.out_channels, layer.pixels_out()), &sums);
            }
        }
    }
}

fn padded_plan<const D: usize>(layer: &Layer, mode: PaddingMode, layout: Layout) -> Plan {
    let axes = last_axes::<D>;
    Conv::<D>::new(layer.in_channels, layer.out_channels, axes(layer.kernel))
        .stride(axes(layer.stride))
        .padding_sides(axes(layer.before), axes(layer.after))
        .padding_mode(match mode {
            PaddingMode::Reflect => tapwise::PaddingMode::Reflect,
            PaddingMode::Replicate => tapwise::PaddingMode::Replicate,
            PaddingMode::Circular => tapwise::PaddingMode::Circular,
        })
        .dilation(axes(layer.dilation))
        .groups(layer.groups)
        .plan(layout, layer.batch, axes(layer.size))
        .unwrap()
}

#[test]
fn unfoldings() {
    for case in cases(11, |operator| matches!(operator, Operator::Unfold)) {
        let sums = unfold(&case);
        case.check_sums(&sums);

        let layer = &case.layer;
        assert_eq!(layer.before, layer.after);
        let described = Unfold2d::new(last_axes(layer.kernel))
            .dilation(last_axes(layer.dilation))
            .padding(last_axes(layer.before))
            .stride(last_axes(layer.stride));
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let size = last_axes(layer.size);
            let plan = described.plan(layout, layer.batch, layer.in_channels, size).unwrap();
            let x = to_layout(layout, &case.input(), layer.in_channels, layer.pixels_in());
            let mut y = vec![POISON; plan.output_len()];
            plan.run(&x, &mut y).unwrap();
            let rows = layer.in_channels * case.taps();
            case.check(&from_layout(layout, &y, rows, case.places()), &sums);
        }
    }
}

#[test]
fn foldings() {
    for case in cases(11, |operator| matches!(operator, Operator::Fold)) {
        let sums = fold(&case);
        case.check_sums(&sums);

        let layer = &case.layer;
        assert_eq!(layer.before, layer.after);
        let described = Fold2d::new(last_axes(layer.kernel))
            .dilation(last_axes(layer.dilation))
            .padding(last_axes(layer.before))
            .stride(last_axes(layer.stride));
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let size = last_axes(layer.size);
            let plan = described.plan(layout, layer.batch, layer.in_channels, size).unwrap();
            let rows = layer.in_channels * case.taps();
            let x = to_layout(layout, &case.input(), rows, case.places());
            let mut y = vec![POISON; plan.output_len()];
            plan.run(&x, &mut y).unwrap();
            case.check(&from_layout(layout, &y, layer.in_channels, layer.pixels_in()), &sums);
        }
    }
}

/// Also as two convolutions, and in one pass.
#[test]
fn separable_convolutions() {
    for case in cases(10, |operator| matches!(operator, Operator::Separable { .. })) {
        let sums = separable(&case);
        case.check_sums(&sums);

        let Operator::Separable { out_channels, .. } = case.operator else { continue };
        let (batch, out_size) = (case.layer.batch, case.out_size);
        let pointwise = Layer::new(2, [case.layer.out_channels, out_channels], out_size, [1; 3]);
        let plans = [case.layer, Layer { batch, ..pointwise }];
        let [depthwise, pointwise] = plans.map(|layer| layer.plan(Layout::Nchw).unwrap());
        let (bias, pointwise_bias) = (case.bias(), case.pointwise_bias());
        let epilogue = Epilogue::new().bias(&bias).relu6();
        let middle = run(&depthwise, &case.input(), &case.weights(), epilogue);
        let end = Epilogue::new().bias(&pointwise_bias).relu();
        case.check(&run(&pointwise, &middle, &case.pointwise_weights(), end), &sums);

        for layout in [Layout::Nchw, Layout::Nhwc] {
            for caches in [[32 << 10, 1 << 20], [1 << 10, 1 << 10]] {
                case.check(&in_one_pass(&case, out_channels, layout, caches), &sums);
            }
        }
    }
}

/// The output in PyTorch's order, on the path that is taken here.
fn in_one_pass(case: &Case, out_channels: usize, layout: Layout, [l1, l2]: [usize; 2]) -> Vec<f32> {
    let layer = &case.layer;
    let depthwise = Conv2d::new(layer.in_channels, layer.out_channels, last_axes(layer.kernel))
        .stride(last_axes(layer.stride))
        .padding_sides(last_axes(layer.before), last_axes(layer.after))
        .dilation(last_axes(layer.dilation))
        .groups(layer.groups);
    let pointwise = Conv2d::new(layer.out_channels, out_channels, [1, 1]);
    let plan = Separable2d::new(depthwise, pointwise);
    let plan = plan.plan(layout, layer.batch, last_axes(layer.size)).unwrap();
    let plan = plan.assume_caches(l1, l2).unwrap();
    let x = to_layout(layout, &case.input(), layer.in_channels, layer.pixels_in());
    let [mut packed, mut pointwise_packed] =
        [plan.depthwise_packed_len(), plan.pointwise_packed_len()].map(|len| vec![POISON; len]);
    let w = plan.pack_depthwise(&case.weights(), &mut packed).unwrap();
    let v = plan.pack_pointwise(&case.pointwise_weights(), &mut pointwise_packed).unwrap();
    let (bias, pointwise_bias) = (case.bias(), case.pointwise_bias());
    let (start, end) = (Epilogue::new().bias(&bias).relu6(), Epilogue::new().relu());
    let end = end.bias(&pointwise_bias);
    let mut scratch = vec![POISON; plan.scratch_len()];
    let mut y = vec![POISON; plan.output_len()];
    plan.run(&x, w, start, v, end, &mut scratch, &mut y).unwrap();
    from_layout(layout, &y, out_channels, case.places())
}

#[test]
fn activations() {
    let (_, activations) = family();
    assert_eq!(activations.len(), 11);
    for ActivationCase { name, function, parameter, inputs, expected, torch } in &activations {
        for (at, (x, expected)) in inputs.iter().zip(expected).enumerate() {
            let exact = activation(function, f64::from(*parameter), f64::from(*x));
            let same = near(exact as f32, *expected, f64::from(f32::EPSILON));
            assert!(same, "{name}({x:e}) = {exact:e}, stored {expected:e}");
            let Some(torch) = torch.get(at) else { continue };
            // PyTorch multiplies before it divides.
            let overflows = x.abs() == f32::MAX && torch.is_infinite();
            let same = overflows || near(*torch, *expected, 4.0 * f64::from(f32::EPSILON));
            assert!(same, "{name}({x:e}) = {expected:e}, PyTorch {torch:e}");
        }
    }
}

/// The epilogue of PyTorch's function.
fn epilogue<'a>(function: &str, parameter: &'a f32) -> Epilogue<'a> {
    let none = Epilogue::new();
    match function {
        "sigmoid" => none.sigmoid(),
        "tanh" => none.tanh(),
        "silu" => none.silu(),
        "gelu" => none.gelu(),
        "gelu_tanh" => none.gelu_tanh(),
        "elu" => none.elu(*parameter),
        "prelu" => none.prelu(std::slice::from_ref(parameter)),
        "hardsigmoid" => none.hard_sigmoid(),
        "hardswish" => none.hard_swish(),
        _ => panic!("activation {function}"),
    }
}

/// Layers that copy their input, by every kernel that can run them, end in what is stored: within the
/// errors of `numerics`, which for GELU are those of `x`, and half of one for its being rounded.
#[test]
fn activations_of_outputs() {
    let (_, activations) = family();
    let mut compared = 0;
    for ActivationCase { name, function, parameter, inputs, expected, torch } in &activations {
        let epilogue = epilogue(function, parameter);
        let (ulps, of_x) = if function.starts_with("gelu") { (4.0, true) } else { (2.0, false) };
        for channels in [1, 3] {
            let pixels = inputs.len() / channels;
            assert_eq!(channels * pixels, inputs.len());
            let layer = Layer::new(1, [channels; 2], [1, 1, pixels], [1; 3]);
            let layer = Layer { groups: channels, ..layer };
            for layout in [Layout::Nchw, Layout::Nhwc] {
                let x = to_layout(layout, inputs, channels, pixels);
                let plan = layer.plan(layout).unwrap();
                let of = |kernel| plan.with_kernel(kernel).ok();
                for (plan, isa) in Kernel::ALL
                    .into_iter()
                    .filter_map(of)
                    .flat_map(|plan| paths().into_iter().map(move |isa| (plan, isa)))
                {
                    let plan = plan.with_isa(isa).unwrap();
                    let y = run(&plan, &x, &vec![1.0; channels], epilogue);
                    let y = from_layout(layout, &y, channels, pixels);
                    for (at, (x, y)) in inputs.iter().zip(&y).enumerate() {
                        let (y, exact) = (f64::from(*y), f64::from(expected[at]));
                        let unit = if of_x { ulp(f64::from(*x)) } else { ulp(exact) };
                        let near = (y - exact).abs() <= (ulps + 0.5) * unit;
                        let same = y == exact || y.is_nan() && exact.is_nan();
                        // As PyTorch's, which multiplies before it divides.
                        let as_torch = torch.get(at).is_some_and(|torch| {
                            x.abs() == f32::MAX && torch.is_infinite() && y == f64::from(*torch)
                        });
                        let kernel = plan.kernel_name();
                        assert!(
                            same || near || as_torch,
                            "{name}({x:e}) = {y:e} by {kernel} on {}, expected {exact:e}",
                            isa.name(),
                        );
                        compared += 1;
                    }
                }
            }
        }
    }
    // By three kernels at least, in both layouts, on two paths.
    assert!(compared >= 11 * 159 * 2 * 6 * 2, "{compared}");
}

/// The distance of neighbours among `f32` of the size of `y`.
fn ulp(y: f64) -> f64 {
    let exponent = (y.abs().to_bits() >> 52) as i32 - 1023;
    f64::from_bits(((exponent.max(-126) - 23 + 1023) as u64) << 52)
}

/// The same NaN, infinity or zero, or nearly the same number.
fn near(a: f32, b: f32, tolerance: f64) -> bool {
    if a.is_nan() || b.is_nan() || a.is_infinite() || b.is_infinite() {
        return a.is_nan() && b.is_nan() || a == b;
    }
    let least = f64::from(f32::from_bits(1)); // of subnormal numbers
    let distance = (f64::from(a) - f64::from(b)).abs();
    a.is_sign_negative() == b.is_sign_negative()
        && distance <= least + tolerance * f64::from(b).abs()
}
