#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What was answered survives: kills at any instant, restarts, damaged files, a disk that takes
nothing.  EVECC_KILLS is how often the gateway is killed while clients write, default 25."""
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
import zlib

import harness
from harness import CIRCUIT, SETTINGS, STAGE_CONFIRMED, WATTS, equal, settled, until

KILLS = int(os.environ.get("EVECC_KILLS", "25"))
DURABLE_S = 0.2  # an answered wish is on disk after this
LOGIN = "/api/accounts/login"
LOGIN_REFUSED = 1 << 4  # 7128
NA32 = harness.NA32
NOBODY = "http://127.0.0.1:9"  # discard: nobody answers there


def kill(gateway):
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait()


def state_path(bench, name):
    return os.path.join(bench.folder, "state", name)


def confirmed(client):
    return client.setpoint()["stage"] >= STAGE_CONFIRMED


def lookups(sim):
    """Calls that ask where a circuit is."""
    return [e for e in sim.ledger("GET")
            if re.search(r"/sites(/\d+)?$|/site$", e["path"].split("?")[0])]


def test_second_instance(bench):
    sim = bench.sim()
    first = bench.gateway(sim)
    client = first.client()
    client.power(7400)
    first.configure(port=harness.free_port())
    second = subprocess.run([os.path.join(harness.BUILD, "eveccd"), "-c", first.path], text=True,
                            stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    assert second.returncode > 0, second
    assert f"pid {first.process.pid}" in second.stderr, second.stderr
    until(lambda: sim.currents() == [10, 10, 10], "the first one is untouched")


def test_wish_and_token_outlive_a_kill(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim)
    client = gateway.client()
    client.write(7200, 77, 1, 0, 7400, 200, harness.NA16, 190, harness.NA16, 3)
    client.write(7210, 120, 1)
    until(lambda: confirmed(client), "7400 W are confirmed")
    before = client.read(7200, 40)
    logins, found = len(sim.ledger("POST", LOGIN)), len(lookups(sim))

    kill(gateway)
    mark = len(sim.setpoints())
    client = bench.again(gateway).client()
    equal(client.read(7200, 40), before, "control block")
    equal(client.u16(7300), 77, "sequence")
    until(lambda: confirmed(client), "it is confirmed again, by the charger or by sending it")
    assert len(sim.setpoints()) <= mark + 1, sim.setpoints()
    equal(sim.currents(), [10, 10, 10], "currents")
    equal(len(sim.ledger("POST", LOGIN)), logins, "logins")
    equal(len(lookups(sim)), found, "calls to find the circuit")
    client.power(4900)
    until(lambda: sim.currents() == [7, 7, 7], "and the next wish arrives")


def test_without_a_wish_nothing_is_sent(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim)
    client = gateway.client()
    client.write_one(7210, 30)  # not a wish
    until(lambda: client.u16(7130) in (2, 3), "the cloud was reached")
    gateway.stop()
    client = bench.again(gateway).client()
    equal(client.u16(7210), 30, "watchdog, as written")
    until(lambda: client.u16(7130) in (2, 3), "the cloud was reached again")
    equal(sim.setpoints(), [], "setpoints")


def test_what_was_answered_last_is_saved_at_the_end(bench):
    gateway = bench.gateway(api=NOBODY)
    for watts in range(1000, 1010):
        gateway.client().power(watts)
        gateway.stop()
        gateway = bench.again(gateway)
        equal(gateway.client().u32(7202), watts, "power limit")


def test_changed_configuration_counts(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim)
    client = gateway.client()
    client.power(7400)
    client.write_one(7212, 90)  # fallback current
    until(lambda: confirmed(client), "confirmed")
    gateway.stop()
    circuits = gateway.settings["circuits"].replace("watchdog = 0", "watchdog = 300")
    client = bench.again(gateway, circuits=circuits).client()
    equal(client.u16(7210), 300, "watchdog: the configuration changed it")
    equal(client.u16(7212), 90, "fallback current: a client wrote it")
    equal(client.u32(7202), 7400, "power limit")


def test_another_circuit_does_not_inherit(bench):
    sim, gateway, client = settled(bench)
    mark = len(sim.setpoints())
    gateway.stop()
    client = bench.again(gateway,
                   circuits=CIRCUIT.format(which="charger = " + harness.SERIAL)).client()
    equal(client.u32(7202), NA32, "power limit")
    until(lambda: client.u16(7130) in (2, 3), "the cloud was reached")
    equal(len(sim.setpoints()), mark, "setpoints")


class Writer(threading.Thread):
    """Writes ever higher power limits until the gateway is gone; remembers when each was
    answered."""

    def __init__(self, client, watts):
        super().__init__(daemon=True)
        self.client, self.watts = client, watts
        self.answered = [(watts, 0.0)]
        self.start()

    def run(self):
        try:
            while True:
                self.client.power(self.watts + 1)
                self.watts += 1
                self.answered.append((self.watts, time.monotonic()))
                time.sleep(random.choice((0, 0, 0.001, 0.02)))
        except OSError:
            self.watts += 1  # may have been accepted all the same


class Disk(threading.Thread):
    """Saves a small file now and then as the gateway does, to see how long the disk takes."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.took = folder, [(time.monotonic(), 0.0)]
        self.ended = threading.Event()
        self.start()

    def run(self):
        folder = os.open(self.folder, os.O_RDONLY)
        while not self.ended.wait(0.05):
            started = time.monotonic()
            file = os.open("probe.new", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
            os.write(file, b"x" * 2000)
            os.fsync(file)
            os.close(file)
            os.rename("probe.new", "probe", src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
            self.took.append((started, time.monotonic() - started))
        os.close(folder)

    def slowest(self, since):
        return max([took for started, took in list(self.took) if started + took >= since],
                   default=0.0)


def test_kills_while_clients_write(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim)
    disk = Disk(bench.folder)
    bench.stack.callback(disk.join)
    bench.stack.callback(disk.ended.set)
    watts, lost, slowest = 4200, 0, 0.0
    client = gateway.client()
    client.power(watts)
    until(lambda: confirmed(client), "the first wish is confirmed")
    for _ in range(KILLS):
        writer = Writer(gateway.client(), watts)
        time.sleep(random.uniform(0, 0.5))
        killed_at = time.monotonic()
        kill(gateway)
        writer.join()
        gateway = bench.again(gateway)
        client = gateway.client()
        watts = client.u32(7202)
        # A wish may have to wait for one that is being saved.
        took_s = disk.slowest(killed_at - 2)
        limit_s = max(DURABLE_S, 3 * took_s)
        slowest = max(slowest, took_s)
        durable = max(w for w, at in writer.answered if at < killed_at - limit_s)
        assert durable <= watts <= writer.watts, (durable, watts, writer.watts, limit_s)
        lost += watts < writer.answered[-1][0]
    until(lambda: confirmed(client), "the newest wish is confirmed", 90)
    amps = min(watts // 690, 32)  # the circuit's fuse
    equal(sim.currents(), [amps] * 3, "currents")
    sent = [body["dynamicCircuitCurrentP1"] for body in sim.setpoints()]
    equal(sent, sorted(sent), "setpoints, of which none is older than the one before")
    equal(len(sim.ledger("POST", LOGIN)), 1, "logins")
    equal(len(lookups(sim)), 2, "calls to find the circuit")
    harness.note(f"{KILLS} kills; after {lost} of them the last wish answered was not yet on disk, "
                 f"which needs up to {1000 * slowest:.0f} ms here to save a file")


def test_crash_loop_keeps_the_budget(bench):
    sim, gateway, client = settled(bench)
    for i in range(15):
        client.power(WATTS[10 + i % 2])
        kill(gateway)
        gateway = bench.again(gateway)
        client = gateway.client()
        until(lambda: client.u16(7130) in (2, 3), "it knows the cloud")
    times = [e["t_ms"] for e in sim.ledger("POST", SETTINGS)]
    assert max(sum(1 for t in times if start <= t < start + 60000) for start in times) <= 10
    equal(len(sim.ledger("POST", LOGIN)), 1, "logins")
    equal(len(lookups(sim)), 2, "calls to find the circuit")
    connects = len(sim.ledger(path="/hubs/"))
    assert 5 < connects <= 10, f"{connects} connections to the hub"


def until_refused(gateway):
    client = gateway.client()
    until(lambda: client.u32(7128) & LOGIN_REFUSED, "fault bit 4: login refused")


def test_refused_password_is_not_tried_again_by_a_restart(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim, password="wrong")
    until_refused(gateway)
    for _ in range(3):
        kill(gateway)
        gateway = bench.again(gateway, password="wrong")
        until_refused(gateway)
    equal(len(sim.ledger("POST", LOGIN)), 1, "logins")
    kill(gateway)
    gateway = bench.again(gateway)
    assert not gateway.client().u32(7128) & LOGIN_REFUSED, "another password is not refused yet"


def test_expired_wish_is_not_sent(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim)
    client = gateway.client()
    client.write(7209, 8, 0, 1)  # validity 8 s, no watchdog, fallback: pause
    client.power(7400)
    until(lambda: sim.currents() == [10, 10, 10], "10/10/10")
    kill(gateway)
    mark = len(sim.setpoints())
    time.sleep(8)  # the validity itself
    client = bench.again(gateway).client()
    until(lambda: sim.currents() == [0, 0, 0], "the fallback is in force")
    equal([b["dynamicCircuitCurrentP1"] for b in sim.setpoints()[mark:]], [0], "setpoints")
    equal(client.u32(7202), 7400, "power limit, as written")


def test_damaged_state(bench):
    _, gateway, client = settled(bench)
    gateway.stop()
    for name in ("state", "state.old", "token", "token.old", "account"):
        if os.path.exists(state_path(bench, name)):
            with open(state_path(bench, name), "r+b") as f:
                f.seek(30)
                f.write(b"\0garbage\xff")
    gateway = bench.again(gateway)
    client = gateway.client()
    equal(client.u32(7202), NA32, "power limit")
    assert os.path.exists(state_path(bench, "state.bad"))
    assert "reading the saved state" in client.text(7440, 20), client.text(7440, 20)
    client.power(4900)
    until(lambda: os.path.exists(state_path(bench, "state")), "a new state is saved")
    gateway.stop()
    equal(bench.again(gateway).client().u32(7202), 4900, "power limit")


def test_previous_generation(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim)
    client = gateway.client()
    for watts in (7400, 4900):
        client.power(watts)
        until(lambda: confirmed(client), "confirmed")
    gateway.stop()
    with open(state_path(bench, "state.old")) as f:
        before = json.loads(f.read().split("\n", 1)[1])["circuits"][0]
    with open(state_path(bench, "state"), "w"):
        pass
    equal(bench.again(gateway).client().u32(7202), int(before["want.power_w"]), "power limit")
    assert "the one before it counts" in gateway.log(), gateway.log()


def test_newer_version(bench):
    sim, gateway, client = settled(bench)
    gateway.stop()
    newer = "{}"
    header = f"evecc state 99 {len(newer)} "
    with open(state_path(bench, "state"), "w") as f:
        f.write(f"{header}{zlib.crc32((header + newer).encode()):08x}\n{newer}")
    gateway = bench.again(gateway)
    client = gateway.client()
    equal(client.u32(7202), NA32, "power limit")
    client.power(4900)
    until(lambda: sim.currents() == [7, 7, 7], "control goes on")
    assert os.path.exists(state_path(bench, "state.newer"))


def test_disk_that_takes_nothing(bench):
    sim, gateway, client = settled(bench)
    os.makedirs(os.path.join(state_path(bench, "state.new"), "in the way"))
    client.power(4900)
    until(lambda: sim.currents() == [7, 7, 7], "control goes on")
    until(lambda: "state not saved" in client.text(7440, 20), "the error is shown")
    os.removedirs(os.path.join(state_path(bench, "state.new"), "in the way"))
    until(lambda: "saved again" in gateway.log(), "it is saved without a restart")
    kill(gateway)
    equal(bench.again(gateway).client().u32(7202), 4900, "power limit")


def test_without_a_state_directory(bench):
    sim = bench.sim()
    os.mkdir(os.path.join(bench.folder, "state"))
    os.chmod(os.path.join(bench.folder, "state"), 0o777)
    gateway = bench.gateway(sim)
    gateway.client().power(7400)
    until(lambda: sim.currents() == [10, 10, 10], "control goes on")
    assert "may be written by others" in gateway.log(), gateway.log()


def test_before_the_first_wish(bench):
    """What is saved when a circuit was found holds no control block."""
    sim = bench.sim()
    gateway = bench.gateway(sim)
    before = gateway.client().read(7200, 40)
    until(lambda: os.path.exists(state_path(bench, "state")), "saved")
    kill(gateway)
    equal(bench.again(gateway).client().read(7200, 40), before, "control block")


def test_state_holds_no_secrets(bench):
    _, gateway, _ = settled(bench)
    gateway.stop()
    with open(state_path(bench, "token")) as f:
        access = f.read().split("\n")[3]
    assert len(access) > 20
    for name in os.listdir(os.path.join(bench.folder, "state")):
        with open(state_path(bench, name), "rb") as f:
            text = f.read()
        equal(os.stat(f.name).st_mode & 0o777, 0o600, f"mode of {name}")
        assert harness.PASSWORD.encode() not in text, name
        assert name.startswith("token") or access.encode() not in text, name
    json.loads(open(state_path(bench, "state")).read().split("\n", 1)[1])


def test_moved_circuit_is_found_again(bench):
    """What is remembered is looked up again as soon as the cloud does not know it."""
    sim, gateway, client = settled(bench)
    kill(gateway)
    found = len(lookups(sim))
    sim.fault(path=SETTINGS, status=404, count=1)
    bench.again(gateway).client().power(4900)
    until(lambda: len(lookups(sim)) > found, "it is looked up again")


if __name__ == "__main__":
    harness.main(globals())
