"""Counts the durable trials that edgesmith, Optuna and Rustuna make in a second, in one run.

    pip install optuna rustuna
    cargo build --release --workspace
    python tests/compare_throughput.py [--trials 2000]

All are given trials that take no time, and store them in a file before the next one begins. Optuna
uses JournalStorage with JournalFileBackend, which syncs each of its lines, and its random sampler;
`auto` is set against its TPE sampler. With several slots, Optuna runs threads of one process (its
`n_jobs`). Rustuna is Optuna's implementation in Rust, with its Python package; it has no `n_jobs`, so
it has one slot. What is not installed is said to be absent.
"""

import argparse
import pathlib
import subprocess
import tempfile
import time

BENCH = pathlib.Path(__file__).parent.parent / "target/release/edgesmith-bench"


def objective(trial):
    return sum(trial.suggest_categorical(f"edge{i}", [0, 1, 2, 3, 4]) for i in range(6))


def optuna_rate(sampler, jobs, trials):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as directory:
        storage = optuna.storages.JournalStorage(JournalFileBackend(f"{directory}/journal.log"))
        sampler = getattr(optuna.samplers, sampler)(seed=1)
        study = optuna.create_study(storage=storage, sampler=sampler)
        start = time.perf_counter()
        study.optimize(objective, n_trials=trials, n_jobs=jobs)
        return trials / (time.perf_counter() - start)


def rustuna_rate(sampler, trials):
    import rustuna

    with tempfile.TemporaryDirectory() as directory:
        storage = rustuna.storages.JournalFileStorage(f"{directory}/journal.log")
        sampler = getattr(rustuna.samplers, sampler)(seed=1)
        study = rustuna.create_study(storage=storage, sampler=sampler)
        start = time.perf_counter()
        study.optimize(objective, trials)
        return trials / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    args = parser.parse_args()
    options = ["--trials", str(args.trials), "--waiting", "0"]
    subprocess.run([BENCH, "throughput", *options], check=True)
    print("\nprogram  sampler        slots  trials a second")
    for sampler in ("RandomSampler", "TPESampler"):
        for program, slots, rate in (
            ("optuna", 1, lambda: optuna_rate(sampler, 1, args.trials)),
            ("optuna", 16, lambda: optuna_rate(sampler, 16, args.trials)),
            ("rustuna", 1, lambda: rustuna_rate(sampler, args.trials)),
        ):
            try:
                told = f"{rate():15.0f}"
            except ImportError as error:
                told = f"  absent: {error}"
            print(f"{program:8} {sampler:14} {slots:5} {told}", flush=True)


if __name__ == "__main__":
    main()
