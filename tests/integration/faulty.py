# SPDX-License-Identifier: MIT
"""What goes wrong around a gateway, for the tests to bring about: certificates, clocks, name
servers, lines to the cloud, networks, full disks."""
import contextlib
import ctypes
import mmap
import os
import shutil
import socket
import struct
import subprocess
import threading
import time

import harness
from harness import Skip, until

LINUX = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


# ---- certificates ----

def openssl(bench, *args):
    bench.run("openssl", *args, limit_s=30)


def authority(bench, name):
    """Path of a certificate authority's certificate; its key lies beside it."""
    path = os.path.join(bench.folder, name)
    openssl(bench, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", path + ".key",
            "-out", path + ".pem")
    return path + ".pem"


def certificate(bench, ca, names="IP:127.0.0.1", not_before=None, not_after=None):
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
            "-startdate", not_before or "20200101000000Z",
            "-enddate", not_after or "20491231000000Z")
    return path + ".pem", path + ".key"


# ---- clocks ----

class Clock:
    """The wall clock and the suspended time of programs started with `env`, or with `prefix`
    before them; for all of them time passes SPEED times as fast."""

    def __init__(self, bench, speed=1):
        if harness.SANITIZED:
            raise Skip("clocks are replaced in the plain build only")
        here = os.path.dirname(os.path.abspath(__file__))
        library = os.path.join(bench.folder, "clock.so")
        bench.run("cc", "-shared", "-fPIC", "-o", library, os.path.join(here, "clock.c"), "-ldl")
        path = bench.write("clock", "\0" * 32)
        with open(path, "r+b") as f:
            self.hands = mmap.mmap(f.fileno(), 32)
        self.speed, self.since_ns = speed, time.monotonic_ns()
        self.hands[16:] = struct.pack("=qq", speed, self.since_ns)
        self.env = {"LD_PRELOAD": library, "EVECC_TEST_CLOCK": path}
        self.prefix = ["env", *(f"{name}={value}" for name, value in self.env.items())]

    def passed_s(self):
        """Seconds that passed for the programs since the clock was made."""
        return (time.monotonic_ns() - self.since_ns) / 1e9 * self.speed

    def set(self, wall_s=None, suspended_s=None):
        """How far ahead the wall clock is of the true one; how long the machine has slept."""
        for at, value in ((0, wall_s), (8, suspended_s)):
            if value is not None:
                self.hands[at:at + 8] = struct.pack("=q", int(value))

    def show(self, unix_s):
        """The wall clock shows UNIX_S."""
        self.set(wall_s=unix_s - time.time())


# ---- name servers ----

class Names:
    """A name server; `mode` is what it does: an address to give, "silent", "nxdomain"."""

    def __init__(self, bench):
        need_root("a name server of our own")
        self.mode, self.delay_s, self.asked = "silent", 0, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        pid = os.getpid()
        self.address = f"127.{pid >> 16 & 255}.{pid >> 8 & 255}.{pid & 255 or 1}"
        self.socket.bind((self.address, 53))
        bench.stack.callback(self.socket.close)
        resolv = bench.write("resolv.conf", f"nameserver {self.address}\n", 0o644)
        self.prefix = in_mounts(f"mount --bind {resolv} /etc/resolv.conf")
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, client = self.socket.recvfrom(512)
                self.asked += 1
                threading.Thread(target=self.answer, args=(query, client), daemon=True).start()

    def answer(self, query, client):
        time.sleep(self.delay_s)  # what it simulates is time
        question = query[12:query.index(b"\0", 12) + 5]
        kind = struct.unpack(">H", question[-4:-2])[0]
        if self.mode == "silent":
            return
        code, found = (3, b"") if self.mode == "nxdomain" else (0, b"")
        v6 = ":" in self.mode
        if code == 0 and kind == (28 if v6 else 1):
            address = socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, self.mode)
            found = struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(address)) + address
        with contextlib.suppress(OSError):
            counts = struct.pack(">HHHHH", 0x8180 | code, 1, bool(found), 0, 0)
            self.socket.sendto(query[:2] + counts + question + found, client)


# ---- lines ----

