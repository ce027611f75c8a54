#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The configuration file, and what the gateway says of it.  Signals, the end of the gateway and
a port that is taken are F-02, F-03 and F-10 in 61_faults_machine.py."""
import os
import subprocess

import harness
from harness import BUILD, CIRCUIT, PASSWORD, equal, until

EVECCD = os.path.join(BUILD, "eveccd")


def config(bench, **changes):
    """Path of a good configuration, with CHANGES."""
    return harness.configure(bench, **changes)[1]


def check(path, *args):
    """(exit status, what it said) of eveccd -t."""
    done = subprocess.run([EVECCD, "-t", "-c", path, *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20,
                          check=False)
    return done.returncode, done.stderr


def test_good_file(bench):
    equal(check(config(bench))[0], 0, "eveccd -t with a good file")


def test_version_and_help(bench):
    assert bench.run(EVECCD, "-V").startswith("eveccd"), "eveccd -V names itself"
    assert "-c" in bench.run(EVECCD, "-h"), "eveccd -h"


def test_every_error_is_named(bench):
    """All errors of a file at once, each with section, key and value."""
    path = config(bench, easee="colour = blue", listener="allow = 10.0.0.0/33",
                  circuits="[circuit a]\nunit = 010\nmax_current = 12abc\nphases = 4\n"
                           "[circuit b]\nunit = 1e3\nmax_current = 16\nwatchdog = 70000\n"
                           "[engine]\nsize = 1\n")
    status, said = check(path)
    equal(status, 1, "exit status")
    for words in (("easee", "colour"), ("native", "allow", "10.0.0.0/33"), ("a", "unit", "010"),
                  ("a", "max_current", "12abc"), ("a", "phases", "4"), ("b", "unit", "1e3"),
                  ("b", "watchdog", "70000"), ("engine",)):
        assert any(all(w in line for w in words) for line in said.splitlines()), \
            f"{words} are not named together:\n{said}"
    assert path in said, "the file is named"


def test_two_circuits_with_one_unit(bench):
    one = CIRCUIT.format(which="site = ABCD-1234")
    status, said = check(config(bench, circuits=one + one.replace("garage", "yard")))
    equal(status, 1, "exit status")
    assert "garage" in said and "yard" in said, said


def test_files_that_are_no_configuration(bench):
    fifo = os.path.join(bench.folder, "fifo")
    os.mkfifo(fifo)
    huge = bench.write("huge", "; nothing\n" * 200000)
    nul = bench.write("nul", "[gateway]\nlog_level = info\0\n")
    for path in (bench.folder, fifo, huge, nul, os.path.join(bench.folder, "nowhere")):
        status, said = check(path)
        equal(status, 1, f"exit status with {path}")
        assert path in said, said


def test_password_readable_by_others(bench):
    path = config(bench)
    os.chmod(os.path.join(bench.folder, "password"), 0o644)
    status, said = check(path)
    equal(status, 1, "exit status")
    assert "password" in said and PASSWORD not in said, said


def test_plain_http_to_another_host(bench):
    status, said = check(config(bench, api="http://192.0.2.1"))
    equal(status, 1, "exit status")
    assert "api_url" in said, said


def test_unknown_site(bench):
    sim = bench.sim()
    client = bench.gateway(sim, which="site = WXYZ-9999\ncircuit = 1").client()
    until(lambda: client.u32(7128) & 1 << 5, "fault bit 5: circuit or site not found")
    equal(client.u16(7303), 43, "result code")


def test_unknown_circuit(bench):
    sim = bench.sim()
    client = bench.gateway(sim, which="site = ABCD-1234\ncircuit = 7").client()
    until(lambda: client.u32(7128) & 1 << 5, "fault bit 5: circuit or site not found")
    equal(client.u16(7303), 44, "result code")


def test_log_keeps_secrets(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim)
    gateway.client().power(7400)
    until(lambda: sim.currents() == [10, 10, 10], "10/10/10")
    gateway.stop()
    for secret in (PASSWORD, "Bearer", "eyJ"):
        assert secret not in gateway.log(), f"{secret!r} in the log"


if __name__ == "__main__":
    harness.main(globals())
