# SPDX-License-Identifier: MIT
"""The measurements of `make bench`.  Each gives rows: what was measured, of which server, under
which load, in which round, and its value.

Servers run on one CPU, the clients on another.  In every round they take turns, so that a busy
moment of the machine hits all of them alike: ratios within a round are the figures to look at.
"""
import contextlib
import json
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402 - its folder had to be named first
from faulty import authority, certificate  # noqa: E402
from harness import until  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = float(os.environ.get("BENCH_SECONDS", "0.2"))  # of one measurement
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))

CPUS = sorted(os.sched_getaffinity(0))
ON_SERVER_CPU = ("taskset", "-c", str(CPUS[0]))
ON_CLIENT_CPU = ("taskset", "-c", str(CPUS[-1]))

CONNECTIONS = (1, 10, 100, 1000)
LOADS = {"read 10": (), "read 125": ("-n", "125"), "10 % writes": ("-w", "10")}
RATES = (1000, 10000, 50000)
DEPTH = 16
MANY = "max_clients = 4096\nmax_clients_per_address = 4096\nidle_timeout = 0"
ECHO, STOCK, OURS = "echo", "libmodbus", "eveccd"
OTHERS = {"pymodbus": ("/usr/bin/python3", "serve-pymodbus.py"),
          "modbus-serial": ("node", "serve-modbus-serial.js"),
          "jsmodbus": ("node", "serve-jsmodbus.js")}

FIGURES = ("rate", "p50_us", "p99_us", "p999_us", "max_us", "cpu_us", "calls")  # of load
STAGE_CONFIRMED, STAGE_EFFECTIVE, STREAMING, SERVED_UNITS = 4, 5, 3, 200
IDLE_S = 20
SETTLE_S = 12  # the gateway gives memory back when it has nothing to do
PAUSE_S = 0.2  # after which a CPU that waits is asleep
WRITING_GATEWAYS, WRITES = 4, 8  # as many as the budget of a minute has


class Server:
    """Something that answers at a port; PROGRAM is the harness's."""

    def __init__(self, name, program, port):
        self.name, self.pid, self.port, self.program = name, program.process.pid, port, program


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def program(bench, *argv, prefix=ON_SERVER_CPU, pass_fds=()):
    """A helper that is simply killed in the end."""
    log = os.path.join(bench.folder, f"{os.path.basename(argv[0])}{len(bench.helpers)}.log")
    helper = harness.Program(argv, log, prefix=prefix, pass_fds=pass_fds)
    bench.helpers.append(helper)
    bench.stack.callback(helper.process.kill)
    return helper


def reference(bench, name, *argv):
    port = harness.free_port()
    helper = program(bench, *argv[:1], *(a or str(port) for a in argv[1:]))
    until(lambda: listens(port) or not helper.alive(), f"{name} listens")
    return Server(name, helper, port) if helper.alive() else None


def gateway(bench, sim, **kwargs):
    kwargs = {"listener": MANY, "address": "127.0.0.1", "level": "info", "prefix": ON_SERVER_CPU,
              **kwargs}
    ours = bench.gateway(sim, **kwargs)
    client = ours.client()
    until(lambda: client.u16(7130) == STREAMING, "streaming", limit_s=60)
    client.close()
    return ours


def load(bench, server, *options, seconds=SECONDS):
    """What load says about SERVER, by figure; nothing when another's server fails."""
    try:
        line = bench.run(*ON_CLIENT_CPU, f"{harness.BUILD}/bench/load", "-t", str(seconds),
                         "-p", str(server.pid), *map(str, options), str(server.port))
    except AssertionError:
        if server.name in OTHERS:
            return {}
        raise
    return {figure: float(word) for figure, word in zip(FIGURES, line.split()) if word != "-"}


# ---- requests ----

def serve(bench):
    """The servers that are compared: echo, libmodbus and the gateway; then whatever others this
    machine has."""
    build = f"{harness.BUILD}/bench"
    ours = gateway(bench, bench.sim(prefix=ON_CLIENT_CPU))
    main = [reference(bench, ECHO, f"{build}/echo", None),
            reference(bench, STOCK, f"{build}/libmodbus", None, "7000", "500"),
            Server(OURS, ours, ours.port)]
    others = [reference(bench, name, runs, os.path.join(HERE, script), None)
              for name, (runs, script) in OTHERS.items()]
    return main, [o for o in others if o]


def turns(servers, number):
    """SERVERS, another one first in each round."""
    at = number % len(servers)
    return servers[at:] + servers[:at]


def closed_loop(bench, main, others):
    for number in range(ROUNDS):
        for connections in CONNECTIONS:
            for name, options in LOADS.items():
                for server in turns(main, number) + (others if number == 0 else []):
                    figures = load(bench, server, "-c", connections, *options)
                    yield "closed", server.name, name, connections, 1, 0, number, figures


