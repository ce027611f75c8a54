#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""TLS: a trusted cloud is used; any other gets neither a name nor a password, and 7303 says
which of the things that can be wrong it was."""
import os

import harness
from harness import equal, until

EXPIRED, HOST, AUTHORITY = 15, 16, 17  # register 7303


def openssl(bench, *args):
    bench.run("openssl", *args, limit_s=30)


def authority(bench, name):
    """Path of a certificate authority's certificate; its key lies beside it."""
    path = os.path.join(bench.folder, name)
    openssl(bench, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", path + ".key",
            "-out", path + ".pem")
    return path + ".pem"


def certificate(bench, ca, names="IP:127.0.0.1", not_after=None):
    """(certificate, key) for the simulated cloud, signed by CA."""
    path = os.path.join(bench.folder, "cloud")
    openssl(bench, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=cloud", "-keyout", path + ".key", "-out", path + ".csr")
    bench.write("index.txt", "")
    bench.write("ca.conf", f"""\
[ca]
default_ca = it
[it]
database = {bench.folder}/index.txt
new_certs_dir = {bench.folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
unique_subject = no
[any]
commonName = supplied
[names]
subjectAltName = {names}
""")
    openssl(bench, "ca", "-batch", "-notext", "-config", os.path.join(bench.folder, "ca.conf"),
            "-cert", ca, "-keyfile", ca[:-4] + ".key", "-in", path + ".csr", "-out", path + ".pem",
            "-startdate", "20200101000000Z", "-enddate", not_after or "20491231000000Z")
    return path + ".pem", path + ".key"


def test_trusted(bench):
    ca = authority(bench, "ours")
    cert, key = certificate(bench, ca)
    sim = bench.sim(cert=cert, key=key)
    client = bench.gateway(sim, easee=f"ca_file = {ca}").client()
    client.power(7400)
    until(lambda: sim.currents() == [10, 10, 10], lambda: f"10/10/10: {client.setpoint()}")
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
