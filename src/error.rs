//! The one error: which field, what was expected of it, what came.

use crate::isa::Isa;
use core::fmt;

/// Why a description, a plan or a call was refused. Whatever it was, the output is untouched.
///
/// ```
/// use tapwise::{Conv2d, Expected, Field, Found, Layout};
/// let error = Conv2d::new(3, 8, [3, 3]).stride([1, 0]).plan(Layout::Nhwc, 1, [8, 8]).unwrap_err();
/// assert_eq!(error.field(), Field::Stride(1));
/// assert_eq!(error.expected(), Expected::AtLeast(1));
/// assert_eq!(error.found(), Found::Count(0));
/// assert_eq!(error.to_string(), "stride[1]: expected at least 1, found 0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Error {
    field: Field,
    expected: Expected,
    found: Found,
    stage: Option<Stage>,
}

/// Which layer of a [`Separable2d`](crate::Separable2d) an [`Error`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The first layer.
    Depthwise,
    /// The second layer.
    Pointwise,
}

/// What an [`Error`] is about. The number is an axis of the layer, from 0, unless it says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The channels of the input.
    InChannels,
    /// The channels of the output.
    OutChannels,
    /// The groups, which divide both kinds of channels.
    Groups,
    /// The images of a batch.
    Batch,
    /// The size of the input along an axis.
    InputSize(usize),
    /// The size of the output along an axis, where it is given.
    OutputSize(usize),
    /// The extent of the (dilated) kernel along an axis.
    Kernel(usize),
    /// The step of the window along an axis.
    Stride(usize),
    /// The distance of the taps along an axis.
    Dilation(usize),
    /// The padding along an axis, both sides together.
    Padding(usize),
    /// The padding of one side of an axis.
    PaddingSide(usize),
    /// The outputs added behind the last one of an axis of a transposed convolution.
    OutputPadding(usize),
    /// The elements that the input spans, strides included.
    InputElements,
    /// The elements that the output spans, strides included.
    OutputElements,
    /// The groups of input channels that have offsets of their own, which divide them.
    OffsetGroups,
    /// The elements of the offsets.
    OffsetElements,
    /// An extent of the offsets.
    OffsetShape(usize),
    /// An extent of the mask.
    MaskShape(usize),
    /// The elements of the weights, packed or not.
    WeightElements,
    /// The elements that the residual spans, strides included.
    ResidualElements,
    /// The rows of a matrix of columns: channels times the taps of a window.
    ColumnRows,
    /// The columns of such a matrix: the windows of an image.
    ColumnCount,
    /// The elements of the matrix of a layer.
    MatrixElements,
    /// The slice of that matrix.
    Matrix,
    /// How far the outputs of a chain of layers see along an axis, in elements of its input.
    Reach(usize),
    /// A stride between elements of the output.
    OutputStride(StrideOf),
    /// The assumed size of the first-level cache, in bytes.
    CacheL1,
    /// The assumed size of the second-level cache, in bytes.
    CacheL2,
    /// The slice of the input.
    Input,
    /// The slice of the offsets.
    Offsets,
    /// The slice of the mask.
    Mask,
    /// Whether a call brings a mask.
    Modulation,
    /// The slice of the output.
    Output,
    /// The slice of the weights in PyTorch's order.
    Weights,
    /// One of the weights in PyTorch's order, by its place.
    Weight(usize),
    /// The form of the weights of a call: packed, or as they are.
    WeightForm,
    /// The slice of the packed weights.
    Packed,
    /// The first word of a packed blob.
    PackedMagic,
    /// The version of a packed blob.
    PackedVersion,
    /// The channel block of a packed blob.
    PackedChannelBlock,
    /// Bytes that are not aligned as `f32`.
    PackedAlignment,
    /// The layer for which a blob was packed: its channels, kernel and groups.
    PackedSignature,
    /// The slice of the bias.
    Bias,
    /// The slice of the residual.
    Residual,
    /// A residual where there can be none.
    ResidualBetween,
    /// The residual that the output holds.
    ResidualFromOutput,
    /// The slice of the scratch memory.
    Scratch,
    /// The lower bound of a clamp.
    ClampLower,
    /// The upper bound of a clamp.
    ClampUpper,
    /// The slice of the slopes of a PReLU.
    Slopes,
    /// The alpha of an ELU.
    EluAlpha,
    /// The instruction set that was asked for.
    Isa,
    /// The kernel that was asked for.
    ForcedKernel,
}

/// The dimensions between whose neighbours a stride is the distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StrideOf {
    Batch,
    Channel,
    Depth,
    Row,
    Pixel,
}

