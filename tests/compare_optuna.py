"""Compares edgesmith's algorithms with Optuna's samplers: accuracy and latency on NAS-Bench-201.

Both propose 200 cells of the same table and get the same two values. Prints, for each device, the missing
hypervolume 1 - HV/HV(true front) as the mean over runs, and the number of look-ups after which that mean
is within 1 %. Needs numpy and optuna from PyPI and a built edgesmith-bench:

    python tests/compare_optuna.py --bench target/release/edgesmith-bench \
        --table nasbench201.csv.gz --latencies nasbench201_latency.csv.gz --device raspi4 pixel3
"""

import argparse
import csv
import gzip
import io
import math
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy
import optuna

OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
SOURCES = [0, 0, 1, 0, 1, 2]
REFERENCE_ERROR = 0.9


def rows(path):
    opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path)
    with opened as file:
        return list(csv.DictReader(file))


def arch(edges):
    names = [f"{operation}~{source}|" for operation, source in zip(edges, SOURCES)]
    return "|" + names[0] + "+|" + "".join(names[1:3]) + "+|" + "".join(names[3:])


def hypervolume(points, reference):
    """Area that `points` (latency, error) dominate below `reference`."""
    volume, best = 0.0, reference[1]
    for latency, error in sorted(points):
        if latency < reference[0] and error < best:
            volume += (reference[0] - latency) * (best - error)
            best = error
    return volume


def geometric_mean(values):
    return math.exp(numpy.mean(numpy.log(numpy.maximum(values, 1e-12))))


class Problem:
    def __init__(self, table, latencies, device, column):
        self.points = {
            row["arch"]: (float(latency[f"{device}_ms"]), 1 - float(row[column]) / 100)
            for row, latency in zip(table, latencies)
        }
        self.reference = (max(point[0] for point in self.points.values()), REFERENCE_ERROR)
        self.whole = hypervolume(self.points.values(), self.reference)

    def missing(self, points):
        return 1 - hypervolume(points, self.reference) / self.whole


def sampler(name, seed):
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def run_optuna(problem, name, seed, trials):
    """The missing hypervolume after each trial of one Optuna study."""
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler(name, seed))
    points, curve = [], []

    def objective(trial):
        edges = [trial.suggest_categorical(f"edge{i}", OPERATIONS) for i in range(6)]
        points.append(problem.points[arch(edges)])
        curve.append(problem.missing(points))
        return points[-1]

    study.optimize(objective, n_trials=trials)
    return curve


def run_edgesmith(args, device):
    """The mean missing hypervolume after each look-up, by algorithm."""
    with tempfile.TemporaryDirectory() as directory:
        curve = pathlib.Path(directory) / "curve.csv"
        subprocess.run(
            [args.bench, "search", "--table", args.table, "--latencies", args.latencies,
             "--device", device, "--validation", args.column, "--identity", "row",
             "--budget", f"trials={args.trials}", "--runs", str(args.runs),
             "--algorithms", args.algorithms, "--curve", str(curve)],
            check=True, stdout=subprocess.DEVNULL)
        means = {}
        for row in csv.DictReader(io.StringIO(curve.read_text())):
            means.setdefault(row["algorithm"], []).append(float(row["mean_missing"]))
    return means


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", default="target/release/edgesmith-bench")
    parser.add_argument("--table", required=True)
    parser.add_argument("--latencies", required=True)
    parser.add_argument("--device", nargs="+", default=["all"])
    parser.add_argument("--column", default="c10_valid_200")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--algorithms", default="random,nsga2,auto")
    parser.add_argument("--samplers", nargs="+", default=["random", "nsga2", "tpe"])
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore")

    table, latencies = rows(args.table), rows(args.latencies)
    devices = args.device
    if devices == ["all"]:
        devices = [name.removesuffix("_ms") for name in latencies[0] if name.endswith("_ms")]
    ends, widths = {}, {}
    for device in devices:
        problem = Problem(table, latencies, device, args.column)
        means = {}
        for name in args.samplers:
            curves = [run_optuna(problem, name, seed, args.trials) for seed in range(args.runs)]
            means[f"optuna {name}"] = numpy.mean(curves, axis=0)
        for name, curve in run_edgesmith(args, device).items():
            means[f"edgesmith {name}"] = numpy.array(curve)
        if not widths:
            widths = {name: max(26, len(name) + 2) for name in means}
            print("device".ljust(16) + "".join(name.rjust(width) for name, width in widths.items()))
        line = device.ljust(16)
        for name, curve in means.items():
            ends.setdefault(name, []).append(curve[-1])
            within = numpy.nonzero(curve <= 0.01)[0]
            found = str(within[0] + 1) if len(within) else "-"
            line += f"{curve[-1]:.4f} (1 % at {found})".rjust(widths[name])
        print(line, flush=True)
    line = "geometric mean".ljust(16)
    for name, values in ends.items():
        line += f"{geometric_mean(values):.4f}".rjust(widths[name])
    print(line)
    best = numpy.min([ends[name] for name in ends if name.startswith("optuna")], axis=0)
    for name in ends:
        if name.startswith("edgesmith"):
            ratio = numpy.array(ends[name]) / best
            print(f"{name}: {geometric_mean(ratio):.2f} of the best "
                  f"Optuna sampler in the geometric mean, at worst {ratio.max():.2f}, "
                  f"over {len(ratio)} device(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
