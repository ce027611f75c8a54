#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""evecc directly at the cloud: discover, get, set, and what goes wrong on the way."""
import os
import signal
import stat

import cli
import harness
from cli import HOME, Owner, says
from harness import BUILD, PASSWORD, SERIAL, equal, until

LOGIN = "/api/accounts/login"


def test_discover(bench):
    """Everything the account has, as text, as JSON, and as sections that a gateway takes."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    path = os.path.join(bench.folder, "circuits.conf")
    says(owner.evecc("discover"), "Site ABCD-1234", "fuse 32 A, TN", "one phase alone: possible",
         "EH200001  Easee Home, master", "no, several chargers", "site = EFGH-5678")
    found = owner.evecc("discover", "--json", "--write", path).json()["circuits"]
    equal([(c["site_key"], c["circuit_panel_id"], c["master"], c["single_phase"])
           for c in found], [("ABCD-1234", 1, SERIAL, True), ("EFGH-5678", 1, "EH200001", False),
                             ("EFGH-5678", 2, "EH300001", True)], "circuits")
    says(owner.evecc("discover", "--write", path, status=cli.FAILED), path, "Nothing is overwritten")
    with open(path) as f:
        circuits = f.read()
    equal(circuits.count("[circuit "), 3, "sections")
    gateway = bench.gateway(sim, circuits=circuits)
    equal(gateway.client(unit=1).u16(7008), 3, "circuits behind the gateway")


def test_get_and_set(bench):
    """The rule of the gateway: whole amps, one phase up to 3680 W, a pause before three."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    for ask, amps, watts in (("7400", [10, 10, 10], 6900), ("3.6kW", [15, 0, 0], 3450),
                             ("0", [0, 0, 0], 0), ("max", [32, 32, 32], 22080)):
        said = owner.evecc("set", ask, *HOME, "--json").json()
        equal((said["confirmed_a"], said["confirmed_w"]), (amps, watts), f"set {ask}")
        equal(sim.currents(), amps, f"currents after set {ask}")
        got = owner.evecc("get", *HOME, "--json").json()
        equal((got["limit_a"], got["limit_w"]), (amps, watts), f"get after set {ask}")
    says(owner.evecc("set", 7400, *HOME), "asked        7400 W, phases auto",
         "sent         10 / 10 / 10 A, 6900 W, limited by: power", "confirmed    10 / 10 / 10 A")
    posts = len(sim.setpoints())
    says(owner.evecc("set", 7400, *HOME), "nothing: 10 / 10 / 10 A, 6900 W is what is set already")
    equal(len(sim.setpoints()), posts, "setpoints after a repetition")
    equal(len(sim.ledger("POST", LOGIN)), 1, "logins of all these commands")


def test_pause_before_three_phases(bench):
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    owner.evecc("set", 3000, *HOME)
    equal(sim.currents(), [13, 0, 0], "one phase")
    until(lambda: sim.charger()["op_mode"] == 3 and sim.charger()["output_phase"] == 10, "charging")
    owner.evecc("set", "11kW", *HOME)
    equal([s["dynamicCircuitCurrentP3"] for s in sim.setpoints()], [0, 0, 15], "P3 as sent")
    equal(sim.setpoints()[1]["dynamicCircuitCurrentP1"], 0, "P1 in the pause")


def test_phases(bench):
    """--phases, --max-current and the grid."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    owner.evecc("set", 3000, *HOME, "--phases", 3)
    equal(sim.currents(), [0, 0, 0], "3000 W on three phases")
    owner.evecc("set", "11kW", *HOME, "--phases", 1)
    equal(sim.currents(), [32, 0, 0], "one phase")
    owner.evecc("set", "11kW", "--charger", SERIAL, "--max-current", 13)
    equal(sim.currents(), [13, 13, 13], "a fuse of 13 A")
    sim.set(charger=SERIAL, grid_type=4)
    until(lambda: owner.evecc("discover", "--json").json()["circuits"][0]["grid"] == "IT",
          "the cloud knows of the IT grid", interval_s=0.5)
    owner.evecc("set", 3000, *HOME)
    equal(sim.currents(), [0, 0, 0], "IT grid: never one phase")


def test_bad_arguments(bench):
    owner = Owner(bench, "http://127.0.0.1:1")
    for word in ("-5", "7,4kW", "1e4", "0x10", "nan", "2000000", "kW"):
        said = cli.evecc("set", *owner.account, "--", word, status=cli.USAGE, env=owner.env)
        says(said, word, "allowed: 0 to 1000000 W")
    says(owner.evecc("set", 5000, "--phases", 2, status=cli.USAGE), "auto, 1, 3")
    says(owner.evecc("get", "--api-url", "http://example.org", status=cli.USAGE),
         "plain http to another machine")


def test_not_found(bench):
    """The names that there are stand in the message."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    says(owner.evecc("get", "--site-key", "ZZZZ-9999", status=cli.NOT_FOUND),
         "site ZZZZ-9999", "site not found", "ABCD-1234", "EH300001")
    says(owner.evecc("get", "--site-key", "ABCD-1234", "--circuit-panel-id", 7,
                     status=cli.NOT_FOUND), "circuit 7", "circuit not found")
    says(owner.evecc("get", "--charger", "EH999999", status=cli.NOT_FOUND), "charger EH999999")
    says(owner.evecc("get", status=cli.USAGE), "which circuit?", "EFGH-5678")


