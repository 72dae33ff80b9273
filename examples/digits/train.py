#!/usr/bin/env python3
"""Train the small digit classifier of the `digits` example and export it.

Run it with

    pip install torch numpy scikit-learn
    python examples/digits/train.py

The data are the 1797 8x8 images of `sklearn.datasets.load_digits` (pixel
values 0..16; the network sees pixel/16).  A stratified 28 % of the images is
held out: it is used once, after the last epoch, to report the accuracy, never
to train and never to choose an epoch or a setting.

The network (NCHW, every layer has a bias):

    1  conv 3x3, 1 -> 16, pad 1                      ReLU               8x8
    2  depthwise 3x3, 16, pad 1                      leaky ReLU 0.125   8x8
    3  pointwise 16 -> 32                            hard-swish         8x8
    4  depthwise 3x3, 32, stride 2, pad 1            ReLU6              4x4
    5  pointwise 32 -> 48                            ReLU               4x4
    6  conv 3x3, 48 -> 48, 4 groups, dilation 2,
       pad 2, plus the input of the layer            ReLU               4x4
    7  depthwise 4x4, 48, no padding                 -                  1x1
    8  pointwise 48 -> 10 (the logits)               -                  1x1

Files written next to this script:

    weights.bin      for each layer in order its weight (O, I/groups, H, W;
                     C order), then its bias; little-endian f32, no header
    test_images.bin  the held-out images, 64 bytes each, values 0..16
    test_labels.bin  the held-out labels, one byte each
"""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).resolve().parent
SEED = 1
EPOCHS = 150
BATCH = 64
HELD_OUT = 0.28


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([
            nn.Conv2d(1, 16, 3, padding=1),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.Conv2d(16, 32, 1),
            nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=32),
            nn.Conv2d(32, 48, 1),
            nn.Conv2d(48, 48, 3, padding=2, dilation=2, groups=4),
            nn.Conv2d(48, 48, 4, groups=48),
            nn.Conv2d(48, 10, 1),
        ])

    def forward(self, x, dropout=0.0):
        c = self.layers
        x = F.relu(c[0](x))
        x = F.leaky_relu(c[1](x), 0.125)
        x = F.hardswish(c[2](x))
        x = F.relu6(c[3](x))
        x = F.relu(c[4](x))
        x = F.relu(c[5](x) + x)
        x = F.dropout2d(x, dropout, self.training)
        x = c[6](x)
        return c[7](x).flatten(1)


def augment(x, rng):
    """Shift some images by one pixel (zero fill) and add a little noise."""
    n = x.shape[0]
    padded = F.pad(x, (1, 1, 1, 1))
    dy = rng.choice(3, n, p=[0.15, 0.7, 0.15])
    dx = rng.choice(3, n, p=[0.25, 0.5, 0.25])
    out = torch.stack([padded[i, :, dy[i]:dy[i] + 8, dx[i]:dx[i] + 8] for i in range(n)])
    noise = rng.normal(0.0, 0.03, out.shape).astype(np.float32)
    return out + torch.from_numpy(noise)


def to_input(images):
    return torch.from_numpy(images.astype(np.float32) / 16.0).reshape(-1, 1, 8, 8)


def train(images, labels):
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    net = Net()
    x, y = to_input(images), torch.from_numpy(labels)
    steps = EPOCHS * ((len(y) + BATCH - 1) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-3, total_steps=steps, pct_start=0.1, anneal_strategy="cos")
    net.train()
    for epoch in range(EPOCHS):
        order = torch.from_numpy(rng.permutation(len(y)))
        total = 0.0
        for start in range(0, len(y), BATCH):
            pick = order[start:start + BATCH]
            logits = net(augment(x[pick], rng), dropout=0.1)
            loss = F.cross_entropy(logits, y[pick], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(pick)
        if (epoch + 1) % 25 == 0:
            print(f"epoch {epoch + 1:3d}: training loss {total / len(y):.4f}", flush=True)
    return net.eval()


def export(net, path):
    parts = []
    for layer in net.layers:
        parts.append(layer.weight.detach().numpy().ravel())
        parts.append(layer.bias.detach().numpy().ravel())
    np.concatenate(parts).astype("<f4").tofile(path)


def reload(path):
    """A network with the numbers of weights.bin, read the way a user would."""
    values = torch.from_numpy(np.fromfile(path, "<f4").astype(np.float32))
    net, at = Net().eval(), 0
    with torch.no_grad():
        for layer in net.layers:
            for tensor in (layer.weight, layer.bias):
                tensor.copy_(values[at:at + tensor.numel()].reshape(tensor.shape))
                at += tensor.numel()
    assert at == values.numel()
    assert torch.isfinite(values).all()
    return net


def main():
    torch.set_num_threads(1)
    digits = load_digits()
    images = digits.images.reshape(-1, 64).astype(np.uint8)
    assert (images == digits.images.reshape(-1, 64)).all() and images.max() == 16
    labels = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=HELD_OUT, random_state=SEED, stratify=labels)
    print(f"{len(train_y)} training images, {len(test_y)} held out")

    start = time.time()
    net = train(train_x, train_y)
    print(f"trained in {time.time() - start:.0f} s")

    export(net, HERE / "weights.bin")
    test_x.astype(np.uint8).tofile(HERE / "test_images.bin")
    test_y.astype(np.uint8).tofile(HERE / "test_labels.bin")

    # Everything below uses only what was written.
    net = reload(HERE / "weights.bin")
    x = np.fromfile(HERE / "test_images.bin", np.uint8).reshape(-1, 64)
    y = np.fromfile(HERE / "test_labels.bin", np.uint8)
    with torch.no_grad():
        logits = net(to_input(x))
        again = net.double()(to_input(x).double())
    guess = logits.argmax(1).numpy()
    right = int((guess == y).sum())
    top = again.topk(2, dim=1).values
    print(f"parameters: {sum(p.numel() for p in net.parameters())}")
    print(f"held-out accuracy: {right}/{len(y)} = {100.0 * right / len(y):.2f} %")
    print(f"smallest gap between the two largest logits: {(top[:, 0] - top[:, 1]).min():.4f}")
    print(f"largest difference to float64 logits: {(logits.double() - again).abs().max():.1e}")
    for name in ("weights.bin", "test_images.bin", "test_labels.bin"):
        print(f"{name}: {(HERE / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
