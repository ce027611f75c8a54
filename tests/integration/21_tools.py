#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tools that others wrote, which look closer than a client does: nmap's scan, Wireshark's
dissector on captured traffic, and clients with ways of their own.  What each printed is checked."""
import collections
import os
import re
import shutil
import signal
import struct
import subprocess

import harness
from harness import Skip, equal, until


def start(bench):
    sim = bench.sim()
    return sim, bench.gateway(sim, listener="")


def need(program):
    if not shutil.which(program):
        raise Skip(f"{program} is not installed")


def scan(bench, gateway, *args):
    """What modbus-discover found: (unit, lines about it)."""
    # + because the script asks for port 502 otherwise.
    shown = bench.run("nmap", "-n", "-Pn", "-p", str(gateway.port), "--script", "+modbus-discover",
                      *args, "127.0.0.1", limit_s=120)
    assert re.search(rf"^{gateway.port}/tcp +open +modbus", shown, re.M), shown
    found = re.split(r"\n\|_?\s+sid 0x", shown)[1:]
    return {int(part.split(":", 1)[0], 16): part for part in found}, shown


def is_the_gateway(text):
    assert "ILLEGAL FUNCTION" in text, "function 17 gives itself away: " + text
    assert re.search(r"Device identification: evecc EVGW \S+", text), text


def test_nmap(bench):
    need("nmap")
    _, gateway = start(bench)
    found, _ = scan(bench, gateway)
    equal(list(found), [1], "units")
    is_the_gateway(found[1])


def test_nmap_aggressive(bench):
    """All units; the server of libmodbus's manual stands still for two minutes meanwhile."""
    need("nmap")
    _, gateway = start(bench)
    client = gateway.client()
    before = client.u32(7410)
    found, shown = scan(bench, gateway, "--script-args", "modbus-discover.aggressive=true")
    equal(sorted(found), list(range(1, 247)), "units")
    is_the_gateway(found.pop(1))
    for unit, text in found.items():
        assert "GATEWAY TARGET DEVICE FAILED TO RESPOND" in text, f"unit {unit}: {text}"
    took = float(re.search(r"scanned in ([\d.]+) seconds", shown).group(1))
    harness.note(f"aggressive scan: {client.u32(7410) - before} requests in {took} s")
    assert took < 60, f"{took} s"


def mixed_traffic(bench, gateway):
    """Right, wrong and pipelined, from several programs; (requests by hand, answers expected)."""
    client = gateway.client()
    read = struct.pack(">BHH", 3, 7100, 40)
    pdus = [read, struct.pack(">BHH", 4, 7000, 125), struct.pack(">BHH", 6, 7214, 3),
            struct.pack(">BHHBHH", 16, 7202, 2, 4, 0, 7400), struct.pack(">BHHH", 22, 7214, 0, 5),
            struct.pack(">BHHHHBH", 23, 7100, 2, 7214, 1, 2, 9), b"\x2b\x0e\x01\x00", b"\x2b\x0e\x04\x06",
            b"\x2b\x0e\x04\x63", struct.pack(">BHH", 3, 6999, 1), struct.pack(">BHH", 3, 7000, 126),
            struct.pack(">BHH", 6, 7201, 9), b"\x01\x00\x00\x00\x08", b"\x11", b"\x41\x00"]
    for pdu in pdus:
        client.reply(pdu)
        client.reply(pdu, 77)
    client.send(b"".join(client.frame(pdu) for pdu in pdus * 3))
    for _ in pdus * 3:
        client.answer()
    frame = client.frame(read)
    client.send(frame[:9])  # the dissector gives up on pieces shorter than a header
    client.send(frame[9:])
    client.answer()
    half = gateway.client()
    half.send(half.frame(read) * 3)
    half.socket.shutdown(1)
    for _ in range(3):
        half.answer()
    if shutil.which("mbpoll"):
        bench.run("mbpoll", "-m", "tcp", "-a", "1", "-0", "-p", str(gateway.port), "-r", "7100",
                  "-c", "40", "-t", "4", "-1", "127.0.0.1")
    return 5 * len(pdus) + 4


