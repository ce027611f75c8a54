#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Fault catalogue, the machine: signals, crashes, clocks, disks, memory, descriptors, log."""
import collections
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time

import harness
from catalogue import FAULTS
from faulty import LINUX, Clock, in_mounts, inside, interfere, need_root, pid_of, small_disk
from harness import SETTINGS, WATTS, Skip, arrives, equal, note, settled, throughout, until

RESTART = "75_restart.py"
LOGIN, REFRESH = "/api/accounts/login", "/api/accounts/refresh_token"


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- signals and crashes ----

FAULTS.elsewhere("F-01", "kill -9 at random instants while a client writes, 500 times",
                 "after each the register holds the last value answered, or a newer one; what was "
                 "answered in the last 200 ms, or in three times what this disk needs to save a "
                 "file, may be lost; the cloud never gets an older one; one login in all",
                 RESTART, "test_kills_while_clients_write", EVECC_KILLS="500")


@FAULTS.test("F-02", "SIGTERM while a setpoint hangs in the cloud",
             "the listener closes, status 0 within 3 s, the wish is there after the next start")
def test_f02(bench):
    sim, gateway, client = settled(bench)
    sim.fault(kind="silent", count=-1)
    client.power(WATTS[12])
    until(lambda: client.u16(7301) == 2, "it is sent")
    started = time.monotonic()
    gateway.stop()
    took_s = time.monotonic() - started
    note(f"ended after {took_s:.1f} s")
    assert took_s < (9 if harness.SANITIZED else 3), "too late"
    sim.heal()
    client = bench.again(gateway).client()
    equal(client.u32(7202), WATTS[12], "power limit")
    arrives(sim, client, 12)


@FAULTS.test("F-03", "SIGHUP with a good, a broken and a half-written file",
             "in force, or the old one; a line in the log each time, which names what needs a "
             "restart; connections are kept")
def test_f03(bench):
    sim, gateway, client = settled(bench)
    good = gateway.settings["circuits"]
    with open(gateway.path) as f:
        half = f.read()[:300]

    def reload(words):
        mark = len(gateway.log())
        gateway.process.send_signal(signal.SIGHUP)
        gateway.until_notified("RELOADING=1")
        gateway.until_notified("READY=1")
        assert words in gateway.log()[mark:], f"{words!r} in the log:\n{gateway.log()[mark:]}"
        equal(client.u16(7013), 320, "maximum current")

    for change, words in (({}, "is in force"), ({"easee": "nonsense = 1"}, "nothing was changed"),
                          ({"easee": ""}, "is in force"),
                          ({"circuits": good.replace("current = 32", "current = lots")}, "lots"),
                          ({"circuits": good}, "is in force"),
                          ({"circuits": good.replace("current = 32", "current = 20")}, "restart")):
        gateway.configure(**change)
        reload(words)
    bench.write("eveccd.conf", half)
    reload("nothing was changed")
    equal(client.u32(7202), WATTS[10], "power limit on the same connection")
    client.power(WATTS[12])
    arrives(sim, client, 12)


def threads(gateway):
    """Thread ids, oldest first: the Modbus thread, the stream's, the cloud's."""
    return sorted(int(t) for t in os.listdir(f"/proc/{gateway.process.pid}/task"))


@FAULTS.test("F-04", "SIGSEGV in each thread",
             "the whole process ends, at once; the next start goes on with the wish")
def test_f04(bench):
    sim, gateway, client = settled(bench)
    if harness.SANITIZED:
        raise Skip("a sanitizer takes the signal")
    for nth in range(len(threads(gateway))):
        LINUX.tgkill(gateway.process.pid, threads(gateway)[nth], signal.SIGSEGV)
        equal(gateway.wait(2), -signal.SIGSEGV, "how it ended")
        gateway = bench.again(gateway)
        client = gateway.client()
        equal(client.u32(7202), WATTS[10], "power limit")
    client.power(WATTS[12])
    arrives(sim, client, 12)


class Frozen:
    """A thread that does not run."""

    PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, thread):
        need_root("freezing a thread")
        self.thread = thread
        if self.call(self.PTRACE_SEIZE) or self.call(self.PTRACE_INTERRUPT):
            raise Skip("this machine does not allow to trace a process")
        os.waitpid(thread, self.WALL)

    def call(self, what):
        LINUX.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        return LINUX.ptrace(what, self.thread, None, None)

    def thaw(self):
        self.call(self.PTRACE_DETACH)


