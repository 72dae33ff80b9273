//! Convolutions whose padding is not zeros: the bits of the plain loops on every path, and of a
//! convolution without padding on an input that was padded first.

mod support;

use support::choices::Choices;
use support::layers::{placed, with_gaps};
use support::values::Values;
use support::{Layer, POISON, Residual, assert_same_bits, layers, paths, share};
use tapwise::{
    Conv, Conv1d, Conv2d, Epilogue, Error, Expected, Field, Found, Kernel, Layout, PaddingMode,
    Plan, Separable2d, Weights, reference,
};

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
const MODES: [PaddingMode; 3] =
    [PaddingMode::Reflect, PaddingMode::Replicate, PaddingMode::Circular];

fn plan_of_rank<const D: usize>(
    layer: &Layer,
    mode: PaddingMode,
    layout: Layout,
) -> Result<Plan, Error> {
    let axes = support::last_axes::<D>;
    let described = Conv::<D>::new(layer.in_channels, layer.out_channels, axes(layer.kernel))
        .stride(axes(layer.stride))
        .padding_sides(axes(layer.before), axes(layer.after))
        .padding_mode(mode)
        .dilation(axes(layer.dilation))
        .groups(layer.groups);
    let described = if layer.flipped { described.flipped() } else { described };
    described.plan(layout, layer.batch, axes(layer.size))
}

fn plan(layer: &Layer, mode: PaddingMode, layout: Layout) -> Plan {
    match layer.rank {
        1 => plan_of_rank::<1>(layer, mode, layout),
        2 => plan_of_rank::<2>(layer, mode, layout),
        _ => plan_of_rank::<3>(layer, mode, layout),
    }
    .unwrap()
}

/// Where the element of a padded axis comes from, by PyTorch's description of the modes.
fn source(mode: PaddingMode, padded: usize, before: usize, size: usize) -> usize {
    let (place, size) = (padded as isize - before as isize, size as isize);
    let source = match mode {
        PaddingMode::Reflect if place < 0 => -place,
        PaddingMode::Reflect if place >= size => size - 1 - (place - (size - 1)),
        PaddingMode::Replicate => place.clamp(0, size - 1),
        PaddingMode::Circular => place.rem_euclid(size),
        _ => place,
    };
    usize::try_from(source).unwrap()
}

/// The input with its padding, in PyTorch's order.
fn padded(layer: &Layer, mode: PaddingMode, x: &[f32]) -> (Layer, Vec<f32>) {
    let mut wider = *layer;
    for axis in 0..3 {
        wider.size[axis] += layer.before[axis] + layer.after[axis];
    }
    (wider.before, wider.after) = ([0; 3], [0; 3]);
    let mut values = Vec::new();
    for plane in x.chunks(layer.pixels_in()) {
        for d in 0..wider.size[0] {
            for h in 0..wider.size[1] {
                for w in 0..wider.size[2] {
                    let of = |axis: usize, place| {
                        source(mode, place, layer.before[axis], layer.size[axis])
                    };
                    let row = of(0, d) * layer.size[1] + of(1, h);
                    values.push(plane[row * layer.size[2] + of(2, w)]);
                }
            }
        }
    }
    (wider, values)
}