def dissect(bench, port, capture):
    """The Modbus frames in CAPTURE: (stream, to the gateway, transaction, unit, function), and
    whether Wireshark has a complaint."""
    shown = bench.run("tshark", "-r", capture, "-d", f"tcp.port=={port},mbtcp", "-T", "fields",
                      "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=,",
                      "-e", "tcp.stream", "-e", "tcp.dstport", "-e", "mbtcp.trans_id",
                      "-e", "mbtcp.unit_id", "-e", "modbus.func_code", "-Y", "mbtcp",
                      stderr=subprocess.DEVNULL)
    frames = []
    for line in shown.splitlines():
        stream, to, *lists = line.split("\t")
        transactions, units, functions = (x.split(",") for x in lists)
        equal((len(units), len(functions)), (len(transactions),) * 2, f"fields of {line}")
        frames += [(stream, int(to) == port, *rest) for rest in zip(transactions, units, functions)]
    complaints = bench.run("tshark", "-r", capture, "-d", f"tcp.port=={port},mbtcp", "-Y",
                           f"tcp.srcport=={port} && (_ws.malformed || mbtcp.prot_id != 0)",
                           stderr=subprocess.DEVNULL)
    return frames, complaints


def test_wireshark(bench):
    """A captured mixed run: no malformed answer, exactly one for each request."""
    need("tshark")
    _, gateway = start(bench)
    capture = os.path.join(bench.folder, "loopback.pcapng")
    sniffer = harness.Program(["tshark", "-i", "lo", "-B", "16", "-w", capture, "-f",
                               f"tcp port {gateway.port}"], os.path.join(bench.folder, "tshark.log"))
    bench.stack.callback(sniffer.process.kill)

    def capturing():
        if not sniffer.alive():
            raise Skip("tshark may not capture here: " + sniffer.log().strip().splitlines()[-1])
        # It prints its line before the first packet is seen: only a packet proves it.
        gateway.client().close()
        return os.path.exists(capture) and "Capturing on" in sniffer.log() and \
            os.path.getsize(capture) > 600
    until(capturing, "tshark captures", 30, 0.1)

    expected = mixed_traffic(bench, gateway)
    marker = gateway.client()
    marker.read(7000, 7, unit=1)

    def complete():
        return len(dissect(bench, gateway.port, capture)[0]) >= 2 * (expected + 1)
    until(complete, "everything is in the capture", 30, 0.5)
    sniffer.process.send_signal(signal.SIGINT)
    sniffer.wait()

    frames, complaints = dissect(bench, gateway.port, capture)
    equal(complaints, "", "answers Wireshark complains about")
    asked, answered = (collections.Counter((s, t, u, f) for s, to, t, u, f in frames if to == way)
                       for way in (True, False))
    equal((answered - asked, asked - answered), ({}, {}), "answers too many, and missing, by "
          "connection, transaction, unit and function")
    assert sum(asked.values()) >= expected + 1, f"{sum(asked.values())} requests seen"
    harness.note(f"Wireshark saw {sum(asked.values())} requests and as many answers, none malformed")


def test_pymodbus_unit_0(bench):
    """pymodbus 3.0 asks unit 0 when none is named."""
    sim, gateway = start(bench)
    client = harness.pymodbus(bench, gateway)
    equal(client.read_holding_registers(7000, 2).registers, [0x4556, 0x4757], "magic")
    assert not client.write_registers(7202, [0, 7400]).isError()
    until(lambda: sim.currents() == [10, 10, 10], "7400 W at the charger")
    import pymodbus
    from pymodbus.mei_message import ReadDeviceInformationRequest
    told = client.execute(ReadDeviceInformationRequest(read_code=1, object_id=0))
    equal(told.information[1], b"EVGW", f"product code, pymodbus {pymodbus.__version__}")


def test_jsmodbus(bench):
    node = harness.node_with("jsmodbus")
    sim, gateway = start(bench)
    print(bench.run(node, "jsmodbus.js", str(gateway.port)))
    until(lambda: sim.currents() == [10, 10, 10], "7400 W at the charger")


if __name__ == "__main__":
    harness.main(globals())
