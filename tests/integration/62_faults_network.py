#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Fault catalogue, the network: cables, names, TLS, addresses."""
import os
import socket
import struct
import time

import harness
from catalogue import FAULTS
from faulty import Cable, Clock, Names, authority, certificate, ip, own_network
from harness import WATTS, arrives, equal, note, throughout, until

LOGIN = "/api/accounts/login"
RESOLVE, CONNECT, TIMEOUT, TLS, EXPIRED, HOST, AUTHORITY = 10, 11, 12, 14, 15, 16, 17  # 7303


# ---- cables ----

def far_cloud(bench, cable):
    """(simulated cloud beyond CABLE, options of a gateway that uses it)."""
    ca = authority(bench, "ours")
    cert, key = certificate(bench, ca, names=f"IP:{cable.there}")
    sim = bench.sim(cert=cert, key=key, address=cable.there, prefix=cable.prefix)
    return sim, f"ca_file = {ca}"


@FAULTS.test("F-17",
             "no network when the gateway starts, wishes come in; then the cable is plugged in",
             "clients are served from the first second, nothing arrived before; the newest wish "
             "arrives")
def test_f17(bench):
    cable = Cable(bench)
    sim, easee = far_cloud(bench, cable)
    started = time.monotonic()
    client = bench.gateway(sim, easee=easee).client()
    took_s = time.monotonic() - started
    assert client.u16(7130) in (0, 1), "no connection, or logging in"
    for amps in (10, 12, 8):
        client.power(WATTS[amps])
    until(lambda: client.u16(7303) in (CONNECT, TIMEOUT), lambda: f"a result: {client.setpoint()}")
    equal(client.u16(7301), 1, "stage")
    cable.plug()
    arrives(sim, client, 8, 150)
    equal(len(sim.setpoints()), 1, "setpoints")
    note(f"served {1000 * took_s:.0f} ms after its start")


def pulled(seconds, limit_s):
    def test(bench):
        cable = Cable(bench)
        cable.plug()
        sim, easee = far_cloud(bench, cable)
        client = bench.gateway(sim, easee=easee).client()
        client.power(WATTS[10])
        arrives(sim, client, 10)
        logins = len(sim.ledger("POST", LOGIN))
        cable.pull()
        client.power(WATTS[12])
        client.power(WATTS[9])
        throughout(lambda: client.u16(7000) == 0x4556, seconds, "clients are served")
        cable.plug()
        plugged = time.monotonic()
        arrives(sim, client, 9, limit_s)
        note(f"{time.monotonic() - plugged:.0f} s after the cable was plugged in again")
        sent = [b["dynamicCircuitCurrentP1"] for b in sim.setpoints()]
        # 12 A may have been on its way when the cable was pulled: test_f18_on_its_way
        equal(set(sent[sent.index(9):]), {9}, f"no older value after the newest: {sent}")
        assert len(sim.ledger("POST", LOGIN)) - logins <= 1, "logins"

    test.__name__ = f"test_f18_{seconds}"
    return test


for length, patience in ((1, 30), (60, 90)):
    function = pulled(length, patience)
    globals()[function.__name__] = FAULTS.test(
        "F-18", f"the cable to the cloud is out for {length} s, two wishes meanwhile",
        "the newest arrives; one login at most")(function)


@FAULTS.test("F-18", "the cable is pulled while a setpoint leaves, and out for 15 s; a lower one "
                     "meanwhile",
             "the newer arrives, and the older one no more: TCP does not go on with a call that was "
             "given up")
def test_f18_on_its_way(bench):
    cable = Cable(bench)
    cable.plug()
    sim, easee = far_cloud(bench, cable)
    client = bench.gateway(sim, easee=easee).client()
    client.power(WATTS[10])
    arrives(sim, client, 10)
    until(lambda: client.u16(7130) == harness.CONNECTION_STREAMING, "streaming")
    cable.pull()
    pulled_at = time.monotonic()
    client.power(WATTS[12])
    until(lambda: client.u16(7303) == TIMEOUT, lambda: f"given up: {client.setpoint()}", 30)
    client.power(WATTS[9])
    until(lambda: time.monotonic() > pulled_at + 15, "15 s")
    cable.plug()
    arrives(sim, client, 9, 60)
    # TCP would try again after 25 s and after 51 s.
    throughout(lambda: sim.currents() == [9] * 3, pulled_at + 60 - time.monotonic(), "9 A")
    equal([b["dynamicCircuitCurrentP1"] for b in sim.setpoints()], [10, 9], "setpoints")


@FAULTS.test("F-18", "the cable to the cloud is out for a day, a wish every 10 minutes: the "
                     "gateway's clock runs faster",
             "clients served; the newest wish arrives within the five minutes of the back-off, and "
             "none of that day; one login at most")
