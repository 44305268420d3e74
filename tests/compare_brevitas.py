#!/usr/bin/env python3
"""Fully connected networks with weights of 2 bits and of 1 bit, in edgesmith and in Brevitas.

    compare_brevitas.py --edgesmith PROGRAM --data FOLDER --keep FOLDER [--seeds 1,2,3]

FOLDER has the four files of Fashion-MNIST. For each seed PyTorch trains a network of three hidden
layers of 256, each with batch normalisation and a rectifier, in fp32. Both tools then start from
its weights, all four layers get weights of a few bits and values of 8 bits, and train with them.
For both the same images, epochs, learning rate and schedule hold (AdamW, weight decay 0.01, label
smoothing 0.05, a warm-up over a tenth of the steps, then half a cosine, batches of 64). edgesmith
holds back 1 % of the images. Weights have a scale for each output channel: that of the least
squared error with 2 bits, and the mean magnitude with 1 bit; edgesmith's are learned in training.

Accuracy is on the 10,000 test images: edgesmith's that of the file in its engine, Brevitas's that
of its simulation in PyTorch. Finished cells are kept in --keep and are not run again.

Needs numpy, onnx, torch and brevitas.
"""

import argparse
import gzip
import json
import math
import pathlib
import statistics
import sys

import brevitas.nn as qnn
import numpy
import onnx
import torch
import torch.nn.functional as F
from brevitas.core.zero_point import ZeroZeroPoint
from brevitas.inject.enum import (
    BitWidthImplType, QuantType, RestrictValueType, ScalingImplType, ScalingPerOutputType, StatsOp,
)
from brevitas.quant import (
    Int8WeightPerChannelFloatMSE, SignedBinaryWeightPerTensorConst, Uint8ActPerTensorFloat,
)
from brevitas.quant.solver import WeightQuantSolver
from torch import nn

from experiment_figures import Deadline, deviation, run

SIZES = (784, 256, 256, 256, 10)
BATCH, SMOOTHING, DECAY, WARM_UP = 64, 0.05, 0.01, 0.1


class BinaryByMean(WeightQuantSolver):
    """A sign times the mean magnitude of the channel, as XNOR-Net has it."""

    quant_type = QuantType.BINARY
    bit_width_impl_type = BitWidthImplType.CONST
    bit_width = 1
    signed = True
    narrow_range = True
    zero_point_impl = ZeroZeroPoint
    restrict_scaling_type = RestrictValueType.FP
    scaling_impl_type = ScalingImplType.STATS
    scaling_stats_op = StatsOp.AVE
    scaling_per_output_type = ScalingPerOutputType.CHANNEL


# Arguments of a layer of Brevitas for each number of bits.
BREVITAS = {
    2: {"weight_quant": Int8WeightPerChannelFloatMSE, "weight_bit_width": 2},
    1: {"weight_quant": BinaryByMean},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edgesmith", default="edgesmith")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--keep", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=5, help="of fp32, and again of what follows")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--slots", default="auto", help="as for edgesmith search")
    Deadline.option(parser)
    args = parser.parse_args()
    deadline = Deadline(args)
    args.keep.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    data, seeds = Data(args), [int(seed) for seed in args.seeds.split(",")]
    print("| network | mean | standard deviation | of each seed | bytes |")
    print("| --- | --- | --- | --- | --- |")
    for name, work in rows(args, data):
        results = []
        for seed in seeds:
            words = name.replace(",", "").replace(" ", "-")
            kept = args.keep / f"{words}.{seed}.json"
            if not kept.exists():
                deadline.check()
                torch.manual_seed(seed)
                kept.write_text(json.dumps(work(seed, kept.with_suffix(""))))
            results.append(json.loads(kept.read_text()))
        values = [result["accuracy"] for result in results]
        each = ", ".join(f"{value:.2f}" for value in values)
        size = f"{results[0]['bytes']:,}" if "bytes" in results[0] else ""
        print(f"| {name} | {statistics.mean(values):.2f} | {deviation(values):.2f} | {each} "
              f"| {size} |", flush=True)
    return 0


