"""Compares the time to a good front: edgesmith, and Optuna's NSGA-II that trains with PyTorch.

Both search the same space of networks for Fashion-MNIST, train with the same recipe, and are compared
by validation accuracy and multiply-accumulates. First Optuna runs for --minutes, with one process per
core. Then edgesmith runs until it has the same hypervolume or the same time is over. The hypervolume
is over accuracy (from 70 %) and the logarithm of the multiply-accumulates (up to those of the largest
network). Needs torch and optuna from PyPI, the four files of Fashion-MNIST in one directory, and a
built edgesmith-bench:

    python tests/compare_front.py --bench target/release/edgesmith-bench --data data/fashion-mnist --minutes 10
"""

import argparse
import gzip
import json
import math
import multiprocessing
import os
import pathlib
import struct
import subprocess
import tempfile
import time

TRAIN, EPOCHS, BATCH, RATE, DECAY, SMOOTHING, WARM_UP = 10_000, 8, 64, 0.004, 0.01, 0.05, 0.1
RESOLUTIONS, STEMS = [14, 20, 28], [8, 16]
STAGES = [
    {"depth": [1, 2], "width": [8, 16, 24], "kernel": [3, 5], "stride": [1, 2]},
    {"depth": [1, 2], "width": [16, 32, 48], "kernel": [3, 5], "stride": [2]},
]
OPERATIONS, EXPANSIONS = ["conv", "separable", "inverted-residual"], [2, 4]
LEAST_ACCURACY, MOST_MACS = 0.7, 70e6

STUDY = """
[study]
name = "front"
seed = {seed}
[data]
source = "idx"
train_images = "train-images-idx3-ubyte.gz"
train_labels = "train-labels-idx1-ubyte.gz"
test_images = "t10k-images-idx3-ubyte.gz"
test_labels = "t10k-labels-idx1-ubyte.gz"
classes = 10
validation_fraction = 0.2
train_limit = {train}
[space]
resolution = {resolutions}
stem_width = {stems}
{stages}
[[objectives]]
metric = "validation_accuracy"
[[objectives]]
metric = "macs"
[budget]
trials = 100000
[training]
epochs = {epochs}
{more}
batch_size = {batch}
learning_rate = {rate}
weight_decay = {decay}
label_smoothing = {smoothing}
warmup_fraction = {warm_up}
"""


def study_file(arguments):
    """The study file for edgesmith."""
    stages = ""
    for stage in STAGES:
        stages += "[[space.stages]]\n" + "".join(f"{name} = {options}\n" for name, options in stage.items())
        stages += f"operation = {json.dumps(OPERATIONS)}\nexpansion = {EXPANSIONS}\n"
    return STUDY.format(
        seed=arguments.seed,
        train=TRAIN,
        resolutions=RESOLUTIONS,
        stems=STEMS,
        stages=stages,
        epochs=EPOCHS,
        more=arguments.training,
        batch=BATCH,
        rate=RATE,
        decay=DECAY,
        smoothing=SMOOTHING,
        warm_up=WARM_UP,
    )


def hypervolume(points):
    """Area that points (accuracy, macs) dominate, above the least accuracy and below the most macs in
    decades."""
    area, best = 0.0, LEAST_ACCURACY
    staircase = sorted((math.log10(macs), accuracy) for accuracy, macs in points)
    for cost, accuracy in staircase:
        if accuracy > best and cost < math.log10(MOST_MACS):
            area += (math.log10(MOST_MACS) - cost) * (accuracy - best)
            best = accuracy
    return area


def read_idx(path):
    with gzip.open(path, "rb") as file:
        rank = struct.unpack(">HBB", file.read(4))[2]
        shape = struct.unpack(f">{rank}I", file.read(4 * rank))
        return file.read(), shape


class Data:
    """8,000 training and 2,000 validation images, resized once for each resolution."""

    def __init__(self, directory):
        import torch

        pixels, shape = read_idx(directory / "train-images-idx3-ubyte.gz")
        labels, _ = read_idx(directory / "train-labels-idx1-ubyte.gz")
        images = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).reshape(shape[0], 1, *shape[1:])
        chosen = torch.randperm(shape[0], generator=torch.Generator().manual_seed(1))[:TRAIN]
        images, self.labels = images[chosen].float() / 255, torch.tensor(list(labels))[chosen]
        images = (images - images.mean()) / images.std()
        self.images = {
            side: torch.nn.functional.interpolate(images, (side, side), mode="area") for side in RESOLUTIONS
        }
        self.train = int(TRAIN * 0.8)


def choose(trial):
    """One candidate, as an Optuna user would write it."""
    candidate = {
        "resolution": trial.suggest_categorical("resolution", RESOLUTIONS),
        "stem": trial.suggest_categorical("stem", STEMS),
        "stages": [],
    }
    for i, stage in enumerate(STAGES):
        chosen = {name: trial.suggest_categorical(f"{name}{i}", options) for name, options in stage.items()}
        chosen["operation"] = trial.suggest_categorical(f"operation{i}", OPERATIONS)
        if chosen["operation"] == "inverted-residual":
            chosen["expansion"] = trial.suggest_categorical(f"expansion{i}", EXPANSIONS)
        candidate["stages"].append(chosen)
    return candidate


