#!/usr/bin/env python3
"""Compresses one network of each kind by every method: a table of accuracy, bytes and latency.

    compress_methods.py --edgesmith PROGRAM --data FOLDER --keep FOLDER --networks FOLDER

FOLDER of --networks has simple_net.legacy.onnx (plain) and fashion_mobilenet.legacy.onnx (inverted
residuals), which PyTorch trained on Fashion-MNIST. A network with squeeze-and-excitation and a
fully connected one are trained here first, by edgesmith.

Methods without a training are compared with the network as it came, the others with the network
trained further. A fully connected network with batch normalisation shows what needs that. Prints
tables in Markdown; the same command with --measure first times all networks. Needs numpy and onnx,
for the fully connected networks before their training.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable

from compress_cells import (
    READS, SPACE, Cells, accuracy, arguments, kilobytes, milliseconds, others, row, show, study,
    toml,
)

TUNE, DISTIL = {"pass": "fine-tune"}, {"pass": "distil"}
FADING = DISTIL | {"alpha": {"from": 0.9, "to": 0.0, "schedule": "linear"}}
LEARN = {"pass": "quantize-aware-train"}
# The images and epochs of the two networks that are trained here.
IMAGES, EPOCHS = 30000, 4

SQUEEZED = """[space]
resolution = 28
stem_width = 8

[[space.stages]]
operation = "inverted-residual"
activation = "hard-swish"
squeeze = 4
width = 12
expansion = 3
stride = 2

