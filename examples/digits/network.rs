//! The network, with `core` alone: plans that the compiler makes, memory that the caller supplies,
//! nothing allocated. `train.py` has trained it.

use tapwise::{Conv2d, Epilogue, Error, Isa, Layout, PackedWeights, Plan};

/// The height and width of an image.
pub const SIZE: usize = 8;
/// The digits.
pub const CLASSES: usize = 10;
/// Rows of pixels from 0 (paper) to 16 (ink).
pub type Image = [u8; SIZE * SIZE];

/// A convolution and what becomes of its output.
pub struct Layer {
    /// What a reader would call it.
    pub name: &'static str,
    conv: Conv2d,
    /// Height and width of the input.
    size: [usize; 2],
    /// Whether the input is added to the output, before the activation.
    residual: bool,
    /// With its activation; constants, so that a program contains the activations that are named here.
    ending: Epilogue<'static>,
}

const PLAIN: Epilogue = Epilogue::new();
const RELU: Epilogue = PLAIN.relu();
const RELU6: Epilogue = PLAIN.relu6();
const LEAKY_RELU: Epilogue = PLAIN.leaky_relu(0.125);
const HARD_SWISH: Epilogue = PLAIN.hard_swish();

/// The layers, from the image to one number per digit.
pub const LAYERS: [Layer; 8] = [
    Layer::new("stem 3x3", Conv2d::new(1, 16, [3, 3]).padding_same(), [8, 8], RELU),
    Layer::new("depthwise 3x3", depthwise(16, 3).padding_same(), [8, 8], LEAKY_RELU),
    Layer::new("pointwise", Conv2d::new(16, 32, [1, 1]), [8, 8], HARD_SWISH),
    Layer::new("strided depthwise", depthwise(32, 3).stride([2, 2]).padding([1, 1]), [8, 8], RELU6),
    Layer::new("pointwise", Conv2d::new(32, 48, [1, 1]), [4, 4], RELU),
    Layer::new(
        "dilated 3x3, 4 groups, residual",
        Conv2d::new(48, 48, [3, 3]).dilation([2, 2]).padding_same().groups(4),
        [4, 4],
        RELU,
    )
    .plus_input(),
    Layer::new("depthwise 4x4", depthwise(48, 4), [4, 4], PLAIN),
    Layer::new("logits", Conv2d::new(48, CLASSES, [1, 1]), [1, 1], PLAIN),
];

/// The plans for images in the order channels, rows, columns.
pub const NCHW: [Plan; LAYERS.len()] = plans(Layout::Nchw);
/// The plans with the channels last.
pub const NHWC: [Plan; LAYERS.len()] = plans(Layout::Nhwc);

/// The elements of all packed weights. One blob serves both layouts and every path.
pub const PACKED_LEN: usize = SIZES.packed;

/// What the layers need, in elements.
struct Sizes {
    /// Packed weights of all layers.
    packed: usize,
    /// The largest input or output.
    activation: usize,
    /// The most scratch memory.
    scratch: usize,
    /// Weights and biases of all layers.
    parameters: usize,
}

const SIZES: Sizes = {
    let mut sizes = Sizes { packed: 0, activation: SIZE * SIZE, scratch: 0, parameters: 0 };
    let mut layer = 0;
    while layer < LAYERS.len() {
        let (nchw, nhwc) = (&NCHW[layer], &NHWC[layer]);
        sizes.packed += nchw.packed_len();
        sizes.activation = larger(sizes.activation, nchw.output_len());
        sizes.scratch = larger(sizes.scratch, larger(nchw.scratch_len(), nhwc.scratch_len()));
        sizes.parameters += LAYERS[layer].parameters(true);
        layer += 1;
    }
    sizes
};

static TRAINED: [f32; SIZES.parameters] = from_little_endian(include_bytes!("weights.bin"));

/// The weights and the bias of each layer.
static PARAMETERS: [[&[f32]; 2]; LAYERS.len()] = {
    let mut layers = [[&[] as &[f32]; 2]; LAYERS.len()];
    let mut rest = TRAINED.as_slice();
    let mut layer = 0;
    while layer < LAYERS.len() {
        let (here, behind) = rest.split_at(LAYERS[layer].parameters(true));
        let (weights, bias) = here.split_at(LAYERS[layer].parameters(false));
        layers[layer] = [weights, bias];
        rest = behind;
        layer += 1;
    }
    layers
};

