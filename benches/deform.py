#!/usr/bin/env python3
"""Times a modulated deformable convolution beside torchvision's, each on one thread, in turns.

    python3 benches/deform.py [layer of benches/deform.rs]

Needs torch and torchvision, and cargo. Prints milliseconds of the best round of each, torchvision's
time over ours, and whether it is at least twice.
"""

import subprocess
import sys
import time

import torch
import torchvision

ROUNDS = 3
# As in deform.rs: input channels, output channels, size, groups, offset groups.
LAYERS = {
    "256_to_256_50x84": (256, 256, (50, 84), 1, 1),
    "64_to_64_56x56": (64, 64, (56, 56), 1, 1),
    "512_to_512_25x42": (512, 512, (25, 42), 1, 4),
    "depthwise_128_50x84": (128, 128, (50, 84), 128, 4),
}


def ours(layer):
    """Milliseconds by layout, path and how far taps are moved."""
    command = ["cargo", "bench", "--quiet", "--bench", "deform", "--", layer]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in output.splitlines()[1:]]
    return {tuple(row[1:4]): float(row[4]) for row in rows if row[0] == layer}


def torchvisions(layer, moves):
    in_channels, out_channels, (height, width), groups, offset_groups = LAYERS[layer]
    generator = torch.Generator().manual_seed(1)

    def tensor(*shape):
        return 2 * torch.rand(*shape, generator=generator) - 1

    x = tensor(1, in_channels, height, width)
    weight = tensor(out_channels, in_channels // groups, 3, 3)
    offset = moves * tensor(1, 18 * offset_groups, height, width)
    mask = tensor(1, 9 * offset_groups, height, width)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            torchvision.ops.deform_conv2d(x, offset, weight, padding=1, mask=mask)
            best = min(best, time.perf_counter() - start)
    return 1e3 * best


def main():
    torch.set_num_threads(1)
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    for layer in (name for name in LAYERS if only in name):
        best, theirs = {}, {}
        for _ in range(ROUNDS):
            for key, ms in ours(layer).items():
                best[key] = min(ms, best.get(key, ms))
            for moves in sorted({key[2] for key in best}):
                ms = torchvisions(layer, float(moves))
                theirs[moves] = min(ms, theirs.get(moves, ms))
        for (layout, path, moves), ms in sorted(best.items()):
            ratio = theirs[moves] / ms
            verdict = "at least twice" if ratio >= 2 else "LESS THAN TWICE"
            print(f"{layer:<20} {layout} {path:<7} moves {moves:>3}: {ms:8.3f} ms, torchvision "
                  f"{theirs[moves]:8.3f} ms, {ratio:5.1f} times: {verdict}")


if __name__ == "__main__":
    main()
