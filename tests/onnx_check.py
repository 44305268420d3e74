#!/usr/bin/env python3
"""Compares exported ONNX models, run by ONNX Runtime, with the outputs that edgesmith computed.

    onnx_check.py [--tolerance T] [--relative] [--agreement A] [--as-written] MODEL.onnx IMAGES OUTPUTS ...

The files come in groups of three. IMAGES has raw bytes (0 to 255), one image after the other in the
model's input shape. OUTPUTS has little-endian float32, [images] in the model's output shape. Exits with 1
if the share of images with the same largest output is below A (default 1: all of them) or an output
differs by more than T (default 1e-3; with --relative, times the largest output of the model), and with 2
if the files do not fit the model. With --as-written ONNX Runtime does not optimise the model, so that it
quantizes and dequantizes real numbers and does not compute in integers. Needs onnxruntime and numpy.
"""

import argparse
import sys

import numpy as np
import onnxruntime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--relative", action="store_true")
    parser.add_argument("--agreement", type=float, default=1.0)
    parser.add_argument("--as-written", action="store_true")
    args = parser.parse_args()
    if len(args.files) % 3 != 0:
        parser.error("the files come in groups of three")
    groups = [args.files[i : i + 3] for i in range(0, len(args.files), 3)]
    return max(check(*group, args) for group in groups)


def check(model: str, images: str, outputs: str, args: argparse.Namespace) -> int:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Without this, int8 sums saturate at 16 bits on x86 processors with AVX2 and without VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if args.as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (source,), (output,) = session.get_inputs(), session.get_outputs()
    if (source.name, output.name) != ("image", "logits"):
        print(f"{model} has the input {source.name} and the output {output.name}, not image and logits")
        return 2
    shape, result = source.shape[1:], output.shape[1:]
    pixels = np.fromfile(images, dtype=np.uint8)
    expected = np.fromfile(outputs, dtype="<f4")
    size, count = int(np.prod(shape)), pixels.size // int(np.prod(shape))
    if count == 0 or pixels.size != count * size or expected.size != count * int(np.prod(result)):
        print(f"{model}: {pixels.size} bytes and {expected.size} outputs do not fit {shape} and {result}")
        return 2
    pixels = pixels.reshape(count, *shape).astype(np.float32)
    expected = expected.reshape(count, -1)

    # All at once and one by one, because the batch dimension is free.
    (actual,) = session.run(["logits"], {"image": pixels})
    (first,) = session.run(["logits"], {"image": pixels[:1]})
    if list(actual.shape) != [count, *result]:
        print(f"{model} computes {actual.shape}, and not {result} for each image as it says")
        return 2
    actual, first = actual.reshape(count, -1), first.reshape(1, -1)
    difference = float(np.abs(actual - expected).max())
    batch_difference = float(np.abs(first[0] - actual[0]).max())
    same = actual.argmax(axis=1) == expected.argmax(axis=1)
    largest = float(np.abs(expected).max())
    print(
        f"{model}: {count} images: same top-1 on {int(same.sum())}, largest difference {difference:.2e}, "
        f"largest output {largest:.2e}, onnxruntime {onnxruntime.__version__}"
    )
    tolerance = args.tolerance * (largest if args.relative else 1)
    # NaN fails these comparisons too.
    close = difference <= tolerance and batch_difference <= tolerance
    return 0 if close and same.mean() >= args.agreement else 1


if __name__ == "__main__":
    sys.exit(main())