[[space.stages]]
operation = "inverted-residual"
activation = "hard-swish"
squeeze = 4
depth = 2
width = 20
expansion = 3
stride = 2
"""


def half(importance: str, of: str = "macs", **more):
    return {"pass": "prune", "of": of, "share": 0.5, "importance": importance, **more}


def quantize(**settings):
    return {"pass": "quantize", **settings}


BLOCKS = {"pass": "prune", "granularity": "blocks", "share": 0.25}
WEIGHTS = {"pass": "prune", "granularity": "weights", "of": "parameters", "share": 0.8}
METHODS = {
    "as it came": [],
    "trained further": [TUNE],
    "trained further, distilled": [DISTIL, TUNE],
} | {
    f"channels of half the MACs, `{importance}`, trained": [half(importance), TUNE]
    for importance in (
        "taylor", "influence", "l1", "l2", "geometric-median", "activity", "scale", "random"
    )
} | {
    "… `taylor`, half of each layer, trained": [half("taylor", "layer"), TUNE],
    "… `taylor`, half of each stage, trained": [half("taylor", "stage"), TUNE],
    "… `taylor`, half of the bytes, trained": [half("taylor", "bytes"), TUNE],
    "… `taylor`, multiples of 8 channels, trained": [half("taylor", multiple_of=8), TUNE],
    "… `taylor`, in 3 rounds, trained": [half("taylor", rounds=3), TUNE],
    "… `taylor`, in 3 rounds, going back to the rate of the first training":
        [half("taylor", rounds=3, rewind="rate")],
    "… `l1` after `shrink = \"filters\"`, trained": [TUNE | {"shrink": "filters"}, half("l1"), TUNE],
    "… `taylor`, distilled: answers": [DISTIL, half("taylor"), TUNE],
    "… `taylor`, distilled: values": [DISTIL | {"answers": "values"}, half("taylor"), TUNE],
    "… `taylor`, distilled: answers, their weight from 0.9 to 0": [FADING, half("taylor"), TUNE],
} | {
    f"… `taylor`, distilled: answers, {features}":
        [DISTIL | {"features": features}, half("taylor"), TUNE]
    for features in ("attention", "relations", "hints")
} | {
    f"… `taylor`, distilled: answers of {teacher}": [DISTIL, half("taylor"), TUNE]
    for teacher in ("`fashion_mobilenet`", "it and `simple_net`", "its assistant")
} | {
    "blocks of a quarter of the MACs, trained": [BLOCKS, TUNE],
    "blocks of a quarter of the MACs by chance, trained": [BLOCKS | {"importance": "random"}, TUNE],
    "80 % of single weights, trained": [WEIGHTS, TUNE],
    "80 % of single weights by chance, trained": [WEIGHTS | {"importance": "random"}, TUNE],
    "80 % of single weights in 3 rounds, trained": [WEIGHTS | {"rounds": 3}, TUNE],
    "80 % of single weights by `taylor`, trained": [WEIGHTS | {"importance": "taylor"}, TUNE],
    "80 % of single weights by `lamp`, trained": [WEIGHTS | {"importance": "lamp"}, TUNE],
    "80 % of the single weights of each layer, trained": [WEIGHTS | {"of": "layer"}, TUNE],
    "2:4, trained": [{"pass": "prune", "granularity": "2:4"}, TUNE],
    "16 clusters": [{"pass": "cluster"}],
    "16 clusters, trained": [{"pass": "cluster"}, TUNE],
    "8 bits, `mse`": [quantize()],
    "8 bits, `min-max`": [quantize(calibration="min-max")],
    "8 bits, `percentile`": [quantize(calibration="percentile")],
    "8 bits, `entropy`": [quantize(calibration="entropy")],
    "8 bits, a scale for each layer": [quantize(granularity="layer")],
    "8 bits, `equalize`": [quantize(equalize=True)],
    "8 bits, a scale for each layer, `equalize`": [quantize(granularity="layer", equalize=True)],
    "8 bits, biases not corrected": [quantize(correct_biases=False)],
    "8 bits, `adaround`": [quantize(rounding="adaround")],
    "8 bits, affine weights": [quantize(affine_weights=True)],
    "8 bits, values in fp32": [quantize(activation_bits=32)],
    "16 bits": [quantize(weight_bits=16, activation_bits=16)],
    "4 bits": [quantize(weight_bits=4)],
    "4 bits, `adaround`": [quantize(weight_bits=4, rounding="adaround")],
    "2 bits": [quantize(weight_bits=2)],
    "1 bit": [quantize(weight_bits=1)],
    "8 bits, trained": [quantize(), LEARN],
    "4 bits, trained": [quantize(weight_bits=4), LEARN],
    "2 bits, trained": [quantize(weight_bits=2), LEARN],
    "2 bits, trained, normalised": [quantize(weight_bits=2), LEARN | {"normalize": True}],
    "2 bits, 8 in the first layer, trained":
        [quantize(weight_bits=2, mixed=["FIRST"], mixed_bits=[8]), LEARN],
    "2 bits, 8 in the first and the last layer, trained":
        [quantize(weight_bits=2, mixed=["FIRST", "LAST"], mixed_bits=[8]), LEARN],
    "1 bit, trained": [quantize(weight_bits=1), LEARN],
    "1 bit, trained, normalised": [quantize(weight_bits=1), LEARN | {"normalize": True}],
    "80 % of weights by `lamp`, trained, 4 bits, trained":
        [WEIGHTS | {"importance": "lamp"}, TUNE, quantize(weight_bits=4), LEARN],
    "80 % of weights, trained, 32 clusters, 8 bits":
        [WEIGHTS, TUNE, {"pass": "cluster", "clusters": 32}, quantize(granularity="layer")],
    "half the MACs, distilled, 8 bits": [DISTIL, half("taylor"), TUNE, quantize()],
    "half the MACs, distilled, 4 bits, trained":
        [DISTIL, half("taylor"), TUNE, quantize(weight_bits=4), LEARN],
}


# What needs batch normalisation, which no file of the other networks has (any more). Each recipe
# trains its network from random weights first.
START = TUNE | {"epochs": EPOCHS}
SHRINK = START | {"shrink": "scales"}
NORMALISED = {
    f"{words}{rest}": [start, *steps]
    for words, start in (("trained", START), ("trained with `shrink = \"scales\"`", SHRINK))
    for rest, steps in [("", []), (", then trained further", [TUNE])] + [
        (f", then half the MACs by `{importance}`, trained", [half(importance), TUNE])
        for importance in ("taylor", "l1", "scale")
    ]
}

# Single weights of `simple_net` that are 0, and what becomes of the rest.
GONE = {
    "none": [],
    "50 %": [WEIGHTS | {"share": 0.5}],
    "2:4": [{"pass": "prune", "granularity": "2:4"}],
    "80 %": [WEIGHTS],
    "90 %": [WEIGHTS | {"share": 0.9}],
    "95 %": [WEIGHTS | {"share": 0.95}],
}
FORMS = {
    "not trained": [],
    "trained": [TUNE],
    "and in integers": [TUNE, quantize()],
    "and in 16 clusters, in integers": [TUNE, {"pass": "cluster"}, quantize(granularity="layer")],
}

# Between a large teacher and small students.
ASSISTANT = """
[[teacher.assistants]]
epochs = 4

