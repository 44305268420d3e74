#!/usr/bin/env python3
"""Hinton's experiment in shape: a distilled student beside the same one alone, on Fashion-MNIST.

    compare_distillation.py --edgesmith PROGRAM --data FOLDER --keep FOLDER [--seeds 1,2,3,4,5]

FOLDER has the four files of Fashion-MNIST. For each seed and for two sizes, studies train a student
on the labels alone, on labels that are smoothed, and with what a large teacher says. The first
study that needs the teacher trains it; the others of the seed take its weights. All students are
the first trial of a study with the same seed, so they have the same images, the same initial
weights and the same order of images; only the loss differs. Accuracy is that of the model file in
the engine on the 10,000 test images. Finished cells are kept in --keep and are not run again. Needs
nothing but edgesmith.

With --model FILE, an ONNX network that PyTorch trained on all 60,000 images teaches students, too.

With --pytorch it also trains the larger students and their teachers in PyTorch, with the same
layers, loss and schedule on as many images, and shows the accuracy there. Needs numpy and torch.
"""

import argparse
import gzip
import json
import math
import pathlib
import statistics
import sys

from experiment_figures import Deadline, beside, deviation, run

# Widths of the stem and of the two stages of each student.
STUDENTS = {"small": (8, 8, 16), "larger": (16, 16, 32)}
ALONE = "alone"
# Each way to train the student: smoothing of the labels, and the settings of `distil`.
WAYS = {
    ALONE: (0.0, None),
    "alone, labels smoothed by 0.1": (0.1, None),
    "distilled, weight 0.9, temperature 4": (0.0, "alpha = 0.9\ntemperature = 4.0"),
    "distilled, weight 0.5, temperature 2": (0.0, "alpha = 0.5\ntemperature = 2.0"),
    # Small students do better if the teacher is silent at the end (Cho & Hariharan 2019).
    "distilled, weight 0.9 to 0, temperature 4": (
        0.0, 'alpha = { from = 0.9, to = 0.0, schedule = "cosine" }\ntemperature = 4.0'),
}
# The same with the network of --model as the teacher.
FROM_MODEL = {
    "distilled from --model, weight 0.9, temperature 4": "alpha = 0.9\ntemperature = 4.0",
    "distilled from --model, weight 0.5, temperature 2": "alpha = 0.5\ntemperature = 2.0",
}
# The same for PyTorch: weight and temperature at a share of the training.
SCHEDULES = {
    "distilled, weight 0.9, temperature 4": lambda _: (0.9, 4.0),
    "distilled, weight 0.5, temperature 2": lambda _: (0.5, 2.0),
    "distilled, weight 0.9 to 0, temperature 4": lambda share: (
        0.9 * (1 + math.cos(math.pi * share)) / 2, 4.0),
}
TEACHER_WIDTHS = (32, 48, 96)
# The default of studies.
RATE = 0.003

