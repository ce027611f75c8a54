#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Watchdog, validity and fallback: registers 7209 to 7214 and 7327 to 7329."""
import signal
import time

import harness
from faulty import Clock
from harness import NA16, SETTINGS, WATTS, arrives, equal, note, throughout, until

ARMED, TRIPPED = 1, 2
HOLD, PAUSE, LIMIT = 0, 1, 2
SUPERSEDED, FALLBACK = 8, 5  # stage, binding limit
LEAST_S = 10  # shortest watchdog


def start(bench, watchdog_s, action, fallback_da=NA16, phases=0, amps=10, **options):
    """(sim, gateway, client, when it was fed last) with AMPS in force."""
    sim = bench.sim()
    gateway = bench.gateway(sim, **options)
    client = gateway.client()
    client.write(7210, watchdog_s, action, 0 if fallback_da == NA16 else fallback_da, phases)
    client.power(WATTS[amps])
    fed = time.monotonic()
    arrives(sim, client, amps)
    return sim, gateway, client, fed


def trips(client, fed, least_s=LEAST_S - 0.1, most_s=LEAST_S + 1.5):
    """The watchdog trips at its time after FED."""
    equal(client.u16(7327), ARMED, "watchdog")
    assert 0 < client.u16(7328) <= LEAST_S, "seconds remaining"
    until(lambda: client.u16(7327) == TRIPPED, "it trips", 20)
    took_s = time.monotonic() - fed
    assert least_s < took_s < most_s, f"{took_s:.2f} s"
    equal(client.u16(7328), 0, "seconds remaining")
    equal(client.u32(7418), 1, "trips")


def test_pause_latches_until_a_setpoint(bench):
    sim, _, client, fed = start(bench, LEAST_S, PAUSE)
    trips(client, fed)
    until(lambda: sim.currents() == [0, 0, 0], "paused")
    note(f"paused {time.monotonic() - fed:.1f} s after the last write")
    until(lambda: client.u16(7301) == SUPERSEDED and client.u16(7322) == FALLBACK,
          lambda: f"stage 8, binding 5: {client.setpoint()}")
    equal(client.u32(7202), WATTS[10], "the wish as written")
    client.write_one(7214, 7)  # a heartbeat is no setpoint
    throughout(lambda: client.u16(7327) == TRIPPED and sim.currents() == [0, 0, 0], 2, "latched")
    client.power(WATTS[10])
    until(lambda: sim.currents() == [10, 10, 10] and client.u16(7327) == ARMED, "in force again")


def test_clearing_ends_it(bench):
    sim, _, client, fed = start(bench, LEAST_S, PAUSE)
    trips(client, fed)
    until(lambda: sim.currents() == [0, 0, 0], "paused")
    client.write_one(7216, 1)
    until(lambda: sim.currents() == [10, 10, 10] and client.u16(7327) == ARMED, "in force again")


def test_limit(bench):
    sim, _, client, fed = start(bench, LEAST_S, LIMIT, 60)
    trips(client, fed)
    until(lambda: sim.currents() == [6, 6, 6], "6 A")


def test_limit_never_raises(bench):
    sim, _, client, fed = start(bench, LEAST_S, LIMIT, 200, amps=8)
    trips(client, fed)
    throughout(lambda: sim.currents() == [8, 8, 8], 3, lambda: f"8 A: {sim.currents()}")
    equal(len(sim.setpoints()), 1, "setpoints")


def test_limit_on_one_phase(bench):
    sim, _, client, fed = start(bench, LEAST_S, LIMIT, 80, 1)
    trips(client, fed)
    until(lambda: sim.currents() == [8, 0, 0], lambda: f"8 A on L1: {client.setpoint()}")


def test_hold(bench):
    sim, _, client, fed = start(bench, LEAST_S, HOLD)
    trips(client, fed)
    throughout(lambda: sim.currents() == [10, 10, 10], 3, "held")
    equal(len(sim.setpoints()), 1, "setpoints")


def test_any_write_feeds_it_and_reads_do_not(bench):
    sim, gateway, client, _ = start(bench, LEAST_S, PAUSE)
    other = gateway.client()
    ends = time.monotonic() + 1.5 * LEAST_S
    beat = 0

    def feed():
        nonlocal beat
        beat += 1
        (client, other)[beat % 2].write_one(7214, beat)
        equal(client.u16(7326), beat, "heartbeat echo")
        equal(client.u16(7327), ARMED, "watchdog")
        return time.monotonic() > ends

    until(feed, "heartbeats for fifteen seconds", 30, 1)
    fed = time.monotonic()
    equal(sim.currents(), [10, 10, 10], "currents")
    until(lambda: other.read(7100, 40) and client.u16(7327) == TRIPPED, "reads do not feed it", 20)
    assert LEAST_S - 0.2 < time.monotonic() - fed < LEAST_S + 1.5


