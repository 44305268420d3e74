"""Trains the networks of `edgesmith-bench train` in PyTorch too, and compares images per second.

Both take whole steps with the same network, batch and number of threads: a batch made from bytes,
forward, loss, backward, AdamW. They run alternately several times, and the medians are compared. Needs
torch from PyPI and a built edgesmith-bench:

    python tests/compare_pytorch.py --bench target/release/edgesmith-bench --threads 1,2

On a GPU, with an edgesmith-bench built with --features wgpu. There, neither waits for the loss of every step:

    python tests/compare_pytorch.py --device cuda --batch-size 256 --threads 1 --seconds 3
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

WARM_UP = 3
# The number of images, and the least number of batches, as in edgesmith.
IMAGES, BATCHES = 1024, 16
# Steps between two reads of the loss on a GPU, as in edgesmith.
AHEAD = 16


class Network(nn.Module):
    """The PyTorch network of the nodes that edgesmith printed."""

    def __init__(self, row):
        super().__init__()
        self.steps = []
        channels = [row["image"][0]] + [node["channels"] for node in row["nodes"]]
        modules = nn.ModuleList()
        for node in row["nodes"]:
            kind, first, own = node["kind"], channels[node["inputs"][0]], node["channels"]
            settings = node.get("settings")
            if kind == "add":
                module = None
            elif kind == "global_average_pool":
                module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            elif kind == "linear":
                module = nn.Linear(first, own)
            elif kind == "conv":
                kernel, groups = settings["kernel"], first if settings["depthwise"] else 1
                padding = (kernel - 1) // 2
                module = nn.Conv2d(first, own, kernel, settings["stride"], padding, groups=groups, bias=False)
            elif kind == "batch_normalization":
                module = nn.BatchNorm2d(own)
            elif kind == "clip":
                module = (nn.ReLU if settings["high"] is None else nn.ReLU6)(inplace=True)
            else:
                sys.exit(f"edgesmith printed a node of kind {kind}, which this script does not know")
            if module is not None:
                modules.append(module)
            self.steps.append((module, node["inputs"]))
        self.modules_in_order = modules

    def forward(self, image):
        values = [image]
        for module, sources in self.steps:
            inputs = [values[s] for s in sources]
            values.append(inputs[0] + inputs[1] if module is None else module(inputs[0]))
        return values[-1]


class Side:
    """PyTorch's training of one network."""

    def __init__(self, row, output, channels_last, device):
        torch.manual_seed(1)
        self.ahead = 1 if device == "cpu" else AHEAD
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = Network(row).to(device, memory_format=self.layout)
        parameters = sum(p.numel() for p in self.network.parameters())
        norms = sum(m.num_features for m in self.network.modules() if isinstance(m, nn.BatchNorm2d))
        # edgesmith counts the shipped network, with normalisation folded into one bias per channel.
        assert parameters - norms == row["parameters"], (parameters, norms, row["parameters"])
        self.batch = row["batch_size"]
        self.count = self.batch * max(BATCHES, IMAGES // self.batch)
        shape = (self.count, *row["image"])
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8).to(device)
        self.labels = torch.arange(self.count, device=device) % row["nodes"][-1]["channels"]
        self.loss = nn.CrossEntropyLoss(label_smoothing=output["label_smoothing"])
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=output["learning_rate"], weight_decay=output["weight_decay"]
        )

    def step(self, indices):
        images = (self.images[indices].float() / 255 - 0.5) / 0.29
        loss = self.loss(self.network(images.to(memory_format=self.layout)), self.labels[indices])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def images_per_second(self, seconds):
        done, since = 0, None
        while True:
            for indices in torch.randperm(self.count, device=self.images.device).split(self.batch):
                loss = self.step(indices)
                done += 1
                if done % self.ahead:
                    continue
                # edgesmith reads the loss too; this waits for all steps so far.
                loss.item()
                now = time.perf_counter()
                if since is None:
                    since = (done, now) if done >= WARM_UP else None
                elif now - since[1] >= seconds:
                    return (done - since[0]) * self.batch / (now - since[1])


def edgesmith(arguments, seconds, threads, network):
    command = [arguments.bench, "train", "--format", "json", "--seconds", str(seconds)]
    command += ["--threads", str(threads), "--batch-size", str(arguments.batch_size)]
    command += ["--backend", "flex" if arguments.device == "cpu" else "wgpu"]
    command += ["--networks", network] if network else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="target/release/edgesmith-bench")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of each round and side")
    parser.add_argument("--networks", help="networks of edgesmith-bench train; default all")
    arguments = parser.parse_args()
    listed = edgesmith(arguments, 0.01, 1, arguments.networks)
    print(f"torch {torch.__version__}, batch {arguments.batch_size}, medians of {arguments.rounds} rounds")
    print(f"{'network':14} threads  {'PyTorch':>9}  {'last':>9}  {'edgesmith':>9}  ratio   images/s")
    ratios = []
    for threads in map(int, arguments.threads.split(",")):
        torch.set_num_threads(threads)
        for row in listed["rows"]:
            # The faster one of PyTorch's layouts counts.
            sides = [Side(row, listed, channels_last, arguments.device) for channels_last in (False, True)]
            rates = [[], [], []]
            for _ in range(arguments.rounds):
                for side, rate in zip(sides, rates):
                    rate.append(side.images_per_second(arguments.seconds))
                out = edgesmith(arguments, arguments.seconds, threads, row["network"])
                rates[2].append(out["rows"][0]["images_per_second"])
            first, last, ours = (statistics.median(rate) for rate in rates)
            ratio = ours / max(first, last)
            ratios.append(ratio)
            print(
                f"{row['network']:14} {threads:7}  {first:9.0f}  {last:9.0f}  {ours:9.0f}  {ratio:5.2f}",
                flush=True,
            )
    mean = math.exp(statistics.mean(math.log(ratio) for ratio in ratios))
    print(f"geometric mean {mean:.2f}, least {min(ratios):.2f}")


if __name__ == "__main__":
    main()
