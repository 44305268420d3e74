#!/usr/bin/env python3
"""Compares edgesmith's post-training quantization of a network with that of other tools.

    compare_quantization.py --edgesmith PROGRAM --train FOLDER --test FOLDER --keep FOLDER \\
        [--tflite FILE] [--seeds 1,2,3] MODEL.onnx

MODEL.onnx reads pixels from 0 to 255, all images have its size, and FOLDER has a folder of images
for each class. Nothing is trained. Each tool gets the same number of calibration images from the
same training folder. Edgesmith draws them by the study's seed, balanced by class; the others take
them at equal distances from the whole folder, with another start for each seed. All networks then
run on the same pixels of the test images, as pillow decodes them.

Prints a table in Markdown, averages over the seeds: accuracy; the drop against the fp32 network in
ONNX Runtime, in points; on how many images the class differs from the fp32 network's; bytes of the
file; each seed's accuracy. For edgesmith, bytes are those without origin and test vectors. The
classes that a network chose are kept in --keep, and it is not made and run again. The folder is for
one MODEL and one set of options.

Needs numpy, onnx, onnxruntime and pillow. Compares with NNCF if `nncf` is installed, and with a
TFLite file if --tflite names one and `ai-edge-litert` is installed; else it says what it skips.
"""

import argparse
import importlib.util
import json
import pathlib
import platform
import subprocess
import sys
import tempfile

import numpy
import onnxruntime
from PIL import Image

from experiment_figures import Deadline

