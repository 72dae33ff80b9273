#!/usr/bin/env python3
"""Golden vectors: what PyTorch's F.conv1d / conv2d / conv3d give.

Run it with

    pip install torch numpy scikit-learn
    python tests/golden/generate.py

(scikit-learn is needed by the other script only).  It writes layers.txt and
outputs.bin next to itself; their format is told at the head of layers.txt.

Inputs, weights and biases are not stored: they come from a formula on
integers (`fill` below) which any language repeats exactly.  Each layer is
computed in float64 from those values, and the result rounded to float32 is
stored.  The float32 convolution of PyTorch is computed as well and must agree
with it within a small multiple of eps * sum(|x*w|).
"""

import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
MAX_MACS = 300_000  # of one layer, except the textbook ones
MAX_COUNT = 64      # outputs stored of one layer
EPS = 2.0 ** -23
K = 8.0             # float32 against float64, in eps * (sum |x*w| + |bias|)

HEADER = """\
# Golden vectors of F.conv1d / F.conv2d / F.conv3d, written by generate.py.
#
# One layer a line, `key=value` separated by single spaces.  Lists are comma
# separated, one entry an axis (first spatial axis first); pad has two entries
# an axis: before,after.  PyTorch shapes, C order:
#   x (n, in, size...)   w (out, in/groups, kernel...)   bias (out)
#   y (n, out, out_size...)
# Only the elements 0, step, 2*step, ... of the flat y are stored: `count`
# values from the f32 number `offset` of outputs.bin (little-endian f32; offset
# counts values, not bytes).
#
# Element i (flat index) of a tensor with seed s, all modulo 2^32:
#   h = i*2654435761 + s*40503 + 12345
#   h ^= h>>15; h *= 2246822519; h ^= h>>13; h *= 3266489917; h ^= h>>16
#   value = float(h>>8) / 2^23 - 1         (exact in f32, in [-1, 1))
# Layer k (from 0, in the order of the lines): x has the seed 3*k, w 3*k+1,
# bias 3*k+2.
"""


def fill(shape, seed):
    h = np.arange(math.prod(shape), dtype=np.uint32)
    h *= np.uint32(2654435761)
    h += np.uint32((seed * 40503 + 12345) % 2 ** 32)
    h ^= h >> np.uint32(15)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    h *= np.uint32(3266489917)
    h ^= h >> np.uint32(16)
    return torch.from_numpy((h >> np.uint32(8)).astype(np.float64) / 2.0 ** 23 - 1.0).reshape(shape)


