#!/usr/bin/env python3
"""Compares what edgesmith computes of ONNX files with ONNX Runtime, and how long both take.

    compare_imports.py [--edgesmith PROGRAM] [--limit 1e-4] [--seconds S] FILE_OR_FOLDER...

For each .onnx file: if NAME.npz stands beside NAME.onnx (or NAME.EXPORTER.onnx), its `input` is run
and its `output` is what both are compared with; else seeded noise is run, and ONNX Runtime's output
is the reference. The difference is the largest absolute one, as a share of the largest absolute
output, or of 1 where that is smaller. Prints a table in Markdown, and fails if a difference is above
the limit or a file is not run. Needs numpy and onnxruntime.

With --pixels FOLDER (a folder of images for each class, all of the network's size) and one network
that reads pixels from 0 to 255, it instead counts on how many images both choose the same class, on
the same decoded pixels. Needs pillow as well.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
import onnxruntime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=pathlib.Path)
    parser.add_argument("--edgesmith", default="edgesmith")
    parser.add_argument("--limit", type=float, default=1e-4)
    parser.add_argument("--seconds", type=float, default=0.5, help="to time ONNX Runtime for")
    parser.add_argument("--pixels", type=pathlib.Path)
    args = parser.parse_args()
    files = []
    for path in args.paths:
        files += sorted(path.rglob("*.onnx")) if path.is_dir() else [path]
    if args.pixels:
        return agreement(args, files)
    print("| network | layers | difference | edgesmith, ms | ONNX Runtime, ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    failed = 0
    for file in files:
        try:
            row, difference = compare(args, file)
            print(row, flush=True)
            if not difference <= args.limit:
                failed += 1
        except subprocess.CalledProcessError as error:
            failed += 1
            print(f"| {file.stem} | not run: {error.stderr.strip()} |", flush=True)
    if failed:
        print(f"{failed} of {len(files)} differ by more than {args.limit} or are not run", file=sys.stderr)
    return 1 if failed else 0


def session(file: pathlib.Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])


def edgesmith(args, *words: str) -> str:
    command = [args.edgesmith, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def recorded(file: pathlib.Path):
    """The arrays that stand beside a network."""
    for stem in (file.stem, file.stem.split(".")[0]):
        beside = file.with_name(stem + ".npz")
        if beside.exists():
            arrays = numpy.load(beside)
            return arrays["input"], arrays["output"]
    return None, None


def compare(args, file: pathlib.Path) -> tuple[str, float]:
    reference = session(file)
    [given] = reference.get_inputs()
    numbers, expected = recorded(file)
    if numbers is None:
        sizes = [2 if not isinstance(size, int) else size for size in given.shape]
        numbers = numpy.random.default_rng(1).uniform(0, 1, sizes).astype(numpy.float32)
        expected = reference.run(None, {given.name: numbers})[0]
    shape = []
    free = [place for place, size in enumerate(given.shape) if place and not isinstance(size, int)]
    if free:
        sizes = ",".join(str(size) for size in (1, *numbers.shape[1:]))
        shape = ["--input-shape", f"{given.name}={sizes}"]
    with tempfile.TemporaryDirectory() as folder:
        into, out = f"{folder}/input.npy", f"{folder}/output.npz"
        numpy.save(into, numbers)
        edgesmith(args, "run", str(file), *shape, "--input", into, "--output", out)
        outputs = numpy.load(out)
        output = outputs[reference.get_outputs()[0].name]
    assert output.shape == expected.shape, (output.shape, expected.shape)
    difference = float(numpy.abs(output - expected).max() / max(1.0, numpy.abs(expected).max()))
    layers = len(json.loads(edgesmith(args, "inspect", str(file), *shape, "--format", "json"))["layers"])
    ours = json.loads(edgesmith(args, "measure", str(file), *shape, "--format", "json"))["p50_ms"]
    theirs = timed(args, reference, given.name, numbers)
    row = f"| {file.stem} | {layers} | {difference:.1e} | {ours:.4f} | {theirs:.4f} | {theirs / ours:.2f} |"
    return row, difference


def timed(args, reference, name: str, numbers) -> float:
    """The median time of ONNX Runtime on one example (or on a fixed batch), ms per example."""
    batch = reference.get_inputs()[0].shape[0]
    example = numbers if isinstance(batch, int) else numbers[:1]
    feed = {name: example}
    times = []
    for _ in range(10):
        reference.run(None, feed)
    end = time.perf_counter() + args.seconds
    while len(times) < 50 or time.perf_counter() < end:
        start = time.perf_counter()
        reference.run(None, feed)
        times.append(time.perf_counter() - start)
    return float(numpy.median(times)) * 1e3 / len(example)


def agreement(args, files) -> int:
    """On how many images both choose the same class."""
    from PIL import Image

    [file] = files
    reference = session(file)
    [given] = reference.get_inputs()
    images, labels = [], []
    for label, folder in enumerate(sorted(path for path in args.pixels.iterdir() if path.is_dir())):
        for path in sorted(folder.iterdir()):
            images.append(numpy.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    numbers = numpy.stack(images).astype(numpy.float32)
    if given.shape[1] == 3:
        numbers = numbers.transpose(0, 3, 1, 2)
    numbers = numpy.ascontiguousarray(numbers)
    theirs = reference.run(None, {given.name: numbers})[0].argmax(1)
    with tempfile.TemporaryDirectory() as folder:
        into, out = f"{folder}/input.npy", f"{folder}/output.npy"
        numpy.save(into, numbers)
        edgesmith(args, "run", str(file), "--input", into, "--output", out)
        ours = numpy.load(out).argmax(1)
    labels = numpy.array(labels)
    same = int((ours == theirs).sum())
    right = [100 * float((chosen == labels).mean()) for chosen in (ours, theirs)]
    print(f"{same} of {len(labels)} images get the same class; right: edgesmith {right[0]:.2f} %, "
          f"ONNX Runtime {right[1]:.2f} %")
    return 0 if same >= len(labels) * 0.9998 else 1


if __name__ == "__main__":
    sys.exit(main())