[teacher.assistants.architecture]
resolution = 28
stem_width = 8
stages = [
  { operation = "inverted-residual", width = 16, expansion = 3, stride = 2 },
  { operation = "inverted-residual", width = 24, depth = 2, expansion = 3, stride = 2 },
]
"""


@dataclasses.dataclass
class Kind:
    """A kind of network: how to get one, how it reads pixels, and its first and last layers with
    weights."""

    model: Callable
    reads: tuple
    first: str
    last: str


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--networks", type=pathlib.Path, required=True)
    args = parser.parse_args()
    cells = Cells(args)
    plain, large = (args.networks / f"{name}.legacy.onnx"
                    for name in ("simple_net", "fashion_mobilenet"))
    models = {
        "plain": Kind(lambda: plain, READS, "/conv1/Conv_output_0", "output"),
        "fully connected": Kind(lambda: connected(args, cells), (), "node1.unclipped", "logits"),
        "squeeze-and-excitation": Kind(lambda: squeezed(args, cells), (), "node0", "classifier"),
        "inverted residual": Kind(lambda: large, READS, "/f/f.0/f.0.0/Conv_output_0", "output"),
    }
    with_batches = Kind(lambda: normalised(args), ("--raw-pixels",), "x1", "logits")
    teachers = {
        "of `fashion_mobilenet`": teacher("teacher", large),
        "of it and `simple_net`": teacher("teacher", large) + teacher("[teacher.others]", plain),
        "of its assistant": teacher("teacher", large) + ASSISTANT,
    }

    def result(kind: str, at: Kind, method: str, steps: list):
        steps = [placed(step, at) for step in steps]
        given = next((text for words, text in teachers.items() if method.endswith(words)), "")
        first = slug(kind, "as it came")
        return cells.result(slug(kind, method), at.model, steps, at.reads, first, given)

    def of_plain(gone: str, form: str):
        """A cell of the tables above, if it has the same steps."""
        steps = GONE[gone] + FORMS[form]
        same = next((method for method, other in METHODS.items() if other == steps), None)
        named = ("plain", same) if same else ("sparse", f"{gone} {form}")
        return result(named[0], models["plain"], named[1], steps)

    results = {
        (kind, method): result(kind, at, method, steps)
        for kind, at in models.items()
        for method, steps in METHODS.items()
    }
    also_normalised = {
        method: result("normalised", with_batches, method, steps)
        for method, steps in NORMALISED.items()
    }
    sparse = {
        (gone, form): of_plain(gone, form) for gone in GONE for form in FORMS
    }
    timed = any("latency_ms" in each for each in results.values() if each)
    also = ", ms" if timed else ". Latency was not measured"
    kinds = [kind for kind in models if any(results[kind, method] for method in METHODS)]
    missing = ", ".join(kind for kind in models if kind not in kinds)
    also += f". Not run: {missing}" * bool(missing)
    lines = ["Accuracy, % (on how many of the test images the class is another than that of the "
             f"network as it came), and kilobytes of the file{also}:", ""]
    lines += [row("method", *kinds), row(*["---"] * (len(kinds) + 1))]
    for method in METHODS:
        lines.append(row(method, *(shown(results[kind, method], timed) for kind in kinds)))
    lines += ["", "The fully connected network with batch normalisation after each hidden layer:", ""]
    lines += [row("method", f"accuracy, %, kilobytes{', ms' * timed}"), row("---", "---")]
    for method, figures in also_normalised.items():
        lines.append(row(method, shown(figures, timed)))
    lines += ["", "Single weights of `simple_net` that are 0: accuracy, %, and bytes as a share of the "
              "fp32 file:", ""]
    lines += [row("weights that are 0", *FORMS), row(*["---"] * (len(FORMS) + 1))]
    whole = sparse["none", "not trained"]
    for gone in GONE:
        lines.append(row(gone, *(share(sparse[gone, form], whole) for form in FORMS)))
    show(args, cells, pathlib.Path(__file__).name, "\n".join(lines))
    return 0


def placed(step: dict, at: Kind) -> dict:
    """With the names of the layers of this network."""
    names = {"FIRST": at.first, "LAST": at.last}
    return step | {"mixed": [names[each] for each in step["mixed"]]} if "mixed" in step else step


def teacher(table: str, network: pathlib.Path) -> str:
    """A network of a file that teaches, as a table of a study file."""
    mean, std = READS[1::2]
    return (f"\n[{table}]\nmodel = {json.dumps(str(network.resolve()))}\n"
            f"mean = [{mean}]\nstd = [{std}]\n")


def slug(kind: str, method: str) -> str:
    """The name of a cell's study."""
    words = f"{kind.split()[0][:9]} {method}"
    return "-".join("".join(c if c.isalnum() else " " for c in words).lower().split())


