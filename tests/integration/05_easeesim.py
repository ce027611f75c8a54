#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The simulated cloud by itself: shapes, limits, tokens, faults, timing, robustness."""
import base64
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time

import harness
from harness import PASSWORD, SERIAL, USER, equal, until

SETTINGS = "/api/sites/54321/circuits/12345/settings"
DYNAMIC = "/api/sites/54321/circuits/12345/dynamicCurrent"
FORBIDDEN = {"message": "Forbidden"}


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.text = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.text)


class Client:
    """An Easee client that makes no mistakes of its own."""

    def __init__(self, sim, login=True):
        self.sim, self.token, self.refresh_token = sim, None, None
        if login:
            equal(self.login().status, 200, "login")

    def ask(self, method, path, body=None, headers=None, timeout=20):
        """BODY: bytes, or what is sent as JSON."""
        kind = http.client.HTTPConnection
        more = {}
        if self.sim.tls:
            kind = http.client.HTTPSConnection
            more["context"] = ssl._create_unverified_context()
        all_headers = {"User-Agent": "check/1.0"}
        if self.token:
            all_headers["Authorization"] = "Bearer " + self.token
        if body is not None:
            all_headers["Content-Type"] = "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = kind("127.0.0.1", self.sim.port, timeout=timeout, **more)
        with contextlib.closing(connection):
            connection.request(method, path, body, {**all_headers, **(headers or {})})
            return Answer(connection.getresponse())

    def _take(self, answer):
        if answer.status == 200:
            self.token, self.refresh_token = (answer.json["accessToken"],
                                              answer.json["refreshToken"])
        return answer

    def login(self, user=USER, password=PASSWORD):
        return self._take(self.ask("POST", "/api/accounts/login",
                                   {"userName": user, "password": password}))

    def refresh(self, token=None):
        return self._take(self.ask("POST", "/api/accounts/refresh_token",
                                   {"accessToken": self.token,
                                    "refreshToken": token or self.refresh_token}))

    def get(self, path, status=200):
        answer = self.ask("GET", path)
        equal(answer.status, status, f"GET {path}: {answer.text!r}; status")
        return answer.json if answer.text else None

    def post(self, path, body=None, status=200):
        answer = self.ask("POST", path, body)
        equal(answer.status, status, f"POST {path} {body}: {answer.text!r}; status")
        return answer.json if answer.text else None

    def limit(self, *amps, status=200):
        return self.post(SETTINGS, {f"dynamicCircuitCurrentP{p + 1}": a
                                    for p, a in enumerate(amps)}, status)

    def observations(self, *ids, serial=SERIAL):
        got = self.get(f"/state/{serial}/observations?ids=" + ",".join(map(str, ids)))
        return {o["id"]: o["value"] for o in got["observations"]}


def start(bench, *args, **kwargs):
    with contextlib.suppress(FileNotFoundError):  # of one before
        os.remove(os.path.join(bench.folder, "sim.port"))
    sim = bench.sim(*args, **kwargs)
    return sim, Client(sim)


# Accounts and tokens.

def test_login(bench):
    sim, client = start(bench)
    token = client.login().json
    equal(token["expiresIn"], 3600, "expiresIn")
    equal((token["tokenType"], token["accessClaims"]), ("Bearer", ["User"]), "token")
    head, claims, _ = token["accessToken"].split(".")
    equal(json.loads(base64.urlsafe_b64decode(head + "=="))["alg"], "RS256", "JWT")
    claims = json.loads(base64.urlsafe_b64decode(claims + "=="))
    equal(claims["exp"] - claims["iat"], 3600, "exp - iat")
    equal(client.login("+4790000000").status, 200, "login by phone")
    equal(client.login("  " + USER + " \t").status, 200, "blanks around the name")

    for user, password in ((USER, "wrong"), ("nobody", PASSWORD), ("", ""), ("x" * 5000, "")):
        bad = client.login(user, password)
        equal(bad.status, 400, "status of a bad login")
        equal((bad.json["errorCode"], bad.json["errorCodeName"]), (100, "InvalidUserPassword"),
              "error")
    for body in (b"", b"{", b"[]", b'{"userName":1}', b'{"userName":"a","password":null}', b"\xff"):
        answer = client.ask("POST", "/api/accounts/login", body)
        assert answer.status in (400, 429), f"{body}: {answer.status}"
    sim.set(account=USER, password="new \u00fc;#\"\\")
    sim.set(limits=False)
    equal(client.login().status, 400, "old password")
    equal(client.login(USER, "new \u00fc;#\"\\").status, 200, "new password")


def test_tokens(bench):
    sim, client = start(bench)
    for bad in ("", "Bearer", "Bearer x", "Basic " + client.token, client.token):
        equal(client.ask("GET", "/api/sites", headers={"Authorization": bad}).status, 401, bad)
    old = client.refresh_token
    equal(client.refresh().status, 200, "refresh")
    equal(client.refresh(old).status, 401, "second use of a refresh token")
    equal(client.refresh("nonsense").status, 401, "unknown refresh token")
    client.get("/api/sites")
    sim.set(expire_tokens=True)
    equal(client.ask("GET", "/api/sites").status, 401, "after expiry")
    equal(client.refresh().status, 200, "refresh with an expired access token")
    client.get("/api/sites")
    sim.set(revoke_refresh=True)
    client.get("/api/sites")
    equal(client.refresh().status, 401, "revoked refresh token")