def test_a_refused_write_does_not_feed_it(bench):
    _, _, client, fed = start(bench, LEAST_S, PAUSE)

    def refused():
        try:
            client.write(7201, 2)
        except harness.ModbusError as error:
            equal(error.code, 3, "exception")
        return client.u16(7327) == TRIPPED

    until(refused, "it trips", 20)
    assert time.monotonic() - fed < LEAST_S + 1.5, "fed by a refused write"


def test_configured(bench):
    """The options set what the registers hold at the start; without a wish nothing is armed."""
    options = "fallback_action = limit\nfallback_current = 7\nfallback_phases = 3"
    circuits = harness.CIRCUIT.format(which="site = ABCD-1234\ncircuit = 1").replace(
        "watchdog = 0", f"watchdog = {LEAST_S}\n{options}")
    sim = bench.sim()
    client = bench.gateway(sim, circuits=circuits).client()
    equal(client.read(7210, 4), [LEAST_S, LIMIT, 70, 3], "7210 to 7213")
    equal(client.u16(7327), 0, "watchdog without a wish")
    client.power(WATTS[10])
    fed = time.monotonic()
    until(lambda: sim.currents() == [10, 10, 10], "in force")
    trips(client, fed)
    until(lambda: sim.currents() == [7, 7, 7], "7 A")


def test_validity(bench):
    """A setpoint is valid for its time whatever feeds the watchdog; then the fallback."""
    sim, _, client, _ = start(bench, 60, LIMIT, 60)
    client.write(7209, 6)
    client.power(WATTS[12])
    written = time.monotonic()
    until(lambda: sim.currents() == [12, 12, 12], "in force")
    assert 0 < client.u16(7329) <= 6, "validity remaining"

    def expired():
        client.write_one(7214, 1)
        return client.u16(7301) == SUPERSEDED

    until(expired, lambda: f"stage 8: {client.setpoint()}", 20)
    took_s = time.monotonic() - written
    assert 5.9 < took_s < 7.5, f"{took_s:.1f} s"
    until(lambda: sim.currents() == [6, 6, 6], "6 A")
    equal(client.u16(7329), 0, "validity remaining")
    equal(client.u16(7327), ARMED, "watchdog")


def test_expired_before_it_could_leave(bench):
    """N3: what is past its validity is never sent."""
    sim, _, client, _ = start(bench, 0, PAUSE)
    sim.fault(method="POST", path=SETTINGS, status=500, count=-1)
    client.write(7209, 3)
    client.power(WATTS[16])
    until(lambda: client.u16(7301) == SUPERSEDED, lambda: f"expired: {client.setpoint()}")
    sim.heal()
    until(lambda: sim.currents() == [0, 0, 0], "paused", 60)
    good = [e for e in sim.ledger("POST", SETTINGS) if e["status"] == 200]
    assert not any('"dynamicCircuitCurrentP1":16' in str(e["body"]).replace(" ", "")
                   for e in good), good


def test_trips_while_the_cloud_fails(bench):
    """The fallback leaves as soon as it can."""
    sim, _, client, fed = start(bench, LEAST_S, PAUSE)
    sim.fault(status=500, count=-1)
    trips(client, fed)
    equal(sim.currents(), [10, 10, 10], "currents")
    sim.heal()
    until(lambda: sim.currents() == [0, 0, 0], "paused", 60)


def test_stopped_for_longer_than_the_watchdog(bench):
    """SIGSTOP: what monotonic time justifies happens at once, and nothing else."""
    sim, gateway, client, fed = start(bench, LEAST_S, PAUSE)
    gateway.process.send_signal(signal.SIGSTOP)
    time.sleep(LEAST_S + 2 - (time.monotonic() - fed))  # the stop itself
    gateway.process.send_signal(signal.SIGCONT)
    until(lambda: client.u16(7327) == TRIPPED, "it trips", 2)
    until(lambda: sim.currents() == [0, 0, 0], "paused")


def test_a_write_that_waited_in_a_stop_counts_when_it_is_taken(bench):
    sim, gateway, client, _ = start(bench, LEAST_S, PAUSE)
    gateway.process.send_signal(signal.SIGSTOP)
    time.sleep(3)  # the stop itself
    client.send(client.frame(b"\x06\x1c\x2e\x00\x05"))  # 7214
    gateway.process.send_signal(signal.SIGCONT)
    client.answer()
    assert client.u16(7328) >= LEAST_S - 1, "fed"
    equal((client.u16(7327), sim.currents()), (ARMED, [10, 10, 10]), "watchdog and currents")


def test_clock_jumps_do_not_move_it(bench):
    clock = Clock(bench)
    sim, _, client, fed = start(bench, LEAST_S, PAUSE, env=clock.env)
    for unix_s in (0, time.time() + 3600, 2 ** 31 + 5):
        clock.show(unix_s)
        throughout(lambda: client.u16(7327) == ARMED, 1, "armed")
    trips(client, fed)
    until(lambda: sim.currents() == [0, 0, 0], "paused")


if __name__ == "__main__":
    harness.main(globals())
