"""What the suites produce, how it is summed up, and the text table.

A suite yields a Suite with cases (GET, SET, ...); a case holds for every server the samples of every metric. Everything that
is shown is the median of a server's samples, and its ratio to that of the base server in the same case.
"""

import statistics


def number(value, digits=0):
    """The one way in which numbers are written: thousands apart, so many digits after the point."""
    return "{:,.{}f}".format(value, digits)


class Metric:
    """How a number is called and shown. `less` says whether less is better."""

    def __init__(self, key, label, unit="", less=True, digits=2, ratio=True):
        self.key = key
        self.label = label
        self.unit = unit
        self.less = less
        self.digits = digits
        self.ratio = ratio

    def text(self, value):
        if value is None:
            return "-"
        return number(value, self.digits)


THROUGHPUT = Metric("throughput", "requests/s", less=False, digits=0)
CPU = Metric("cpu_us", "server CPU/command", "us", digits=3)
P50 = Metric("p50", "p50", "us", digits=0)
P99 = Metric("p99", "p99", "us", digits=0)
P999 = Metric("p999", "p99.9", "us", digits=0)


class Case:
    """One table: what every server (or whatever `heading` says the rows are) did under the same load."""

    def __init__(self, name, metrics, heading="server"):
        self.name = name
        self.metrics = metrics
        self.heading = heading
        self.samples = {}  # server name -> metric key -> list of numbers
        self.curves = {}  # server name -> list of latency curves, one a round
        self.failures = {}  # server name -> text

    def add(self, server, **values):
        store = self.samples.setdefault(server, {})
        for key, value in values.items():
            if value is not None:
                store.setdefault(key, []).append(value)

    def add_report(self, server, report):
        """Takes what a bench_client report says about throughput, CPU and latency."""
        latency = report["latency_us"]
        self.add(server, throughput=report["requests_per_second"],
                 cpu_us=report.get("server_cpu_us_per_request"),
                 p50=latency["p50"], p99=latency["p99"], p999=latency["p99.9"])
        self.curves.setdefault(server, []).append(latency["curve"])

    def fail(self, server, reason):
        self.failures[server] = str(reason)

    def median(self, server, key):
        values = self.samples.get(server, {}).get(key)
        return statistics.median(values) if values else None

    def spread(self, server, key):
        """Half the range of the samples over their median: what a difference must exceed to mean anything."""
        values = self.samples.get(server, {}).get(key)
        middle = statistics.median(values) if values else 0
        return (max(values) - min(values)) / 2 / middle if values and middle else None

    def ratio(self, server, key, base):
        value, other = self.median(server, key), self.median(base, key)
        return value / other if value is not None and other else None

    def curve(self, server):
        """The point-wise median of the rounds' curves."""
        curves = self.curves.get(server)
        if not curves:
            return None
        return [[points[0][0], statistics.median(p[1] for p in points)] for points in zip(*curves)]

    def servers(self):
        return list(self.samples)

    def as_json(self, base):
        servers = {}
        for server in self.samples:
            servers[server] = {
                "samples": self.samples[server],
                "median": {key: self.median(server, key) for key in self.samples[server]},
                "ratio": {key: self.ratio(server, key, base) for key in self.samples[server]},
                "curve": self.curve(server),
            }
        return {"case": self.name, "servers": servers, "failures": self.failures}


class Suite:
    """A named group of cases."""

    def __init__(self, name, title, note=""):
        self.name = name
        self.title = title
        self.note = note
        self.cases = []
        self.remarks = []

    def case(self, name, metrics, heading="server"):
        self.cases.append(Case(name, metrics, heading))
        return self.cases[-1]

    def remark(self, text):
        self.remarks.append(text)

    def as_json(self, base):
        return {"suite": self.name, "title": self.title, "note": self.note,
                "remarks": self.remarks, "cases": [case.as_json(base) for case in self.cases]}


def ratio_text(ratio):
    if ratio is None:
        return ""
    return "%.2fx" % ratio


def case_rows(case, base):
    """The table of one case: a header and a row per server."""
    header = [case.heading]
    for metric in case.metrics:
        header.append(metric.label + (", " + metric.unit if metric.unit else ""))
        if metric.ratio:
            header.append("/ " + base)
    rows = [header]
    for server in case.servers():
        row = [server]
        for metric in case.metrics:
            row.append(metric.text(case.median(server, metric.key)))
            if metric.ratio:
                row.append(ratio_text(case.ratio(server, metric.key, base)))
        rows.append(row)
    return rows


def spread_text(case):
    """The widest spread of each metric, and whose it is."""
    counts = [len(values) for store in case.samples.values() for values in store.values()]
    if max(counts, default=0) < 2:
        return "one sample each: no spread"
    parts = []
    for metric in case.metrics:
        known = [(case.spread(server, metric.key), server) for server in case.servers()]
        known = [(spread, server) for spread, server in known if spread is not None]
        if known:
            spread, server = max(known)
            parts.append("%s +-%.0f %% (%s)" % (metric.label, spread * 100, server))
    return "widest spread of %d samples: %s" % (max(counts), ", ".join(parts))


def text_table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  " + "  ".join(cells).rstrip())
    lines.insert(1, "  " + "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def suite_text(suite, base):
    lines = ["", "== %s: %s" % (suite.name, suite.title)]
    if suite.note:
        lines.append("   " + suite.note)
    for case in suite.cases:
        lines += ["", "  " + case.name, text_table(case_rows(case, base))]
        lines.append("  " + spread_text(case))
        for server, reason in case.failures.items():
            lines.append("  %s: %s" % (server, reason))
    for remark in suite.remarks:
        lines.append("  " + remark)
    return "\n".join(lines)
