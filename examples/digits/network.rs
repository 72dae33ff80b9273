//! The network, with `core` alone: plans that the compiler makes, memory that the caller supplies,
//! nothing allocated. `train.py` has trained it.

use tapwise::{
    Activation, Conv2d, Epilogue, Error, Isa, Layout, PackedWeights, Plan, Separable2d,
    SeparablePlan, Strides,
};

/// The height and width of an image.
pub const SIZE: usize = 8;
/// The digits.
pub const CLASSES: usize = 10;
/// Rows of pixels from 0 (paper) to 16 (ink).
pub type Image = [u8; SIZE * SIZE];

/// A convolution, or a depthwise one and a pointwise one in one pass, and what becomes of the output.
pub struct Layer {
    /// What a reader would call it.
    pub name: &'static str,
    conv: Conv2d,
    activation: Activation,
    /// Of what is then computed pixel by pixel.
    pointwise: Option<(Conv2d, Activation)>,
    /// Height and width of the input.
    size: [usize; 2],
    /// Whether the input is added to the output, before the activation.
    residual: bool,
}

const RELU: Activation = Activation::Relu;
const RELU6: Activation = Activation::Clamp { lower: 0.0, upper: 6.0 };
const LEAKY_RELU: Activation = Activation::LeakyRelu { slope: 0.125 };

/// The layers, from the image to one number per digit.
pub const LAYERS: [Layer; 5] = [
    Layer::new("stem 3x3", Conv2d::new(1, 16, [3, 3]).padding_same(), RELU, [8, 8]),
    Layer::new("depthwise 3x3 and pointwise", depthwise(16, 3).padding_same(), LEAKY_RELU, [8, 8])
        .then(Conv2d::new(16, 32, [1, 1]), Activation::HardSwish),
    Layer::new(
        "strided depthwise and pointwise",
        depthwise(32, 3).stride([2, 2]).padding([1, 1]),
        RELU6,
        [8, 8],
    )
    .then(Conv2d::new(32, 48, [1, 1]), RELU),
    Layer::new(
        "dilated 3x3, 4 groups, residual",
        Conv2d::new(48, 48, [3, 3]).dilation([2, 2]).padding_same().groups(4),
        RELU,
        [4, 4],
    )
    .plus_input(),
    Layer::new("depthwise 4x4 and logits", depthwise(48, 4), Activation::None, [4, 4])
        .then(Conv2d::new(48, CLASSES, [1, 1]), Activation::None),
];

/// A planned layer.
#[derive(Clone, Copy)]
#[allow(clippy::large_enum_variant)] // there are five, and they are constants
pub enum LayerPlan {
    One(Plan),
    Separable(SeparablePlan),
}

/// The plans for images in the order channels, rows, columns.
pub const NCHW: [LayerPlan; LAYERS.len()] = plans(Layout::Nchw);
/// The plans with the channels last.
pub const NHWC: [LayerPlan; LAYERS.len()] = plans(Layout::Nhwc);

/// The elements of all packed weights. One blob serves both layouts and every path.
pub const PACKED_LEN: usize = SIZES.packed;

/// What the layers need, in elements.
struct Sizes {
    /// Packed weights of all layers.
    packed: usize,
    /// The largest input of layers with even and with odd numbers: an output is the next one's input.
    inputs: [usize; 2],
    /// The most scratch memory.
    scratch: usize,
    /// Weights and biases of all layers.
    parameters: usize,
}

const SIZES: Sizes = {
    let mut sizes = Sizes { packed: 0, inputs: [SIZE * SIZE, 0], scratch: 0, parameters: 0 };
    let mut layer = 0;
    while layer < LAYERS.len() {
        let (nchw, nhwc) = (&NCHW[layer], &NHWC[layer]);
        let [first, second] = nchw.packed_lens();
        sizes.packed += first + second;
        let next = (layer + 1) % 2;
        sizes.inputs[next] = larger(sizes.inputs[next], nchw.output_len());
        sizes.scratch = larger(sizes.scratch, larger(nchw.scratch_len(), nhwc.scratch_len()));
        let [first, second] = LAYERS[layer].parameters(true);
        sizes.parameters += first + second;
        layer += 1;
    }
    sizes
};

static TRAINED: [f32; SIZES.parameters] = from_little_endian(include_bytes!("weights.bin"));

/// The weights and the bias of each layer, and of the pointwise one behind it.
static PARAMETERS: [[[&[f32]; 2]; 2]; LAYERS.len()] = {
    let mut layers = [[[&[] as &[f32]; 2]; 2]; LAYERS.len()];
    let mut rest = TRAINED.as_slice();
    let mut layer = 0;
    while layer < LAYERS.len() {
        let (all, weights) = (LAYERS[layer].parameters(true), LAYERS[layer].parameters(false));
        let mut conv = 0;
        while conv < 2 {
            let (here, behind) = rest.split_at(all[conv]);
            let (weights, bias) = here.split_at(weights[conv]);
            layers[layer][conv] = [weights, bias];
            rest = behind;
            conv += 1;
        }
        layer += 1;
    }
    layers
};

