"""Checks the front that the example study found: `check_front.py front.json`.

A front of at least five points, each with a measured latency and a held-out accuracy; it says what it
found. Exits 1 with a sentence otherwise. Accuracy is checked loosely: it is the study that is tested,
not the day's machine.
"""

import json
import sys


def main(path: str) -> None:
    front = json.load(open(path))
    assert front["version"] == 1, "another version of the JSON interface"
    trials = front["trials"]
    assert len(trials) >= 5, f"the front has only {len(trials)} points"
    for trial in trials:
        metrics = trial["metrics"]
        assert metrics["latency_ms"], f"trial {trial['trial']} was not timed"
        for measurement in trial["measurements"]:
            assert measurement["samples"] >= 50, f"trial {trial['trial']} was timed too briefly"
        assert 0 <= metrics["test_accuracy"] <= 1
    best = max(trials, key=lambda t: t["metrics"]["test_accuracy"])
    assert best["metrics"]["test_accuracy"] > 0.9, "the best network is right on less than 90 %"
    int8 = [t for t in trials if t["recipe"]["precision"] == "int8"]
    assert int8, "no quantized network is on the front"
    print(
        f"front of {len(trials)}: best test accuracy {best['metrics']['test_accuracy']:.4f} with "
        f"{best['metrics']['model_bytes']} bytes; {len(int8)} are int8"
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except AssertionError as error:
        sys.exit(f"check_front: {error}")