def test_tokens_expire_by_themselves(bench):
    sim, client = start(bench, "--speed", "3600")
    equal(client.login().json["expiresIn"], 1, "expiresIn in the client's time")
    until(lambda: client.ask("GET", "/api/chargers/x").status == 401, "the token expires", 5)
    equal(client.refresh().status, 200, "refresh")


# Discovery.

def test_discovery(bench):
    sim, client = start(bench)
    sites = client.get("/api/sites")
    equal([(s["id"], s["siteKey"]) for s in sites], [(54321, "ABCD-1234"), (54322, "EFGH-5678")],
          "sites")
    site = client.get("/api/sites/54322?detailed=true")
    equal([(c["id"], c["siteId"], c["circuitPanelId"], [h["id"] for h in c["chargers"]])
           for c in site["circuits"]],
          [(12346, 54322, 1, ["EH200001", "EH200002"]), (12347, 54322, 2, ["EH300001"])],
          "circuits")
    plates = [h["backPlate"] for h in site["circuits"][0]["chargers"]]
    equal([p["id"] == p["masterBackPlateId"] for p in plates], [True, False], "master")
    equal(client.get("/api/chargers/EH300001/site"), client.get("/api/sites/54322"), "site of")
    equal(client.get("/api/accounts/products")[1], client.get("/api/sites/54322"), "product")
    assert "circuits" not in client.get("/api/sites/54322?detailed=false")
    equal([c["id"] for c in client.get("/api/chargers")],
          [SERIAL, "EH200001", "EH200002", "EH300001"], "chargers")
    equal(client.get(f"/api/chargers/{SERIAL}")["productCode"], 1, "product")
    equal(client.get(f"/api/chargers/{SERIAL}/details")["serialNumber"], SERIAL, "serial")
    equal(client.get(f"/firmware/{SERIAL}/latest"), {"latestFirmware": 330}, "firmware")
    config = client.get(f"/api/chargers/{SERIAL}/config")
    equal((config["phaseMode"], config["maxChargerCurrent"], config["detectedPowerGridType"],
           config["isEnabled"], config["circuitMaxCurrentP1"]), (2, 32.0, 1, True, 32.0), "config")
    equal(client.ask("GET", "/health").status, 200, "health")


def test_unknown_things(bench):
    sim, client = start(bench)
    for path, status in (("/api/sites/1", 404), ("/api/sites/x", 404), ("/api/sites/54321x", 404),
                         ("/api/sites/99999999999999999999", 404), ("/api/chargers/NO/site", 404),
                         ("/api/chargers/NO/state", 404), (f"/api/chargers/{SERIAL}/state", 404),
                         ("/api/sites/54321/circuits/12346/settings", 404),
                         ("/api/sites/54321/circuits/12345x/settings", 404),
                         ("/api/nothing", 403), ("/", 403), ("/api/sites/", 403), ("/x" * 400, 403),
                         (f"/api/chargers/{SERIAL}/settings", 405),
                         ("/api/accounts/login", 405)):
        answer = client.ask("GET", path)
        equal(answer.status, status, path)
        if status == 403:
            equal(answer.json, FORBIDDEN, path)
        if status == 404:
            equal(answer.json["status"], 404, path)
    equal(client.ask("POST", f"/api/chargers/{SERIAL}/commands/dance").status, 404, "command")
    client.token = None
    equal(client.ask("GET", "/api/nothing").status, 403, "an unknown path needs no token")
    equal(client.ask("GET", SETTINGS).status, 401, "a known one does")


def test_somebody_elses(bench):
    world = {"accounts": [{"user": "a", "password": "1"}, {"user": "b", "password": "2"}],
             "sites": [{"id": 1, "account": "b", "circuits": [
                 {"id": 2, "chargers": [{"serial": "EH1"}]}]}]}
    sim = bench.sim("--world", bench.write("world", json.dumps(world)))
    client = Client(sim, login=False)
    client.login("a", "1")
    equal(client.get("/api/sites"), [], "sites")
    for path in ("/api/sites/1", "/api/chargers/EH1/config", "/state/EH1/observations?ids=1",
                 "/api/sites/1/circuits/2/settings"):
        equal(client.ask("GET", path).status, 403, path)


def test_quirks_of_discovery(bench):
    sim, client = start(bench)
    sim.set(quirks={"circuits_null": True})
    equal(client.get("/api/sites/54321")["circuits"], None, "circuits")
    sim.set(quirks={"circuits_null": False, "chargers_null": True, "extra_fields": True})
    circuit = client.get("/api/sites/54321")["circuits"][0]
    equal(circuit["chargers"], None, "chargers")
    assert "somethingNew" in circuit


# Circuits.

