"""Which cases generate_family.py computes: for every operator a list by hand, and
where parameters combine freely, some that are drawn at random."""

import math
import random

from generate import Layer

SPATIAL = {1: (9,), 2: (6, 7), 3: (3, 4, 5)}


class Case(Layer):
    """A layer of some operator.  What only that operator has is in `more`.

    With integer data all sums are exact, in float32 too.  Two thirds of the
    cases of an operator have it, whatever else they are."""

    def __init__(self, op, name, size, cin, cout, kernel, integer=1, more=(), **layer):
        self.op, self.integer, self.more = op, integer, dict(more)
        self.same = layer.get("pad") == "same"
        if self.same:
            dilation = self.axes(size, layer.get("dilation", 1))
            totals = (d * (k - 1) for k, d in zip(kernel, dilation))
            layer["pad"] = tuple((total // 2, total - total // 2) for total in totals)
        super().__init__(f"{op}_{name}", size, cin, cout, kernel, **layer)
        if op == "conv_transpose":
            self.more["output_pad"] = self.axes(size, self.more["output_pad"])
            self.out_size = tuple(
                (s - 1) * t - sum(p) + e + o for s, t, p, e, o in zip(
                    self.size, self.stride, self.pad, self.extent, self.more["output_pad"]))

    @staticmethod
    def axes(size, v):
        return (v,) * len(size) if isinstance(v, int) else tuple(v)

    @property
    def exact(self):
        return self.integer or self.op == "unfold"

    @property
    def taps(self):
        return math.prod(self.kernel)

    @property
    def middle(self):
        """The channels between the two layers of a separable one."""
        return self.cin * self.more["multiplier"]

    @property
    def columns(self):
        """What F.unfold gives of the image."""
        return (self.n, self.cin * self.taps, math.prod(self.out_size))

    @property
    def x_shape(self):
        return self.columns if self.op == "fold" else super().x_shape

    @property
    def w_shape(self):
        if self.op == "conv_transpose":
            return (self.cin, self.cout // self.groups, *self.kernel)
        if self.op == "correlation":
            return (self.n, self.cout, self.cin // self.groups, *self.kernel)
        if self.op == "separable":
            return (self.middle, 1, *self.kernel)
        return super().w_shape

    @property
    def y_shape(self):
        if self.op == "unfold":
            return self.columns
        if self.op == "fold":
            return (self.n, self.cin, *self.size)
        return super().y_shape

    def key(self):
        return (self.op, self.integer, *super().key(), *sorted(self.more.items()))


class List:
    """The cases of one operator.  `add` makes every third one of reals."""

    def __init__(self, op):
        self.op, self.cases = op, []

    def add(self, name, *args, more=(), **layer):
        integer = layer.pop("integer", int(len(self.cases) % 3 != 2))
        self.cases.append(Case(self.op, name, *args, integer=integer, more=more, **layer))


class Draws:
    """Random numbers that are the same on every run and every Python."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def below(self, n):
        return int(self.rng.random() * n)

    def pick(self, *choices):
        return choices[self.below(len(choices))]

    def axes(self, rank, f):
        return tuple(f() for _ in range(rank))


def conv_transpose():
    listed = List("conv_transpose")

    def add(name, *args, op=0, **layer):
        listed.add(name, *args, more={"output_pad": op}, **layer)

    for rank in (1, 2, 3):
        size = SPATIAL[rank]
        d = f"_{rank}d"
        add("plain" + d, size, 3, 4, 3)
        add("no_bias" + d, size, 2, 5, 2, bias=0, n=2)
        add("doubling" + d, size, 4, 3, 4, stride=2, pad=1)
        add("disjoint" + d, size, 3, 2, 2, stride=2, n=2)
        add("same_k3_s2" + d, size, 3, 5, 3, stride=2, pad=1, op=1)
        add("kernel_below_stride" + d, size, 2, 3, 2, stride=3, op=2)
        add("one_tap_s3" + d, size, 3, 4, 1, stride=3, bias=0)
        add("stride_2_dilation_2" + d, size, 2, 3, 3, stride=2, dilation=2, pad=1)
        add("stride_past_output" + d, (1,) * rank, 3, 4, 3, stride=7)
        add("groups" + d, size, 6, 4, 3, stride=2, pad=1, groups=2)
        add("depthwise" + d, size, 5, 5, 3, stride=2, pad=1, op=1, groups=5)
        add("padding_past_window" + d, size, 2, 3, 2, stride=3, pad=3)
        add("limit_by_dilation" + d, size, 2, 2, 2, dilation=3, op=2, pad=1)
    # Stride and dilation with a common divisor: some phases have no tap at all.
    add("stride_4_dilation_2", (5,), 2, 3, 3, stride=4, dilation=2, op=3)
    add("stride_6_dilation_4", (4,), 3, 2, 3, stride=6, dilation=4, pad=2, op=5)
    add("stride_3_dilation_3", (5, 4), 2, 3, 3, stride=3, dilation=3, pad=3)
    add("stride_4_dilation_6", (5,), 2, 3, 3, stride=4, dilation=6, pad=5, op=5)
    add("stride_2x4_dilation_4x2", (4, 3), 2, 3, (2, 3), stride=(2, 4), dilation=(4, 2))
    add("stride_9_dilation_6", (3,), 2, 3, 4, stride=9, dilation=6, pad=7, n=2)
    # Without: every phase has taps, in another order than the window's.
    add("stride_3_dilation_2", (6,), 3, 4, 5, stride=3, dilation=2, pad=4)
    add("stride_2_dilation_3", (5, 4), 3, 4, (3, 4), stride=2, dilation=3, pad=2, op=1)
    add("stride_5_dilation_3", (5,), 3, 4, 6, stride=5, dilation=3, pad=6, op=4)
    # Axes that differ.
    add("stride_1x2", (5, 6), 3, 4, 3, stride=(1, 2), pad=1, op=(0, 1))
    add("stride_3x1", (4, 6), 3, 4, (3, 2), stride=(3, 1), pad=(1, 0), op=(2, 0))
    add("stride_2x3", (4, 3), 5, 4, (4, 5), stride=(2, 3), pad=(1, 2), op=(1, 2), n=2)
    add("stride_1x2x3", (3, 2, 3), 2, 4, (2, 3, 3), stride=(1, 2, 3), pad=(0, 1, 1), op=(0, 1, 2))
    add("stride_3x2x1", (2, 3, 4), 4, 2, 2, stride=(3, 2, 1), dilation=(1, 2, 3), groups=2)
    # Padding that leaves little or takes taps from the border.
    add("one_output_left", (4,), 3, 2, 3, stride=2, pad=4)
    add("one_output_left_2d", (3, 3), 2, 3, 2, stride=2, pad=2, op=0, n=2)
    add("border_loses_taps", (7, 6), 3, 4, 5, pad=(4, 3))
    add("padding_past_input", (9,), 2, 3, 2, stride=1, pad=4, bias=0)
    add("size_1_stride_9", (1,), 4, 3, 1, stride=9, op=8)
    # Channels past a panel and past a block.
    add("channels_17_to_33", (3, 3), 17, 33, 3, stride=2, pad=1, op=1)
    add("channels_33_to_16", (7,), 33, 16, 4, stride=2, pad=1)
    add("channels_40_to_20_groups_2", (3, 2), 40, 20, 2, stride=2, groups=2)
    add("depthwise_x3", (4, 5), 4, 12, 4, stride=2, pad=1, groups=4)
    add("depthwise_17", (4, 4), 17, 17, 3, stride=2, pad=1, groups=17, n=2)

    draws = Draws(20240301)
    below, pick, axes = draws.below, draws.pick, draws.axes
    drawn = 0
    while drawn < 30:
        rank = 1 + drawn % 3
        groups = pick(1, 1, 1, 2, 3, 5)
        stride, dilation = axes(rank, lambda: 1 + below(4)), axes(rank, lambda: 1 + below(4))
        kernel = axes(rank, lambda: 1 + below((6, 4, 3)[rank - 1]))
        case = dict(
            stride=stride, dilation=dilation, groups=groups, bias=int(below(3) > 0),
            n=1 + below(2),
            pad=tuple(below((k - 1) * d + 3) for k, d in zip(kernel, dilation)),
            op=tuple(below(max(s, d)) for s, d in zip(stride, dilation)))
        size = axes(rank, lambda: 1 + below((12, 6, 4)[rank - 1]))
        channels = [groups * pick(1, 2, 3, 5, 9), groups * pick(1, 2, 3, 4, 17)]
        trial = Case("conv_transpose", "", size, *channels, kernel,
                     more={"output_pad": case["op"]}, **{k: case[k] for k in case if k != "op"})
        if min(trial.out_size) < 1 or math.prod(trial.y_shape) > 3000:
            continue
        if math.prod(trial.out_size) == 1 and below(4):
            continue
        add(f"drawn_{drawn:02d}_{rank}d", size, *channels, kernel, **case)
        drawn += 1
    return listed.cases


def flipped():
    listed = List("flipped")

    def add(source, name, size, cin, cout, kernel, **layer):
        kernel = (kernel,) * len(size) if isinstance(kernel, int) else kernel
        if source == "full":
            layer["pad"] = tuple(k - 1 for k in kernel)
        elif source == "same":
            layer["pad"] = tuple((k // 2, (k - 1) // 2) for k in kernel)
        listed.add(f"{source}_{name}", size, cin, cout, kernel, more={"source": source}, **layer)

    for source in ("valid", "full", "same"):
        add(source, "1d", (11,), 1, 1, 4, bias=0)
        add(source, "1d_channels", (8,), 3, 5, 3, n=2)
        add(source, "2d", (6, 7), 1, 1, (3, 2), bias=0)
        add(source, "2d_channels", (5, 6), 4, 3, (2, 4))
        add(source, "3d", (3, 4, 5), 2, 3, (2, 3, 2))
    add("valid", "whole", (5, 4), 2, 3, (5, 4))
    add("full", "kernel_past_input", (3,), 2, 2, 6)
    add("full", "17_channels", (4, 4), 17, 17, 3)
    add("torch", "stride", (9, 8), 3, 4, (3, 2), stride=(2, 3), pad=1)
    add("torch", "dilation", (9, 8), 3, 4, (3, 2), dilation=(2, 3), pad=(2, 1), n=2)
    add("torch", "groups", (5, 6), 6, 4, 3, pad=1, groups=2, bias=0)
    add("torch", "depthwise", (5, 6), 7, 7, 3, pad=1, groups=7)
    add("torch", "all", (10, 9), 4, 6, (3, 4), stride=(1, 2), dilation=(2, 1), groups=2,
        pad=((2, 1), (0, 3)))
    add("torch", "all_1d", (17,), 6, 9, 5, stride=3, dilation=2, groups=3, pad=4, n=2)
    add("torch", "all_3d", (4, 5, 6), 4, 4, (2, 3, 2), stride=(1, 2, 2), dilation=(2, 1, 3),
        groups=2, pad=(1, 1, 2))
    add("torch", "pointwise", (3, 4), 18, 5, 1)
    add("torch", "depthwise_x2_1d", (12,), 9, 18, 4, stride=2, pad=(2,), groups=9, bias=0)
    return listed.cases


def around(edge, step):
    return [edge - step, edge, edge + step]


def at_positions(case, ys, xs):
    """The offsets by which the taps read at these places, taken in turn, for all
    outputs, taps and offset groups."""
    oh, ow = case.out_size
    out, i = [], 0
    for _ in range(case.n * case.more["offset_groups"]):
        for kh in range(case.kernel[0]):
            for kw in range(case.kernel[1]):
                plane = []
                for y in range(oh):
                    for x in range(ow):
                        top = y * case.stride[0] - case.pad[0][0] + kh * case.dilation[0]
                        left = x * case.stride[1] - case.pad[1][0] + kw * case.dilation[1]
                        plane.append((ys[i % len(ys)] - top, xs[i // len(ys) % len(xs)] - left))
                        i += 1
                out += [dy for dy, _ in plane] + [dx for _, dx in plane]
    return tuple(out)


def deform_conv():
    listed = List("deform_conv")

    def add(name, *args, mask=1, scale=0.5, og=1, infinite=0, places=None, **layer):
        """`places`: rows and columns that the taps read, instead of offsets by formula."""
        integer = layer.get("integer", int(len(listed.cases) % 3 != 2))
        if integer and not places:
            # Quarters: weights of the four corners are sixteenths.
            scale = {0.5: 0.25, 2: 0.5, 7: 1.75}[scale]
        more = {"mask": mask, "offset_groups": og, "offset_scale": scale, "infinite": infinite}
        listed.add(name, *args, more=more, **layer)
        if places:
            case = listed.cases[-1]
            case.more["offsets"] = at_positions(case, *places)

    for mask in (0, 1):
        v = f"v{1 + mask}_"
        add(v + "plain", (6, 7), 3, 4, 3, pad=1, mask=mask)
        add(v + "far", (6, 7), 3, 4, 3, pad=1, mask=mask, scale=7)
        add(v + "two_pixels", (6, 7), 3, 4, 3, pad=1, mask=mask, scale=2)
        add(v + "no_bias", (5, 6), 4, 3, 2, mask=mask, bias=0, n=2)
        add(v + "stride", (9, 8), 3, 5, 3, pad=1, stride=2, mask=mask)
        add(v + "stride_2x3", (9, 8), 3, 5, (3, 2), pad=(1, 0), stride=(2, 3), mask=mask, scale=2)
        add(v + "dilation", (9, 8), 3, 4, 3, pad=2, dilation=2, mask=mask, scale=2)
        add(v + "dilation_3x1", (9, 8), 2, 4, (2, 4), pad=(0, 2), dilation=(3, 1), mask=mask,
            scale=7)
        add(v + "groups", (5, 6), 6, 4, 3, pad=1, groups=2, mask=mask)
        add(v + "depthwise", (5, 6), 4, 4, 3, pad=1, groups=4, mask=mask, scale=2)
        add(v + "offset_groups_2", (5, 6), 6, 4, 3, pad=1, og=2, mask=mask)
        add(v + "offset_groups_3_groups_2", (5, 5), 6, 4, (2, 3), og=3, groups=2, mask=mask,
            scale=2, n=2)
        add(v + "groups_4_offset_groups_2", (4, 5), 8, 8, 3, pad=1, og=2, groups=4, mask=mask,
            scale=7)
        add(v + "offset_group_each", (4, 5), 5, 3, 2, pad=1, og=5, mask=mask, scale=2)
        add(v + "pointwise", (5, 6), 5, 7, 1, mask=mask, scale=2)
        add(v + "wide_padding", (3, 4), 3, 3, 3, pad=(4, 3), mask=mask, scale=2)
        add(v + "channels_17_to_18", (3, 4), 17, 18, 3, pad=1, mask=mask, n=2)
        add(v + "all", (8, 9), 12, 8, (3, 2), stride=(2, 1), dilation=(1, 2), pad=(2, 1), groups=2,
            og=3, mask=mask, scale=7, n=2)
    # Exactly on the border rules and a little inside and outside of them.
    for size in ((5, 6), (1, 1), (2, 1)):
        rows, columns = (around(-1, 0.25) + around(0, 0.25) + around(s - 1, 0.25) + around(s, 0.25)
                         for s in size)
        middle = (size[1] - 1) / 2
        d = f"{size[0]}x{size[1]}"
        add(f"border_rows_{d}", size, 3, 2, (2, 3), pad=1, places=(rows, [0, middle]), mask=0)
        add(f"border_columns_{d}", size, 3, 2, (3, 2), pad=1, places=([0], columns))
        add(f"border_both_{d}", size, 2, 3, (2, 2), pad=1, og=2, places=(rows, columns))
    # As near as float32 comes.
    tiny = 2.0 ** -20
    near = [p for edge in (-1, 0, 4, 5) for p in around(edge, tiny)]
    add("border_near", (5, 5), 2, 3, (2, 3), places=(near, near), integer=0)
    add("outside_by_far", (4, 4), 2, 3, 2, places=([-1e4, 2, 5, 1e6], [1, 3, -7e5]))
    # Infinite inputs tell a corner with the weight zero from one that is not read.
    whole = ([-1, 0, 1.5, 3, 4], [-1, 0, 2, 2.5, 4, 5, -0.5])
    single = dict(n=2, places=whole, mask=0, integer=1)
    add("infinite_everywhere", (4, 5), 1, 3, 1, infinite=1, **single)
    add("infinite_column", (4, 5), 1, 3, 1, infinite=5, **single)
    add("infinite_v1", (4, 5), 2, 3, 2, pad=1, infinite=7, places=whole, mask=0, integer=1)
    add("infinite_v2", (4, 5), 2, 3, 2, pad=1, infinite=9, places=whole, integer=1)
    return listed.cases


def correlation():
    listed = List("correlation")

    def add(name, *args, **layer):
        listed.add(name, *args, bias=0, **layer)

    # SiamFC: all channels against the template of the sample, one output channel.
    for n, c, size, kernel in ((1, 4, (7, 8), 3), (2, 5, (6, 7), (3, 4)), (3, 8, (5, 5), 2),
                               (2, 17, (6, 5), (4, 3)), (1, 32, (7, 7), 6), (2, 3, (4, 5), (4, 5)),
                               (2, 3, (9, 9), 1)):
        kernels = f"{kernel}x{kernel}" if isinstance(kernel, int) else f"{kernel[0]}x{kernel[1]}"
        add(f"siamfc_n{n}_c{c}_k{kernels}", size, c, 1, kernel, n=n)
    add("siamfc_padding", (5, 6), 4, 1, 3, pad=1, n=2)
    add("siamfc_stride", (9, 8), 4, 1, 3, stride=2, n=2)
    # SiamRPN++: each channel against its own.
    for n, c, size, kernel in ((1, 4, (7, 8), 3), (2, 5, (6, 7), (3, 4)), (3, 3, (5, 5), 2),
                               (2, 17, (6, 5), (4, 3)), (1, 33, (6, 6), 4), (2, 6, (4, 5), (4, 5)),
                               (2, 16, (4, 4), 1)):
        kernels = f"{kernel}x{kernel}" if isinstance(kernel, int) else f"{kernel[0]}x{kernel[1]}"
        add(f"depthwise_n{n}_c{c}_k{kernels}", size, c, c, kernel, n=n, groups=c)
    add("depthwise_padding", (5, 6), 5, 5, 5, pad=2, n=2, groups=5)
    add("depthwise_dilation", (7, 8), 5, 5, 3, dilation=(2, 3), pad=2, n=2, groups=5)
    # Any groups: kernels [batch, out, in / groups, h, w].
    add("dense", (5, 6), 3, 4, 3, n=2)
    add("dense_17_to_18", (4, 4), 17, 18, 2, n=2)
    add("dense_padding", (5, 6), 3, 4, 3, pad=1, n=3)
    add("dense_stride", (7, 8), 3, 4, 3, stride=(2, 3), pad=(1, 0), n=2)
    add("dense_dilation", (8, 9), 3, 4, (3, 2), dilation=(2, 3), n=2)
    add("groups_2", (5, 6), 6, 4, 3, n=2, groups=2)
    add("groups_3_all", (9, 8), 6, 9, (3, 2), stride=(2, 1), dilation=(2, 3), pad=(2, 1), n=2,
        groups=3)
    add("groups_4_narrow", (4, 5), 8, 4, (2, 3), pad=1, n=2, groups=4)
    add("multiplier_2", (5, 5), 4, 8, 3, pad=1, n=2, groups=4)
    add("sides", (5, 6), 4, 6, (2, 3), pad=((1, 0), (0, 2)), n=2, groups=2)
    add("one_pixel", (1, 1), 9, 5, 1, n=3)
    add("padding_past_window", (2, 3), 3, 4, 2, pad=3, n=2)
    return listed.cases


def padding_mode():
    listed = List("padding_mode")

    def add(mode, name, *args, **layer):
        listed.add(f"{mode}_{name}", *args, more={"mode": mode}, **layer)

    for mode in ("reflect", "replicate", "circular"):
        for rank in (1, 2, 3):
            size = SPATIAL[rank]
            add(mode, f"plain_{rank}d", size, 3, 4, 3, pad=1)
            add(mode, f"stride_{rank}d", size, 2, 3, 3, stride=2, pad=1, n=2)
            add(mode, f"dilation_{rank}d", size, 2, 3, (3, 2, 2)[:rank], dilation=2, pad=2)
            # `padding="same"` of PyTorch: more behind than before.
            add(mode, f"same_{rank}d", size, 3, 2, (4, 3, 2)[3 - rank:], pad="same", bias=0)
        add(mode, "groups", (5, 6), 6, 4, 3, pad=2, groups=2)
        add(mode, "depthwise", (6, 5), 5, 5, 5, pad=2, groups=5, n=2)
        add(mode, "axes", (7, 5), 3, 4, (3, 4), stride=(1, 2), dilation=(2, 1), pad=(3, 2))
        add(mode, "one_axis", (5, 6), 3, 4, (1, 3), pad=(0, 2))
        add(mode, "channels_17_to_18", (4, 3), 17, 18, 3, pad=1)
        # As far as the mode allows, beyond which PyTorch refuses.
        most = {"reflect": (3, 2), "replicate": (7, 5), "circular": (4, 3)}[mode]
        add(mode, "most", (4, 3), 2, 3, (4, 3), pad=most)
        add(mode, "most_1d", (5,), 2, 3, 4, pad=most[0], dilation=2)
        add(mode, "one_pixel_kernel", (4, 3), 3, 2, 1, pad=(2, 1))
    add("replicate", "one_pixel", (1, 1), 4, 3, 3, pad=1)
    add("circular", "one_pixel", (1, 1), 4, 3, 3, pad=1)
    add("reflect", "most_3d", (2, 3, 2), 2, 2, 2, pad=(1, 2, 1))
    return listed.cases


def unfold_and_fold():
    out = []
    for op in ("unfold", "fold"):
        listed = List(op)

        def add(name, size, c, kernel, **layer):
            listed.add(name, size, c, c, kernel, bias=0, **layer)

        add("plain", (5, 6), 3, 3)
        add("batch", (5, 6), 2, (2, 3), n=3)
        add("padding", (4, 5), 3, 3, pad=1)
        add("padding_2x1", (4, 5), 2, (2, 3), pad=(2, 1), n=2)
        add("stride", (7, 8), 3, 3, stride=2)
        add("stride_past_window", (7, 8), 3, 2, stride=3, pad=1)
        add("dilation", (7, 8), 3, 3, dilation=2)
        add("all", (9, 8), 4, (3, 2), stride=(2, 1), dilation=(2, 3), pad=(2, 1), n=2)
        add("pointwise", (3, 4), 5, 1)
        add("padding_past_window", (2, 3), 2, 2, pad=3)
        add("patches", (8, 6), 3, (4, 2), stride=(4, 2), n=2)
        out += listed.cases
    return out


def separable():
    listed = List("separable")

    def add(name, size, cin, cout, kernel, multiplier=1, w_scale=4, **layer):
        more = {"multiplier": multiplier, "w_scale": w_scale}
        listed.add(name, size, cin, cout, kernel, more=more, **layer)

    add("plain", (6, 7), 4, 5, 3, pad=1)
    add("stride", (7, 8), 8, 6, 3, stride=2, pad=1, n=2)
    add("no_bias", (5, 6), 5, 8, 3, pad=1, bias=0)
    add("wider", (4, 5), 17, 33, 3, pad=1)
    add("multiplier", (5, 6), 3, 7, 3, pad=1, multiplier=2)
    add("large_kernel", (6, 6), 8, 4, 5, pad=2, w_scale=2)
    add("sides", (6, 8), 16, 16, 3, stride=2, pad=((0, 1), (0, 1)))
    add("dilation", (8, 7), 6, 5, (3, 2), dilation=(2, 3), pad=(2, 1), n=2)
    add("one_pixel", (1, 1), 9, 10, 3, pad=1)
    add("no_padding", (5, 4), 32, 8, 3, w_scale=1)
    return listed.cases


def all_cases():
    return (conv_transpose() + flipped() + deform_conv() + correlation() + padding_mode()
            + unfold_and_fold() + separable())
