# SPDX-License-Identifier: MIT
"""What the measurements come to: ratios, the goals, tables, the plot."""
import statistics

from measure import CONNECTIONS, DEPTH, ECHO, LOADS, OTHERS, OURS, RATES, SERVED_UNITS, STOCK

SERVERS = (ECHO, STOCK, OURS, *OTHERS)


class Rows:
    """Every value that was measured: by what it is of, then by round."""

    def __init__(self, rows):
        self.values = {}
        for stage, server, load, *numbers, figure, value in rows:
            connections, depth, rate, number = map(int, numbers)
            of = (stage, server, load, connections, depth, rate, figure)
            self.values.setdefault(of, {})[number] = float(value)

    def of(self, stage, server, figure, load="read 10", connections=100, depth=1, rate=0):
        """The values by round, {} when it was not measured."""
        return self.values.get((stage, server, load, connections, depth, rate, figure), {})

    def median(self, *args, **kwargs):
        values = self.of(*args, **kwargs)
        return statistics.median(values.values()) if values else None

    def ratios(self, reference, stage, server, figure, **kwargs):
        """SERVER's to REFERENCE's of the same round."""
        ours = self.of(stage, server, figure, **kwargs)
        theirs = self.of(stage, reference, figure, **kwargs)
        return [ours[n] / theirs[n] for n in ours if theirs.get(n)]

    def ratio(self, *args, **kwargs):
        return spread(self.ratios(*args, **kwargs))


def spread(values):
    """Median and quartiles."""
    if not values:
        return None
    low, middle, high = (statistics.quantiles(values, method="inclusive")
                         if len(values) > 1 else values * 3)
    return middle, low, high


# ---- the goals ----

def worst(pick, ratios):
    """The one of RATIOS, by name, that PICK finds: (median, "median, name and quartiles")."""
    ratios = {name: r for name, r in ratios.items() if r}
    if not ratios:
        return None
    name = pick(ratios, key=lambda name: ratios[name][0])
    median, low, high = ratios[name]
    return median, f"{median:.2f} ({name}; {low:.2f} to {high:.2f})"


def closed_ratios(rows, reference, figure, connections):
    """By connections, the loads together: how a write costs more than a read is in the tables."""
    return {f"{n} connections": spread([
        ratio for load in LOADS
        for ratio in rows.ratios(reference, "closed", OURS, figure, load=load, connections=n)])
        for n in connections}


def cpu_to_echo(rows):
    return worst(max, closed_ratios(rows, ECHO, "cpu_us", CONNECTIONS[1:]))


def rate_to_echo(rows):
    return worst(min, closed_ratios(rows, ECHO, "rate", CONNECTIONS[1:]))


def rate_to_stock(rows):
    return worst(min, closed_ratios(rows, STOCK, "rate", (100,)))


def gain_of_depth(rows):
    deep = rows.of("pipelined", OURS, "rate", depth=DEPTH)
    one = rows.of("pipelined", OURS, "rate")
    return worst(min, {"read 10": spread([deep[n] / one[n] for n in deep])})


def tail_to_echo(rows):
    return worst(max, {"10 % writes": rows.ratio(ECHO, "open", OURS, "p99_us", rate=10000,
                                                 load="10 % writes", connections=1000)})


def calls(rows):
    values = rows.of("calls", OURS, "calls")
    return worst(max, {"read 10": spread(list(values.values()))})


def value(rows, form, *args, **kwargs):
    median = rows.median(*args, **kwargs)
    return None if median is None else (median, form.format(median))


def idle(rows):
    return value(rows, "{:.2f}", "idle", OURS, "wakeups", load="100 clients", depth=0)


def memory(rows, load, connections):
    return rows.median("memory", OURS, "rss_kib", load=load, connections=connections, depth=0)


def memory_of_one(rows):
    kib = memory(rows, "one circuit", 10)
    return kib and (kib / 1024, f"{kib / 1024:.1f} MiB")


def slope(rows, load, few, many):
    low, high = memory(rows, load, few), memory(rows, load, many)
    if low is None or high is None:
        return None
    each = (high - low) / (many - few)
    return each, f"{each:.2f} KiB"


def memory_per_connection(rows):
    return slope(rows, "one circuit", 10, 1010)


def memory_per_circuit(rows):
    return slope(rows, "per circuit", 1, SERVED_UNITS)


def circuits(rows):
    sent = rows.median("circuits", OURS, "sent_s", load="256", connections=256, depth=0)
    bound = rows.median("circuits", OURS, "bound_s", load="256", connections=256, depth=0)
    return sent and (sent / bound, f"{sent / bound:.4f} ({sent:.1f} s to {bound:.1f} s)")


def written(rows, server, figure, load="memory"):
    return spread(list(rows.of("write", server, figure, load=load, connections=1).values()))


def first_byte(rows):
    """A difference of two times that go up and down with the machine: with how far."""
    ours, bare = written(rows, OURS, "accepted_us"), written(rows, "libcurl", "first_byte_us")
    if not ours or not bare:
        return None
    apart = max(high - low for _, low, high in (ours, bare))
    return (ours[0] - bare[0], f"{ours[0] - bare[0]:.0f} us ({ours[0]:.0f} to {bare[0]:.0f}; "
            f"quartiles {apart:.0f} us apart)", apart)