def test_wrong_password(bench):
    """One attempt; the same password is not tried again, another one is."""
    sim = bench.sim()
    owner = Owner(bench, sim.url, password="wrong")
    says(owner.evecc("get", *HOME, status=cli.CONFIG), "user name or password refused",
         "country code")
    equal(len(sim.ledger("POST", LOGIN)), 1, "logins")
    failed = owner.evecc("get", *HOME, "--json", status=cli.CONFIG)
    equal(failed.json()["error"]["code"], "CREDENTIALS", "error")
    says(failed, "refused before", "possible again in")
    equal(len(sim.ledger("POST", LOGIN)), 1, "logins after a repetition")


def test_no_password(bench):
    owner = Owner(bench, "http://127.0.0.1:1")
    path = owner.account[owner.account.index("--password-file") + 1]
    os.chmod(path, 0o644)
    says(owner.evecc("get", status=cli.CONFIG), path, "readable by others", "0600")
    os.unlink(path)
    says(owner.evecc("get", status=cli.CONFIG), path, "No such file", "EVECC_PASSWORD")
    says(cli.evecc("get", status=cli.CONFIG, env=owner.env), "no user name", "--username")


def test_password_sources(bench):
    """Environment and command line; the latter with a warning."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    at = owner.account.index("--password-file")
    del owner.account[at:at + 2]
    says(owner.evecc("get", *HOME, env={"EVECC_PASSWORD": PASSWORD}), "limit")
    owner.forget_token()
    owner.forget_logins()
    says(owner.evecc("get", *HOME, "--password", PASSWORD),
         "warning: --password shows the password")


def test_asked_on_a_terminal(bench):
    """The password, unseen; and what takes long has a line of its own, which goes again."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    at = owner.account.index("--password-file")
    del owner.account[at:at + 2]
    sim.fault(path="/settings", kind="slow", delay_ms=4000)
    status, shown = cli.typed(owner, "Password of owner@example.org: ", PASSWORD, "get", *HOME)
    equal(status, cli.OK, "status: " + shown)
    assert SERIAL in shown and PASSWORD not in shown, shown
    line = f"\r\033[Kasking {sim.url}, "
    assert line + "1 s" in shown, repr(shown)
    assert shown.rindex("\r\033[K") > shown.rindex(line), repr(shown)


def interrupted(owner, *args, when):
    """Presses Ctrl-C when WHEN(what it said so far) holds; its status and all it said."""
    program = harness.Program([os.path.join(BUILD, "evecc"), *map(str, args), *owner.account],
                              os.path.join(owner.bench.folder, "evecc.log"), owner.env)
    until(lambda: when(program.log()), program.log)
    program.process.send_signal(signal.SIGINT)
    return program.wait(), program.log()


def test_one_login_a_minute(bench):
    """Whoever asks; Ctrl-C ends the wait."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    owner.evecc("get", *HOME)
    owner.forget_token()
    equal(interrupted(owner, "get", *HOME, when=lambda said: "at most one login a minute" in said)[0],
          cli.FAILED, "status")
    equal(len(sim.ledger("POST", LOGIN)), 1, "logins")


def test_kept_token(bench):
    """It is private."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    owner.evecc("get", *HOME)
    path = os.path.join(owner.env["XDG_RUNTIME_DIR"], "evecc-token")
    equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "mode of the token")
    with open(path) as f:
        assert PASSWORD not in f.read(), "the password is kept"
    os.chmod(path, 0o644)  # somebody else may have read it
    owner.forget_logins()
    sim.fault(method="POST", path=LOGIN, kind="status", status=500, count=-1)
    says(owner.evecc("get", *HOME, status=cli.CLOUD), "login as")