def test_circuit_settings(bench):
    sim, client = start(bench)
    got = client.ask("GET", SETTINGS)
    assert b'"dynamicCircuitCurrentP1":40.0' in got.text, "doubles look like doubles"
    equal(got.json["masterChargerId"], SERIAL, "master")
    equal([got.json[f"offlineMaxCircuitCurrentP{p}"] for p in (1, 2, 3)], [6, 6, 6], "offline")
    answer = client.ask("POST", SETTINGS, {"dynamicCircuitCurrentP1": 10.9,
                                           "dynamicCircuitCurrentP2": 11, "dynamicCircuitCurrentP3": 12})
    equal((answer.status, answer.text), (200, b""), "answer to a write")
    equal(client.get(DYNAMIC), {"phase1": 40.0, "phase2": 40.0, "phase3": 40.0}, "not yet")
    until(lambda: client.get(DYNAMIC) == {"phase1": 10.0, "phase2": 11.0, "phase3": 12.0},
          "the cloud has it")
    equal(sim.circuit()["dynamic"], [10, 11, 12], "the charger has it")
    until(lambda: client.observations(111, 112, 113) == {111: 10.0, 112: 11.0, 113: 12.0},
          "the charger reports it")
    until(lambda: client.observations(114, 96, 109, 110) == {114: 10.0, 96: 27, 109: 3, 110: 30},
          "what follows from it")
    until(lambda: client.observations(183, 184, 185) == {183: 10.0, 184: 10.0, 185: 10.0},
          "the car follows")
    until(lambda: abs(client.observations(120)[120] - 6.93) < 0.02, "the power too")
    equal(sim.circuit()["flash_writes"], 0, "flash writes")

    client.post(SETTINGS, {"dynamicCircuitCurrentP2": 20, "maxCircuitCurrentP1": 25,
                           "offlineMaxCircuitCurrentP3": 8})
    until(lambda: sim.circuit()["dynamic"] == [10, 20, 12], "an omitted phase stays")
    until(lambda: sim.circuit()["max"] == [25, 32, 32], "max")
    until(lambda: sim.circuit()["offline"] == [6, 6, 8], "offline")
    equal(sim.circuit()["flash_writes"], 2, "flash writes")
    sim.set(quirks={"omitted_zero": True})
    client.post(SETTINGS, {"dynamicCircuitCurrentP1": 16})
    until(lambda: sim.circuit()["dynamic"] == [16, 0, 0], "an omitted phase is zero")

    for body in (b"", b"{", b"[]", b"null", b'"x"', b"{}x", b'{"dynamicCircuitCurrentP1":"10"}',
                 b'{"dynamicCircuitCurrentP1":-1}', b'{"dynamicCircuitCurrentP1":1e99}',
                 b'{"dynamicCircuitCurrentP1":[10]}', b'{"enableIdleCurrent":3}'):
        equal(client.ask("POST", SETTINGS, body).status, 400, body)
    client.post(SETTINGS, {})
    client.post(SETTINGS, {"dynamicCircuitCurrentP1": None})


def test_unchanged_is_not_forwarded(bench):
    sim, client = start(bench, "--speed", "20")
    sim.set(quirks={"settings_202": True}, limits=False)
    first = client.limit(10, 10, 10, status=202)
    equal((first[0]["device"], first[0]["commandId"], len(first)), (SERIAL, 22, 1), "command")
    equal(client.limit(10, 10, 10, status=202), [], "while it is on its way")
    until(lambda: sim.currents() == [10, 10, 10], "it arrives")
    equal(client.limit(10.4, 10, 10, status=202), [], "afterwards")
    body = {"phase1": 10, "phase2": 10, "phase3": 10, "timeToLive": 5}
    equal(len(client.post(DYNAMIC, body, 202)), 1, "dynamicCurrent is forwarded")
    sim.set(forward_same=False)
    equal(client.post(DYNAMIC, body, 202), [], "unless told otherwise")


def test_time_to_live(bench):
    for expiry, amps in (("offline", 6), ("maximum", 32), ("never", 12)):
        sim, client = start(bench, "--speed", "30")
        sim.set(ttl_expiry=expiry)
        sent = client.post(DYNAMIC, {"phase1": 12, "phase2": 12, "phase3": 12, "timeToLive": 2},
                           202)
        equal((sent[0]["device"], sent[0]["commandId"]), (SERIAL, 22), "command")
        until(lambda: sim.currents() == [12, 12, 12], "it arrives")
        lives = sim.circuit()["ttl_s"]
        assert 0 < lives <= 120, lives
        until(lambda: sim.circuit()["ttl_s"] is None, "it lapses")
        until(lambda: client.get(DYNAMIC)["phase1"] == amps, f"{expiry}: {amps} A")
        sim.stop()
    sim, client = start(bench)
    sim.set(quirks={"dynamic_200": True})
    equal(client.ask("POST", DYNAMIC, {"phase1": 8, "phase2": 8, "phase3": 8}).text, b"", "200")
    for ttl in (-1, 1.5, "5", 1e12):
        client.post(DYNAMIC, {"phase1": 8, "timeToLive": ttl}, 400)


def test_somebody_else_writes(bench):
    sim, client = start(bench)
    sim.set(circuit=12345, dynamic=[20, 20, 20])
    until(lambda: client.get(DYNAMIC)["phase3"] == 20, "the cloud knows")
    until(lambda: client.observations(113)[113] == 20, "the charger tells")


def test_numbers_that_surprise(bench):
    sim, client = start(bench)
    sim.set(quirks={"null_fields": True})
    got = client.get(SETTINGS)
    equal({got[k] for k in got if "CircuitCurrentP" in k}, {None}, "nulls")
    equal(client.get(DYNAMIC), {"phase1": None, "phase2": None, "phase3": None}, "nulls")
    sim.set(quirks={"null_fields": False, "thousand": True})
    assert b'"maxCircuitCurrentP1":1000.0' in client.ask("GET", SETTINGS).text
    sim.set(quirks={"big_ticks": True})
    sent = client.ask("POST", f"/api/chargers/{SERIAL}/commands/pause_charging")
    ticks = sent.json["ticks"]
    assert 9 * 10**18 < ticks < 2**63 and f'"ticks":{ticks}'.encode() in sent.text
    until(lambda: client.ask("GET", f"/api/commands/{SERIAL}/48/{ticks}").status == 200, "verdict")
    equal(client.get(f"/api/commands/{SERIAL}/48/{ticks}")["ticks"], ticks, "exact ticks")
    client.get(f"/api/commands/{SERIAL}/48/{ticks + 1}", 404)