def pipelined(bench, main, _):
    for number in range(ROUNDS):
        for connections in (10, 100):
            for server in turns(main, number):
                for depth in (1, DEPTH):
                    figures = load(bench, server, "-c", connections, "-d", depth)
                    yield ("pipelined", server.name, "read 10", connections, depth, 0, number,
                           figures)


def open_loop(bench, main, others):
    for number in range(3 * ROUNDS):
        for rate in RATES:
            for server in turns(main, number) + (others if number == 0 else []):
                if number >= ROUNDS and (rate != 10000 or server.name == STOCK):
                    continue  # the goal's own row is looked at more often
                figures = load(bench, server, "-c", 1000, "-r", rate, *LOADS["10 % writes"],
                               seconds=2 * SECONDS)
                yield "open", server.name, "10 % writes", 1000, 1, rate, number, figures


def system_calls(bench, main, _):
    for number in range(ROUNDS):
        for connections in (10, 100):
            for server in turns(main, number):
                figures = load(bench, server, "-c", connections, "-s")
                yield ("calls", server.name, "read 10", connections, 1, 0, number,
                       {k: v for k, v in figures.items() if k == "calls"})


# ---- at rest ----

def status_of(path, key):
    with open(path) as f:
        return int(next(line for line in f if line.startswith(key + ":")).split()[1])


def resident_kib(process):
    return status_of(f"/proc/{process.pid}/status", "VmRSS")


def wakeups(process):
    tasks = f"/proc/{process.pid}/task"
    return sum(status_of(f"{tasks}/{task}/status", "voluntary_ctxt_switches")
               for task in os.listdir(tasks))


def at_rest(bench):
    """Memory with 10 clients that have asked for everything, with 1000 idle ones more, and how
    often the process wakes up with 100."""
    ours = gateway(bench, bench.sim(prefix=ON_CLIENT_CPU))
    clients = [ours.client() for _ in range(10)]
    for client in clients:
        for first in range(7000, 7500, 125):
            client.read(first, 125)
        client.power(7400)
    until(lambda: clients[0].u16(7301) == STAGE_EFFECTIVE, "the car charges", limit_s=60)
    time.sleep(SETTLE_S)
    few_kib = resident_kib(ours.process)
    clients += [ours.client() for _ in range(90)]
    clients[-1].read(7000, 1)
    before, since = wakeups(ours.process), time.monotonic()
    time.sleep(IDLE_S)
    rate = (wakeups(ours.process) - before) / (time.monotonic() - since)
    clients += [ours.client() for _ in range(910)]
    clients[-1].read(7000, 1)
    many_kib = resident_kib(ours.process)
    for client in clients:
        client.close()
    yield "idle", OURS, "100 clients", 100, 0, 0, 0, {"wakeups": rate}
    yield "memory", OURS, "one circuit", 10, 0, 0, 0, {"rss_kib": few_kib}
    yield "memory", OURS, "one circuit", 1010, 0, 0, 0, {"rss_kib": many_kib}


def world_of(circuits):
    return {"accounts": [{"user": harness.USER, "password": harness.PASSWORD}],
            "sites": [{"id": 1, "key": "ABCD-1234", "account": harness.USER, "circuits": [
                {"id": n, "panel": n, "chargers": [{"serial": f"EH{n:06}"}]}
                for n in range(1, circuits + 1)]}]}


def with_circuits(bench, circuits):
    """A gateway with CIRCUITS circuits, all found and written."""
    name = f"{circuits}-circuits"
    os.makedirs(os.path.join(bench.folder, name))
    world = bench.write(os.path.join(name, "world"), json.dumps(world_of(circuits)))
    sim = bench.sim("--world", world, name=name, prefix=ON_CLIENT_CPU)
    ours = gateway(bench, sim, name=name, circuits="\n".join(
        f"[circuit c{n}]\nunit = {n}\nsite = ABCD-1234\ncircuit = {n}\nmax_current = 32\n"
        + harness.TIMES for n in range(1, circuits + 1)))
    client = ours.client()
    for unit in range(1, circuits + 1):
        until(lambda unit=unit: client.u16(7130, unit) == STREAMING, "streaming", limit_s=60)
        client.read(7000, 125, unit)
        client.power(7400, unit)
    until(lambda: client.u16(7301) >= STAGE_CONFIRMED, "the setpoint is confirmed")
    return ours


def of_circuits(bench):
    """Memory with one circuit and with many, once nothing has happened for some seconds."""
    gateways = {n: with_circuits(bench, n) for n in (1, SERVED_UNITS)}
    time.sleep(SETTLE_S)
    for circuits, ours in gateways.items():
        yield "memory", OURS, "per circuit", circuits, 0, 0, 0, {
            "rss_kib": resident_kib(ours.process)}


# ---- writes ----

