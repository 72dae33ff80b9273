//! The functions that may be applied to an output.

/// The function applied to every output, elementwise, after bias and residual. What each one is, to
/// the bit, [`numerics`](crate::numerics) says.
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
    /// `clamp(v + 3, 0, 6) / 6`
    /// ([`torch.nn.Hardsigmoid`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardsigmoid.html)).
    HardSigmoid,
    /// `1 / (1 + exp(-v))`
    /// ([`torch.nn.Sigmoid`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Sigmoid.html)).
    Sigmoid,
    /// `v / (1 + exp(-v))`
    /// ([`torch.nn.SiLU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.SiLU.html)).
    Silu,
    /// The hyperbolic tangent
    /// ([`torch.nn.Tanh`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Tanh.html)).
    Tanh,
    /// `v * (1 + erf(v / sqrt(2))) / 2`
    /// ([`torch.nn.GELU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html)).
    Gelu,
    /// `v * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 * v^3))) / 2` (`torch.nn.GELU` with
    /// `approximate='tanh'`).
    GeluTanh,
    /// `v` where `v > 0`, otherwise `alpha * (exp(v) - 1)`
    /// ([`torch.nn.ELU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.ELU.html)).
    Elu {
        /// The distance of the least value from 0; not NaN.
        alpha: f32,
    },
}

impl Activation {
    /// `torch.nn.ReLU6`.
    pub const RELU6: Activation = Activation::Clamp { lower: 0.0, upper: 6.0 };
    /// `torch.nn.Hardtanh` with its usual bounds.
    pub const HARD_TANH: Activation = Activation::Clamp { lower: -1.0, upper: 1.0 };
}
