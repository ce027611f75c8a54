#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The demonstration of the README: `make run`, the commands it prints, and Ctrl-C; on a machine
without a network, as an ordinary user, with the ports it likes taken by others."""
import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import time

import faulty
import harness
from harness import BUILD, SANITIZED, STAGE_CONFIRMED, TOP, Skip, equal, until

NOBODY = 65534
CLONE_NEWUSER = 0x10000000
PORTS = 8787, 1502  # that it likes
SECONDS = 2  # from the write to the charger's confirmation
BINDING_MINIMUM = 7


def no_network():
    """From now on this test has a network with nothing in it but itself."""
    if os.geteuid() == 0:
        return faulty.own_network()
    ids = {"uid_map": os.getuid(), "gid_map": os.getgid()}
    if faulty.LINUX.unshare(CLONE_NEWUSER | faulty.CLONE_NEWNET) != 0:
        raise Skip("this machine allows no network namespaces")
    for name, text in (("setgroups", "deny"), *((n, f"0 {i} 1") for n, i in ids.items())):
        with open(f"/proc/self/{name}", "w") as f:
            f.write(text)
    return faulty.ip("link", "set", "lo", "up")


def ordinary_user():
    """Words to put before a program, so that it runs as an ordinary user."""
    if os.geteuid() != 0:
        return []
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
             "--pdeathsig=KILL"]
    reachable = subprocess.run([*words, "test", "-x", os.path.join(BUILD, "eveccd")], check=False)
    if reachable.returncode:
        harness.note("as root: no other user can reach " + BUILD)
        return []
    return words


class Cloud(harness.Sim):
    """The simulated cloud somebody else started."""

    def __init__(self, port):
        self.tls, self.address, self.port = False, "127.0.0.1", port


class Run(harness.Program):
    """`tools/run BUILD`, or ARGV that comes to the same; the ports TAKEN are not free."""

    def __init__(self, bench, argv=None, taken=()):
        self.user = ordinary_user()
        no_network()
        for port in taken:
            bench.stack.enter_context(socket.create_server(("127.0.0.1", port)))
        self.home = os.path.join(bench.folder, f"home{len(bench.programs)}")
        os.mkdir(self.home)
        os.chmod(bench.folder, 0o711)
        if self.user:
            os.chown(self.home, NOBODY, NOBODY)
        self.env = {"TMPDIR": self.home, "HOME": self.home, "TERM": "xterm"}
        super().__init__(argv or [os.path.join(TOP, "tools", "run"), BUILD],
                         self.home + ".log", self.env,
                         ["setsid", *self.user])

    def until_ready(self):
        def ready():
            assert self.alive(), "ended: " + self.log()
            return "Ctrl-C stops both." in self.log()

        until(ready, lambda: "ready: " + self.log())
        self.sim = Cloud(int(re.search(r"http://127\.0\.0\.1:(\d+)\n", self.log())[1]))
        self.port = int(re.search(r"Modbus TCP +127\.0\.0\.1:(\d+),", self.log())[1])
        return self

    def command(self, what):
        """The words of the command that it says does WHAT."""
        found = re.search(rf"(?m)^  {what}  +(\S.*)$", self.log())
        assert found, f"no command to {what}: {self.log()}"
        return shlex.split(found[1])

    def try_out(self, what):
        """What that command answers, typed where `make run` was."""
        done = subprocess.run(self.command(what), cwd=TOP, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                              check=False, env={**os.environ, **self.env})
        equal(done.returncode, 0, f"status of '{what}', which said {done.stdout}")
        return done.stdout

    def watch(self, *words):
        """Its command to watch, in a terminal, until that shows WORDS."""
        master, slave = pty.openpty()
        process = subprocess.Popen(self.command("watch"), cwd=TOP, stdin=slave, stdout=slave,
                                   stderr=slave, env={**os.environ, **self.env},
                                   preexec_fn=harness.die_with_parent)
        seen = b""  # the slave stays open, or reading the last words fails

        def shows():
            nonlocal seen
            while select.select([master], [], [], 0)[0]:
                seen += os.read(master, 65536)
            return all(word.encode() in seen for word in words)

        try:
            until(shows, lambda: f"{words}: {seen}")
            process.send_signal(signal.SIGINT)
            equal(process.wait(10), 0, "status of the watching after Ctrl-C")
        finally:
            process.kill()
            process.wait()
            os.close(slave)
            os.close(master)

    def children(self):
        """Processes that it started, those of these as well."""
        def of(pid):
            with open(f"/proc/{pid}/task/{pid}/children") as f:
                for child in f.read().split():
                    yield child
                    yield from of(child)
        return list(of(self.process.pid))

    def ctrl_c(self, status=0):
        """Ends it as a terminal does, and looks at what is left."""
        children = self.children()
        assert len(children) >= 2, children
        os.killpg(self.process.pid, signal.SIGINT)
        equal(self.wait(), status, "exit status after Ctrl-C; it said " + self.log())
        for child in children:
            assert not os.path.exists(f"/proc/{child}"), f"process {child} is left"
        said = self.log()
        equal(os.listdir(self.home), [], "files left")
        assert "stopping" in said and "eveccd: " in said.split("stopping")[1], said
        assert not re.search(r"ended with status|does not stop|Traceback", said), said


def start(bench, argv=None, taken=()):
    return bench.start(Run(bench, argv, taken)).until_ready()


def client_of(bench, run):
    client = harness.Modbus(run.port)
    bench.stack.callback(client.close)
    return client


def confirmed_in(client, started, amps):
    """Seconds until AMPS are confirmed, with all that belongs to it."""
    da = [10 * a for a in amps]

    def holds():
        ack = client.setpoint()
        return ack if ack["stage"] >= STAGE_CONFIRMED and ack["confirmed"] == da else None

    ack = until(holds, lambda: f"{amps} confirmed: {client.setpoint()}")
    took = time.monotonic() - started
    equal((ack["target"], ack["sent"]), (da, da), "target and sent")
    return took


def in_time(bench, watts, amps, write=None):
    """A fresh start, then WATTS: (run, client) when AMPS are confirmed.  The best of three: other
    programs of a busy machine decide about one of them."""
    for _ in range(3):
        run = start(bench)
        client = client_of(bench, run)
        started = time.monotonic()
        if write:
            write(run)
        else:
            client.power(watts)
        took = confirmed_in(client, started, amps)
        equal(run.sim.currents(), amps, "currents at the simulator")
        equal(len(run.sim.setpoints()), 1, "calls that carry a setpoint")
        harness.note(f"{watts} W from a fresh start: {amps} confirmed after {took:.2f} s")
        if took < SECONDS or SANITIZED:
            return run, client
        run.ctrl_c()
    raise AssertionError(f"three times not confirmed within {SECONDS} s")


def printed_write(run):
    """The printed command, which is the README's but for the port."""
    with open(os.path.join(TOP, "README.md")) as f:
        readme = re.search(r"(?m)^ +(mbpoll .* -r 7202 .*)$", f.read())[1]
    equal(shlex.join(run.command("write 7400 W")), readme.replace("1502", str(run.port)),
          "the command, beside the README's")
    assert "Written 1 references." in run.try_out("write 7400 W")