/// FNV-1a, 64 bits, of nothing.
pub const CHECKSUM_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;
/// Of the logits of all test images: what every machine computes, as long as the order of the
/// additions (`tapwise::CHANNEL_BLOCK`) is the same.
pub const CHECKSUM: u64 = 0x9feb_374c_f631_d43f;

/// What a run writes to, for as long as it lasts: 12 KiB and the scratch memory.
pub struct Memory {
    even: [f32; SIZES.inputs[0]],
    odd: [f32; SIZES.inputs[1]],
    scratch: [f32; SIZES.scratch],
}

impl Memory {
    /// Fit for a `static`.
    pub const fn new() -> Memory {
        Memory {
            even: [0.0; SIZES.inputs[0]],
            odd: [0.0; SIZES.inputs[1]],
            scratch: [0.0; SIZES.scratch],
        }
    }
}

/// Packs the trained weights; once, for whatever number of networks.
pub fn pack(packed: &mut [f32; PACKED_LEN]) -> Result<(), Error> {
    let mut rest = packed.as_mut_slice();
    for (plan, parameters) in NCHW.iter().zip(&PARAMETERS) {
        let [first, second] = plan.packed_lens();
        let (here, behind) = rest.split_at_mut(first + second);
        let (first, second) = here.split_at_mut(first);
        let [[weights, _], [pointwise, _]] = parameters;
        match plan {
            LayerPlan::One(plan) => plan.pack(weights, first).map(|_| ())?,
            LayerPlan::Separable(plan) => {
                plan.pack_depthwise(weights, first)?;
                plan.pack_pointwise(pointwise, second)?;
            }
        }
        rest = behind;
    }
    Ok(())
}

/// The layers, ready to run.
pub struct Network<'a> {
    plans: [LayerPlan; LAYERS.len()],
    packed: [[&'a [f32]; 2]; LAYERS.len()],
}

impl<'a> Network<'a> {
    /// The network of [`NCHW`] or [`NHWC`] with weights from [`pack`], on the fastest path.
    pub const fn new(
        plans: [LayerPlan; LAYERS.len()],
        packed: &'a [f32; PACKED_LEN],
    ) -> Network<'a> {
        let mut layers = [[&[] as &[f32]; 2]; LAYERS.len()];
        let mut rest = packed.as_slice();
        let mut layer = 0;
        while layer < LAYERS.len() {
            let [first, second] = plans[layer].packed_lens();
            (layers[layer][0], rest) = rest.split_at(first);
            (layers[layer][1], rest) = rest.split_at(second);
            layer += 1;
        }
        Network { plans, packed: layers }
    }

    /// The same network on this path.
    pub fn with_isa(mut self, isa: Isa) -> Result<Network<'a>, Error> {
        for plan in &mut self.plans {
            *plan = match *plan {
                LayerPlan::One(plan) => LayerPlan::One(plan.with_isa(isa)?),
                LayerPlan::Separable(plan) => LayerPlan::Separable(plan.with_isa(isa)?),
            };
        }
        Ok(self)
    }

    /// The logits of an image. `observe` sees the memory that the output of each layer
    /// begins, in the layout of its plan.
    pub fn run(
        &self,
        image: &Image,
        memory: &mut Memory,
        mut observe: impl FnMut(&LayerPlan, &[f32]),
    ) -> Result<[f32; CLASSES], Error> {
        let Memory { even, odd, scratch } = memory;
        let (mut x, mut y) = (even.as_mut_slice(), odd.as_mut_slice());
        for (value, pixel) in x.iter_mut().zip(image) {
            *value = f32::from(*pixel) / 16.0;
        }
        let layers = LAYERS.iter().zip(&self.plans).zip(&self.packed).zip(&PARAMETERS);
        for (((layer, plan), packed), parameters) in layers {
            layer.run(plan, packed, parameters, x, scratch, y)?;
            observe(plan, y);
            core::mem::swap(&mut x, &mut y);
        }
        let mut logits = [0.0; CLASSES];
        logits.iter_mut().zip(x).for_each(|(logit, value)| *logit = *value);
        Ok(logits)
    }
}