def network(candidate):
    """The PyTorch network of a candidate, and its multiply-accumulates."""
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, x):
            return x + self.block(x)

    side, macs = candidate["resolution"], 0

    def conv(inputs, outputs, kernel, stride=1, groups=1, active=True):
        nonlocal side, macs
        side = -(-side // stride)
        macs += side * side * outputs * (inputs // groups) * kernel * kernel
        layers = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        return layers + ([nn.ReLU(inplace=True)] if active else [])

    layers, channels = conv(1, candidate["stem"], 3), candidate["stem"]
    for stage in candidate["stages"]:
        width, kernel = stage["width"], stage["kernel"]
        for block in range(stage["depth"]):
            stride = stage["stride"] if block == 0 else 1
            if stage["operation"] == "conv":
                layers += conv(channels, width, kernel, stride)
            elif stage["operation"] == "separable":
                layers += conv(channels, channels, kernel, stride, groups=channels) + conv(channels, width, 1)
            else:
                hidden = channels * stage["expansion"]
                parts = conv(channels, hidden, 1) + conv(hidden, hidden, kernel, stride, groups=hidden)
                parts = nn.Sequential(*parts, *conv(hidden, width, 1, active=False))
                layers.append(Residual(parts) if stride == 1 and channels == width else parts)
            channels = width
    macs += channels * 10
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)), macs


def train(candidate, data):
    """Validation accuracy after training with the study's recipe."""
    import torch

    model, macs = network(candidate)
    model = model.to(memory_format=torch.channels_last)
    images = data.images[candidate["resolution"]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-data.train // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / (WARM_UP * steps),
            0.5 + 0.5 * math.cos(math.pi * max(0.0, step / steps - WARM_UP) / (1 - WARM_UP)),
        ),
    )
    loss = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for _ in range(EPOCHS):
        for batch in torch.randperm(data.train).split(BATCH):
            out = model(images[batch].to(memory_format=torch.channels_last))
            optimizer.zero_grad()
            loss(out, data.labels[batch]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        guessed = model(images[data.train :]).argmax(1)
    return (guessed == data.labels[data.train :]).float().mean().item(), macs


def optuna_process(directory, journal, seed, until):
    """Runs trials of the shared study until the time is over. A trial that ends later does not count."""
    import optuna
    import torch
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = Data(directory)
    sampler = optuna.samplers.NSGAIISampler(population_size=20, seed=seed)
    storage = JournalStorage(JournalFileBackend(journal))
    study = optuna.load_study(study_name="front", storage=storage, sampler=sampler)

    def objective(trial):
        return train(choose(trial), data)

    while time.time() < until:
        study.optimize(objective, n_trials=1)


def run_optuna(arguments, scratch):
    """(seconds, accuracy, macs) of each trial."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = str(scratch / "optuna.journal")
    storage = JournalStorage(JournalFileBackend(journal))
    study = optuna.create_study(study_name="front", storage=storage, directions=["maximize", "minimize"])
    context = multiprocessing.get_context("spawn")
    begun = time.time()
    until = begun + 60 * arguments.minutes
    each = [
        context.Process(target=optuna_process, args=(arguments.data, journal, arguments.seed + i, until))
        for i in range(arguments.processes)
    ]
    for process in each:
        process.start()
    for process in each:
        process.join()
    done = [t for t in study.trials if t.state.name == "COMPLETE"]
    return [(t.datetime_complete.timestamp() - begun, *t.values) for t in done if t.datetime_complete.timestamp() <= until]


def run_edgesmith(arguments, scratch, goal):
    """(seconds, accuracy, macs, images) of each trial, until the goal or the time is reached."""
    study = scratch / "front.toml"
    study.write_text(study_file(arguments))
    command = [arguments.bench, "front", str(study), "--format", "json"]
    command += ["--reference", f"validation_accuracy={LEAST_ACCURACY},macs={MOST_MACS:.0f}"]
    command += ["--data-root", str(arguments.data), "--slots", str(arguments.processes)]
    command += ["--minutes", str(arguments.minutes), "--until", str(goal)]
    grown = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    trials = [(t["at"], *t["values"], t["images"]) for t in grown["trials"]]
    # Both must compute the hypervolume in the same way.
    assert math.isclose(grown["hypervolume"], hypervolume([t[1:3] for t in trials]), rel_tol=1e-9)
    return trials


def report(name, trials):
    """Prints the hypervolume over time."""
    print(f"\n{name}: {len(trials)} trials")
    last = max(t[0] for t in trials)
    for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        points = [t[1:3] for t in trials if t[0] <= last * share]
        best = max((p[0] for p in points), default=0.0)
        print(f"  {last * share:6.0f} s  {len(points):5} trials  best {best:.4f}  hypervolume {hypervolume(points):.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="target/release/edgesmith-bench")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data/fashion-mnist"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--training", default="inherit_epochs = 2", help="additional lines for [training]")
    parser.add_argument("--goal", type=float, help="a hypervolume to reach, instead of running Optuna")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch, goal = pathlib.Path(scratch), arguments.goal
        if goal is None:
            theirs = run_optuna(arguments, scratch)
            report("Optuna NSGA-II with PyTorch", theirs)
            goal = hypervolume([t[1:3] for t in theirs])
        ours = run_edgesmith(arguments, scratch, goal)
        report("edgesmith", ours)
        reached = hypervolume([t[1:3] for t in ours]) >= goal
        took, allowed = ours[-1][0], 60 * arguments.minutes
        if reached:
            print(f"\nedgesmith reached {goal:.4f} after {took:.0f} s, {took / allowed:.2f} of the time, {sum(t[3] for t in ours)} images")
        else:
            print(f"\nedgesmith did not reach {goal:.4f} in {allowed:.0f} s")


if __name__ == "__main__":
    main()
