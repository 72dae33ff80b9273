//! The network, with `core` alone: plans that the compiler makes, memory that the caller supplies,
//! nothing allocated. `train.py` has trained it.

use tapwise::{
    Conv2d, Epilogue, Error, Isa, Layout, PackedWeights, Plan, Separable2d, SeparablePlan, Strides,
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
    /// On the outputs of the first, each from one pixel.
    pointwise: Option<Pointwise>,
    /// Height and width of the input.
    size: [usize; 2],
    /// Whether the input is added to the output, before the activation.
    residual: bool,
    /// With its activation; constants, so that a program contains the activations that are named here.
    ending: Epilogue<'static>,
}

/// The second of two convolutions in one pass.
#[derive(Clone, Copy)]
struct Pointwise {
    conv: Conv2d,
    ending: Epilogue<'static>,
    /// The KiB of cache that plans of both assume where memory is dear, in planes and channels last: for
    /// pieces that leave the scratch memory at 3 KiB.
    caches: [usize; 2],
}

const PLAIN: Epilogue = Epilogue::new();
const RELU: Epilogue = PLAIN.relu();
const RELU6: Epilogue = PLAIN.relu6();
const LEAKY_RELU: Epilogue = PLAIN.leaky_relu(0.125);
const HARD_SWISH: Epilogue = PLAIN.hard_swish();

/// The layers, from the image to one number per digit.
pub const LAYERS: [Layer; 5] = [
    Layer::new("stem 3x3", Conv2d::new(1, 16, [3, 3]).padding_same(), [8, 8], RELU),
    Layer::new("separable 3x3", depthwise(16, 3).padding_same(), [8, 8], LEAKY_RELU).then(
        Conv2d::new(16, 32, [1, 1]),
        HARD_SWISH,
        [2, 8],
    ),
    Layer::new(
        "strided separable 3x3",
        depthwise(32, 3).stride([2, 2]).padding([1, 1]),
        [8, 8],
        RELU6,
    )
    .then(Conv2d::new(32, 48, [1, 1]), RELU, [3, 64]),
    Layer::new(
        "dilated 3x3, 4 groups, residual",
        Conv2d::new(48, 48, [3, 3]).dilation([2, 2]).padding_same().groups(4),
        [4, 4],
        RELU,
    )
    .plus_input(),
    Layer::new("depthwise 4x4 and logits", depthwise(48, 4), [4, 4], PLAIN).then(
        Conv2d::new(48, CLASSES, [1, 1]),
        PLAIN,
        [64, 64],
    ),
];

/// A planned layer.
#[derive(Clone, Copy)]
#[allow(clippy::large_enum_variant)] // a box would be allocated
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
    /// The largest input of the layers with even numbers, and of the others: one's output is the next
    /// one's input.
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
        sizes.packed += nchw.packed_len();
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

/// The weights and the bias of each layer, and of the pointwise one in it.
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
    for (plan, [[weights, _], [pointwise, _]]) in NCHW.iter().zip(&PARAMETERS) {
        let (here, behind) = rest.split_at_mut(plan.packed_len());
        match plan {
            LayerPlan::One(plan) => {
                plan.pack(weights, here)?;
            }
            LayerPlan::Separable(plan) => {
                let (first, second) = here.split_at_mut(plan.depthwise_packed_len());
                plan.pack_depthwise(weights, first)?;
                plan.pack_pointwise(pointwise, second)?;
            }
        }
        rest = behind;
    }
    Ok(())
}

/// A layer with its weights, ready to run.
#[derive(Clone, Copy)]
#[allow(clippy::large_enum_variant)] // a box would be allocated
pub enum Ready<'a> {
    One(One<'a>),
    Separable(Separable<'a>),
}

/// A convolution.
#[derive(Clone, Copy)]
pub struct One<'a> {
    plan: Plan,
    weights: PackedWeights<'a>,
    ending: Epilogue<'static>,
    /// Whether the input is added to the output.
    residual: bool,
}

