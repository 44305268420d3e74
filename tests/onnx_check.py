#!/usr/bin/env python3
"""Compares an exported ONNX model, run by ONNX Runtime, with the logits that edgesmith computed.

    onnx_check.py MODEL.onnx IMAGES LOGITS [--tolerance T] [--agreement A]

IMAGES has raw bytes (0 to 255), one image after the other in the model's input shape. LOGITS has
little-endian float32, [images][classes]. Exits with 1 if the share of images with the same top-1 class
is below A (default 1: all of them) or a logit differs by more than T (default 1e-3), and with 2 if the
files do not fit the model. Needs onnxruntime and numpy.
"""

import argparse
import sys

import numpy as np
import onnxruntime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("logits")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--agreement", type=float, default=1.0)
    args = parser.parse_args()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Without this, int8 sums saturate at 16 bits on x86 processors with AVX2 and without VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        args.model, options, providers=["CPUExecutionProvider"]
    )
    (source,), (output,) = session.get_inputs(), session.get_outputs()
    if (source.name, output.name) != ("image", "logits"):
        print(f"the model has the input {source.name} and the output {output.name}, not image and logits")
        return 2
    shape, classes = source.shape[1:], output.shape[1]
    images = np.fromfile(args.images, dtype=np.uint8)
    expected = np.fromfile(args.logits, dtype="<f4")
    count = images.size // int(np.prod(shape))
    if count == 0 or images.size != count * int(np.prod(shape)) or expected.size != count * classes:
        print(f"{images.size} bytes and {expected.size} logits do not fit {shape} images and {classes} classes")
        return 2
    images = images.reshape(count, *shape).astype(np.float32)
    expected = expected.reshape(count, classes)

    # All at once and one by one, because the batch dimension is free.
    (actual,) = session.run(["logits"], {"image": images})
    (first,) = session.run(["logits"], {"image": images[:1]})
    difference = float(np.abs(actual - expected).max())
    batch_difference = float(np.abs(first[0] - actual[0]).max())
    same = actual.argmax(axis=1) == expected.argmax(axis=1)
    print(
        f"{count} images: same top-1 on {int(same.sum())}, largest logit difference {difference:.2e}, "
        f"onnxruntime {onnxruntime.__version__}"
    )
    # NaN fails these comparisons too.
    close = difference <= args.tolerance and batch_difference <= args.tolerance
    return 0 if close and same.mean() >= args.agreement else 1


if __name__ == "__main__":
    sys.exit(main())