class Line:
    """A TLS line to a simulated cloud of its own, with a clock in the middle."""

    def __init__(self, bench, name, tls):
        self.sim = bench.sim(name=name, prefix=ON_CLIENT_CPU, cert=tls[1], key=tls[2])
        self.port, self.ca = harness.free_port(), tls[0]
        self.url = f"https://127.0.0.1:{self.port}"
        self.wire = program(bench, f"{harness.BUILD}/bench/wire", str(self.port),
                            str(self.sim.port), prefix=ON_CLIENT_CPU)
        until(lambda: listens(self.port), "wire listens")

    def first_byte_us(self, since_ns):
        """When the first one left after SINCE_NS, relative to it."""
        def seen():
            return next((t for t in map(int, self.wire.log().split()) if t > since_ns), None)
        return (until(seen, "the request", interval_s=0.001) - since_ns) / 1000


class Bare:
    """The libcurl loop, triggered by its eventfd."""

    def __init__(self, bench, name, tls):
        self.line, self.trigger = Line(bench, name, tls), os.eventfd(0)
        self.helper = program(bench, f"{harness.BUILD}/bench/multi", str(self.trigger),
                              self.line.url + "/", self.line.ca, pass_fds=(self.trigger,))

    def write(self, number):
        del number
        time.sleep(PAUSE_S)
        since = time.monotonic_ns()
        os.eventfd_write(self.trigger, 1)
        return {"first_byte_us": self.line.first_byte_us(since)}


class Writer:
    """A gateway that is written to."""

    def __init__(self, bench, name, tls):
        self.line = Line(bench, name, tls)
        self.client = gateway(bench, None, api=self.line.url, name=name,
                              easee=f"ca_file = {tls[0]}").client()

    def write(self, number):
        """A write is accepted when the client has its answer."""
        time.sleep(PAUSE_S)
        since = time.monotonic_ns()
        self.client.write(7200, number + 1, 1, 0, 690 * (8 + number % 2 * 2))
        answer_us = (time.monotonic_ns() - since) / 1000
        first_us = self.line.first_byte_us(since)
        until(lambda: self.client.u16(7302) == number + 1, "stage 4", interval_s=0.0005)
        confirmed_ms = (time.monotonic_ns() - since) / 1e6
        command = self.line.sim.charger()["last_command"]
        own_ms = command["answered_ms"] - command["sent_ms"]
        return {"first_byte_us": first_us, "accepted_us": first_us - answer_us,
                "answer_us": answer_us, "confirmed_ms": confirmed_ms,
                "above_charger_ms": confirmed_ms - own_ms}


def writes(bench):
    """From a write to the first byte of its request, and on to the confirmation; beside the bare
    loop.  The state is on a disk of memory where there is one, since it is durable before a
    request leaves, and how long that takes is the disk's affair; and once on this one's."""
    ca = authority(bench, "ours")
    tls = (ca, *certificate(bench, ca))
    disk = bench.stack.enter_context(harness.tempfile.TemporaryDirectory(dir="/var/tmp"))
    bare = [Bare(bench, f"bare{n}", tls) for n in range(2)]
    ours = [Writer(bench, f"gateway{n}", tls) for n in range(WRITING_GATEWAYS)]
    on_disk = Writer(bench, os.path.join(disk, "gateway"), tls)
    for number in range(WRITES):
        for n, writer in enumerate(ours):
            turn = number * len(ours) + n
            yield "write", "libcurl", "memory", 1, 1, 0, turn, bare[n % 2].write(number)
            yield "write", OURS, "memory", 1, 1, 0, turn, writer.write(number)
        yield "write", OURS, "disk", 1, 1, 0, number, on_disk.write(number)


def circuits_at_once(bench):
    """How long until the newest wishes of 256 circuits are sent, and the budget's own bound."""
    line = bench.run(f"{harness.BUILD}/bench/circuits", stderr=None)
    took_s, bound_s = map(float, line.split())
    yield "circuits", OURS, "256", 256, 0, 0, 0, {"sent_s": took_s, "bound_s": bound_s}


def serving(*measurements):
    """A stage: MEASUREMENTS of the servers side by side."""
    def stage(bench):
        main, others = serve(bench)
        for measure in measurements:
            yield from measure(bench, main, others)
    return stage


STAGES = {"serve": serving(closed_loop, pipelined, system_calls), "open": serving(open_loop),
          "rest": at_rest, "circuits": of_circuits, "writes": writes, "once": circuits_at_once}


def run(stage):
    """Yields every row of STAGE: (stage, server, load, connections, depth, rate, round, figure,
    value)."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with harness.tempfile.TemporaryDirectory(prefix="evecc-bench-", dir=memory) as folder, \
            contextlib.ExitStack() as stack:
        bench = harness.Bench(stack, folder)
        bench.helpers = []
        for *what, figures in STAGES[stage](bench):
            for figure, value in figures.items():
                yield (*what, figure, value)
        bench.close()
