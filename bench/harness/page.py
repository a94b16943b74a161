"""The results as one HTML file: tables, bars and latency curves, nothing loaded from anywhere.

Bars and legends are HTML, so that a long name wraps and is never cut off; only the curves are SVG, which scales with the window.
It is meant to be read on a telephone, too: what is wider than the window scrolls by itself.
"""

import html
import math

from .results import number, ratio_text, spread_text

COLOURS = ["#2f6fb5", "#d2691e", "#3a8f5c", "#8a56a8", "#b8902a", "#4a9aa8", "#c0506a", "#777777"]
BAR_KEYS = {"throughput", "cpu_us", "p99", "p999", "per_key", "per_connection", "rss_mb",
            "cpu_percent", "slowest_us", "beside_max", "instructions"}

STYLE = """
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
       color: #222; background: #fff; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; }
p.note { color: #666; margin-top: -0.5rem; }
p.spread { color: #666; font-size: 13px; margin: 0 0 1rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: 0.5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.6rem; text-align: right; vertical-align: top; border-bottom: 1px solid #e4e4e4;
         overflow-wrap: normal; }
td { white-space: nowrap; }
th { color: #666; font-weight: 600; font-size: 13px; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td small { color: #777; display: block; line-height: 1.2; }
table.facts td { text-align: left; } table.facts td + td { white-space: normal; overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.plot { background: #fafafa; border: 1px solid #e4e4e4; padding: 0.5rem 0.7rem; min-width: 0; }
.plot h4 { margin: 0 0 0.4rem; font-size: 13px; font-weight: 400; color: #777; }
.bars { display: grid; grid-template-columns: minmax(4.5rem, auto) 1fr; gap: 0.25rem 0.6rem; align-items: center; font-size: 13px; }
.bars div { min-width: 0; display: flex; align-items: center; gap: 0.4rem; }
.bars i { display: block; height: 1.1rem; min-width: 2px; flex: none; }
.bars b { font-weight: 400; white-space: nowrap; font-variant-numeric: tabular-nums; }
.curves { display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; align-items: flex-start; }
.curves svg { flex: 1 1 20rem; min-width: 0; width: 100%; height: auto; }
.curves ul { list-style: none; margin: 0; padding: 0; font-size: 13px; flex: 0 1 auto; }
.curves li::before { content: ""; display: inline-block; width: 0.7rem; height: 0.7rem; margin-right: 0.4rem;
                     background: var(--colour); }
svg text { font: 13px system-ui, sans-serif; fill: #777; } svg .grid { stroke: #e0e0e0; } .failure { color: #a33; }
@media (max-width: 600px) { body { margin: 1rem auto; padding: 0 0.6rem; } th, td { padding: 0.15rem 0.35rem; font-size: 13px; } }
"""


class Palette:
    """A server keeps its colour all over the page."""

    def __init__(self):
        self.known = {}

    def of(self, server):
        if server not in self.known:
            self.known[server] = COLOURS[len(self.known) % len(COLOURS)]
        return self.known[server]


def text(x, y, content, anchor="start"):
    return '<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>' % (x, y, anchor, html.escape(content))


def bars(case, metric, base, palette):
    """Horizontal bars, one a server, labelled with value and ratio."""
    values = [(server, case.median(server, metric.key)) for server in case.servers()]
    values = [(server, value) for server, value in values if value is not None]
    top = max((value for _, value in values), default=0)
    if top <= 0:
        return ""
    parts = ['<div class="plot"><h4>%s%s (%s is better)</h4><div class="bars">' % (
        html.escape(metric.label), ", " + html.escape(metric.unit) if metric.unit else "", "less" if metric.less else "more")]
    for server, value in values:
        ratio = ratio_text(case.ratio(server, metric.key, base)) if metric.ratio else ""
        # The longest bar leaves half of the room to its label.
        parts.append('<span>%s</span><div><i style="width:%.1f%%;background:%s"></i><b>%s&ensp;%s</b></div>' % (
            html.escape(server), max(value, 0) / top * 50, palette.of(server), html.escape(metric.text(value)), ratio))
    parts.append("</div></div>")
    return "".join(parts)


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
    width, height, left, right, bottom, top = 480, 290, 66, 34, 28, 12

    def x_of(percentile):
        return left + percentile_x(percentile) / 4 * (width - left - right)

    def y_of(value):
        return height - bottom - (math.log10(value) - low) / (high - low) * (height - bottom - top)

    parts = ['<div class="plot"><h4>latency, us, over percentile</h4><div class="curves">',
             '<svg viewBox="0 0 %d %d" role="img">' % (width, height)]
    for exponent in range(low, high + 1):
        y = y_of(10 ** exponent)
        parts.append('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (left, width - right, y, y))
        parts.append(text(left - 6, y + 4, number(10 ** exponent, max(-exponent, 0)), "end"))
    for percentile in (0, 90, 99, 99.9, 99.99):
        x = x_of(percentile)
        parts.append('<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>' % (x, x, top, height - bottom))
        parts.append(text(x, height - bottom + 18, "%g %%" % percentile, "middle"))
    for server, curve in lines:
        points = " ".join("%.1f,%.1f" % (x_of(p), y_of(v)) for p, v in curve if p <= 99.99)
        parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>' % (
            points, palette.of(server)))
    parts.append("</svg><ul>")
    parts += ['<li style="--colour:%s">%s</li>' % (palette.of(server), html.escape(server)) for server, _ in lines]
    parts.append("</ul></div></div>")
    return "".join(parts)


def case_table(case, base):
    """A row per server; the ratio stands below its value."""
    head = "<th>%s</th>" % html.escape(case.heading) + "".join("<th>%s%s</th>" % (html.escape(metric.label), ", " + html.escape(metric.unit)
                                                         if metric.unit else "") for metric in case.metrics)
    rows = []
    for server in case.servers():
        cells = ["<td>%s</td>" % html.escape(server)]
        for metric in case.metrics:
            ratio = ratio_text(case.ratio(server, metric.key, base)) if metric.ratio else ""
            cells.append("<td>%s%s</td>" % (html.escape(metric.text(case.median(server, metric.key))),
                                            "<small>%s</small>" % ratio if ratio else ""))
        rows.append("<tr>%s</tr>" % "".join(cells))
    return '<div class="scroll"><table><tr>%s</tr>%s</table></div>' % (head, "".join(rows))


def case_section(case, base, palette):
    parts = ["<h3>%s</h3>" % html.escape(case.name), case_table(case, base),
             '<p class="spread">%s</p>' % html.escape(spread_text(case)), '<div class="plots">']
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
    facts = "".join("<tr><td>%s</td><td>%s</td></tr>" % (html.escape(name), html.escape(str(value)))
                    for name, value in machine.items())
    parts = ["<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Slotwise: measurements</title>",
             '<meta name="viewport" content="width=device-width, initial-scale=1">',
             "<style>%s</style></head><body><h1>Slotwise: measurements</h1>" % STYLE,
             "<p>Medians; the ratio below a value is to <b>%s</b> in the same run.</p>" % html.escape(base),
             '<table class="facts">%s</table>' % facts]
    for suite in suites:
        parts.append("<h2>%s: %s</h2>" % (html.escape(suite.name), html.escape(suite.title)))
        if suite.note:
            parts.append('<p class="note">%s</p>' % html.escape(suite.note))
        parts += [case_section(case, base, palette) for case in suite.cases]
        parts += ["<p>%s</p>" % html.escape(remark) for remark in suite.remarks]
    parts.append("</body></html>")
    return "\n".join(parts)