#[test]
fn random_layers() {
    let paths = paths();
    let mut ran = [0; 4];
    for case in 0..share(4_000) {
        let bytes: Vec<u8> =
            (0..200).map(|at| (support::hash(at, case + 1_077) >> 9) as u8).collect();
        let mut choices = Choices::new(&bytes);
        let mut layer = layers::layer(&mut choices, 12_000);
        if layer.transposed {
            continue;
        }
        let mode = MODES[case % 3];
        for axis in 0..3 {
            let most = match mode {
                PaddingMode::Reflect => layer.size[axis] - 1,
                PaddingMode::Circular => layer.size[axis],
                _ => 9,
            };
            layer.before[axis] = layer.before[axis].min(most);
            layer.after[axis] = layer.after[axis].min(most);
            let padded = layer.size[axis] + layer.before[axis] + layer.after[axis];
            while (layer.kernel[axis] - 1) * layer.dilation[axis] + 1 > padded {
                if layer.dilation[axis] > 1 {
                    layer.dilation[axis] -= 1;
                } else {
                    layer.kernel[axis] -= 1;
                }
            }
        }
        let ending = layers::ending(&mut choices);
        let caches = layers::caches(&mut choices);
        let gap = choices.number_in(0..=3);
        let tiles = choices.small_in(9);
        let values = Values::of(&mut choices);
        let input_extents = layers::extents(&layer, layer.in_channels, layer.size);
        let output_extents = layers::extents(&layer, layer.out_channels, layer.output());
        let count = |extents: [usize; 5]| extents.into_iter().product::<usize>();
        let x = values.tensor(count(input_extents), 1);
        let bias = values.tensor(layer.out_channels, 3);
        let residual = values.tensor(count(output_extents), 4);
        let before = match ending.residual {
            Residual::Output => residual.clone(),
            _ => vec![POISON; residual.len()],
        };
        let dense = plan(&layer, mode, Layout::Nchw);
        let weights = values.finite(dense.weights_len(), 2);
        let epilogue = ending.epilogue(&bias, &residual);
        let mut expected = before.clone();
        reference::run(&dense, &x, &weights, epilogue, &mut expected).unwrap();
        // The plain loops on an input that was padded first.
        let (wider, wide) = padded(&layer, mode, &x);
        let unpadded = wider.plan(Layout::Nchw).unwrap();
        assert_eq!(unpadded.output_size(), dense.output_size());
        let mut on_padded = before;
        reference::run(&unpadded, &wide, &weights, epilogue, &mut on_padded).unwrap();
        assert_same_bits(&expected, &on_padded, (layer, mode));
        for layout in LAYOUTS {
            let mut plan = plan(&layer, mode, layout).assume_caches(caches[0], caches[1]).unwrap();
            if gap > 0 {
                let strides = |channels, size| with_gaps(layout, channels, size, gap);
                plan = plan
                    .with_input_strides(strides(layer.in_channels, layer.size))
                    .and_then(|p| {
                        p.with_output_strides(strides(layer.out_channels, layer.output()))
                    })
                    .unwrap();
            }
            let x = placed(&x, input_extents, plan.input_strides(), plan.input_len());
            let at_output = |values: &[f32]| {
                placed(values, output_extents, plan.output_strides(), plan.output_len())
            };
            let (wanted, residual) = (at_output(&expected), at_output(&residual));
            let epilogue = ending.epilogue(&bias, &residual);
            let mut packed = vec![POISON; plan.packed_len()];
            let packed = plan.pack(&weights, &mut packed).unwrap();
            for kernel in Kernel::ALL {
                let Ok(plan) = plan.with_kernel(kernel) else { continue };
                ran[kernel as usize] += 1;
                for isa in &paths {
                    for unpacked in [false, true] {
                        let plan = plan.with_isa(*isa).unwrap();
                        let (plan, weights) = if unpacked {
                            (plan.unpacked().unwrap(), Weights::Unpacked(&weights))
                        } else {
                            (plan, Weights::Packed(packed))
                        };
                        let mut y = match ending.residual {
                            Residual::Output => residual.clone(),
                            _ => vec![POISON; residual.len()],
                        };
                        let mut scratch = vec![POISON; plan.scratch_len()];
                        let mut job = plan.job(&x, weights, epilogue, &mut y).unwrap();
                        let mut tiles: Vec<_> = job.tiles(tiles).collect();
                        tiles.reverse();
                        tiles.into_iter().for_each(|tile| tile.run(&mut scratch).unwrap());
                        assert_same_bits(&y, &wanted, (layer, mode, layout, kernel, isa, unpacked));
                    }
                }
            }
        }
    }
    assert!(ran.iter().all(|count| *count > share(4_000) / 8), "{ran:?}");
}

#[test]
fn limits_of_the_modes() {
    #[track_caller]
    fn refused(conv: Conv2d, axis: usize, most: usize, found: usize) {
        let error = conv.plan(Layout::Nchw, 1, [4, 5]).unwrap_err();
        assert_eq!(error.field(), Field::PaddingSide(axis));
        assert_eq!(
            (error.expected(), error.found()),
            (Expected::AtMost(most), Found::Count(found))
        );
    }
    let conv = Conv2d::new(2, 2, [3, 3]);
    let reflect = conv.padding_mode(PaddingMode::Reflect);
    refused(reflect.padding([4, 4]), 0, 3, 4);
    refused(reflect.padding([3, 5]), 1, 4, 5);
    refused(reflect.padding_sides([0, 0], [0, 5]), 1, 4, 5);
    assert!(reflect.padding([3, 4]).plan(Layout::Nchw, 1, [4, 5]).is_ok());
    let circular = conv.padding_mode(PaddingMode::Circular);
    refused(circular.padding([5, 0]), 0, 4, 5);
    refused(circular.padding_sides([0, 6], [0, 0]), 1, 5, 6);
    assert!(circular.padding([4, 5]).plan(Layout::Nchw, 1, [4, 5]).is_ok());
    // Replicate has no limit but that of the tensors.
    let replicate = conv.padding_mode(PaddingMode::Replicate);
    assert!(replicate.padding([40, 50]).plan(Layout::Nchw, 1, [4, 5]).is_ok());
    let far = Conv1d::new(1, 1, [1]).padding_mode(PaddingMode::Replicate).padding([1 << 61]);
    assert!(far.plan(Layout::NCL, 1, [4]).is_err());
    // One element reflects nothing.
    let one = Conv1d::new(1, 1, [1]).padding_mode(PaddingMode::Reflect);
    assert!(one.padding([1]).plan(Layout::NCL, 1, [1]).is_err());
    assert!(one.plan(Layout::NCL, 1, [1]).is_ok());
}