class Layer:
    def __init__(self, name, size, cin, cout, kernel, stride=1, pad=0, dilation=1,
                 groups=1, bias=1, n=1):
        rank = len(size)

        def per_axis(v):
            return (v,) * rank if isinstance(v, int) else tuple(v)

        self.name, self.rank, self.n = name, rank, n
        self.size, self.cin, self.cout = tuple(size), cin, cout
        self.kernel, self.stride, self.dilation = map(per_axis, (kernel, stride, dilation))
        # pad: one number, one an axis, or (before, after) an axis.
        self.pad = tuple((p, p) if isinstance(p, int) else tuple(p) for p in per_axis(pad))
        self.groups, self.bias = groups, bias
        assert cin % groups == 0 and cout % groups == 0
        assert rank == len(self.kernel) == len(self.stride) == len(self.dilation) == len(self.pad)
        self.extent = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation))
        self.out_size = tuple(
            (s + sum(p) - e) // t + 1 if s + sum(p) >= e else 0
            for s, p, e, t in zip(self.size, self.pad, self.extent, self.stride))

    @property
    def x_shape(self):
        return (self.n, self.cin, *self.size)

    @property
    def w_shape(self):
        return (self.cout, self.cin // self.groups, *self.kernel)

    @property
    def y_shape(self):
        return (self.n, self.cout, *self.out_size)

    @property
    def macs(self):
        return math.prod(self.y_shape) * math.prod(self.w_shape[1:])

    @property
    def asymmetric(self):
        return any(a != b for a, b in self.pad)

    def key(self):
        return (self.x_shape, self.w_shape, self.stride, self.pad, self.dilation,
                self.groups, self.bias)

    def step(self):
        """A stride through the flat output that keeps few elements and, being
        prime to its length, does not stay in one column or one channel."""
        total = math.prod(self.y_shape)
        want = 17 if self.name == "textbook_127" else MAX_COUNT
        step = -(-total // want)
        while math.gcd(step, total) != 1 and step > 1:
            step += 1
        return step

    def line(self, step, offset, count):
        def join(v):
            return ",".join(map(str, v))

        fields = [
            ("name", self.name), ("rank", self.rank), ("n", self.n), ("in", self.cin),
            ("size", join(self.size)), ("out", self.cout), ("kernel", join(self.kernel)),
            ("stride", join(self.stride)), ("pad", join(p for ab in self.pad for p in ab)),
            ("dilation", join(self.dilation)), ("groups", self.groups), ("bias", self.bias),
            ("out_size", join(self.out_size)), ("step", step), ("offset", offset),
            ("count", count)]
        return " ".join(f"{k}={v}" for k, v in fields)


def textbook():
    two = dict(pad=(1, 0), kernel=(6, 3))
    return [
        Layer("textbook_3x4x4", (4, 4), 3, 6, 3),
        Layer("textbook_22x1024", (18, 19), 1024, 22, **two),
        Layer("textbook_groups64", (18, 19), 1024, 64, groups=64, **two),
        Layer("textbook_127", (255, 255), 256, 1, 127, bias=0),
        Layer("textbook_7x7_k5s2p2_g64", (7, 7), 64, 64, 5, stride=2, pad=2, groups=64),
        Layer("textbook_dilation3", (7, 7), 3, 4, 3, dilation=3),
    ]


CHANNELS = (1, 3, 7, 8, 9, 16, 17, 31, 32, 33, 48, 64)


def explicit():
    out = []

    def add(*args, **kwargs):
        out.append(Layer(*args, **kwargs))

    # Every channel count: dense, pointwise, depthwise.
    for i, c in enumerate(CHANNELS):
        other = CHANNELS[(5 * i + 4) % len(CHANNELS)]
        size = (5, 6) if c * c < 1000 else (2, 3)
        add(f"dense_{c}", size, c, c, 3, pad=1)
        add(f"dense_{c}_to_{other}", (4, 4), c, other, 2, bias=i % 2)
        add(f"pointwise_{c}", (3, 5), c, c, 1, bias=(i + 1) % 2)
        add(f"pointwise_{c}_to_{other}", (5, 3), c, other, 1, n=1 + i % 3)
        add(f"depthwise_{c}", (6, 7), c, c, 3, pad=1, groups=c)
        add(f"depthwise_{c}_s2", (7, 6), c, c, 3, stride=2, pad=1, groups=c, n=1 + i % 3,
            bias=i % 2)
    # Depthwise with a multiplier.
    for c in (1, 3, 8, 17, 32):
        for m in (2, 3):
            add(f"depthwise_{c}_x{m}", (5, 6), c, c * m, 3, pad=1, groups=c)
            add(f"depthwise_{c}_x{m}_1d", (13,), c, c * m, 4, pad=2, groups=c, bias=0, n=2)
    # Groups: (groups, inputs of each, outputs of each).
    for g, ci, co in ((2, 3, 5), (2, 8, 8), (2, 16, 17), (2, 4, 33), (2, 9, 20), (3, 3, 3),
                      (3, 7, 11), (3, 4, 24), (3, 5, 17), (4, 4, 4), (8, 4, 4), (16, 4, 4),
                      (9, 4, 4), (12, 4, 4), (4, 12, 12), (2, 12, 12), (3, 4, 12), (5, 2, 12),
                      (7, 1, 12), (4, 8, 2), (8, 2, 1), (6, 4, 8), (2, 1, 31), (1, 16, 48)):
        add(f"groups_{g}x{ci}to{co}", (5, 4), g * ci, g * co, 3, pad=1, groups=g)
        add(f"groups_{g}x{ci}to{co}_pw", (3, 4), g * ci, g * co, 1, groups=g, bias=0)
    # Kernels of all sizes in each rank.
    for k in range(1, 8):
        add(f"kernel_{k}_1d", (16,), 5, 9, k, pad=k // 2)
        add(f"kernel_{k}_2d", (8, 9), 3, 8, k, pad=k // 2, bias=k % 2)
    for k in range(2, 5):
        add(f"kernel_{k}_3d", (5, 4, 6), 2, 8, k, pad=k // 2)
    for a, b in ((1, 7), (7, 1), (2, 5), (4, 3), (6, 1), (1, 2), (3, 7), (5, 4)):
        add(f"kernel_{a}x{b}", (8, 9), 4, 9, (a, b), pad=(a // 2, b // 2))
        add(f"depthwise_kernel_{a}x{b}", (8, 9), 16, 16, (a, b), pad=(a // 2, b // 2), groups=16)
    add("kernel_1x3x2_3d", (4, 5, 6), 3, 7, (1, 3, 2), pad=(0, 1, 1))
    add("kernel_3x1x1_3d", (4, 5, 6), 8, 9, (3, 1, 1), pad=(1, 0, 0), bias=0)
    add("kernel_2x2x5_3d", (3, 4, 7), 3, 5, (2, 2, 5))
    # Strides and dilations, different on each axis.
    for st in ((1, 2), (2, 1), (3, 1), (2, 3), (3, 3)):
        add(f"stride_{st[0]}x{st[1]}", (9, 10), 3, 16, 3, stride=st, pad=1)
        add(f"stride_{st[0]}x{st[1]}_pw", (9, 10), 7, 17, 1, stride=st)
    for di in ((1, 2), (2, 1), (3, 1), (2, 3), (3, 3)):
        add(f"dilation_{di[0]}x{di[1]}", (9, 10), 3, 9, 3, dilation=di, pad=di)
        add(f"dilation_{di[0]}x{di[1]}_dw", (9, 10), 17, 17, 3, dilation=di, pad=1, groups=17)
    add("stride3_dilation2_1d", (23,), 8, 16, 5, stride=3, dilation=2, pad=4)
    add("stride_123_3d", (5, 6, 7), 3, 8, 3, stride=(1, 2, 3), pad=1)
    add("dilation_312_3d", (8, 4, 6), 3, 8, 3, dilation=(3, 1, 2), pad=1)
    add("stride2x1_dilation1x3", (9, 11), 4, 12, (3, 2), stride=(2, 1), dilation=(1, 3), n=2)
    add("stride_past_window", (10, 11), 5, 6, 1, stride=3, pad=1, n=2)
    # Paddings: asymmetric, one-sided, wider than the window.
    add("pad_asym_1d", (9,), 3, 8, 4, pad=((1, 2),))
    add("pad_left_only_1d", (9,), 8, 8, 5, pad=((4, 0),), n=2)
    add("pad_right_only_1d", (9,), 8, 9, 3, dilation=2, pad=((0, 4),))
    add("pad_asym_2d", (5, 6), 3, 16, 3, pad=((0, 1), (2, 1)))
    add("pad_asym_s2", (6, 8), 3, 16, 3, stride=2, pad=((0, 1), (0, 1)))
    add("pad_asym_dw", (6, 8), 32, 32, 3, stride=2, pad=((0, 1), (0, 1)), groups=32)
    add("pad_asym_3d", (3, 4, 5), 3, 7, 2, pad=((1, 0), (0, 1), (2, 0)))
    add("pad_wide_1d", (4,), 3, 5, 3, pad=5)
    add("pad_wide_2d", (3, 4), 3, 7, 2, pad=(3, 4))
    add("pad_wide_dw", (3, 4), 8, 8, 3, pad=4, groups=8)
    add("pad_wide_pw", (3, 4), 8, 16, 1, pad=2)
    add("pad_wide_asym", (3, 4), 4, 9, (2, 3), pad=((5, 0), (0, 6)))
    add("pad_wide_s3", (4, 4), 4, 9, 2, stride=3, pad=4, bias=0)
    add("pad_wide_3d", (2, 2, 3), 2, 4, 2, pad=(2, 3, 2))
    for n in (2, 3):
        add(f"batch_{n}_pad", (4, 5), 7, 17, 3, pad=1, n=n)
        add(f"batch_{n}_pad_dw", (4, 5), 9, 9, 3, pad=2, groups=9, n=n)
        add(f"batch_{n}_pad_1d", (8,), 9, 16, 3, pad=1, n=n)
        add(f"batch_{n}_pad_3d", (2, 3, 4), 3, 8, 3, pad=1, n=n)
    # Images of one pixel; kernels as big as the input.
    for rank in (1, 2, 3):
        one = (1,) * rank
        add(f"one_pixel_pw_{rank}d", one, 17, 33, 1)
        add(f"one_pixel_k3_{rank}d", one, 9, 8, 3, pad=1, n=2)
        add(f"one_pixel_dw_{rank}d", one, 16, 16, 3, pad=1, groups=16)
        add(f"one_pixel_wide_{rank}d", one, 3, 7, 2, pad=2, bias=0)
    add("whole_1d", (7,), 16, 10, 7)
    add("whole_2d", (5, 6), 9, 17, (5, 6), n=2)
    add("whole_2d_dw", (4, 4), 48, 48, 4, groups=48)
    add("whole_2d_groups", (3, 4), 12, 36, (3, 4), groups=3, bias=0)
    add("whole_3d", (3, 2, 4), 7, 9, (3, 2, 4))
    add("whole_3d_dw", (2, 3, 3), 17, 17, (2, 3, 3), groups=17)
    # Rank 3 otherwise.
    add("dense_3d", (4, 4, 4), 8, 16, 3, pad=1)
    add("pointwise_3d", (2, 3, 4), 16, 33, 1, n=2)
    add("depthwise_3d", (4, 5, 4), 17, 17, 3, pad=1, groups=17)
    add("depthwise_3d_x2", (4, 5, 4), 8, 16, 3, stride=(1, 2, 2), pad=1, groups=8)
    add("depthwise_3d_x3", (3, 4, 5), 3, 9, 2, pad=1, groups=3)
    add("groups_3d", (3, 3, 4), 8, 8, 3, pad=1, groups=2)
    add("groups_of_4_3d", (3, 3, 4), 16, 16, 3, pad=1, groups=4)
    return out


def drawn(count, taken):
    """Layers with every parameter drawn at random, the same on every run."""
    rng = random.Random(20240229)

    def below(n):
        return int(rng.random() * n)

    def pick(*choices):
        return choices[below(len(choices))]

    out = []
    while len(out) < count:
        rank = 1 + len(out) % 3
        kind = below(8)
        if kind == 0:
            g, ci, co = 1, pick(*CHANNELS), pick(*CHANNELS)
        elif kind == 1:
            g, ci, co = 2, pick(1, 3, 4, 8, 16, 24), pick(1, 4, 7, 8, 16, 24)
        elif kind == 2:
            g, ci, co = 3, pick(1, 3, 5, 11, 16), pick(1, 2, 3, 8, 11, 16)
        elif kind == 3:
            g, ci, co = pick(*CHANNELS), 1, 1
        elif kind == 4:
            g, ci, co = pick(3, 7, 8, 9, 16, 17), 1, pick(2, 3)
        elif kind == 5:
            g, ci, co = pick(2, 3, 4, 8, 12, 16), 4, 4
        elif kind == 6:
            g, ci, co = pick(2, 3), pick(1, 4, 8, 9), pick(17, 20, 24, 31, 32, 33)
        else:
            g, ci, co = pick(2, 3, 4), pick(1, 3, 4, 8, 12), 12
        largest = (17, 9, 5)[rank - 1]
        kernel, stride, dilation, pad, size = [], [], [], [], []
        for _ in range(rank):
            k = 1 + below((7, 7, 4)[rank - 1])
            d = 1 + below(3) if k > 1 else 1
            extent = (k - 1) * d + 1
            style = below(5)
            if style == 0:
                p = (0, 0)
            elif style <= 2:
                p = (below(extent // 2 + 2),) * 2
            elif style == 3:
                p = (below(4), below(4))
            else:
                p = (extent + below(2), below(extent + 2))
            s = 1 if below(12) == 0 else 1 + below(largest)
            kernel.append(k), dilation.append(d), pad.append(p), size.append(s)
            stride.append(1 + below(3))
        if below(8) == 0:
            kernel, dilation = [1] * rank, [1] * rank
        layer = Layer(f"drawn_{len(out):03d}_{rank}d", size, g * ci, g * co, kernel, stride,
                      pad, dilation, g, below(3) and 1, 1 + below(3))
        outputs = math.prod(layer.y_shape)
        if not 1 <= outputs <= 4096 or layer.macs > MAX_MACS or layer.key() in taken:
            continue
        # Mostly more than a handful of outputs.
        if math.prod(layer.out_size) == 1 and below(4):
            continue
        taken.add(layer.key())
        out.append(layer)
    return out


def convolve(layer, x, w, b):
    conv = (F.conv1d, F.conv2d, F.conv3d)[layer.rank - 1]
    padding = tuple(a for a, _ in layer.pad)
    if layer.asymmetric:
        # F.pad names the last axis first.
        x = F.pad(x, [p for ab in reversed(layer.pad) for p in ab])
        padding = 0
    return conv(x, w, b, layer.stride, padding, layer.dilation, layer.groups)


def compute(layer, k):
    """The float64 output, its sum of |x*w|, the float32 output."""
    x, w = fill(layer.x_shape, 3 * k), fill(layer.w_shape, 3 * k + 1)
    b = fill((layer.cout,), 3 * k + 2) if layer.bias else None
    y = convolve(layer, x, w, b)
    size = convolve(layer, x.abs(), w.abs(), None if b is None else b.abs())
    y32 = convolve(layer, x.float(), w.float(), None if b is None else b.float())
    return y, size, y32


def compute_big(layer, k, step):
    """One output channel, no padding, stride 1: by FFT.  The elements that are
    stored are also computed directly, in float64 and float32."""
    assert layer.n == layer.cout == layer.groups == 1 and not layer.bias
    assert layer.rank == 2 and set(layer.stride + layer.dilation) == {1}
    x, w = fill(layer.x_shape, 3 * k), fill(layer.w_shape, 3 * k + 1)
    (h, ww), (oh, ow), (kh, kw) = layer.size, layer.out_size, layer.kernel
    grid = (h + h % 2, ww + ww % 2)
    total = 0
    for c in range(layer.cin):
        total = total + torch.fft.rfft2(x[0, c], grid) * torch.fft.rfft2(w[0, c], grid).conj()
    y = torch.fft.irfft2(total, grid)[:oh, :ow].reshape(layer.y_shape)
    size, y32 = torch.full_like(y, float("nan")), y.float()
    flat_size, flat32 = size.view(-1), y32.view(-1)
    for i in range(0, oh * ow, step):
        part = x[:, :, i // ow:i // ow + kh, i % ow:i % ow + kw]
        direct = (part * w).sum().item()
        assert abs(direct - y.reshape(-1)[i].item()) < 1e-8, (layer.name, i)
        flat_size[i] = (part * w).abs().sum()
        flat32[i] = F.conv2d(part.float(), w.float()).item()
    return y, size, y32


def check_coverage(layers):
    """What the file must hold, counted; every count must be above zero."""
    def axes(f):
        return {v for l in layers for v in f(l)}

    counts = {
        "rank 1": sum(l.rank == 1 for l in layers),
        "rank 2": sum(l.rank == 2 for l in layers),
        "rank 3": sum(l.rank == 3 for l in layers),
        "batch 2": sum(l.n == 2 for l in layers),
        "batch 3": sum(l.n == 3 for l in layers),
        "batch > 1 with padding": sum(l.n > 1 and any(map(any, l.pad)) for l in layers),
        "no bias": sum(not l.bias for l in layers),
        "2 groups": sum(l.groups == 2 for l in layers),
        "3 groups": sum(l.groups == 3 for l in layers),
        "depthwise": sum(1 < l.groups == l.cin == l.cout for l in layers),
        "depthwise x2": sum(1 < l.groups == l.cin == l.cout / 2 for l in layers),
        "depthwise x3": sum(1 < l.groups == l.cin == l.cout / 3 for l in layers),
        "groups of 4 channels": sum(
            l.groups > 1 and l.cin == l.cout == 4 * l.groups for l in layers),
        "groups of more than 16 outputs": sum(
            l.groups > 1 and l.cout > 16 * l.groups for l in layers),
        "groups of 12 outputs": sum(l.groups > 1 and l.cout == 12 * l.groups for l in layers),
        "stride differs": sum(len(set(l.stride)) > 1 for l in layers),
        "dilation differs": sum(len(set(l.dilation)) > 1 for l in layers),
        "asymmetric padding": sum(l.asymmetric for l in layers),
        "padding as wide as the window": sum(
            any(max(p) >= e for p, e in zip(l.pad, l.extent)) for l in layers),
        "even kernel": sum(any(k % 2 == 0 for k in l.kernel) for l in layers),
        "non-square kernel": sum(len(set(l.kernel)) > 1 for l in layers),
        "pointwise": sum(set(l.kernel) == {1} for l in layers),
        "kernel as big as the input": sum(
            l.kernel == l.size and max(l.size) > 1 for l in layers),
        "image of one pixel": sum(set(l.size) == {1} for l in layers),
    }
    for what, count in counts.items():
        assert count, what
    assert axes(lambda l: l.kernel) >= set(range(1, 8))
    assert axes(lambda l: l.stride) >= {1, 2, 3} and axes(lambda l: l.dilation) >= {1, 2, 3}
    assert axes(lambda l: (l.cin,)) >= set(CHANNELS) <= axes(lambda l: (l.cout,))
    assert len({l.name for l in layers}) == len({l.key() for l in layers}) == len(layers)
    assert all(l.macs <= MAX_MACS or l.name.startswith("textbook_") for l in layers)
    assert len(layers) >= 260
    return counts


def unique(layers):
    seen, out = set(), []
    for layer in layers:
        if layer.key() not in seen:
            seen.add(layer.key())
            out.append(layer)
    return out, seen


def reread(stored):
    """Read both files again and compare with what was computed."""
    values = np.fromfile(HERE / "outputs.bin", "<f4")
    lines = [l for l in (HERE / "layers.txt").read_text().splitlines() if not l.startswith("#")]
    end = 0
    for line, (name, want) in zip(lines, stored, strict=True):
        f = dict(field.split("=") for field in line.split(" "))
        offset, count, step = int(f["offset"]), int(f["count"]), int(f["step"])
        total = int(f["n"]) * int(f["out"]) * math.prod(map(int, f["out_size"].split(",")))
        assert f["name"] == name and offset == end and count == -(-total // step)
        assert np.array_equal(values[offset:offset + count], want) and np.isfinite(want).all()
        end += count
    assert end == len(values)
    return len(lines), len(values)


def main():
    torch.set_num_threads(1)
    start = time.time()
    layers, taken = unique(textbook() + explicit())
    layers += drawn(150, taken)
    counts = check_coverage(layers)

    lines, stored, offset, worst = [], [], 0, 0.0
    for k, layer in enumerate(layers):
        step = layer.step()
        if layer.name == "textbook_127":
            y, size, y32 = compute_big(layer, k, step)
        else:
            y, size, y32 = compute(layer, k)
        assert tuple(y.shape) == tuple(y32.shape) == layer.y_shape, layer.name
        assert y.isfinite().all() and y32.isfinite().all(), layer.name
        # size is NaN where the big layer was not computed directly.
        error = ((y32.double() - y).abs() / (EPS * size).clamp_min(1e-30)).nan_to_num(0.0)
        worst = max(worst, error.max().item())
        assert error.max() <= K, (layer.name, error.max())
        kept = y.reshape(-1)[::step].float().numpy()
        lines.append(layer.line(step, offset, len(kept)))
        stored.append((layer.name, kept))
        offset += len(kept)

    (HERE / "layers.txt").write_text(HEADER + "\n".join(lines) + "\n")
    np.concatenate([v for _, v in stored]).astype("<f4").tofile(HERE / "outputs.bin")

    count, values = reread(stored)
    for what, number in counts.items():
        print(f"{number:4d}  {what}")
    print(f"float32 against float64: at most {worst:.2f} eps * sum|x*w|")
    print(f"{count} layers, {values} outputs, {time.time() - start:.0f} s")
    for name in ("layers.txt", "outputs.bin"):
        print(f"{name}: {(HERE / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
