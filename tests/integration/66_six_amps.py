#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Chargers that wait, or stay stopped, at exactly 6 A (easee-api 9)."""
import time

import harness
from harness import SERIAL, equal, note, until

CHARGING = 3


def charging(bench, quirk, **options):
    """(sim, client) with three phases charging at 10 A, and QUIRK."""
    circuits = harness.CIRCUIT.format(which="site = ABCD-1234\ncircuit = 1")
    circuits = circuits.replace("phase_pause = 1", "phase_pause = 30")
    for name, value in options.items():
        circuits += f"{name} = {value}\n"
    sim = bench.sim()
    sim.set(quirks={quirk: True})
    client = bench.gateway(sim, circuits=circuits).client()
    client.power(6910)
    until(lambda: sim.charger()["current"] == [10, 10, 10], lambda: f"it charges: {sim.charger()}",
          60)
    return sim, client


def test_three_to_one_at_6_a_is_not_stuck(bench):
    sim, client = charging(bench, "stuck_at_6")
    client.power(1400)
    seen = []

    def look():
        now = sim.currents()
        if not seen or seen[-1] != now:
            seen.append(now)
        assert sum(now) * 230 <= 1400 or now == [10, 10, 10], now
        return sim.charger()["current"] == [6, 0, 0]

    started = time.monotonic()
    until(look, lambda: f"6 A flow on L1: {sim.charger()} {seen}", 90, 0.1)
    equal(seen[-2:], [[0, 0, 0], [6, 0, 0]], "limits")
    note(f"charges at 6 A on one phase {time.monotonic() - started:.0f} s after it was asked for")
    until(lambda: client.u16(7104) == 1 and client.u16(7301) == harness.STAGE_EFFECTIVE,
          lambda: f"effective: {client.setpoint()}")


def test_three_to_one_at_7_a_needs_no_pause(bench):
    sim, client = charging(bench, "stuck_at_6")
    client.power(1620)
    until(lambda: sim.charger()["current"] == [7, 0, 0], lambda: f"7 A flow on L1: {sim.charger()}",
          60)
    assert [0, 0, 0] not in [list(b.values()) for b in sim.setpoints()], sim.setpoints()


def starts_at_6_a(bench, boost):
    sim, client = charging(bench, "start_at_6_wait", start_boost=boost)
    client.power(0)
    until(lambda: sim.charger()["op_mode"] != CHARGING, "paused", 60)
    client.power(4200)
    until(lambda: sim.currents() == [6, 6, 6], "6 A are allowed", 60)
    return sim, client


def test_start_boost_does_not_wait(bench):
    sim, _ = starts_at_6_a(bench, "yes")
    until(lambda: sim.charger()["current"] == [6, 6, 6], lambda: f"6 A flow: {sim.charger()}", 60)
    equal([b["dynamicCircuitCurrentP1"] for b in sim.setpoints()], [10, 0, 7, 6], "setpoints")


def test_without_it_the_limit_is_kept(bench):
    """It waits, which is shown; more than the limit is not sent."""
    sim, client = starts_at_6_a(bench, "no")
    equal([b["dynamicCircuitCurrentP1"] for b in sim.setpoints()], [10, 0, 6], "setpoints")
    until(lambda: client.u16(7301) >= harness.STAGE_CONFIRMED and client.u32(7108) == 0,
          "confirmed, no power")


if __name__ == "__main__":
    harness.main(globals())
