# SPDX-License-Identifier: MIT
"""A catalogue as a table: number, what it is about, what is expected, and the function that
sees to it.  Every row is run, and the table is printed with the result of each.

A row's function receives the `Lab` of its suite and returns a remark (what was measured), or
None; it fails by an exception, as a test does.

    ./80_conformance.py --document   runs the suite and prints the table as a document
    ./80_conformance.py --check      does the committed document show these rows?
"""
import contextlib
import itertools
import os
import re
import struct
import sys
import tempfile
import threading
import time

import harness
from harness import equal

DOC = os.path.join(harness.TOP, "doc")
NOBODY = "http://127.0.0.1:9"

CONTROL, CONTROL_COUNT = 7200, 40
READ = struct.pack(">BHH", 3, 7000, 2)
MAGIC = b"\x03\x04EVGW"


class Row:
    def __init__(self, number, subject, expects, function, **options):
        self.number, self.subject, self.expects = number, subject, expects
        self.function, self.options = function, options
        self.result, self.remark, self.seconds = "not run", "", 0.0

    def run(self, *args, run=None):
        """Calls its function, or RUN to do so."""
        started = time.monotonic()
        try:
            self.remark = (run or self.function)(*args) or ""
            self.result = "passed"
        except harness.Skip as why:
            self.result, self.remark = "skipped", str(why)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the other rows run
            self.result, self.remark = "FAILED", f"{type(problem).__name__}: {problem}"
        self.seconds = time.monotonic() - started

    def line(self):
        return (f"# {self.number}  {self.result:7} {self.seconds:5.1f} s  {self.subject}: "
                f"{self.expects}" + (f" [{self.remark}]" if self.remark else ""))


class Table:
    """Collects rows by decorating their functions."""

    def __init__(self, document, title, preface):
        self.rows, self.document, self.title, self.preface = [], document, title, preface

    def row(self, number, subject, expects, **options):
        def add(function):
            self.rows.append(Row(number, subject, expects, function, **options))
            return function
        return add

    def select(self, numbers):
        return [r for r in self.rows if not numbers or r.number in numbers]

    def markdown(self, note):
        def cell(text):
            return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()

        lines = [f"# {self.title}", "", self.preface.strip(), "", note, "",
                 "| number | " + self.heading() + " | expected | result |", "|---|---|---|---|"]
        lines += [f"| {r.number} | {cell(r.subject)} | {cell(r.expects)} | "
                  f"{r.result}{': ' + cell(r.remark) if r.remark else ''} |" for r in self.rows]
        return "\n".join(lines) + "\n"

    def heading(self):
        return {"A": "attack", "C": "rule", "F": "fault"}[self.rows[0].number[0]]

    def check_document(self):
        """The committed document lists what the suite has, in words and in order."""
        def rows(text):
            return [line.split(" | ")[:3] for line in text.splitlines()
                    if re.match(r"\| [ACF]-\d", line)]

        with open(os.path.join(DOC, self.document), encoding="utf-8") as f:
            pairs = itertools.zip_longest(rows(f.read()), rows(self.markdown("")))
        for listed, wanted in pairs:
            equal(listed, wanted, f"row of doc/{self.document} (make docs-suites renews it)")

    def verdict(self, rows):
        for r in rows:
            print(r.line(), flush=True)
        bad = [r.number for r in rows if r.result == "FAILED"]
        harness.note(f"{len(rows)} rows, {len(bad)} failed, "
                     f"{sum(r.result == 'skipped' for r in rows)} skipped")
        assert not bad, "failed: " + ", ".join(bad)

    def main(self, test, module):
        if "--check" in sys.argv:
            self.check_document()
            return
        if "--document" not in sys.argv:
            harness.main(module)
        with tempfile.TemporaryDirectory(prefix="evecc-suite-") as folder, \
                contextlib.ExitStack() as stack, contextlib.redirect_stdout(sys.stderr):
            bench = harness.Bench(stack, folder)
            try:
                test(bench)
            finally:
                bench.close()
        print(self.markdown(f"Made by `make docs-suites` from a run of "
                            f"`tests/integration/{os.path.basename(sys.argv[0])}`."), end="")


class Lab:
    """What the rows of a suite share.  Every client comes from an address of its own, so that
    a limit per address only matters where a row is about it."""

    def __init__(self, bench, gateway, sim=None):
        self.bench, self.gateway, self.sim = bench, gateway, sim
        self.hosts = (f"127.{i // 62500 % 250 + 1}.{i // 250 % 250}.{i % 250 + 1}"
                      for i in itertools.count())
        self.local = threading.local()

    @contextlib.contextmanager
    def open_connections(self):
        """Closes in the end what client() opened meanwhile on this thread."""
        with contextlib.ExitStack() as stack:
            self.local.stack = stack
            yield

    def host(self):
        return next(self.hosts)

    def client(self, gateway=None, source=None, timeout_s=10):
        client = harness.Modbus((gateway or self.gateway).port, 1, timeout_s,
                                source or self.host())
        self.local.stack.callback(client.close)
        return client

    def control(self, client=None):
        return (client or self.client()).read(CONTROL, CONTROL_COUNT)

    @contextlib.contextmanager
    def unchanged(self, what="control block"):
        before = self.control()
        yield
        equal(self.control(), before, what)


def recv_all(client, limit_s):
    """What comes until the gateway closes; a failure when it does not in LIMIT_S."""
    client.socket.settimeout(limit_s)
    data = b""
    with contextlib.suppress(ConnectionResetError):
        try:
            while True:
                more = client.socket.recv(65536)
                if not more:
                    break
                data += more
        except TimeoutError:
            raise AssertionError(f"still open after {limit_s} s") from None
    return data


def closed_after(client, limit_s):
    """Seconds until the gateway closes; it says nothing before."""
    started = time.monotonic()
    equal(recv_all(client, limit_s), b"", "bytes before the end")
    return time.monotonic() - started


def silent(client, seconds=0.0):
    """Nothing comes; only sensible after an event that shows that nothing is on its way."""
    client.socket.settimeout(seconds or 0.001)
    with contextlib.suppress(TimeoutError, BlockingIOError):
        data = client.socket.recv(1)
        raise AssertionError(f"unasked: {data!r}" if data else "closed")
    client.socket.settimeout(10)


def best_ms(function, tries=3):
    """The shortest of some runs: what the gateway needs, without what the machine adds."""
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - started))
    return min(times)


def fc6(addr, value):
    return struct.pack(">BHH", 6, addr, value)


def fc16(addr, values, quantity=None, count=None):
    return struct.pack(f">BHHB{len(values)}H", 16, addr,
                       len(values) if quantity is None else quantity,
                       2 * len(values) if count is None else count, *values)


def fc23(read, quantity, write, values, written=None, count=None):
    return struct.pack(f">BHHHHB{len(values)}H", 23, read, quantity, write,
                       len(values) if written is None else written,
                       2 * len(values) if count is None else count, *values)


def header(length, transaction=1, protocol=0, unit=1):
    return struct.pack(">HHHB", transaction, protocol, length, unit)


def exception(function, code):
    return bytes([function | 0x80, code])


def process_facts(program):
    """Resident memory in KiB, processor time in s, open descriptors (None: not to be seen)."""
    pid = program.process.pid
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        rss = int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        descriptors = None
    return rss, cpu, descriptors
