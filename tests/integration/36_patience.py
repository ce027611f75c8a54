#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Waiting: the gateway does nothing meanwhile, and what works is not given up for a question that
the cloud no longer answers."""
import os
import time

import harness
from faulty import Clock
from harness import CONNECTION_BLOCKED, WATTS, arrives, equal, note, settled, until

REFRESH = "/api/accounts/refresh_token"
NOT_FOUND = 1 << 5  # 7128


def busy(gateway, seconds=3):
    """The share of a processor that GATEWAY uses."""
    def used_s():
        with open(f"/proc/{gateway.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = used_s()
    time.sleep(seconds)  # the time that is measured
    share = (used_s() - before) / seconds
    note(f"{100 * share:.1f} % of a processor")
    return share


def test_a_block_is_waited_for(bench):
    """Refused by the hub, which is tried again in ten minutes, then blocked for an hour."""
    clock = Clock(bench)
    sim = bench.sim()
    sim.fault(path="/hubs", status=401, count=-1)
    sim.fault(path=REFRESH, status=403, count=-1)
    gateway = bench.gateway(sim, env=clock.env)
    client = gateway.client()
    until(lambda: sim.ledger(path="/hubs"), "it tried the hub")
    clock.set(suspended_s=60)  # between login and refresh
    until(lambda: client.u16(7130) == CONNECTION_BLOCKED, "blocked")
    clock.set(suspended_s=12 * 60)
    client.power(WATTS[9])  # wakes it
    calls = len(sim.ledger())
    assert busy(gateway) < 0.2, "the cloud thread does not rest"
    equal(client.u16(7130), CONNECTION_BLOCKED, "connection")
    equal(len(sim.ledger()), calls, "calls during the block")


def test_a_question_that_is_not_answered_stops_nothing(bench):
    """A minute after its start the gateway asks where a remembered circuit is."""
    clock = Clock(bench)
    sim, gateway, _ = settled(bench)
    gateway.stop()
    sim.fault(method="GET", path="/api/sites", status=404, count=-1)
    mark = len(sim.ledger())
    gateway = bench.again(gateway, env=clock.env)
    client = gateway.client()
    client.power(WATTS[12])
    arrives(sim, client, 12)
    clock.set(suspended_s=61)
    until(lambda: [e for e in sim.ledger("GET", since=mark) if e["status"] == 404], "it asked")
    client.power(WATTS[9])
    arrives(sim, client, 9)
    equal(client.u32(7128) & NOT_FOUND, 0, "fault bit 5")


if __name__ == "__main__":
    harness.main(globals())