/// A depthwise convolution and a pointwise one.
#[derive(Clone, Copy)]
pub struct Separable<'a> {
    plan: SeparablePlan,
    weights: [PackedWeights<'a>; 2],
    endings: [Epilogue<'static>; 2],
}

/// The layers, ready to run.
pub struct Network<'a> {
    layers: [Ready<'a>; LAYERS.len()],
}

impl<'a> Network<'a> {
    /// The network of [`NCHW`] or [`NHWC`] with weights from [`pack`], on the fastest path. Weights of
    /// another network are an error; of a constant one, of the compiler.
    pub const fn new(
        plans: [LayerPlan; LAYERS.len()],
        packed: &'a [f32; PACKED_LEN],
    ) -> Result<Network<'a>, Error> {
        let (first, mut rest) = packed.split_at(plans[0].packed_len());
        let mut layers = match LAYERS[0].ready(&plans[0], first, &PARAMETERS[0]) {
            Ok(first) => [first; LAYERS.len()],
            Err(error) => return Err(error),
        };
        let mut layer = 1;
        while layer < LAYERS.len() {
            let (here, behind) = rest.split_at(plans[layer].packed_len());
            layers[layer] = match LAYERS[layer].ready(&plans[layer], here, &PARAMETERS[layer]) {
                Ok(ready) => ready,
                Err(error) => return Err(error),
            };
            rest = behind;
            layer += 1;
        }
        Ok(Network { layers })
    }

    /// The same network on this path.
    pub fn with_isa(mut self, isa: Isa) -> Result<Network<'a>, Error> {
        for layer in &mut self.layers {
            match layer {
                Ready::One(layer) => layer.plan = layer.plan.with_isa(isa)?,
                Ready::Separable(layer) => layer.plan = layer.plan.with_isa(isa)?,
            }
        }
        Ok(self)
    }

    /// The logits of an image. `observe` sees the memory that the output of each layer
    /// begins, in the layout of its plan.
    pub fn run(
        &self,
        image: &Image,
        memory: &mut Memory,
        mut observe: impl FnMut(&Ready, &[f32]),
    ) -> Result<[f32; CLASSES], Error> {
        for (value, pixel) in memory.even.iter_mut().zip(image) {
            *value = f32::from(*pixel) / 16.0;
        }
        for (number, layer) in self.layers.iter().enumerate() {
            layer.run(memory, number)?;
            observe(layer, memory.tensors(number + 1).0);
        }
        let (logits, ..) = memory.tensors(LAYERS.len());
        Ok(*logits.first_chunk().unwrap_or(&[0.0; CLASSES]))
    }
}

impl Memory {
    /// Input, output and scratch memory of the layer of that number.
    fn tensors(&mut self, layer: usize) -> (&[f32], &mut [f32], &mut [f32]) {
        let Memory { even, odd, scratch } = self;
        if layer.is_multiple_of(2) { (even, odd, scratch) } else { (odd, even, scratch) }
    }
}

impl Ready<'_> {
    fn run(&self, memory: &mut Memory, number: usize) -> Result<(), Error> {
        match self {
            Ready::One(layer) if layer.residual => layer.run_plus_input(memory, number),
            Ready::One(layer) => layer.run(memory, number),
            Ready::Separable(layer) => layer.run(memory, number),
        }
    }

    /// The channels of the output, its size as depth, which is 1, height and width, and where its
    /// elements lie.
    pub fn output(&self) -> (usize, [usize; 3], Strides) {
        match self {
            Ready::One(One { plan, .. }) => {
                (plan.out_channels(), plan.output_size(), plan.output_strides())
            }
            Ready::Separable(Separable { plan, .. }) => {
                (plan.out_channels(), plan.output_size(), plan.output_strides())
            }
        }
    }
}

// Functions of their own, so that the stack has to have room for one of them, not for all.

