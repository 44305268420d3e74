#!/usr/bin/env python3
"""Prunes two networks for Fashion-MNIST at several shares, and then quantizes them to several widths.

    compress_walkthrough.py --edgesmith PROGRAM --data FOLDER --keep FOLDER [--epochs N] [--only TEXT]
        [--train-limit N] [--test-limit N] NETWORK.onnx...

FOLDER of --data has the four files of Fashion-MNIST (idx, gzip). A network reads 28x28 pixels with
mean 0.2860 and standard deviation 0.3530. For each network: nothing, single weights of the whole
network by L1, and channels of the whole network by L1, at 50, 80, 90 and 95 %; each in fp32, and
quantized to 8 bits, to 16 bits and to binary weights with values of 8 bits, with one scale for each
layer (which is one tensor) and for each channel. --epochs trains after pruning; without it nothing is
trained.

Each cell is one run of `edgesmith compress`. Finished cells are in --keep and are not run again, so the
script can be stopped and started again. The table is printed in Markdown: test accuracy, and the size of
the model file as a share of the fp32 file of the network as it came. Python's standard library is
enough.
"""

import argparse
import json
import pathlib
import subprocess
import sys

PRUNED = [("nothing", "", 0)] + [
    (name, settings, share)
    for name, settings in [
        ("weights", 'granularity = "weights"\nof = "parameters"'),
        ("channels", 'of = "channels"\nimportance = "l1"'),
    ]
    for share in (0.5, 0.8, 0.9, 0.95)
]
WIDTHS = [("fp32", None)] + [
    (f"{name}, {granularity}", f'{settings}granularity = "{granularity}"')
    for name, settings in [
        ("8 bit", ""),
        ("16 bit", "weight_bits = 16\nactivation_bits = 16\n"),
        ("binary", "weight_bits = 1\n"),
    ]
    for granularity in ("layer", "channel")
]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", type=pathlib.Path, nargs="+", metavar="NETWORK.onnx")
    parser.add_argument("--edgesmith", default="edgesmith")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--keep", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--only", default="", help="run only networks whose name contains this text")
    parser.add_argument("--train-limit", type=int, default=8000)
    parser.add_argument("--test-limit", type=int, default=10000)
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    study = args.keep / "fashion.toml"
    study.write_text(study_of(args))
    failed = False
    for network in args.networks:
        name = network.name.split(".")[0]
        if args.only not in name:
            continue
        print(f"\n{name}\n\n| gone | {' | '.join(width for width, _ in WIDTHS)} |")
        print(f"| --- |{' --- |' * len(WIDTHS)}", flush=True)
        for pruned in PRUNED:
            words = []
            for width in WIDTHS:
                result = cell(args, network, name, study, pruned, width)
                failed |= result is None
                words.append("failed" if result is None else shown(result))
            gone = pruned[0] if not pruned[2] else f"{pruned[2]:.0%} of {pruned[0]}"
            print(f"| {gone} | {' | '.join(words)} |", flush=True)
    return int(failed)


def study_of(args):
    """The study file whose data and training are used."""
    files = {
        f"{part}_{kind}": str((args.data / f"{name}-{kind}-idx{axes}-ubyte.gz").resolve())
        for part, name in (("train", "train"), ("test", "t10k"))
        for kind, axes in (("images", 3), ("labels", 1))
    }
    lines = "\n".join(f"{key} = {json.dumps(path)}" for key, path in files.items())
    return f"""[study]
name = "fashion"
seed = 1

[data]
source = "idx"
classes = 10
{lines}
train_limit = {args.train_limit}
test_limit = {args.test_limit}

[training]
epochs = 1
fine_tune_epochs = {max(args.epochs, 1)}
optimizer = "adamw"
learning_rate = 0.001
fine_tune_learning_rate = 0.001

[space]
resolution = 28
stem_width = 4

[[space.stages]]
width = 4

[[objectives]]
metric = "validation_accuracy"

[budget]
trials = 1
"""


def recipe_of(args, pruned, width):
    _, settings, share = pruned
    steps = []
    if share:
        steps.append(f'pass = "prune"\n{settings}\nshare = {share}')
        if args.epochs:
            steps.append('pass = "fine-tune"')
    if width[1] is not None:
        steps.append(f'pass = "quantize"\n{width[1]}')
    if not steps:
        # A step that does nothing: the network as it came.
        steps.append('pass = "prune"\nshare = 0.0')
    return "".join(f"[[recipe.steps]]\n{step}\n" for step in steps)


def cell(args, network, name, study, pruned, width):
    """The best result and the network as it came; None if it failed."""
    words = f"{name} {pruned[0]} {pruned[2]} {width[0]}".replace(",", "").replace(".", "").split()
    trial = "-".join(words)
    kept = args.keep / f"{trial}.json"
    if not kept.exists():
        recipe = args.keep / f"{trial}.toml"
        recipe.write_text(recipe_of(args, pruned, width))
        line = [args.edgesmith, "compress", network, "--data", study, "--recipe", recipe]
        line += ["--mean", "0.2860", "--std", "0.3530", "--name", trial, "--format", "json"]
        line += ["--data-dir", args.keep / "studies"]
        ran = subprocess.run(line, capture_output=True, text=True)
        if ran.returncode:
            print(f"{trial} failed: {ran.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return None
        kept.write_text(ran.stdout)
    document = json.loads(kept.read_text())
    return document["best"]["metrics"], document["original"]["metrics"]


def shown(result):
    best, original = result
    share = best["model_bytes"] / original["model_bytes"]
    return f"{100 * best['test_accuracy']:.2f}, {100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
