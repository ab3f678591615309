#!/usr/bin/env python3
"""Draws what a script's table says: bars in panels, as one SVG without a script, readable on light and dark pages.

usage: perf-scripts/tools/chart.py FILE.svg < chart.json

The chart is an object: `title`, `note` (optional, one line) and `panels`. A panel has `name` and `bars`; each bar is a list of its label, its
value, the text of the value, and optionally the least and the greatest value that were seen, which are drawn as a line across its end.
"""
import json
import os
import sys
from xml.sax.saxutils import escape

WIDTH, LABELS, VALUES = 900, 300, 170
BAR, GAP, HEAD = 16, 6, 30
COLOURS = ["#2f6fb3", "#b3592f", "#3f8a4d", "#7a4fa3"]
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #222 } .title { font-size: 15px; font-weight: 600 } .name { font-weight: 600 }
.note { fill: #666 } .page { fill: #fff } .axis { stroke: #999 } .spread { stroke: #222; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .note { fill: #999 } .page { fill: #16181d } .spread { stroke: #eee } }
"""


def cut(text, letters):
    return text if len(text) <= letters else text[: letters - 1] + "…"


def bars(panel, top, colour):
    """The panel's elements from `top` down, and where it ends."""
    out = [f'<text class="name" x="12" y="{top + 14}">{escape(panel["name"])}</text>']
    top += HEAD - 6
    most = max((max(bar[1], *(bar[4:5] or [0])) for bar in panel["bars"]), default=0) or 1
    scale = (WIDTH - LABELS - VALUES) / most
    begin = top
    for label, value, said, *spread in panel["bars"]:
        middle = top + BAR / 2
        out.append(f'<text x="{LABELS - 8}" y="{middle + 4:g}" text-anchor="end">{escape(cut(label, 42))}<title>{escape(label)}</title></text>')
        out.append(f'<rect x="{LABELS}" y="{top:g}" width="{max(value * scale, 0.5):.1f}" height="{BAR}" fill="{colour}"/>')
        end = value
        if spread:
            least, end = spread[0], max(value, spread[1])
            low, high = LABELS + least * scale, LABELS + spread[1] * scale
            out.append(f'<path class="spread" d="M{low:.1f} {middle:g}H{high:.1f}M{low:.1f} {middle - 4:g}v8M{high:.1f} {middle - 4:g}v8"/>')
        out.append(f'<text x="{LABELS + end * scale + 7:.1f}" y="{middle + 4:g}">{escape(said)}</text>')
        top += BAR + GAP
    out.append(f'<path class="axis" d="M{LABELS} {begin - 3:g}V{top - 3:g}"/>')
    return out, top + 8


def svg(chart):
    top, out = 34, [f'<text class="title" x="12" y="22">{escape(chart["title"])}</text>']
    # Under which conditions the figures were taken, when they are not to be trusted: tools/common.sh.
    for note in filter(None, [chart.get("note"), os.environ.get("CHART_NOTE")]):
        out.append(f'<text class="note" x="12" y="{top + 6}">{escape(cut(note, 130))}</text>')
        top += 20
    for number, panel in enumerate(chart["panels"]):
        elements, top = bars(panel, top, COLOURS[number % len(COLOURS)])
        out += elements
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top:g}" viewBox="0 0 {WIDTH} {top:g}" role="img">'
    page = f'<rect class="page" width="{WIDTH}" height="{top:g}"/>'
    return "\n".join([head, f"<title>{escape(chart['title'])}</title>", f"<style>{STYLE}</style>", page, *out, "</svg>", ""])


def draw(path, chart):
    """Writes the chart to `path`."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(svg(chart))


def beside(path, figures, chart):
    """Writes the figures to `path` as JSON and the chart beside it, if there is a path."""
    if not path:
        return
    with open(path, "w", encoding="utf-8") as file:
        json.dump(figures, file, indent=2)
        file.write("\n")
    draw(os.path.splitext(path)[0] + ".svg", chart)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    draw(sys.argv[1], json.load(sys.stdin))