def pings(gateway):
    """How often the service manager's watchdog was fed since it was asked."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += "WATCHDOG=1" in gateway.notify.recv(4096).decode().splitlines()
    return count


@FAULTS.test("F-05", "the Modbus thread, the stream's, the cloud's is stopped, in a gateway each",
             "the service manager's watchdog is no longer fed, after a minute at most; when the "
             "thread goes on it is fed again")
def test_f05(bench):
    if harness.BUILD.endswith("thread"):
        raise Skip("the thread sanitizer brings a thread of its own")
    sim = bench.sim()
    fed = {}  # gateway: its frozen thread, when it was fed last
    for nth, name in enumerate(("Modbus", "stream", "cloud")):
        gateway = bench.gateway(sim, name=name, env={"WATCHDOG_USEC": "1000000"})
        until(lambda g=gateway: pings(g), "it feeds the watchdog")
        equal(len(threads(gateway)), 3, "threads")
        fed[gateway] = [Frozen(threads(gateway)[nth]), time.monotonic()]
    stopped = time.monotonic()

    def hungry():
        for gateway, state in fed.items():
            if pings(gateway):
                state[1] = time.monotonic()
        return all(time.monotonic() - last > 3 for _, last in fed.values())

    until(hungry, "no pings while a thread is stopped", 90, 0.2)
    for gateway, (frozen, last) in fed.items():
        note(f"{gateway.name_in_bench} thread stopped: fed for {max(0, last - stopped):.0f} s more")
        frozen.thaw()
    for gateway in fed:
        until(lambda g=gateway: pings(g), f"fed again: {gateway.name_in_bench}", 30)
        equal(gateway.client().u16(7000), 0x4556, "magic")


# ---- disks ----

STEPS = [(call, nth) for call in ("fsync", "linkat", "renameat", "unlinkat") for nth in range(1, 5)]


@FAULTS.test("F-06", f"killed at {len(STEPS)} system calls that make a generation of the state",
             "the next start finds the wish before or the one after, whole. Cuts between what a "
             "disk has and what it lost: tests/unit/test_store.c")
def test_f06(bench):
    sim, gateway, _ = settled(bench)
    gateway.stop()

    def generation():
        with open(os.path.join(bench.folder, "state", "state"), "rb") as f:
            return f.read()

    old, new, found = WATTS[10], WATTS[10], {"before": 0, "after": 0}
    for call, nth in STEPS:
        gateway = bench.again(gateway, ready=False,
                              prefix=interfere(call, f"signal=SIGKILL:when={nth}"))
        with contextlib.suppress(OSError, AssertionError):
            gateway.until_notified("READY=1")
            client = gateway.client()
            old = client.u32(7202)
            for _ in range(5):
                before = generation()
                new += 1
                client.power(new)
                until(lambda g=gateway, b=before: generation() != b or not g.alive(),
                      "a generation more", 10)
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(pid_of(gateway), signal.SIGKILL)
        gateway.wait()
        gateway = bench.again(gateway)
        got = gateway.client().u32(7202)
        assert old <= got <= new, f"{call} {nth}: {got}, not {old} to {new}"
        found["after" if got > old else "before"] += 1
        files = os.listdir(os.path.join(bench.folder, "state"))
        assert not any(name.endswith(".bad") for name in files), "torn"
        gateway.stop()
    note(f"{found['before']} times the wish before, {found['after']} times one after")


def fill(path):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as f:
        while f.write(b"x" * 512):
            pass


UNSAVED = ("writes are answered and reach the charger, the error is shown in 7440 and logged once "
           "a minute at most")


def unsaved(sim, gateway, client, *more_amps):
    """As UNSAVED says; MORE_AMPS are written until it is seen."""
    started = time.monotonic()

    def shown():
        return "state not saved" in client.text(7440, 20)

    for amps in (12, 9, *(a for a in more_amps if not shown())):
        client.power(WATTS[amps])
        arrives(sim, client, amps)
    until(shown, lambda: f"the error is shown: {client.text(7440, 20)!r}")
    lines, seconds = gateway.log().count("state cannot be saved"), time.monotonic() - started
    assert 1 <= lines <= 1 + (20 + seconds) / 60, f"{lines} lines in the log"


@FAULTS.test("F-07", "the disk of the state fills up, then there is room again",
             UNSAVED + "; saved again without a restart")
def test_f07(bench):
    state = os.path.join(bench.folder, "state")
    os.mkdir(state)
    sim, gateway, client = settled(bench, prefix=small_disk(state))
    fill(inside(gateway, state) + "/ballast")
    unsaved(sim, gateway, client)
    os.unlink(inside(gateway, state) + "/ballast")
    until(lambda: "saved again" in gateway.log(), "saved again")


@FAULTS.test("F-07", "the disk of the state is full when the gateway starts", UNSAVED)
def test_f07_start(bench):
    state = os.path.join(bench.folder, "state")
    os.mkdir(state)
    prefix = small_disk(state)
    full = f"; dd if=/dev/zero of={state}/ballast bs=1k 2>/dev/null; exec"
    prefix[4] = prefix[4].replace(" && exec", full)
    unsaved(*settled(bench, prefix=prefix))


@FAULTS.test("F-08", "the disk of the state is read-only when the gateway starts", UNSAVED)
def test_f08(bench):
    state = os.path.join(bench.folder, "state")
    os.mkdir(state)
    unsaved(*settled(bench, prefix=in_mounts(f"mount -t tmpfs -o ro,mode=700 none {state}")))


@FAULTS.test("F-08", "the disk of the state fails (EIO) for a while",
             UNSAVED + "; saved again without a restart")
def test_f08_eio(bench):
    sim, gateway, client = settled(bench, prefix=interfere("fsync", "error=EIO:when=8..12"))
    unsaved(sim, gateway, client, 13, 8)
    client.power(WATTS[11])
    arrives(sim, client, 11)
    until(lambda: "saved again" in gateway.log(), "saved again", 60)
    os.kill(pid_of(gateway), signal.SIGTERM)  # strace itself does not pass it on
    equal(gateway.wait(), 0, "exit status")


FAULTS.elsewhere("F-09", "state, token and account files with bytes overwritten",
                 "moved aside, started without, error shown; the next wish is saved", RESTART,
                 "test_damaged_state")
FAULTS.elsewhere("F-09", "the newest state file is empty",
                 "the generation before it counts", RESTART, "test_previous_generation")
FAULTS.elsewhere("F-09", "the state file is of a newer version",
                 "it is kept, control goes on", RESTART, "test_newer_version")


@FAULTS.test("F-09", "the state belongs to somebody else",
             "the error is logged, control goes on")
def test_f09_owner(bench):
    need_root("giving a file away")
    sim, gateway, _ = settled(bench)
    gateway.stop()
    state = os.path.join(bench.folder, "state")
    os.chown(state, 65534, 65534)
    gateway = bench.again(gateway)
    client = gateway.client()
    client.power(WATTS[12])
    arrives(sim, client, 12)
    assert "do not outlive a restart" in gateway.log(), gateway.log()
    os.chown(state, 0, 0)


FAULTS.elsewhere("F-10", "a second instance on the same state",
                 "it ends with a line that names the first, which is untouched", RESTART,
                 "test_second_instance")


@FAULTS.test("F-10", "a second instance on the same port",
             "it ends with a line that names the address, the first is untouched")
def test_f10_port(bench):
    sim, first, client = settled(bench)
    second = bench.gateway(sim, name="second", port=first.port, ready=False)
    assert second.wait() != 0, "it started"
    for words in (str(first.port), "in use", "another program has this port"):
        assert words in second.log(), second.log()
    client.power(WATTS[12])
    arrives(sim, client, 12)


# ---- memory, descriptors, processor ----

FAILING_MALLOC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
static atomic_long left = -1;
static void *frames[64];
/* Where each function on the stack is from, innermost first. */
static void crashed(int number)
{
    Dl_info from;
    int n;
    left = -1;
    n = backtrace(frames, 64);
    for (int i = 2; i < n; i++)
        if (dladdr(frames[i], &from))
            dprintf(2, "crash: %s %s\n", from.dli_fname, from.dli_sname ? from.dli_sname : "?");
    raise(number);
}
__attribute__((constructor)) static void start(void)
{
    const char *n = getenv("EVECC_TEST_MALLOC");
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    const struct sigaction act = {.sa_handler = crashed, .sa_flags = SA_RESETHAND};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &act, NULL);
    backtrace(frames, 1); /* loads what it needs */
    left = n ? atol(n) : -1;
}
static int fails(void)
{
    if (left < 0 || atomic_fetch_sub(&left, 1) != 1)
        return 0;
    errno = ENOMEM;
    return 1;
}
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return fails() ? NULL : __libc_realloc(p, n); }
"""