/// FNV-1a, 64 bits, of nothing.
pub const CHECKSUM_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;
/// Of the logits of all test images: what every machine computes, as long as the order of the
/// additions (`tapwise::CHANNEL_BLOCK`) is the same.
pub const CHECKSUM: u64 = 0x9feb_374c_f631_d43f;

/// What a run writes to, for as long as it lasts; 16 KiB and the scratch memory.
pub struct Memory {
    input: [f32; SIZES.activation],
    output: [f32; SIZES.activation],
    scratch: [f32; SIZES.scratch],
}

impl Memory {
    /// Fit for a `static`.
    pub const fn new() -> Memory {
        Memory {
            input: [0.0; SIZES.activation],
            output: [0.0; SIZES.activation],
            scratch: [0.0; SIZES.scratch],
        }
    }
}

/// Packs the trained weights; once, for whatever number of networks.
pub fn pack(packed: &mut [f32; PACKED_LEN]) -> Result<(), Error> {
    let mut begin = 0;
    for (plan, [weights, _]) in NCHW.iter().zip(&PARAMETERS) {
        plan.pack(weights, &mut packed[begin..])?;
        begin += plan.packed_len();
    }
    Ok(())
}

/// The layers, ready to run.
pub struct Network<'a> {
    plans: [Plan; LAYERS.len()],
    packed: [&'a [f32]; LAYERS.len()],
}

impl<'a> Network<'a> {
    /// The network of [`NCHW`] or [`NHWC`] with weights from [`pack`], on the fastest path.
    pub const fn new(plans: [Plan; LAYERS.len()], packed: &'a [f32; PACKED_LEN]) -> Network<'a> {
        let mut layers = [&[] as &[f32]; LAYERS.len()];
        let mut rest = packed.as_slice();
        let mut layer = 0;
        while layer < LAYERS.len() {
            (layers[layer], rest) = rest.split_at(plans[layer].packed_len());
            layer += 1;
        }
        Network { plans, packed: layers }
    }

    /// The same network on this path.
    pub fn with_isa(mut self, isa: Isa) -> Result<Network<'a>, Error> {
        for plan in &mut self.plans {
            *plan = plan.with_isa(isa)?;
        }
        Ok(self)
    }

    /// The logits of an image. `observe` sees the memory that the output of each layer
    /// begins, in the layout of its plan.
    pub fn run(
        &self,
        image: &Image,
        memory: &mut Memory,
        mut observe: impl FnMut(&Plan, &[f32]),
    ) -> Result<[f32; CLASSES], Error> {
        let Memory { input, output, scratch } = memory;
        let (mut x, mut y) = (input, output);
        for (value, pixel) in x.iter_mut().zip(image) {
            *value = f32::from(*pixel) / 16.0;
        }
        let layers = LAYERS.iter().zip(&self.plans).zip(&self.packed).zip(&PARAMETERS);
        for (((layer, plan), packed), [_, bias]) in layers {
            let weights = PackedWeights::from_slice(plan, packed)?;
            let mut epilogue = layer.ending.bias(bias);
            if layer.residual {
                epilogue = epilogue.residual(x);
            }
            plan.run(x, weights, epilogue, scratch, y)?;
            observe(plan, y);
            core::mem::swap(&mut x, &mut y);
        }
        let mut logits = [0.0; CLASSES];
        logits.copy_from_slice(&x[..CLASSES]);
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
        size: [usize; 2],
        ending: Epilogue<'static>,
    ) -> Layer {
        Layer { name, conv, size, residual: false, ending }
    }

    const fn plus_input(mut self) -> Layer {
        self.residual = true;
        self
    }

    const fn plan(&self, layout: Layout) -> Plan {
        match self.conv.plan(layout, 1, self.size) {
            Ok(plan) => plan,
            Err(error) => error.panic(), // when it is compiled
        }
    }

    const fn parameters(&self, bias: bool) -> usize {
        match self.conv.parameters(bias) {
            Ok(count) => count,
            Err(error) => error.panic(),
        }
    }
}

const fn depthwise(channels: usize, kernel: usize) -> Conv2d {
    Conv2d::new(channels, channels, [kernel, kernel]).groups(channels)
}

const fn plans(layout: Layout) -> [Plan; LAYERS.len()] {
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