STUDY = """
[study]
name = "{name}"
seed = {seed}
[data]
source = "idx"
train_images = "train-images-idx3-ubyte.gz"
train_labels = "train-labels-idx1-ubyte.gz"
test_images = "t10k-images-idx3-ubyte.gz"
test_labels = "t10k-labels-idx1-ubyte.gz"
classes = 10
train_limit = {images}
[space]
resolution = 14
stem_width = {widths[0]}
[[space.stages]]
width = {widths[1]}
stride = 2
[[space.stages]]
width = {widths[2]}
stride = 2
[[objectives]]
metric = "validation_accuracy"
[[objectives]]
metric = "macs"
[algorithm]
name = "random"
[budget]
trials = 1
[training]
epochs = {epochs}
label_smoothing = {smoothing}
"""
TEACHER = """
[[recipe.steps]]
pass = "distil"
{settings}
[teacher]
{teacher}
[teacher.architecture]
resolution = 14
stem_width = {widths[0]}
[[teacher.architecture.stages]]
width = {widths[1]}
stride = 2
[[teacher.architecture.stages]]
width = {widths[2]}
stride = 2
"""
MODEL_TEACHER = """
[[recipe.steps]]
pass = "distil"
{settings}
[teacher]
model = {model}
mean = [{mean}]
std = [{std}]
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edgesmith", default="edgesmith")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--keep", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--images", type=int, default=6000, help="a fifth is for validation")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--teacher-epochs", type=int, default=12)
    parser.add_argument("--slots", default="auto", help="as for edgesmith search")
    parser.add_argument("--model", type=pathlib.Path, help="an ONNX network that teaches, too")
    parser.add_argument("--mean", default="0.2860", help="of the pixels that it reads")
    parser.add_argument("--std", default="0.3530")
    parser.add_argument("--pytorch", action="store_true", help="also train in PyTorch")
    Deadline.option(parser)
    args = parser.parse_args()
    deadline = Deadline(args)
    args.keep.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    # Seed by seed, so that what is finished is paired.
    ways = [*WAYS, *(FROM_MODEL if args.model else ())]
    keys = [(size, way) for size in STUDENTS for way in ways]
    cells = {(*key, seed): cell(args, deadline, *key, seed) for seed in seeds for key in keys}
    print("| network | mean | standard deviation | of each seed | beside alone |")
    print("| --- | --- | --- | --- | --- |")
    row("teacher", [json.loads(teacher(args, seed).read_text()) for seed in seeds], "")
    for size in STUDENTS:
        alone = [cells[size, ALONE, seed]["student"] for seed in seeds]
        for way in ways:
            own = [cells[size, way, seed]["student"] for seed in seeds]
            row(f"{size} student, {way}", own, "" if way == ALONE else with_wins(own, alone))
    if args.pytorch:
        found = [in_pytorch(args, deadline, seed) for seed in seeds]
        alone = [each[ALONE] for each in found]
        for name in found[0]:
            own = [each[name] for each in found]
            compared = "" if name in ("teacher", ALONE) else with_wins(own, alone)
            words = name if name == "teacher" else f"larger student, {name}"
            row(f"PyTorch: {words}", own, compared)
    for size in STUDENTS:
        student = cells[size, ALONE, seeds[0]]
        print(f"\nThe {size} student has {student['parameters']} parameters and "
              f"{student['macs']} MACs.")
    return 0


def row(name: str, values: list, difference: str) -> None:
    each = ", ".join(f"{value:.2f}" for value in values)
    print(f"| {name} | {statistics.mean(values):.2f} | {deviation(values):.2f} | {each} "
          f"| {difference} |")


def with_wins(own: list, other: list) -> str:
    better = sum(a > b for a, b in zip(own, other))
    return f"{beside(own, other)}, better in {better} of {len(own)}"


def cell(args, deadline: Deadline, size: str, way: str, seed: int) -> dict:
    """The test accuracy of a student, in percent, and what it costs."""
    smoothing, settings = WAYS.get(way, (0.0, None))
    words = way.replace("--", "").replace(",", "").replace(" ", "-")
    name = f"{size}-{words}-{seed}"
    kept = args.keep / f"{name}.json"
    if kept.exists():
        found = json.loads(kept.read_text())
        if way in FROM_MODEL and found.get("model") != args.model.name:
            raise SystemExit(f"{kept} is of another --model, {found.get('model')}; "
                             "name another folder with --keep")
        return found
    deadline.check()
    file = args.keep / f"{name}.toml"
    text = STUDY.format(name=name, seed=seed, images=args.images, epochs=args.epochs,
                        smoothing=smoothing, widths=STUDENTS[size])
    weights = args.keep.resolve() / f"teacher-{seed}.safetensors"
    if settings:
        given = f"weights = {json.dumps(str(weights))}"
        trained = f"epochs = {args.teacher_epochs}"
        text += TEACHER.format(settings=settings, widths=TEACHER_WIDTHS,
                               teacher=given if weights.exists() else trained)
    if way in FROM_MODEL:
        text += MODEL_TEACHER.format(settings=FROM_MODEL[way], mean=args.mean, std=args.std,
                                     model=json.dumps(str(args.model.resolve())))
    # A study that was begun goes on with the file that it began with.
    if not file.exists():
        file.write_text(text)
    # A folder of its own: workers also go on with other studies of theirs.
    results = args.keep / name
    run(args, "search", file, "--data-dir", results, "--data-root", args.data,
        "--slots", args.slots)
    ask = ("--data-dir", results, "--format", "json")
    [trial] = json.loads(run(args, "trials", name, *ask))["trials"]
    if trial["state"] != "complete":
        raise SystemExit(f"{name}: the trial is {trial['state']}: {trial.get('reason')}")
    if settings and not weights.exists():
        status = json.loads(run(args, "status", name, *ask))
        teacher(args, seed).write_text(json.dumps(100 * status["teacher"]["test_accuracy"]))
        run(args, "export", f"{name}/teacher", "--format", "safetensors", "-o", weights,
            "--data-dir", results)
    metrics = trial["metrics"]
    found = {"student": 100 * metrics["test_accuracy"],
             **{key: metrics[key] for key in ("macs", "parameters", "model_bytes")}}
    if way in FROM_MODEL:
        found["model"] = args.model.name
    kept.write_text(json.dumps(found))
    print(f"{name}: {found['student']:.2f} %", file=sys.stderr, flush=True)
    return found


def teacher(args, seed: int) -> pathlib.Path:
    """Where the test accuracy of the teacher is kept, in percent."""
    return args.keep / f"teacher-{seed}.json"


def in_pytorch(args, deadline: Deadline, seed: int) -> dict:
    """Test accuracies, in percent, of a teacher and of the larger students."""
    kept = args.keep / f"pytorch-{seed}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    deadline.check()
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(seed)
    images = args.images - args.images // 5
    train, labels = read(args.data, "train")
    chosen = torch.randperm(len(train))[:images]
    train, labels = train[chosen], labels[chosen]
    test, answers = read(args.data, "t10k")
    mean, deviation = train.mean(), train.std()
    train, test = (train - mean) / deviation, (test - mean) / deviation

    def network(widths) -> nn.Module:
        layers, inputs = [], 1
        for outputs, stride in zip(widths, (1, 2, 2)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                       nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))

    def learn(net, epochs: int, smoothing: float, soft=None, schedule=None) -> None:
        net.train()
        decayed = [each for each in net.parameters() if each.dim() > 1]
        others = [each for each in net.parameters() if each.dim() == 1]
        optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01},
                                       {"params": others, "weight_decay": 0}], lr=RATE)
        steps = epochs * math.ceil(images / 64)
        warm_up, step = round(steps * 0.1), 0
        for _ in range(epochs):
            for batch in torch.randperm(images).split(64):
                cosine = (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2
                share = (step + 1) / (warm_up + 1) if step < warm_up else cosine
                for group in optimizer.param_groups:
                    group["lr"] = RATE * share
                scores = net(train[batch])
                loss = functional.cross_entropy(scores, labels[batch], label_smoothing=smoothing)
                if soft is not None:
                    alpha, temperature = schedule(step / (steps - 1))
                    far = functional.kl_div((scores / temperature).log_softmax(1),
                                            (soft[batch] / temperature).log_softmax(1),
                                            reduction="batchmean", log_target=True)
                    loss = (1 - alpha) * loss + alpha * temperature ** 2 * far
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1

    def scores(net, of):
        net.eval()
        with torch.no_grad():
            return torch.cat([net(part) for part in of.split(500)])

    accuracy = lambda net: 100 * float((scores(net, test).argmax(1) == answers).float().mean())
    large = network(TEACHER_WIDTHS)
    learn(large, args.teacher_epochs, 0.0)
    found, soft = {"teacher": accuracy(large)}, scores(large, train)
    for way, (smoothing, settings) in WAYS.items():
        torch.manual_seed(seed)
        student = network(STUDENTS["larger"])
        learn(student, args.epochs, smoothing, soft if settings else None, SCHEDULES.get(way))
        found[way] = accuracy(student)
    kept.write_text(json.dumps(found))
    print(f"PyTorch, seed {seed}: {found}", file=sys.stderr, flush=True)
    return found


def read(folder: pathlib.Path, part: str):
    """Images of half the size, from 0 to 1, and their labels."""
    import torch

    def unpack(name: str, start: int):
        packed = (folder / f"{part}-{name}-ubyte.gz").read_bytes()
        return torch.frombuffer(bytearray(gzip.decompress(packed)), dtype=torch.uint8, offset=start)

    pixels, labels = unpack("images-idx3", 16), unpack("labels-idx1", 8).long()
    images = pixels.view(-1, 1, 28, 28).float() / 255
    return torch.nn.functional.avg_pool2d(images, 2), labels


if __name__ == "__main__":
    sys.exit(main())
