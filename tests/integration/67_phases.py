#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""One phase and three, judged by what flows: dwell, daily cap, the pause, where it may not be."""
import harness
from harness import SERIAL, equal, note, throughout, until

DWELL, MIN_CURRENT = 8, 7  # binding limit
PHASE_SWITCHING = 1  # bit of 7010
IT_GRID = 4
ONE_W, THREE_W = 3000, 11000
ONE, THREE, PAUSE = [13, 0, 0], [15, 15, 15], [0, 0, 0]


def start(bench, **options):
    """(sim, gateway, client), with OPTIONS in the place of the short times."""
    circuits = harness.CIRCUIT.format(which="site = ABCD-1234\ncircuit = 1")
    for name, value in options.items():
        line = f"{name} = 1\n"
        circuits = circuits.replace(line, "") + f"{name} = {value}\n"
    sim = bench.sim()
    gateway = bench.gateway(sim, circuits=circuits)
    return sim, gateway, gateway.client()


def flows(sim, client, amps, limit_s=40):
    """Until the car draws AMPS, and the registers say so."""
    phase = {0: 0, 1: 10, 3: 30}[sum(a > 0 for a in amps)]
    until(lambda: sim.charger()["current"] == amps, lambda: f"{amps}: {client.setpoint()}", limit_s)
    if phase:
        equal(sim.charger()["output_phase"], phase, "outputPhase")
    until(lambda: [client.u32(a) for a in (7110, 7112, 7114)] == [1000 * a for a in amps],
          lambda: f"{amps} in 7110: {client.read(7110, 6)}")
    until(lambda: client.u16(7104) == sum(a > 0 for a in amps), "phases in use")


def sent(sim):
    return [[b[f"dynamicCircuitCurrentP{p}"] for p in (1, 2, 3)] for b in sim.setpoints()]


def test_dwell(bench):
    """The limit is kept meanwhile: too little for three phases pauses, one carries what it may."""
    sim, _, client = start(bench, phase_dwell=15)
    client.power(THREE_W)
    flows(sim, client, THREE)
    client.power(ONE_W)  # the first change: nothing to wait for
    until(lambda: sim.currents() == ONE, "one phase")
    equal(client.u16(7337), 1, "phase switches")

    client.power(THREE_W)
    until(lambda: client.u16(7322) == DWELL, lambda: f"dwell: {client.setpoint()}")
    left_s = client.u16(7330)
    assert 0 < left_s <= 15, f"dwell {left_s} s"
    until(lambda: sim.currents() == [16, 0, 0], "one phase, as much as it may")
    until(lambda: sim.currents() == THREE, "three phases", 40)
    equal((client.u16(7330), client.u16(7322)), (0, 1), "dwell, binding limit: power")

    client.power(ONE_W)
    until(lambda: client.u16(7322) == DWELL and client.u16(7330) > 0,
          lambda: f"dwell: {client.setpoint()}")
    until(lambda: sim.currents() == PAUSE, "4 A on each of three phases are a pause")
    flows(sim, client, ONE)
    equal(client.u16(7337), 3, "phase switches")
    equal(sent(sim), [THREE, ONE, [16, 0, 0], PAUSE, THREE, PAUSE, ONE], "setpoints")
    times = [e["t_ms"] for e in sim.ledger("POST", harness.SETTINGS)]
    for before, after in ((1, 4), (4, 6)):
        apart_s = (times[after] - times[before]) / 1000
        assert apart_s > 14, f"{apart_s} s between two changes"


def test_daily_cap(bench):
    sim, gateway, client = start(bench, phase_switches_per_day=2)
    for watts, amps in ((THREE_W, THREE), (ONE_W, ONE), (THREE_W, THREE)):
        client.power(watts)
        flows(sim, client, amps)
    equal(client.u16(7337), 2, "phase switches")
    client.power(ONE_W)
    flows(sim, client, PAUSE)
    equal(client.u16(7322), DWELL, "binding limit")
    assert client.u16(7330) > 65000, f"until tomorrow: {client.u16(7330)} s"

    gateway.process.kill()  # what was counted outlives it
    gateway.wait()
    client = bench.gateway(sim, circuits=gateway.settings["circuits"]).client()
    until(lambda: client.u16(7337) == 2 and client.u16(7330) > 65000,
          lambda: f"{client.u16(7337)} switches, dwell {client.u16(7330)} s")
    mark = len(sent(sim))
    client.power(4200)
    flows(sim, client, [6, 6, 6])
    equal(sent(sim)[mark:][-1], [6, 6, 6], "setpoint")
    equal(client.u16(7337), 2, "phase switches")


def test_grid_without_neutral(bench):
    """There P2 = P3 = 0 is not one phase (easee-api 9.1): never sent, whatever is asked for."""
    sim = bench.sim()
    sim.set(charger=SERIAL, grid_type=IT_GRID)
    client = bench.gateway(sim).client()
    for mode, watts, amps in ((0, 7400, [10] * 3), (0, ONE_W, PAUSE), (1, 7400, [10] * 3),
                              (1, ONE_W, PAUSE)):
        client.write_one(7208, mode)
        client.power(watts)
        until(lambda a=amps: sim.currents() == a and client.u16(7301) >= harness.STAGE_CONFIRMED,
              lambda m=mode, w=watts: f"mode {m}, {w} W: {client.setpoint()}")
        equal(client.u32(7010) & PHASE_SWITCHING, 0, "phase switching")
    equal(client.u16(7322), MIN_CURRENT, "binding limit")
    for amps in sent(sim):
        equal(len(set(amps)), 1, f"phases of {amps}")


def one_to_three(bench, pause_s, blind):
    """Seconds of the pause between one phase and three."""
    sim, _, client = start(bench, phase_pause=pause_s)
    client.power(ONE_W)
    flows(sim, client, ONE)
    if blind:
        sim.set(hub={"no_data": True})
        sim.fault(path="/state/", status=500, count=-1)
    client.power(THREE_W)
    until(lambda: sim.charger()["current"] == THREE, lambda: f"three: {client.setpoint()}", 60)
    equal(sent(sim)[-2:], [PAUSE, THREE], "setpoints")
    times = [e["t_ms"] for e in sim.ledger("POST", harness.SETTINGS)]
    return (times[-1] - times[-2]) / 1000


def test_pause_ends_when_it_no_longer_charges(bench):
    took_s = one_to_three(bench, 30, False)
    note(f"a pause of {took_s:.1f} s")
    assert took_s < 15, f"{took_s} s"


def test_pause_ends_after_its_time(bench):
    """Nobody says whether it still charges."""
    took_s = one_to_three(bench, 8, True)
    note(f"a pause of {took_s:.1f} s")
    assert 7 < took_s < 20, f"{took_s} s"


def test_6_a_both_ways(bench):
    """The first setpoint finds a charge on three phases that would stay stopped at 6 A on one;
    three start at 7 A when asked for, as some chargers wait five minutes at 6 A."""
    sim, _, client = start(bench, start_boost="yes")
    sim.set(quirks={"start_at_6_wait": True, "stuck_at_6": True})
    until(lambda: client.u16(7104) == 3, "it charges on three phases")
    client.power(1400)
    flows(sim, client, [6, 0, 0])
    client.power(4200)
    flows(sim, client, [6, 6, 6])
    equal(sent(sim), [PAUSE, [7, 0, 0], [6, 0, 0], PAUSE, [7, 7, 7], [6, 6, 6]], "setpoints")


if __name__ == "__main__":
    harness.main(globals())
