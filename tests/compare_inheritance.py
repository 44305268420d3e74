"""Measures the effect of starting from finished relatives: hypervolume against images seen, by seed.

Runs a study with and without `inherit_epochs` for several seeds. Latency is replaced by
multiply-accumulates, so that nothing depends on the machine. Prints the hypervolume of the fronts after
the same number of training images: the area over validation accuracy (from 80 %) and the logarithm of
multiply-accumulates (up to those of the largest network seen), with trials in the order of their
numbers. Needs only a built edgesmith:

    python tests/compare_inheritance.py --edgesmith target/release/edgesmith examples/digits.toml

With --ranks it compares rankings instead: do networks that inherit weights, after a few epochs, rank in
the same order as after full trainings from scratch? The same random candidates (which do not depend on
results) are trained in full, with inherited weights, and from scratch for the same few epochs. Then the
orders of the networks with inherited weights are compared.
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


def variant(text, name, seed, inherit, trials, random=False, epochs=None):
    """The study file with another name, seed and `inherit_epochs`, and without latencies."""
    if random:
        text = re.sub(r"(?m)^\[algorithm\]\n([^\[\n].*\n)*", '[algorithm]\nname = "random"\n', text)
    if epochs:
        training = text.index("[training]")
        text = text[:training] + re.sub(r"(?m)^epochs = \d+", f"epochs = {epochs}", text[training:], count=1)
    text = re.sub(r'metric = "latency_ms".*\n(device = .*\n)?', 'metric = "macs"\n', text)
    text = re.sub(r'(?m)^name = "[^"]*"', f'name = "{name}"', text, count=1)
    text = re.sub(r"(?m)^seed = \d+", f"seed = {seed}", text, count=1)
    text = re.sub(r"(?m)^inherit_epochs = .*\n", "", text)
    text = re.sub(r"(?m)^\[training\].*\n", lambda found: found[0] + f"inherit_epochs = {inherit}\n", text, count=1)
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


def search(arguments, scratch, results, name, **changes):
    """The complete trials of a variant of the study."""
    file = pathlib.Path(scratch) / f"{name}.toml"
    file.write_text(variant(arguments.study.read_text(), name, trials=arguments.trials, **changes))
    command = [arguments.edgesmith, "search", str(file), "--data-dir", str(results)]
    if arguments.data_root:
        command += ["--data-root", str(arguments.data_root)]
    print(name, file=sys.stderr)
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return complete(arguments.edgesmith, name, results)


def kendall(x, y):
    """Kendall's tau-b."""
    agree = of_x = of_y = 0
    for i in range(len(x)):
        for j in range(i):
            a, b = (x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])
            agree, of_x, of_y = agree + a * b, of_x + abs(a), of_y + abs(b)
    return agree / math.sqrt(of_x * of_y) if of_x and of_y else 0.0


def spearman(x, y):
    """Spearman's rho; ties share their rank."""
    rank = lambda of: [sum(b < a for b in of) + (sum(b == a for b in of) + 1) / 2 for a in of]
    x, y = rank(x), rank(y)
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    sums = [sum((a - p) * (b - q) for a, b in zip(u, v)) for u, p, v, q in ((x, mean_x, y, mean_y), (x, mean_x, x, mean_x), (y, mean_y, y, mean_y))]
    return sums[0] / math.sqrt(sums[1] * sums[2]) if sums[1] and sums[2] else 0.0


def ranks(arguments, scratch, results):
    """Prints how well heirs, and short trainings from scratch, rank networks like full trainings."""
    print("seed  heirs  as heirs: Kendall  Spearman  images  from scratch as long: Kendall  Spearman  images  in full: images")
    for seed in range(1, arguments.seeds + 1):
        run = lambda name, **changes: {
            trial["trial"]: trial for trial in search(arguments, scratch, results, f"{name}{seed}", seed=seed, random=True, **changes)
        }
        full, heirs = run("full", inherit=0), run("heirs", inherit=arguments.epochs)
        short = run("short", inherit=0, epochs=arguments.epochs)
        same = [n for n in full if n in heirs and n in short and "inherits_from" in heirs[n]]
        assert all(full[n]["genotype"] == heirs[n]["genotype"] == short[n]["genotype"] for n in same)
        accuracy = lambda side: [side[n]["uncompressed"]["validation_accuracy"] for n in same]
        images = lambda side: sum(side[n]["training"]["images_seen"] for n in same)
        cells = [
            f"{kendall(accuracy(side), accuracy(full)):.2f}  {spearman(accuracy(side), accuracy(full)):.2f}  {images(side)}"
            for side in (heirs, short)
        ]
        print(f"{seed:4}  {len(same):5}  {cells[0]}  {cells[1]}  {images(full)}")


def after(trials, images, most):
    """The hypervolume of the front after this number of images."""
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
    parser.add_argument("--epochs", type=int, default=6, help="inherit_epochs of the side with inheritance")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--ranks", action="store_true", help="compare rankings of networks instead")
    parser.add_argument("--data-root", type=pathlib.Path, help="as for edgesmith search")
    parser.add_argument("--results", type=pathlib.Path, help="keep results here, and reuse existing ones")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = arguments.results or pathlib.Path(scratch) / "results"
        if arguments.ranks:
            return ranks(arguments, scratch, results)
        runs = {}
        for seed in range(1, arguments.seeds + 1):
            for side, inherit in (("off", 0), ("on", arguments.epochs)):
                trials = search(arguments, scratch, results, f"{side}{seed}", seed=seed, inherit=inherit)
                runs[side, seed] = trials
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
    print(f"100 % is {least} training images, the number of the shortest run")


if __name__ == "__main__":
    main()
