//! The layers that are timed: their list, their sizes, their data.

mod aligned;
mod json;

pub use aligned::Aligned;
use tapwise::{Conv2d, ConvTranspose2d, Error, Isa, Layout, PackedWeights, Plan, Weights};

/// What a layer of the list is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A 2-D layer.
    Conv2d,
    /// A 1-D layer, written as a 2-D one of height 1.
    Conv1d,
    /// A layer whose weights are another layer's output: they are never packed in advance.
    CrossCorrelation,
    /// A transposed layer.
    ConvTranspose2d,
}

/// A layer of the list.
pub struct Layer {
    pub name: String,
    pub kind: Kind,
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    /// Height and width, as in all that follows.
    pub size: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
    /// Of a transposed layer.
    pub output_padding: [usize; 2],
}

/// The layers of a list in JSON.
pub fn layers(text: &str) -> Result<Vec<Layer>, String> {
    json::parse(text)?.into_iter().map(Layer::from_json).collect()
}

impl Layer {
    fn from_json(mut object: json::Object) -> Result<Layer, String> {
        let name = object.text("name")?;
        let kind = match object.text("kind")?.as_str() {
            "conv2d" => Kind::Conv2d,
            "conv1d" => Kind::Conv1d,
            "xcorr" => Kind::CrossCorrelation,
            "convt2d" => Kind::ConvTranspose2d,
            other => return Err(format!("{name}: what is the kind `{other}`?")),
        };
        let layer = Layer {
            name,
            kind,
            batch: object.number("n")?,
            in_channels: object.number("c")?,
            out_channels: object.number("k")?,
            size: [object.number("h")?, object.number("w")?],
            kernel: [object.number("r")?, object.number("s")?],
            stride: object.pair("stride")?,
            padding: object.pair("pad")?,
            dilation: object.pair("dilation")?,
            groups: object.number("groups")?,
            output_padding: match kind {
                Kind::ConvTranspose2d => object.pair("output_padding")?,
                _ => [0; 2],
            },
        };
        object.text("source")?;
        object.finish()?;
        if kind == Kind::Conv1d && (layer.size[0], layer.kernel[0]) != (1, 1) {
            return Err(format!("{}: a 1-D layer whose height is not 1", layer.name));
        }
        Ok(layer)
    }

    /// The plan of the layer on a path of this machine.
    pub fn plan(&self, layout: Layout, isa: Isa) -> Result<Plan, Error> {
        if self.kind == Kind::ConvTranspose2d {
            return ConvTranspose2d::new(self.in_channels, self.out_channels, self.kernel)
                .stride(self.stride)
                .padding(self.padding)
                .output_padding(self.output_padding)
                .dilation(self.dilation)
                .groups(self.groups)
                .plan(layout, self.batch, self.size)?
                .with_isa(isa);
        }
        Conv2d::new(self.in_channels, self.out_channels, self.kernel)
            .stride(self.stride)
            .padding(self.padding)
            .dilation(self.dilation)
            .groups(self.groups)
            .plan(layout, self.batch, self.size)?
            .with_isa(isa)
    }

    /// How many of the nominal multiply-adds have their tap inside the input. A kernel may skip
    /// the others; so only these can be held against the peak of the machine.
    pub fn valid_share(&self) -> f64 {
        let along = |axis: usize| {
            let reach = (self.kernel[axis] - 1) * self.dilation[axis];
            let (stride, size) = (self.stride[axis], self.size[axis]);
            let taps = self.kernel[axis];
            let (outputs, nominal) = if self.kind == Kind::ConvTranspose2d {
                let spread = (size - 1) * stride + reach + 1 + self.output_padding[axis];
                (spread - 2 * self.padding[axis], size * taps)
            } else {
                let outputs = (size + 2 * self.padding[axis] - reach - 1) / stride + 1;
                (outputs, outputs * taps)
            };
            let inside =
                |output| (0..taps).filter(move |tap| self.place(axis, output, *tap).is_some());
            let valid: usize = (0..outputs).map(|output| inside(output).count()).sum();
            valid as f64 / nominal as f64
        };
        along(0) * along(1)
    }

