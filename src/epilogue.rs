//! What happens to an output after its chain: bias, residual, activation.

use crate::error::{Error, Expected, Field, Found};

/// The function applied to every output, elementwise, after bias and residual.
///
/// All of them propagate NaN, as PyTorch's do.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `v`
    None,
    /// `0` where `v < 0`, otherwise `v` (`torch.nn.ReLU`).
    Relu,
    /// `lower` where `v < lower`, then `upper` where that exceeds `upper`
    /// (`torch.nn.Hardtanh`; with 0 and 6 `torch.nn.ReLU6`).
    Clamp {
        /// The least value of an output; not NaN.
        lower: f32,
        /// The greatest value of an output; not NaN, at least `lower`.
        upper: f32,
    },
    /// `v` where `v > 0`, otherwise `v * slope` (`torch.nn.LeakyReLU`).
    LeakyRelu {
        /// The factor of the values that are not positive.
        slope: f32,
    },
    /// `v * clamp(v + 3, 0, 6) / 6` in this order (`torch.nn.Hardswish`).
    HardSwish,
}

impl Activation {
    /// `torch.nn.ReLU6`.
    pub const RELU6: Activation = Activation::Clamp { lower: 0.0, upper: 6.0 };
    /// `torch.nn.Hardtanh` with its usual bounds.
    pub const HARD_TANH: Activation = Activation::Clamp { lower: -1.0, upper: 1.0 };
}

/// Where the addend of the residual connection is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Residual<'a> {
    None,
    /// A slice with the strides of the output, or of its own.
    Slice(&'a [f32]),
    /// What the output holds before the call.
    Output,
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
    pub(crate) activation: Activation,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Epilogue<'a> {
    /// No bias, no residual, no activation.
    pub const fn new() -> Self {
        Epilogue { bias: None, residual: Residual::None, activation: Activation::None }
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

    /// Any [`Activation`].
    pub const fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// [`Activation::Relu`].
    pub const fn relu(self) -> Self {
        self.activation(Activation::Relu)
    }

    /// [`Activation::Clamp`] to 0 and 6.
    pub const fn relu6(self) -> Self {
        self.clamp(0.0, 6.0)
    }

    /// [`Activation::Clamp`]. NaN bounds, and `lower > upper`, are errors of the call.
    pub const fn clamp(self, lower: f32, upper: f32) -> Self {
        self.activation(Activation::Clamp { lower, upper })
    }

    /// [`Activation::LeakyRelu`].
    pub const fn leaky_relu(self, slope: f32) -> Self {
        self.activation(Activation::LeakyRelu { slope })
    }

    /// [`Activation::HardSwish`].
    pub const fn hard_swish(self) -> Self {
        self.activation(Activation::HardSwish)
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

    /// The slices are long enough and the bounds are in order.
    pub(crate) fn check(&self, out_channels: usize, residual_len: usize) -> Result<(), Error> {
        if let Some(bias) = self.bias {
            Error::check_len(Field::Bias, out_channels, bias.len())?;
        }
        if let Residual::Slice(residual) = self.residual {
            Error::check_len(Field::Residual, residual_len, residual.len())?;
        }
        if let Activation::Clamp { lower, upper } = self.activation {
            for (field, bound) in [(Field::ClampLower, lower), (Field::ClampUpper, upper)] {
                if bound.is_nan() {
                    return Err(Error::new(field, Expected::NotNan, Found::Number(bound)));
                }
            }
            if lower > upper {
                let expected = Expected::AtMostNumber(upper);
                return Err(Error::new(Field::ClampLower, expected, Found::Number(lower)));
            }
        }
        Ok(())
    }
}
