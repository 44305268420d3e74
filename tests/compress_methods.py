#!/usr/bin/env python3
"""Compresses one network of each kind by every method: a table of accuracy, bytes and latency.

    compress_methods.py --edgesmith PROGRAM --data FOLDER --keep FOLDER --networks FOLDER

FOLDER of --networks has simple_net.legacy.onnx (plain) and fashion_mobilenet.legacy.onnx (inverted
residuals), which PyTorch trained on Fashion-MNIST. A network with squeeze-and-excitation and a
fully connected one are trained here first, by edgesmith.

Methods without a training are compared with the network as it came, the others with the network
trained further. Prints a table in Markdown; the same command with --measure first times all
networks. Needs numpy and onnx, for the fully connected network before its training.
"""

import pathlib
import sys

from compress_cells import (
    READS, SPACE, Cells, accuracy, arguments, kilobytes, milliseconds, others, row, show, study,
    toml,
)

TUNE, DISTIL = {"pass": "fine-tune"}, {"pass": "distil"}
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
    "… `taylor`, half of the bytes, trained": [half("taylor", "bytes"), TUNE],
    "… `taylor`, in 3 rounds, trained": [half("taylor", rounds=3), TUNE],
    "… `l1` after `shrink = \"filters\"`, trained": [TUNE | {"shrink": "filters"}, half("l1"), TUNE],
    "… `taylor`, distilled: answers": [DISTIL, half("taylor"), TUNE],
    "… `taylor`, distilled: values": [DISTIL | {"answers": "values"}, half("taylor"), TUNE],
} | {
    f"… `taylor`, distilled: answers, {features}":
        [DISTIL | {"features": features}, half("taylor"), TUNE]
    for features in ("attention", "relations", "hints")
} | {
    "blocks of a quarter of the MACs, trained":
        [{"pass": "prune", "granularity": "blocks", "share": 0.25}, TUNE],
    "80 % of single weights, trained": [WEIGHTS, TUNE],
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


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--networks", type=pathlib.Path, required=True)
    args = parser.parse_args()
    cells = Cells(args)
    # How to get each network, if any cell needs it, and how it reads pixels.
    models = {
        "plain": (lambda: args.networks / "simple_net.legacy.onnx", READS),
        "fully connected": (lambda: connected(args, cells), ()),
        "squeeze-and-excitation": (lambda: squeezed(args, cells), ()),
        "inverted residual": (lambda: args.networks / "fashion_mobilenet.legacy.onnx", READS),
    }
    results = {
        (kind, method): cells.result(
            slug(kind, method), model, steps, reads, slug(kind, "as it came")
        )
        for kind, (model, reads) in models.items()
        for method, steps in METHODS.items()
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
    show(args, pathlib.Path(__file__).name, "\n".join(lines))
    return 0


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


def write_random(file: pathlib.Path, seed: int) -> None:
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
        if not last:
            nodes.append(helper.make_node("Relu", [f"x{layer}"], [f"r{layer}"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 28, 28])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "connected", [image], [logits], arrays)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), file)


if __name__ == "__main__":
    sys.exit(main())
