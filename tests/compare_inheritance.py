"""What starting from finished relatives does: hypervolume against images seen, with and without, by seed.

Runs a study with and without `inherit_epochs` for several seeds, latency replaced by multiply-accumulates so that
nothing depends on the machine, and prints what fronts are worth after the same number of training images: the
area over validation accuracy (from 80 %) and the logarithm of multiply-accumulates (up to those of the largest
network seen), of trials in the order of their numbers. Needs a built edgesmith only:

    python tests/compare_inheritance.py --edgesmith target/release/edgesmith examples/digits.toml
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

LEAST_ACCURACY = 0.8


def variant(text, name, seed, epochs, trials):
    """The study file with another name, seed and inheritance, and without latencies."""
    text = re.sub(r'metric = "latency_ms".*\n(device = .*\n)?', 'metric = "macs"\n', text)
    text = re.sub(r'(?m)^name = "[^"]*"', f'name = "{name}"', text, count=1)
    text = re.sub(r"(?m)^seed = \d+", f"seed = {seed}", text, count=1)
    text = re.sub(r"(?m)^inherit_epochs = .*\n", "", text)
    text = re.sub(r"(?m)^\[training\].*\n", lambda found: found[0] + f"inherit_epochs = {epochs}\n", text, count=1)
    return re.sub(r"(?m)^trials = \d+", f"trials = {trials}", text) if trials else text


def area(points, most):
    total, best = 0.0, LEAST_ACCURACY
    for cost, accuracy in sorted((math.log10(macs), accuracy) for accuracy, macs in points):
        if accuracy > best:
            total += max(0.0, most - cost) * (accuracy - best)
            best = accuracy
    return total


def complete(edgesmith, name, results):
    asked = [edgesmith, "trials", name, "--format", "json", "--data-dir", str(results)]
    answer = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return [trial for trial in answer["trials"] if trial["state"] == "complete"]


def after(trials, images, most):
    """The front's worth once so many images were seen."""
    points, seen = [], 0
    for trial in trials:
        seen += trial["training"]["images_seen"]
        if seen > images:
            break
        points.append((trial["metrics"]["validation_accuracy"], trial["metrics"]["macs"]))
    return area(points, most)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=pathlib.Path)
    parser.add_argument("--edgesmith", default="target/release/edgesmith")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8, help="inherit_epochs of the one side")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--results", type=pathlib.Path, help="keep results here, and use what is there")
    arguments = parser.parse_args()
    text = arguments.study.read_text()
    with tempfile.TemporaryDirectory() as scratch:
        results = arguments.results or pathlib.Path(scratch) / "results"
        runs = {}
        for seed in range(1, arguments.seeds + 1):
            for side, epochs in (("off", 0), ("on", arguments.epochs)):
                name = f"{side}{seed}"
                file = pathlib.Path(scratch) / f"{name}.toml"
                file.write_text(variant(text, name, seed, epochs, arguments.trials))
                search = [arguments.edgesmith, "search", str(file), "--data-dir", str(results)]
                print(f"seed {seed}, inheritance {side}", file=sys.stderr)
                subprocess.run(search, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                runs[side, seed] = complete(arguments.edgesmith, name, results)
    most = max(math.log10(trial["metrics"]["macs"]) for trials in runs.values() for trial in trials)
    images = lambda trials: sum(trial["training"]["images_seen"] for trial in trials)
    least = min(map(images, runs.values()))
    print("seed  images off  images on  heirs  " + "  ".join(f"at {share:3.0%}: off     on" for share in (0.5, 1)) + "  at the end: off     on")
    sums = [0.0] * 6
    for seed in range(1, arguments.seeds + 1):
        off, on = runs["off", seed], runs["on", seed]
        heirs = sum("inherits_from" in trial for trial in on)
        figures = [after(side, least * share, most) for share in (0.5, 1) for side in (off, on)]
        figures += [after(side, math.inf, most) for side in (off, on)]
        sums = [a + b for a, b in zip(sums, figures)]
        cells = "  ".join(f"{figure:14.4f}" if i % 2 == 0 else f"{figure:.4f}" for i, figure in enumerate(figures))
        print(f"{seed:4}  {images(off):10}  {images(on):9}  {heirs:5}  {cells}")
    print("mean" + " " * 33 + "  ".join(f"{s / arguments.seeds:14.4f}" if i % 2 == 0 else f"{s / arguments.seeds:.4f}" for i, s in enumerate(sums)))
    print(f"at 100 %: when {least} training images were seen, which the shortest of the runs takes")


if __name__ == "__main__":
    main()
