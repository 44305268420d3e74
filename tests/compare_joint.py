#!/usr/bin/env python3
"""Recipe and architecture searched together, beside architecture first and compression after.

    compare_joint.py --edgesmith PROGRAM --data FOLDER --keep FOLDER \\
        [--of fashion-mnist,fsdd] [--seeds 1,2,3,4,5]

FOLDER has `fashion-mnist` and `fsdd`, each with its four IDX files. For each seed:

- together: one study whose candidates are an architecture with a recipe. It spends a budget,
  counted in images that networks are trained on; those of the teacher count, too.
- after: a study of architectures alone spends half of that budget. Some networks of its front, the
  most accurate one and others spread over the sizes, are exported as ONNX files, and for each a
  study of recipes spends its share of the other half. The most accurate one is also the teacher,
  which costs nothing.

Both have the same architectures, steps of the recipe, images, epochs and seed, and the objectives
are accuracy and bytes, so nothing depends on the speed of the machine. The hypervolume is the area
over accuracy (from --least) and the logarithm of bytes (up to those of the largest network seen).
The front is that of validation accuracy; its networks are then also taken with their accuracy on
the test images. Studies are kept in --keep and go on where they were. Needs nothing but edgesmith.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys

from experiment_figures import Deadline, beside, run

# Test images of Fashion-MNIST have other names than those of the spoken digits.
SETS = {"fashion-mnist": ("t10k", "10, 14"), "fsdd": ("test", "12, 16")}

DATA = """
[data]
source = "idx"
train_images = "train-images-idx3-ubyte.gz"
train_labels = "train-labels-idx1-ubyte.gz"
test_images = "{test}-images-idx3-ubyte.gz"
test_labels = "{test}-labels-idx1-ubyte.gz"
classes = 10
{limit}
[training]
epochs = {epochs}
fine_tune_epochs = 2
[[objectives]]
metric = "validation_accuracy"
[[objectives]]
metric = "model_bytes"
"""
SPACE = """
[space]
resolution = [{resolutions}]
stem_width = [4, 8, 16]
[[space.stages]]
depth = [1, 2]
width = [8, 16, 24]
operation = ["conv", "separable", "inverted-residual"]
expansion = [2, 4]
stride = 2
[[space.stages]]
depth = [1, 2]
width = [12, 24, 48]
operation = ["conv", "separable", "inverted-residual"]
expansion = [2, 4]
stride = 2
"""
# What it costs at most to compress, in epochs.
COMPRESSION = 3
RECIPE = """
[[recipe.steps]]
pass = "distil"
alpha = [0.0, 0.7]
[[recipe.steps]]
pass = "prune"
of = "macs"
share = [0.0, 0.3, 0.5, 0.7]
[[recipe.steps]]
pass = "fine-tune"
epochs = 2
[[recipe.steps]]
pass = "quantize"
precision = ["fp32", "int8"]
weight_bits = [8, 4]
[[recipe.steps]]
pass = "quantize-aware-train"
epochs = 1
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edgesmith", default="edgesmith")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--keep", type=pathlib.Path, required=True)
    parser.add_argument("--of", default=",".join(SETS), help="data sets, by commas")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--trials", type=int, default=20, help="of the study of both together")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=2500, help="most images, a fifth to validate")
    parser.add_argument("--networks", type=int, default=4, help="how many are compressed after")
    parser.add_argument("--least", type=float, default=0.5, help="accuracy where the area begins")
    parser.add_argument("--slots", default="auto", help="as for edgesmith search")
    Deadline.option(parser)
    args = parser.parse_args()
    deadline = Deadline(args)
    args.keep.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    for data in args.of.split(","):
        found = {}
        for seed in seeds:
            run = Run(args, deadline, data, seed)
            found["together", seed] = run.together()
            found["after", seed] = run.after()
            print(f"{data}, seed {seed}: {run.spent}", file=sys.stderr, flush=True)
        report(args, data, seeds, found)
    return 0