# What is compared of edgesmith: settings of the step `quantize`.
PLAIN = {"clip_ranges": False, "correct_biases": False}
OURS = {
    "mse alone": {},
    "min-max": {"calibration": "min-max"},
    "percentile": {"calibration": "percentile"},
    "entropy": {"calibration": "entropy"},
    "clip_ranges": {"clip_ranges": True},
    "equalize": {"equalize": True},
    "correct_biases": {"correct_biases": True},
    "adaround": {"rounding": "adaround"},
    "adaround, correct_biases, clip_ranges": {
        "rounding": "adaround",
        "correct_biases": True,
        "clip_ranges": True,
    },
    "granularity layer": {"granularity": "layer"},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--edgesmith", default="edgesmith")
    parser.add_argument("--train", type=pathlib.Path, required=True)
    parser.add_argument("--test", type=pathlib.Path, required=True)
    parser.add_argument("--tflite", type=pathlib.Path)
    parser.add_argument("--examples", type=int, default=256, help="calibration images")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--keep", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="run only the rows whose name contains this text")
    Deadline.option(parser)
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    deadline = Deadline(args)
    about = f"{args.model.name}, {args.examples} images, seeds {args.seeds}"
    note = args.keep / "about.txt"
    if note.exists() and note.read_text() != about:
        raise SystemExit(f"{args.keep} is of {note.read_text()}; name another folder with --keep")
    note.write_text(about)
    seeds = [int(seed) for seed in args.seeds.split(",")]

    folders = sorted(path for path in args.test.iterdir() if path.is_dir())
    files = [sorted(folder.iterdir()) for folder in folders]
    images = decode([file for of_class in files for file in of_class])
    labels = numpy.repeat(numpy.arange(len(folders)), [len(of_class) for of_class in files])
    training = [
        file for of_class in sorted(args.train.iterdir()) for file in sorted(of_class.iterdir())
    ]
    network = Network(args.model, images.shape[1])
    reference = network.run(args.model, images)

    print(f"{platform.machine()}, onnxruntime {onnxruntime.__version__}, "
          f"{len(images)} test images, {args.examples} calibration images, seeds {args.seeds}\n")
    print("| network | accuracy | drop, points | images changed | bytes | of each seed |")
    print("| --- | --- | --- | --- | --- | --- |")

    def kept(name: str, seed: int, make):
        """The chosen classes and the bytes of the file, which `make` gives if they are not kept."""
        words = "-".join(name.replace(",", "").replace("'", "").split())
        file = args.keep / f"{words}.{seed}.npz"
        if not file.exists():
            deadline.check()
            chosen, size = make(seed)
            part = file.with_suffix(".part.npz")
            numpy.savez(part, chosen=chosen, bytes=size)
            part.replace(file)
        found = numpy.load(file)
        return found["chosen"], int(found["bytes"])

    def row(name: str, make, of=seeds) -> None:
        """`make` gives the chosen classes and the bytes of the file, of a seed."""
        if args.only and args.only not in name:
            return
        try:
            runs = [kept(name, seed, make) for seed in of]
        except Exception as error:  # noqa: BLE001: the other rows are still wanted
            words = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            said = words[-1] if words else type(error).__name__
            print(f"| {name} | failed: {said} |", flush=True)
            return
        right = [100 * float((chosen == labels).mean()) for chosen, _ in runs]
        changed = numpy.mean([(chosen != reference).sum() for chosen, _ in runs])
        size = numpy.mean([size for _, size in runs])
        drop = 100 * float((reference == labels).mean()) - numpy.mean(right)
        each = ", ".join(f"{value:.2f}" for value in right) if len(right) > 1 else ""
        print(f"| {name} | {numpy.mean(right):.2f} % | {drop:+.2f} | {changed:.0f} | {size:.0f} | "
              f"{each} |", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        pixels = folder / "pixels.npy"
        numpy.save(pixels, numpy.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        size = args.model.stat().st_size
        row("fp32, ONNX Runtime", lambda _: (reference, size), of=[1])
        as_read = folder / "as_read.npy"
        numpy.save(as_read, network.layout(images))
        row("fp32, edgesmith", lambda _: (classes_of(args, args.model, as_read, folder), size),
            of=[1])
        if args.tflite and installed("ai_edge_litert", "ai-edge-litert"):
            row("TFLite's int8 file, LiteRT",
                lambda _: (tflite(args.tflite, images), args.tflite.stat().st_size), of=[1])
        for name, settings in OURS.items():
            settings = PLAIN | settings
            row(f"edgesmith, {name}", lambda seed, settings=settings:
                ours(args, settings, seed, pixels, folder))

        def theirs(make):
            def of(seed: int):
                step = len(training) // args.examples
                start = (seed - 1) * step // max(1, len(seeds))
                chosen = network.layout(decode(training[start::step][: args.examples]))
                out = folder / "quantized.onnx"
                make(chosen, out)
                return network.run(out, images), out.stat().st_size

            return of

        for method in ("MinMax", "Entropy", "Percentile"):
            row(f"ONNX Runtime, {method}", theirs(
                lambda chosen, out, method=method: static(args.model, network, method, chosen, out)
            ))
        if installed("nncf", "nncf"):
            for name, settings in (
                ("default", {}),
                ("preset mixed", {"preset": "mixed"}),
                ("bias correction accurate", {"fast_bias_correction": False}),
            ):
                row(f"NNCF, {name}", theirs(
                    lambda chosen, out, settings=settings:
                    nncf(args.model, network, settings, chosen, out)
                ))
            # What its correction of biases alone does to the network.
            row("fp32 with NNCF's biases", theirs(
                lambda chosen, out: with_its_biases(args.model, network, chosen, out)
            ))
    return 0


class Network:
    """The fp32 network: the name and the layout of its input."""

    def __init__(self, path: pathlib.Path, side: int):
        [given] = onnxruntime.InferenceSession(str(path)).get_inputs()
        self.name = given.name
        self.channels_first = given.shape[-1] == side

    def layout(self, images):
        numbers = images.astype(numpy.float32)
        numbers = numbers.transpose(0, 3, 1, 2) if self.channels_first else numbers
        return numpy.ascontiguousarray(numbers)

    def run(self, path: pathlib.Path, images):
        """The class of each image."""
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        chosen = []
        for start in range(0, len(images), 200):
            feed = {self.name: self.layout(images[start : start + 200])}
            chosen.append(session.run(None, feed)[0].argmax(1))
        return numpy.concatenate(chosen)


def decode(files):
    return numpy.stack([numpy.asarray(Image.open(file).convert("RGB")) for file in files])


def installed(module: str, package: str) -> bool:
    if importlib.util.find_spec(module):
        return True
    print(f"skipped what needs {package}: it is not installed", file=sys.stderr)
    return False


def edgesmith(args, *words) -> str:
    command = [args.edgesmith, *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def classes_of(args, model: pathlib.Path, pixels: pathlib.Path, folder: pathlib.Path):
    """The class that edgesmith chooses for each image."""
    output = folder / "output.npy"
    edgesmith(args, "run", model, "--input", pixels, "--output", output)
    return numpy.load(output).argmax(1)


def ours(args, settings: dict, seed: int, pixels: pathlib.Path, folder: pathlib.Path):
    study, recipe, out = folder / "study.toml", folder / "recipe.toml", folder / "out.edge"
    side = numpy.load(pixels, mmap_mode="r").shape[2]
    classes = sum(path.is_dir() for path in args.test.iterdir())
    study.write_text(f"""
[study]
name = "quantization"
seed = {seed}
[data]
source = "image-folder"
train = {json.dumps(str(args.train.resolve()))}
test = {json.dumps(str(args.test.resolve()))}
classes = {classes}
side = {side}
[training]
epochs = 1
[space]
kind = "model"
model = {json.dumps(str(args.model.resolve()))}
pixels = "raw"
[[objectives]]
metric = "validation_accuracy"
[budget]
trials = 1
""")
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    lines = ["[[recipe.steps]]", 'pass = "quantize"', f"examples = {args.examples}", *lines]
    recipe.write_text("\n".join(lines) + "\n")
    edgesmith(args, "compress", args.model, "--data", study, "--recipe", recipe, "--raw-pixels",
              "--data-dir", folder / "results", "--fresh", "-o", out)
    bytes_of = json.loads(edgesmith(args, "inspect", out, "--format", "json"))["counted_bytes"]
    return classes_of(args, out, pixels, folder), bytes_of


def tflite(path: pathlib.Path, images):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    [given], [result] = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = given["quantization"]
    chosen = []
    for image in images:
        numbers = numpy.clip(numpy.rint(image / scale) + zero, -128, 127)
        interpreter.set_tensor(given["index"], numbers[None].astype(numpy.int8))
        interpreter.invoke()
        chosen.append(interpreter.get_tensor(result["index"])[0].argmax())
    return numpy.array(chosen)


def static(model: pathlib.Path, network: Network, method: str, chosen, out: pathlib.Path,
           form: str = "QDQ", values: str = "QInt8") -> None:
    """ONNX Runtime's static quantization: a scale for each channel, and QDQ with signed values, as
    its guide advises."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = iter([{network.name: image[None]} for image in chosen])

        def get_next(self):
            return next(self.batches, None)

    prepared = out.with_name("prepared.onnx")
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared), str(out), Reader(), per_channel=True,
        quant_format=getattr(quantization.QuantFormat, form),
        activation_type=getattr(quantization.QuantType, values),
        calibrate_method=getattr(quantization.CalibrationMethod, method),
    )


def nncf(model: pathlib.Path, network: Network, settings: dict, chosen, out: pathlib.Path) -> None:
    import logging

    import nncf as tool
    import onnx

    tool.set_log_level(logging.ERROR)
    settings = dict(settings)
    if settings.get("preset") == "mixed":
        settings["preset"] = tool.QuantizationPreset.MIXED
    examples = tool.Dataset([{network.name: image[None]} for image in chosen])
    quantized = tool.quantize(onnx.load(model), examples, subset_size=len(chosen), **settings)
    onnx.save(quantized, out)


def with_its_biases(model: pathlib.Path, network: Network, chosen, out: pathlib.Path) -> None:
    """The fp32 network with the biases that NNCF gives the quantized one. They keep their names."""
    import onnx

    nncf(model, network, {}, chosen, out)
    vector = lambda tensor: len(tensor.dims) == 1
    theirs = {each.name: each for each in onnx.load(out).graph.initializer if vector(each)}
    own = onnx.load(model)
    moved = 0
    for tensor in own.graph.initializer:
        other = theirs.get(tensor.name)
        if other is not None and (other.dims, other.data_type) == (tensor.dims, tensor.data_type):
            moved += tensor.raw_data != other.raw_data
            tensor.CopyFrom(other)
    if not moved:
        raise ValueError("no bias of NNCF's network has the name of one of the fp32 network")
    onnx.save(own, out)


if __name__ == "__main__":
    sys.exit(main())