def test_revoked_token(bench):
    """Costs one login, not a loop."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    owner.evecc("get", *HOME)
    owner.forget_logins()
    sim.set(expire_tokens=True)
    says(owner.evecc("get", *HOME), SERIAL)
    equal(len(sim.ledger("POST", LOGIN)), 2, "logins")


def test_blocked(bench):
    """After a block nothing is sent any more, by no command."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    sim.set(block=True)
    says(owner.evecc("get", *HOME, status=cli.THROTTLED), "blocked by the cloud", "Wait:")
    calls = len(sim.ledger())
    says(owner.evecc("set", 5000, *HOME, status=cli.THROTTLED), "this machine remembers")
    says(owner.evecc("discover", status=cli.THROTTLED), "this machine remembers")
    equal(len(sim.ledger()), calls, "calls during the block")


def test_forms_of_a_block(bench):
    """403 without a word of Easee's, as a firewall before the cloud sends it; 429 that speaks of a
    block."""
    sim = bench.sim()
    for n, fault in enumerate(({"kind": "html", "status": 403},
                               {"kind": "status", "status": 403, "body": "error code: 1020"},
                               {"kind": "status", "status": 429, "body": "You are blocked"})):
        owner = Owner(bench, sim.url)
        sim.fault(count=-1, **fault)
        command = ("get", *HOME) if n < 2 else ("doctor",)
        says(owner.evecc(*command, status=cli.THROTTLED, quiet=True), "blocked by the cloud",
             "Stop", "other integrations")
        calls = len(sim.ledger())
        said = owner.evecc("doctor", status=cli.THROTTLED, quiet=True)
        says(said, "blocked by the cloud", "remembers")
        equal(len(sim.ledger()), calls, "calls during the block")
        sim.heal()
        owner.forget_logins()


def test_no_network(bench):
    closed = f"http://127.0.0.1:{harness.free_port()}"
    says(Owner(bench, closed).evecc("get", *HOME, status=cli.CLOUD), "connection refused",
         "Check the network")


def test_cloud_fails(bench):
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    owner.evecc("get", *HOME)
    for fault, status, words in (
            ({"kind": "status", "status": 500}, cli.CLOUD, "cloud failure (5xx)"),
            ({"kind": "garbage"}, cli.CLOUD, "answer not understood"),
            ({"kind": "reset"}, cli.CLOUD, "connection broke off"),
            ({"kind": "redirect"}, cli.CLOUD, "redirected"),
            ({"kind": "status", "status": 429, "headers": {"Retry-After": "31"}},
             cli.THROTTLED, "too many requests")):
        sim.fault(path="/settings", count=-1, **fault)
        says(owner.evecc("get", *HOME, status=status), words)
        sim.heal()


def test_not_confirmed(bench):
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    sim.set(charger=SERIAL, confirm="never")
    says(owner.evecc("set", 7400, *HOME, status=cli.REFUSED), "10 / 10 / 10 A was sent",
         "did not confirm")


def test_interrupted(bench):
    """Ctrl-C says what was sent."""
    sim = bench.sim()
    owner = Owner(bench, sim.url)
    sim.set(charger=SERIAL, confirm="never")
    status, said = interrupted(owner, "set", 7400, *HOME, when=lambda _: sim.setpoints())
    equal(status, cli.FAILED, "status")
    assert "interrupted: 10 / 10 / 10 A was sent" in said, said


def test_with_configuration(bench):
    """The gateway's configuration serves as well, and so does its token."""
    sim = bench.sim()
    gateway = bench.gateway(sim)
    until(lambda: sim.ledger("GET", "/observations"), "the gateway works")
    env = {"XDG_RUNTIME_DIR": bench.folder}
    says(cli.evecc("get", "-c", gateway.path, env=env), SERIAL)
    says(cli.evecc("set", 5000, "-c", gateway.path, env=env), "confirmed    7 / 7 / 7 A")
    says(cli.evecc("get", "-c", gateway.path, "--circuit", "shed", env=env,
                   status=cli.NOT_FOUND), "no circuit shed; there are: garage")
    equal(len(sim.ledger("POST", LOGIN)), 1, "logins of all of them and the gateway")
    bench.write("broken.conf", "[easee]\nusernam = x\n")
    says(cli.evecc("get", "-c", os.path.join(bench.folder, "broken.conf"), env=env,
                   status=cli.CONFIG), "did you mean username", "cannot be used")


if __name__ == "__main__":
    harness.main(globals())
