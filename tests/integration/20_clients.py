#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Clients that others wrote: mbpoll, pymodbus and modbus-serial."""
import shutil
import subprocess

import harness
from harness import Skip, equal, until


def start(bench):
    sim = bench.sim()
    return sim, bench.gateway(sim)


def reaches(sim, amps):
    until(lambda: sim.currents() == amps, lambda: f"{amps} at the charger: {sim.circuit()}")


def test_mbpoll(bench):
    if not shutil.which("mbpoll"):
        raise Skip("mbpoll is not installed")
    sim, gateway = start(bench)
    mbpoll = ["mbpoll", "-m", "tcp", "-a", "1", "-0", "-p", str(gateway.port)]

    bench.run(*mbpoll, "-r", "7202", "-t", "4:int", "-B", "127.0.0.1", "7400")
    reaches(sim, [10, 10, 10])
    shown = bench.run(*mbpoll, "-r", "7202", "-t", "4:int", "-B", "-1", "127.0.0.1")
    assert "7400" in shown, shown
    identity = bench.run(*mbpoll, "-r", "7000", "-t", "3:hex", "-c", "2", "-1", "127.0.0.1")
    assert "0x4556" in identity and "0x4757" in identity, identity

    bench.run(*mbpoll, "-r", "7217", "-t", "4", "127.0.0.1", "3000")  # function 6
    reaches(sim, [13, 0, 0])


def test_pymodbus(bench):
    sim, gateway = start(bench)
    client = harness.pymodbus(bench, gateway)

    wrote = client.write_registers(7202, [0, 7400], slave=1)
    assert not wrote.isError(), wrote
    reaches(sim, [10, 10, 10])
    equal(client.read_holding_registers(7202, 2, slave=1).registers, [0, 7400], "7202, function 3")
    equal(client.read_input_registers(7202, 2, slave=1).registers, [0, 7400], "7202, function 4")
    both = client.readwrite_registers(read_address=7202, read_count=2, write_address=7202,
                                      write_registers=[0, 3000], slave=1)
    equal(both.registers, [0, 3000], "7202, function 23")
    reaches(sim, [13, 0, 0])
    equal(client.read_holding_registers(6999, 1, slave=1).exception_code, 2, "outside the window")
    equal(client.read_holding_registers(7000, 1, slave=9).exception_code, 11, "unknown unit")
    equal(client.read_coils(0, 1, slave=1).exception_code, 1, "unknown function")


def test_modbus_serial_pipelines(bench):
    node = harness.node_with("modbus-serial")
    sim, gateway = start(bench)
    print(bench.run(node, "modbus-serial.js", str(gateway.port)))
    reaches(sim, [10, 10, 10])


def test_many_at_once(bench):
    """Four mbpolls polling as fast as they can do not disturb each other."""
    if not shutil.which("mbpoll"):
        raise Skip("mbpoll is not installed")
    _, gateway = start(bench)
    polls = [subprocess.Popen(
        ["mbpoll", "-m", "tcp", "-a", "1", "-0", "-r", "7100", "-c", "40", "-t", "4", "-l", "10",
         "-o", "1", "-p", str(gateway.port), "127.0.0.1"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    client = gateway.client()
    until(lambda: client.u32(7404) >= 5, "five connections open")
    before = client.u32(7410)
    until(lambda: client.u32(7410) > before + 200, "200 more requests answered")
    for poll in polls:
        poll.terminate()
        shown = poll.communicate(timeout=10)[0]
        assert "[7100]" in shown and "error" not in shown.lower(), shown


if __name__ == "__main__":
    harness.main(globals())
