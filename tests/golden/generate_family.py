#!/usr/bin/env python3
"""Golden vectors of the operators beside the ordinary convolution: what PyTorch,
torchvision and scipy give.

Run it with

    pip install torch torchvision numpy scipy
    python tests/golden/generate_family.py

It writes family.txt and family.bin next to itself; their format is told at the
head of family.txt.  As in generate.py, tensors come from a formula on integers,
outputs are computed in float64 and stored rounded to float32, and PyTorch's
float32 must agree within a small multiple of eps * sum(|x*w|).  Where data are
integers the two must be equal.  The cases are listed in family_cases.py.
"""

import math

import numpy as np
import scipy.signal
import scipy.special
import torch
import torch.nn.functional as F
import torchvision
from torchvision.ops import deform_conv2d

from family_cases import all_cases
from generate import EPS, HERE, K, fill

HEADER = f"""\
# Golden vectors of the operators beside the ordinary convolution, written by
# generate_family.py with torch {torch.__version__}, torchvision {torchvision.__version__},
# scipy {scipy.__version__}.
#
# One case a line, `key=value` separated by single spaces.  Lists are comma
# separated, one entry an axis (first spatial axis first); pad has two entries
# an axis: before,after.  Only the elements 0, step, 2*step, ... of the flat
# output y are stored: `count` values from the f32 number `offset` of family.bin
# (little-endian f32; offset counts values, not bytes).  exact=1: float32 gives
# just these values, in whatever order it adds.
#
# PyTorch shapes, C order, where they are not x (n, in, size...),
# w (out, in/groups, kernel...), bias (out), y (n, out, out_size...):
#   op=conv_transpose  F.conv_transpose1d/2d/3d: w (in, out/groups, kernel...)
#   op=flipped         the window turned around: scipy.signal.convolve in a mode,
#                      or (source=torch) F.conv1d/2d/3d of a flipped w
#   op=deform_conv     torchvision's deform_conv2d: offset
#                      (n, 2*offset_groups*taps, out_size...), y before x, and with
#                      mask=1 mask (n, offset_groups*taps, out_size...)
#   op=correlation     F.conv2d of each sample with a w of its own:
#                      w (n, out, in/groups, kernel...)
#   op=padding_mode    torch.nn.Conv1d/2d/3d with padding_mode=mode
#   op=unfold          F.unfold: y (n, in*taps, blocks); out_size has the blocks
#   op=fold            F.fold: x (n, in*taps, blocks), y (n, in, size...)
#   op=separable       relu(pointwise(relu6(depthwise(x)))): w (in*multiplier, 1,
#                      kernel...), bias (in*multiplier), then pointwise_w
#                      (out, in*multiplier), pointwise_bias (out)
#   op=activation      F.<function>(x, parameter): stored are `inputs` values x,
#                      as many y, and what PyTorch's float32 gives for each of
#                      the first `specials`, as a tensor of one element (in longer
#                      ones its gelu on AVX-512 makes a NaN of +inf)
#
# Element i (flat index) of a tensor with seed s, all modulo 2^32:
#   h = i*2654435761 + s*40503 + 12345
#   h ^= h>>15; h *= 2246822519; h ^= h>>13; h *= 3266489917; h ^= h>>16
#   real = float(h>>8) / 2^23 - 1          (exact in f32, in [-1, 1))
#   integer = (h>>8) % 9 - 4
# Line k (from 0): x has the seed 8*k, w 8*k+1, bias 8*k+2, offset 8*k+3,
# mask 8*k+4, pointwise_w 8*k+5, pointwise_bias 8*k+6.  With integer=1 they are
# integers, otherwise reals, but for
#   offset   times offset_scale, rounded to f32; or as listed in `offsets`
#   mask     (integer + 4) / 8 or (real + 1) / 2
#   w        of a separable layer with integer=0: times w_scale
#   x        with infinite=m, not 0: +inf where i % m is 0
"""