impl One<'_> {
    #[inline(never)]
    fn run(&self, memory: &mut Memory, number: usize) -> Result<(), Error> {
        let (x, y, scratch) = memory.tensors(number);
        let One { plan, weights, ending, .. } = self;
        plan.run(x, weights, ending, scratch, y)?;
        Ok(())
    }

    #[inline(never)]
    fn run_plus_input(&self, memory: &mut Memory, number: usize) -> Result<(), Error> {
        let (x, y, scratch) = memory.tensors(number);
        let One { plan, weights, ending, .. } = self;
        plan.run(x, weights, ending.residual(x), scratch, y)?;
        Ok(())
    }
}

impl Separable<'_> {
    #[inline(never)]
    fn run(&self, memory: &mut Memory, number: usize) -> Result<(), Error> {
        let (x, y, scratch) = memory.tensors(number);
        let ([first, second], [between, ending]) = (&self.weights, &self.endings);
        self.plan.run(x, first, between, second, ending, scratch, y)?;
        Ok(())
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
        size: [usize; 2],
        ending: Epilogue<'static>,
    ) -> Layer {
        Layer { name, conv, pointwise: None, size, residual: false, ending }
    }

    const fn then(mut self, conv: Conv2d, ending: Epilogue<'static>, caches: [usize; 2]) -> Layer {
        self.pointwise = Some(Pointwise { conv, ending, caches });
        self
    }

    const fn plus_input(mut self) -> Layer {
        self.residual = true;
        self
    }

    const fn plan(&self, layout: Layout) -> LayerPlan {
        let Some(Pointwise { conv, caches: [planes, channels_last], .. }) = self.pointwise else {
            return match self.conv.plan(layout, 1, self.size) {
                Ok(plan) => LayerPlan::One(plan),
                Err(error) => error.panic(), // when it is compiled
            };
        };
        let kib = if matches!(layout, Layout::Nchw) { planes } else { channels_last };
        let plan = match Separable2d::new(self.conv, conv).plan(layout, 1, self.size) {
            Ok(plan) if cfg!(target_os = "none") => plan.assume_caches(kib << 10, kib << 10),
            plan => plan,
        };
        match plan {
            Ok(plan) => LayerPlan::Separable(plan),
            Err(error) => error.panic(),
        }
    }

    /// Of the layer, and of the pointwise one in it.
    const fn parameters(&self, bias: bool) -> [usize; 2] {
        let second = match self.pointwise {
            Some(Pointwise { conv, .. }) => parameters(&conv, bias),
            None => 0,
        };
        [parameters(&self.conv, bias), second]
    }

    /// With the parameters of [`PARAMETERS`], of which the weights are packed.
    const fn ready<'a>(
        &self,
        plan: &LayerPlan,
        packed: &'a [f32],
        [[_, bias], [_, pointwise_bias]]: &[[&'static [f32]; 2]; 2],
    ) -> Result<Ready<'a>, Error> {
        let ending = self.ending.bias(bias);
        Ok(match *plan {
            LayerPlan::One(plan) => {
                let weights = match PackedWeights::from_slice(&plan, packed) {
                    Ok(weights) => weights,
                    Err(error) => return Err(error),
                };
                Ready::One(One { plan, weights, ending, residual: self.residual })
            }
            LayerPlan::Separable(plan) => {
                let (first, second) = packed.split_at(plan.depthwise_packed_len());
                let weights = match (plan.depthwise_weights(first), plan.pointwise_weights(second))
                {
                    (Ok(first), Ok(second)) => [first, second],
                    (Err(error), _) | (_, Err(error)) => return Err(error),
                };
                let last = match self.pointwise {
                    Some(Pointwise { ending, .. }) => ending.bias(pointwise_bias),
                    None => PLAIN,
                };
                Ready::Separable(Separable { plan, weights, endings: [ending, last] })
            }
        })
    }
}

impl LayerPlan {
    /// The elements of the packed weights.
    const fn packed_len(&self) -> usize {
        match self {
            LayerPlan::One(plan) => plan.packed_len(),
            LayerPlan::Separable(plan) => plan.depthwise_packed_len() + plan.pointwise_packed_len(),
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

const fn parameters(conv: &Conv2d, bias: bool) -> usize {
    match conv.parameters(bias) {
        Ok(count) => count,
        Err(error) => error.panic(),
    }
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
