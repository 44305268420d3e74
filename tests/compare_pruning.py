#!/usr/bin/env python3
"""Compares edgesmith's pruning and training of MLPerf Tiny's ResNet8 with Torch-Pruning's.

    compare_pruning.py --edgesmith PROGRAM --train FOLDER --test FOLDER --keep FOLDER \\
        [--seeds 1,2,3] [--epochs 2] [--rates 1e-3] [--only TEXT] ic_resnet8.onnx

FOLDER has a folder of CIFAR-10 images for each class. Rows:

- the network trained further as it is, in edgesmith and in PyTorch;
- half of its MACs pruned, before and after fine-tuning, by several importances of edgesmith and by
  Torch-Pruning with magnitude and Taylor importance (gradients of 256 images), with all channels
  competing and with the same share of each layer;
- trained for --qat-epochs in fp32 or in integers, and in fp32 and then as long again at a tenth of the learning rate: in fp32, in fp32
  and then quantized, and quantized before it and trained quantization-aware.

Both train on four fifths of the training images (each tool draws its own stratified choice), in
batches of 64, with AdamW (weight decay 0.01, not of biases), label smoothing 0.05, a warm-up over a
tenth of the steps and then half a cosine, without augmentation; both read pixels divided by 128.
Test accuracy is that of all networks on the same pixels, as pillow decodes them. Finished rows are
kept in --keep and are not run again.

Needs numpy, onnx, pillow and torch. Compares with Torch-Pruning if `torch-pruning` is installed.
"""

import argparse
import importlib.util
import itertools
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from experiment_figures import Deadline, deviation

