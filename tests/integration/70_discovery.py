#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Which circuit is meant: by keys, by ids, by a charger; asked once and remembered."""
import harness
from harness import SERIAL, TIMES, equal, until


def reaches(sim, client, amps, circuit=12345, unit=None):
    until(lambda: sim.currents(circuit) == amps,
          lambda: f"{amps} on {circuit}: {client.setpoint(unit)}")


def finds(bench, which):
    sim = bench.sim()
    gateway = bench.gateway(sim, which=which)
    client = gateway.client()
    client.power(7400)
    reaches(sim, client, [10, 10, 10])
    until(lambda: client.text(7036, 8) == SERIAL, "serial number of the charger")
    return sim, gateway, client


def test_site_key_and_panel(bench):
    finds(bench, "site = ABCD-1234\ncircuit = 1")


def test_ids(bench):
    finds(bench, "site = 54321\ncircuit = id:12345")


def test_site_alone(bench):
    """Its only circuit."""
    finds(bench, "site = ABCD-1234")


def test_charger_alone(bench):
    finds(bench, f"charger = {SERIAL}")


def test_several_circuits(bench):
    """Three circuits on two sites, one token, one discovery per site."""
    circuits = "\n".join(f"[circuit c{unit}]\nunit = {unit}\nmax_current = 32\n{which}\n{TIMES}"
                         for unit, which in ((1, "site = ABCD-1234"),
                                             (2, "site = EFGH-5678\ncircuit = 1"),
                                             (3, "site = EFGH-5678\ncircuit = 2")))
    sim = bench.sim()
    client = bench.gateway(sim, circuits=circuits).client()
    for unit, circuit, watts, amps in ((1, 12345, 7400, [10, 10, 10]),
                                       (2, 12346, 9000, [13, 13, 13]),
                                       (3, 12347, 3000, [13, 0, 0])):
        client.power(watts, unit)
        reaches(sim, client, amps, circuit, unit)
    equal(len(sim.ledger("POST", "/api/accounts/login")), 1, "logins")
    equal([client.u16(7007, u) for u in (1, 2, 3)], [1, 2, 3], "index of each circuit")
    equal(client.u16(7008, 1), 3, "circuits behind the gateway")


if __name__ == "__main__":
    harness.main(globals())