MAX_STORED = 128  # outputs of one case
CONV = (F.conv1d, F.conv2d, F.conv3d)
CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
CONV_MODULE = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


# ---- Tensors ----


class Tensors:
    """The inputs of case k in float64."""

    def __init__(self, case, k):
        def data(shape, seed):
            real = fill(shape, 8 * k + seed)
            return ((real + 1) * 2 ** 23) % 9 - 4 if case.integer else real

        self.x, self.w = data(case.x_shape, 0), data(case.w_shape, 1)
        self.bias = data((case.w_shape[0] if case.op == "separable" else case.cout,), 2)
        self.bias = self.bias if case.bias else None
        if case.op == "deform_conv":
            places = case.more["offset_groups"] * case.taps
            shape = (case.n, 2 * places, *case.out_size)
            if "offsets" in case.more:
                self.offset = torch.tensor(case.more["offsets"], dtype=torch.float64).reshape(shape)
            else:
                self.offset = data(shape, 3) * case.more["offset_scale"]
            self.offset = self.offset.float().double()
            mask = data((case.n, places, *case.out_size), 4)
            mask = (mask + 4) / 8 if case.integer else (mask + 1) / 2
            self.mask = mask if case.more["mask"] else None
            if case.more["infinite"]:
                self.x.view(-1)[::case.more["infinite"]] = float("inf")
        if case.op == "separable":
            self.w = self.w if case.integer else self.w * case.more["w_scale"]
            self.pointwise_w = data((case.cout, case.middle) + (1,) * case.rank, 5)
            self.pointwise_bias = data((case.cout,), 6) if case.bias else None

    def map(self, f):
        """The same tensors, changed."""
        mapped = object.__new__(Tensors)
        for name, tensor in vars(self).items():
            setattr(mapped, name, None if tensor is None else f(tensor))
        return mapped


# ---- Operators: each takes a case and tensors of any element type ----


def conv_transpose(case, t):
    assert all(o < max(s, d) for o, s, d in zip(
        case.more["output_pad"], case.stride, case.dilation))
    padding = tuple(before for before, after in case.pad if before == after)
    return CONV_TRANSPOSE[case.rank - 1](
        t.x, t.w, t.bias, case.stride, padding, case.more["output_pad"], case.groups,
        case.dilation)


def convolve(case, x, w, bias, groups):
    """F.conv with padding that may differ at both ends."""
    x = F.pad(x, [p for sides in reversed(case.pad) for p in sides])
    return CONV[case.rank - 1](x, w, bias, case.stride, 0, case.dilation, groups)


def flipped(case, t):
    return convolve(case, t.x, t.w.flip(tuple(range(2, 2 + case.rank))), t.bias, case.groups)


def scipy_convolve(case, t):
    """The same by scipy, channel by channel."""
    assert case.groups == 1 and set(case.stride + case.dilation) == {1}
    x, w, mode = t.x.numpy(), t.w.numpy(), case.more["source"]
    y = np.zeros(case.y_shape)
    for n, out, cin in np.ndindex(case.n, case.cout, case.cin):
        part = scipy.signal.convolve(x[n, cin], w[out, cin], mode, method="direct")
        if case.rank == 2:
            same = scipy.signal.convolve2d(x[n, cin], w[out, cin], mode)
            assert np.allclose(part, same, rtol=0, atol=1e-13)
        y[n, out] += part
    if t.bias is not None:
        y += t.bias.numpy().reshape(-1, *(1,) * case.rank)
    return torch.from_numpy(y)


def deform_conv(case, t):
    padding = tuple(before for before, _ in case.pad)
    return deform_conv2d(t.x, t.offset, t.w, t.bias, case.stride, padding, case.dilation, t.mask)