AT_MOST, AT_LEAST = "at most", "at least"
GOALS = (  # figure, direction, limit, its unit, what gives it
    ("server CPU per request, to echo, 10 to 1000 connections", AT_MOST, 1.10, "", cpu_to_echo),
    ("throughput, to echo, 10 to 1000 connections", AT_LEAST, 0.90, "", rate_to_echo),
    ("throughput, to the stock libmodbus loop, 100 connections", AT_LEAST, 1.35, "",
     rate_to_stock),
    ("pipelined by 16 over 100 connections, to depth 1", AT_LEAST, 6, " x", gain_of_depth),
    ("open loop, 10,000 requests/s over 1000 connections: p99 to echo's", AT_MOST, 1.25, "",
     tail_to_echo),
    ("system calls per request, depth 1, 100 connections", AT_MOST, 2.1, "", calls),
    ("wake-ups per second, 100 idle clients, cloud connected", AT_MOST, 1, "", idle),
    ("resident memory, one circuit, 10 clients", AT_MOST, 16, " MiB", memory_of_one),
    ("... per further idle connection", AT_MOST, 2, " KiB", memory_per_connection),
    ("... per further circuit", AT_MOST, 16, " KiB", memory_per_circuit),
    ("256 circuits written at once, all sent: to the budget's own bound", AT_MOST, 1.05, "",
     circuits),
    ("accepted write to first byte of the HTTPS request, above a bare libcurl loop", AT_MOST, 100,
     " us", first_byte),
)


def judged(rows):
    """(figure, goal, measured, verdict) of every goal."""
    for figure, direction, limit, unit, measure in GOALS:
        found = measure(rows)
        if found is None:
            yield figure, f"{direction} {limit}{unit}", "-", "not measured"
            continue
        figured, measured, *apart = found
        met = figured <= limit if direction == AT_MOST else figured >= limit
        verdict = "met" if met else "NOT MET"
        if apart and apart[0] > limit:
            verdict = "not judged: too much noise"
        yield figure, f"{direction} {limit}{unit}", measured, verdict


# ---- tables ----

def number(found, form="{:.2f}"):
    return "-" if found is None else form.format(found[0] if isinstance(found, tuple) else found)


def measured_only(lines):
    """LINES without those of servers that were not there."""
    return (line for line in lines if any(cell != "-" for cell in line[1:]))


def closed_table(rows, figure, load):
    """Ratios to echo of the same round, by server and connections."""
    yield ("server", *(f"{n} connection{'s' * (n > 1)}" for n in CONNECTIONS))
    yield from measured_only(
        (server, *(number(rows.ratio(ECHO, "closed", server, figure, load=load, connections=n))
                   for n in CONNECTIONS)) for server in SERVERS[1:])


def pipelined_table(rows):
    yield "server", "10 connections: to echo", "to its depth 1", "100 connections: to echo", \
        "to its depth 1"
    for server in SERVERS[:3]:
        row = [server]
        for connections in (10, 100):
            deep = rows.of("pipelined", server, "rate", connections=connections, depth=DEPTH)
            one = rows.of("pipelined", server, "rate", connections=connections)
            row.append(number(rows.ratio(ECHO, "pipelined", server, "rate", depth=DEPTH,
                                         connections=connections)))
            row.append(number(spread([deep[n] / one[n] for n in deep])))
        yield row


def open_table(rows):
    yield "server", *(f"{rate} /s: {q}" for rate in RATES for q in ("p50", "p99", "p99.9"))
    yield from measured_only(
        (server, *(number(rows.median("open", server, figure, load="10 % writes",
                                      connections=1000, rate=rate), "{:.0f}")
                   for rate in RATES for figure in ("p50_us", "p99_us", "p999_us")))
        for server in SERVERS)


def calls_table(rows):
    yield "server", "10 connections", "100 connections"
    for server in SERVERS[:3]:
        yield (server, *(number(rows.median("calls", server, "calls", connections=n))
                         for n in (10, 100)))


def write_table(rows):
    yield "what", "p50", "p25", "p75"
    for what, server, figure, load in (
            ("bare libcurl loop, eventfd to first byte, us", "libcurl", "first_byte_us", "memory"),
            ("eveccd, write sent to first byte, us", OURS, "first_byte_us", "memory"),
            ("eveccd, write accepted to first byte, us", OURS, "accepted_us", "memory"),
            ("eveccd, write sent to its answer, us", OURS, "answer_us", "memory"),
            ("... with the state on this disk, us", OURS, "accepted_us", "disk"),
            ("eveccd, write sent to stage 4, ms", OURS, "confirmed_ms", "memory"),
            ("... above the charger's own delay, ms", OURS, "above_charger_ms", "memory")):
        values = written(rows, server, figure, load)
        yield (what, *(("-",) * 3 if values is None else (f"{v:.1f}" for v in values)))


def text(table):
    lines = [list(map(str, line)) for line in table]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)


def markdown(table):
    head, *lines = [list(map(str, line)) for line in table]
    return "\n".join("| " + " | ".join(line) + " |"
                     for line in (head, ["---"] * len(head), *lines))


def goals_table(rows):
    yield "figure", "goal", "measured", "verdict"
    yield from judged(rows)


TABLES = {"goals": goals_table, "calls": calls_table, "pipelined": pipelined_table,
          "open": open_table, "writes": write_table}
for key, load_name in (("read10", "read 10"), ("read125", "read 125"), ("mixed", "10 % writes")):
    TABLES["rate-" + key] = lambda rows, load=load_name: closed_table(rows, "rate", load)
    TABLES["cpu-" + key] = lambda rows, load=load_name: closed_table(rows, "cpu_us", load)


def document(rows, template):
    """TEMPLATE with a table for each line @name@."""
    for name, table in TABLES.items():
        template = template.replace(f"@{name}@", markdown(table(rows)))
    return template
