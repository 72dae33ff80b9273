//! What happens to an output after its chain: bias, residual, activation.

use crate::activation::Activation;
use crate::element::Element;
use crate::error::{Error, Expected, Field, Found};
use crate::kernel::activate::{Activate, PRELU, Parameter, pass_of};

/// Where the addend of the residual connection is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Residual<'a> {
    None,
    /// A slice with the strides of the output, or of its own.
    Slice(&'a [f32]),
    /// What the output holds before the call.
    Output,
}

/// What is applied to outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Function<'a> {
    Activation(Activation),
    /// PReLU with a slope for each channel.
    Slopes(&'a [Element]),
}

impl Function<'_> {
    /// What becomes of the outputs of a channel.
    pub fn of_channel(&self, channel: usize) -> Activation {
        match self {
            Function::Activation(activation) => *activation,
            Function::Slopes(slopes) => match slopes.get(channel) {
                Some(slope) => Activation::LeakyRelu { slope: *slope },
                None => Activation::None,
            },
        }
    }

    /// What kernels apply.
    #[inline(always)]
    pub fn fused(&self) -> Activation {
        match self {
            Function::Activation(activation) => *activation,
            Function::Slopes(_) => Activation::None,
        }
    }

    /// What its pass takes besides outputs.
    #[inline(always)]
    pub fn parameter(&self) -> Parameter {
        match self {
            Function::Slopes(slopes) => Parameter::OfChannels(slopes.as_ptr()),
            Function::Activation(Activation::Elu { alpha }) => Parameter::Same(*alpha),
            Function::Activation(_) => Parameter::Same(0.0),
        }
    }
}

