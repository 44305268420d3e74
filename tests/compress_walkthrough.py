#!/usr/bin/env python3
"""Prunes networks for Fashion-MNIST at several shares, quantizes them to several widths, distils.

    compress_walkthrough.py --edgesmith PROGRAM --data FOLDER --keep FOLDER [--picture FILE.svg]
        simple_net.legacy.onnx fashion_mobilenet.legacy.onnx

For each network: nothing, single weights of the whole network by L1, and channels of the whole
network by L1, at 50, 80, 90 and 95 %; each in fp32, in 8 and 16 bits (weights and values) and with
binary weights (values of 8 bits), with one scale for each layer, which is one tensor, and for each
channel. Then with a training after pruning that learns from the network as it came: in fp32, and in
8 bits and 1 bit with a scale for each channel. In fp32 also with the same training on labels alone.

Prints two tables in Markdown for each network, and draws accuracy by bytes, and by latency or,
where that was not measured, by MACs. The same command with --measure first times all networks.
Python's standard library is enough.
"""

import pathlib
import sys

from compress_cells import (
    Cells, accuracy, arguments, kilobytes, milliseconds, others, row, show,
)

PRUNED = {"nothing": None} | {
    f"{share}% of {what}": {"pass": "prune", **settings, "share": share / 100}
    for what, settings in {
        "weights": {"granularity": "weights", "of": "parameters"},
        "channels": {"of": "channels", "importance": "l1"},
    }.items()
    for share in (50, 80, 90, 95)
}
WIDTHS = {"fp32": None} | {
    f"{bits} bit, {granularity}":
        {"pass": "quantize", "granularity": granularity, "weight_bits": bits, **values}
    for bits, values in ((8, {}), (16, {"activation_bits": 16}), (1, {}))
    for granularity in ("layer", "channel")
}
# The steps before and after pruning, those after quantization, and the widths that are tried.
TRAININGS = {
    "as it is": ([], [], [], list(WIDTHS)),
    "distilled": ([{"pass": "distil"}], [{"pass": "fine-tune"}], [],
                  ["fp32", "8 bit, channel", "1 bit, channel"]),
    "quantized first": ([], [], [{"pass": "distil"}, {"pass": "quantize-aware-train"}],
                        ["8 bit, channel", "1 bit, channel"]),
    "on labels": ([], [{"pass": "fine-tune"}], [], ["fp32"]),
}


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("networks", type=pathlib.Path, nargs="+", metavar="NETWORK.onnx")
    parser.add_argument("--picture", type=pathlib.Path)
    args = parser.parse_args()
    cells = Cells(args)
    results = {}
    for training, (*_, widths) in TRAININGS.items():
        for network in args.networks:
            for pruned in PRUNED:
                for width in widths:
                    key = (stem(network), training, pruned, width)
                    results[key] = cells.result(
                        slug(key), lambda network=network: network, steps(*key[1:]),
                        beside=slug((stem(network), "as it is", "nothing", "fp32")),
                    )
    text = "\n\n".join(tables(stem(network), results) for network in args.networks)
    show(args, cells, pathlib.Path(__file__).name, text)
    if args.picture:
        from compress_picture import picture

        args.picture.write_text(picture([stem(each) for each in args.networks], results))
    return 0


def stem(network: pathlib.Path) -> str:
    return network.name.split(".")[0]


def slug(key) -> str:
    return "-".join("-".join(key).replace(",", "").replace("%", "").split())


def steps(training: str, pruned: str, width: str):
    before, after, last, _ = TRAININGS[training]
    chosen = [*before, PRUNED[pruned], *after, WIDTHS[width], *last]
    return [step for step in chosen if step]


def tables(network: str, results) -> str:
    def numbers(pruned, width, shown, *trainings):
        found = [results[network, training, pruned, width]
                 for training in trainings if width in TRAININGS[training][-1]]
        return " / ".join("not run" if each is None else
                          "refused" if "refused" in each else shown(each) for each in found)

    lines = [f"`{network}`: accuracy, %, not trained / distilled, then quantized / quantized, then "
             "distilled:", ""]
    lines += [row("gone", *WIDTHS, "fp32, on labels"), row(*["---"] * (len(WIDTHS) + 2))]
    for pruned in PRUNED:
        kinds = ("as it is", "distilled", "quantized first")
        all_kinds = (numbers(pruned, width, accuracy, *kinds) for width in WIDTHS)
        lines.append(row(pruned, *all_kinds, numbers(pruned, "fp32", accuracy, "on labels")))

    lines += ["", f"`{network}`, not trained: on how many test images the class is another than that "
              "of the network as it came:", "", row("gone", *WIDTHS)]
    lines.append(row(*["---"] * (len(WIDTHS) + 1)))
    for pruned in PRUNED:
        lines.append(row(pruned, *(numbers(pruned, width, others, "as it is") for width in WIDTHS)))

    timed = any("latency_ms" in each for each in results.values() if each)
    times = ("fp32", "8 bit, layer", "8 bit, channel", "1 bit, channel") if timed else ()
    also = "; ms" if timed else ". Latency was not measured"
    lines += ["", f"`{network}`, not trained: kilobytes of the file; thousands of MACs{also}:", ""]
    lines.append(row("gone", *WIDTHS, "MACs", *(f"ms, {width}" for width in times)))
    lines.append(row(*["---"] * (len(WIDTHS) + len(times) + 2)))
    for pruned in PRUNED:
        sizes = (numbers(pruned, width, kilobytes, "as it is") for width in WIDTHS)
        macs = numbers(pruned, "fp32", lambda figures: f"{figures['macs'] / 1e3:.0f}", "as it is")
        slow = (numbers(pruned, width, milliseconds, "as it is") for width in times)
        lines.append(row(pruned, *sizes, macs, *slow))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
