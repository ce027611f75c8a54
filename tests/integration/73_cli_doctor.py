#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""evecc doctor finds what is wrong and says what to do; evecc limits; completion."""
import contextlib
import importlib
import os
import pty
import re
import socket
import subprocess

import cli
import harness
from cli import HOME, Owner, evecc, says
from harness import BUILD, SERIAL, equal, until

tls = importlib.import_module("60_tls")


def doctor(bench, *args, status=cli.OK, **kwargs):
    env = {"XDG_RUNTIME_DIR": bench.folder, "XDG_STATE_HOME": bench.folder}
    return evecc("doctor", *args, status=status, env=env, limit_s=90, quiet=True, **kwargs)


def has(said, level, topic, *words):
    """A line of LEVEL about TOPIC with all WORDS in it or in what goes on below it."""
    found = [" ".join(check.split()) for check in re.split(r"\n(?=\S)", said.out)]
    assert any(check.split()[:2] == [level, topic] and all(w in check for w in words)
               for check in found), f"no {level} {topic} with {words} in: {said}"


def config(bench, url, **kwargs):
    """A configuration as the gateway has it; the gateway itself does not run."""
    settings, path = harness.configure(bench, api=url, **kwargs)
    return path, settings["port"]


def test_all_good(bench):
    """From the configuration to the charger and back through the gateway."""
    sim = bench.sim()
    gateway = bench.gateway(sim)
    client = gateway.client()
    until(lambda: client.text(7036, 8) == SERIAL, "the gateway knows the charger")
    said = doctor(bench, "-c", gateway.path)
    for topic, words in (("configuration", "1 listener, 1 circuit"), ("password", "known"),
                         ("clock", "agrees"), ("login", "owner@"), ("garage", "fuse 32 A"),
                         ("garage", "offline fallback 6 A"), ("garage", "one phase and three"),
                         ("garage", "no Equalizer"), ("gateway", "answers on")):
        has(said, "ok", topic, words)
    says(said, "0 errors")
    equal(sim.setpoints(), [], "setpoints of a check")


def test_nothing_runs(bench):
    path, port = config(bench, bench.sim().url)
    has(doctor(bench, "-c", path), "warning", "gateway", f"port {port} is free", "systemctl start")


def test_port_taken(bench):
    path, port = config(bench, bench.sim().url)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        has(doctor(bench, "-c", path, status=cli.GATEWAY), "error", "gateway", "in use", "ss -ltnp")


def test_configuration(bench):
    path = bench.write("bad.conf", "[easee]\nusernam = x\n[listener native]\nport = 99999\n")
    said = doctor(bench, "-c", path, status=cli.CONFIG)
    has(said, "error", "configuration", "did you mean username")
    has(said, "error", "configuration", "99999", "1 to 65535")
    has(doctor(bench, "-c", "/nonexistent.conf", status=cli.CONFIG), "error", "configuration",
        "No such file")


def test_password(bench):
    path, _ = config(bench, bench.sim().url)
    os.chmod(os.path.join(bench.folder, "password"), 0o640)
    has(doctor(bench, "-c", path, status=cli.CONFIG), "error", "password", "readable by others",
        "chmod 600")


def test_wrong_password(bench):
    path, _ = config(bench, bench.sim().url)
    bench.write("password", "wrong\n")
    has(doctor(bench, "-c", path, status=cli.CONFIG), "error", "login", "refused")


def test_no_network(bench):
    path, _ = config(bench, f"http://127.0.0.1:{harness.free_port()}")
    has(doctor(bench, "-c", path, status=cli.CLOUD), "error", "connection", "refused", "firewall")
    path, _ = config(bench, "https://no-such-host.invalid")
    has(doctor(bench, "-c", path, status=cli.CLOUD), "error", "name", "no-such-host", "DNS")


def mistrusts(bench, words, ours=True, **kwargs):
    """Each thing that can be wrong with a certificate has its own line; nothing is sent."""
    ca = tls.authority(bench, "ours")
    cert, key = tls.certificate(bench, ca, **kwargs)
    sim = bench.sim(cert=cert, key=key)
    path, _ = config(bench, sim.url, easee=f"ca_file = {ca}" if ours else "")
    has(doctor(bench, "-c", path, status=cli.CLOUD), "error", "TLS", words)
    equal(sim.ledger(), [], "requests that reached the cloud")