class Line:
    """A TCP line to PORT that can be bad.  `answer` is what happens to what comes back: None,
    ("stall", n) or ("break", n) after n bytes, ("drip", s) one byte every s seconds; `request`
    to what goes out: None, "drop" takes it and closes, "close" closes when it was passed on."""

    def __init__(self, bench, port):
        self.port, self.answer, self.request, self.connections = port, None, None, 0
        self.address = ("127.0.0.1", harness.free_port())
        self.url = "http://%s:%d" % self.address
        self.held = contextlib.ExitStack()
        bench.stack.push(lambda *_: self.held.close())
        self.serve()

    def serve(self):
        listener = self.held.enter_context(socket.create_server(self.address))
        self.held.callback(listener.shutdown, socket.SHUT_RDWR)  # wakes who waits for it
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                self.connections += 1
                threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def cut(self, hole):
        """What is connected ends with its next request.  New connections are refused or, with HOLE,
        not answered: the queue of a listener that accepts nobody is full."""
        self.request = "drop"
        self.held.close()
        if hole:
            self.held.enter_context(socket.create_server(self.address, backlog=0))
            for _ in range(4):
                filler = self.held.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(self.address)

    def mend(self):
        """The line is good again."""
        if self.request == "drop":
            self.held.close()
            self.serve()
        self.answer = self.request = None

    def carry(self, client):
        with contextlib.suppress(OSError), client, \
                socket.create_connection(("127.0.0.1", self.port)) as cloud:
            threading.Thread(target=self.back, args=(cloud, client), daemon=True).start()
            while data := client.recv(65536):
                if self.request == "drop":
                    return
                cloud.sendall(data)
                if self.request == "close":
                    until(lambda: self.request != "close", "the line is good again", 60)
                    return

    def back(self, cloud, client):
        with contextlib.suppress(OSError):
            while data := cloud.recv(65536):
                if self.request == "close":
                    client.shutdown(socket.SHUT_RDWR)
                    return
                kind, value = self.answer or ("pass", 0)
                if kind == "drip":
                    for byte in data:
                        client.sendall(bytes([byte]))
                        time.sleep(value)  # what it simulates is time
                elif kind == "pass":
                    client.sendall(data)
                else:
                    client.sendall(data[:value])
                    if kind == "break":
                        client.shutdown(socket.SHUT_RDWR)
                    return
            client.shutdown(socket.SHUT_WR)


def need_root(what):
    if os.geteuid() != 0:
        raise Skip(f"{what} needs root")


# ---- system calls ----

def interfere(calls, what):
    """Words to put before a program, so that WHAT happens at CALLS of it, as strace has it."""
    need_root("tracing a process that protects its memory")
    if harness.SANITIZED:
        raise Skip("a sanitizer does not go with strace")
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e",
            f"inject={calls}:{what}"]


def pid_of(program):
    """Its process, also when it runs under a tracer."""
    with open(f"/proc/{program.process.pid}/task/{program.process.pid}/children") as f:
        children = f.read().split()
    return int(children[0]) if children else program.process.pid


# ---- namespaces ----

def in_mounts(*commands):
    """Words to put before a program, so that COMMANDS are in force for it alone."""
    need_root("a mount of our own")
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skip("this machine allows no mount namespaces")
    return ["unshare", "-m", "sh", "-c", " && ".join([*commands, 'exec "$@"']), "sh"]


def small_disk(folder, size="64k"):
    """... so that FOLDER is a disk of its own."""
    return in_mounts(f"mount -t tmpfs -o size={size},mode=700 none {folder}")


def inside(program, path):
    """PATH as PROGRAM sees it."""
    return f"/proc/{program.process.pid}/root{path}"


def own_network():
    """From now on this test and what it starts have a network of their own."""
    need_root("a network of our own")
    if LINUX.unshare(CLONE_NEWNET) != 0:
        raise Skip("this machine allows no network namespaces")
    ip("link", "set", "lo", "up")


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Cable:
    """A network of its own and a cable to it: 10.77.0.1 here, 10.77.0.2 there."""

    here, there = "10.77.0.1", "10.77.0.2"

    def __init__(self, bench):
        own_network()
        holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"],
                                  preexec_fn=harness.die_with_parent)
        bench.stack.callback(holder.wait)
        bench.stack.callback(holder.kill)
        ours = os.readlink("/proc/self/ns/net")
        until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != ours, "a second network")
        self.prefix = ["nsenter", "-t", str(holder.pid), "-n"]
        ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns",
           str(holder.pid))
        ip("addr", "add", self.here + "/24", "dev", "cable")
        for words in (["addr", "add", self.there + "/24", "dev", "cable"],
                      ["link", "set", "cable", "up"], ["link", "set", "lo", "up"]):
            subprocess.run([*self.prefix, "ip", *words], check=True)

    def plug(self):
        ip("link", "set", "cable", "up")

    def pull(self):
        ip("link", "set", "cable", "down")
