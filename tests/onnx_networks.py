"""Writes networks from public definitions as ONNX files, with inputs and what ONNX Runtime computes.

    onnx_networks.py FOLDER

Each network NAME becomes NAME.onnx and NAME.npz with its arrays `input` and `output`, `output1`, …
Needs numpy, onnx and onnxruntime. All weights are random, from fixed seeds.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A file in the making: each call adds a node and returns the name of its output."""

    def __init__(self, seed, opset, shape):
        self.random = np.random.default_rng(seed)
        self.opset, self.shape = opset, shape
        self.nodes, self.constants, self.listed = [], [], []
        self.count = 0

    def name(self, wish):
        self.count += 1
        return f"{wish}_{self.count}"

    def const(self, array, wish="const"):
        name = self.name(wish)
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *values):
        return self.const(np.array(values, np.int64))

    def weight(self, *shape, scale=None):
        fan = int(np.prod(shape[1:])) or 1
        scale = scale or (2.0 / fan) ** 0.5
        return self.const((self.random.standard_normal(shape) * scale).astype(np.float32), "weight")

    def vector(self, size, low=-0.5, high=0.5):
        return self.const(self.random.uniform(low, high, size).astype(np.float32), "vector")

    def op(self, kind, *inputs, outputs=1, **settings):
        names = [self.name(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **settings))
        return names[0] if outputs == 1 else names

    def conv(self, x, inputs, filters, kernel, **settings):
        pads = [kernel // 2] * 4 if "pads" not in settings else settings.pop("pads")
        group = settings.get("group", 1)
        weight = self.weight(filters, inputs // group, kernel, kernel)
        return self.op("Conv", x, weight, self.vector(filters), pads=pads, **settings)

    def norm(self, x, channels):
        parts = [self.vector(channels, 0.5, 1.5), self.vector(channels), self.vector(channels)]
        return self.op("BatchNormalization", x, *parts, self.vector(channels, 0.5, 1.5))

    def write(self, folder, name, outputs, batch="N", examples=3):
        shape = [batch, *self.shape]
        values = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
        values += self.listed
        results = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, name, values, results, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.save(model, folder / f"{name}.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        examples = batch if isinstance(batch, int) else examples
        x = self.random.standard_normal((examples, *self.shape)).astype(np.float32)
        computed = session.run(None, {"input": x})
        keys = ["output" if i == 0 else f"output{i}" for i in range(len(computed))]
        np.savez(folder / f"{name}.npz", input=x, **dict(zip(keys, computed)))


def dense(folder):
    """A dense block with its transition (Huang et al. 2017)."""
    net = Net(1, 13, [3, 16, 16])
    x, channels = net.conv("input", 3, 8, 3), 8
    for _ in range(4):
        y = net.op("Relu", net.norm(x, channels))
        y = net.op("Relu", net.norm(net.conv(y, channels, 16, 1), 16))
        x = net.op("Concat", x, net.conv(y, 16, 6, 3), axis=1)
        channels += 6
    x = net.conv(net.op("Relu", net.norm(x, channels)), channels, 12, 1)
    x = net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.write(folder, "dense", [net.op("Gemm", x, net.weight(5, 12), net.vector(5), transB=1)])


def detector(folder):
    """Two levels of features joined by a resize, and heads whose boxes are listed one by one."""
    net = Net(2, 13, [3, 24, 32])
    fine = net.op("LeakyRelu", net.conv("input", 3, 8, 3, strides=[2, 2]), alpha=0.1)
    coarse = net.op("LeakyRelu", net.conv(fine, 8, 16, 3, strides=[2, 2]), alpha=0.1)
    # The size of the finer map, as exporters compute it.
    size = net.op("Slice", net.op("Shape", fine), net.ints(2), net.ints(4), net.ints(0))
    narrow = net.conv(coarse, 16, 8, 1)
    whole = net.op("Slice", net.op("Shape", narrow), net.ints(0), net.ints(2), net.ints(0))
    size = net.op("Concat", whole, net.op("Cast", size, to=TensorProto.INT64), axis=0)
    settings = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    upper = net.op("Resize", narrow, "", "", size, **settings)
    joined = net.op("Concat", upper, fine, axis=1)
    levels = [net.conv(joined, 16, 12, 3), net.conv(coarse, 16, 12, 1)]
    boxes = []
    for level in levels:
        batch = net.op("Gather", net.op("Shape", level), net.const(np.int64(0)), axis=0)
        batch = net.op("Unsqueeze", batch, net.ints(0))
        split = net.op("Concat", batch, net.ints(2, 6, -1), axis=0)
        level = net.op("Transpose", net.op("Reshape", level, split), perm=[0, 1, 3, 2])
        boxes.append(net.op("Reshape", level, net.op("Concat", batch, net.ints(-1, 6), axis=0)))
    boxes = net.op("Concat", *boxes, axis=1)
    place = net.op("Slice", boxes, net.ints(0), net.ints(2), net.ints(2))
    place = net.op("Mul", net.op("Sigmoid", place), net.const(np.float32(2)))
    size = net.op("Slice", boxes, net.ints(2), net.ints(4), net.ints(-1))
    size = net.op("Exp", net.op("Mul", size, net.const(np.float32(0.1))))
    score = net.op("Softmax", net.op("Slice", boxes, net.ints(4), net.ints(1 << 40), net.ints(2)), axis=2)
    net.write(folder, "detector", [net.op("Concat", place, size, axis=-1), score])


def layer_norm(net, x, size):
    """In parts, as older opsets need."""
    mean = net.op("ReduceMean", x, axes=[-1])
    d = net.op("Sub", x, mean)
    var = net.op("ReduceMean", net.op("Pow", d, net.const(np.float32(2))), axes=[-1])
    y = net.op("Div", d, net.op("Sqrt", net.op("Add", var, net.const(np.float32(1e-5)))))
    return net.op("Add", net.op("Mul", y, net.vector(size, 0.5, 1.5)), net.vector(size))


def gelu(net, x):
    y = net.op("Erf", net.op("Div", x, net.const(np.float32(2**0.5))))
    y = net.op("Mul", x, net.op("Add", y, net.const(np.float32(1))))
    return net.op("Mul", y, net.const(np.float32(0.5)))


def attention(folder):
    """A vision transformer of one block (Dosovitskiy et al. 2021)."""
    net = Net(3, 13, [3, 16, 16])
    width, heads, tokens = 24, 3, 17
    x = net.conv("input", 3, width, 4, strides=[4, 4], pads=[0] * 4)
    batch = net.op("Gather", net.op("Shape", x), net.const(np.int64(0)), axis=0)
    batch = net.op("Unsqueeze", batch, net.ints(0))
    shape = net.op("Concat", batch, net.ints(width, -1), axis=0)
    x = net.op("Transpose", net.op("Reshape", x, shape), perm=[0, 2, 1])
    wanted = net.op("Concat", batch, net.ints(-1, -1), axis=0)
    ones = net.op("ConstantOfShape", net.ints(3), value=helper.make_tensor("one", TensorProto.INT64, [1], [1]))
    wanted = net.op("Where", net.op("Equal", wanted, net.ints(-1, -1, -1)), ones, wanted)
    token = net.op("Expand", net.weight(1, 1, width, scale=0.5), wanted)
    x = net.op("Concat", token, x, axis=1)
    x = net.op("Add", x, net.weight(1, tokens, width, scale=0.1))
    y = layer_norm(net, x, width)
    y = net.op("Add", net.op("MatMul", y, net.weight(width, 3 * width)), net.vector(3 * width))
    shape = net.op("Concat", batch, net.ints(tokens, 3, heads, width // heads), axis=0)
    y = net.op("Transpose", net.op("Reshape", y, shape), perm=[2, 0, 3, 1, 4])
    q, k, v = [net.op("Gather", y, net.const(np.int64(i)), axis=0) for i in range(3)]
    q = net.op("Mul", q, net.const(np.float32((width // heads) ** -0.5)))
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    y = net.op("Transpose", y, perm=[0, 2, 1, 3])
    y = net.op("Reshape", y, net.op("Concat", batch, net.ints(tokens, width), axis=0))
    x = net.op("Add", x, net.op("Add", net.op("MatMul", y, net.weight(width, width)), net.vector(width)))
    y = layer_norm(net, x, width)
    y = gelu(net, net.op("Add", net.op("MatMul", y, net.weight(width, 48)), net.vector(48)))
    x = net.op("Add", x, net.op("Add", net.op("MatMul", y, net.weight(48, width)), net.vector(width)))
    x = net.op("Gather", layer_norm(net, x, width), net.const(np.int64(0)), axis=1)
    net.write(folder, "attention", [net.op("Gemm", x, net.weight(7, width), net.vector(7), transB=1)])


def inception(folder):
    """Two blocks of four branches (Szegedy et al. 2015)."""
    net = Net(4, 11, [3, 15, 15])
    x, channels = net.op("Relu", net.conv("input", 3, 8, 3)), 8
    for _ in range(2):
        a = net.conv(x, channels, 4, 1)
        b = net.conv(net.op("Relu", net.conv(x, channels, 6, 1)), 6, 8, 3)
        c = net.op("Relu", net.conv(x, channels, 4, 1))
        c = net.op("Conv", c, net.weight(4, 4, 1, 5), pads=[0, 2, 0, 2])
        c = net.op("Conv", c, net.weight(4, 4, 5, 1), net.vector(4), auto_pad="SAME_UPPER")
        settings = {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}
        d = net.conv(net.op("AveragePool", x, **settings), channels, 4, 1)
        x, channels = net.op("Relu", net.op("Concat", a, b, c, d, axis=1)), 20
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = net.op("Dropout", net.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 0, 1, 0]))
    x = net.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    net.write(folder, "inception", [net.op("LogSoftmax", net.op("MatMul", x, net.weight(channels, 4)))])


def shuffle(folder):
    """A unit that splits and shuffles channels (Ma et al. 2018), exported with a fixed batch."""
    net = Net(5, 12, [8, 10, 10])
    x = "input"
    for _ in range(2):
        a, b = net.op("Split", x, outputs=2, axis=1, split=[4, 4])
        b = net.op("Relu", net.norm(net.conv(b, 4, 4, 1), 4))
        b = net.op("Relu", net.norm(net.conv(net.norm(net.conv(b, 4, 4, 3, group=4), 4), 4, 4, 1), 4))
        x = net.op("Concat", a, b, axis=1)
        x = net.op("Transpose", net.op("Reshape", x, net.ints(2, 2, 4, 10, 10)), perm=[0, 2, 1, 3, 4])
        x = net.op("Reshape", x, net.ints(2, 8, 10, 10))
    x = net.op("Reshape", net.op("MaxPool", x, kernel_shape=[5, 5], strides=[5, 5]), net.ints(2, -1))
    net.write(folder, "shuffle", [net.op("Gemm", x, net.weight(32, 3), net.vector(3))], batch=2)


def channels_last(folder):
    """As tf2onnx writes Keras: positions before channels, around each convolution."""
    net = Net(6, 13, [12, 12, 3])
    x = net.op("Sub", "input", net.const(np.array([0.1, 0.2, 0.3], np.float32)))
    x = net.op("Transpose", x, perm=[0, 3, 1, 2])
    x = net.op("Transpose", net.conv(x, 3, 6, 3, strides=[2, 2]), perm=[0, 2, 3, 1])
    x = net.op("Add", x, net.vector(6))
    y = net.op("Mul", x, net.op("Sigmoid", x))
    y = net.conv(net.op("Transpose", y, perm=[0, 3, 1, 2]), 6, 6, 3)
    x = net.op("Add", x, net.op("Transpose", y, perm=[0, 2, 3, 1]))
    gate = net.op("ReduceMean", x, axes=[1, 2], keepdims=1)
    gate = net.op("Sigmoid", net.op("MatMul", gate, net.weight(6, 6)))
    x = net.op("Mul", x, gate)
    x = net.op("Pad", x, net.ints(0, 1, 0, 0, 0, 0, 1, 0))
    x = net.op("Reshape", x, net.ints(-1, 7 * 7 * 6))
    x = net.op("Add", net.op("MatMul", x, net.weight(294, 4)), net.vector(4))
    net.write(folder, "channels_last", [net.op("Softmax", x, axis=-1)])


def old(folder):
    """Opset 9, with all constants listed as inputs."""
    net = Net(7, 9, [4, 6, 6])
    x = net.op("Clip", net.norm(net.conv("input", 4, 8, 3), 8), min=0.0, max=6.0)
    x = net.op("Upsample", x, net.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    x = net.op("PRelu", net.op("Dropout", x, ratio=0.5), net.const(net.random.standard_normal((8, 1, 1)).astype(np.float32)))
    x = net.op("Slice", x, starts=[1, 0], ends=[9, 1000], axes=[2, 3])
    x = net.op("Pad", x, pads=[0, 0, 1, 0, 0, 0, 0, 1], value=0.5)
    x = net.op("Squeeze", net.op("GlobalMaxPool", x), axes=[2, 3])
    x = net.op("Softmax", net.op("Gemm", x, net.weight(8, 5), net.vector(5), alpha=0.5, beta=2.0))
    for constant in net.constants:
        value = helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims)
        net.listed.append(value)
    net.write(folder, "old", [x])


def group_norm(folder):
    """A sequence, normalised in groups as PyTorch exports it, and channels shuffled in space."""
    net = Net(8, 17, [8, 20])
    x = net.op("Conv", "input", net.weight(12, 8, 5), net.vector(12), pads=[2, 2], dilations=[1])
    y = net.op("Reshape", x, net.ints(0, 3, -1))
    ones, zeros = net.const(np.ones(3, np.float32)), net.const(np.zeros(3, np.float32))
    y = net.op("InstanceNormalization", y, ones, zeros, epsilon=1e-5)
    y = net.op("Reshape", y, net.op("Shape", x))
    y = net.op("Add", net.op("Mul", y, net.weight(12, 1)), net.weight(12, 1))
    y = net.op("Mul", y, net.op("Tanh", net.op("Softplus", y)))
    # tanh form of GELU
    cube = net.op("Mul", net.op("Pow", y, net.const(np.float32(3))), net.const(np.float32(0.044715)))
    inner = net.op("Mul", net.op("Add", y, cube), net.const(np.float32((2 / np.pi) ** 0.5)))
    one = net.op("Add", net.op("Tanh", inner), net.const(np.float32(1)))
    y = net.op("Mul", net.op("Mul", net.const(np.float32(0.5)), y), one)
    y = net.op("Transpose", y, perm=[0, 2, 1])
    y = net.op("LayerNormalization", y, net.vector(12, 0.5, 1.5), net.vector(12), axis=-1)
    y = net.op("Reshape", y, net.ints(-1, 12))
    y = net.op("Gemm", y, net.weight(12, 6), net.vector(6))
    y = net.op("Reshape", y, net.ints(-1, 20, 6))
    net.write(folder, "group_norm", [net.op("ReduceMax", y, axes=[1], keepdims=0)])


def quantized(folder):
    """Weights as integers with a scale for each channel."""
    net = Net(9, 13, [3, 8, 8])

    def weights(shape, axis):
        w = net.const(net.random.integers(-127, 128, shape).astype(np.int8))
        scale = net.const(net.random.uniform(0.001, 0.01, shape[axis]).astype(np.float32))
        zero = net.const(np.zeros(shape[axis], np.int8))
        return net.op("DequantizeLinear", w, scale, zero, axis=axis)

    x = net.op("Relu", net.op("Conv", "input", weights([4, 3, 3, 3], 0), net.vector(4)))
    x = net.op("Reshape", x, net.ints(0, -1))
    x = net.op("MatMul", x, weights([144, 5], 1))
    net.write(folder, "quantized", [x])


def windows(folder):
    """Windows of attention in which the batch is mixed with positions (Liu et al. 2021)."""
    net = Net(10, 13, [6, 8, 8])
    x = net.op("Transpose", "input", perm=[0, 2, 3, 1])
    x = net.op("Transpose", net.op("Reshape", x, net.ints(1, 2, 4, 2, 4, 6)), perm=[0, 1, 3, 2, 4, 5])
    x = net.op("Reshape", x, net.ints(-1, 16, 6))
    scores = net.op("MatMul", x, net.op("Transpose", x, perm=[0, 2, 1]))
    x = net.op("MatMul", net.op("Softmax", scores, axis=-1), x)
    x = net.op("Transpose", net.op("Reshape", x, net.ints(1, 2, 2, 4, 4, 6)), perm=[0, 1, 3, 2, 4, 5])
    x = net.op("Reshape", x, net.ints(1, 8, 8, 6))
    x = net.op("Add", net.op("MatMul", x, net.weight(6, 5)), net.vector(5))
    net.write(folder, "windows", [net.op("Transpose", x, perm=[0, 3, 1, 2])], batch=1)


def main():
    folder = Path(sys.argv[1])
    networks = [dense, detector, attention, inception, shuffle, channels_last, old, group_norm, quantized, windows]
    for network in networks:
        network(folder)


if __name__ == "__main__":
    main()
