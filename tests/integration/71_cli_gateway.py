#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""evecc over Modbus: registers, read, write, status."""
import os
import pty
import select
import signal
import subprocess
import time

import cli
import harness
from cli import evecc, says
from harness import BUILD, SERIAL, equal, until


def gateway(bench, **kwargs):
    sim = bench.sim()
    return sim, bench.gateway(sim, **kwargs)


def confirmed(g):
    return lambda: evecc("read", "-c", g.path, "--json", "stage").json()["stage"]["value"] >= 4


def test_without_gateway(bench):
    """Every way to miss it names cause and remedy."""
    port = harness.free_port()
    says(evecc("status", "--port", port, status=cli.GATEWAY), "nobody listens", "eveccd running")
    says(evecc("status", "--host", "no-such-host.invalid", status=cli.GATEWAY),
         "no-such-host.invalid", "Check the name")
    failed = evecc("status", "--port", port, "--json", status=cli.GATEWAY).json()["error"]
    equal(failed["exit"], cli.GATEWAY, "exit in JSON")
    assert failed["cause"] and failed["remedy"], failed


def test_not_ours(bench):
    """Another Modbus device, or none at all, on the port."""
    with harness.socket.create_server(("127.0.0.1", 0)) as silent:
        says(evecc("read", "power", "--host", "127.0.0.1", "--port", silent.getsockname()[1],
                   status=cli.GATEWAY), "no answer", "in 3 s")


def test_usage(bench):
    says(evecc("help"), "commands:", "exit status:")
    says(evecc("stauts", status=cli.USAGE), "no such command: stauts")
    says(evecc("status", "--nope", status=cli.USAGE), "option --nope is unknown", "evecc help")
    says(evecc("read", "power", "--unit", status=cli.USAGE), "option --unit needs a value")
    equal(evecc("--json", "status", "-q", status=cli.USAGE).json()["error"]["exit"], cli.USAGE, "JSON")
    says(evecc("status", "extra", status=cli.USAGE), "unexpected argument: extra")
    says(evecc("status", "--raw", status=cli.USAGE), "has no option --raw")
    says(evecc("read", "nothing", status=cli.NOT_FOUND), "no register nothing")
    says(evecc("write", "power", 1, status=cli.USAGE), "only be read")
    says(evecc("write", "power_limit", status=cli.USAGE), "needs NAME VALUE")
    says(evecc("status", "--watch", status=cli.USAGE), "needs a terminal")
    for name, value, allowed in (("current_limit", "13.25", "0.0 to 6553.4 A, or none"),
                                 ("current_limit", "13 V", "0.0 to 6553.4 A, or none"),
                                 ("current_limit", "0x10", "0.0 to 6553.4 A"),
                                 ("watchdog", "9", "but not 1 to 9"),
                                 ("phase_mode", "two", "auto, single, three"),
                                 ("enable", "none", "disabled, enabled"),
                                 ("power_limit", "-1", "0 to 4294967294 W"),
                                 ("power_limit", "nan", "0 to 4294967294 W")):
        said = evecc("write", "--", name, value, status=cli.USAGE)
        says(said, f"{name} {value}", allowed)


def test_read(bench):
    _, g = gateway(bench)
    until(lambda: SERIAL in evecc("read", "serial", "-c", g.path).out, "serial number")
    got = evecc("read", "-c", g.path, "--json", "serial", "voltage_l1", "7200", "magic",
                "power-limit").json()
    equal(got["serial"]["value"], SERIAL, "serial")
    equal(got["sequence"], {"address": 7200, "value": 0}, "sequence")
    equal(got["magic"]["value"], 0x45564757, "magic")
    equal(got["power_limit"]["value"], None, "no power limit")
    assert 200 < got["voltage_l1"]["value"] < 250, got
    equal(evecc("read", "-c", g.path, "--raw", "--json", "max_current").json(),
          {"max_current": 320}, "raw")
    says(evecc("read", "-c", g.path, "max_current", "watchdog_state"), "32.0 A", "0, off")


def test_write(bench):
    """Units, words, one frame for neighbours, and back."""
    sim, g = gateway(bench)
    until(lambda: SERIAL in evecc("read", "serial", "-c", g.path).out, "serial number")
    says(evecc("write", "-c", g.path, "power_limit", "7.4kW", "--wait"), "7400 W", "stage")
    equal(sim.currents(), [10, 10, 10], "currents")
    got = evecc("write", "-c", g.path, "--json", "current_limit", "9A", "phase_mode", "three",
                "power_limit", "none").json()
    equal([got[n]["value"] for n in ("current_limit", "phase_mode", "power_limit")],
          [9, 3, None], "read back")
    until(lambda: sim.currents() == [9, 9, 9], "9/9/9")
    evecc("write", "-c", g.path, "--raw", "current_limit", 71)
    until(lambda: sim.currents() == [7, 7, 7], "7/7/7")
    says(evecc("write", "-c", g.path, "enable", "disabled"), "disabled")
    until(lambda: sim.currents() == [0, 0, 0], "0/0/0")