# libiniparser 4.1 and libcrypto's start do not look at what malloc() returns.
CARELESS = {"libiniparser.so.1", "libcrypto.so.3"}
NTHS = [1]
while NTHS[-1] < 35000:
    NTHS.append(NTHS[-1] + max(1, NTHS[-1] // 8))


def crashed_in(gateway):
    """The library whose function crashed, or had the C library crash."""
    frames = [os.path.basename(line.split()[1]) for line in gateway.log().splitlines()
              if line.startswith("crash: ")]
    return next((f for f in frames if not f.startswith(("libc.so", "ld-linux", "malloc.so"))),
                "nowhere")


@FAULTS.test("F-11", f"the n-th allocation fails, for {len(NTHS)} values of n spread over start "
                     "and the first setpoints",
             "it does not start, or serves and controls; it crashes nowhere but in libiniparser "
             "and in libcrypto, before it is ready")
def test_f11(bench):
    if harness.SANITIZED:
        raise Skip("a sanitizer brings its own allocator")
    source = bench.write("malloc.c", FAILING_MALLOC)
    library = os.path.join(bench.folder, "malloc.so")
    bench.run("cc", "-shared", "-fPIC", "-w", "-o", library, source)
    sim = bench.sim()
    ends = collections.Counter()
    for n in NTHS:
        gateway = bench.gateway(sim, ready=False, env={"LD_PRELOAD": library,
                                                       "EVECC_TEST_MALLOC": str(n)})
        try:
            gateway.until_notified("READY=1")
        except AssertionError:
            status, end = gateway.wait(5), "did not start"
            if status < 0:
                where = crashed_in(gateway)
                assert where in CARELESS, f"{n}th: {-status} in {where}:\n{gateway.log()}"
                end = f"crashed in {where}"
            ends[end] += 1
        else:
            client = gateway.client()
            client.power(WATTS[10])
            client.read(7100, 40)
            ends["served"] += 1
            gateway.stop()
        os.unlink(gateway.log_path)
    note(", ".join(f"{count} times it {end}" for end, count in sorted(ends.items())))


@FAULTS.test("F-11", "64 MiB for all its data, 32 clients that read and write",
             "everybody is served")
def test_f11_limit(bench):
    if harness.SANITIZED:
        raise Skip("a sanitizer needs terabytes of address space")
    sim, gateway, _ = settled(bench, prefix=["prlimit", f"--data={64 << 20}"],
                              listener="max_clients = 32\nmax_clients_per_address = 32")
    clients = [gateway.client() for _ in range(30)]
    for amps in (6, 16, 9, 12):
        for client in clients:
            client.power(WATTS[amps])
            client.read(7100, 40)
    arrives(sim, clients[0], 12, 60)
    with open(f"/proc/{gateway.process.pid}/status") as f:
        note([" ".join(line.split()) for line in f if line.startswith("VmRSS")][0])


@FAULTS.test("F-12", "64 descriptors, 200 connections",
             "a client that was there is served, setpoints arrive, no busy loop, later clients are "
             "served again")
def test_f12(bench):
    sim, gateway, client = settled(bench, prefix=["prlimit", "--nofile=64:64"],
                                   listener="idle_timeout = 0\nmax_clients = 256\n"
                                            "max_clients_per_address = 256")
    many = [socket.create_connection(("127.0.0.1", gateway.port), timeout=5) for _ in range(200)]
    client.power(WATTS[12])
    arrives(sim, client, 12)
    before = cpu_s(pid_of(gateway))
    throughout(lambda: client.u16(7000) == 0x4556, 3, "served")
    used = cpu_s(pid_of(gateway)) - before
    note(f"{100 * used / 3:.0f} % of a processor meanwhile")
    assert used < 1.5, "a busy loop"
    for s in many:
        s.close()
    until(lambda: gateway.client(timeout_s=2).u16(7000) == 0x4556, "a later client")


@FAULTS.test("F-13", "four busy processes on its only processor, for 5 s",
             "no connection is lost, answers within 100 ms in the median, setpoints arrive")
def test_f13(bench):
    cpu = sorted(os.sched_getaffinity(0))[-1]
    sim, gateway, client = settled(bench, prefix=["taskset", "-c", str(cpu), "nice", "-n", "5"])
    busy = [subprocess.Popen(["taskset", "-c", str(cpu), "sh", "-c", "while :; do :; done"],
                             preexec_fn=harness.die_with_parent) for _ in range(4)]
    try:
        took_ms = []
        ends = time.monotonic() + 5
        client.power(WATTS[12])
        while time.monotonic() < ends:
            started = time.perf_counter()
            client.read(7100, 40)
            took_ms.append(1000 * (time.perf_counter() - started))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    arrives(sim, client, 12)
    p50 = harness.quantile(took_ms, 0.5)
    note(f"{len(took_ms)} reads, p50 {p50:.1f} ms, max {max(took_ms):.0f} ms")
    assert p50 < 100, p50


# ---- time ----

@FAULTS.test("F-14", "stopped for a minute (SIGSTOP), in which a wish with a validity of 10 s runs "
                     "out, then continued",
             "connections survive, the expired wish is not sent, the fallback is; no burst of "
             "calls")
def test_f14(bench):
    sim, gateway, client = settled(bench)
    other = gateway.client()
    client.write(7209, 10, 0, 1)  # validity 10 s, no watchdog, fallback: pause
    client.power(WATTS[12])
    arrives(sim, client, 12)
    gateway.process.send_signal(signal.SIGSTOP)
    mark, sent = len(sim.ledger()), len(sim.setpoints())
    time.sleep(60)  # the freeze itself
    gateway.process.send_signal(signal.SIGCONT)
    until(lambda: sim.currents() == [0, 0, 0], "the fallback is in force")
    throughout(lambda: client.u16(7000) == other.u16(7000) == 0x4556, 2, "both connections")
    calls = len(sim.ledger()) - mark
    note(f"{calls} calls after it went on")
    assert calls < 8, "a burst"
    equal([b["dynamicCircuitCurrentP1"] for b in sim.setpoints()[sent:]], [0], "setpoints after it")
    client.write_one(7209, 0)
    client.power(WATTS[9])
    arrives(sim, client, 9)


@FAULTS.test("F-15",
             "suspended for three hours while a wish has a validity of one, a watchdog of 2 h",
             "after it the fallback is in force, the expired wish is not sent; one login, as "
             "an expired token cannot be refreshed; the service manager's watchdog is fed in time")
def test_f15(bench):
    clock = Clock(bench)
    sim, gateway, client = settled(bench, env={**clock.env, "WATCHDOG_USEC": "20000000"})
    client.write(7209, 3600, 7200, 1)
    client.power(WATTS[12])
    arrives(sim, client, 12)
    mark = len(sim.setpoints())
    pings(gateway)
    clock.set(suspended_s=3 * 3600)
    client.read(7100, 1)
    until(lambda: pings(gateway), "the service manager's watchdog is fed before its 20 s", 8)
    until(lambda: sim.currents() == [0, 0, 0], lambda: f"the fallback: {client.setpoint()}", 30)
    equal([b["dynamicCircuitCurrentP1"] for b in sim.setpoints()[mark:]], [0], "setpoints after it")
    equal(client.u16(7327), 2, "watchdog")
    equal((len(sim.ledger("POST", REFRESH)), len(sim.ledger("POST", LOGIN))), (0, 2),
          "refreshes and logins")


JUMPS = {"+1 h": lambda now: now + 3600, "-1 h": lambda now: now - 3600, "1970": lambda now: 60,
         "2038-01-19": lambda now: 2 ** 31 - 5, "2100": lambda now: 4102444800,
         "a second twice, as at a leap second": lambda now: now - 1}


@FAULTS.test("F-16", "the wall clock jumps: " + ", ".join(JUMPS) + ", and back",
             "watchdog and validity run on as before, connections stay, no call more, no other "
             "setpoint")
def test_f16(bench):
    clock = Clock(bench)
    sim, gateway, client = settled(bench, env=clock.env)
    client.write(7209, 600, 300, 1)
    client.power(WATTS[12])
    arrives(sim, client, 12)
    calls = len(sim.ledger("POST"))
    for name, when in JUMPS.items():
        for unix_s in (when(time.time()), time.time()):
            clock.show(unix_s)
            client.write_one(7216, 3)
            throughout(lambda: client.u16(7327) == 1 and
                       client.u16(7301) >= harness.STAGE_CONFIRMED,
                       0.5, lambda n=name: f"{n}: {client.setpoint()}")
            left_s = client.u16(7329)
            assert 500 < left_s <= 600, f"{name}: validity {left_s} s"
    equal(len(sim.ledger("POST")), calls, "calls that change something")
    client.power(WATTS[9])
    arrives(sim, client, 9)


@FAULTS.test("F-46", "the wall clock steps while a call is out",
             "the call ends as usual, its time-out too")
def test_f46(bench):
    clock = Clock(bench)
    sim, gateway, client = settled(bench, env=clock.env)
    sim.fault(method="POST", path=SETTINGS, kind="slow", delay_ms=3000, count=1)
    client.power(WATTS[12])
    until(lambda: client.u16(7301) == 2, "it is out")
    for ahead in (7200, -7200, 0):
        clock.set(wall_s=ahead)
        client.read(7100, 1)
    arrives(sim, client, 12)
    sim.fault(method="POST", path=SETTINGS, kind="silent", count=1)
    client.power(WATTS[9])
    until(lambda: client.u16(7301) == 2, "it is out")
    clock.set(wall_s=86400)
    throughout(lambda: client.u16(7303) != 12, 2, "no time-out because of the clock")
    arrives(sim, client, 9, 60)


@FAULTS.test("F-28", "killed after each of the calls that save a token the cloud has just rotated",
             "at most one login, then the token of that")
def test_f28(bench):
    sim, gateway, _ = settled(bench)
    gateway.stop()
    # The token is no longer good: the next start refreshes it, and dies while it saves the answer.
    for nth in (1, 2):
        sim.set(expire_tokens=True)
        logins, refreshes = len(sim.ledger("POST", LOGIN)), len(sim.ledger("POST", REFRESH))
        gateway = bench.again(gateway, ready=False,
                              prefix=interfere("renameat", f"signal=SIGKILL:when={nth}"))
        until(lambda: not gateway.alive(), lambda: f"killed: {gateway.log()[-500:]}", 90)
        assert len(sim.ledger("POST", REFRESH)) > refreshes, "not while it saves"
        gateway = bench.again(gateway)
        client = gateway.client()
        client.power(WATTS[9 + nth])
        arrives(sim, client, 9 + nth, 150)
        assert len(sim.ledger("POST", LOGIN)) - logins <= 1, "logins"
        gateway.stop()


FAULTS.elsewhere("F-41", "killed, and started again after the validity of its wish is over",
                 "the wish is shown but not sent; the fallback is", RESTART,
                 "test_expired_wish_is_not_sent")


@FAULTS.test("F-42", "ended and started again, as an upgrade does, under a client that writes all "
                     "the time and connects again",
             "less than 2 s without an answer; the wish is there and control goes on")
def test_f42(bench):
    sim, gateway, _ = settled(bench)
    answered, ended = [], threading.Event()

    def write():
        while not ended.wait(0.01):
            with contextlib.suppress(OSError), \
                    contextlib.closing(harness.Modbus(gateway.port, timeout_s=5)) as client:
                while not ended.wait(0.01):
                    client.write_one(7214, 1)
                    answered.append(time.monotonic())

    writer = threading.Thread(target=write)
    writer.start()
    bench.stack.callback(ended.set)
    until(lambda: answered, "an answer")
    gateway.stop()
    again = bench.again(gateway, port=gateway.port)
    count = len(answered)
    until(lambda: len(answered) > count, "answers again")
    ended.set()
    writer.join()
    gap_s = max(after - before for before, after in zip(answered, answered[1:]))
    note(f"{gap_s:.2f} s without an answer")
    assert harness.SANITIZED or gap_s < 2, gap_s
    client = again.client()
    equal(client.u32(7202), WATTS[10], "power limit")
    client.power(WATTS[12])
    arrives(sim, client, 12)


FAULTS.left_out("F-42", "upgrade and downgrade of the package",
                "an upgrade of the running service, in a clean Debian, is part of "
                "tests/integration/80_package.py; no older release reads another state than this "
                "one, and a state of a newer one is refused and kept: F-09")


# ---- the log ----

@FAULTS.test("F-43", "nobody reads its standard error, a full pipe; then it is closed",
             "clients are served, setpoints arrive")
def test_f43(bench):
    sim, gateway, _ = settled(bench)  # for its configuration, and its token
    gateway.stop()
    read, write = os.pipe()
    gateway.process = subprocess.Popen([os.path.join(harness.BUILD, "eveccd"), "-c", gateway.path],
                                       stdin=subprocess.DEVNULL, stderr=write,
                                       preexec_fn=harness.die_with_parent)
    os.close(write)
    until(lambda: socket.socket().connect_ex(("127.0.0.1", gateway.port)) == 0, "it listens")
    client = gateway.client()
    for i in range(3000):  # a line each, at level debug and info
        client.power(WATTS[6 + i % 10])
        with contextlib.suppress(harness.ModbusError):
            client.write(7201, 2)
    client.power(WATTS[12])
    arrives(sim, client, 12)
    os.close(read)
    client.power(WATTS[9])
    arrives(sim, client, 9)


@FAULTS.test("F-44", "20 000 writes of changing values and refused ones",
             "five lines a second at most in the log, what was left out is counted")
def test_f44(bench):
    _, gateway, client = settled(bench)
    mark = len(gateway.log().splitlines())
    started = time.monotonic()
    for i in range(10000):
        client.power(WATTS[6 + i % 10])
        with contextlib.suppress(harness.ModbusError):
            client.write(7201, 2)
    lines = gateway.log().splitlines()[mark:]
    seconds = time.monotonic() - started
    note(f"{len(lines)} lines in {seconds:.0f} s")
    assert len(lines) < 20 + 5 * seconds, lines[-20:]
    assert any("missed=" in line and not line.endswith("missed=0") for line in lines), "counted"


# ---- this and that ----

@FAULTS.test("F-48", "port 502 as an ordinary user",
             "it ends with a line that names the ways: socket unit, capability, another port")
def test_f48(bench):
    need_root("becoming an ordinary user")
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        if int(f.read()) <= 502:
            raise Skip("this machine lets everybody listen on port 502")
    sim = bench.sim()
    gateway = bench.gateway(sim)
    gateway.stop()
    gateway.configure(port=502)
    os.chmod(bench.folder, 0o755)
    for name in ("state", "password", "eveccd.conf"):
        os.chown(os.path.join(bench.folder, name), 65534, 65534)
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           os.path.join(harness.BUILD, "eveccd"), "-c", gateway.path],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
                          check=False)
    assert done.returncode > 0, done
    for word in ("socket", "CAP_NET_BIND_SERVICE", "port"):
        assert word in done.stderr, f"{word}: {done.stderr}"


@FAULTS.test("F-49", "LC_ALL=de_DE.UTF-8, where 1.5 is written 1,5",
             "currents are sent and understood as always")
def test_f49(bench):
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True,
                           check=False).stdout.split()
    locale = next((x for x in known if x.lower().startswith(("de_", "fr_", "nb_", "da_"))), None)
    sim, _, client = settled(bench, env={"LC_ALL": locale or "de_DE.UTF-8"})
    until(lambda: 5000 < client.u32(7108) < 8000, lambda: f"active power: {client.u32(7108)} W", 60)
    imports = subprocess.run(["nm", "-D", os.path.join(harness.BUILD, "eveccd")],
                             capture_output=True, text=True, check=False)
    assert " setlocale" not in imports.stdout, "it calls setlocale()"
    note(f"locale {locale or 'not on this machine; eveccd never calls setlocale()'}")


FAULTS.left_out("F-50", "30 days with 1 % of faults",
                "a simulated month with every kind of failure is checked after each event, in four "
                "seeds: tests/unit/test_month.c")


if __name__ == "__main__":
    harness.main(globals())
