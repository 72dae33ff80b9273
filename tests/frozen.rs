//! What is frozen, in literals: the bits of outputs, the words of packed weights, the one NaN. Other
//! tests compare with the definition as it is in `src/`; these fail when the definition changes.

mod support;

use support::{Layer, POISON, assert_same_bits, bits, fill, from_layout, paths, to_layout};
use tapwise::numerics::CANONICAL_NAN;
use tapwise::{Activation, CHANNEL_BLOCK, Epilogue, Layout, Weights, numerics, reference};

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

/// FNV-1a, 64 bits, over the little-endian bytes of the words.
fn checksum(values: &[f32]) -> u64 {
    values
        .iter()
        .flat_map(|value| value.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

/// The formula, and some elements far apart that are no ordinary numbers.
fn with_specials(len: usize, seed: usize) -> Vec<f32> {
    const SPECIALS: [u32; 8] = [
        0x8000_0000, // -0.0
        0x0000_0001, // the least subnormal
        0x7f80_0000, // infinity
        0x807f_ffff, // the largest subnormal, negative
        0xffa5_a5a5, // a NaN that signals
        0x0000_0000,
        0xff80_0000, // -infinity
        0x7fc1_2345, // a NaN that is quiet
    ];
    let mut values = fill(len, seed);
    for (count, value) in values.iter_mut().skip(seed).step_by(397).enumerate() {
        *value = f32::from_bits(SPECIALS[count % SPECIALS.len()]);
    }
    values
}

/// Weights with zeros of either sign and subnormals; they are finite, by the promise.
fn finite_weights(len: usize) -> Vec<f32> {
    let tame = |value: f32| if value.is_finite() { value } else { 0.75 };
    with_specials(len, 2).into_iter().map(tame).collect()
}

/// Layers of several blocks of channels and several taps, so that another order shows.
fn layers() -> Vec<(&'static str, Layer, u64)> {
    let line = Layer {
        before: [0, 0, 2],
        after: [0, 0, 1],
        dilation: [1, 1, 2],
        batch: 2,
        ..Layer::new(1, [40, 20], [1, 1, 21], [1, 1, 3])
    };
    let square = Layer {
        before: [0, 1, 1],
        after: [0, 1, 1],
        ..Layer::new(2, [33, 18], [1, 7, 9], [1, 3, 3])
    };
    let wide = Layer { before: [0, 1, 1], ..Layer::new(2, [17, 33], [1, 3, 64], [1, 2, 2]) };
    let volume = Layer {
        stride: [1, 2, 1],
        before: [1, 0, 1],
        ..Layer::new(3, [20, 17], [3, 4, 5], [2, 2, 3])
    };
    let groups = Layer { groups: 2, ..Layer::new(2, [48, 34], [1, 6, 5], [1, 3, 2]) };
    let narrow = Layer {
        groups: 3,
        after: [0, 1, 0],
        ..Layer::new(2, [3 * 18, 3 * 7], [1, 5, 6], [1, 2, 3])
    };
    let depthwise = Layer {
        groups: 40,
        before: [0, 1, 1],
        after: [0, 1, 1],
        ..Layer::new(2, [40, 40], [1, 14, 11], [1, 3, 3])
    };
    let flipped = Layer { flipped: true, ..square };
    let turned = Layer { flipped: true, ..depthwise };
    let spread = |layer: Layer| Layer { transposed: true, ..layer };
    let spread_line = spread(Layer {
        before: [0, 0, 2],
        stride: [1, 1, 3],
        dilation: [1, 1, 2],
        output_padding: [0, 0, 1],
        batch: 2,
        ..Layer::new(1, [40, 20], [1, 1, 11], [1, 1, 4])
    });
    let spread_square = spread(Layer { stride: [1, 2, 2], ..square });
    let spread_even = spread(Layer {
        dilation: [1, 3, 2],
        before: [0, 2, 1],
        ..Layer::new(2, [20, 33], [1, 4, 7], [1, 2, 3])
    });
    let spread_volume = spread(Layer { stride: [2, 2, 1], flipped: true, ..volume });
    let spread_narrow = spread(Layer { stride: [1, 3, 2], ..narrow });
    let spread_depthwise = spread(Layer { stride: [1, 2, 3], size: [1, 7, 6], ..depthwise });
    vec![
        ("1-D, dilated, two images", line, 0x0a37_c209_7f7b_ed31),
        ("2-D", square, 0x41fb_c8a4_bd3d_540b),
        ("2-D, long rows", wide, 0x9402_1b1e_23c0_5a8a),
        ("3-D, strided", volume, 0x1187_5536_ba5f_b62c),
        ("two groups", groups, 0x659b_f254_e753_4abd),
        ("three narrow groups", narrow, 0xf6eb_ff00_091a_56f9),
        ("depthwise", depthwise, 0x185e_dbbc_cc5f_774a),
        ("2-D, flipped", flipped, 0x80c4_6613_3abb_9c40),
        ("depthwise, flipped", turned, 0xcd09_1a4b_1929_1c9e),
        ("transposed, strided and dilated, two images", spread_line, 0x06dd_caea_e4cb_31c3),
        ("transposed, two phases", spread_square, 0x58b9_3be9_3766_8fd6),
        ("transposed, dilated", spread_even, 0x520d_4056_6b56_e871),
        ("transposed and flipped", spread_volume, 0xabde_4233_682b_4da5),
        ("transposed, three narrow groups", spread_narrow, 0x27f7_89df_2f20_a031),
        ("transposed, depthwise", spread_depthwise, 0x049d_edb9_f1d4_39f9),
    ]
}

#[test]
fn outputs() {
    let mut kernels = std::collections::BTreeSet::new();
    for (name, layer, frozen) in layers() {
        let dense = layer.plan(Layout::Nchw).unwrap();
        let x = with_specials(dense.input_len(), 1);
        let w = finite_weights(dense.weights_len());
        let bias = fill(layer.out_channels, 3);
        let residual = with_specials(dense.output_len(), 4);
        let mut found = Vec::new();
        for layout in LAYOUTS {
            let plan = layer.plan(layout).unwrap();
            kernels.insert(plan.kernel_name());
            let x = to_layout(layout, &x, layer.in_channels, layer.pixels_in());
            let residual = to_layout(layout, &residual, layer.out_channels, layer.pixels_out());
            let epilogue = Epilogue::new().bias(&bias).residual(&residual);
            let mut add = |how: &str, y: &[f32]| {
                let y = from_layout(layout, y, layer.out_channels, layer.pixels_out());
                let special = y.iter().filter(|value| !value.is_finite()).count();
                assert!(0 < special && special < y.len() / 2, "{name}: {special} of {}", y.len());
                found.push((format!("{layout:?} {how}"), checksum(&y)));
            };
            let mut y = vec![POISON; plan.output_len()];
            reference::run(&plan, &x, &w, epilogue, &mut y).unwrap();
            add("reference", &y);
            let mut packed = vec![POISON; plan.packed_len()];
            let packed = plan.pack(&w, &mut packed).unwrap();
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let unpacked = (plan.unpacked().unwrap(), Weights::Unpacked(&w));
                for (plan, weights) in [(plan, Weights::Packed(packed)), unpacked] {
                    let mut y = vec![POISON; plan.output_len()];
                    let mut job = plan.job(&x, weights, epilogue, &mut y).unwrap();
                    let mut scratch = vec![POISON; job.scratch_len()];
                    job.tiles(1).for_each(|tile| tile.run(&mut scratch).unwrap());
                    add(isa.name(), &y);
                }
            }
        }
        for (how, found) in found {
            assert_eq!(found, frozen, "{name}, {how}: {found:#018x}, frozen {frozen:#018x}");
        }
    }
    assert_eq!(kernels.len(), 4, "{kernels:?}");
}

/// Packed weights: magic word, version, channel block, and what the layer is known by; zeros.
fn blobs() -> Vec<(&'static str, Layer, usize, [u32; 2], u64)> {
    let dense = Layer::new(2, [20, 18], [1, 4, 4], [1, 3, 2]);
    let groups = Layer { groups: 2, ..Layer::new(1, [34, 40], [1, 1, 9], [1, 1, 3]) };
    let narrow = Layer { groups: 3, ..Layer::new(3, [51, 21], [3, 3, 3], [1, 2, 3]) };
    let depthwise = Layer { groups: 20, ..Layer::new(2, [20, 20], [1, 5, 5], [1, 3, 3]) };
    let flipped = Layer { flipped: true, ..dense };
    let spread = Layer { transposed: true, stride: [1, 2, 3], ..dense };
    let even = Layer { transposed: true, dilation: [1, 2, 1], ..dense };
    let both = Layer { flipped: true, ..spread };
    let spread_narrow = Layer { transposed: true, stride: [2, 3, 2], ..narrow };
    vec![
        (
            "dense, the second panel in part",
            dense,
            240,
            [0x3e41_0082, 0x084d_6e7a],
            0xb26f_8b8d_d7c9_1466,
        ),
        (
            "two groups, every second panel in part",
            groups,
            204,
            [0x1728_282e, 0x056a_43ce],
            0x6ce9_84e8_b53a_7235,
        ),
        ("narrow groups", narrow, 204, [0x02ca_c4a0, 0x3045_54da], 0xefb0_2c09_c34d_a906),
        ("depthwise", depthwise, 18, [0x2b65_c670, 0x1a2f_3fd6], 0xea53_c07b_e458_ea7d),
        ("flipped", flipped, 240, [0x28d3_eee3, 0x2ce6_d313], 0xd403_cd3a_45f5_fc86),
        (
            "transposed, of six classes",
            spread,
            240,
            [0x1ca7_7d00, 0x182f_0819],
            0xddf8_d573_281b_31da,
        ),
        ("transposed, of one class", even, 240, [0x0f25_5cc1, 0x13f2_7349], 0xc0f0_1d32_83ad_4e9a),
        ("transposed and flipped", both, 240, [0x1aa8_7d01, 0x302a_c21e], 0x50b8_2eac_ef08_d11a),
        (
            "transposed, narrow groups",
            spread_narrow,
            204,
            [0x398e_7561, 0x35e8_fb32],
            0x0b0c_36ff_18f8_ddae,
        ),
    ]
}

#[test]
fn packed_weights() {
    const HEADER: usize = 16;
    for (name, layer, panels, signature, frozen) in blobs() {
        for layout in LAYOUTS {
            let plan = layer.plan(layout).unwrap();
            let weights = fill(plan.weights_len(), 2);
            let mut memory = vec![POISON; plan.packed_len() + 3];
            let packed = plan.pack(&weights, &mut memory).unwrap();
            let (header, body) = packed.as_slice().split_at(HEADER);
            let [low, high] = signature;
            let mut words = [0; HEADER];
            words[..5].copy_from_slice(&[0x7770_6174, 1, 16, low, high]);
            assert_eq!(bits(header), words, "{name}: {:#x?}", bits(header));
            assert_eq!(body.len(), panels * 16, "{name}");
            let found = checksum(body);
            assert_eq!(found, frozen, "{name}: {found:#018x}, frozen {frozen:#018x}");
            let behind = &memory[HEADER + panels * 16..];
            assert_eq!(bits(behind), [0x7fe1_2345; 3], "{name}: written behind the blob");
        }
    }
}

/// What each row of a blob holds, spelt out for a layer so small that it can be read.
#[test]
fn the_order_of_packed_weights() {
    // Two input channels, two taps; weight `o * 4 + i * 2 + t` is that number, plus 1.
    let layer = Layer::new(1, [2, 3], [1, 1, 4], [1, 1, 2]);
    let plan = layer.plan(Layout::Nchw).unwrap();
    let weights: Vec<f32> = (1..=12).map(|number| number as f32).collect();
    let mut memory = vec![POISON; plan.packed_len()];
    let packed = plan.pack(&weights, &mut memory).unwrap();
    let rows = [[1.0, 5.0, 9.0], [3.0, 7.0, 11.0], [2.0, 6.0, 10.0], [4.0, 8.0, 12.0]];
    for (row, expected) in packed.as_slice()[16..].chunks(16).zip(rows) {
        assert_same_bits(&row[..3], &expected, "output channels side by side");
        assert_same_bits(&row[3..], &[0.0; 13], "lanes that are not used");
    }
    assert_eq!(packed.as_slice().len(), 16 * (1 + rows.len()));
}

/// The same of flipped layers and of transposed ones, whose taps are packed class by class.
#[test]
fn the_order_of_packed_weights_that_descend() {
    // Weight `t` of output channel `o` is `10 * o + t`.
    let layer = Layer::new(1, [1, 2], [1, 1, 9], [1, 1, 5]);
    let weights: Vec<f32> = (0..10).map(|at| (10 * (at / 5) + at % 5) as f32).collect();
    let spread = |stride, dilation| Layer {
        transposed: true,
        stride: [1, 1, stride],
        dilation: [1, 1, dilation],
        ..layer
    };
    for (layer, order) in [
        (layer, [0, 1, 2, 3, 4]),
        (Layer { flipped: true, ..layer }, [4, 3, 2, 1, 0]),
        (spread(1, 1), [4, 3, 2, 1, 0]),
        (Layer { flipped: true, ..spread(1, 1) }, [0, 1, 2, 3, 4]),
        // Taps of an output are two apart, or three, or more than there are.
        (spread(2, 1), [4, 2, 0, 3, 1]),
        (spread(2, 2), [4, 3, 2, 1, 0]),
        (spread(3, 1), [3, 0, 4, 1, 2]),
        (spread(6, 4), [3, 0, 4, 1, 2]),
        (spread(8, 1), [0, 1, 2, 3, 4]),
        (Layer { flipped: true, ..spread(2, 1) }, [0, 2, 4, 1, 3]),
    ] {
        let plan = layer.plan(Layout::Nhwc).unwrap();
        let mut memory = vec![POISON; plan.packed_len()];
        let packed = plan.pack(&weights, &mut memory).unwrap();
        for (row, tap) in packed.as_slice()[16..].chunks(16).zip(order) {
            let expected = [tap as f32, 10.0 + tap as f32];
            assert_same_bits(&row[..2], &expected, (&layer, "output channels side by side"));
            assert_same_bits(&row[2..], &[0.0; 14], "lanes that are not used");
        }
    }
}

/// The outputs of a layer with one input channel, one tap and weight 1, on every path.
fn copies(x: &[f32], epilogue: Epilogue, check: impl Fn(&[u32])) {
    // One group, one for each channel, few output channels: every way of using the lanes.
    for (channels, groups) in [(16, 1), (16, 16), (1, 1)] {
        let layer =
            Layer { groups, ..Layer::new(1, [groups, channels], [1, 1, x.len()], [1, 1, 1]) };
        for layout in LAYOUTS {
            let plan = layer.plan(layout).unwrap();
            let x = to_layout(layout, &x.repeat(groups), groups, x.len());
            let w = vec![1.0; plan.weights_len()];
            let mut expected = vec![POISON; plan.output_len()];
            reference::run(&plan, &x, &w, epilogue, &mut expected).unwrap();
            let of = |y: &[f32]| bits(&from_layout(layout, y, channels, layer.pixels_in()));
            of(&expected).chunks(layer.pixels_in()).for_each(&check);
            for isa in paths() {
                let plan = plan.with_isa(isa).unwrap();
                let y = support::run(&plan, &x, &w, epilogue);
                of(&y).chunks(layer.pixels_in()).for_each(&check);
            }
        }
    }
}

#[test]
fn the_one_nan() {
    assert_eq!(CANONICAL_NAN.to_bits(), 0x7fc0_0000);
    let nans = [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xff80_0001, 0x7fff_ffff, 0xffa5_a5a5];
    let x: Vec<f32> = nans.repeat(4).into_iter().map(f32::from_bits).collect();
    let relu6 = Epilogue::new().relu6();
    for epilogue in [Epilogue::new(), relu6, relu6.leaky_relu(0.5), relu6.hard_swish()] {
        copies(&x, epilogue, |y| assert_eq!(y, [0x7fc0_0000; 24]));
    }
    // Where there was none: infinity less infinity is a negative one on x86, a positive one on Arm.
    let bias = [f32::NEG_INFINITY; 16];
    copies(&[f32::INFINITY; 20], Epilogue::new().bias(&bias), |y| {
        assert_eq!(y, [0x7fc0_0000; 20]);
    });
}

#[test]
fn the_one_zero() {
    let bias = [-0.0; 16];
    let epilogue = Epilogue::new().bias(&bias);
    let clamp = epilogue.clamp(-0.0, -0.0);
    for epilogue in [epilogue, epilogue.relu(), clamp, epilogue.leaky_relu(0.5)] {
        copies(&[-0.0; 20], epilogue, |y| assert_eq!(y, [0; 20]));
    }
    // Subnormals stay what they are.
    let tiny = f32::from_bits(0x8000_0001);
    copies(&[tiny; 20], epilogue, |y| assert_eq!(y, [0x8000_0001; 20]));
}

/// Part of the chain and of the format, and public.
#[test]
fn the_channel_block() {
    assert_eq!(CHANNEL_BLOCK, 16);
}

/// Values in the bits of which are, in this order, hard-sigmoid, sigmoid, SiLU, tanh, GELU, its tanh
/// form and ELU with alpha 1.5.
const FUNCTIONS: [(f32, [u32; 7]); 20] = [
    (
        -100.0,
        [0x0000_0000, 0x0000_001b, 0x8000_0a5f, 0xbf80_0000, 0x0000_0000, 0x0000_0000, 0xbfc0_0000],
    ),
    (
        -88.5,
        [0x0000_0000, 0x0027_fce2, 0x82dd_2ec2, 0xbf80_0000, 0x0000_0000, 0x0000_0000, 0xbfc0_0000],
    ),
    (
        -20.25,
        [0x0000_0000, 0x30dc_9ef2, 0xb30b_9c95, 0xbf80_0000, 0x0000_0000, 0x0000_0000, 0xbfc0_0000],
    ),
    (
        -16.75,
        [0x0000_0000, 0x3364_4fad, 0xb56f_036a, 0xbf80_0000, 0x0000_0000, 0x0000_0000, 0xbfbf_ffff],
    ),
    (
        -9.5,
        [0x0000_0000, 0x389c_f6c3, 0xba3a_6508, 0xbf80_0000, 0x9e3c_52f2, 0x8a0a_b720, 0xbfbf_fc52],
    ),
    (
        -5.5,
        [0x0000_0000, 0x3b85_5eca, 0xbcb7_6256, 0xbf7f_fdd0, 0xb3e0_49ea, 0xb1cb_ac10, 0xbfbf_3720],
    ),
    (
        -2.75,
        [0x3d2a_aaab, 0x3d76_1d6c, 0xbe29_343a, 0xbf7d_ea85, 0xbc06_4197, 0xbbfd_1269, 0xbfb3_b9d1],
    ),
    (
        -1.0,
        [0x3eaa_aaab, 0x3e89_b2b1, 0xbe89_b2b1, 0xbf42_f7d5, 0xbe22_7686, 0xbe22_9e90, 0xbf72_bbfa],
    ),
    (
        -0.375,
        [0x3ee0_0000, 0x3ed0_8e01, 0xbe1c_6a81, 0xbeb7_7a9e, 0xbe07_deed, 0xbe07_e079, 0xbef0_296d],
    ),
    (
        -1e-5,
        [0x3eff_ffc8, 0x3eff_ffac, 0xb6a7_c575, 0xb727_c5ac, 0xb6a7_c554, 0xb6a7_c554, 0xb77b_a830],
    ),
    (
        1e-10,
        [0x3f00_0000, 0x3f00_0000, 0x2e5b_e6ff, 0x2edb_e6ff, 0x2e5b_e6ff, 0x2e5b_e6ff, 0x2edb_e6ff],
    ),
    (
        0.125,
        [0x3f05_5555, 0x3f07_fd56, 0x3d87_fd56, 0x3dfe_acca, 0x3d8c_bba6, 0x3d8c_bb9a, 0x3e00_0000],
    ),
    (
        0.7,
        [0x3f1d_ddde, 0x3f2b_0e5a, 0x3eef_7a7e, 0x3f1a_b7d9, 0x3f07_d712, 0x3f07_d372, 0x3f33_3333],
    ),
    (
        1.0,
        [0x3f2a_aaab, 0x3f3b_26a8, 0x3f3b_26a8, 0x3f42_f7d5, 0x3f57_625e, 0x3f57_585c, 0x3f80_0000],
    ),
    (
        1.5,
        [0x3f40_0000, 0x3f51_4c90, 0x3f9c_f96c, 0x3f67_b7cc, 0x3fb3_2c4b, 0x3fb3_2529, 0x3fc0_0000],
    ),
    (
        2.25,
        [0x3f60_0000, 0x3f67_972d, 0x4002_4509, 0x3f7a_5feb, 0x400e_3d5b, 0x400e_4255, 0x4010_0000],
    ),
    (
        3.5,
        [0x3f80_0000, 0x3f78_7efe, 0x4059_6f1f, 0x3f7f_8897, 0x405f_f2a9, 0x405f_f5e8, 0x4060_0000],
    ),
    (
        6.5,
        [0x3f80_0000, 0x3f7f_9d9e, 0x40cf_b010, 0x3f7f_ffb4, 0x40d0_0000, 0x40d0_0000, 0x40d0_0000],
    ),
    (
        13.0,
        [0x3f80_0000, 0x3f7f_ffda, 0x414f_ffe1, 0x3f80_0000, 0x4150_0000, 0x4150_0000, 0x4150_0000],
    ),
    (
        45.0,
        [0x3f80_0000, 0x3f80_0000, 0x4234_0000, 0x3f80_0000, 0x4234_0000, 0x4234_0000, 0x4234_0000],
    ),
];

/// Of their outputs on [-12, 12).
const CHECKSUMS: [u64; 7] = [
    0x6ae9_9938_8db6_d9ce,
    0x7b75_4aa3_5393_771c,
    0x5f03_bcac_4f77_9af2,
    0x81b2_fb2c_ed17_c5e7,
    0xd7a0_59c8_edee_64c4,
    0x60b6_38c3_702b_a6d5,
    0x6414_1ff9_d731_0547,
];

#[test]
fn activations() {
    let functions = [
        Activation::HardSigmoid,
        Activation::Sigmoid,
        Activation::Silu,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Elu { alpha: 1.5 },
    ];
    let x = FUNCTIONS.map(|(v, _)| v);
    for (function, activation) in functions.into_iter().enumerate() {
        let frozen = FUNCTIONS.map(|(_, of)| of[function]);
        copies(&x, Epilogue::new().activation(activation), |y| {
            assert_eq!(y, frozen, "{activation:?}: {y:#010x?}");
        });
    }
    // Many more: whatever is written differently shows somewhere.
    let x: Vec<f32> = (0..1_000_000).map(|at| support::value(at, 9) * 12.0).collect();
    for (activation, frozen) in functions.into_iter().zip(CHECKSUMS) {
        let y: Vec<f32> = x.iter().map(|v| numerics::finish(*v, None, activation)).collect();
        let found = checksum(&y);
        assert_eq!(found, frozen, "{activation:?}: {found:#018x}");
    }
}
