"""Checks the results of the example study: `check_front.py front.json trials.json status.json`. The
files are the output of `pareto`, `trials` and `status` with `--format json`. It requires:

- At least 25 complete trials.
- A front of at least five points, each with a measured latency and a held-out accuracy.
- A point of the front within 2.5 points of the teacher's test accuracy, with less than a tenth of
  its bytes. Latencies vary from run to run, and what is proposed with them: in eight runs the best
  such point was 0.3 to 1.5 points below the teacher.
- An int8 trial that dominates the most accurate fp32 trial of the same family of architectures:
  validation accuracy not lower, and fewer bytes. A family is the operations of the stages, in order.

Prints the results, and exits with 1 and a sentence if something is missing. The checks do not depend
on the speed of the machine.
"""

import json
import sys


def read(path: str) -> dict:
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    assert document["version"] == 1, f"{path} has another version of the JSON interface"
    return document


def accuracy(trial: dict) -> float:
    return trial["metrics"]["validation_accuracy"]


def size(trial: dict) -> int:
    return trial["metrics"]["model_bytes"]


def family(trial: dict) -> str:
    """`r8 stem16 | conv k5 w24 x2 relu | separable k3 ...` has the family `conv, separable`."""
    stages = trial["architecture"].split(" | ")[1:]
    return ", ".join(stage.split()[0] for stage in stages)


def check_trials(trials: list) -> list:
    complete = [t for t in trials if t["state"] == "complete"]
    assert len(complete) >= 25, f"only {len(complete)} trials are complete; at least 25 are needed"
    print(f"{len(complete)} trials are complete")
    return complete


def check_front(front: list) -> None:
    assert len(front) >= 5, f"the front has only {len(front)} points; at least 5 are needed"
    for trial in front:
        number, metrics = trial["trial"], trial["metrics"]
        assert metrics["latency_ms"], f"trial {number} was not timed"
        for measurement in trial["measurements"]:
            assert measurement["samples"] >= 50, f"trial {number} was timed too briefly"
        assert 0 <= metrics["test_accuracy"] <= 1, f"trial {number} has no test accuracy"
    int8 = sum(t["recipe"]["precision"] == "int8" for t in front)
    assert int8, "no quantized network is on the front"
    print(f"the front has {len(front)} points; {int8} are int8")


def check_against_teacher(front: list, teacher: dict) -> None:
    assert "test_accuracy" in teacher, "the teacher was not trained"
    most_bytes = teacher["model_bytes"] / 10
    small = [t for t in front if size(t) < most_bytes]
    assert small, f"no point of the front is under a tenth of the teacher's {teacher['model_bytes']} bytes"
    best = max(small, key=lambda t: t["metrics"]["test_accuracy"])
    test = best["metrics"]["test_accuracy"]
    figures = (
        f"the best point under a tenth of the teacher's bytes is trial {best['trial']}: test accuracy "
        f"{test:.4f} with {size(best)} bytes, the teacher's is {teacher['test_accuracy']:.4f} with "
        f"{teacher['model_bytes']}"
    )
    assert test >= teacher["test_accuracy"] - 0.025, f"{figures}: more than 2.5 points less"
    print(figures)


def check_int8(complete: list) -> None:
    families = {}
    for trial in complete:
        precisions = families.setdefault(family(trial), {"fp32": [], "int8": []})
        precisions[trial["recipe"]["precision"]].append(trial)
    both = {name: p for name, p in families.items() if p["fp32"] and p["int8"]}
    assert both, "no family of architectures has both fp32 and int8 trials"
    found = []
    for name, precisions in both.items():
        fp32 = max(precisions["fp32"], key=lambda t: (accuracy(t), -size(t)))
        beats = [t for t in precisions["int8"] if accuracy(t) >= accuracy(fp32) and size(t) < size(fp32)]
        if beats:
            int8 = min(beats, key=size)
            found.append(
                f"int8 trial {int8['trial']} ({accuracy(int8):.4f}, {size(int8)} bytes) dominates fp32 "
                f"trial {fp32['trial']} ({accuracy(fp32):.4f}, {size(fp32)} bytes), the most accurate of "
                f"{name}"
            )
    assert found, (
        f"in none of {len(both)} families does an int8 trial dominate the most accurate fp32 one"
    )
    print(f"in {len(found)} of {len(both)} families int8 dominates the most accurate fp32 trial:")
    for text in found:
        print(f"  {text}")


def main(front_path: str, trials_path: str, status_path: str) -> None:
    front = read(front_path)["trials"]
    complete = check_trials(read(trials_path)["trials"])
    check_front(front)
    check_against_teacher(front, read(status_path)["teacher"])
    check_int8(complete)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("check_front: give front.json, trials.json and status.json")
    try:
        main(*sys.argv[1:])
    except AssertionError as error:
        sys.exit(f"check_front: {error}")