def test_the_three_commands(bench):
    """Write 7400 W, read the status, watch: they do what is promised, also on other ports."""
    if not shutil.which("mbpoll"):
        raise Skip("mbpoll is not installed")
    written = time.monotonic()
    run, _ = in_time(bench, 7400, [10, 10, 10], printed_write)
    equal((run.sim.port, run.port), PORTS, "ports")

    def shown():
        return {int(register): int(value) for register, value in
                re.findall(r"\[(\d+)\]:\s+(\d+)", run.try_out("read the status"))}

    # The cloud tells one value after the other.
    until(lambda: 6700 <= shown()[7108] <= 7000 and
          all(9500 <= shown()[register] <= 10500 for register in (7110, 7112, 7114)),
          lambda: f"6.9 kW and 10 A on each phase: {shown()}", 90, 0.2)
    equal(sorted(shown()), [7108, 7110, 7112, 7114], "registers of the status command")
    harness.note(f"7108: {shown()[7108]} W, {time.monotonic() - written:.1f} s after the write")
    run.watch("7400 W", "limited by: power")
    run.ctrl_c()


def test_3000_w(bench):
    run, _ = in_time(bench, 3000, [13, 0, 0])
    run.ctrl_c()


def test_4000_w(bench):
    run, _ = in_time(bench, 4000, [16, 0, 0])
    run.ctrl_c()


def test_1200_w_is_too_little(bench):
    run, client = in_time(bench, 1200, [0, 0, 0])
    equal(client.u16(7322), BINDING_MINIMUM, "binding limit")
    run.ctrl_c()


def test_a_burst(bench):
    """100 writes in a second, the last of them 5000 W: at most two calls, the last is that one's."""
    run = start(bench)
    client = client_of(bench, run)
    started = time.monotonic()
    for i in range(99):
        client.power(4200 + 100 * i)
        until(lambda at=started + (i + 1) * 0.01: time.monotonic() >= at, "the next turn",
              interval_s=0.001)
    client.power(5000)
    harness.note(f"100 writes in {time.monotonic() - started:.2f} s")
    confirmed_in(client, started, [7, 7, 7])
    posts = run.sim.setpoints()
    assert len(posts) <= 2, f"more than 2 calls: {posts}"
    equal([posts[-1][f"dynamicCircuitCurrentP{p}"] for p in (1, 2, 3)], [7, 7, 7], "the last call")
    run.ctrl_c()


def test_make_run_with_its_ports_taken(bench):
    """The whole of it, as somebody types it: other ports, which it names, and no word about
    packages, because nothing is missing.  Ctrl-C reaches make as well, which then says so."""
    if SANITIZED:
        raise Skip("it runs the plain build")
    # The build is made already, and must not change under other tests: its make does nothing.
    run = start(bench, ["make", "-C", TOP, "run", "MAKE=true", f"B={BUILD}"], PORTS)
    assert not set(PORTS) & {run.sim.port, run.port}, run.log()
    assert f"port {PORTS[0]} is taken, easeesim uses {run.sim.port}" in run.log(), run.log()
    assert f"port {PORTS[1]} is taken, eveccd uses {run.port}" in run.log(), run.log()
    assert "setup:" not in run.log(), run.log()
    client = client_of(bench, run)
    client.power(7400)
    confirmed_in(client, time.monotonic(), [10, 10, 10])
    run.ctrl_c(status=-signal.SIGINT)


def test_a_program_that_ends(bench):
    """Nothing is left, and it is said which one it was."""
    run = start(bench)
    gateway = next(p for p in run.children()
                   if os.path.basename(os.readlink(f"/proc/{p}/exe")) == "eveccd")
    os.kill(int(gateway), signal.SIGKILL)
    equal(run.wait(), 1, "exit status")
    assert "run: eveccd ended by itself, status -9" in run.log(), run.log()
    equal(os.listdir(run.home), [], "files left")


if __name__ == "__main__":
    harness.main(globals())
