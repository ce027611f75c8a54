#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The attack catalogue, by number, against the real program, while a well-behaved client polls.

What holds in every row, whatever the attack: the gateway lives; the client on another connection
is answered within 5 ms at the 99th percentile and 50 ms at worst; registers change only by
answered writes; memory and connections come back; few log lines; no call to the cloud that no
accepted write asked for; less than half a processor where nobody asks much (rows that are `quiet`).

How long an answer takes is measured without the time in which the kernel let the gateway or the
client wait for a processor that others had (poller.py): that says how busy this machine is, not
what the gateway does.  What is left of the machine (the host below it, interrupts) shows at a
gateway that nobody attacks, polled in turns with the other.  It does not come again on purpose, a
stall of our making does: a row that is too slow is tried three times."""
import os
import time

import attacks
import harness
from attacks import ATTACKS
from harness import equal, until
from suite import process_facts

LIMITS_MS = {"p99": 5, "max": 50}
SECONDS = 0.5  # an attack that is over sooner is repeated for so long


def came_back(lab, before):
    """Connections, descriptors and memory are what they were."""
    lab.quiet()
    after = process_facts(lab.gateway)
    if None not in (before[2], after[2]):
        until(lambda: process_facts(lab.gateway)[2] <= before[2] + 2,  # the cloud's side may
              lambda: f"{process_facts(lab.gateway)[2]} descriptors, {before[2]} before", 8, 0.05)
    grown = after[0] - before[0]
    assert harness.SANITIZED or grown <= 1024, f"memory grew by {grown} KiB"


def run_attack(lab, row):
    """What the client that polls saw here and beside, and the row's remark."""
    lab.poller.take()
    before = process_facts(lab.gateway)
    control, lines = lab.control(), lab.gateway.log().count("\n")
    calls = len(lab.sim.setpoints())
    started = time.monotonic()
    while True:
        with lab.open_connections():
            remark = row.function(lab)
        if row.options.get("once") or time.monotonic() > started + SECONDS:
            break
    took = time.monotonic() - started
    stats, beside = lab.poller.take()
    assert lab.gateway.alive(), "the gateway ended: " + lab.gateway.log()[-2000:]
    equal(stats["errors"], [], "errors of the client that polls")
    share = (process_facts(lab.gateway)[1] - before[1]) / took
    assert share < 0.5 or not row.options.get("quiet"), f"{100 * share:.0f} % of a processor"
    came_back(lab, before)
    if row.options.get("writes"):
        lab.restore()
        if "last" not in row.options:  # the last ones leave much to send behind
            lab.settle()
    else:
        equal(lab.control(), control, "control block")
        equal(len(lab.sim.setpoints()), calls, "setpoint calls to the cloud")
    lines = lab.gateway.log().count("\n") - lines
    assert lines <= 40, f"{lines} log lines"
    seen = (f"p99 {stats['p99']:.2f} ms, max {stats['max']:.1f} ms "
            f"({beside['p99']:.2f}, {beside['max']:.1f})")
    if any(stats[key] > limit for key, limit in LIMITS_MS.items()):
        raise attacks.TooSlow(f"the client that polls waits: {seen}")
    return f"{seen}; {remark}" if remark else seen


def test_attacks(bench):
    attacks.raise_descriptors()
    lab = attacks.Field(bench)
    os.nice(10)  # the attackers' own work is not what is measured
    for row in sorted(ATTACKS.rows, key=lambda r: r.options.get("last", 0)):
        row.run(run_attack, lab, row, run=attacks.attempts)
    ATTACKS.verdict(ATTACKS.rows)


if __name__ == "__main__":
    ATTACKS.main(test_attacks, globals())