/// What an [`Error`] would have accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Expected {
    /// This much or more.
    AtLeast(usize),
    /// This much or less.
    AtMost(usize),
    /// Just this.
    Exactly(usize),
    /// 1 or this.
    OneOr(usize),
    /// A divisor of this number of channels.
    DivisorOf(usize),
    /// A multiple of this number of taps, at least one.
    MultipleOf(usize),
    /// A number.
    NotNan,
    /// A number up to this one.
    AtMostNumber(f32),
    /// An instruction set that this machine has and this build contains.
    Available,
    /// An output that is initialised.
    Initialised,
    /// A number that is finite.
    Finite,
    /// Weights that were packed.
    Packed,
    /// Weights in PyTorch's order.
    Unpacked,
    /// What [`Plan::pack`](crate::Plan::pack) made, as it made it.
    Blob,
    /// The layer that was planned: its channels, kernel and groups.
    LayerOfThePlan,
    /// A kernel that can run the layer.
    FittingKernel,
    /// A mask, for a layer that is modulated.
    Mask,
    /// No mask, for a layer that is not.
    NoMask,
    /// No residual.
    NoResidual,
}

/// What an [`Error`] met.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Found {
    /// A size, a length or a word.
    Count(usize),
    /// A size that no `usize` of the target, or no slice, can have.
    Overflow,
    /// A floating-point value.
    Number(f32),
    /// An instruction set.
    Isa(Isa),
    /// An output that is not initialised.
    Uninitialised,
    /// Weights that were packed.
    Packed,
    /// Weights in PyTorch's order.
    Unpacked,
    /// Words with their bytes in the other order.
    ReversedBytes,
    /// Words that begin no packed weights.
    OtherWords,
    /// Another layer.
    AnotherLayer,
    /// A kernel that cannot run the layer.
    UnfitKernel,
    /// A mask.
    Mask,
    /// No mask.
    NoMask,
    /// A residual.
    Residual,
}

impl Error {
    pub(crate) const fn new(field: Field, expected: Expected, found: Found) -> Self {
        Error { field, expected, found, stage: None }
    }

    /// The same about one of two layers.
    pub(crate) const fn of(mut self, stage: Stage) -> Self {
        self.stage = Some(stage);
        self
    }

    pub(crate) const fn too_small(field: Field, least: usize, found: usize) -> Self {
        Error::new(field, Expected::AtLeast(least), Found::Count(found))
    }

    pub(crate) const fn overflow(field: Field, limit: usize) -> Self {
        Error::new(field, Expected::AtMost(limit), Found::Overflow)
    }

    /// A slice may be longer than needed, never shorter.
    pub(crate) const fn check_len(field: Field, least: usize, found: usize) -> Result<(), Self> {
        if found < least { Err(Error::too_small(field, least, found)) } else { Ok(()) }
    }

    /// A path that is to be taken has to be there.
    pub(crate) fn check_isa(isa: Isa) -> Result<(), Self> {
        if isa.is_available() {
            Ok(())
        } else {
            Err(Error::new(Field::Isa, Expected::Available, Found::Isa(isa)))
        }
    }

    /// What the error is about.
    pub const fn field(self) -> Field {
        self.field
    }

    /// What would have been accepted.
    pub const fn expected(self) -> Expected {
        self.expected
    }

    /// What came.
    pub const fn found(self) -> Found {
        self.found
    }

    /// Of a separable layer: which of the two the field belongs to, if it is not both of them.
    pub const fn stage(self) -> Option<Stage> {
        self.stage
    }

