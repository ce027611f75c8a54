#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A Modbus write becomes a circuit limit: from the register to the simulated car and back."""
import time

import harness
from harness import STAGE_CONFIRMED, equal, until

BINDING_POWER, BINDING_MAXIMUM, BINDING_MINIMUM = 1, 6, 7  # register 7322


def confirmed(client, unit=None):
    """The acknowledgement block once nothing is under way any more."""
    last = {}

    def holds():
        last.update(client.setpoint(unit))
        return last["stage"] >= STAGE_CONFIRMED and not last["pending"]

    until(holds, lambda: f"stage {STAGE_CONFIRMED} and nothing pending: {last}")
    return last


def write_and_check(bench, watts, amps, binding):
    sim = bench.sim()
    client = bench.gateway(sim).client()

    started = time.monotonic()
    client.power(watts)
    until(lambda: sim.currents() == amps, lambda: f"{amps} at the charger: {sim.circuit()}")
    harness.note(f"{watts} W: at the charger after {time.monotonic() - started:.2f} s")

    ack = confirmed(client)
    equal(ack["stage"], STAGE_CONFIRMED, "stage")
    for register in ("target", "sent", "confirmed"):
        equal(ack[register], [10 * a for a in amps], register)
    equal(ack["binding"], binding, "binding limit")
    equal(len(sim.setpoints()), 1, "calls that carry a setpoint")
    equal(sim.circuit()["flash_writes"], 0, "writes to the charger's flash")
    return sim, client


def test_7400_w(bench):
    write_and_check(bench, 7400, [10, 10, 10], BINDING_POWER)


def test_3000_w(bench):
    write_and_check(bench, 3000, [13, 0, 0], BINDING_POWER)


def test_4000_w(bench):
    """One phase could carry 17 A of it; `single_phase_max` is what binds."""
    write_and_check(bench, 4000, [16, 0, 0], BINDING_MAXIMUM)


def test_1200_w_is_too_little(bench):
    write_and_check(bench, 1200, [0, 0, 0], BINDING_MINIMUM)


def test_burst_sends_only_the_last(bench):
    sim = bench.sim()
    client = bench.gateway(sim).client()
    started = time.monotonic()
    for i in range(99):
        client.power(4200 + 100 * i)
        until(lambda at=started + (i + 1) * 0.01: time.monotonic() >= at, "the next turn",
              interval_s=0.001)
    client.power(5000)
    until(lambda: sim.currents() == [7, 7, 7], lambda: f"7/7/7 at the charger: {sim.circuit()}")
    ack = confirmed(client)
    equal(ack["confirmed"], [70, 70, 70], "confirmed")
    posts = sim.setpoints()
    assert len(posts) <= 2, f"at most 2 POSTs: {posts}"
    equal([posts[-1][f"dynamicCircuitCurrentP{p}"] for p in (1, 2, 3)], [7, 7, 7], "last POST")


def test_power_is_measured(bench):
    """7108 shows what the car takes once its ramp is over.  The gateway asks a charger for its
    state once a minute, so this takes a while."""
    sim, client = write_and_check(bench, 7400, [10, 10, 10], BINDING_POWER)
    until(lambda: sim.charger()["power_w"] > 6700, "the car's ramp")
    until(lambda: 6700 <= client.u32(7108) <= 7000, lambda: f"7108 is {client.u32(7108)} W", 90)
    equal(client.u16(7104), 3, "phases in use")


def test_starting_changes_nothing(bench):
    """No wish, no call: a gateway that starts leaves the charger alone."""
    sim = bench.sim()
    before = sim.currents()
    client = bench.gateway(sim).client()
    until(lambda: client.u16(7130) == harness.CONNECTION_STREAMING, "connection: streaming")
    until(lambda: client.u16(7131) == 1, "charger online")
    equal(sim.setpoints(), [], "calls that carry a setpoint")
    equal(sim.currents(), before, "currents")
    equal(client.u16(7301), 0, "stage")


if __name__ == "__main__":
    harness.main(globals())
