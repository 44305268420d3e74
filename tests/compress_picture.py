"""The picture of `compress_walkthrough.py`, as plain SVG that reads on light and on dark pages."""

import math
from html import escape

# Colour and shape of a width, and whether lines of a kind of pruning are broken.
WIDTHS = {
    "fp32": ("#8a8a8a", "circle"),
    "16 bit, channel": ("#2b9d6b", "diamond"),
    "8 bit, channel": ("#3d85e0", "square"),
    "1 bit, channel": ("#e0702e", "triangle"),
}
KINDS = {"weights": "", "channels": "5 3"}
SHARES = (50, 80, 90, 95)
# A panel's place and size, and the space around it.
WIDTH, HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 330, 190, 50, 64, 60, 62
STYLE = """text { font: 12px sans-serif; fill: #333 } .axis { stroke: #888; stroke-width: 1 }
.grid { stroke: #888; stroke-opacity: 0.25 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }"""


def picture(networks, results) -> str:
    rows = [("as it is", "bytes"), ("distilled", "bytes"), ("distilled", "time")]
    parts, height = [*legend()], TOP + len(rows) * (HEIGHT + GAP_Y)
    for column, network in enumerate(networks):
        for row, (training, unit) in enumerate(rows):
            x, y = LEFT + column * (WIDTH + GAP_X), TOP + 20 + row * (HEIGHT + GAP_Y)
            parts += panel(x, y, network, training, unit, results)
    width = LEFT + len(networks) * (WIDTH + GAP_X)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">',
        f"<style>{STYLE}</style>", *parts, "</svg>", "",
    ])


def legend():
    x = LEFT
    for name, (colour, shape) in WIDTHS.items():
        yield mark(shape, colour, x, 16)
        yield text(x + 10, 20, name)
        x += 130
    x = LEFT
    for kind, dash in KINDS.items():
        yield f'<path d="M{x} 38h28" stroke="#888" stroke-dasharray="{dash}"/>'
        yield text(x + 34, 42, f"{kind} pruned: 0, {', '.join(map(str, SHARES))} %")
        x += 280


def panel(x, y, network, training, unit, results):
    """One network after one training: accuracy by bytes, or by time."""
    def figures(pruned, width):
        found = results.get((network, training, pruned, width)) or {}
        return found if "accuracy" in found else None

    def across(each):
        return each["bytes"] / 1000 if unit == "bytes" else each.get("latency_ms")

    lines, label = {}, "kB of the file"
    # Single weights cost the same time as none, and 16 bits have no time.
    kinds = KINDS if unit == "bytes" else ["channels"]
    widths = WIDTHS if unit == "bytes" else [each for each in WIDTHS if "16" not in each]
    for width in widths:
        for kind in kinds:
            names = ["nothing", *(f"{share}% of {kind}" for share in SHARES)]
            lines[width, kind] = [each for name in names if (each := figures(name, width))]
    lines = {key: line for key, line in lines.items() if line}
    measured = all("latency_ms" in each for line in lines.values() for each in line)
    if unit == "time":
        label = "ms for one image"
        if not measured:
            label = "thousands of MACs (not timed)"

            def across(each):
                return each["macs"] / 1000

    points = [across(each) for line in lines.values() for each in line]
    if not points:
        return
    low, high = math.log10(min(points) / 1.1), math.log10(max(points) * 1.1)

    def place(each):
        return (x + WIDTH * (math.log10(across(each)) - low) / (high - low),
                y + HEIGHT * (1 - each["accuracy"] / 100))

    what = {"as it is": "not trained", "distilled": "distilled"}[training]
    yield text(x, y - 8, f"{network}, {what}: accuracy, %, by {label}")
    for accuracy in range(0, 101, 20):
        at = y + HEIGHT * (1 - accuracy / 100)
        yield f'<path class="grid" d="M{x} {at:.1f}h{WIDTH}"/>'
        yield text(x - 6, at + 4, accuracy, "end")
    for tick in ticks(low, high):
        at = x + WIDTH * (math.log10(tick) - low) / (high - low)
        yield f'<path class="grid" d="M{at:.1f} {y}v{HEIGHT}"/>'
        yield text(at, y + HEIGHT + 16, f"{tick:g}", "middle")
    yield f'<path class="axis" fill="none" d="M{x} {y}v{HEIGHT}h{WIDTH}"/>'
    for (width, kind), line in lines.items():
        colour, shape = WIDTHS[width]
        places = [place(each) for each in line]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        yield (f'<path fill="none" stroke="{colour}" stroke-width="1.5" '
               f'stroke-dasharray="{KINDS[kind]}" d="M{path}"/>')
        for a, b in places:
            yield mark(shape, colour, a, b)


def ticks(low, high):
    """Round numbers on a logarithmic axis."""
    first = math.floor(low)
    for power in range(first, math.ceil(high) + 1):
        for digit in (1, 2, 5):
            if low <= math.log10(digit) + power <= high:
                yield digit * 10.0**power


def mark(shape, colour, x, y) -> str:
    outline = {
        "circle": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"',
        "square": f'<path d="M{x - 3:.1f} {y - 3:.1f}h6v6h-6z"',
        "diamond": f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z"',
        "triangle": f'<path d="M{x:.1f} {y - 4:.1f}l4 7h-8z"',
    }
    return f'{outline[shape]} fill="{colour}"/>'


def text(x, y, words, anchor="start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(str(words))}</text>'
