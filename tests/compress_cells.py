"""Cells of tables about compression: each is one run of `edgesmith compress` on Fashion-MNIST.

What `compress_walkthrough.py` and `compress_methods.py` share. A finished cell leaves NAME.toml
(its recipe), NAME.edge (the network) and NAME.json (its figures) in the folder --keep, and is not
run again. A cell that trains is run once for each seed: its accuracy is the mean, with the standard
deviation; its bytes and times are those of the first seed. A cell that does not train is compared
image by image with the network as it came. Latency is a step of its own, --measure, because it says
something only on a quiet machine.
"""

import argparse
import gzip
import json
import math
import pathlib
import statistics
import subprocess
import sys
import zlib

from experiment_figures import Deadline

# How the networks of these tables read pixels: Fashion-MNIST's mean and deviation.
READS = ("--mean", "0.2860", "--std", "0.3530")


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edgesmith", default="edgesmith")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of Fashion-MNIST")
    parser.add_argument("--keep", type=pathlib.Path, required=True, help="folder of finished cells")
    parser.add_argument("--only", default="", help="run only cells whose name contains this text")
    parser.add_argument("--measure", action="store_true",
                        help="time all finished networks (again), on a quiet machine")
    parser.add_argument("--page", type=pathlib.Path, help="also put the tables into this page")
    parser.add_argument("--seeds", default="1,2,3", help="of cells that train, by commas")
    parser.add_argument("--train-limit", type=int, default=10000)
    parser.add_argument("--test-limit", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=2, help="of each training")
    Deadline.option(parser)
    return parser


