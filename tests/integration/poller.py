#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A well-behaved client in a process of its own: reads the status block of one gateway under
attack and of one that nobody attacks, in turns, so that a hiccup of the machine shows at both.

    poller.py SOURCE PERIOD_MS PORT CONTROL_PORT

For every line on standard input it prints, as JSON, what it measured since the last one."""
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
    def __init__(self, port, source):
        self.port, self.source = port, source
        self.times, self.errors = [], []
        self.client = harness.Modbus(port, source=source, timeout_s=5)

    def poll(self):
        started = time.perf_counter_ns()
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
        self.times.append((time.perf_counter_ns() - started) / 1e6)

    def take(self):
        times, errors, self.times, self.errors = self.times, self.errors, [], []
        if not times:
            return {"n": 0, "p50": 0, "p99": 0, "max": 0, "errors": errors}
        return {"n": len(times), "p50": harness.quantile(times, 0.5),
                "p99": harness.quantile(times, 0.99), "max": max(times), "errors": errors[:5]}


def main():
    source, period_s = sys.argv[1], float(sys.argv[2]) / 1000
    targets = [Target(int(port), source) for port in sys.argv[3:]]
    gc.disable()
    due = time.monotonic()
    print(json.dumps("ready"), flush=True)
    while True:
        due = max(due + period_s, time.monotonic())
        if select.select([0], [], [], max(0, due - time.monotonic()))[0]:
            if not os.read(0, 4096):
                return
            print(json.dumps([t.take() for t in targets]), flush=True)
        for target in targets:
            target.poll()


if __name__ == "__main__":
    main()
