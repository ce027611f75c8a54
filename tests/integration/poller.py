#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A well-behaved client in a process of its own: reads the status block of gateways in turns.

    poller.py SOURCE PERIOD_MS PORT:PID...

From each time between request and answer it takes away how long this process and the gateway
(PID) were ready to run meanwhile and other programs had the processor; the kernel keeps count
(run_delay, /proc/PID/schedstat).  A gateway that sleeps or works does not wait.  For every line
on standard input it prints, as JSON, what it measured since the last one."""
import gc
import json
import os
import select
import struct
import sys
import time

import harness

READ = struct.pack(">BHH", 3, 7100, 40)


class Target:
    def __init__(self, port, pid, source):
        self.port, self.source = port, source
        self.times, self.errors, self.waited = [], [], 0
        self.schedstats = [os.open(f"/proc/{p}/schedstat", os.O_RDONLY) for p in (pid, "self")]
        self.client = harness.Modbus(port, source=source, timeout_s=5)

    def run_delay(self):
        return sum(int(os.pread(fd, 64, 0).split()[1]) for fd in self.schedstats)

    def poll(self):
        waited, started = self.run_delay(), time.perf_counter_ns()
        try:
            reply = self.client.reply(READ)
            assert len(reply) == 82, f"{len(reply)} bytes"
        except (OSError, AssertionError) as problem:
            self.errors.append(f"{type(problem).__name__}: {problem}")
            self.client.close()
            try:
                self.client = harness.Modbus(self.port, source=self.source, timeout_s=5)
            except OSError as refused:
                self.errors.append(f"again: {refused}")
        took = time.perf_counter_ns() - started
        waited = min(self.run_delay() - waited, took)
        self.times.append((took - waited) / 1e6)
        self.waited = max(self.waited, waited / 1e6)

    def take(self, period_ms):
        times, errors, waited = self.times or [0], self.errors, self.waited
        self.times, self.errors, self.waited = [], [], 0
        return {"n": len(times), "p50": harness.quantile(times, 0.5),
                "p99": harness.quantile(times, 0.99), "max": max(times), "waited": waited,
                "missed": sum(t > period_ms for t in times), "errors": errors[:5]}


def main():
    source, period_s = sys.argv[1], float(sys.argv[2]) / 1000
    targets = [Target(*map(int, target.split(":")), source) for target in sys.argv[3:]]
    gc.disable()
    due = time.monotonic()
    print(json.dumps("ready"), flush=True)
    while True:
        due = max(due + period_s, time.monotonic())
        if select.select([0], [], [], max(0, due - time.monotonic()))[0]:
            if not os.read(0, 4096):
                return
            print(json.dumps([t.take(1000 * period_s) for t in targets]), flush=True)
        for target in targets:
            target.poll()


if __name__ == "__main__":
    main()