class Cells:
    """Runs cells, or finds what is kept of them."""

    def __init__(self, args):
        self.args = args
        args.keep.mkdir(parents=True, exist_ok=True)
        self.seeds = [int(seed) for seed in args.seeds.split(",")]
        self.chosen = {}
        self.deadline = Deadline(args)
        # Cells that were left out for want of time.
        self.left = set()

    def study(self, seed: int, teacher: str) -> pathlib.Path:
        """A study file. `teacher` is what `[teacher]` says, or nothing: then the network teaches
        itself."""
        kind = f"-{zlib.crc32(teacher.encode()):08x}" if teacher else ""
        file = self.args.keep / f"fashion{kind}{suffix(seed)}.toml"
        text = study(self.args, "fashion", SPACE, self.args.train_limit, seed=seed)
        file.write_text(text + teacher)
        return file

    def result(self, name: str, model, steps, reads=READS, beside: str | None = None,
               teacher: str = ""):
        """The figures of the network that these steps make of the network that `model` gives, or
        None where --only or --minutes leave the cell out. A recipe that is refused gives the
        message. `beside` is the name of the cell of the network as it came."""
        first, *others = self.seeds
        figures = self.of_seed(name, first, model, steps, reads, teacher)
        if figures is None or "refused" in figures:
            return figures
        if not any(map(trains, steps)):
            return self.compared(name, figures, beside)
        found = [self.of_seed(name, seed, model, steps, reads, teacher) for seed in others]
        every = [each["accuracy"] for each in (figures, *found) if each]
        if len(every) < len(self.seeds):
            return figures | {"seeds": len(every)}
        if len(every) > 1:
            deviation = statistics.stdev(every)
            return figures | {"accuracy": statistics.mean(every), "deviation": deviation}
        return figures

    def compared(self, name: str, figures: dict, beside: str | None) -> dict:
        """With the number of test images whose class is another than in the cell `beside`."""
        if beside in (None, name) or "others" in figures:
            return figures
        if not (self.args.keep / f"{beside}.edge").exists():
            return figures
        figures["others"] = int((self.classes(name) != self.classes(beside)).sum())
        keep(self.args.keep / f"{name}.json", figures)
        return figures

    def classes(self, name: str):
        """The class that the network of a cell chooses for each test image."""
        import numpy

        if name not in self.chosen:
            pixels, output = (self.args.keep / f"{each}.npy" for each in ("pixels", "output"))
            images = json.loads(cut(self.args, "t10k", "images", self.args.test_limit))
            images = pathlib.Path(images)
            # An IDX file of images has a header of 16 bytes.
            read = numpy.frombuffer(images.read_bytes(), numpy.uint8, offset=16)
            numpy.save(pixels, read.reshape(-1, 1, 28, 28))
            model = self.args.keep / f"{name}.edge"
            self.edgesmith("run", model, "--input", pixels, "--output", output)
            self.chosen[name] = numpy.load(output).argmax(1)
        return self.chosen[name]

    def of_seed(self, name: str, seed: int, model, steps, reads, teacher):
        """As `result`, of one seed."""
        kept = self.args.keep / f"{name}{suffix(seed)}.json"
        if self.args.only in name and not kept.exists() and not self.args.measure:
            if self.deadline.over():
                self.left.add(name)
                return None
            keep(kept, self.run(kept.stem, model, steps, reads, self.study(seed, teacher)))
        if not kept.exists():
            return None
        figures = json.loads(kept.read_text())
        timed = seed == self.seeds[0] and figures.get("arithmetic") not in (None, "reference")
        if self.args.measure and timed:
            timed = self.edgesmith("measure", kept.with_suffix(".edge"), "--format", "json")
            figures["latency_ms"] = json.loads(timed)["p50_ms"]
            keep(kept, figures)
        return figures

    def run(self, name: str, model, steps, reads, study: pathlib.Path) -> dict:
        recipe = self.args.keep / f"{name}.toml"
        recipe.write_text(toml(steps))
        try:
            said = self.edgesmith(
                "compress", model(), "--data", study, "--recipe", recipe, *reads,
                "--name", shortened(name), "--data-dir", self.args.keep / "studies", "--slots", "1",
                "-o", recipe.with_suffix(".edge"), "--format", "json",
            )
        except subprocess.CalledProcessError as error:
            print(f"{name}: {error.stderr}", file=sys.stderr, flush=True)
            # A line of progress may stand before it.
            start = f"\n{error.stderr}".replace("\r", "\n").find("\nerror: ")
            # Another process that has the folder open, or a wrong option, says nothing of the recipe.
            others = ("is in use by another", "try '--help'", "does not fit study")
            if error.returncode < 0 or start < 0 or any(each in error.stderr for each in others):
                raise
            return {"refused": error.stderr[start:]}
        best = json.loads(said)["best"]
        metrics = best["metrics"]
        figures = {
            "arithmetic": best["arithmetic"],
            "accuracy": 100 * metrics["test_accuracy"],
            "bytes": metrics["model_bytes"],
            "macs": metrics["macs"],
        }
        print(f"{name}: {figures}", file=sys.stderr, flush=True)
        return figures

    def edgesmith(self, *words) -> str:
        command = [self.args.edgesmith, *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def suffix(seed: int) -> str:
    """What the names of a seed's files end with."""
    return "" if seed == 1 else f"-seed-{seed}"


def shortened(name: str) -> str:
    """The name of a study, which has at most 64 letters."""
    return name if len(name) <= 64 else f"{name[:55]}-{zlib.crc32(name.encode()):08x}"


def trains(step) -> bool:
    # What is rewound is trained in its own step.
    return step["pass"] in ("fine-tune", "quantize-aware-train") or "rewind" in step


# `compress` reads nothing of a space, but a study file has one.
SPACE = """[space]
resolution = 28
stem_width = 4

[[space.stages]]
width = 4
"""


def cut(args, part: str, kind: str, images: int) -> str:
    """The first images or labels of an IDX file, or all, unpacked: this is read for each cell."""
    file = args.keep / f"{part}-{images}-{kind}.idx"
    if not file.exists():
        axes = 3 if kind == "images" else 1
        content = gzip.decompress((args.data / f"{part}-{kind}-idx{axes}-ubyte.gz").read_bytes())
        start = 4 + 4 * axes
        sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
        count = min(images, sizes[0])
        each = math.prod(sizes[1:])
        header = content[:4] + count.to_bytes(4, "big") + content[8:start]
        file.write_bytes(header + content[start : start + count * each])
    return json.dumps(str(file.resolve()))


def study(args, name: str, space: str, images: int, epochs: int = 1, seed: int = 1) -> str:
    """A study file on Fashion-MNIST: a tenth of the training images are for validation."""
    files = "\n".join(
        f"{name}_{kind} = {cut(args, part, kind, count)}"
        for name, part, count in (("train", "train", images), ("test", "t10k", args.test_limit))
        for kind in ("images", "labels")
    )
    return f"""[study]
name = "{name}"
seed = {seed}

[data]
source = "idx"
classes = 10
{files}
validation_fraction = 0.1

[training]
epochs = {epochs}
batch_size = 32
learning_rate = 0.001
fine_tune_epochs = {args.epochs}
fine_tune_learning_rate = 0.001

{space}
[[objectives]]
metric = "validation_accuracy"

[budget]
trials = 1
"""


def keep(file: pathlib.Path, figures: dict) -> None:
    """Writes a file that is whole, also after a stop."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(figures))
    part.replace(file)


def toml(steps) -> str:
    # A step that does nothing leaves the network as it came.
    steps = steps or [{"pass": "prune", "share": 0.0}]
    tables = ("\n".join(["[[recipe.steps]]", *settings(step)]) for step in steps)
    return "\n\n".join(tables) + "\n"


def settings(table: dict) -> list:
    """The lines of a table of TOML, whose values may be tables."""
    return [
        f"{key} = {{ {', '.join(settings(value))} }}" if isinstance(value, dict)
        else f"{key} = {json.dumps(value)}"
        for key, value in table.items()
    ]


def show(args, cells: Cells, script: str, text: str) -> None:
    """Prints Markdown, and puts it into the page between the lines that name the script."""
    print(text)
    if cells.left:
        print(f"{args.minutes:g} minutes are over; {len(cells.left)} cells are not finished, and the "
              "same command goes on with them", file=sys.stderr)
    elif args.page:
        start, end = f"<!-- {script} writes this -->\n", f"<!-- end of {script} -->\n"
        before, rest = args.page.read_text().split(start)
        after = rest.split(end)[1]
        args.page.write_text(f"{before}{start}\n{text}\n\n{end}{after}")


def row(*words) -> str:
    return f"| {' | '.join(words)} |"


def accuracy(figures) -> str:
    """In percent, with the deviation if it is of several seeds."""
    deviation = f" ± {figures['deviation']:.2f}" if "deviation" in figures else ""
    few = f" [seeds: {figures['seeds']}]" if "seeds" in figures else ""
    return f"{figures['accuracy']:.2f}{deviation}{few}"


def others(figures) -> str:
    """On how many images the class is another than that of the network as it came."""
    return str(figures["others"]) if "others" in figures else "–"


def kilobytes(figures) -> str:
    return f"{figures['bytes'] / 1000:.1f}"


def milliseconds(figures) -> str:
    if figures["arithmetic"] == "reference":
        return "none"
    return f"{figures['latency_ms']:.4f}" if "latency_ms" in figures else "not measured"