SCALE = 128.0
BATCH, SMOOTHING, DECAY, WARM_UP = 64, 0.05, 0.01, 0.1
# The least of a layer that stays, and the images whose gradients Taylor importance takes.
MOST, EXAMPLES = 0.9, 256


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--edgesmith", default="edgesmith")
    parser.add_argument("--train", type=pathlib.Path, required=True)
    parser.add_argument("--test", type=pathlib.Path, required=True)
    parser.add_argument("--keep", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--qat-epochs", type=int, default=1)
    parser.add_argument("--rates", default="1e-3", help="learning rates, by commas")
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    Deadline.option(parser)
    args = parser.parse_args()
    deadline = Deadline(args)
    args.keep.mkdir(parents=True, exist_ok=True)
    if not importlib.util.find_spec("torch_pruning"):
        print("skipped what needs torch-pruning: it is not installed", file=sys.stderr)
    data = Data(args)
    # MACs and parameters are those of the first seed.
    print("| network | test accuracy | of each seed | MACs | parameters | minutes |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name, run in rows(args, data):
        if args.only not in name:
            continue
        results = []
        for seed in map(int, args.seeds.split(",")):
            words = name.replace(",", "").replace(":", "").split()
            kept = args.keep / f"{'-'.join(words)}.{seed}.json"
            if not kept.exists():
                deadline.check()
                start = time.monotonic()
                try:
                    result = run(seed, kept.with_suffix(""))
                except subprocess.CalledProcessError as error:
                    said = error.stderr.strip().splitlines()[-1]
                    print(f"| {name} | failed: {said} |", flush=True)
                    break
                result["minutes"] = (time.monotonic() - start) / 60
                kept.write_text(json.dumps(result))
            results.append(json.loads(kept.read_text()))
        if results:
            first, values = results[0], [result["accuracy"] for result in results]
            each = ", ".join(f"{value:.2f}" for value in values)
            minutes = numpy.mean([result["minutes"] for result in results])
            print(f"| {name} | {numpy.mean(values):.2f} ± {deviation(values):.2f} | {each} | "
                  f"{first['macs'] / 1e6:.2f} M | {first['parameters'] / 1e3:.1f} k | "
                  f"{minutes:.1f} |", flush=True)
    return 0


def rows(args, data):
    """Each row's name, and what runs it."""
    def edgesmith(*steps):
        return lambda seed, out: ours(args, data, steps, seed, out)

    for rate in map(float, args.rates.split(",")):
        tune = {"pass": "fine-tune", "epochs": args.epochs, "learning_rate": rate}
        after = f"then {args.epochs} epochs at {rate:g}"
        yield f"edgesmith, not pruned, {after}", edgesmith(tune)
        yield (f"PyTorch, not pruned, {after}",
               lambda seed, _, rate=rate: theirs(args, data, None, args.epochs, rate, seed))
        for importance in ("taylor", "influence", "l1"):
            prune = {"pass": "prune", "of": "macs", "share": 0.5, "importance": importance}
            yield f"edgesmith, pruned by {importance}", edgesmith(prune)
            yield f"edgesmith, pruned by {importance}, {after}", edgesmith(prune, tune)
        if importlib.util.find_spec("torch_pruning"):
            for importance, everywhere in itertools.product(("Taylor", "Magnitude"), (True, False)):
                name = f"Torch-Pruning, pruned by {importance}"
                name += " globally" if everywhere else " in each layer"
                how = (importance, everywhere)
                for epochs, words in ((0, ""), (args.epochs, f", {after}")):
                    yield (name + words,
                           lambda seed, _, how=how, epochs=epochs, rate=rate:
                           theirs(args, data, how, epochs, rate, seed))
        first = {"pass": "fine-tune", "epochs": args.qat_epochs, "learning_rate": rate}
        second = dict(first, learning_rate=rate / 10)
        learn, quantize = dict(second, **{"pass": "quantize-aware-train"}), {"pass": "quantize"}
        of = "" if rate == 1e-3 else f", from {rate:g}"
        at_once = dict(first, **{"pass": "quantize-aware-train"})
        yield f"QAT: one training in fp32{of}", edgesmith(first)
        yield f"QAT: one training in integers{of}", edgesmith(quantize, at_once)
        yield f"QAT: a second training in fp32{of}", edgesmith(first, second)
        yield f"QAT: in fp32, then quantized{of}", edgesmith(first, second, quantize)
        yield f"QAT: quantized before it, in integers{of}", edgesmith(first, quantize, learn)


class Data:
    """The decoded images."""

    def __init__(self, args):
        self.train, self.labels = decode(args.train)
        self.test, self.answers = decode(args.test)
        self.classes = int(self.answers.max()) + 1

    def of_seed(self, seed: int):
        """Four fifths of the training images of each class."""
        generator = torch.Generator().manual_seed(seed)
        chosen = []
        for label in range(self.classes):
            members = (self.labels == label).nonzero()[:, 0]
            order = torch.randperm(len(members), generator=generator)
            chosen.append(members[order[: len(members) * 4 // 5]].sort().values)
        chosen = torch.cat(chosen)
        return self.train[chosen], self.labels[chosen]


def decode(root: pathlib.Path):
    images, labels = [], []
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    for label, folder in enumerate(folders):
        for file in sorted(folder.iterdir()):
            images.append(numpy.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1))
            labels.append(label)
    return torch.from_numpy(numpy.stack(images)), torch.tensor(labels)


def ours(args, data: Data, steps, seed: int, out: pathlib.Path) -> dict:
    study, recipe = out.with_name(out.name + ".study.toml"), out.with_name(out.name + ".toml")
    file, results = out.with_name(out.name + ".edge"), out.with_name(out.name + ".data")
    study.write_text(f"""
[study]
name = "pruning"
seed = {seed}
[data]
source = "image-folder"
train = {json.dumps(str(args.train.resolve()))}
test = {json.dumps(str(args.test.resolve()))}
classes = {data.classes}
side = {data.test.shape[2]}
[training]
epochs = 1
batch_size = {BATCH}
[space]
kind = "model"
model = {json.dumps(str(args.model.resolve()))}
pixels = "raw"
[[objectives]]
metric = "validation_accuracy"
[budget]
trials = 1
""")
    tables = []
    for step in steps:
        tables.append("[[recipe.steps]]")
        tables += [f"{key} = {json.dumps(value)}" for key, value in step.items()]
    recipe.write_text("\n".join(tables) + "\n")
    run(args, "compress", args.model, "--data", study, "--recipe", recipe, "--raw-pixels",
        "--data-dir", results, "--name", "pruning", "-o", file)
    described = json.loads(run(args, "inspect", file, "--format", "json"))
    with tempfile.TemporaryDirectory() as folder:
        pixels, output = f"{folder}/pixels.npy", f"{folder}/output.npy"
        numpy.save(pixels, data.test.numpy())
        run(args, "run", file, "--input", pixels, "--output", output)
        chosen = numpy.load(output).argmax(1)
    accuracy = 100 * float((chosen == data.answers.numpy()).mean())
    return {"accuracy": accuracy, **{key: described[key] for key in ("macs", "parameters")}}


def run(args, *words) -> str:
    command = [args.edgesmith, *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class ResNet8(nn.Module):
    """MLPerf Tiny's network with batch normalisation folded, as its ONNX file has it."""

    def __init__(self, model: pathlib.Path):
        super().__init__()
        graph = onnx.load(model).graph
        arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        self.convolutions = nn.ModuleList()
        for node in graph.node:
            if node.op_type == "Conv":
                weight, bias = (torch.tensor(arrays[name]) for name in node.input[1:])
                attributes = {each.name: list(each.ints) for each in node.attribute}
                conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2],
                                 attributes["strides"][0], attributes["pads"][0])
                conv.weight.data, conv.bias.data = weight, bias
                self.convolutions.append(conv)
            elif node.op_type == "MatMul":
                self.linear = nn.Linear(*arrays[node.input[1]].shape)
                self.linear.weight.data = torch.tensor(arrays[node.input[1]].T.copy())
                self.linear.bias.data = torch.tensor(arrays[node_bias(graph, node)])
        assert len(self.convolutions) == 9
        self.convolutions[0].weight.data *= SCALE

    def forward(self, image):
        conv = self.convolutions
        x = F.relu(conv[0](image))
        x = F.relu(x + conv[2](F.relu(conv[1](x))))
        for around, first, second in ((3, 4, 5), (6, 7, 8)):
            # TensorFlow pads at the end only where a step is 2.
            inner = F.relu(conv[first](F.pad(x, (0, 1, 0, 1))))
            x = F.relu(conv[around](x) + conv[second](inner))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def node_bias(graph, product) -> str:
    """The name of what is added to the product."""
    sums = [node for node in graph.node if node.op_type == "Add"]
    [added] = [node for node in sums if product.output[0] in node.input]
    [bias] = [name for name in added.input if name != product.output[0]]
    return bias


def macs_of(network: nn.Module, shape=(3, 32, 32)) -> int:
    """Multiply-accumulates of one image."""
    total, hooks = [0], []

    def count(module, _, result):
        total[0] += module.weight.numel() * (math.prod(result.shape[2:]))

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            hooks.append(module.register_forward_hook(count))
    with torch.no_grad():
        network(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return total[0]


def theirs(args, data: Data, how, epochs: int, rate: float, seed: int) -> dict:
    """Trains the network in PyTorch, pruned as `how` says: by what, and whether globally."""
    torch.manual_seed(seed)
    images, labels = data.of_seed(seed)
    network = ResNet8(args.model)
    if how:
        prune(network, *how, images, labels)
    train(network, images, labels, epochs, rate)
    network.eval()
    with torch.no_grad():
        chosen = torch.cat([network(part / SCALE).argmax(1) for part in data.test.split(500)])
    return {
        "accuracy": 100 * float((chosen == data.answers).float().mean()),
        "macs": macs_of(network),
        "parameters": sum(each.numel() for each in network.parameters()),
    }


def prune(network: nn.Module, importance: str, everywhere: bool, images, labels, left=0.5,
          steps=150, scale=SCALE, multiple=1) -> None:
    """Prunes in small steps, until a share of the MACs is left or no more can go; to a multiple of
    so many channels."""
    import torch_pruning

    shape = images.shape[1:]
    if importance == "Taylor":
        step = len(images) // EXAMPLES
        loss = F.cross_entropy(network(images[::step] / scale), labels[::step])
        loss.backward()
    pruner = torch_pruning.pruner.BasePruner(
        network, torch.zeros(1, *shape),
        importance=getattr(torch_pruning.importance, f"{importance}Importance")(),
        global_pruning=everywhere, pruning_ratio=MOST, max_pruning_ratio=MOST,
        iterative_steps=steps, ignored_layers=[network.linear],
        round_to=multiple if multiple > 1 else None,
    )
    target = macs_of(network, shape) * left
    for _ in range(steps):
        if macs_of(network, shape) <= target:
            break
        pruner.step()
    network.zero_grad()


def train(network: nn.Module, images, labels, epochs: int, rate: float, scale=SCALE) -> None:
    weights = [each for each in network.parameters() if each.dim() > 1]
    biases = [each for each in network.parameters() if each.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": DECAY}, {"params": biases, "weight_decay": 0}], lr=rate
    )
    steps = epochs * math.ceil(len(images) / BATCH)
    warm_up, step = round(steps * WARM_UP), 0
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(BATCH):
            if step < warm_up:
                share = (step + 1) / (warm_up + 1)
            else:
                share = (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            logits = network(images[chosen] / scale)
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


if __name__ == "__main__":
    sys.exit(main())