    /// Ends the compilation of a `const` plan with the name of the field (or panics at run time:
    /// the only function of the crate that does).
    pub const fn panic(self) -> ! {
        panic!("{}", self.field.name())
    }
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Field::InChannels => "in_channels",
            Field::OutChannels => "out_channels",
            Field::Groups => "groups",
            Field::Batch => "batch",
            Field::InputSize(_) => "input size",
            Field::OutputSize(_) => "output size",
            Field::Kernel(_) => "kernel",
            Field::Stride(_) => "stride",
            Field::Dilation(_) => "dilation",
            Field::Padding(_) => "padding",
            Field::PaddingSide(_) => "padding of a side",
            Field::OutputPadding(_) => "output_padding",
            Field::InputElements => "elements of the input",
            Field::OutputElements => "elements of the output",
            Field::OffsetGroups => "offset_groups",
            Field::OffsetElements => "elements of the offsets",
            Field::OffsetShape(_) => "shape of the offsets",
            Field::MaskShape(_) => "shape of the mask",
            Field::WeightElements => "elements of the weights",
            Field::ResidualElements => "elements of the residual",
            Field::ColumnRows => "rows of the columns",
            Field::ColumnCount => "number of columns",
            Field::MatrixElements => "elements of the matrix",
            Field::Matrix => "length of the matrix",
            Field::Reach(_) => "reach of the receptive field",
            Field::OutputStride(StrideOf::Batch) => "output stride of the batch",
            Field::OutputStride(StrideOf::Channel) => "output stride of the channels",
            Field::OutputStride(StrideOf::Depth) => "output stride of the depth",
            Field::OutputStride(StrideOf::Row) => "output stride of the rows",
            Field::OutputStride(StrideOf::Pixel) => "output stride of the pixels",
            Field::CacheL1 => "bytes of the first-level cache",
            Field::CacheL2 => "bytes of the second-level cache",
            Field::Input => "length of the input",
            Field::Offsets => "length of the offsets",
            Field::Mask => "length of the mask",
            Field::Modulation => "modulation",
            Field::Output => "length of the output",
            Field::Weights => "length of the weights",
            Field::Weight(_) => "weights",
            Field::WeightForm => "form of the weights",
            Field::Packed => "length of the packed weights",
            Field::PackedMagic => "beginning of the packed weights",
            Field::PackedVersion => "format version of the packed weights",
            Field::PackedChannelBlock => "channel block of the packed weights",
            Field::PackedAlignment => "misalignment of the packed weights",
            Field::PackedSignature => "layer of the packed weights",
            Field::Bias => "length of the bias",
            Field::Residual => "length of the residual",
            Field::ResidualBetween => "residual",
            Field::ResidualFromOutput => "residual from the output",
            Field::Scratch => "length of the scratch memory",
            Field::ClampLower => "lower bound of the clamp",
            Field::ClampUpper => "upper bound of the clamp",
            Field::Slopes => "length of the slopes",
            Field::EluAlpha => "alpha of the ELU",
            Field::Isa => "instruction set",
            Field::ForcedKernel => "kernel asked for",
        }
    }

    const fn index(self) -> Option<usize> {
        match self {
            Field::InputSize(axis)
            | Field::OutputSize(axis)
            | Field::Reach(axis)
            | Field::Kernel(axis)
            | Field::Stride(axis)
            | Field::Dilation(axis)
            | Field::Padding(axis)
            | Field::PaddingSide(axis)
            | Field::OutputPadding(axis)
            | Field::OffsetShape(axis)
            | Field::MaskShape(axis)
            | Field::Weight(axis) => Some(axis),
            _ => None,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.index() {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Expected::AtLeast(least) => write!(f, "at least {least}"),
            Expected::AtMost(most) => write!(f, "at most {most}"),
            Expected::Exactly(value) => write!(f, "{value}"),
            Expected::OneOr(value) => write!(f, "1 or {value}"),
            Expected::DivisorOf(channels) => write!(f, "a divisor of {channels}"),
            Expected::MultipleOf(taps) => write!(f, "a multiple of {taps}"),
            Expected::NotNan => f.write_str("a number"),
            Expected::AtMostNumber(most) => write!(f, "at most {most}"),
            Expected::Available => f.write_str("one that this machine and this build have"),
            Expected::Initialised => f.write_str("an initialised output"),
            Expected::Finite => f.write_str("a finite number"),
            Expected::Packed => f.write_str("packed weights"),
            Expected::Unpacked => f.write_str("unpacked weights"),
            Expected::Blob => f.write_str("a blob that a plan of the layer has packed"),
            Expected::LayerOfThePlan => f.write_str("that of the plan"),
            Expected::FittingKernel => f.write_str("one that can run the layer"),
            Expected::Mask => f.write_str("a mask"),
            Expected::NoMask => f.write_str("no mask"),
            Expected::NoResidual => f.write_str("none"),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Found::Count(count) => write!(f, "{count}"),
            Found::Overflow => f.write_str("more than the target can address"),
            Found::Number(value) => write!(f, "{value}"),
            Found::Isa(isa) => f.write_str(isa.name()),
            Found::Uninitialised => f.write_str("an uninitialised one"),
            Found::Packed => f.write_str("packed ones"),
            Found::Unpacked => f.write_str("unpacked ones"),
            Found::ReversedBytes => f.write_str("one in the other byte order"),
            Found::OtherWords => f.write_str("other words"),
            Found::AnotherLayer => f.write_str("another one"),
            Found::UnfitKernel => f.write_str("one that cannot"),
            Found::Mask => f.write_str("one"),
            Found::NoMask => f.write_str("none"),
            Found::Residual => f.write_str("one"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            Some(Stage::Depthwise) => f.write_str("depthwise layer: ")?,
            Some(Stage::Pointwise) => f.write_str("pointwise layer: ")?,
            None => {}
        }
        write!(f, "{}: expected {}, found {}", self.field, self.expected, self.found)
    }
}

impl core::error::Error for Error {}
