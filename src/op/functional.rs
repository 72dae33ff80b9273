//! One call for one layer, as in `torch.nn.functional`.

use crate::epilogue::Epilogue;
use crate::error::{Error, Expected, Field, Found};
use crate::op::conv::Conv;
use crate::op::deform::DeformConv2d;
use crate::op::fold::Fold2d;
use crate::op::transpose::ConvTranspose;
use crate::op::unfold::Unfold2d;
use crate::plan::deform::DeformPlan;
use crate::problem::arithmetic::{at_least_1, divide, mul, quotient, tri};
use crate::problem::strides::Layout;
use crate::run::weights::Weights;

macro_rules! functional {
    ($name:ident, $rank:literal, $dims:literal, $input:literal, $weight:literal, $url:literal, $example:literal) => {
        #[doc = concat!("`torch.nn.functional.", stringify!($name), "` on contiguous tensors: ")]
        #[doc = concat!("`x` is ", $input, ", `weight` ", $weight, ", `bias` `[out_channels]`, `y` as `x`")]
        #[doc = "with `out_channels`; each shape comes before its slice. Returns the shape of `y`,"]
        #[doc = "whose first elements are written."]
        #[doc = ""]
        #[doc = "Nothing is packed and no scratch memory is needed. For a layer that runs more than"]
        #[doc = "once, or has an activation, or is channels last, use [`Conv::plan`]."]
        #[doc = ""]
        #[doc = concat!("Source: <", $url, ">.")]
        #[doc = ""]
        #[doc = "```"]
        #[doc = $example]
        #[doc = "# Ok::<(), tapwise::Error>(())"]
        #[doc = "```"]
        #[doc = ""]
        #[doc = "# Errors"]
        #[doc = "As of [`Conv::plan`] and [`Plan::run`](crate::Plan::run); [`Field::InChannels`] if"]
        #[doc = "the shapes of `x` and `weight` do not fit each other."]
        #[allow(clippy::too_many_arguments)]
        pub fn $name(
            x_shape: [usize; $dims],
            x: &[f32],
            weight_shape: [usize; $dims],
            weight: &[f32],
            bias: Option<&[f32]>,
            stride: [usize; $rank],
            padding: [usize; $rank],
            dilation: [usize; $rank],
            groups: usize,
            y: &mut [f32],
        ) -> Result<[usize; $dims], Error> {
            let [batch, in_channels, ..] = x_shape;
            let [out_channels, in_per_group, ..] = weight_shape;
            let mut size = [0; $rank];
            let mut kernel = [0; $rank];
            size.copy_from_slice(&x_shape[2..]);
            kernel.copy_from_slice(&weight_shape[2..]);
            let conv = Conv::<$rank>::new(in_channels, out_channels, kernel)
                .stride(stride)
                .padding(padding)
                .dilation(dilation)
                .groups(groups);
            let plan = conv.plan(Layout::Nchw, batch, size)?.at_once()?;
            if in_per_group != plan.layer.problem.geometry.in_per_group {
                let expected = Expected::Exactly(in_per_group.saturating_mul(groups));
                return Err(Error::new(Field::InChannels, expected, Found::Count(in_channels)));
            }
            let epilogue = match bias {
                Some(bias) => Epilogue::new().bias(bias),
                None => Epilogue::new(),
            };
            plan.run(x, Weights::Unpacked(weight), epilogue, &mut [], y)?;
            let mut shape = [batch; $dims];
            shape[1] = out_channels;
            shape[2..].copy_from_slice(&plan.output_size()[3 - $rank..]);
            Ok(shape)
        }
    };
}