def rows(args, data):
    """Each row's name, and what runs it."""
    start = lambda seed: trained(args, data, seed)
    yield "fp32, where all start", lambda seed, _: {"accuracy": data.accuracy(start(seed))}
    train = {"pass": "fine-tune", "epochs": args.epochs, "learning_rate": args.rate}
    yield "fp32, trained further, edgesmith", lambda seed, out: ours(args, data, [train], seed, out)
    yield "fp32, trained further, PyTorch", lambda seed, _: further(args, data, start(seed))
    learn = dict(train, **{"pass": "quantize-aware-train"})
    for bits in (2, 1):
        quantize = {"pass": "quantize", "weight_bits": bits}
        yield (f"{bits} bit, not trained, edgesmith",
               lambda seed, out, quantize=quantize: ours(args, data, [quantize], seed, out))
        yield (f"{bits} bit, trained, edgesmith", lambda seed, out, quantize=quantize:
               ours(args, data, [quantize, learn], seed, out))
        yield (f"{bits} bit, trained normalized, edgesmith", lambda seed, out, quantize=quantize:
               ours(args, data, [quantize, learn | {"normalize": True}], seed, out))
        if bits in BREVITAS:
            yield (f"{bits} bit, not trained, Brevitas",
                   lambda seed, _, bits=bits: quantized(args, data, start(seed), bits))
            yield (f"{bits} bit, trained, Brevitas", lambda seed, _, bits=bits:
                   further(args, data, lowered(start(seed), **BREVITAS[bits])))
    yield ("1 bit, trained, Brevitas, normalisation folded before", lambda seed, _: further(
        args, data, lowered(folded(start(seed)), **BREVITAS[1])))
    yield ("1 bit, trained, Brevitas's own binary weights", lambda seed, _: further(
        args, data, lowered(start(seed), weight_quant=SignedBinaryWeightPerTensorConst)))


class Data:
    """The images, the first ones of the training files; pixels from 0 to 1."""

    def __init__(self, args):
        self.folder = args.keep / "data"
        self.folder.mkdir(exist_ok=True)
        sets = {}
        for part, count in (("train", args.images), ("t10k", 10000)):
            for kind, start, each in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
                name = f"{part}-{kind}-ubyte"
                content = bytearray(gzip.decompress((args.data / f"{name}.gz").read_bytes()))
                content[4:8] = count.to_bytes(4, "big")
                content = content[: start + count * each]
                (self.folder / name).write_bytes(content)
                sets[name] = torch.frombuffer(content, dtype=torch.uint8, offset=start)
        self.train = sets["train-images-idx3-ubyte"].view(-1, 784).float() / 255
        self.labels = sets["train-labels-idx1-ubyte"].long()
        self.test = sets["t10k-images-idx3-ubyte"].view(-1, 784).float() / 255
        self.answers = sets["t10k-labels-idx1-ubyte"].long()

    def accuracy(self, network: nn.Module) -> float:
        network.eval()
        with torch.no_grad():
            chosen = torch.cat([network(part).argmax(1) for part in self.test.split(1000)])
        return 100 * float((chosen == self.answers).float().mean())


def plain() -> nn.Sequential:
    layers = []
    for inputs, outputs in zip(SIZES, SIZES[1:]):
        layers.append(nn.Linear(inputs, outputs))
        if outputs != SIZES[-1]:
            layers += [nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def trained(args, data: Data, seed: int) -> nn.Sequential:
    """The fp32 network of a seed, which is kept, also as an ONNX file."""
    network, kept = plain(), args.keep / f"fp32.{seed}.pt"
    if not kept.exists():
        torch.manual_seed(seed)
        network = plain()
        train(args, data, network)
        write(network, kept.with_suffix(".onnx"))
        torch.save(network.state_dict(), kept)
    network.load_state_dict(torch.load(kept))
    return network


def lowered(network: nn.Sequential, **weights) -> nn.Sequential:
    """The network with layers of Brevitas, and the weights that it has."""
    layers = [qnn.QuantIdentity(act_quant=Uint8ActPerTensorFloat)]
    for layer in network:
        if isinstance(layer, nn.Linear):
            new = qnn.QuantLinear(layer.in_features, layer.out_features, bias=True, **weights)
            new.weight.data.copy_(layer.weight.data)
            new.bias.data.copy_(layer.bias.data)
            layer = new
        elif isinstance(layer, nn.ReLU):
            layer = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat)
        layers.append(layer)
    return nn.Sequential(*layers)