class Run:
    """Both sides, on one data set with one seed."""

    def __init__(self, args, deadline: Deadline, data: str, seed: int):
        self.args, self.deadline, self.data, self.seed = args, deadline, data, seed
        # A folder of its own: workers also go on with other studies of theirs.
        self.results = args.keep / f"{data}-{seed}"
        test, self.resolutions = SETS[data]
        # The smaller of the two sets has fewer images than the limit.
        limit = f"train_limit = {args.images}" if data == "fashion-mnist" else ""
        self.about = DATA.format(test=test, limit=limit, epochs=args.epochs)
        self.spent = {}

    def together(self) -> list:
        teacher = f"[teacher]\nepochs = {self.args.epochs}\n"
        trials = self.study("together", self.space() + RECIPE + teacher, self.args.trials)
        self.count("together", trials, self.args.epochs)
        return trials

    def after(self) -> list:
        """Half of the budget for architectures, the rest for the recipes of some of them."""
        budget = self.spent["together"]
        count = int(budget / 2 / self.args.epochs)
        first = self.study("first", self.space(), count)
        self.count("first", first, 0)
        found, share = list(first), (budget - self.spent["first"]) / self.args.networks
        chosen = spread(first, self.args.networks)
        teacher = self.exported(chosen[-1])
        for trial in chosen:
            found += self.compressed(trial, teacher, share)
        self.count("after", found, 0)
        return found

    def compressed(self, trial: dict, teacher: pathlib.Path, share: float) -> list:
        """The trials of a study of recipes of this network, as many as `share` epochs allow."""
        name = f"compress-{trial['trial']}"
        network = self.exported(trial)
        space = f"""
[space]
kind = "model"
model = {json.dumps(str(network.resolve()))}
pixels = "raw"
train = "as-it-is"
[teacher]
model = {json.dumps(str(teacher.resolve()))}
pixels = "raw"
"""
        trials, known = int(share / COMPRESSION), -1
        while True:
            found = self.study(name, space + RECIPE, trials)
            self.count(name, found, 0)
            # Most recipes cost less than the most, and some nothing. It ends without new ones.
            more = int((share - self.spent[name]) / COMPRESSION)
            if more < 1 or len(found) == known:
                return found
            known = len(found)
            trials += more
            run(self.args, "extend", self.name(name), "--trials", trials,
                "--data-dir", self.results)

    def exported(self, trial: dict) -> pathlib.Path:
        file = self.args.keep / f"{self.name('first')}-{trial['trial']}.onnx"
        if not file.exists():
            run(self.args, "export", f"{self.name('first')}/{trial['trial']}", "--format", "onnx",
                "--data-dir", self.results, "-o", file)
        return file

    def space(self) -> str:
        return SPACE.format(resolutions=self.resolutions)

    def name(self, part: str) -> str:
        return f"{self.data}-{self.seed}-{part}"

    def study(self, part: str, text: str, trials: int) -> list:
        """Runs a study, or goes on with it; its complete trials."""
        name = self.name(part)
        file = self.args.keep / f"{name}.toml"
        # A study that was extended keeps the file that it was submitted with.
        if not file.exists():
            head = f"[study]\nname = {json.dumps(name)}\nseed = {self.seed}\n"
            file.write_text(f"{head}{self.about}{text}\n[budget]\ntrials = {trials}\n")
        # A finished study ends at once.
        self.deadline.check()
        run(self.args, "search", file, "--data-dir", self.results,
            "--data-root", self.args.data / self.data, "--slots", self.args.slots)
        ask = ("--data-dir", self.results, "--format", "json")
        status = json.loads(run(self.args, "status", name, *ask))
        self.images = status["data"]["train_images"]
        trials = json.loads(run(self.args, "trials", name, *ask))["trials"]
        return [trial for trial in trials if trial["state"] == "complete"]

    def count(self, part: str, trials: list, others: int) -> None:
        """Epochs that were trained, those of a teacher with them."""
        seen = sum(trial["training"]["images_seen"] for trial in trials)
        self.spent[part] = round(seen / self.images + others, 2)


def front(trials: list) -> list:
    """Trials that no other beats, from the smallest to the most accurate."""
    chosen, best = [], -1.0
    of = lambda trial: trial["metrics"]
    figures = lambda trial: (of(trial)["model_bytes"], -of(trial)["validation_accuracy"])
    for trial in sorted(trials, key=figures):
        if of(trial)["validation_accuracy"] > best:
            best = of(trial)["validation_accuracy"]
            chosen.append(trial)
    return chosen


def spread(trials: list, count: int) -> list:
    """So many of the front, spread evenly over it; the most accurate one is the last."""
    own = front(trials)
    last = len(own) - 1
    places = sorted({last - round(i * last / count) for i in range(count)})
    return [own[place] for place in places]


def area(trials: list, accuracy: str, least: float, most: float) -> float:
    total, best = 0.0, least
    for trial in front(trials):
        value = trial["metrics"][accuracy]
        if value > best:
            total += max(0.0, most - math.log10(trial["metrics"]["model_bytes"])) * (value - best)
            best = value
    return total


def within(trials: list, size: int):
    """Test accuracy, in percent, of the most accurate network of the front within a size."""
    fits = [trial for trial in front(trials) if trial["metrics"]["model_bytes"] <= size]
    return 100 * fits[-1]["metrics"]["test_accuracy"] if fits else math.nan


def report(args, data: str, seeds: list, found: dict) -> None:
    sizes = [trial["metrics"]["model_bytes"] for side in found.values() for trial in side]
    most = math.log10(max(sizes))
    rows = {
        "hypervolume, validation": lambda side: area(side, "validation_accuracy", args.least, most),
        "hypervolume, test": lambda side: area(side, "test_accuracy", args.least, most),
        "networks on the front": lambda side: len(front(side)),
        "trials": len,
    }
    for size in (2000, 4000, 8000, 16000):
        rows[f"test accuracy within {size} bytes, %"] = lambda side, size=size: within(side, size)
    print(f"\n{data}, the area up to {10 ** most:.0f} bytes\n")
    print("| figure | together | after | difference | of each seed: together | after |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, figure in rows.items():
        sides = [[figure(found[side, seed]) for seed in seeds] for side in ("together", "after")]
        # A size that a network of some seed does not keep has no mean.
        show = lambda value: "–" if math.isnan(value) else f"{value:.3f}"
        cells = [show(statistics.mean(side)) for side in sides] + [beside(*sides, digits=3)]
        cells += [", ".join(map(show, side)) for side in sides]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