macro_rules! functional_transpose {
    ($name:ident, $rank:literal, $dims:literal, $input:literal, $weight:literal, $url:literal, $example:literal) => {
        #[doc = concat!("`torch.nn.functional.", stringify!($name), "` on contiguous tensors: ")]
        #[doc = concat!("`x` is ", $input, ", `weight` ", $weight, ", `bias` `[out_channels]`, `y` as `x`")]
        #[doc = "with `out_channels`; each shape comes before its slice, and `groups` before"]
        #[doc = "`dilation`, as there. Returns the shape of `y`, whose first elements are written."]
        #[doc = ""]
        #[doc = "Nothing is packed and no scratch memory is needed. For a layer that runs more than"]
        #[doc = "once, or has an activation, or is channels last, use [`ConvTranspose::plan`]."]
        #[doc = ""]
        #[doc = concat!("Source: <", $url, ">.")]
        #[doc = ""]
        #[doc = "```"]
        #[doc = $example]
        #[doc = "# Ok::<(), tapwise::Error>(())"]
        #[doc = "```"]
        #[doc = ""]
        #[doc = "# Errors"]
        #[doc = "As of [`ConvTranspose::plan`] and [`Plan::run`](crate::Plan::run);"]
        #[doc = "[`Field::InChannels`] if the shapes of `x` and `weight` do not fit each other."]
        #[allow(clippy::too_many_arguments)]
        pub fn $name(
            x_shape: [usize; $dims],
            x: &[f32],
            weight_shape: [usize; $dims],
            weight: &[f32],
            bias: Option<&[f32]>,
            stride: [usize; $rank],
            padding: [usize; $rank],
            output_padding: [usize; $rank],
            groups: usize,
            dilation: [usize; $rank],
            y: &mut [f32],
        ) -> Result<[usize; $dims], Error> {
            let [batch, in_channels, ..] = x_shape;
            let [filters, out_per_group, ..] = weight_shape;
            let mut size = [0; $rank];
            let mut kernel = [0; $rank];
            size.copy_from_slice(&x_shape[2..]);
            kernel.copy_from_slice(&weight_shape[2..]);
            // No groups are refused as such.
            let field = Field::OutChannels;
            let out_channels = mul(out_per_group, at_least_1(groups), usize::MAX, field)?;
            let layer = ConvTranspose::<$rank>::new(in_channels, out_channels, kernel)
                .stride(stride)
                .padding(padding)
                .output_padding(output_padding)
                .groups(groups)
                .dilation(dilation);
            let plan = layer.plan(Layout::Nchw, batch, size)?.at_once()?;
            if filters != in_channels {
                let expected = Expected::Exactly(filters);
                return Err(Error::new(Field::InChannels, expected, Found::Count(in_channels)));
            }
            let epilogue = match bias {
                Some(bias) => Epilogue::new().bias(bias),
                None => Epilogue::new(),
            };
            plan.run(x, Weights::Unpacked(weight), epilogue, &mut [], y)?;
            let mut shape = [batch; $dims];
            shape[1] = out_channels;
            shape[2..].copy_from_slice(&plan.output_size()[3 - $rank..]);
            Ok(shape)
        }
    };
}

functional!(
    conv1d,
    1,
    3,
    "`[batch, in_channels, width]`",
    "`[out_channels, in_channels / groups, kernel]`",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv1d.html",
    "let mut y = [0.0; 2];
let shape = tapwise::conv1d(
    [1, 1, 3], &[1.0, 2.0, 4.0], [1, 1, 2], &[1.0, 10.0], None, [1], [0], [1], 1, &mut y,
)?;
assert_eq!((shape, y), ([1, 1, 2], [21.0, 42.0]));"
);
functional!(
    conv2d,
    2,
    4,
    "`[batch, in_channels, height, width]`",
    "`[out_channels, in_channels / groups, height, width]`",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html",
    "let (x, w) = ([1.0; 3 * 4 * 4], [1.0; 6 * 3 * 3 * 3]);
let mut y = [0.0; 6 * 2 * 2];
let shape = tapwise::conv2d(
    [1, 3, 4, 4], &x, [6, 3, 3, 3], &w, None, [1, 1], [0, 0], [1, 1], 1, &mut y,
)?;
assert_eq!((shape, y), ([1, 6, 2, 2], [27.0; 24]));"
);
functional!(
    conv3d,
    3,
    5,
    "`[batch, in_channels, depth, height, width]`",
    "`[out_channels, in_channels / groups, depth, height, width]`",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv3d.html",
    "let mut y = [0.0; 1];
let shape = tapwise::conv3d(
    [1, 1, 2, 2, 2], &[1.0; 8], [1, 1, 2, 2, 2], &[0.5; 8], Some(&[1.0]),
    [1; 3], [0; 3], [1; 3], 1, &mut y,
)?;
assert_eq!((shape, y), ([1, 1, 1, 1, 1], [5.0]));"
);

