"""What scripts of experiments share: figures over seeds, a run of edgesmith, and its time."""

import argparse
import math
import statistics
import subprocess
import time

# For Student's t at 95 %, by degrees of freedom.
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def deviation(values: list) -> float:
    """The standard deviation; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def beside(own: list, other: list, digits: int = 2) -> str:
    """The mean difference of pairs, with the interval that holds it in 95 of 100 cases."""
    pairs = [a - b for a, b in zip(own, other)]
    if any(map(math.isnan, pairs)):
        return "–"
    text = f"{statistics.mean(pairs):+.{digits}f}"
    if len(pairs) - 1 in STUDENT:
        half = STUDENT[len(pairs) - 1] * deviation(pairs) / len(pairs) ** 0.5
        text += f" ± {half:.{digits}f}"
    return text


class Deadline:
    """After --minutes nothing new is begun, and the same command goes on with what is missing."""

    def __init__(self, args):
        self.minutes = args.minutes
        self.start = time.monotonic()

    @staticmethod
    def option(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--minutes", type=float, default=60,
                            help="begin nothing new after these; the same command goes on")

    def over(self) -> bool:
        return time.monotonic() - self.start > 60 * self.minutes

    def check(self) -> None:
        """Ends the script if the time is over."""
        if self.over():
            raise SystemExit(f"{self.minutes:g} minutes are over; the same command goes on")


def run(args, *words, codes=(0,)) -> str:
    """What edgesmith prints; ends the script with its message if it ends with another code."""
    command = [args.edgesmith, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout
