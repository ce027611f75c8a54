# SPDX-License-Identifier: MIT
"""What every integration test needs: a simulated cloud, a gateway and a Modbus client.

A test is a function whose name starts with `test_`; it receives a `Bench`, which starts things
and ends them again.  It fails by an exception and waits with `until()`, never for a fixed time.

    ./20_clients.py               runs the tests of this file
    ./20_clients.py test_mbpoll   one of them
    ./20_clients.py --list        names them

EVECC_BUILD names the folder with eveccd and easeesim, default build/.
"""
import contextlib
import ctypes
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import traceback

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, os.environ.get("EVECC_BUILD", "build"))
SANITIZED = os.path.basename(BUILD) != "build"

USER, PASSWORD = "owner@example.org", "correct horse;#battery"
SERIAL = "EH123456"
NA16, NA32 = 0xFFFF, 0xFFFFFFFF
WATTS = {a: 690 * a + 10 for a in range(6, 17)}  # for so many amps on three phases
SETTINGS = "/settings"  # the call that carries a setpoint
SKIPPED = 77  # exit status

STAGE_CONFIRMED, STAGE_EFFECTIVE = 4, 5
CONNECTION_POLLING, CONNECTION_STREAMING, CONNECTION_BLOCKED = 2, 3, 5


class Skip(Exception):
    """The test cannot run here; says why."""


def until(holds, what, limit_s=60, interval_s=0.02):
    """Waits until HOLDS() is true and returns it.  WHAT completes "never: ...", or is a
    function that describes the state in the end.  A sanitizer's build, which runs beside a
    dozen others and proves no times, has three times LIMIT_S."""
    if SANITIZED:
        limit_s *= 3
    deadline = time.monotonic() + limit_s
    while True:
        result = holds()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s} s: {what() if callable(what) else what}")
        time.sleep(interval_s)


def throughout(holds, seconds, what):
    """HOLDS() stays true for SECONDS: that nothing happens can only be seen by waiting."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert holds(), f"no longer: {what() if callable(what) else what}"
        time.sleep(0.05)


def note(text):
    """Something worth showing even when the test passes."""
    print("# " + text)


def equal(got, expected, what):
    assert got == expected, f"{what}: {got!r} instead of {expected!r}"


reservations = []  # sockets, kept open as long as this process lives


def free_port():
    """A port nobody listens on and no other test will take.  Below the range the kernel hands out
    by itself, so that no outgoing connection takes it before it is used."""
    while True:
        port = random.randrange(12000, 32000)
        reservation = socket.socket(socket.AF_UNIX)
        with socket.socket(socket.AF_INET6) as s, contextlib.suppress(OSError):
            reservation.bind(f"\0evecc test port {port}")
            reservations.append(reservation)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("::", port))
            return port


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Program:
    """A child process whose output goes to a file."""

    def __init__(self, argv, log_path, env=None, prefix=(), pass_fds=()):
        self.name = os.path.basename(argv[0])
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(env or {})}, preexec_fn=die_with_parent,
                pass_fds=pass_fds)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def alive(self):
        return self.process.poll() is None

    def wait(self, limit_s=20):
        """Its exit status."""
        return self.process.wait(limit_s)

    def stop(self, limit_s=20):
        """Ends it the way a service manager does; anything but a clean end is a failure."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} ignores SIGTERM for {limit_s} s") from None
        equal(status, 0, f"exit status of {self.name}")


class Sim(Program):
    """easeesim and its control interface."""

    def __init__(self, folder, *args, cert=None, key=None, address="127.0.0.1", prefix=()):
        port_file = os.path.join(folder, "sim.port")
        tls = ["--cert", cert, "--key", key] if cert else []
        super().__init__([os.path.join(BUILD, "easeesim"), "--port", "0",
                          "--address", address, "--port-file", port_file, *tls, *args],
                         os.path.join(folder, "easeesim.log"), prefix=prefix)

        def ready():
            assert self.alive(), "easeesim ended: " + self.log()
            with contextlib.suppress(FileNotFoundError, ValueError), open(port_file) as f:
                return int(f.read())
            return None

        self.tls, self.address = bool(cert), address
        self.port = until(ready, "easeesim is ready")
        self.url = f"{'https' if cert else 'http'}://{address}:{self.port}"

    def call(self, method, path, body=None):
        if self.tls:
            connection = http.client.HTTPSConnection(
                self.address, self.port, timeout=20, context=ssl._create_unverified_context())
        else:
            connection = http.client.HTTPConnection(self.address, self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 300, f"{method} {path} {body}: {answer.status} {text!r}"
            return json.loads(text) if text.strip() else None

    def fault(self, **fault):
        return self.call("POST", "/sim/fault", fault)

    def heal(self):
        self.call("DELETE", "/sim/fault")

    def set(self, **what):
        self.call("POST", "/sim/set", what)

    def ledger(self, method=None, path="", since=0):
        """Requests the gateway made, oldest first: of METHOD, with PATH in their path."""
        return [e for e in self.call("GET", f"/sim/ledger?since={since}")["entries"]
                if method in (None, e["method"]) and path in e["path"]]

    def setpoints(self):
        """Bodies of the settings and dynamicCurrent calls, in order."""
        return [json.loads(e["body"]) if isinstance(e["body"], str) else e["body"]
                for e in self.ledger("POST")
                if "/settings" in e["path"] or "/dynamicCurrent" in e["path"]]

    def circuit(self, circuit=12345):
        return next(c for s in self.call("GET", "/sim/state")["sites"] for c in s["circuits"]
                    if c["id"] == circuit)

    def currents(self, circuit=12345):
        return self.circuit(circuit)["dynamic"]

    def charger(self, serial=SERIAL):
        return next(h for s in self.call("GET", "/sim/state")["sites"] for c in s["circuits"]
                    for h in c["chargers"] if h["serial"] == serial)


class ModbusError(Exception):
    def __init__(self, code):
        super().__init__(f"exception {code}")
        self.code = code


class Modbus:
    """A Modbus TCP client small enough to send anything."""

    def __init__(self, port, unit=1, timeout_s=30, source="", address="127.0.0.1"):
        """SOURCE: the address to come from, such as 127.0.0.2."""
        self.socket = socket.create_connection((address, port), timeout_s, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unit, self.transaction = unit, 0

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def frame(self, pdu, unit=None, transaction=None):
        if transaction is None:
            self.transaction = transaction = (self.transaction + 1) & 0xFFFF
        unit = self.unit if unit is None else unit
        return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise ConnectionError("closed by the gateway")
            data += more
        return data

    def answer(self):
        """(transaction, unit, pdu) of the next answer."""
        transaction, protocol, length, unit = struct.unpack(">HHHB", self._exactly(7))
        equal(protocol, 0, "protocol id of an answer")
        return transaction, unit, self._exactly(length - 1)

    def reply(self, pdu, unit=None):
        """The PDU that answers PDU, an exception as well."""
        self.send(self.frame(pdu, unit))
        return self.answer()[2]

    def ask(self, pdu, unit=None):
        """The PDU that answers PDU; an exception becomes a ModbusError."""
        frame = self.frame(pdu, unit)
        self.send(frame)
        transaction, answered_by, reply = self.answer()
        equal((transaction, answered_by), (self.transaction, frame[6]), "ids of an answer")
        equal(reply[0] & 0x7F, pdu[0] & 0x7F, "function of an answer")
        if reply[0] & 0x80:
            raise ModbusError(reply[1])
        return reply

    def read(self, addr, count=1, unit=None, function=3):
        reply = self.ask(struct.pack(">BHH", function, addr, count), unit)
        equal(reply[1], 2 * count, "byte count")
        return list(struct.unpack(f">{count}H", reply[2:]))

    def u16(self, addr, unit=None):
        return self.read(addr, 1, unit)[0]

    def u32(self, addr, unit=None):
        high, low = self.read(addr, 2, unit)
        return high << 16 | low

    def text(self, addr, count, unit=None):
        raw = struct.pack(f">{count}H", *self.read(addr, count, unit))
        return raw.split(b"\0")[0].decode("ascii")

    def write(self, addr, *values, unit=None):
        """Function 16."""
        self.ask(struct.pack(f">BHHB{len(values)}H", 16, addr, len(values), 2 * len(values),
                             *values), unit)

    def write_one(self, addr, value, unit=None):
        """Function 6."""
        self.ask(struct.pack(">BHH", 6, addr, value), unit)

    def power(self, watts, unit=None):
        """7202: the power limit."""
        self.write(7202, watts >> 16, watts & 0xFFFF, unit=unit)

    def setpoint(self, unit=None):
        """The acknowledgement block, by name."""
        r = self.read(7300, 38, unit)
        return {"stage": r[1], "result": r[3], "http": r[4], "requested": r[5:8],
                "target": r[9:12], "sent": r[13:16], "confirmed": r[17:20], "binding": r[22],
                "backoff_s": r[34], "pending": r[35]}


CONFIG = """\
[gateway]
state_dir = {folder}/state
log_level = {level}

[easee]
username = {user}
password_file = {folder}/password
api_url = {api}
stream_url = {api}/hubs/chargers
{easee}
[listener native]
address = {address}
port = {port}
{listener}
{circuits}
"""

NOBODY = "http://127.0.0.1:9"  # the discard port: nobody answers

# Short times, so that no test waits for a dwell time unless it is about one.
TIMES = """\
watchdog = 0
phase_dwell = 1
phase_pause = 1
increase_interval = 1
decrease_interval = 1
"""

CIRCUIT = """\
[circuit garage]
unit = 1
{which}
max_current = 32
""" + TIMES


def configure(bench, name="", *, password=PASSWORD, **changes):
    """Writes a good configuration, with CHANGES, in the folder NAME of BENCH; its settings and its path."""
    folder = os.path.join(bench.folder, name)
    settings = {"folder": folder, "level": "debug", "user": USER, "api": NOBODY, "easee": "",
                "address": "127.0.0.1", "port": free_port(), "listener": "",
                "circuits": CIRCUIT.format(which="site = ABCD-1234"), **changes}
    os.makedirs(os.path.join(folder, "state"), mode=0o700, exist_ok=True)
    bench.write(os.path.join(name, "password"), password + "\n")
    return settings, bench.write(os.path.join(name, "eveccd.conf"), CONFIG.format(**settings))


class Gateway(Program):
    """eveccd, ready to answer."""

    def __init__(self, bench, api, *, which="site = ABCD-1234\ncircuit = 1", circuits=None,
                 easee="", listener="idle_timeout = 0", address="::", user=USER,
                 password=PASSWORD, ready=True, port=None, env=None, prefix=(), name="",
                 level="debug"):
        """NAME: a folder of its own, for several gateways in one test."""
        self.bench, self.name_in_bench = bench, name
        self.settings, self.path = configure(
            bench, name, api=api, easee=easee, listener=listener, address=address, user=user,
            password=password, port=port or free_port(), level=level,
            circuits=circuits or CIRCUIT.format(which=which))
        self.port, folder = self.settings["port"], self.settings["folder"]

        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.setblocking(False)
        notify_path = os.path.join(folder, f"notify{self.port}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(notify_path)  # of one that was stopped
        self.notify.bind(notify_path)
        super().__init__([os.path.join(BUILD, "eveccd"), "-c", self.path],
                         os.path.join(folder, "eveccd.log"),
                         {"NOTIFY_SOCKET": notify_path, **(env or {})}, prefix)
        if ready:
            self.until_notified("READY=1")

    def configure(self, **changes):
        """Writes the configuration file, with CHANGES to what it held before."""
        self.settings.update(changes)
        self.bench.write(os.path.join(self.name_in_bench, "eveccd.conf"), CONFIG.format(**self.settings))

    def until_notified(self, state):
        def notified():
            with contextlib.suppress(BlockingIOError):
                return state in self.notify.recv(4096).decode().splitlines()
            assert self.alive(), "eveccd ended: " + self.log()
            return False

        until(notified, lambda: f"{state}; its log:\n{self.log()}")

    def client(self, unit=1, timeout_s=30, source=""):
        client = Modbus(self.port, unit, timeout_s, source)
        self.bench.stack.callback(client.close)
        return client


def arrives(sim, client, amps, limit_s=60):
    """Until AMPS are in force on three phases, and confirmed."""
    until(lambda: sim.currents() == [amps] * 3 and client.u16(7301) >= STAGE_CONFIRMED,
          lambda: f"{amps} A: {sim.currents()}, {client.setpoint()}", limit_s, 0.1)


def settled(bench, amps=10, name="", **options):
    """(sim, gateway, client) with AMPS on three phases in force."""
    sim = bench.sim(name=name)
    gateway = bench.gateway(sim, name=name, **options)
    client = gateway.client()
    client.power(WATTS[amps])
    arrives(sim, client, amps)
    return sim, gateway, client


class Bench:
    """One test's folder and everything it started."""

    def __init__(self, stack, folder):
        self.stack, self.folder, self.programs = stack, folder, []

    def write(self, name, text, mode=0o600):
        path = os.path.join(self.folder, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
            f.write(text)
        return path

    def start(self, program):
        self.programs.append(program)
        return program

    def sim(self, *args, name="", **kwargs):
        """NAME: as of a gateway."""
        folder = os.path.join(self.folder, name)
        os.makedirs(folder, exist_ok=True)
        return self.start(Sim(folder, *args, **kwargs))

    def gateway(self, sim=None, **kwargs):
        """A gateway for SIM, or for what `api` says."""
        kwargs.setdefault("api", sim.url if sim else None)
        return self.start(Gateway(self, **kwargs))

    def again(self, old, **changes):
        """Another gateway in the place of OLD."""
        kept = {name: old.settings[name] for name in ("api", "circuits", "easee")}
        return self.gateway(**{**kept, **changes})

    def run(self, *argv, limit_s=60, stderr=subprocess.STDOUT, **kwargs):
        """A client program: its output; a status other than 0 is a failure."""
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=stderr, timeout=limit_s, text=True, check=False,
                              cwd=os.path.dirname(os.path.abspath(__file__)), **kwargs)
        assert done.returncode == 0, f"{argv}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def close(self):
        """Ends what still runs, newest first, and insists that it ends cleanly."""
        problems = []
        for program in reversed(self.programs):
            try:
                if program.process.returncode is None:
                    program.stop()
            except AssertionError as problem:
                problems.append(str(problem))
        assert not problems, "; ".join(problems)


def pymodbus(bench, gateway):
    """pymodbus's client, connected."""
    try:
        from pymodbus.client import ModbusTcpClient
    except ImportError as why:
        raise Skip(f"pymodbus: {why}") from why
    client = ModbusTcpClient("127.0.0.1", port=gateway.port)
    assert client.connect()
    bench.stack.callback(client.close)
    return client


def node_with(package, folder="."):
    """Node.js, where the npm PACKAGE is installed in FOLDER."""
    node = shutil.which("node")
    if not node:
        raise Skip("Node.js is not installed")
    here = os.path.dirname(os.path.abspath(__file__))
    if not os.path.isdir(os.path.join(here, folder, "node_modules", package)):
        raise Skip(f"{package} is not installed and the npm registry was not reached")
    return node


def run_test(function):
    """Exit status of one test."""
    with tempfile.TemporaryDirectory(prefix="evecc-test-") as folder, \
            contextlib.ExitStack() as stack:
        bench = Bench(stack, folder)
        try:
            try:
                function(bench)
            finally:
                bench.close()
        except Skip as why:
            print(f"{function.__name__}: skipped: {why}")
            return SKIPPED
        except Exception:
            print(f"{function.__name__}: FAILED")
            traceback.print_exc(file=sys.stdout)
            for program in bench.programs:
                print(f"---- {program.name} ----\n{program.log()}")
            return 1
    print(f"{function.__name__}: passed")
    return 0


def main(module):
    tests = {name: f for name, f in module.items() if name.startswith("test_")}
    wanted = sys.argv[1:] or list(tests)
    if wanted == ["--list"]:
        print("\n".join(tests))
        sys.exit(0)
    results = [run_test(tests[name]) for name in wanted]
    sys.exit(next((r for r in results if r not in (0, SKIPPED)), max(results)))