# Chargers.

def test_observations(bench):
    sim, client = start(bench)
    for query in ("", "?", "?ids=", "?ids=a", "?ids=1,,2", "?id=1"):
        client.get(f"/state/{SERIAL}/observations{query}", 400)
    got = client.get(f"/state/{SERIAL}/observations?ids=109,100,250,48,99999,129&x=1")
    equal([o["id"] for o in got["observations"]], [109, 100, 250, 48], "never reported is absent")
    by_id = {o["id"]: o for o in got["observations"]}
    equal([(by_id[i]["dataType"], by_id[i]["value"]) for i in (109, 100, 250, 48)],
          [(4, 3), (6, "C"), (2, True), (3, 32.0)], "values in their own types")
    time.strptime(by_id[109]["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")
    volts = client.observations(194, 195, 196)
    assert all(229 < v < 233 for v in volts.values()), volts
    known = [o["id"] for o in client.get("/api/resources/observation_properties")]
    for wanted in (21, 22, 24, 30, 31, 37, 38, 42, 45, 47, 48, 50, 52, 70, 73, 76, 80, 89, 96, 100,
                   102, 103, 104, 109, 110, 111, 113, 114, 120, 121, 122, 124, 125, 141, 146, 150,
                   182, 183, 185, 190, 199, 223, 250):
        assert wanted in known, wanted
    got = client.observations(*known)
    equal(set(known) - got.keys(), {129}, "no session has ended yet")
    assert 70 not in client.observations(*known, serial="EH200002"), "only masters report it"
    equal(client.observations(109, 100, serial="EH200001"), {109: 1, 100: "A"}, "no car")


def test_legacy_state(bench):
    sim, client = start(bench, "--legacy-state")
    state = client.get(f"/api/chargers/{SERIAL}/state")
    equal((state["chargerOpMode"], state["isOnline"], state["outputPhase"]), (3, True, 30), "state")


def verdict(client, command):
    path = f"/api/commands/{command['device']}/{command['commandId']}/{command['ticks']}"
    until(lambda: client.ask("GET", path).status == 200, "the command is shown")
    return client.get(path)


def test_commands(bench):
    sim, client = start(bench)
    path = f"/api/chargers/{SERIAL}/settings"
    sent = client.post(path, {"dynamicChargerCurrent": 10}, 202)
    equal((len(sent), sent[0]["commandId"]), (1, 48), "settings")
    seen = time.time() * 10**7 + 621355968000000000
    assert abs(sent[0]["ticks"] - seen) < 10**8, ".NET ticks of now"
    until(lambda: sim.charger()["dynamic_current"] == 10, "it arrives")
    got = verdict(client, sent[0])
    equal((got["id"], got["wasAccepted"], got["resultCode"]), (48, True, 0), "verdict")
    equal(client.post(path, {"dynamicChargerCurrent": 10}, 202), [], "unchanged")
    sent = client.post(path, {"phaseMode": 1, "lockCablePermanently": True, "dynamicChargerCurrent": 10},
                       202)
    equal(sorted(c["commandId"] for c in sent), [30, 38], "two of three change")
    for bad in ({"dynamicChargerCurrent": "x"}, {"dynamicChargerCurrent": -1}, {"enabled": 1},
                {"phaseMode": 1.5}, []):
        client.post(path, bad, 400)

    sim.set(charger=SERIAL, confirm="reject")
    got = verdict(client, client.post(path, {"dynamicChargerCurrent": 20}, 202)[0])
    until(lambda: verdict(client, {"device": SERIAL, "commandId": 48, "ticks": got["ticks"]})
          ["wasAccepted"] is False, "rejected")
    equal(sim.charger()["dynamic_current"], 10, "not applied")
    sim.set(charger=SERIAL, confirm="normal")

    commands = f"/api/chargers/{SERIAL}/commands/"
    client.post(commands + "set_dynamic_charger_current", {"amps": 16, "minutes": 10}, 202)
    until(lambda: sim.charger()["dynamic_current"] == 16, "set_dynamic_charger_current")
    client.post(commands + "set_dynamic_charger_current", {"amps": "16"}, 400)
    equal(client.post(commands + "pause_charging", {}, 202)["commandId"], 48, "pause")
    until(lambda: client.observations(109, 96) == {109: 2, 96: 52}, "paused")
    equal(client.post(commands + "resume_charging", None, 202)["commandId"], 48, "resume")
    until(lambda: sim.charger()["dynamic_current"] == 32, "resume goes to the maximum")
    for name, number in (("start_charging", 25), ("stop_charging", 26), ("toggle_charging", 48),
                         ("smart_charging", 11), ("lock_state", 30), ("poll_lifetimeenergy", 2)):
        equal(client.post(commands + name, {"state": True}, 202)["commandId"], number, name)
    sim.set(limits=False)
    equal(client.post(commands + "reboot", None, 202)["commandId"], 1, "reboot")
    until(lambda: client.observations(250) == {250: False}, "restarting")
    sim.set(speed=200)
    until(lambda: client.observations(250) == {250: True}, "back")
    until(lambda: client.get(DYNAMIC)["phase1"] == 40, "dynamic limits are forgotten")


def test_offline(bench):
    sim, client = start(bench)
    sim.set(charger=SERIAL, online=False)
    equal(client.observations(250, 109), {250: False, 109: 0}, "offline")
    sent = client.post(f"/api/chargers/{SERIAL}/settings", {"dynamicChargerCurrent": 10}, 202)[0]
    client.limit(10, 10, 10)
    until(lambda: sim.charger()["current"] == [6, 6, 6], "the offline limit", 10)
    equal(verdict(client, sent)["wasAccepted"], None, "sent")
    sim.set(speed=100)
    until(lambda: verdict(client, sent)["resultCode"] == 2, "expired")
    equal(client.get(DYNAMIC)["phase1"], 40, "never confirmed")
    sim.set(quirks={"offline_504": True})
    client.limit(12, 12, 12, status=504)
    client.post(f"/api/chargers/{SERIAL}/settings", {"dynamicChargerCurrent": 9}, 504)
    sim.set(charger=SERIAL, online=True)
    until(lambda: client.observations(250, 109) == {250: True, 109: 3}, "back")


def test_car_and_error(bench):
    sim, client = start(bench, "--speed", "10")

    def mode(number, what):
        until(lambda: client.observations(109)[109] == number, what)

    sim.set(limits=False)
    sim.set(charger=SERIAL, car={"full": True})
    mode(4, "full")
    sim.set(charger=SERIAL, car={"full": False, "wants_a": 0})
    mode(6, "idle")
    sim.set(charger=SERIAL, car={"connected": False})
    mode(1, "unplugged")
    sim.set(charger=SERIAL, car={"connected": True, "wants_a": 16, "phases": 1})
    until(lambda: sim.charger()["current"] == [16, 0, 0], "a one-phase car")
    sim.set(charger=SERIAL, op_mode_error=True)
    mode(5, "error")
    until(lambda: client.observations(96) == {96: 56}, "reason")
    sim.set(charger=SERIAL, op_mode_error=False)
    mode(3, "recovered")


# Limits.

def test_limits(bench):
    sim, client = start(bench)
    for i in range(20):
        client.limit(10 + i % 3, 10, 10)
    refused = client.ask("POST", SETTINGS, {"dynamicCircuitCurrentP1": 10})
    equal(refused.status, 429, "the 21st write")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60, refused.headers["Retry-After"]
    client.get(SETTINGS)
    equal(client.ask("POST", DYNAMIC, {"phase1": 9}).status, 429, "the same class")
    client.post(f"/api/chargers/{SERIAL}/settings", {"dynamicChargerCurrent": 10}, 202)
    entry = sim.ledger("POST", "/settings")[-2]
    equal((entry["status"], entry["class"], entry["retry_after"]),
          (429, "circuit_write", int(refused.headers["Retry-After"])), "ledger")

    for path, calls in (("/api/chargers", 2), ("/api/sites/54321", 10)):
        for _ in range(calls):
            client.get(path)
        equal(client.ask("GET", path).status, 429, path)
    equal(client.ask("POST", f"/api/chargers/{SERIAL}/commands/poll_chargeropmode").status, 202,
          "poll")
    refused = client.ask("POST", f"/api/chargers/{SERIAL}/commands/poll_chargeropmode")
    equal(refused.status, 429, "poll again")
    assert 170 < int(refused.headers["Retry-After"]) <= 180
    for _ in range(100):
        client.get(f"/state/{SERIAL}/observations?ids=109")
    equal(client.ask("GET", f"/state/{SERIAL}/observations?ids=109").status, 429, "observations")
    sim.set(limits=False)
    client.get("/api/chargers")


def test_everything_together(bench):
    sim, client = start(bench)
    answers = [client.ask("GET", SETTINGS).status for _ in range(499)]
    equal(set(answers), {200}, "500 calls with the login")
    equal(client.ask("GET", SETTINGS).status, 429, "one more")
    equal(client.ask("GET", "/api/nothing").status, 429, "whatever it is")


def test_limits_follow_simulated_time(bench):
    sim, client = start(bench, "--speed", "10")
    sim.set(block_after=0)
    refused = until(lambda: (a := client.ask("POST", SETTINGS, {})).status == 429 and a, "limit")
    assert 1 <= int(refused.headers["Retry-After"]) <= 6, "in the client's seconds"
    until(lambda: client.ask("POST", SETTINGS, {}).status == 200, "a simulated minute later")


def test_block(bench):
    for status in (403, 429):
        sim, client = start(bench, "--speed", "50")
        sim.set(block_after=5, block_s=100, block_status=status)
        for _ in range(2 + 5):
            client.ask("GET", "/api/chargers")
        blocked = client.ask("GET", "/api/sites")
        equal(blocked.status, status, "blocked")
        assert status == 429 or blocked.json == FORBIDDEN
        assert "Retry-After" not in blocked.headers
        equal(client.login().status, status, "login too")
        equal(sim.call("GET", "/sim/state")["blocked"], True, "state")
        deadline = time.monotonic() + 3  # 150 simulated seconds, more than the block lasts
        while time.monotonic() < deadline:
            equal(client.ask("GET", "/api/sites").status, status, "each request restarts it")
        until(lambda: not sim.call("GET", "/sim/state")["blocked"], "silence ends it")
        client.get("/api/sites")
        sim.set(block=True)
        equal(client.ask("GET", "/api/sites").status, status, "by order")
        sim.set(block=False)
        client.get("/api/sites")
        sim.stop()


# Faults, ledger, control.

def broken(client, *args, timeout=20):
    """The exception of a call that gets no whole answer."""
    try:
        answer = client.ask(*args, timeout=timeout)
    except (http.client.HTTPException, OSError) as e:
        return e
    raise AssertionError(f"answered: {answer.status} {answer.text[:80]!r}")


def test_faults(bench):
    sim, client = start(bench)
    sim.fault(path="/settings", count=2, status=503, headers={"Retry-After": "7"}, body="later")
    for _ in range(2):
        answer = client.ask("GET", SETTINGS)
        equal((answer.status, answer.headers["Retry-After"], answer.text), (503, "7", b"later"),
              "status")
    client.get(SETTINGS)
    sim.fault(method="POST", path=SETTINGS)
    client.get(SETTINGS)
    equal(client.ask("POST", SETTINGS, {}).json["status"], 500, "an Easee problem")
    equal(client.ask("POST", SETTINGS, {}).status, 200, "once")
    sim.fault(kind="html")
    answer = client.ask("GET", SETTINGS)
    equal((answer.status, answer.headers["Content-Type"]), (502, "text/html"), "html")
    sim.fault(kind="empty")
    answer = client.ask("GET", SETTINGS)
    equal((answer.status, answer.text), (200, b""), "empty")
    sim.fault(kind="redirect", headers={"Location": "http://example.org/"})
    answer = client.ask("GET", SETTINGS)
    equal((answer.status, answer.headers["Location"]), (302, "http://example.org/"), "redirect")
    sim.fault(kind="huge", size=3000000)
    equal(len(client.ask("GET", SETTINGS).text), 3000000, "huge")
    sim.fault(kind="garbage")
    answer = client.ask("GET", SETTINGS)
    try:
        answer.json
        raise AssertionError("garbage is JSON")
    except ValueError:
        pass
    sim.fault(kind="truncate")
    assert isinstance(broken(client, "GET", SETTINGS), http.client.IncompleteRead)
    sim.fault(kind="truncate", method="POST")
    assert isinstance(broken(client, "POST", SETTINGS, {"dynamicCircuitCurrentP1": 9}),
                      http.client.IncompleteRead)
    until(lambda: sim.currents()[0] == 9, "done all the same")
    sim.fault(kind="reset")
    assert isinstance(broken(client, "GET", SETTINGS), ConnectionResetError)
    sim.fault(kind="reset", method="POST", applied=True)
    broken(client, "POST", SETTINGS, {"dynamicCircuitCurrentP1": 8})
    until(lambda: sim.currents()[0] == 8, "applied, but not answered")
    sim.fault(kind="silent")
    assert isinstance(broken(client, "GET", SETTINGS, timeout=0.5), TimeoutError)
    sim.fault(kind="slow", delay_ms=300)
    started = time.monotonic()
    client.get(SETTINGS)
    assert time.monotonic() - started >= 0.3
    sim.fault(status=401, delay_ms=200, path="nowhere")
    first = sim.fault(status=401)["id"]
    second = sim.fault(status=404)["id"]
    equal([f["id"] for f in sim.call("GET", "/sim/fault")][1:], [first, second], "list")
    sim.call("DELETE", f"/sim/fault/{first}")
    equal(client.ask("GET", SETTINGS).status, 404, "in order of arrival")
    sim.fault(count=-1, status=418)
    for _ in range(10):
        equal(client.ask("GET", "/what/ever").status, 418, "for ever")
    sim.heal()
    client.get(SETTINGS)
    kinds = [e["fault"] for e in sim.ledger() if e["fault"]]
    assert {"status", "html", "reset", "silent", "slow"} <= set(kinds), kinds
    equal({e["status"] for e in sim.ledger() if e["fault"] in ("reset", "silent")}, {0}, "status")


def test_faults_count_against_the_limits(bench):
    sim, client = start(bench)
    sim.fault(count=-1, status=500)
    for _ in range(25):
        equal(client.ask("POST", SETTINGS, {}).status, 500, "fault")
    sim.heal()
    equal(client.ask("POST", SETTINGS, {}).status, 429, "the window is full")


def test_silent_connections_do_not_block(bench):
    sim, client = start(bench)
    sim.fault(kind="silent", count=-1, path="/api/health-check")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            s = stack.enter_context(socket.create_connection(("127.0.0.1", sim.port)))
            s.sendall(b"GET /api/health-check HTTP/1.1\r\nHost: x\r\n\r\n")
        started = time.monotonic()
        client.get("/api/sites")
        assert time.monotonic() - started < 2


def test_ledger(bench):
    path = os.path.join(bench.folder, "ledger")
    sim, client = start(bench, "--ledger", path)
    client.refresh()
    client.limit(10, 10, 10)
    client.ask("POST", "/api/accounts/login", b'{"password":"' + PASSWORD.encode())
    entries = sim.ledger()
    equal([e["n"] for e in entries], list(range(1, len(entries) + 1)), "numbers")
    equal([e["class"] for e in entries], ["login", "refresh", "circuit_write", "login"], "classes")
    post = entries[2]
    equal((post["method"], post["path"], post["ip"], post["tls"], post["authorised"],
           post["user_agent"], post["status"]),
          ("POST", SETTINGS, "127.0.0.1", False, True, "check/1.0", 200), "entry")
    equal(json.loads(post["body"])["dynamicCircuitCurrentP1"], 10, "body")
    assert abs(post["unix_ms"] / 1000 - time.time()) < 60 and post["t_ms"] < 60000
    with open(path) as f:
        text = f.read()
    equal([json.loads(line) for line in text.splitlines()], entries, "file")
    for secret in (PASSWORD, client.token, client.refresh_token):
        assert secret not in text
    got = sim.call("GET", "/sim/ledger?since=2")
    equal(([e["n"] for e in got["entries"]], got["next"]), ([3, 4], 4), "since")
    equal(sim.call("GET", "/sim/ledger?since=4")["entries"], [], "nothing newer")


def test_control(bench):
    sim, client = start(bench)
    initial = sim.call("GET", "/sim/state")
    client.limit(10, 10, 10)
    sim.set(quirks={"thousand": True}, ttl_expiry="never", speed=50)
    sim.fault(status=500)
    until(lambda: sim.currents() == [10, 10, 10], "a change")
    sim.call("POST", "/sim/reset")
    again = sim.call("GET", "/sim/state")
    for same in ("quirks", "faults", "ttl_expiry", "speed"):
        equal(again[same], initial[same], same)
    equal(sim.currents(), [40, 40, 40], "limits")
    equal(sim.ledger(), [], "ledger")
    equal(client.ask("GET", "/api/sites").status, 401, "tokens")

    connection = Client(sim, login=False)
    for method, path, body, word in (
            ("POST", "/sim/set", {"charger": "NO"}, "no such"),
            ("POST", "/sim/set", {"charger": SERIAL, "onlin": True}, "onlin"),
            ("POST", "/sim/set", {"charger": SERIAL, "online": 1}, "true or false"),
            ("POST", "/sim/set", {"quirks": {"nothing": True}}, "quirks"),
            ("POST", "/sim/set", {"circuit": 12345, "dynamic": [1, 2]}, "three numbers"),
            ("POST", "/sim/set", {"speed": 0}, "speed"),
            ("POST", "/sim/set", [], "object"),
            ("POST", "/sim/set", b"{", "object"),
            ("POST", "/sim/fault", {"kind": "nice"}, "kind"),
            ("POST", "/sim/fault", {"headers": {"A": "b\r\nC: d"}}, "headers"),
            ("POST", "/sim/fault", {"status": 1000}, "status"),
            ("DELETE", "/sim/fault/77", None, "no such fault"),
            ("GET", "/sim/nothing", None, "/sim/state")):
        answer = connection.ask(method, path, body)
        assert answer.status in (400, 404) and word in answer.json["error"], \
            f"{path} {body}: {answer.status} {answer.text}"
    sim.call("POST", "/sim/quit")
    equal(sim.wait(), 0, "exit status")


def test_scenario(bench):
    events = [{"at_s": 60, "set": {"charger": SERIAL, "online": False}},
              {"at_s": 120, "fault": {"status": 503, "count": -1}},
              {"at_s": 1320, "clear_faults": True, "set": {"charger": SERIAL, "online": True}}]
    sim, client = start(bench, "--speed", "100", "--scenario",
                        bench.write("scenario", json.dumps({"events": events})))
    until(lambda: not sim.charger()["online"], "60 s")
    until(lambda: client.ask("GET", "/api/sites").status == 503, "120 s")
    until(lambda: client.ask("GET", "/api/sites").status == 200, "1320 s")
    equal(sim.charger()["online"], True, "online")
    assert sim.call("GET", "/sim/state")["now_ms"] >= 1320000


# The program.

def outcome(*args):
    done = subprocess.run([os.path.join(harness.BUILD, "easeesim"), *args], timeout=20, check=False,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_options(bench):
    status, out, _ = outcome("--help")
    assert status == 0 and "--scenario" in out
    assert outcome("--version")[1].startswith("easeesim ")
    status, out, _ = outcome("--print-world")
    equal([s["id"] for s in json.loads(out)["sites"]], [54321, 54322], "default world")
    sim = bench.sim("--world", bench.write("default", out))
    equal(sim.currents(), [40, 40, 40], "the printed world works")

    world = bench.write("world", '{"accounts":[{"user":"a"}],\n"sites":[{"id":1,"nam":"x"}]}')
    for args, expected, words in (
            (["--port", str(sim.port)], 1, "Address already in use"),
            (["--port", "70000"], 2, "from 0 to 65535"), (["--port", "8x"], 2, "--port 8x"),
            (["--speed", "nan"], 2, "--speed"), (["--nothing"], 2, "--help"), (["x"], 2, "x"),
            (["--address", "localhost"], 1, "not a numeric IP address"),
            (["--cert", "x"], 2, "--key"), (["--cert", "/nowhere", "--key", "/nowhere"], 1, "No such"),
            (["--cert", world, "--key", world], 1, "PEM"),
            (["--world", "/nowhere"], 1, "No such file"), (["--world", world], 1, '"nam"'),
            (["--world", bench.write("bad1", '{\n\n"a":')], 1, "bad1:3: not JSON"),
            (["--scenario", bench.write("bad2", '{"events":[{"at_s":2},{"at_s":1}]}')], 1, "order"),
            (["--scenario", bench.write("bad3", '{"events":[{"at_s":2,"sett":{}}]}')], 1, "sett"),
            (["--ledger", "/nowhere/x"], 1, "No such file"),
            (["--port", "0", "--port-file", "/nowhere/x"], 1, "No such file")):
        status, _, error = outcome(*args)
        assert status == expected and words in error, f"{args}: {status} {error}"


def test_manual_is_complete(bench):
    sim = bench.sim()
    with open(os.path.join(harness.TOP, "doc", "easeesim.1")) as f:
        manual = f.read().replace("\\-", "-")
    names = re.findall(r"--[a-z-]+", outcome("--help")[1])
    state = sim.call("GET", "/sim/state")
    names += state["quirks"]
    names += [n for n in state["hub"] if n not in ("connects", "connections")]
    wrong = Client(sim, login=False).ask("POST", "/sim/fault", {"kind": "?"})
    names += wrong.json["error"].split("one of ")[1].split()
    for name in names:
        assert name in manual, f"{name} is not in the manual"
    assert len(names) > 35, names


def test_starts_and_ends_quickly(bench):
    started = time.monotonic()
    sim = bench.sim()
    took = time.monotonic() - started
    harness.note(f"ready after {1000 * took:.0f} ms")
    assert took < 5, took
    assert "easeesim ready on " + sim.url in sim.log(), sim.log()
    with contextlib.ExitStack() as stack:  # clients that hang about do not matter
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", sim.port)))
        started = time.monotonic()
        sim.stop()
        assert time.monotonic() - started < 3


def test_same_seed_same_tokens(bench):
    tokens = []
    for seed in ("5", "5", "6"):
        sim, client = start(bench, "--seed", seed)
        tokens.append(client.token.split(".")[2])
        sim.stop()
    equal((tokens[0] == tokens[1], tokens[0] == tokens[2]), (True, False), "signatures")


def test_tls(bench):
    cert, key = os.path.join(bench.folder, "cert"), os.path.join(bench.folder, "key")
    bench.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
              "/CN=127.0.0.1", "-keyout", key, "-out", cert)
    sim, client = start(bench, cert=cert, key=key)
    client.limit(10, 10, 10)
    equal(sim.ledger("POST", SETTINGS)[0]["tls"], True, "tls")
    sim.fault(kind="huge", size=2000000)
    equal(len(client.ask("GET", SETTINGS).text), 2000000, "huge")
    sim.fault(kind="truncate")
    broken(client, "GET", SETTINGS)
    sim.fault(kind="reset")
    broken(client, "GET", SETTINGS)
    with contextlib.suppress(OSError), \
            socket.create_connection(("127.0.0.1", sim.port), timeout=5) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        s.recv(100)
    client.get("/api/sites")


def exchange(sim, data, limit_s=3):
    """What the server sends for raw DATA, until it closes or LIMIT_S have passed."""
    answer = b""
    with contextlib.suppress(OSError), \
            socket.create_connection(("127.0.0.1", sim.port), timeout=limit_s) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        while more := s.recv(65536):
            answer += more
    return answer


def test_garbage(bench):
    sim, client = start(bench)
    sim.set(limits=False)
    head = b"POST /api/accounts/login HTTP/1.1\r\nHost: x\r\n"
    raw = [b"\0" * 1000, b"\r\n\r\n", b"GET", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" * 50,
           b"GET " + b"/a" * 20000 + b" HTTP/1.1\r\n\r\n", b"GET /%00%ff%zz/../.. HTTP/1.1\r\n\r\n",
           b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"GET /sim/ledger?" + b"&" * 3000
           + b" HTTP/1.1\r\n\r\n", b"GET /?" + b"a=1&" * 900 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
           b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
           b"GET / HTTP/1.1\r\nAuthorization: Bearer " + b"x" * 9000 + b"\r\n\r\n",
           head + b"Content-Length: -5\r\n\r\nhello", head + b"Content-Length: 5x\r\n\r\nhello",
           head + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
           head + b"Content-Length: 50\r\n\r\nhello",
           head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
           head + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
           b"GET /api/sites HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
           head + b"Content-Length: 4\r\n\r\n\xff\xfe{}"]
    for data in raw:
        exchange(sim, data, 1)
        assert sim.alive(), f"{data[:60]!r}: {sim.log()}"
        client.get("/api/sites")
    deep = b'{"userName":' + b"[" * 60000
    assert client.ask("POST", "/api/accounts/login", deep).status == 400
    equal(client.ask("POST", "/api/accounts/login", b'"' + b"x" * 65535).status, 400, "64 KiB")
    equal(client.ask("POST", "/api/accounts/login", b'"' + b"x" * 65536).status, 413, "more")
    equal(client.ask("POST", "/api/accounts/login", b"x" * 5000000).status, 413, "much more")
    client.get("/api/sites")


def test_keep_alive_and_pipelining(bench):
    sim, client = start(bench)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sim.port)) as connection:
        for i in range(20):
            connection.request("POST" if i % 2 else "GET", "/api/accounts/login" if i % 2 else "/x",
                               b"{}" if i % 2 else None)
            answer = connection.getresponse()
            answer.read()
            assert answer.status in (400, 403, 429), answer.status
            sock = sock if i else connection.sock
            assert connection.sock is sock, "the same connection"
    request = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    equal(exchange(sim, 3 * request + last).count(b"403"), 4, "pipelined answers")


def test_many_clients_at_once(bench):
    sim, client = start(bench)
    sim.set(limits=False)
    statuses = []

    def work():
        for _ in range(25):
            statuses.append(client.ask("GET", SETTINGS).status)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal((len(statuses), set(statuses)), (500, {200}), "answers")


if __name__ == "__main__":
    harness.main(globals())