def test_f18_day(bench):
    cable, clock = Cable(bench), Clock(bench)
    cable.plug()
    sim, easee = far_cloud(bench, cable)
    gateway = bench.gateway(sim, easee=easee, env=clock.env)
    client = gateway.client()
    client.power(WATTS[10])
    arrives(sim, client, 10)
    logins, mark = len(sim.ledger("POST", LOGIN)), len(sim.setpoints())
    cable.pull()
    for step in range(1, 145):
        clock.set(suspended_s=600 * step)
        client.power(WATTS[6 + step % 8])
        throughout(lambda: client.u16(7000) == 0x4556, 0.1, "clients are served")
    client.power(WATTS[9])
    cable.plug()
    late_s = 0

    def sent():
        return [b["dynamicCircuitCurrentP1"] for b in sim.setpoints()[mark:]]

    def newest_sent():
        nonlocal late_s
        late_s += 20
        clock.set(suspended_s=86400 + late_s)
        client.power(WATTS[9])  # wakes the gateway, whose waits do not run faster
        return 9 in sent()

    until(newest_sent, lambda: f"9 A: {client.setpoint()}", 60, 0.5)
    arrives(sim, client, 9)
    note(f"{late_s} s after the cable was plugged in again")
    assert late_s < 600, f"after {late_s} s"  # of which 40 pass in each second here
    assert set(sent()) == {9}, f"sent: {sent()}"
    assert len(sim.ledger("POST", LOGIN)) - logins <= 1, "logins"


@FAULTS.test("F-19", "the cable to the controller is out",
             "its connection is freed after a minute; its watchdog of 10 s pauses the charger")
def test_f19(bench):
    cable = Cable(bench)
    cable.plug()
    sim = bench.sim()
    gateway = bench.gateway(sim, listener="")
    watcher = gateway.client()
    far = bench.start(harness.Program(
        ["/usr/bin/python3", "-c", FAR_CLIENT, cable.here, str(gateway.port)],
        os.path.join(bench.folder, "client.log"), prefix=cable.prefix))
    until(lambda: sim.currents() == [10, 10, 10], "10 A")
    until(lambda: watcher.u32(7404) == 2, "two connections")
    cable.pull()
    out = time.monotonic()
    until(lambda: watcher.u16(7327) == 2 and sim.currents() == [0, 0, 0],
          lambda: f"tripped: {watcher.setpoint()}", 20)
    note(f"paused {time.monotonic() - out:.1f} s after the cable was out")
    until(lambda: watcher.u32(7404) == 1, "its connection is freed", 90)
    note(f"connection freed {time.monotonic() - out:.0f} s after")
    far.process.kill()
    far.process.wait()


# Writes its limit and a watchdog of 10 s that pauses, then the heartbeat, for ever.
FAR_CLIENT = f"""
import socket, struct, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def write(addr, *values):
    pdu = struct.pack(f">BHHB{{len(values)}}H", 16, addr, len(values), 2 * len(values), *values)
    s.sendall(struct.pack(">HHHB", 1, 0, len(pdu) + 1, 1) + pdu)
    s.recv(64)
write(7210, 10, 1)
write(7202, 0, {WATTS[10]})
while True:
    write(7214, 1)
    try:
        s.settimeout(1)
        s.recv(1)
    except TimeoutError:
        s.settimeout(None)
"""


# ---- names ----

def named_cloud(bench, names, mode):
    ca = authority(bench, "ours")
    cert, key = certificate(bench, ca, names="DNS:cloud.test")
    names.mode = mode
    sim = bench.sim(cert=cert, key=key)
    gateway = bench.gateway(api=f"https://cloud.test:{sim.port}", easee=f"ca_file = {ca}",
                            prefix=names.prefix)
    return sim, gateway


NAMES = {"answers nothing": ("silent", 0, (RESOLVE, TIMEOUT)),
         "does not know the name": ("nxdomain", 0, (RESOLVE,)),
         "gives a wrong address": ("127.0.0.2", 0, (CONNECT,)),
         "gives an IPv6 address only, where no route leads":
             ("2001:db8::1", 0, (RESOLVE, CONNECT, TIMEOUT)),
         "takes 4 s for each answer, which is that the name is unknown":
             ("nxdomain", 4, (RESOLVE, TIMEOUT))}


def bad_names(what, mode, delay_s, results):
    def test(bench):
        names = Names(bench)
        names.delay_s = delay_s
        sim, gateway = named_cloud(bench, names, mode)
        client = gateway.client()
        client.power(WATTS[10])
        until(lambda: client.u16(7303) in results, lambda: f"{results}: {client.setpoint()}", 60)
        took_ms = []
        for _ in range(200):
            started = time.perf_counter()
            client.read(7100, 40)
            took_ms.append(1000 * (time.perf_counter() - started))
        assert harness.quantile(took_ms, 0.5) < 5, "clients wait"
        equal(sim.ledger(), [], "calls")
        names.mode, names.delay_s = "127.0.0.1", 0
        arrives(sim, client, 10, 150)

    test.__name__ = "test_f20_" + what.split()[0] + "_" + what.split()[-1]
    return test