/// `torch.nn.functional.unfold` on a contiguous tensor: `x` is `[batch, channels, height, width]`,
/// `y` `[batch, channels * kernel, windows]`. Returns the shape of `y`, whose first elements are
/// written. Channels last there is [`Unfold2d::plan`].
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.unfold.html>.
///
/// ```
/// let x = [1.0; 2 * 5 * 3 * 4];
/// let mut y = [0.0; 2 * 30 * 4];
/// let shape = tapwise::unfold([2, 5, 3, 4], &x, [2, 3], [1, 1], [0, 0], [1, 1], &mut y)?;
/// assert_eq!(shape, [2, 30, 4]); // 5 * 2 * 3 values in each of 4 columns
/// # Ok::<(), tapwise::Error>(())
/// ```
///
/// # Errors
/// As of [`Unfold2d::plan`] and [`UnfoldPlan::run`](crate::UnfoldPlan::run).
pub fn unfold(
    x_shape: [usize; 4],
    x: &[f32],
    kernel: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
    y: &mut [f32],
) -> Result<[usize; 3], Error> {
    let [batch, channels, height, width] = x_shape;
    let unfold = Unfold2d::new(kernel).dilation(dilation).padding(padding).stride(stride);
    let plan = unfold.plan(Layout::Nchw, batch, channels, [height, width])?;
    plan.run(x, y)?;
    Ok(plan.output_shape())
}

/// `torch.nn.functional.fold` on a contiguous tensor: `x` is `[batch, channels * kernel, windows]`,
/// `y` `[batch, channels, height, width]` with the `output_size`. Returns the shape of `y`, whose
/// first elements are written. Channels last there is [`Fold2d::plan`].
///
/// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.fold.html>.
///
/// ```
/// let x = [1.0; 3 * 2 * 2 * 12];
/// let mut y = [0.0; 3 * 4 * 5];
/// let shape = tapwise::fold([1, 12, 12], &x, [4, 5], [2, 2], [1, 1], [0, 0], [1, 1], &mut y)?;
/// assert_eq!(shape, [1, 3, 4, 5]);
/// assert_eq!(y[..10], [1.0, 2.0, 2.0, 2.0, 1.0, 2.0, 4.0, 4.0, 4.0, 2.0]);
/// # Ok::<(), tapwise::Error>(())
/// ```
///
/// # Errors
/// As of [`Fold2d::plan`] and [`FoldPlan::run`](crate::FoldPlan::run); [`Field::ColumnRows`] if the
/// rows of `x` are not a multiple of the kernel's taps, [`Field::ColumnCount`] if its columns are
/// not as many as there are windows.
#[allow(clippy::too_many_arguments)]
pub fn fold(
    x_shape: [usize; 3],
    x: &[f32],
    output_size: [usize; 2],
    kernel: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
    y: &mut [f32],
) -> Result<[usize; 4], Error> {
    let [batch, rows, columns] = x_shape;
    let taps = kernel[0].saturating_mul(kernel[1]);
    let (channels, rest) = divide(rows, taps);
    let fold = Fold2d::new(kernel).dilation(dilation).padding(padding).stride(stride);
    let plan = fold.plan(Layout::Nchw, batch, at_least_1(channels), output_size)?;
    if channels == 0 || rest > 0 {
        return Err(Error::new(Field::ColumnRows, Expected::MultipleOf(taps), Found::Count(rows)));
    }
    let windows = plan.windows().count();
    if columns != windows {
        let expected = Expected::Exactly(windows);
        return Err(Error::new(Field::ColumnCount, expected, Found::Count(columns)));
    }
    plan.run(x, y)?;
    Ok(plan.output_shape())
}

