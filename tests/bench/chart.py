"""The chart of a comparison: a bar for every ratio to the peer, and the line it had to reach. Standard library only."""
import html

import targets

PANELS = ("tg", "pp", "batch")
NAME_WIDTH, PANEL_WIDTH, GAP, ROW, TOP = 210, 190, 34, 26, 56

# An SVG in an <img> follows the reader's colour scheme through this query.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 13px; font-weight: 600 }
.value { font-size: 11px }
.warning { fill: #c0392b }
.met { fill: #2f81c7 }
.missed { fill: #c8842b }
.unjudged { fill: #9aa4ae }
.need { stroke: #24292f; stroke-width: 2 }
.one { stroke: #8c959f; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .warning { fill: #ff7b72 }
  .met { fill: #58a6e8 }
  .missed { fill: #d9a05b }
  .need { stroke: #e6edf3 }
}
"""


def longest(rows, test):
    """What the panel's width stands for: the largest ratio or need, with room for its label."""
    values = [1.0]
    for row in rows:
        if row["test"] == test:
            need = targets.find_case(row["case"]).needs.get(test)
            values += [row["ratio"], need.ratio if need else 0]
    return max(values) * 1.25


def bar(row, x, y, scale, is_judged):
    need = targets.find_case(row["case"]).needs.get(row["test"])
    width = row["ratio"] * scale
    look = "unjudged" if not is_judged else "missed" if row["verdict"] == "missed" else "met"
    parts = [f'<rect class="{look}" x="{x}" y="{y}" width="{width:.1f}" height="14" rx="2"/>']
    label_x = x + width + 5
    if need:
        line_x = x + need.ratio * scale
        parts.append(f'<line class="need" x1="{line_x:.1f}" x2="{line_x:.1f}" y1="{y - 3}" y2="{y + 17}"/>')
        if -2 < line_x - label_x < 34:  # the line would cross the label
            label_x = line_x + 5
    parts.append(f'<text class="value" x="{label_x:.1f}" y="{y + 11}">{row["ratio"]:.2f}x</text>')
    return parts


def svg(rows, warning):
    """The chart of the rows of targets.summarise, as a document; a warning that they do not count stands below, and nothing is judged then."""
    names = list(dict.fromkeys(row["case"] for row in rows))
    width, height = NAME_WIDTH + len(PANELS) * (PANEL_WIDTH + GAP), TOP + ROW * len(names) + 52
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
             f'aria-label="Speed of Outrigger as a multiple of llama.cpp\'s, by model and test">', f"<style>{STYLE}</style>",
             '<text class="title" x="0" y="18">Speed as a multiple of llama.cpp</text>']
    for i, name in enumerate(names):
        parts.append(f'<text x="0" y="{TOP + i * ROW + 15}">{html.escape(targets.find_case(name).title)}</text>')
    for p, test in enumerate(PANELS):
        x = NAME_WIDTH + p * (PANEL_WIDTH + GAP)
        scale = PANEL_WIDTH / longest(rows, test)
        parts.append(f'<text class="title" x="{x}" y="42">{targets.TESTS[test]}</text>')
        parts.append(f'<line class="one" x1="{x + scale:.1f}" x2="{x + scale:.1f}" y1="{TOP - 4}" y2="{TOP + ROW * len(names)}"/>')
        for i, name in enumerate(names):
            for row in rows:
                if row["case"] == name and row["test"] == test:
                    parts += bar(row, x, TOP + i * ROW + 4, scale, not warning)
    parts.append(f'<text class="value" x="0" y="{height - 28}">Dotted: as fast as llama.cpp. Thick line: what is needed; decoding may instead '
                 "read its weights at 80 or 85 % of a bare read of memory, and is blue then too.</text>")
    parts.append(f'<text class="warning" x="0" y="{height - 10}">{html.escape(warning)}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