for text, (kind, delay, codes) in NAMES.items():
    function = bad_names(text, kind, delay, codes)
    globals()[function.__name__] = FAULTS.test(
        "F-20", f"the name server {text}; then it works",
        f"result {' or '.join(map(str, codes))} in 7303, clients are served, the wish arrives"
    )(function)


@FAULTS.test("F-20", "the name server dies while the gateway runs",
             "kept connections go on; after a new one is needed as above")
def test_f20_later(bench):
    names = Names(bench)
    sim, gateway = named_cloud(bench, names, "127.0.0.1")
    client = gateway.client()
    client.power(WATTS[10])
    arrives(sim, client, 10)
    names.mode = "silent"
    client.power(WATTS[12])
    arrives(sim, client, 12, 90)
    note(f"{names.asked} questions to the name server")


@FAULTS.test("F-02", "SIGTERM while a setpoint hangs and the name server is dead",
             "status 0 within the stop time-out")
def test_f02_dead_names(bench):
    names = Names(bench)
    _, gateway = named_cloud(bench, names, "silent")
    gateway.client().power(WATTS[10])
    until(lambda: names.asked > 0, "a question to the name server")
    started = time.monotonic()
    gateway.stop()
    took_s = time.monotonic() - started
    note(f"ended after {took_s:.1f} s")
    assert took_s < 6, took_s


# ---- TLS ----

def refused(bench, result, ca, cert, key, **options):
    sim = bench.sim(cert=cert, key=key)
    client = bench.gateway(sim, easee=f"ca_file = {ca}", **options).client()
    client.power(WATTS[10])
    until(lambda: client.u16(7303) == result, lambda: f"result {result}: {client.setpoint()}")
    assert client.text(7440, 20), "the last error in words"
    equal(sim.ledger(), [], "requests that reached the cloud")


@FAULTS.test("F-22", "certificate expired",
             "result 15, no token or password sent")
def test_f22_expired(bench):
    ca = authority(bench, "ours")
    refused(bench, EXPIRED, ca, *certificate(bench, ca, not_after="20210101000000Z"))


@FAULTS.test("F-22", "certificate not yet valid",
             "result 15, no token or password sent")
def test_f22_not_yet(bench):
    ca = authority(bench, "ours")
    refused(bench, EXPIRED, ca, *certificate(bench, ca, not_before="20480101000000Z"))


@FAULTS.test("F-22", "certificate for another host",
             "result 16, no token or password sent")
def test_f22_host(bench):
    ca = authority(bench, "ours")
    refused(bench, HOST, ca, *certificate(bench, ca, names="DNS:example.org"))


@FAULTS.test("F-22", "certificate of an unknown authority",
             "result 17, no token or password sent")
def test_f22_authority(bench):
    theirs = authority(bench, "theirs")
    refused(bench, AUTHORITY, authority(bench, "ours"), *certificate(bench, theirs))


@FAULTS.test("F-22", "the file of authorities is missing",
             "the gateway does not start and says which file")
def test_f22_no_bundle(bench):
    gateway = bench.gateway(api="https://127.0.0.1:1", easee="ca_file = /nowhere/ca.pem",
                            ready=False)
    assert gateway.wait() != 0, "it started"
    assert "/nowhere/ca.pem" in gateway.log(), gateway.log()


@FAULTS.test("F-22", "the TLS handshake stalls",
             "result 12 within the call's time-out, clients are served")
def test_f22_stall(bench):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = bench.gateway(api=f"https://127.0.0.1:{listener.getsockname()[1]}").client()
        client.power(WATTS[10])
        until(lambda: client.u16(7303) == TIMEOUT, lambda: f"result: {client.setpoint()}", 60)


# ---- addresses ----

@FAULTS.test("F-47", "IPv4, IPv6, then another address is added while the gateway runs",
             "it listens on all of them with address = ::")
def test_f47(bench):
    own_network()
    ip("addr", "add", "fd00:77::1/64", "dev", "lo", "nodad")
    sim = bench.sim()
    gateway = bench.gateway(sim)
    ip("addr", "add", "10.78.0.1/24", "dev", "lo")
    for address in ("127.0.0.1", "::1", "fd00:77::1", "10.78.0.1"):
        with socket.create_connection((address, gateway.port), timeout=10) as client:
            client.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 7000, 2))
            equal(client.recv(64)[-4:], b"EVGW", f"magic at {address}")
    ip("addr", "del", "10.78.0.1/24", "dev", "lo")
    equal(gateway.client().u16(7000), 0x4556, "magic")


if __name__ == "__main__":
    harness.main(globals())