/// The checksum of the logits so far, and of these: FNV-1a over their little-endian bytes.
pub fn checksum(so_far: u64, logits: &[f32; CLASSES]) -> u64 {
    let bytes = logits.iter().flat_map(|logit| logit.to_bits().to_le_bytes());
    bytes.fold(so_far, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The digit whose logit is the largest.
pub fn digit(logits: &[f32; CLASSES]) -> u8 {
    let mut best = (0, logits[0]);
    for (digit, logit) in (0..).zip(logits) {
        if *logit > best.1 {
            best = (digit, *logit);
        }
    }
    best.0
}

impl Layer {
    const fn new(
        name: &'static str,
        conv: Conv2d,
        activation: Activation,
        size: [usize; 2],
    ) -> Layer {
        Layer { name, conv, activation, pointwise: None, size, residual: false }
    }

    const fn then(mut self, pointwise: Conv2d, activation: Activation) -> Layer {
        self.pointwise = Some((pointwise, activation));
        self
    }

    const fn plus_input(mut self) -> Layer {
        self.residual = true;
        self
    }

    /// Between two layers there are one or two rows at a time, for memory is dear.
    const fn plan(&self, layout: Layout) -> LayerPlan {
        match self.pointwise {
            None => LayerPlan::One(plan_of(self.conv.plan(layout, 1, self.size))),
            Some((pointwise, _)) => {
                let plan = match Separable2d::new(self.conv, pointwise).plan(layout, 1, self.size) {
                    Ok(plan) => plan.assume_caches(2 << 10, 2 << 10),
                    Err(error) => error.panic(), // when it is compiled
                };
                match plan {
                    Ok(plan) => LayerPlan::Separable(plan),
                    Err(error) => error.panic(),
                }
            }
        }
    }

    /// Of the layer, and of the pointwise one behind it.
    const fn parameters(&self, bias: bool) -> [usize; 2] {
        match self.pointwise {
            None => [count_of(self.conv.parameters(bias)), 0],
            Some((pointwise, _)) => {
                [count_of(self.conv.parameters(bias)), count_of(pointwise.parameters(bias))]
            }
        }
    }

    fn run(
        &self,
        plan: &LayerPlan,
        packed: &[&[f32]; 2],
        parameters: &[[&[f32]; 2]; 2],
        x: &[f32],
        scratch: &mut [f32],
        y: &mut [f32],
    ) -> Result<(), Error> {
        let ([first, second], [[_, bias], [_, pointwise_bias]]) = (packed, parameters);
        let mut epilogue = Epilogue::new().bias(bias).activation(self.activation);
        match plan {
            LayerPlan::One(plan) => {
                if self.residual {
                    epilogue = epilogue.residual(x);
                }
                let weights = PackedWeights::from_slice(plan, first)?;
                plan.run(x, weights, epilogue, scratch, y)?;
            }
            LayerPlan::Separable(plan) => {
                let weights = plan.depthwise_weights(first)?;
                let pointwise = plan.pointwise_weights(second)?;
                let mut end = Epilogue::new().bias(pointwise_bias);
                if let Some((_, activation)) = self.pointwise {
                    end = end.activation(activation);
                }
                plan.run(x, weights, epilogue, pointwise, end, scratch, y)?;
            }
        }
        Ok(())
    }
}

impl LayerPlan {
    /// Of the layer, and of the pointwise one behind it.
    pub const fn packed_lens(&self) -> [usize; 2] {
        match self {
            LayerPlan::One(plan) => [plan.packed_len(), 0],
            LayerPlan::Separable(plan) => {
                [plan.depthwise_packed_len(), plan.pointwise_packed_len()]
            }
        }
    }

    /// The elements of the output.
    pub const fn output_len(&self) -> usize {
        match self {
            LayerPlan::One(plan) => plan.output_len(),
            LayerPlan::Separable(plan) => plan.output_len(),
        }
    }

    /// Depth, which is 1, height and width.
    pub const fn output_size(&self) -> [usize; 3] {
        match self {
            LayerPlan::One(plan) => plan.output_size(),
            LayerPlan::Separable(plan) => plan.output_size(),
        }
    }

    /// Where the elements of the output lie.
    pub const fn output_strides(&self) -> Strides {
        match self {
            LayerPlan::One(plan) => plan.output_strides(),
            LayerPlan::Separable(plan) => plan.output_strides(),
        }
    }

    const fn scratch_len(&self) -> usize {
        match self {
            LayerPlan::One(plan) => plan.scratch_len(),
            LayerPlan::Separable(plan) => plan.scratch_len(),
        }
    }
}

const fn depthwise(channels: usize, kernel: usize) -> Conv2d {
    Conv2d::new(channels, channels, [kernel, kernel]).groups(channels)
}

const fn plans(layout: Layout) -> [LayerPlan; LAYERS.len()] {
    let mut plans = [LAYERS[0].plan(layout); LAYERS.len()];
    let mut layer = 1;
    while layer < LAYERS.len() {
        plans[layer] = LAYERS[layer].plan(layout);
        layer += 1;
    }
    plans
}

const fn plan_of(plan: Result<Plan, Error>) -> Plan {
    match plan {
        Ok(plan) => plan,
        Err(error) => error.panic(), // when it is compiled
    }
}

const fn count_of(count: Result<usize, Error>) -> usize {
    match count {
        Ok(count) => count,
        Err(error) => error.panic(),
    }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// A slice of another length is an error of the compiler.
pub const fn from_little_endian<const LEN: usize>(bytes: &[u8]) -> [f32; LEN] {
    assert!(bytes.len() == 4 * LEN);
    let mut values = [0.0; LEN];
    let mut at = 0;
    while at < LEN {
        let word = [bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]];
        values[at] = f32::from_le_bytes(word);
        at += 1;
    }
    values
}