functional_transpose!(
    conv_transpose1d,
    1,
    3,
    "`[batch, in_channels, width]`",
    "`[in_channels, out_channels / groups, kernel]`",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose1d.html",
    "let mut y = [0.0; 6];
let shape = tapwise::conv_transpose1d(
    [1, 1, 3], &[1.0, 2.0, 4.0], [1, 1, 2], &[1.0, 10.0], None, [2], [0], [0], 1, [1], &mut y,
)?;
assert_eq!((shape, y), ([1, 1, 6], [1.0, 10.0, 2.0, 20.0, 4.0, 40.0]));"
);
functional_transpose!(
    conv_transpose2d,
    2,
    4,
    "`[batch, in_channels, height, width]`",
    "`[in_channels, out_channels / groups, height, width]`",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html",
    "// Twice as large: each output has one of 2 x 2 taps.
let (x, w) = ([1.0; 3 * 4 * 4], [0.5; 3 * 6 * 2 * 2]);
let mut y = [0.0; 6 * 8 * 8];
let shape = tapwise::conv_transpose2d(
    [1, 3, 4, 4], &x, [3, 6, 2, 2], &w, None, [2, 2], [0, 0], [0, 0], 1, [1, 1], &mut y,
)?;
assert_eq!((shape, y), ([1, 6, 8, 8], [1.5; 6 * 8 * 8]));"
);
functional_transpose!(
    conv_transpose3d,
    3,
    5,
    "`[batch, in_channels, depth, height, width]`",
    "`[in_channels, out_channels / groups, depth, height, width]`",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose3d.html",
    "let mut y = [0.0; 8];
let shape = tapwise::conv_transpose3d(
    [1, 1, 1, 1, 1], &[2.0], [1, 1, 2, 2, 2], &[0.5; 8], Some(&[1.0]),
    [1; 3], [0; 3], [0; 3], 1, [1; 3], &mut y,
)?;
assert_eq!((shape, y), ([1, 1, 2, 2, 2], [2.0; 8]));"
);

/// `torchvision.ops.deform_conv2d` on contiguous tensors: `x` is `[batch, in_channels, height, width]`,
/// `offset` `[batch, 2 * offset_groups * height * width, H, W]` with the height and the width of the
/// kernel, `weight` `[out_channels, in_channels / groups, height, width]`, `bias` `[out_channels]`, `mask`
/// as `offset` with half as many channels, `y` `[batch, out_channels, H, W]`; each shape comes before its
/// slice. Groups and offset groups follow from the shapes. Returns the shape of `y`, whose first elements
/// are written.
///
/// `scratch` has [`deform_conv2d_scratch_len`] elements. For a layer that runs more than once, or has an
/// activation, or is channels last, use [`DeformConv2d::plan`].
///
/// Source: <https://docs.pytorch.org/vision/stable/generated/torchvision.ops.deform_conv2d.html>.
///
/// ```
/// use tapwise::{deform_conv2d, deform_conv2d_scratch_len};
/// let (x_shape, offset_shape, weight_shape) = ([1, 1, 1, 3], [1, 2, 1, 3], [1, 1, 1, 1]);
/// const LEN: usize = match deform_conv2d_scratch_len(
///     [1, 1, 1, 3], [1, 2, 1, 3], [1, 1, 1, 1], [1, 1], [0, 0], [1, 1],
/// ) {
///     Ok(len) => len,
///     Err(error) => error.panic(),
/// };
/// let offset = [0.0, 0.0, 0.0, 0.5, -2.0, -0.5];
/// let mut y = [0.0; 3];
/// let shape = deform_conv2d(
///     x_shape, &[1.0, 2.0, 4.0], offset_shape, &offset, weight_shape, &[10.0], None,
///     [1, 1], [0, 0], [1, 1], None, &mut [0.0; LEN], &mut y,
/// )?;
/// assert_eq!((shape, y), ([1, 1, 1, 3], [15.0, 0.0, 30.0]));
/// # Ok::<(), tapwise::Error>(())
/// ```
///
/// # Errors
/// As of [`DeformConv2d::plan`] and [`DeformPlan::run`]; [`Field::InChannels`] if the shapes of `x` and
/// `weight` do not fit each other; [`Field::OffsetShape`] and [`Field::MaskShape`] if those of `offset`
/// and `mask` do not fit the rest.
#[allow(clippy::too_many_arguments)]
pub fn deform_conv2d(
    x_shape: [usize; 4],
    x: &[f32],
    offset_shape: [usize; 4],
    offset: &[f32],
    weight_shape: [usize; 4],
    weight: &[f32],
    bias: Option<&[f32]>,
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    mask: Option<([usize; 4], &[f32])>,
    scratch: &mut [f32],
    y: &mut [f32],
) -> Result<[usize; 4], Error> {
    let modulated = mask.is_some();
    let shapes = [x_shape, offset_shape, weight_shape];
    let plan = deform_plan(shapes, stride, padding, dilation, modulated)?;
    let mask = match mask {
        None => None,
        Some((shape, mask)) => {
            let [batch, channels, height, width] = offset_shape;
            let of_offset = [batch, channels / 2, height, width];
            if let Some((axis, expected, found)) = difference(of_offset, shape) {
                return Err(Error::new(Field::MaskShape(axis), expected, found));
            }
            Some(mask)
        }
    };
    let epilogue = match bias {
        Some(bias) => Epilogue::new().bias(bias),
        None => Epilogue::new(),
    };
    plan.run(x, offset, mask, Weights::Unpacked(weight), epilogue, scratch, y)?;
    let [batch, _, height, width] = offset_shape;
    Ok([batch, weight_shape[0], height, width])
}

