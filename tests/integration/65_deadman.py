#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Time-to-live in the cloud: the limit is never exceeded, whatever the cloud does with a repeated
value (easee-api 11.2) and with a setpoint that lapses (11.1)."""
import signal
import time

import harness
from harness import Skip, equal, note, until

CIRCUITS = """\
[circuit garage]
unit = 1
site = ABCD-1234
circuit = 1
max_current = 16
deadman = 1
""" + harness.TIMES.replace("increase_interval = 1", "increase_interval = 15")
OFFLINE, MAXIMUM = 8, 32  # what a lapsed setpoint may end at
LIFE_S = 60
EXPIRIES = "offline", "maximum", "never"
LIMITS = {"10 A": (6910, [10, 10, 10]), "6 A on one phase": (1400, [6, 0, 0]),
          "a pause": (0, [0, 0, 0])}


def cloud(bench, name, forwards, expiry, stream=True):
    sim = bench.sim(name=name)
    sim.set(forward_same=forwards)
    sim.set(ttl_expiry=expiry)
    sim.set(circuit=12345, offline=[OFFLINE] * 3)
    if not stream:
        sim.fault(path="/hubs/", status=404, count=-1)
    return sim


def ttl_s(sim):
    """Seconds that are left of the circuit's time-to-live; None: it has none."""
    return sim.circuit()["ttl_s"]


class Watched:
    """A gateway with one limit in one kind of cloud, and the worst that was seen of it."""

    def __init__(self, bench, name, forwards, expiry, watts, amps, stream):
        self.name, self.amps, self.least_s, self.had = name, amps, LIFE_S, False
        self.sim = cloud(bench, name, forwards, expiry, stream)
        self.client = bench.gateway(self.sim, name=name, circuits=CIRCUITS).client()
        self.client.power(watts)
        until(lambda: self.sim.currents() == amps and
              self.client.u16(7301) >= harness.STAGE_CONFIRMED,
              lambda: f"{name}: {self.client.setpoint()}")

    def look(self):
        now = self.sim.currents()
        assert all(a <= most for a, most in zip(now, self.amps)), f"{self.name}: {now} A"
        assert self.amps[0] <= 6 or now[0] >= self.amps[0] - 1, f"{self.name}: {now} A"
        left_s = ttl_s(self.sim)
        self.had = self.had or left_s is not None
        self.least_s = min(self.least_s, LIFE_S if left_s is None else left_s)

    def remark(self):
        renewals = f"{len(self.sim.setpoints()) - 1} renewals, {self.least_s:.0f} s left at least"
        return f"{self.name}: {renewals if self.had else 'no time-to-live'}"


def never_above(forwards, stream):
    def test(bench):
        if harness.SANITIZED and not stream:
            raise Skip("the other way is enough under a sanitizer")
        several = stream and not harness.SANITIZED
        watched = [Watched(bench, f"{name}, {expiry}", forwards, expiry, *limit, stream)
                   for expiry in (EXPIRIES if several else ("maximum",))
                   for name, limit in LIMITS.items()]
        ends = time.monotonic() + 1.3 * LIFE_S

        def look():
            for w in watched:
                w.look()
            return time.monotonic() > ends

        until(look, "more than a life", 3 * LIFE_S, 0.3)
        for w in watched:
            room = w.amps[0] > 6
            assert w.had == (room or forwards), f"{w.name}: a time-to-live {w.had}"
            assert w.least_s > 2, f"{w.name}: {w.least_s} s were left"
            equal(w.client.u32(7128), 0, "faults")
            note(w.remark())

    test.__name__ = (f"test_repetition_{'heard' if forwards else 'swallowed'}"
                     f"{'' if stream else '_polling'}")
    return test


for by_stream in (True, False):
    for heard in (True, False):
        function = never_above(heard, by_stream)
        globals()[function.__name__] = function


def test_the_gateway_dies(bench):
    """What it is for; and what it comes to if a setpoint lapses differently."""
    sims = {expiry: cloud(bench, expiry, True, expiry) for expiry in EXPIRIES}
    for expiry, sim in sims.items():
        gateway = bench.gateway(sim, name=expiry, circuits=CIRCUITS)
        gateway.client().power(6910)
        until(lambda s=sim: s.currents() == [10, 10, 10], "10 A")
        gateway.process.send_signal(signal.SIGKILL)
        gateway.wait()
    killed = time.monotonic()

    def currents():
        return [sims[expiry].currents()[0] for expiry in EXPIRIES]

    until(lambda: currents() == [OFFLINE, MAXIMUM, 10], lambda: f"lapsed: {currents()}",
          LIFE_S + 10, 0.3)
    note(f"{dict(zip(EXPIRIES, currents()))} A, {time.monotonic() - killed:.0f} s after the kill")


def test_a_restart_renews_what_may_live_since_before(bench):
    sim = cloud(bench, "", False, "maximum")
    gateway = bench.gateway(sim, circuits=CIRCUITS)
    gateway.client().power(6910)
    until(lambda: sim.currents() == [10, 10, 10], "10 A")
    until(lambda: ttl_s(sim) < LIFE_S - 15, "a quarter of its life", 30)
    gateway.process.send_signal(signal.SIGKILL)
    gateway.wait()
    client = bench.gateway(sim, circuits=CIRCUITS).client()
    ends = time.monotonic() + 1.2 * LIFE_S
    equal(client.u32(7202), 6910, "power limit")

    def look():
        assert all(a <= 10 for a in sim.currents()), sim.currents()
        return time.monotonic() > ends

    until(look, "more than a life", 2 * LIFE_S, 0.3)


if __name__ == "__main__":
    harness.main(globals())