def shown(figures, timed: bool) -> str:
    if figures is None:
        return "not run"
    if "refused" in figures:
        return "refused"
    compared = f" ({others(figures)})" if "others" in figures else ""
    words = [accuracy(figures) + compared, kilobytes(figures)]
    return ", ".join(words + [milliseconds(figures)] * timed)


def share(figures, whole) -> str:
    if figures is None or whole is None:
        return "not run"
    if "refused" in (figures | whole):
        return "refused"
    return f"{accuracy(figures)}, {100 * figures['bytes'] / whole['bytes']:.1f} %"


def squeezed(args, cells: Cells) -> str:
    """Trains the network with squeeze-and-excitation: a study of one trial."""
    done, folder = args.keep / "squeezed.txt", args.keep / "studies"
    if not done.exists():
        file = args.keep / "squeezed.toml"
        file.write_text(study(args, "squeezed", SQUEEZED, IMAGES, EPOCHS))
        done.write_text(cells.edgesmith("search", file, "--data-dir", folder, "--slots", "1"))
    return "squeezed/0"


def connected(args, cells: Cells) -> pathlib.Path:
    """Trains 784, 128, 64 and 10 features, from random weights in an ONNX file."""
    trained = args.keep / "connected.onnx"
    if not trained.exists():
        random, data = args.keep / "random.onnx", args.keep / "connected-study.toml"
        recipe = args.keep / "connected-recipe.toml"
        write_random(random, seed=1)
        data.write_text(study(args, "connected", SPACE, IMAGES))
        recipe.write_text(toml([TUNE | {"epochs": EPOCHS}]))
        cells.edgesmith("compress", random, "--data", data, "--recipe", recipe, "--raw-pixels",
                        "--name", "connected", "--data-dir", args.keep / "studies",
                        "--slots", "1", "-o", trained)
    return trained


def normalised(args) -> pathlib.Path:
    """The same layers with batch normalisation, not trained."""
    file = args.keep / "normalised.onnx"
    if not file.exists():
        write_random(file, seed=1, normalised=True)
    return file


def write_random(file: pathlib.Path, seed: int, normalised: bool = False) -> None:
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random, nodes, arrays = numpy.random.default_rng(seed), [], []
    nodes.append(helper.make_node("Flatten", ["image"], ["x0"]))
    sizes = (784, 128, 64, 10)
    for layer, (inputs, outputs) in enumerate(zip(sizes, sizes[1:]), 1):
        weights = random.standard_normal((outputs, inputs)) * (2 / inputs) ** 0.5
        # The first layer reads bytes.
        weights = weights / 255 if layer == 1 else weights
        names = [f"x{layer - 1}" if layer == 1 else f"r{layer - 1}", f"w{layer}", f"b{layer}"]
        arrays.append(numpy_helper.from_array(weights.astype(numpy.float32), names[1]))
        arrays.append(numpy_helper.from_array(numpy.zeros(outputs, numpy.float32), names[2]))
        last = layer == len(sizes) - 1
        nodes.append(helper.make_node("Gemm", names, ["logits" if last else f"x{layer}"], transB=1))
        if last:
            break
        values = f"x{layer}"
        if normalised:
            scales = [f"{part}{layer}" for part in ("scale", "shift", "mean", "variance")]
            for part, name in zip((1, 0, 0, 1), scales):
                numbers = numpy.full(outputs, part, numpy.float32)
                arrays.append(numpy_helper.from_array(numbers, name))
            nodes.append(
                helper.make_node("BatchNormalization", [values, *scales], [f"n{layer}"])
            )
            values = f"n{layer}"
        nodes.append(helper.make_node("Relu", [values], [f"r{layer}"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 28, 28])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "connected", [image], [logits], arrays)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), file)


if __name__ == "__main__":
    sys.exit(main())
