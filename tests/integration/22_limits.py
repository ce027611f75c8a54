#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Who may connect, who may write, and a system that gives less than asked; with the real program
on real sockets.  Limits by number: 80_conformance.py (C-40 to C-48); floods: 81_attacks.py."""
import contextlib
import os
import re
import signal
import socket
import struct

import harness
from faulty import interfere, pid_of
from harness import NOBODY, equal, until

READ = struct.pack(">BHH", 3, 7000, 2)
MAGIC = b"\x03\x04EVGW"
# Listens on a port as a service manager does, and becomes the program that is named.
ACTIVATE = """
import os, socket, sys
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def answers(port, address="127.0.0.1", pdu=READ, source=""):
    """The answer to PDU; None: closed without a byte."""
    with contextlib.closing(harness.Modbus(port, source=source, address=address)) as client:
        with contextlib.suppress(ConnectionError):
            return client.reply(pdu)
    return None


def write(watts):
    return struct.pack(">BHHBHH", 16, 7202, 2, 4, 0, watts)


def test_listeners(bench):
    """Each with lists of its own; all of them show the same registers."""
    local, guests = harness.free_port(), harness.free_port()
    gateway = bench.gateway(api=NOBODY, listener=f"""
[listener local]
address = 127.0.0.1
port = {local}
[listener guests]
address = 127.0.0.1
port = {guests}
allow = 127.0.0.0/29, ::1
write = 127.0.0.5
""")
    equal(answers(local, pdu=write(5000))[0], 16, "a write where everybody may")
    equal(answers(guests, pdu=write(6000)), b"\x90\x01", "a write of a guest")
    equal(answers(guests, pdu=write(6000), source="127.0.0.5")[0], 16, "of one on the write list")
    equal(answers(guests, source="127.0.0.8"), None, "who is not on the list")
    equal(answers(local, source="127.0.0.8"), MAGIC, "the same elsewhere")
    equal(gateway.client().u32(7202), 6000, "the same circuit")


def test_both_families(bench):
    """An IPv4 network in a list means IPv4 clients, also of a socket that takes both; an IPv6
    one means the others."""
    for allow, v4, v6 in (("127.0.0.0/8", MAGIC, None), ("::1", None, MAGIC),
                          ("::ffff:127.0.0.0/104", MAGIC, None), ("::/0", MAGIC, MAGIC),
                          ("0.0.0.0/0", MAGIC, None)):
        gateway = bench.gateway(api=NOBODY, listener=f"allow = {allow}", name=allow.replace("/", "-"))
        equal(answers(gateway.port), v4, f"127.0.0.1 with allow = {allow}")
        equal(answers(gateway.port, "::1"), v6, f"::1 with allow = {allow}")
        gateway.stop()


def test_socket_activation(bench):
    port = harness.free_port()
    gateway = bench.gateway(api=NOBODY, port=port, prefix=(
        "/usr/bin/python3", "-c", ACTIVATE, str(port)))
    for address in ("127.0.0.1", "::1"):
        equal(answers(port, address), MAGIC, f"answer on {address}")
    assert "belongs to no listener" not in gateway.log(), gateway.log()


def test_owner(bench):
    """The first writer owns the circuit until it has been silent for a while; registers and log
    tell who it is, and the refused one, and how long it has to wait."""
    gateway = bench.gateway(api=NOBODY, circuits=harness.CIRCUIT.format(which="site = ABCD-1234")
                            + "owner = first\nowner_timeout = 2\n")
    first, second = (gateway.client(source=f"127.0.0.{i}") for i in (2, 3))
    first.power(5000)
    equal(second.reply(write(6000)), b"\x90\x01", "the other's write")
    equal(second.text(7340, 20), "127.0.0.2", "the owner's register")
    assert 1 <= second.u16(7338) <= 2, "time left"
    until(lambda: second.u16(7338) == 0, "the owner's time is over", 10)
    equal(second.text(7340, 20), "", "nobody owns it")
    equal(second.reply(write(6000))[0], 16, "a write to a circuit that nobody owns")
    equal(first.reply(write(5000)), b"\x90\x01", "now it is the other way round")
    equal(first.u32(7202), 6000, "power limit")
    owners = re.findall(r"new owner circuit=garage peer=(\S+):\d+", gateway.log())
    equal(owners, ["127.0.0.2", "127.0.0.3"], "owners in the log")
    assert re.search(r"write refused.*peer=127\.0\.0\.3:\d+ owner=127\.0\.0\.2 for_s=[012]",
                     gateway.log()), gateway.log()


def test_setpoints_are_logged(bench):
    """With source, old and new value; not more than one line a second, what is left out counted."""
    gateway = bench.gateway(api=NOBODY, level="info")
    client = gateway.client(source="127.0.0.4")
    client.write(7202, 0, 5000, harness.NA16, harness.NA16, harness.NA16, 130)
    for watts in range(6000, 6100):
        client.power(watts)
    lines = re.findall(r"setpoint changed circuit=garage peer=127\.0\.0\.4:\d+ power_w=(\S+)->(\d+) "
                       r"current_da=none->none phase_da=(\S+)->(\S+) ", gateway.log())
    equal(lines[0], ("none", "5000", "none/none/none", "none/none/130"), "the first change")
    assert len(lines) < 10, f"{len(lines)} lines"

    def counted():
        client.power(7000)
        client.power(7001)
        return sum(map(int, re.findall(r"setpoint changed.*missed=(\d+)", gateway.log()))) >= 90

    until(counted, gateway.log, 10, 0.2)


def interrupted(bench, calls, what):
    """Clients are served, setpoints arrive, and it ends cleanly, though CALLS fail."""
    prefix = interfere(calls, what)
    sim = bench.sim()
    gateway = bench.gateway(sim, level="info", prefix=prefix)
    client = gateway.client()
    for _ in range(300):
        equal(client.reply(READ), MAGIC, "answer")
    for _ in range(8):
        until(lambda: answers(gateway.port) == MAGIC, "a newcomer is served", 10)
    client.power(8300)
    until(lambda: sim.currents() == [12] * 3, gateway.log, 60)
    lines = gateway.log().splitlines()
    assert len(lines) < 60, "\n".join(lines[-60:])
    os.kill(pid_of(gateway), signal.SIGTERM)  # strace does not pass it on
    equal(gateway.wait(), 0, "exit status")


def test_interrupted_calls(bench):
    """Every third call that can be interrupted is, from the hundredth on: the loader does not
    bear it."""
    interrupted(bench, "epoll_wait,recvfrom,sendto,poll,read,write", "error=EINTR:when=100+3")


def test_accept_fails(bench):
    """For reasons of the peer and of the system."""
    for error in ("EINTR", "ECONNABORTED", "EMFILE", "ENOMEM"):
        with contextlib.ExitStack() as stack:
            folder = os.path.join(bench.folder, error)
            os.mkdir(folder)
            interrupted(harness.Bench(stack, folder), "accept4", f"error={error}:when=2+3")


if __name__ == "__main__":
    harness.main(globals())