def test_write_is_one_wish(bench):
    """Whatever lies between the registers: one frame, accepted or refused as a whole, and what was
    there stays."""
    _, g = gateway(bench)
    client = g.client()

    def writes():
        return client.u32(7414)

    def write(*pairs, **kwargs):
        before = writes()
        said = evecc("write", "-c", g.path, "--raw", *pairs, **kwargs)
        return writes() - before, said

    client.write(7200, 7, 1, 0, 7400, 160, harness.NA16, harness.NA16, 150, 3, 300)
    client.write(7210, 60, 2, 60, 3, 9, 1)
    before = client.read(7200, 18)
    equal(write("current_limit", 130, "phase_mode", 0)[0], 1, "frames")
    before[4], before[8] = 130, 0
    equal(client.read(7200, 18), before, "control block")

    # Across everything, the action included: nothing is done that was not asked for.
    equal(write("sequence", 8, "power_limit_short", 3000)[0], 1, "frames")
    before[0], before[3], before[17] = 8, 3000, 3000
    equal(client.read(7200, 18), before, "control block")
    equal(client.u16(7300), 8, "accepted sequence")
    equal(write("phase_mode", 3, "power_limit_short", harness.NA16)[0], 1, "frames")
    equal(client.u32(7202), harness.NA32, "power limit taken back")
    equal(write("power_limit", 5000, "power_limit_short", 3000)[0], 1, "frames")
    equal((client.u32(7202), client.u16(7217)), (5000, 5000), "7202 counts")

    # Nothing of a wish: none is made, and a tripped watchdog stays so.
    client.write(7210, 10)
    until(lambda: client.u16(7327) == 2, "the watchdog trips", 60)
    equal(write("sequence", 9, "watchdog", 600)[0], 2, "frames")
    equal((client.u16(7300), client.u16(7210), client.u16(7327)), (9, 600, 2),
          "sequence, watchdog, tripped")


def test_may_not_write(bench):
    _, g = gateway(bench, listener="write = 192.0.2.0/24\n")
    evecc("read", "-c", g.path, "power")
    says(evecc("write", "-c", g.path, "power_limit", 5000, status=cli.REFUSED), "option write")


def test_wrong_unit(bench):
    _, g = gateway(bench)
    says(evecc("status", "-c", g.path, "--unit", 9, status=cli.NOT_FOUND), "has no unit 9")


def test_status(bench):
    sim, g = gateway(bench)
    evecc("write", "-c", g.path, "power_limit", 7400)
    until(confirmed(g), "confirmed")
    until(lambda: "charging, online" in evecc("status", "-c", g.path).out, "charging")
    until(lambda: "stage      effective" in evecc("status", "-c", g.path).out, "effective")
    says(evecc("status", "-c", g.path), "garage, unit 1 at ", SERIAL, "7400 W",
         "limited by: power", "calls left", "faults     none")
    registers = evecc("status", "-c", g.path, "--json").json()["registers"]
    equal(registers["confirmed_l1"], {"address": 7317, "value": 10, "unit": "A"}, "confirmed L1")
    equal(registers["stage"]["value"] >= 4, True, "stage")
    sim.set(charger=SERIAL, op_mode_error=True)
    until(lambda: "charger error" in evecc("status", "-c", g.path).out, "the fault in words", 120)


def test_watch(bench):
    """Redraws in place; Ctrl-C leaves the terminal as it was."""
    _, g = gateway(bench)
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen([os.path.join(BUILD, "evecc"), "status", "--watch", "-c", g.path,
                                "--interval", "0.5"], stdout=slave, stderr=slave, env=env,
                               preexec_fn=harness.die_with_parent)
    seen = b""  # the slave stays open, or reading the last words fails

    def frames():
        nonlocal seen
        while select.select([master], [], [], 0)[0]:
            seen += os.read(master, 65536)
        return seen.count(b"\033[H")

    try:
        started = time.monotonic()
        until(lambda: frames() >= 3, "three frames")
        assert time.monotonic() - started >= 0.9, "redrawn more than twice a second"
        assert b"\033[?1049h" in seen and b"Ctrl-C ends" in seen, seen
        process.send_signal(signal.SIGINT)
        equal(process.wait(10), 0, "status after Ctrl-C")
        frames()
        assert seen.rstrip().endswith(b"\033[?25h\033[?1049l"), seen[-80:]
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)


def test_registers(bench):
    """All formats tell of the same registers."""
    table = evecc("registers", "--format", "json").json()
    csv = evecc("registers", "--format", "csv").out.splitlines()
    equal([row["name"] for row in table], [line.split(",")[0] for line in csv[1:]], "names")
    markdown = evecc("registers", "--format", "markdown").out
    text = evecc("registers").out
    for row in table:
        assert f"| {row['address']} | " in markdown and row["name"] in text, row
    says(evecc("registers", "--format", "csv", "--json", status=cli.USAGE), "one of the two")
    says(evecc("registers", "--format", "xml", status=cli.USAGE), "table, csv, json, markdown")
    assert "\033[" not in evecc("registers").out, "colours without a terminal"


if __name__ == "__main__":
    harness.main(globals())