def test_tls_expired(bench):
    mistrusts(bench, "expired", not_after="20210101000000Z")


def test_tls_host(bench):
    mistrusts(bench, "another host", names="DNS:example.org")


def test_tls_authority(bench):
    mistrusts(bench, "unknown authority", ours=False)


def test_tls_good(bench):
    ca = tls.authority(bench, "ours")
    cert, key = tls.certificate(bench, ca)
    path, _ = config(bench, bench.sim(cert=cert, key=key).url, easee=f"ca_file = {ca}")
    has(doctor(bench, "-c", path), "ok", "TLS", "is good")


def test_clock(bench):
    sim = bench.sim()
    path, _ = config(bench, sim.url)
    sim.fault(path="/health", kind="status", status=200, count=-1,
              headers={"Date": "Tue, 01 Sep 2026 12:00:00 GMT"})
    has(doctor(bench, "-c", path, status=cli.CONFIG), "error", "clock", "ahead of", "NTP")


def test_circuit(bench):
    """What is wrong with the circuit itself."""
    sim = bench.sim()
    path, _ = config(bench, sim.url, circuits=harness.CIRCUIT.format(which="site = ZZZZ-0000"))
    has(doctor(bench, "-c", path, status=cli.NOT_FOUND), "error", "garage", "site not found")
    sim.set(charger=SERIAL, online=False)
    path, _ = config(bench, sim.url)
    until(lambda: "is offline" in doctor(bench, "-c", path, status=None).out, "offline charger",
          interval_s=1)
    has(doctor(bench, "-c", path, status=cli.REFUSED), "error", "garage", "offline", "supply")


def test_offline_fallback(bench):
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    owner.evecc("limits", *HOME, "--offline-circuit", 16, "--flash", "--yes")
    circuits = harness.CIRCUIT.format(which="site = ABCD-1234").replace("max_current = 32",
                                                                        "max_current = 10")
    path, _ = config(bench, sim.url, circuits=circuits)
    said = doctor(bench, "-c", path, status=cli.CONFIG)
    has(said, "error", "garage", "offline the charger may draw 16 A, above the fuse of 10 A",
        "--offline-circuit")
    has(said, "warning", "garage", "maximum of 32 A is above the fuse of 10 A")
    owner.evecc("limits", *HOME, "--offline-circuit", 32, "--flash", "--yes")
    has(doctor(bench, *owner.account, *HOME), "warning", "circuit", "no offline fallback")


def test_json(bench):
    path, _ = config(bench, bench.sim().url)
    result = doctor(bench, "-c", path, "--json").json()
    equal(result["errors"], 0, "errors")
    levels = [c["level"] for c in result["checks"]]
    equal(levels.count("warning"), result["warnings"], "warnings")
    assert {"level", "topic", "text"} <= set(result["checks"][0]), result


# ---- limits ----

def test_limits(bench):
    """All four knobs and the offline currents: shown, set, confirmed."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    equal({k: v for k, v in owner.evecc("limits", *HOME, "--json").json().items() if "_c" in k
           and "id" not in k},
          {"dynamic_circuit": [40, 40, 40], "max_circuit": [32, 32, 32],
           "offline_circuit": [6, 6, 6], "dynamic_charger": 32, "max_charger": 32}, "limits")
    says(owner.evecc("limits", *HOME, "--dynamic-circuit", "10,0,0", "--dynamic-charger", 16),
         "10 / 0 / 0 A")
    equal(sim.currents(), [10, 0, 0], "currents")
    equal(sim.charger()["dynamic_current"], 16, "charger's current")
    equal(sim.circuit()["flash_writes"], 0, "writes to flash")


def test_flash(bench):
    """Only with --flash and a confirmation; what is so already is not written again."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    limit = ("--offline-circuit", 8)
    says(owner.evecc("limits", *HOME, *limit, status=cli.REFUSED), "needs --flash", "wears")
    says(owner.evecc("limits", *HOME, *limit, "--flash", status=cli.REFUSED), "--yes")
    equal(sim.circuit()["flash_writes"], 0, "writes to flash")
    says(owner.evecc("limits", *HOME, *limit, "--flash", "--yes"), "8 / 8 / 8 A")
    written = sim.circuit()["flash_writes"]
    assert written > 0, "nothing was written"
    says(owner.evecc("limits", *HOME, *limit, "--flash", "--yes"), "8 / 8 / 8 A")
    equal(sim.circuit()["flash_writes"], written, "writes to flash after a repetition")
    equal(sim.circuit()["offline"], [8, 8, 8], "offline currents")