    /// Where a tap of an output lies in the input along an axis, if inside.
    pub fn place(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let distance = tap * self.dilation[axis];
        let place = if self.kind == Kind::ConvTranspose2d {
            let spread = (output + padding).checked_sub(distance)?;
            if spread % stride != 0 {
                return None;
            }
            spread / stride
        } else {
            (output * stride + distance).checked_sub(padding)?
        };
        Some(place).filter(|place| *place < self.size[axis])
    }

    /// Which filter of the weights, each of a window, leads from an input channel of a group to an
    /// output channel.
    pub fn filter(&self, out_channel: usize, in_channel: usize) -> usize {
        let in_per_group = self.in_channels / self.groups;
        if self.kind == Kind::ConvTranspose2d {
            let out_per_group = self.out_channels / self.groups;
            let (group, channel) = (out_channel / out_per_group, out_channel % out_per_group);
            (group * in_per_group + in_channel) * out_per_group + channel
        } else {
            out_channel * in_per_group + in_channel
        }
    }
}

/// A layer with everything that one call needs, the output and the scratch memory excepted.
pub struct Prepared {
    pub plan: Plan,
    /// In the layout of the plan.
    pub input: Aligned,
    /// In PyTorch's order.
    pub weights: Vec<f32>,
    packed: Option<Aligned>,
}

impl Prepared {
    /// Plans the layer, draws its data, and packs the weights if they are known in advance.
    pub fn new(layer: &Layer, layout: Layout, isa: Isa) -> Result<Prepared, Error> {
        let plan = layer.plan(layout, isa)?;
        let plan = match layer.kind {
            Kind::CrossCorrelation => plan.unpacked()?,
            Kind::Conv2d | Kind::Conv1d | Kind::ConvTranspose2d => plan,
        };
        let mut random = Random::from_name(&layer.name);
        let input = random.vector(plan.input_len());
        let input = permuted(&input, layer.batch, layer.in_channels, Layout::Nchw, layout);
        let input = Aligned::copy_of(&input);
        let weights = random.vector(plan.weights_len());
        let packed = match layer.kind {
            Kind::CrossCorrelation => None,
            Kind::Conv2d | Kind::Conv1d | Kind::ConvTranspose2d => {
                let mut packed = Aligned::zeros(plan.packed_len());
                plan.pack(&weights, &mut packed)?;
                Some(packed)
            }
        };
        Ok(Prepared { plan, input, weights, packed })
    }

    /// The weights as a call takes them.
    pub fn call_weights(&self) -> Result<Weights<'_>, Error> {
        match &self.packed {
            Some(packed) => Ok(PackedWeights::from_slice(&self.plan, packed)?.into()),
            None => Ok(Weights::Unpacked(&self.weights)),
        }
    }

    /// The scratch memory that a call needs, per thread.
    pub fn scratch(&self) -> Vec<f32> {
        vec![0.0; self.plan.scratch_len()]
    }

    /// The memory of an output.
    pub fn output(&self) -> Aligned {
        Aligned::zeros(self.plan.output_len())
    }
}

/// The values of a dense tensor in another layout.
pub fn permuted(
    values: &[f32],
    batch: usize,
    channels: usize,
    from: Layout,
    to: Layout,
) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let image = values.len() / batch;
    let pixels = image / channels;
    let (outer, inner) = if to == Layout::Nhwc { (pixels, channels) } else { (channels, pixels) };
    let mut permuted = Vec::with_capacity(values.len());
    for image in values.chunks_exact(image) {
        for at in 0..outer {
            permuted.extend((0..inner).map(|step| image[step * outer + at]));
        }
    }
    permuted
}

/// FNV-1a with 64 bits.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// SplitMix64, seeded by a name.
pub struct Random(u64);

impl Random {
    /// The numbers of that name.
    pub fn from_name(name: &str) -> Random {
        Random(fnv1a(name.bytes()))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Values from -1 to below 1, each a multiple of 2^-23, so that no rounding is involved.
    fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next_u64() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }
}
