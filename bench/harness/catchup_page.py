"""The results of bench/catchup as one HTML file: a table for each phase, and what happened over its time as curves.

Looks as the page of bench/run does (page.py), and loads nothing from anywhere.
"""

import html
import math

from .catchup_samples import behind, rates
from .page import STYLE, Palette, text
from .results import number

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 480, 240, 66, 14, 28, 12


def step_of(top):
    """A round number that divides the axis into two to five parts."""
    power = 10 ** math.floor(math.log10(top))
    return next(power * factor for factor in (0.2, 0.5, 1, 2) if top / (power * factor) <= 5)


def axis_text(value, step):
    return number(value, max(0, -math.floor(math.log10(step))) if step < 1 else 0)


def curve(title, lines, palette):
    """Values over seconds, from zero; one line a server: (name, colour's name, dashed, points)."""
    lines = [line for line in lines if len(line[3]) > 1]
    if not lines:
        return ""
    points = [point for line in lines for point in line[3]]
    last = max(at for at, _ in points) or 1
    top = max(value for _, value in points) or 1
    parts = [f'<div class="plot"><h4>{html.escape(title)}, over seconds</h4><div class="curves">',
             f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']

    def x_of(at):
        return LEFT + at / last * (WIDTH - LEFT - RIGHT)

    def y_of(value):
        return HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP)

    step = step_of(top)
    for i in range(int(top / step) + 1):
        y = y_of(i * step)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(LEFT - 6, y + 4, axis_text(i * step, step), "end"))
    step = step_of(last)
    for i in range(int(last / step) + 1):
        x = x_of(i * step)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(text(x, HEIGHT - BOTTOM + 18, axis_text(i * step, step), "middle"))
    for _, colour, dashed, line in lines:
        path = " ".join(f"{x_of(at):.1f},{y_of(value):.1f}" for at, value in line)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{palette.of(colour)}" stroke-width="2"{dash}/>')
    parts.append("</svg><ul>")
    parts += [f'<li style="--colour:{palette.of(colour)}">{html.escape(name)}{" (dashed)" if dashed else ""}</li>'
              for name, colour, dashed, _ in lines]
    parts.append("</ul></div></div>")
    return "".join(parts)


def known(points, value, scale):
    pairs = ((point["at"], value(point)) for point in points)
    return [(at, found * scale) for at, found in pairs if found is not None]


def plots(results, palette):
    """What happened over time in one phase, of all servers."""
    series = [(result["server"], result.get("points") or [], result.get("probe_points") or []) for result in results]
    first = lambda points: (points[0]["offsets"][0] or 0) if points else 0
    return [
        curve("the slowest replica is behind, MB", [(name, name, False, known(points, behind, 1e-6)) for name, points, _ in series],
              palette),
        curve("written, MB of stream", [
            (name, name, False, known(points, lambda p, points=points: max(
                (offset for offset in p["offsets"] if offset is not None), default=first(points)) - first(points), 1e-6))
            for name, points, _ in series], palette),
        curve("on the wire, MB/s", [(name, name, False, [(at, rate / 1e6) for at, rate in rates(points, lambda p: p["wire_bytes"])])
                                    for name, points, _ in series], palette),
        curve("resident memory of the primary and of the largest replica, MB", [
            (f"{name}, {side}", name, side == "replica", known(points, lambda p, key=key: p[key] or None, 1e-6))
            for name, points, _ in series for side, key in (("primary", "primary_bytes"), ("replica", "replica_bytes"))], palette),
        curve("p99 of a client in each half second, ms", [(name, name, False, [(at, p99) for at, p99, _ in probed])
                                                          for name, _, probed in series], palette),
        curve("worst request in each half second, ms", [(name, name, False, [(at, worst) for at, _, worst in probed])
                                                        for name, _, probed in series], palette)]


def phase_table(results, columns):
    head = "".join(f"<th>{html.escape(title)}</th>" for title in ["servers", *(title for title, _ in columns)])
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in [
        result["server"], *((column(result) if "offset" in result else "-") for _, column in columns)]) + "</tr>" for result in results)
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def render(results, facts, columns, descriptions):
    """The whole page as a string. descriptions: what a phase does, by its name."""
    palette = Palette()
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    parts = ['<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Slotwise: catching up</title>',
             '<meta name="viewport" content="width=device-width, initial-scale=1">',
             f"<style>{STYLE}</style></head><body><h1>Slotwise: catching up</h1>", f'<table class="facts">{rows}</table>']
    for phase in dict.fromkeys(result["phase"] for result in results):
        mine = [result for result in results if result["phase"] == phase]
        parts += [f"<h2>{html.escape(phase)}</h2>", f'<p class="note">{html.escape(descriptions.get(phase, ""))}</p>',
                  phase_table(mine, columns), '<div class="plots">', *plots(mine, palette), "</div>"]
        parts += [f'<p class="failure">{html.escape(result["server"])}: {html.escape(result["error"])}</p>'
                  for result in mine if "error" in result]
    parts.append("</body></html>")
    return "\n".join(parts)
