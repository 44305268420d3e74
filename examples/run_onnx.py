#!/usr/bin/env python3
"""Classifies images with an ONNX file that edgesmith exported.

    run_onnx.py NETWORK.onnx IMAGE...

Needs numpy, onnxruntime and pillow.
"""

import json
import sys

import numpy
import onnxruntime
from PIL import Image

network, *images = sys.argv[1:]
session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
_, channels, height, width = session.get_inputs()[0].shape
classes = json.loads(session.get_modelmeta().custom_metadata_map.get("classes", "[]"))

for name in images:
    # The network normalises the pixels itself. BOX takes means of areas, as training does.
    image = Image.open(name).convert("L" if channels == 1 else "RGB")
    image = image.resize((width, height), Image.Resampling.BOX)
    pixels = numpy.asarray(image, numpy.float32).reshape(height, width, channels)
    logits = session.run(["logits"], {"image": pixels.transpose(2, 0, 1)[None]})[0][0]
    best = int(logits.argmax())
    print(name, classes[best] if classes else best)
