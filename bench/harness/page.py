"""The results as one HTML file: tables, bars and latency curves as inline SVG, nothing loaded from anywhere."""

import html
import math

from .results import case_rows, ratio_text

COLOURS = ["#2f6fb5", "#d2691e", "#3a8f5c", "#8a56a8", "#b8902a", "#4a9aa8", "#c0506a", "#777777"]
BAR_KEYS = {"throughput", "cpu_us", "p99", "p999", "per_key", "per_connection", "rss_mb",
            "cpu_percent", "slowest_us", "beside_max", "instructions"}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #222; background: #fff; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; }
p.note { color: #666; margin-top: -0.5rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.7rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th { color: #666; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
svg { background: #fafafa; border: 1px solid #e4e4e4; } svg text { font: 12px system-ui, sans-serif; fill: #333; }
svg .faint { fill: #777; } svg .grid { stroke: #e0e0e0; } .failure { color: #a33; }
"""


class Palette:
    """A server keeps its colour all over the page."""

    def __init__(self):
        self.known = {}

    def of(self, server):
        if server not in self.known:
            self.known[server] = COLOURS[len(self.known) % len(COLOURS)]
        return self.known[server]


def text(x, y, content, anchor="start", faint=False):
    return '<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>' % (
        x, y, anchor, ' class="faint"' if faint else "", html.escape(content))


def bars(case, metric, base, palette):
    """Horizontal bars, one a server, labelled with value and ratio."""
    values = [(server, case.median(server, metric.key)) for server in case.servers()]
    values = [(server, value) for server, value in values if value is not None]
    top = max((value for _, value in values), default=0)
    if top <= 0:
        return ""
    width, left, room, line = 540, 150, 240, 26
    height = 34 + line * len(values)
    title = "%s%s (%s is better)" % (metric.label, ", " + metric.unit if metric.unit else "",
                                     "less" if metric.less else "more")
    parts = [text(10, 20, title, faint=True)]
    for row, (server, value) in enumerate(values):
        y = 30 + row * line
        length = max(value, 0) / top * room
        ratio = ratio_text(case.ratio(server, metric.key, base)) if metric.ratio else ""
        parts.append(text(left - 8, y + 14, server[:22], "end"))
        parts.append('<rect x="%d" y="%d" width="%.1f" height="18" fill="%s"/>' % (
            left, y, max(length, 1), palette.of(server)))
        parts.append(text(left + length + 6, y + 14, "%s  %s" % (metric.text(value), ratio)))
    return '<svg width="%d" height="%d" role="img">%s</svg>' % (width, height, "".join(parts))


def percentile_x(percentile):
    """Nines are equally wide: 0, 90, 99, 99.9, 99.99."""
    return min(-math.log10(max(1 - percentile / 100, 1e-5)), 4)


def curves(case, palette):
    """Latency over percentile, both logarithmic, one line a server."""
    lines = [(server, case.curve(server)) for server in case.servers()]
    lines = [(server, [(p, v) for p, v in curve if v > 0]) for server, curve in lines if curve]
    lines = [(server, curve) for server, curve in lines if curve]
    if not lines:
        return ""
    values = [value for _, curve in lines for percentile, value in curve if percentile_x(percentile) <= 4]
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    width, height, left, bottom, top = 540, 320, 60, 40, 34

    def x_of(percentile):
        return left + percentile_x(percentile) / 4 * (width - left - 20)

    def y_of(value):
        return height - bottom - (math.log10(value) - low) / (high - low) * (height - bottom - top)

    parts = [text(10, 20, "latency, us, over percentile", faint=True)]
    for exponent in range(low, high + 1):
        y = y_of(10 ** exponent)
        parts.append('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (left, width - 20, y, y))
        parts.append(text(left - 6, y + 4, "{:,g}".format(10 ** exponent), "end", True))
    for percentile in (0, 90, 99, 99.9, 99.99):
        x = x_of(percentile)
        parts.append('<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>' % (x, x, top, height - bottom))
        parts.append(text(x, height - bottom + 16, "%g %%" % percentile, "middle", True))
    for number, (server, curve) in enumerate(lines):
        points = " ".join("%.1f,%.1f" % (x_of(p), y_of(v)) for p, v in curve if p <= 99.99)
        parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>' % (
            points, palette.of(server)))
        x, y = left + 12, top + 14 + number * 16
        parts.append('<rect x="%d" y="%d" width="10" height="10" fill="%s"/>' % (x, y - 9, palette.of(server)))
        parts.append(text(x + 15, y, server))
    return '<svg width="%d" height="%d" role="img">%s</svg>' % (width, height, "".join(parts))


def table(rows):
    head = "".join("<th>%s</th>" % html.escape(cell) for cell in rows[0])
    body = "".join("<tr>%s</tr>" % "".join("<td>%s</td>" % html.escape(cell) for cell in row)
                   for row in rows[1:])
    return "<table><tr>%s</tr>%s</table>" % (head, body)


def case_section(case, base, palette):
    parts = ["<h3>%s</h3>" % html.escape(case.name), table(case_rows(case, base)), '<div class="plots">']
    for metric in case.metrics:
        if metric.key in BAR_KEYS:
            parts.append(bars(case, metric, base, palette))
    parts.append(curves(case, palette))
    parts.append("</div>")
    for server, reason in case.failures.items():
        parts.append('<p class="failure">%s: %s</p>' % (html.escape(server), html.escape(reason)))
    return "\n".join(parts)


def render(suites, machine, base):
    """The whole page as a string."""
    palette = Palette()
    parts = ["<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Slotwise: measurements</title>",
             "<style>%s</style></head><body><h1>Slotwise: measurements</h1>" % STYLE,
             "<p>Medians; ratios are to <b>%s</b> in the same run.</p>" % html.escape(base),
             table([["machine", ""]] + [[name, str(value)] for name, value in machine.items()])]
    for suite in suites:
        parts.append("<h2>%s: %s</h2>" % (html.escape(suite.name), html.escape(suite.title)))
        if suite.note:
            parts.append('<p class="note">%s</p>' % html.escape(suite.note))
        parts += [case_section(case, base, palette) for case in suite.cases]
        parts += ["<p>%s</p>" % html.escape(remark) for remark in suite.remarks]
    parts.append("</body></html>")
    return "\n".join(parts)