def test_confirmation(bench):
    """It names what wears out, and takes nothing but yes."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    command = ("limits", *HOME, "--max-circuit", 25, "--flash")
    status, shown = cli.typed(owner, "Type yes", "y", *command)
    equal(status, cli.REFUSED, "status")
    assert "flash wears" in shown and SERIAL in shown and "25 / 25 / 25" in shown, shown
    equal(sim.circuit()["flash_writes"], 0, "writes to flash")
    status, shown = cli.typed(owner, "Type yes", "yes", *command)
    equal(status, cli.OK, "status: " + shown)
    equal(sim.circuit()["max"], [25, 25, 25], "maximum")


def test_limits_refused(bench):
    """Nothing above the fuse, nothing but whole amps."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    says(owner.evecc("limits", *HOME, "--dynamic-circuit", 33, status=cli.REFUSED),
         "above the fuse of 32 A")
    for text in ("6.5", "-6", "16,16", "1,2,3,4", "81", "", "x"):
        says(evecc("limits", *owner.account, f"--dynamic-circuit={text}", status=cli.USAGE,
                   env=owner.env), "0 to 80 A, whole")
    says(owner.evecc("limits", "--max-charger", "16,16,16", "--flash", status=cli.USAGE), "whole")
    equal(sim.setpoints(), [], "setpoints")


# ---- help and completion ----

def test_every_command_explains_itself(bench):
    commands = [line.split()[0] for line in evecc("help").out.split("commands:\n")[1]
                .split("\n\n")[0].splitlines()]
    assert "doctor" in commands and "set" in commands, commands
    for command in commands:
        said = evecc(command, "--help")
        equal(evecc("help", command).out, said.out, f"help of {command}")
        equal(evecc("help", command, "--json").json()["text"], said.out, "the same in JSON")
        says(said, f"usage: evecc {command}", "options:", "--json", "examples:", f"evecc {command}")
        assert max(map(len, said.out.splitlines())) <= 130, f"lines of {command}"


def test_completion(bench):
    """What bash makes of it; zsh accepts it, where there is one."""
    path = bench.write("evecc.bash", evecc("completion", "bash").out)

    def completed(*words):
        quoted = " ".join(f"'{w}'" for w in ("evecc", *words))
        return bench.run("bash", "-c", f". {path}; COMP_WORDS=({quoted}); "
                         f"COMP_CWORD={len(words)}; _evecc; echo \"${{COMPREPLY[@]}}\"").split()

    equal(completed("dis"), ["discover"], "a command")
    equal(completed("-c", "x", "wr"), ["write"], "a command behind an option")
    equal(completed("write", "power_limit_"), ["power_limit_short"], "a register")
    equal(completed("read", "stag"), ["stage"], "a register")
    equal(completed("set", "--phases", ""), ["auto", "1", "3"], "words of an option")
    assert "--flash" in completed("limits", "--"), "options"
    assert "--flash" not in completed("status", "--"), "options of other commands"
    says(evecc("completion", "fish", status=cli.USAGE), "bash, zsh")
    equal(evecc("completion", "bash", "--json").json()["text"], evecc("completion", "bash").out, "JSON")
    with contextlib.suppress(FileNotFoundError):
        bench.run("zsh", "-n", bench.write("_evecc", evecc("completion", "zsh").out))


def test_no_colours(bench):
    """Colours are for terminals that want them."""
    port = harness.free_port()

    def shown(env):
        master, slave = pty.openpty()
        subprocess.run([os.path.join(BUILD, "evecc"), "registers"], stdout=slave, check=True,
                       env={**os.environ, **env})
        text = os.read(master, 4096)
        os.close(slave)
        os.close(master)
        return text

    assert b"\033[1m" in shown({"TERM": "xterm"}), "colours on a terminal"
    for env in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert b"\033[" not in shown(env), f"colours with {env}"
    assert "\033" not in evecc("status", "--port", port, status=cli.GATEWAY).err


if __name__ == "__main__":
    harness.main(globals())
