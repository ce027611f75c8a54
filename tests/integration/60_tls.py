#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""TLS: a trusted cloud is used; any other gets neither a name nor a password, and 7303 says
which of the things that can be wrong it was."""
import os

import harness
from faulty import authority, certificate
from harness import equal, until

EXPIRED, HOST, AUTHORITY = 15, 16, 17  # register 7303


def test_trusted(bench):
    ca = authority(bench, "ours")
    cert, key = certificate(bench, ca)
    sim = bench.sim(cert=cert, key=key)
    client = bench.gateway(sim, easee=f"ca_file = {ca}").client()
    client.power(7400)
    until(lambda: sim.currents() == [10, 10, 10], lambda: f"10/10/10: {client.setpoint()}")
    until(lambda: client.u16(7130) == 3, "streaming over TLS")
    assert all(e["tls"] for e in sim.ledger()), "every call is encrypted"


def refused(bench, result, ca_file, cert, key):
    sim = bench.sim(cert=cert, key=key)
    client = bench.gateway(sim, easee=f"ca_file = {ca_file}").client()
    client.power(7400)
    until(lambda: client.u16(7303) == result, lambda: f"result {result}: {client.setpoint()}")
    assert client.text(7440, 20), "the last error in words"
    equal(sim.ledger(), [], "requests that reached the cloud")


def test_expired(bench):
    ca = authority(bench, "ours")
    refused(bench, EXPIRED, ca, *certificate(bench, ca, not_after="20210101000000Z"))


def test_wrong_host(bench):
    ca = authority(bench, "ours")
    refused(bench, HOST, ca, *certificate(bench, ca, names="DNS:example.org"))


def test_unknown_authority(bench):
    theirs = authority(bench, "theirs")
    refused(bench, AUTHORITY, authority(bench, "ours"), *certificate(bench, theirs))


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
