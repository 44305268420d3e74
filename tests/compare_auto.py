#!/usr/bin/env python3
"""`edgesmith compress --auto` on three imported networks, beside a script with other tools.

    compare_auto.py --edgesmith PROGRAM --data FOLDER --cifar FOLDER --keep FOLDER \\
        [--seeds 1,2,3] simple_net.legacy.onnx fashion_mobilenet.legacy.onnx ic_resnet8.onnx

--data has the four files of Fashion-MNIST, which the first two networks read; --cifar has `train`
and `test`, each with a folder of CIFAR-10 images for each class, for MLPerf Tiny's ResNet8. Both
sides search the most accurate network within the same limits: accuracy lost on validation images,
bytes of the file, and milliseconds of one image on one thread, each in its own runtime (edgesmith's
engine, ONNX Runtime). The limit on time is a share of what the network as it came takes, the mean
of both runtimes.

- edgesmith: `compress --auto`.
- script: draws a share of the MACs to remove, an importance and whether all layers compete, prunes
  with Torch-Pruning, trains with PyTorch, exports, quantizes with ONNX Runtime (static, scales per
  channel), measures both files, and draws again until it has used as many CPU seconds as edgesmith
  did. What was begun by then is finished.

CPU seconds, because other work on the machine does not count there; both have one thread. Both
train on the same images with AdamW, the same epochs, batches, rate and schedule, and each draws its
own validation images from the same file. The result of each side is then run on all test images,
as is the network that is trained further without compression.
Finished cells are kept in --keep and are not run again; after --minutes none is begun.

Needs numpy, onnx, onnxruntime, onnxscript, pillow, torch and torch-pruning.
"""

import argparse
import contextlib
import json
import logging
import os
import pathlib
import random
import resource
import shutil
import sys
import time
import types
import warnings
from unittest import mock

import numpy
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

import compare_pruning
import compare_quantization
from compress_cells import READS, cut, keep, row, toml
from experiment_figures import Deadline, run