def deform_by_definition(case, t):
    """The same from the definition, in float64, with what bounds its error: the
    magnitudes of all products, and of what a rounded position changes."""
    (oh, ow), (kh, kw), (height, width) = case.out_size, case.kernel, case.size
    offset_groups = case.more["offset_groups"]
    offset = t.offset.numpy().reshape(case.n, offset_groups, case.taps, 2, oh, ow)
    # Rows and columns that are read: (n, offset group, tap, oh, ow).
    y = offset[:, :, :, 0] + np.arange(oh)[:, None] * case.stride[0] - case.pad[0][0]
    x = offset[:, :, :, 1] + np.arange(ow) * case.stride[1] - case.pad[1][0]
    y += np.repeat(np.arange(kh), kw)[:, None, None] * case.dilation[0]
    x += np.tile(np.arange(kw), kh)[:, None, None] * case.dilation[1]
    inside = (y > -1) & (y < height) & (x > -1) & (x < width)
    y, x = np.where(inside, y, 0), np.where(inside, x, 0)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    image = t.x.numpy()
    n = np.arange(case.n)[:, None, None, None, None]
    samples, moved = [], []
    for c in range(case.cin):
        og = c // (case.cin // offset_groups)
        sample, change = 0.0, 0.0
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            at_y, at_x = top[:, [og]] + row, left[:, [og]] + column
            there = (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width) & inside[:, [og]]
            value = np.where(there, image[n, c, at_y.clip(0, height - 1), at_x.clip(0, width - 1)],
                             0)
            in_y = np.abs(1 - row - (y - top)[:, [og]])
            in_x = np.abs(1 - column - (x - left)[:, [og]])
            weight = in_y * in_x
            sample = sample + np.where(there, weight * value, 0)
            change = change + np.abs(value) * (
                weight + np.abs(y[:, [og]]) * in_x + np.abs(x[:, [og]]) * in_y)
        samples.append(sample), moved.append(change)
    sample, moved = np.concatenate(samples, 1), np.concatenate(moved, 1)
    if t.mask is not None:
        mask = t.mask.numpy().reshape(case.n, offset_groups, case.taps, oh, ow)
        mask = mask.repeat(case.cin // offset_groups, 1)
        sample, moved = sample * mask, moved * mask

    def weigh(samples, w, bias):
        samples = samples.reshape(case.n, case.groups, case.cin // case.groups, case.taps, oh, ow)
        w = w.reshape(case.groups, case.cout // case.groups, case.cin // case.groups, case.taps)
        y = np.einsum("ngcthw,goct->ngohw", samples, w).reshape(case.y_shape)
        return torch.from_numpy(y if bias is None else y + bias.reshape(-1, 1, 1))

    bias = None if t.bias is None else t.bias.numpy()
    return (weigh(sample, t.w.numpy(), bias),
            weigh(moved, np.abs(t.w.numpy()), None if bias is None else np.abs(bias)))


def correlation(case, t):
    """All samples as groups of one."""
    x = t.x.reshape(1, case.n * case.cin, *case.size)
    w = t.w.reshape(case.n * case.cout, *case.w_shape[2:])
    x = F.pad(x, [p for sides in reversed(case.pad) for p in sides])
    y = F.conv2d(x, w, None, case.stride, 0, case.dilation, case.n * case.groups)
    return y.reshape(case.y_shape)


def padding_mode(case, t):
    padding = "same" if case.same else tuple(before for before, _ in case.pad)
    module = CONV_MODULE[case.rank - 1](
        case.cin, case.cout, case.kernel, case.stride, padding, case.dilation, case.groups,
        t.bias is not None, case.more["mode"], dtype=t.x.dtype)
    with torch.no_grad():
        module.weight.copy_(t.w)
        if t.bias is not None:
            module.bias.copy_(t.bias)
        return module(t.x)


def unfold(case, t):
    return F.unfold(t.x, case.kernel, case.dilation, [p for p, _ in case.pad], case.stride)


def fold(case, t):
    return F.fold(t.x, case.size, case.kernel, case.dilation, [p for p, _ in case.pad],
                  case.stride)


def separable(case, t):
    middle = F.relu6(convolve(case, t.x, t.w, t.bias, case.cin))
    return F.relu(F.conv2d(middle, t.pointwise_w, t.pointwise_bias))


def separable_magnitude(case, t):
    middle = convolve(case, t.x, t.w, t.bias, case.cin)
    return F.conv2d(middle, t.pointwise_w, t.pointwise_bias)


def compute(case, t):
    """The output in float64, the sum of the magnitudes of what it adds up, and
    the output in float32."""
    operator = globals()[case.op]
    y, y32 = operator(case, t), operator(case, t.map(torch.Tensor.float))
    if case.op == "deform_conv":
        again, magnitude = deform_by_definition(case, t)
        assert torch.allclose(again, y, rtol=0, atol=1e-9, equal_nan=True), case.name
    elif case.op == "separable":
        magnitude = separable_magnitude(case, t.map(torch.abs))
    else:
        magnitude = operator(case, t.map(torch.abs))
    if case.op == "flipped" and case.more["source"] != "torch":
        by_torch, y = y, scipy_convolve(case, t)
        assert (by_torch - y).abs().max() < 1e-12, case.name
    return y, magnitude, y32


def resolution(case, t):
    """What all products of integer data are multiples of."""
    if case.op != "deform_conv":
        return 1.0
    bits = next(b for b in range(20) if torch.all(t.offset * 2 ** b % 1 == 0))
    return 2.0 ** -(2 * bits + (0 if t.mask is None else 3))


def check(case, t, y, magnitude, y32):
    """How far float32 is from float64, in eps times the magnitude."""
    assert tuple(y.shape) == tuple(magnitude.shape) == tuple(y32.shape) == case.y_shape, case.name
    if case.exact:
        same = (y32.double() == y) | (y.isnan() & y32.isnan())
        assert same.all(), case.name
        finite = magnitude[magnitude.isfinite()]
        if case.integer:
            assert (finite / resolution(case, t) < 2 ** 24).all(), case.name
        return 0.0
    assert y.isfinite().all() and y32.isfinite().all(), case.name
    error = ((y32.double() - y).abs() / (EPS * magnitude).clamp_min(1e-30)).max().item()
    assert error <= K, (case.name, error)
    return error


# ---- Activations ----


def gelu(x):
    return 0.5 * x * scipy.special.erfc(-x / math.sqrt(2.0))


def gelu_tanh(x):
    """0.5 * x * (1 + tanh(u)), without the cancellation."""
    return x * scipy.special.expit(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x ** 3))


def silu(x):
    return x * scipy.special.expit(x)


def by_torch(f):
    return lambda x: f(torch.from_numpy(x)).numpy()


# Name: function, parameter, by PyTorch, accurately in float64 (None: PyTorch's float64).
ACTIVATIONS = [
    ("sigmoid", "sigmoid", 0, torch.sigmoid, scipy.special.expit),
    ("tanh", "tanh", 0, torch.tanh, np.tanh),
    ("silu", "silu", 0, F.silu, silu),
    ("gelu", "gelu", 0, F.gelu, gelu),
    ("gelu_tanh", "gelu_tanh", 0, lambda x: F.gelu(x, approximate="tanh"), gelu_tanh),
    ("elu", "elu", 1, F.elu, None),
    ("elu_half", "elu", 0.5, lambda x: F.elu(x, 0.5), None),
    ("prelu", "prelu", 0.25, lambda x: F.prelu(x, torch.tensor([0.25], dtype=x.dtype)), None),
    ("prelu_negative", "prelu", -2,
     lambda x: F.prelu(x, torch.tensor([-2], dtype=x.dtype)), None),
    ("hardsigmoid", "hardsigmoid", 0, F.hardsigmoid, None),
    ("hardswish", "hardswish", 0, F.hardswish, None),
]


def activation_inputs():
    """Special values, then ordinary ones."""
    positive = [0.0, math.inf, 2.0 ** -149, 3 * 2.0 ** -149, 2.0 ** -126 - 2.0 ** -149, 2.0 ** -126,
                float(np.finfo(np.float32).max)]
    specials = [math.nan] + [sign * v for v in positive for sign in (1, -1)]
    f32 = np.float32
    edges = [v for e in (3, 6, 1, 88.72283, 103.97208, 0.5)
             for v in (e, np.nextafter(f32(e), f32(0)), np.nextafter(f32(e), f32(200)))]
    edges += [1e-30, 1e-10, 1e-4, 0.01, 2, 2.5, 4, 5.5, 8, 9.01, 10, 13, 14.5, 20, 40, 87, 1e4,
              1e20]
    ordinary = [sign * v for v in edges for sign in (1, -1)]
    ordinary = np.concatenate([np.array(ordinary, np.float64), fill((24,), 1).numpy(),
                               fill((48,), 2).numpy() * 10])
    return len(specials), np.concatenate([specials, ordinary]).astype(f32)


def activations():
    """For each its line without offset and count, and what is stored."""
    specials, x32 = activation_inputs()
    x = x32.astype(np.float64)
    for name, function, parameter, torch_function, accurate in ACTIVATIONS:
        y64 = by_torch(torch_function)(x)
        y = accurate(x) if accurate else y64
        alone = [by_torch(torch_function)(x32[i:i + 1]) for i in range(specials)]
        y32 = np.concatenate([*alone, by_torch(torch_function)(x32[specials:])])
        for other in (y64, y32):
            assert np.array_equal(np.isnan(other), np.isnan(y)), name
            # PyTorch's gelu subtracts numbers near one: its error is that of x.
            # Its exponential overflows where the result would be subnormal, its
            # product where x is the largest number.
            bound = np.abs(x if "gelu" in name else y) * EPS * 8
            bound += np.maximum(np.abs(x), 1) * 2.0 ** -126
            near = (np.abs(other - y) <= bound) | (other == y) | np.isnan(y)
            near |= (np.abs(x) == np.finfo(np.float32).max) & (np.abs(other) == np.inf)
            assert near.all(), (name, x[~near], other[~near], y[~near])
        line = (f"name=activation_{name} op=activation function={function} parameter={parameter} "
                f"inputs={len(x)} specials={specials}")
        yield line, stored(np.concatenate([x32, y, y32[:specials]]))


# ---- The files ----


def number(v):
    """A float32 in as few digits as say it."""
    return str(int(v)) if v == int(v) else str(np.float32(v))


def line_of(case):
    fields = dict(
        name=case.name, op=case.op, rank=case.rank, n=case.n, size=case.size,
        out=case.cout, kernel=case.kernel, stride=case.stride,
        pad=[p for sides in case.pad for p in sides], dilation=case.dilation,
        groups=case.groups, bias=case.bias, integer=case.integer, exact=int(case.exact),
        **case.more, out_size=case.out_size)
    # `in` is a word of Python.
    fields = {"in" if key == "cin" else key: v for key, v in
              [*list(fields.items())[:4], ("cin", case.cin), *list(fields.items())[4:]]}

    def text(v):
        if isinstance(v, str):
            return v
        return ",".join(map(number, v)) if isinstance(v, (tuple, list)) else number(v)

    return " ".join(f"{key}={text(v)}" for key, v in fields.items())


def step_of(case):
    """A stride through the flat output that keeps few elements and, being prime
    to its length, does not stay in one column or one channel."""
    total = math.prod(case.y_shape)
    step = -(-total // MAX_STORED)
    while math.gcd(step, total) != 1 and step > 1:
        step += 1
    return step


def stored(values):
    """As float32, with one NaN."""
    values = values.astype(np.float32)
    values[np.isnan(values)] = np.uint32(0x7FC00000).view(np.float32)
    return values


def check_coverage(cases):
    """What the file must hold, counted."""
    def of(*ops):
        return [c for c in cases if c.op in ops]

    transposed, deformed = of("conv_transpose"), of("deform_conv")
    modes = of("padding_mode")
    per_axis = [(c, axis) for c in transposed for axis in zip(
        c.stride, c.dilation, c.kernel, c.pad, c.more["output_pad"], c.out_size, c.extent)]
    at_least = {
        "transposed": (60, len(transposed)),
        "transposed: stride and dilation with a common divisor": (
            6, sum(math.gcd(s, d) > 1 for _, (s, d, *_) in per_axis)),
        "transposed: kernel below stride": (6, sum(k < s for _, (s, _, k, *_) in per_axis)),
        "transposed: stride past output": (3, sum(s > o for _, (s, _, _, _, _, o, _) in per_axis)),
        "transposed: padding past window": (
            3, sum(p[0] >= e for _, (_, _, _, p, _, _, e) in per_axis)),
        "transposed: output padding at its limit": (
            6, sum(o == max(s, d) - 1 > 0 for _, (s, d, _, _, o, _, _) in per_axis)),
        "transposed: batch 2": (10, sum(c.n == 2 for c in transposed)),
        "transposed: groups": (10, sum(c.groups > 1 for c in transposed)),
        "flipped": (20, len(of("flipped"))),
        "flipped: by scipy": (12, sum(c.more["source"] != "torch" for c in of("flipped"))),
        "deformed": (40, len(deformed)),
        "deformed: mask": (15, sum(c.more["mask"] for c in deformed)),
        "deformed: no mask": (15, sum(not c.more["mask"] for c in deformed)),
        "deformed: groups": (6, sum(c.groups > 1 for c in deformed)),
        "deformed: offset groups": (6, sum(c.more["offset_groups"] > 1 for c in deformed)),
        "deformed: listed offsets": (10, sum("offsets" in c.more for c in deformed)),
        "correlation": (25, len(of("correlation"))),
        "correlation: batch": (20, sum(c.n > 1 for c in of("correlation"))),
        "padding modes": (30, len(modes)),
        **{mode: (10, sum(c.more["mode"] == mode for c in modes))
           for mode in ("reflect", "replicate", "circular")},
        "unfold and fold": (15, len(of("unfold", "fold"))),
        "separable": (8, len(of("separable"))),
        "all": (200, len(cases)),
    }
    for what, (least, count) in at_least.items():
        print(f"{count:4d}  {what}")
        assert count >= least, what
    for op in {c.op for c in cases}:
        assert 2 * sum(c.exact for c in of(op)) >= len(of(op)), op
    assert len({c.name for c in cases}) == len({c.key() for c in cases}) == len(cases)


def main():
    torch.set_num_threads(1)
    np.seterr(all="ignore")  # infinities and NaN are among the values
    cases = all_cases()
    check_coverage(cases)
    lines, values, offset, worst = [], [], 0, {}

    def store(line, part):
        nonlocal offset
        lines.append(f"{line} offset={offset} count={len(part)}")
        values.append(part)
        offset += len(part)

    for k, case in enumerate(cases):
        t = Tensors(case, k)
        y, magnitude, y32 = compute(case, t)
        error = check(case, t, y, magnitude, y32)
        worst[case.op] = max(worst.get(case.op, 0.0), error)
        step = step_of(case)
        store(f"{line_of(case)} step={step}", stored(y.reshape(-1)[::step].numpy() + 0.0))  # one zero
    for line, part in activations():
        store(line, part)

    (HERE / "family.txt").write_text(HEADER + "\n".join(lines) + "\n")
    np.concatenate(values).astype("<f4").tofile(HERE / "family.bin")
    for op, error in worst.items():
        print(f"{op}: float32 against float64: at most {error:.2f} eps * sum|x*w|")
    print(f"{len(lines)} lines, {offset} values")
    for name in ("family.txt", "family.bin"):
        print(f"{name}: {(HERE / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