/// Bias, residual and activation of one call, in the order of their application.
///
/// ```
/// use tapwise::Epilogue;
/// let bias = [0.5; 8];
/// let epilogue = Epilogue::new().bias(&bias).relu6();
/// # let _ = epilogue;
/// ```
#[must_use = "an epilogue does nothing until it is given to a call"]
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) residual: Residual<'a>,
    pub(crate) function: Function<'a>,
    /// What applies the function after the kernel, if the kernel does not.
    pub(crate) pass: Option<Activate>,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Epilogue<'a> {
    /// No bias, no residual, no activation.
    pub const fn new() -> Self {
        Epilogue {
            bias: None,
            residual: Residual::None,
            function: Function::Activation(Activation::None),
            pass: None,
        }
    }

    /// One value per output channel, with which its chain begins. A slice shorter than
    /// `out_channels` is an error of the call.
    pub const fn bias(mut self, bias: &'a [f32]) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Adds `residual` before the activation. It has the shape of the output, and its strides unless
    /// the plan says [otherwise](crate::Plan::with_residual_strides).
    pub const fn residual(mut self, residual: &'a [f32]) -> Self {
        self.residual = Residual::Slice(residual);
        self
    }

    /// Adds what the output holds before the activation: `y = activation(conv(x) + y)`; computing a
    /// tile twice adds twice. With an output of `MaybeUninit` this is an error of the call.
    pub const fn residual_from_output(mut self) -> Self {
        self.residual = Residual::Output;
        self
    }

    /// What applies the function after the kernel, if the kernel does not, and its parameter.
    #[inline(always)]
    pub(crate) fn pass_with_parameter(&self) -> Option<(Activate, Parameter)> {
        self.pass.map(|pass| (pass, self.function.parameter()))
    }

    /// Any [`Activation`]. A program that names one contains the code of that one; one that chooses
    /// among them when it runs contains all.
    #[inline(always)]
    pub const fn activation(self, activation: Activation) -> Self {
        Epilogue { function: Function::Activation(activation), pass: pass_of(activation), ..self }
    }

    /// [`Activation::Relu`].
    #[inline(always)]
    pub const fn relu(self) -> Self {
        self.activation(Activation::Relu)
    }

    /// [`Activation::Clamp`] to 0 and 6.
    #[inline(always)]
    pub const fn relu6(self) -> Self {
        self.clamp(0.0, 6.0)
    }

    /// [`Activation::Clamp`]. NaN bounds, and `lower > upper`, are errors of the call.
    #[inline(always)]
    pub const fn clamp(self, lower: f32, upper: f32) -> Self {
        self.activation(Activation::Clamp { lower, upper })
    }

    /// [`Activation::LeakyRelu`].
    #[inline(always)]
    pub const fn leaky_relu(self, slope: f32) -> Self {
        self.activation(Activation::LeakyRelu { slope })
    }

    /// `v` where `v > 0`, otherwise `v * slope`, with one slope for all channels or one for each.
    /// Slopes that are neither 1 nor `out_channels` are an error of the call.
    ///
    /// Source: <https://docs.pytorch.org/docs/stable/generated/torch.nn.PReLU.html>.
    ///
    /// ```
    /// use tapwise::{Conv2d, Epilogue, Layout};
    /// let plan = Conv2d::new(1, 2, [1, 1]).plan(Layout::Nhwc, 1, [1, 1])?;
    /// let mut packed = vec![0.0; plan.packed_len()];
    /// let weights = plan.pack(&[1.0, 1.0], &mut packed)?;
    /// let mut y = [0.0; 2];
    /// let epilogue = Epilogue::new().prelu(&[0.25, 0.5]);
    /// plan.run(&[-8.0], weights, epilogue, &mut vec![0.0; plan.scratch_len()], &mut y)?;
    /// assert_eq!(y, [-2.0, -4.0]);
    /// # Ok::<(), tapwise::Error>(())
    /// ```
    #[inline(always)]
    pub const fn prelu(self, slopes: &'a [f32]) -> Self {
        match slopes {
            [slope] => self.leaky_relu(*slope),
            _ => Epilogue { function: Function::Slopes(slopes), pass: Some(PRELU), ..self },
        }
    }

    /// [`Activation::HardSwish`].
    #[inline(always)]
    pub const fn hard_swish(self) -> Self {
        self.activation(Activation::HardSwish)
    }

    /// [`Activation::HardSigmoid`].
    #[inline(always)]
    pub const fn hard_sigmoid(self) -> Self {
        self.activation(Activation::HardSigmoid)
    }

    /// [`Activation::Sigmoid`].
    #[inline(always)]
    pub const fn sigmoid(self) -> Self {
        self.activation(Activation::Sigmoid)
    }

    /// [`Activation::Silu`].
    ///
    /// ```
    /// use tapwise::{Conv2d, Epilogue, Layout};
    /// let plan = Conv2d::new(1, 1, [1, 1]).plan(Layout::Nhwc, 1, [1, 3])?;
    /// let mut packed = vec![0.0; plan.packed_len()];
    /// let weights = plan.pack(&[1.0], &mut packed)?;
    /// let (mut scratch, mut y) = (vec![0.0; plan.scratch_len()], [0.0; 3]);
    /// plan.run(&[-1.0, 0.0, 1.0], weights, Epilogue::new().silu(), &mut scratch, &mut y)?;
    /// assert_eq!(y, [-0.26894143, 0.0, 0.7310586]); // on every machine
    /// # Ok::<(), tapwise::Error>(())
    /// ```
    #[inline(always)]
    pub const fn silu(self) -> Self {
        self.activation(Activation::Silu)
    }

    /// [`Activation::Tanh`].
    #[inline(always)]
    pub const fn tanh(self) -> Self {
        self.activation(Activation::Tanh)
    }

    /// [`Activation::Gelu`].
    #[inline(always)]
    pub const fn gelu(self) -> Self {
        self.activation(Activation::Gelu)
    }

    /// [`Activation::GeluTanh`].
    #[inline(always)]
    pub const fn gelu_tanh(self) -> Self {
        self.activation(Activation::GeluTanh)
    }

    /// [`Activation::Elu`]. An `alpha` that is NaN is an error of the call.
    #[inline(always)]
    pub const fn elu(self, alpha: f32) -> Self {
        self.activation(Activation::Elu { alpha })
    }

    /// A residual from the output needs one that is initialised.
    pub(crate) fn check_residual_of(&self, initialised: bool) -> Result<(), Error> {
        match self.residual {
            Residual::Output if !initialised => Err(Error::new(
                Field::ResidualFromOutput,
                Expected::Initialised,
                Found::Uninitialised,
            )),
            _ => Ok(()),
        }
    }

    /// The slices are long enough, the bounds are in order, alpha is a number.
    pub(crate) fn check(&self, out_channels: usize, residual_len: usize) -> Result<(), Error> {
        if let Some(bias) = self.bias {
            Error::check_len(Field::Bias, out_channels, bias.len())?;
        }
        if let Residual::Slice(residual) = self.residual {
            Error::check_len(Field::Residual, residual_len, residual.len())?;
        }
        match self.function {
            Function::Slopes(slopes) if slopes.len() != out_channels => {
                let expected = Expected::OneOr(out_channels);
                Err(Error::new(Field::Slopes, expected, Found::Count(slopes.len())))
            }
            Function::Activation(Activation::Elu { alpha }) if alpha.is_nan() => {
                Err(Error::new(Field::EluAlpha, Expected::NotNan, Found::Number(alpha)))
            }
            Function::Activation(Activation::Clamp { lower, upper }) => check_bounds(lower, upper),
            _ => Ok(()),
        }
    }
}

fn check_bounds(lower: f32, upper: f32) -> Result<(), Error> {
    for (field, bound) in [(Field::ClampLower, lower), (Field::ClampUpper, upper)] {
        if bound.is_nan() {
            return Err(Error::new(field, Expected::NotNan, Found::Number(bound)));
        }
    }
    if lower > upper {
        let expected = Expected::AtMostNumber(upper);
        return Err(Error::new(Field::ClampLower, expected, Found::Number(lower)));
    }
    Ok(())
}
