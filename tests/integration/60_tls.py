#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""TLS: a trusted cloud is used, whatever the environment says.  The others, which get neither a
name nor a password, are F-22 in 62_faults_network.py."""
import os

import harness
from faulty import authority, certificate
from harness import until


def test_trusted(bench):
    ca = authority(bench, "ours")
    cert, key = certificate(bench, ca)
    sim = bench.sim(cert=cert, key=key)
    client = bench.gateway(sim, easee=f"ca_file = {ca}").client()
    client.power(7400)
    until(lambda: sim.currents() == [10, 10, 10], lambda: f"10/10/10: {client.setpoint()}")
    until(lambda: client.u16(7130) == 3, "streaming over TLS")
    assert all(e["tls"] for e in sim.ledger()), "every call is encrypted"


def test_hostile_environment(bench):
    """A-64: proxies and a key log of the environment are not obeyed."""
    ca = authority(bench, "ours")
    cert, key = certificate(bench, ca)
    key_log = os.path.join(bench.folder, "keylog")
    sim = bench.sim(cert=cert, key=key)
    hostile = {"SSLKEYLOGFILE": key_log, "https_proxy": "http://127.0.0.1:9",
               "ALL_PROXY": "http://127.0.0.1:9", "HOME": bench.folder}
    client = bench.gateway(sim, easee=f"ca_file = {ca}", env=hostile).client()
    client.power(7400)
    until(lambda: sim.currents() == [10, 10, 10], lambda: f"10/10/10: {client.setpoint()}")
    assert not os.path.exists(key_log), "TLS secrets were written"


if __name__ == "__main__":
    harness.main(globals())
