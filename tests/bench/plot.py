# SPDX-License-Identifier: MIT
"""The plot: throughput to echo by connections, and latency by rate of an open loop, as SVG."""
import math

from measure import CONNECTIONS, ECHO, OURS, RATES, STOCK
from report import SERVERS

COLOURS = dict(zip(SERVERS, ("#555555", "#d55e00", "#0072b2", "#cc79a7", "#009e73", "#e69f00")))
WIDTH, HEIGHT = 880, 360
LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT, GAP = 60, 46, 310, 240, 130


def text(x, y, words, anchor="middle", size=12, more=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {more}>'
            f"{words}</text>")


class Panel:
    """A diagram whose axes are named steps across and a range up, logarithmic or not."""

    def __init__(self, x, title, across, steps, low, high, ticks, logarithmic=False):
        self.x, self.steps, self.low, self.high, self.log = x, steps, low, high, logarithmic
        self.parts = [text(x + PANEL_WIDTH / 2, TOP - 18, title, size=14),
                      text(x + PANEL_WIDTH / 2, TOP + PANEL_HEIGHT + 40, across)]
        for tick in ticks:
            y = self.up(tick)
            self.parts.append(f'<line x1="{x}" y1="{y:.1f}" x2="{x + PANEL_WIDTH}" y2="{y:.1f}" '
                              'stroke="#dddddd"/>')
            self.parts.append(text(x - 8, y + 4, f"{tick:g}", "end"))
        for i, step in enumerate(steps):
            self.parts.append(text(self.along(i), TOP + PANEL_HEIGHT + 20, step))

    def along(self, i):
        return self.x + PANEL_WIDTH * (i + 0.5) / len(self.steps)

    def up(self, value):
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return TOP + PANEL_HEIGHT * (1 - (value - low) / (high - low))

    def line(self, values, colour, dashes=""):
        """VALUES: one per step; None leaves it out."""
        points = [(self.along(i), self.up(v)) for i, v in enumerate(values) if v is not None]
        if not points:
            return
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                          f'stroke-width="2" stroke-dasharray="{dashes}"/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
                       for x, y in points]


def first(found):
    return found and found[0]


def draw(rows):
    rates = Panel(LEFT, "requests per second, to the bare echo", "connections (closed loop)",
                  CONNECTIONS, 0, 1.25, (0, 0.25, 0.5, 0.75, 1, 1.25))
    for server in SERVERS:
        rates.line([first(rows.ratio(ECHO, "closed", server, "rate", connections=n))
                    for n in CONNECTIONS], COLOURS[server])
    times = Panel(LEFT + PANEL_WIDTH + GAP, "latency, us: p99 drawn, p50 dashed",
                  "requests/s over 1000 connections (open loop)", [f"{r:,}" for r in RATES], 10,
                  100000, (10, 100, 1000, 10000, 100000), logarithmic=True)
    for server in (ECHO, STOCK, OURS):
        for figure, dashes in (("p99_us", ""), ("p50_us", "5 4")):
            times.line([rows.median("open", server, figure, load="10 % writes", connections=1000,
                                    rate=rate) for rate in RATES], COLOURS[server], dashes)
    legend = []
    measured = [s for s in SERVERS if any(rows.of("closed", s, "rate", connections=n)
                                          for n in CONNECTIONS)]
    for i, server in enumerate(measured):
        x, y = LEFT + 10 + i * 135, HEIGHT - 14
        legend += [f'<rect x="{x}" y="{y - 10}" width="14" height="10" fill="{COLOURS[server]}"/>',
                   text(x + 20, y, server, "start")]
    parts = "\n".join(rates.parts + times.parts + legend)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{parts}\n</svg>\n')