os.environ |= {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# Accuracy that may be lost, as a fraction.
DROP = 0.01
# Largest file, a tenth or a fifth of that in fp32; largest share of the time in fp32; images, a
# quarter of them for validation; and recipes that edgesmith tries. The last two are smaller for the
# networks that take longer.
NETWORKS = {
    "simple_net": (50_000, 0.45, 8000, 24),
    "fashion_mobilenet": (52_000, 0.7, 2400, 12),
    "ic_resnet8": (64_000, 0.7, 2400, 12),
}
# What the script draws from: shares of the MACs that are removed, as --auto has them.
SHARES = (0.0, 0.25, 0.5, 0.75)
IMPORTANCES = ("Taylor", "Magnitude")
# Numbers of channels are any, or multiples of 8, which ONNX Runtime often computes much faster.
MULTIPLES = (1, 8)
CALIBRATIONS = ("MinMax", "Percentile")
# Of ONNX Runtime's ways to store integers the one that was smallest and fastest on x86-64.
STORED = {"form": "QOperator", "values": "QUInt8"}
# Images for calibration, as edgesmith takes.
EXAMPLES = 256
# The mean and the deviation that networks of Fashion-MNIST read pixels with.
MEAN, DEVIATION = (float(READS[at]) for at in (1, 3))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=pathlib.Path, nargs=3)
    parser.add_argument("--edgesmith", default="edgesmith")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--cifar", type=pathlib.Path, required=True)
    parser.add_argument("--keep", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    Deadline.option(parser)
    parser.add_argument("--only", default="", help="run only cells whose name contains this text")
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    seeds, deadline = [int(seed) for seed in args.seeds.split(",")], Deadline(args)
    tasks = [Task(args, *pair) for pair in zip(NETWORKS, args.models)]

    def cell(name: str, work):
        """What is kept of a cell, or what it gives now; None if it is not to be run."""
        kept = args.keep / f"{name}.json"
        if not kept.exists() and not deadline.over() and args.only in name:
            keep(kept, work())
            print(f"{name} is finished", file=sys.stderr, flush=True)
        return json.loads(kept.read_text()) if kept.exists() else None

    found = {}
    # Seed by seed, so that what is finished says something about all networks.
    for seed in seeds:
        for task in tasks:
            came = cell(f"{task.name}-as-it-came", task.as_it_came)
            if not came:
                continue
            limits = task.limits(came)
            name = f"{task.name}-edgesmith-{seed}"
            own = cell(name, lambda: edgesmith(args, task, limits, seed, args.keep / name))
            further = cell(f"{task.name}-further-{seed}", lambda: trained_further(args, task, seed))
            if own:
                other = cell(f"{task.name}-script-{seed}",
                             lambda: script(args, task, limits, seed, own["cpu_seconds"]))
                found[task.name, seed] = (own, other, further)
    for task in tasks:
        of_task = [found[task.name, seed] for seed in seeds if (task.name, seed) in found]
        if of_task:
            report(task, cell(f"{task.name}-as-it-came", task.as_it_came), of_task)
    return 0


class Task:
    """A network with its images."""

    def __init__(self, args, name: str, model: pathlib.Path):
        self.args, self.name, self.model = args, name, model.resolve()
        self.size, self.share, self.count, self.trials = NETWORKS[name]
        self.folder_of_images = name == "ic_resnet8"
        self.reads = ("--raw-pixels",) if self.folder_of_images else READS
        # The script's images are between 0 and 1, or have the mean and deviation of the network.
        self.scale = compare_pruning.SCALE if self.folder_of_images else 1

    def study(self, seed: int, whole: bool) -> pathlib.Path:
        """A study file, with all test images or with few of them. The search runs each candidate
        on them too, which the script does not."""
        args, count = self.args, 10_000 if whole else 200
        if self.folder_of_images:
            train, test = self.part("train", self.count), self.part("test", count)
            data = 'source = "image-folder"\nside = 32\n'
            data += f"train = {json.dumps(str(train))}\ntest = {json.dumps(str(test))}"
        else:
            data = 'source = "idx"\n' + "\n".join(
                f"{name}_{kind} = {cut(args, part, kind, of)}"
                for name, part, of in (("train", "train", self.count), ("test", "t10k", count))
                for kind in ("images", "labels")
            )
        file = args.keep / f"{self.name}-{seed}-{count}.toml"
        file.write_text(f"""[study]
name = "auto"
seed = {seed}
[data]
classes = 10
validation_fraction = 0.25
{data}
[training]
batch_size = {compare_pruning.BATCH}
fine_tune_epochs = {args.epochs}
fine_tune_learning_rate = {args.rate}
label_smoothing = {compare_pruning.SMOOTHING}
weight_decay = {compare_pruning.DECAY}
warmup_fraction = {compare_pruning.WARM_UP}
[space]
kind = "model"
model = {json.dumps(str(self.model))}
pixels = "raw"
[[objectives]]
metric = "validation_accuracy"
[budget]
trials = 1
""")
        return file

    def part(self, part: str, images: int) -> pathlib.Path:
        """A folder with the first images of each class."""
        folder = self.args.keep.resolve() / f"cifar-{part}-{images}"
        for source in sorted((self.args.cifar / part).iterdir()):
            target = folder / source.name
            files = sorted(source.iterdir())[: images // 10]
            if not target.exists() or len(list(target.iterdir())) < len(files):
                target.mkdir(parents=True, exist_ok=True)
                for file in files:
                    shutil.copy(file, target)
        return folder

    def images(self, part: str, count: int):
        """The same images for the script, as it reads them, and their labels."""
        if self.folder_of_images:
            images, labels = compare_pruning.decode(self.part(part, count))
            return images.float() / self.scale, labels
        args, file = self.args, {"train": "train", "test": "t10k"}[part]
        read = lambda kind, start: numpy.fromfile(
            json.loads(cut(args, file, kind, count)), numpy.uint8, offset=start)
        pixels = torch.from_numpy(read("images", 16)).view(-1, 1, 28, 28)
        labels = torch.from_numpy(read("labels", 8)).long()
        return (pixels.float() / 255 - MEAN) / DEVIATION, labels

    def split(self, seed: int):
        """Images for training and validation, the same share of each class."""
        images, labels = self.images("train", self.count)
        generator = torch.Generator().manual_seed(seed)
        held = torch.zeros(len(labels), dtype=torch.bool)
        for label in range(10):
            members = (labels == label).nonzero()[:, 0]
            order = torch.randperm(len(members), generator=generator)
            held[members[order[: len(members) // 4]]] = True
        return (images[~held], labels[~held]), (images[held], labels[held])

    def network(self) -> nn.Module:
        if self.folder_of_images:
            return compare_pruning.ResNet8(self.model)
        return Imported(self.model)

    def as_it_came(self) -> dict:
        """The figures of the network in both runtimes."""
        args, study = self.args, self.study(0, True)
        timed = [json.loads(run(args, "measure", self.model, "--format", "json"))["p50_ms"]
                 for _ in range(5)]
        evaluated = json.loads(run(args, "evaluate", self.model, *self.reads, "--data", study,
                                   "--format", "json"))
        described = json.loads(run(args, "inspect", self.model, "--format", "json"))
        file = args.keep / f"{self.name}.onnx"
        images, labels = self.images("test", 10_000)
        export(self.network(), images[:1], file)
        return {
            "edgesmith": {"test_accuracy": evaluated["figures"]["test_accuracy"],
                          "model_bytes": described["counted_bytes"], "latency_ms": min(timed)},
            "script": {"test_accuracy": accuracy(file, images, labels),
                       "model_bytes": self.model.stat().st_size, "latency_ms": latency(file)},
        }

    def limits(self, came: dict) -> dict:
        ms = numpy.mean([came[side]["latency_ms"] for side in ("edgesmith", "script")])
        return {"accuracy_drop": DROP, "model_bytes": self.size,
                "latency_ms": round(self.share * float(ms), 4)}


def edgesmith(args, task: Task, limits: dict, seed: int, out: pathlib.Path) -> dict:
    file = out.with_name(out.name + ".edge")
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before, start = used(), time.monotonic()
    said = json.loads(run(
        args, "compress", task.model, "--data", task.study(seed, False), *task.reads, "--auto",
        *(f"{name}<={limit}" for name, limit in limits.items()), "--trials", task.trials,
        "--slots", "1", "--name", "auto", "--data-dir", out, "--fresh", "-o", file,
        "--format", "json",
        # 3 says that no result keeps all limits.
        codes=(0, 3),
    ))
    seconds, minutes = used() - before, (time.monotonic() - start) / 60
    values = {each["limit"].split("<=")[0]: each["value"] for each in said["limits"]}
    evaluated = json.loads(run(args, "evaluate", file, "--data", task.study(seed, True),
                               "--format", "json"))
    return {
        "values": values, "met": [each["limit"] for each in said["limits"] if each["met"]],
        "test_accuracy": evaluated["figures"]["test_accuracy"], "tried": said["recipes"],
        "what": said["best"]["recipe"], "limits": limits, "cpu_seconds": seconds,
        "minutes": minutes,
    }


def trained_further(args, task: Task, seed: int) -> dict:
    """The network in fp32 after the same training, without compression."""
    recipe, file = args.keep / "further.toml", args.keep / "further.edge"
    recipe.write_text(toml([{"pass": "fine-tune"}]))
    run(args, "compress", task.model, "--data", task.study(seed, True), *task.reads, "--recipe",
        recipe, "--slots", "1", "--name", "further", "--data-dir",
        args.keep / f"{task.name}-further-{seed}", "--fresh", "-o", file)
    found = json.loads(run(args, "evaluate", file, "--data", task.study(seed, True),
                           "--format", "json"))
    return {"test_accuracy": found["figures"]["test_accuracy"]}


def script(args, task: Task, limits: dict, seed: int, seconds: float) -> dict:
    """What a search by hand finds in so many CPU seconds."""
    drawn, tried, begun = random.Random(seed), [], time.monotonic()
    start, best = time.process_time(), None
    (images, labels), held = task.split(seed)
    file, fits = args.keep / f"{task.name}-script-{seed}.onnx", {}
    export(task.network(), images[:1], file)
    own = accuracy(file, *held)
    ways = [(share, importance, everywhere, multiple, calibration)
            for share in SHARES for importance in IMPORTANCES for everywhere in (True, False)
            for multiple in MULTIPLES for calibration in CALIBRATIONS
            # Without pruning it does not matter by what.
            if share or (importance, everywhere, multiple) == (IMPORTANCES[0], True, MULTIPLES[0])]
    drawn.shuffle(ways)
    while ways and time.process_time() - start < seconds:
        share, importance, everywhere, multiple, calibration = way = ways.pop()
        torch.manual_seed(seed)
        network = task.network()
        if share:
            compare_pruning.prune(network, importance, everywhere, images, labels,
                                  left=1 - share, steps=50, scale=1, multiple=multiple)
        compare_pruning.train(network, images, labels, args.epochs, args.rate, scale=1)
        export(network, images[:1], file)
        chosen = images[:: len(images) // EXAMPLES][:EXAMPLES].numpy()
        integers = file.with_suffix(".int8.onnx")
        # Its sessions have as many threads as cores, and it prints what it does.
        with (mock.patch.object(onnxruntime, "SessionOptions", OneThread),
              contextlib.redirect_stdout(sys.stderr)):
            compare_quantization.static(file, types.SimpleNamespace(name="image"), calibration,
                                        chosen, integers, **STORED)
        for made, precision in ((file, "fp32"), (integers, "int8")):
            values = {"accuracy_drop": own - accuracy(made, *held),
                      "model_bytes": made.stat().st_size, "latency_ms": latency(made)}
            beyond = sum(max(0.0, values[name] / limit - 1) for name, limit in limits.items())
            tried.append({"way": [*way, precision], **values,
                          "cpu_seconds": time.process_time() - start})
            order = (beyond, values["accuracy_drop"], values["model_bytes"])
            if best is None or order < best[0]:
                best = (order, tried[-1]["way"], values)
                shutil.copy(made, file.with_suffix(".best.onnx"))
    used, minutes = time.process_time() - start, (time.monotonic() - begun) / 60
    _, way, values = best
    met = [f"{name}<={limit}" for name, limit in limits.items() if values[name] <= limit]
    right = accuracy(file.with_suffix(".best.onnx"), *task.images("test", 10_000))
    return {"values": values, "met": met, "test_accuracy": right, "tried": len(tried), "what": way,
            "limits": limits, "cpu_seconds": used, "minutes": minutes, "all": tried}


class Imported(nn.Module):
    """A network of convolutions, rectifiers and sums, as its ONNX file has it."""

    def __init__(self, model: pathlib.Path):
        super().__init__()
        graph = onnx.load(model).graph
        arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        self.layers, self.steps = nn.ModuleList(), []
        self.given, self.answer = graph.input[0].name, graph.output[0].name
        for node in graph.node:
            about = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
            [result] = node.output
            if node.op_type == "Constant":
                arrays[result] = onnx.numpy_helper.to_array(about["value"])
                continue
            inputs, layer = [name for name in node.input if name not in arrays], None
            constants = [torch.tensor(arrays[name]) for name in node.input if name in arrays]
            if node.op_type == "Conv":
                weight, groups = constants[0], about["group"]
                layer = nn.Conv2d(weight.shape[1] * groups, weight.shape[0], weight.shape[2],
                                  about["strides"][0], about["pads"][0], groups=groups)
            elif node.op_type == "Gemm":
                layer = self.linear = nn.Linear(*reversed(constants[0].shape))
            elif node.op_type == "Clip":
                assert [float(limit) for limit in constants] == [0, 6]
            if layer:
                layer.weight.data, layer.bias.data = constants
                self.layers.append(layer)
            self.steps.append((node.op_type, layer, inputs, result))

    def forward(self, image):
        apply = {"Relu": F.relu, "Clip": F.relu6, "Add": torch.add,
                 "Flatten": lambda x: x.flatten(1), "ReduceMean": lambda x: x.mean((2, 3))}
        values = {self.given: image}
        for kind, layer, inputs, result in self.steps:
            values[result] = (layer or apply[kind])(*(values[name] for name in inputs))
        return values[self.answer]


class OneThread(onnxruntime.SessionOptions):
    def __init__(self):
        super().__init__()
        self.intra_op_num_threads = self.inter_op_num_threads = 1


def session(file: pathlib.Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(file), OneThread(), providers=["CPUExecutionProvider"])


def export(network: nn.Module, image, file: pathlib.Path) -> None:
    network.eval()
    torch.onnx.export(network, (image,), str(file), dynamo=False, opset_version=17,
                      input_names=["image"], dynamic_axes={"image": {0: "batch"}})


def accuracy(file: pathlib.Path, images, labels) -> float:
    runs, right = session(file), 0
    for part, answers in zip(images.split(100), labels.split(100)):
        [scores] = runs.run(None, {"image": part.numpy()})
        right += int((scores.argmax(1) == answers.numpy()).sum())
    return right / len(labels)


def latency(file: pathlib.Path) -> float:
    """Milliseconds of one image: the median of at least 50 runs and 0.1 seconds. Of five medians
    the smallest, because other work only ever adds to it."""
    runs, medians = session(file), []
    [given] = runs.get_inputs()
    feed = {given.name: numpy.zeros([1, *given.shape[1:]], numpy.float32)}
    for _ in range(5):
        times, end = [], time.monotonic() + 0.1
        while len(times) < 50 or time.monotonic() < end:
            start = time.perf_counter()
            runs.run(None, feed)
            times.append(time.perf_counter() - start)
        medians.append(1e3 * float(numpy.median(times)))
    return min(medians)


def report(task: Task, came: dict, of_task: list) -> None:
    limits = task.limits(came)
    print(f"\n`{task.name}`, to lose at most {100 * DROP:g} points, at most "
          f"{limits['model_bytes']:,} bytes and {limits['latency_ms']} ms\n")
    print(row("network", "limits met", "points lost, validation", "test accuracy, %", "bytes", "ms",
              "CPU minutes", "tried"))
    print(row(*["---"] * 8))
    further = [f"{100 * each['test_accuracy']:.2f}" for *_, each in of_task if each]
    print(row("trained further, fp32, edgesmith", "", "", ", ".join(further), "", "", "", ""))
    for side, name in enumerate(("edgesmith", "script")):
        figures = came[name]
        print(row(f"as it came, {name}", "", "", f"{100 * figures['test_accuracy']:.2f}",
                  f"{figures['model_bytes']:,}", f"{figures['latency_ms']:.4f}", "", ""))
        results = [all_three[side] for all_three in of_task if all_three[side]]
        each = lambda show: ", ".join(map(show, results))
        print(row(
            name, each(lambda result: f"{len(result['met'])} of {len(limits)}"),
            each(lambda result: f"{100 * result['values']['accuracy_drop']:.1f}"),
            each(lambda result: f"{100 * result['test_accuracy']:.2f}"),
            each(lambda result: f"{result['values']['model_bytes']:,.0f}"),
            each(lambda result: f"{result['values']['latency_ms']:.4f}"),
            each(lambda result: f"{result['cpu_seconds'] / 60:.1f}"),
            each(lambda result: str(result["tried"])),
        ), flush=True)


if __name__ == "__main__":
    sys.exit(main())
