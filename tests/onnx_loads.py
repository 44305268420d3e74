"""Loads ONNX files in ONNX Runtime and runs them on a batch: `onnx_loads.py FILE…`.

Exits with 1 and a sentence if a file is not a valid model, or if its logits have the wrong shape or
are not finite. It does not check the values of the logits; `onnx_check.py` compares these.
"""

import sys

import numpy as np
import onnxruntime as ort


def main(files: list[str]) -> None:
    rng = np.random.default_rng(0)
    for file in files:
        session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
        (image,) = session.get_inputs()
        _, channels, height, width = image.shape
        for batch in (1, 3):
            pixels = rng.integers(0, 256, (batch, channels, height, width)).astype(np.float32)
            (logits,) = session.run(["logits"], {image.name: pixels})
            if logits.shape[0] != batch or logits.ndim != 2:
                sys.exit(f"{file}: logits of shape {logits.shape} for a batch of {batch}")
            if not np.isfinite(logits).all():
                sys.exit(f"{file}: logits that are not finite")
        print(f"{file}: {logits.shape[1]} logits")


if __name__ == "__main__":
    main(sys.argv[1:])