/// The elements of scratch memory that [`deform_conv2d`] needs for tensors of these shapes.
///
/// # Errors
/// As of [`deform_conv2d`], so far as they depend on shapes.
pub const fn deform_conv2d_scratch_len(
    x_shape: [usize; 4],
    offset_shape: [usize; 4],
    weight_shape: [usize; 4],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
) -> Result<usize, Error> {
    let shapes = [x_shape, offset_shape, weight_shape];
    Ok(tri!(deform_plan(shapes, stride, padding, dilation, false)).scratch_len())
}

/// The layer that follows from the shapes of input, offsets and weights.
const fn deform_plan(
    [x, offset, weight]: [[usize; 4]; 3],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    modulated: bool,
) -> Result<DeformPlan, Error> {
    let [batch, in_channels, height, width] = x;
    let [out_channels, in_per_group, kernel_height, kernel_width] = weight;
    let groups = quotient(in_channels, in_per_group);
    let taps = kernel_height.saturating_mul(kernel_width);
    let mut layer = DeformConv2d::new(in_channels, out_channels, [kernel_height, kernel_width])
        .stride(stride)
        .padding(padding)
        .dilation(dilation)
        .groups(groups)
        .offset_groups(quotient(offset[1], taps.saturating_mul(2)));
    if modulated {
        layer = layer.modulated();
    }
    if groups.saturating_mul(in_per_group) != in_channels {
        let expected = Expected::Exactly(groups.saturating_mul(in_per_group));
        return Err(Error::new(Field::InChannels, expected, Found::Count(in_channels)));
    }
    let plan = tri!(tri!(layer.plan(Layout::Nchw, batch, [height, width])).unpacked());
    let [out_height, out_width] = tri!(layer.output_size([height, width]));
    let sets = layer.offset_group_count() * taps;
    let of_output = [batch, 2 * sets, out_height, out_width];
    if let Some((axis, expected, found)) = difference(of_output, offset) {
        return Err(Error::new(Field::OffsetShape(axis), expected, found));
    }
    Ok(plan)
}

/// The first axis along which two shapes differ, with what was expected and found there.
const fn difference(expected: [usize; 4], found: [usize; 4]) -> Option<(usize, Expected, Found)> {
    let mut axis = 0;
    while axis < 4 {
        if found[axis] != expected[axis] {
            return Some((axis, Expected::Exactly(expected[axis]), Found::Count(found[axis])));
        }
        axis += 1;
    }
    None
}