def folded(network: nn.Sequential) -> nn.Sequential:
    """The network with batch normalisation as a part of the layers before, as edgesmith has it."""
    network.eval()
    layers = []
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d):
            layers[-1] = nn.utils.fuse_linear_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def quantized(args, data: Data, network: nn.Sequential, bits: int) -> dict:
    """Brevitas without training: the ranges of values are those of 256 images."""
    from brevitas.graph.calibrate import calibration_mode

    network = lowered(network, **BREVITAS[bits])
    network.eval()
    with torch.no_grad(), calibration_mode(network):
        for part in data.train[:256].split(BATCH):
            network(part)
    return {"accuracy": data.accuracy(network)}


def further(args, data: Data, network: nn.Module) -> dict:
    train(args, data, network)
    return {"accuracy": data.accuracy(network)}


def train(args, data: Data, network: nn.Module) -> None:
    network.train()
    weights = [each for each in network.parameters() if each.dim() > 1]
    others = [each for each in network.parameters() if each.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": weights, "weight_decay": DECAY},
                                   {"params": others, "weight_decay": 0}], lr=args.rate)
    steps = args.epochs * math.ceil(len(data.train) / BATCH)
    warm_up, step = round(steps * WARM_UP), 0
    for _ in range(args.epochs):
        for chosen in torch.randperm(len(data.train)).split(BATCH):
            if step < warm_up:
                share = (step + 1) / (warm_up + 1)
            else:
                share = (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2
            for group in optimizer.param_groups:
                group["lr"] = args.rate * share
            loss = F.cross_entropy(network(data.train[chosen]), data.labels[chosen],
                                   label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def write(network: nn.Sequential, file: pathlib.Path) -> None:
    """The network as an ONNX file with batch normalisation in it."""
    network.eval()
    made, nodes, arrays = onnx.helper, [], {}
    nodes.append(made.make_node("Flatten", ["image"], ["flat"]))
    value = "flat"
    for index, layer in enumerate(network):
        inputs = [value]
        value = f"value{index}" if index + 1 < len(network) else "scores"
        if isinstance(layer, nn.ReLU):
            nodes.append(made.make_node("Relu", inputs, [value]))
            continue
        state = {key: each for key, each in layer.state_dict().items() if each.dim()}
        for key, each in state.items():
            arrays[f"{index}.{key}"] = each.numpy()
            inputs.append(f"{index}.{key}")
        if isinstance(layer, nn.Linear):
            nodes.append(made.make_node("Gemm", inputs, [value], transB=1))
        else:
            nodes.append(made.make_node("BatchNormalization", inputs, [value], epsilon=layer.eps))
    number = onnx.TensorProto.FLOAT
    graph = made.make_graph(
        nodes, "fully-connected",
        [made.make_tensor_value_info("image", number, ["batch", 1, 28, 28])],
        [made.make_tensor_value_info("scores", number, ["batch", SIZES[-1]])],
        [onnx.numpy_helper.from_array(numpy.ascontiguousarray(array), name)
         for name, array in arrays.items()],
    )
    model = made.make_model(graph, opset_imports=[made.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def ours(args, data: Data, steps: list, seed: int, out: pathlib.Path) -> dict:
    trained(args, data, seed)
    study, recipe = out.with_name(out.name + ".study.toml"), out.with_name(out.name + ".toml")
    file = out.with_name(out.name + ".edge")
    study.write_text(f"""
[study]
name = "fully-connected"
seed = {seed}
[data]
source = "idx"
train_images = "train-images-idx3-ubyte"
train_labels = "train-labels-idx1-ubyte"
test_images = "t10k-images-idx3-ubyte"
test_labels = "t10k-labels-idx1-ubyte"
classes = 10
validation_fraction = 0.01
[training]
epochs = 1
batch_size = {BATCH}
label_smoothing = {SMOOTHING}
weight_decay = {DECAY}
warmup_fraction = {WARM_UP}
[space]
resolution = 28
stem_width = 1
[[space.stages]]
width = 1
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
    run(args, "compress", args.keep / f"fp32.{seed}.onnx", "--data", study, "--recipe", recipe,
        "--mean", "0", "--std", "1", "--data-root", data.folder, "--slots", args.slots,
        "--data-dir", out, "--name", out.name, "-o", file)
    results = json.loads(run(args, "evaluate", file, "--data", study, "--data-root", data.folder,
                             "--format", "json"))
    described = json.loads(run(args, "inspect", file, "--format", "json"))
    accuracy = 100 * results["figures"]["test_accuracy"]
    return {"accuracy": accuracy, "bytes": described["counted_bytes"]}


if __name__ == "__main__":
    sys.exit(main())