/// Windows that are wider than the input: no output is inside.
#[test]
fn wide_windows() {
    for mode in MODES {
        for layout in LAYOUTS {
            let conv = Conv1d::new(3, 2, [7]).padding([3]).padding_mode(mode);
            let plan = conv.plan(layout, 2, [4]).unwrap();
            let (x, w) = (support::fill(24, 1), support::fill(42, 2));
            let mut expected = vec![POISON; plan.output_len()];
            reference::run(&plan, &x, &w, Default::default(), &mut expected).unwrap();
            assert_same_bits(&support::run(&plan, &x, &w, Default::default()), &expected, mode);
        }
    }
}

/// A separable layer whose depthwise one has a padding mode, and activations that are passes of their
/// own: the two layers one after the other.
#[test]
fn separable_layers() {
    let mut several_pieces = 0;
    for case in 0..share(300) {
        let of = |at: usize, most: usize| support::hash(at, case) as usize % most;
        let (channels, out_channels) = (1 + of(0, 40), 1 + of(1, 40));
        let size = [3 + of(2, 9), 3 + of(3, 30)];
        let mode = MODES[case % 3];
        let depthwise = Conv2d::new(channels, channels, [1 + of(4, 3), 1 + of(5, 3)])
            .groups(channels)
            .stride([1 + of(6, 2), 1 + of(7, 2)])
            .padding([of(8, 3), of(9, 3)])
            .padding_mode(mode);
        let pointwise = Conv2d::new(channels, out_channels, [1, 1]);
        let (start, end) = (Epilogue::new().silu(), Epilogue::new().relu6());
        for layout in LAYOUTS {
            let first = depthwise.plan(layout, 2, size).unwrap();
            let [_, height, width] = first.output_size();
            let second = pointwise.plan(layout, 2, [height, width]).unwrap();
            let (x, w) =
                (support::fill(first.input_len(), 1), support::fill(first.weights_len(), 2));
            let v = support::fill(second.weights_len(), 3);
            let mut between = vec![POISON; first.output_len()];
            reference::run(&first, &x, &w, start, &mut between).unwrap();
            let mut expected = vec![POISON; second.output_len()];
            reference::run(&second, &between, &v, end, &mut expected).unwrap();
            let plan = Separable2d::new(depthwise, pointwise).plan(layout, 2, size).unwrap();
            let plan = plan.assume_caches(512, [512, 8 << 10, 1 << 20][of(10, 3)]).unwrap();
            several_pieces += usize::from(plan.pixels_in_buffer() < 2 * height * width);
            let mut packed = vec![POISON; plan.depthwise_packed_len()];
            let mut pointwise_packed = vec![POISON; plan.pointwise_packed_len()];
            let w = plan.pack_depthwise(&w, &mut packed).unwrap();
            let v = plan.pack_pointwise(&v, &mut pointwise_packed).unwrap();
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let mut scratch = vec![POISON; plan.scratch_len()];
                let mut y = vec![POISON; plan.output_len()];
                plan.run(&x, w, start, v, end, &mut scratch, &mut y).unwrap();
                assert_same_bits(&y, &expected, (case, layout, isa, mode));
                let mut y = vec![POISON; plan.output_len()];
                for tile in plan.job(&x, w, start, v, end, &mut y).unwrap().tiles(3) {
                    tile.run(&mut scratch).unwrap();
                }
                assert_same_bits(&y, &expected, (case, layout, isa, mode));
            }
        }
    }
    assert!(several_pieces > share(300) / 4, "{several_pieces}");
}
