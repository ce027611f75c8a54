#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Fault catalogue, the cloud: failures, refusals, limits, tokens, strange answers, others."""
import itertools
import json
import time

import harness
from catalogue import FAULTS
from faulty import Clock, Line
from harness import SERIAL, SETTINGS, USER, WATTS, arrives, equal, note, settled, throughout, until

LOGIN, REFRESH = "/api/accounts/login", "/api/accounts/refresh_token"
REFUSED, TIMED_OUT, OVERRIDDEN = 6, 7, 9  # stages
LOGIN_REFUSED, NOT_FOUND, FOREIGN, NOT_CONFIRMED = 1 << 4, 1 << 5, 1 << 7, 1 << 8  # 7128


def calls(sim, path, method="POST"):
    return len(sim.ledger(method, path))


def in_force_since(sim, mark):
    """Amps of the setpoints that the cloud took after the first MARK calls."""
    return [json.loads(e["body"])["dynamicCircuitCurrentP1"] if isinstance(e["body"], str)
            else e["body"]["dynamicCircuitCurrentP1"]
            for e in sim.ledger()[mark:]
            if e["method"] == "POST" and SETTINGS in e["path"] and 200 <= e["status"] < 300]


# ---- failures ----

def storm(status, limit_s):
    def test(bench):
        sim, _, client = settled(bench)
        sim.fault(status=status, count=-1)
        mark = len(sim.ledger())
        client.power(WATTS[12])
        until(lambda: client.u16(7304) == status, f"7304 shows {status}")
        started = time.monotonic()
        for amps in (11, 9, 13):
            client.power(WATTS[amps])
        client.power(WATTS[8])
        throughout(lambda: client.u16(7000) == 0x4556, 12, "answers")
        failed = len(sim.ledger()) - mark
        sim.heal()
        arrives(sim, client, 8, limit_s)
        equal(in_force_since(sim, mark), [8], "setpoints that the cloud took")
        assert failed <= 14, f"{failed} calls while nothing works"
        assert client.u32(7422) >= 1, "cloud errors are counted"
        note(f"{failed} calls in 12 s of {status}, newest value {time.monotonic() - started:.0f} s "
             "after the storm began")

    test.__name__ = f"test_f24_{status}"
    return test


for code, seconds in ((500, 60), (502, 90), (503, 90), (504, 60)):
    function = storm(code, seconds)
    globals()[function.__name__] = FAULTS.test(
        "F-24", f"every call answers {code}, five other wishes meanwhile",
        "back-off, errors counted in 7422, clients served; after it the newest value and no other"
    )(function)


@FAULTS.test("F-24", "every call answers 503 for an hour, a wish every 15 s: time passes 60 times "
                     "as fast",
             "two calls a minute at most, no login, errors counted in 7422; clients served; after "
             "it the newest value and no other")
def test_f24_hour(bench):
    clock = Clock(bench, speed=60)
    sim = bench.sim(prefix=clock.prefix)
    client = bench.gateway(sim, env=clock.env).client()
    client.power(WATTS[10])
    arrives(sim, client, 10)
    sim.fault(status=503, count=-1)
    mark, ends_s = len(sim.ledger()), clock.passed_s() + 3600
    for step in itertools.count():
        client.power(WATTS[6 + step % 8])
        throughout(lambda: client.u16(7000) == 0x4556, 0.25, "answers")
        if clock.passed_s() > ends_s:
            break
    made = [e["t_ms"] for e in sim.ledger()[mark:]]
    most = max(sum(1 for t in made if start <= t < start + 600 * 1000) for start in made)
    note(f"{len(made)} calls in the hour, {most} in ten minutes, {calls(sim, REFRESH)} of them for "
         f"a token; {client.u32(7422)} in 7422")
    assert 10 < len(made) <= 120 and most <= 20, made
    assert calls(sim, LOGIN) == 1 and calls(sim, REFRESH) <= 60, "login or refresh in a loop"
    until(lambda: client.u32(7422) >= calls(sim, SETTINGS) - 1, "cloud errors are counted")
    client.power(WATTS[8])
    mark = len(sim.ledger())
    sim.heal()
    arrives(sim, client, 8)
    equal(in_force_since(sim, mark), [8], "setpoints that the cloud took")


def refusal(status, result):
    def test(bench):
        sim, _, client = settled(bench)
        sim.fault(method="POST", path=SETTINGS, status=status, count=-1)
        mark = calls(sim, SETTINGS)
        client.power(WATTS[12])
        until(lambda: client.u16(7301) == REFUSED, lambda: f"stage 6: {client.setpoint()}")
        equal(client.u16(7304), status, "HTTP status")
        equal(client.u16(7303), result, "result")
        throughout(lambda: calls(sim, SETTINGS) == mark + 1, 5, "one call")
        sim.heal()
        client.power(WATTS[9])
        arrives(sim, client, 9)

    test.__name__ = f"test_f25_{status}"
    return test


for code, number in ((400, 30), (404, 34), (409, 30)):
    function = refusal(code, number)
    globals()[function.__name__] = FAULTS.test(
        "F-25", f"a setpoint is answered {code}",
        "not repeated; stage 6, result and HTTP status say so; the next value is tried")(function)


# ---- token and account ----

@FAULTS.test("F-26", "every call but the login answers 401, for 70 s",
             "one refresh, then at most one login a minute")
def test_f26(bench):
    sim, _, client = settled(bench)
    sim.fault(path="/api/sites", status=401, count=-1)
    sim.fault(path="/state/", status=401, count=-1)
    sim.fault(path=REFRESH, status=401, count=-1)
    client.power(WATTS[12])
    throughout(lambda: calls(sim, LOGIN) <= 3, 70, lambda: f"{calls(sim, LOGIN)} logins")
    note(f"{calls(sim, LOGIN) - 1} logins and {calls(sim, REFRESH)} refreshes in 70 s")
    assert calls(sim, REFRESH) <= 3, "refreshes"
    sim.heal()
    arrives(sim, client, 12, 150)


@FAULTS.test("F-27", "refresh token revoked and password changed",
             "fault bit 4, one login and no more, clients served; SIGHUP with the new password "
             "mends it")
def test_f27(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim)
    client = gateway.client()
    client.power(WATTS[10])
    arrives(sim, client, 10)
    sim.set(account=USER, password="new")
    sim.set(expire_tokens=True)
    sim.set(revoke_refresh=True)
    client.power(WATTS[12])
    until(lambda: client.u32(7128) & LOGIN_REFUSED, lambda: f"bit 4: {client.setpoint()}", 90)
    logins = calls(sim, LOGIN)
    throughout(lambda: calls(sim, LOGIN) == logins, 5, "no further login")
    equal(logins, 2, "logins")
    equal(client.u16(7303), 40, "result")
    bench.write("password", "new\n")
    gateway.process.send_signal(1)  # SIGHUP
    arrives(sim, client, 12, 90)
    equal(client.u32(7128) & LOGIN_REFUSED, 0, "fault bit 4")
    equal(calls(sim, LOGIN), 3, "logins in all")


@FAULTS.test("F-29", "two gateways on one account, tokens expire together",
             "each refreshes its own, no loop")
def test_f29(bench):
    sim = bench.sim()
    clients = []
    for name, which in (("a", "site = ABCD-1234\ncircuit = 1"), ("b", "charger = EH300001")):
        clients.append(bench.gateway(sim, name=name, which=which).client())
    for client in clients:
        client.power(WATTS[10])
        until(lambda c=client: c.u16(7301) >= harness.STAGE_CONFIRMED, "confirmed")
    sim.set(expire_tokens=True)
    for client in clients:
        client.power(WATTS[12])
    for circuit in (12345, 12347):
        until(lambda c=circuit: sim.currents(c) == [12, 12, 12], "12 A", 90)
    throughout(lambda: calls(sim, REFRESH) + calls(sim, LOGIN) <= 4, 10,
               "two logins, two refreshes")
    note(f"{calls(sim, LOGIN)} logins, {calls(sim, REFRESH)} refreshes")


@FAULTS.test("F-30", "the access token expires while a call is out",
             "no login; one refresh, at the earliest a minute after the last; the call once more")
def test_f30(bench):
    sim, _, client = settled(bench)
    sim.set(expire_tokens=True)
    client.power(WATTS[12])
    arrives(sim, client, 12, 90)
    equal((calls(sim, LOGIN), calls(sim, REFRESH)), (1, 1), "logins and refreshes")


# ---- limits ----

RETRY_AFTER = {"7": (25, 30), "0": (25, 30), "-1": (25, 90), "99999999": (3590, 3600),
               "Wed, 21 Oct 2099 07:28:00 GMT": (3590, 3600), "soon": (80, 90), None: (80, 90)}


@FAULTS.test("F-31", "429 with Retry-After 7, 0, -1, 99999999, a date, garbage, none",
             "a wait of 30 s to 1 h (easee-api 8.2), 90 s when it is absent or makes no sense; "
             "shown in 7334")
def test_f31(bench):
    for i, (value, (least, most)) in enumerate(RETRY_AFTER.items()):
        sim, _, client = settled(bench, name=str(i))
        sim.fault(method="POST", path=SETTINGS, status=429, count=1,
                  headers={} if value is None else {"Retry-After": value})
        client.power(WATTS[12])
        until(lambda c=client: c.u16(7304) == 429, "429")
        wait_s = client.u16(7334)
        assert least <= wait_s <= most, f"Retry-After {value}: {wait_s} s"
        equal(calls(sim, SETTINGS), 2, "setpoints")


@FAULTS.test("F-31", "every call answers 429 with Retry-After: 31, five other wishes meanwhile",
             "no call of the class before; then the newest value and no other")
def test_f31_newest(bench):
    sim, _, client = settled(bench)
    sim.fault(status=429, count=-1, headers={"Retry-After": "31"})
    client.power(WATTS[12])
    until(lambda: client.u16(7304) == 429, "429")
    assert client.u16(7334) > 0, "back-off shown in 7334"
    refused = sim.ledger("POST", SETTINGS)[-1]
    for amps in (6, 9, 16, 8, 7):
        client.power(WATTS[amps])
    sim.heal()
    arrives(sim, client, 7, 60)
    after = [e for e in sim.ledger("POST", SETTINGS) if e["n"] > refused["n"]]
    assert after[0]["t_ms"] - refused["t_ms"] >= 31000, "called before Retry-After was over"
    equal(len(after), 1, "setpoints after the pause")


@FAULTS.test("F-32", "the login answers 429",
             "no second login within a minute, clients served, then it works")
def test_f32(bench):
    sim = bench.sim()
    sim.fault(path=LOGIN, status=429, headers={"Retry-After": "7"}, count=1)
    client = bench.gateway(sim).client()
    client.power(WATTS[10])
    until(lambda: calls(sim, LOGIN) == 1, "a login")
    throughout(lambda: calls(sim, LOGIN) == 1 and client.u16(7000) == 0x4556, 20, "one login")
    arrives(sim, client, 10, 90)
    first, second = sim.ledger("POST", LOGIN)
    note(f"second login {(second['t_ms'] - first['t_ms']) / 1000:.0f} s after the first")
    assert second["t_ms"] - first["t_ms"] >= 59000, "logins too close"


@FAULTS.test("F-38", "the budget of setpoints is used up, then an urgent decrease",
             "it uses the reserve and is in force within seconds; an increase waits")
def test_f38(bench):
    sim, _, client = settled(bench)
    used = iter([12, 9, 13, 8, 14, 9, 12, 8, 13, 9, 14])

    def spend():
        if client.u16(7332) == 0:
            return True
        if client.u16(7301) >= harness.STAGE_CONFIRMED:
            client.power(WATTS[next(used)])
        return False

    until(spend, lambda: f"no calls left: {client.setpoint()}", 60, 0.1)
    before = sim.currents()
    client.power(WATTS[16])
    until(lambda: client.u16(7322) == 9, lambda: f"binding 9: {client.setpoint()}", 5)
    client.write(7201, 1, 0, WATTS[7], *[harness.NA16] * 4, 0)
    client.write_one(7215, 1)
    started = time.monotonic()
    arrives(sim, client, 7, 10)
    note(f"in force {time.monotonic() - started:.1f} s after it was asked for, "
         f"{before[0]} A before")


@FAULTS.test("F-39", "10 000 identical writes",
             "one call")
def test_f39(bench):
    sim, _, client = settled(bench)
    for _ in range(10000):
        client.power(WATTS[12])
    arrives(sim, client, 12)
    throughout(lambda: len(sim.setpoints()) == 2, 3, lambda: f"two setpoints: {sim.setpoints()}")


THREE = "".join(f"[circuit {name}]\nunit = {unit}\n{which}\nmax_current = 16\n{harness.TIMES}\n"
                for unit, name, which in ((1, "one", "site = ABCD-1234\ncircuit = 1"),
                                          (2, "two", "site = EFGH-5678\ncircuit = 1"),
                                          (3, "three", "charger = EH300001")))
CIRCUITS = {1: 12345, 2: 12346, 3: 12347}


@FAULTS.test("F-40", "three circuits are written all the time, from one budget",
             "none starves: each gets its last value")
def test_f40(bench):
    sim = bench.sim()
    client = bench.gateway(sim, circuits=THREE).client()
    ends = time.monotonic() + 10
    for i in range(100000):
        for unit in CIRCUITS:
            client.power(WATTS[6 + (i * unit) % 10], unit=unit)
        if time.monotonic() > ends:
            break
    for unit in CIRCUITS:
        client.power(WATTS[7 + unit], unit=unit)
    for unit, circuit in CIRCUITS.items():
        until(lambda c=circuit, u=unit: sim.currents(c) == [7 + u] * 3,
              lambda u=unit: f"circuit {u}: {client.setpoint(u)}", 75, 0.1)
    counts = [calls(sim, f"circuits/{c}/settings") for c in CIRCUITS.values()]
    note(f"setpoints per circuit: {counts}")
    assert max(counts) - min(counts) <= 3, counts


# ---- strange answers ----

@FAULTS.test("F-33", "accepted, but the charger never does it",
             "sent once more after 20 s, then stage 7 and fault bit 8; nothing is sent in a loop; "
             "a new value works")
def test_f33(bench):
    sim, _, client = settled(bench)
    until(lambda: client.u16(7130) == harness.CONNECTION_STREAMING, "streaming")
    sim.set(charger=SERIAL, confirm="never")
    started = time.monotonic()
    client.power(WATTS[12])
    until(lambda: client.u16(7301) == TIMED_OUT, lambda: f"stage 7: {client.setpoint()}", 60)
    took_s = time.monotonic() - started
    note(f"stage 7 after {took_s:.1f} s")
    assert 39 < took_s < 48, f"after {took_s:.1f} s"
    assert client.u32(7128) & NOT_CONFIRMED, "fault bit 8"
    equal(client.u16(7303), 41, "result")
    throughout(lambda: len(sim.setpoints()) == 3, 10, lambda: f"sent twice: {sim.setpoints()}")
    equal([b["dynamicCircuitCurrentP1"] for b in sim.setpoints()], [10, 12, 12], "setpoints")
    sim.set(charger=SERIAL, confirm="normal")
    client.power(WATTS[9])
    arrives(sim, client, 9)
    equal(client.u32(7128) & NOT_CONFIRMED, 0, "fault bit 8")


@FAULTS.test("F-34", "somebody else sets 20 A again and again",
             "re-asserted three times, then stage 9, fault bit 7 and peace, until 7216 clears it")
def test_f34(bench):
    sim, _, client = settled(bench)
    until(lambda: client.u16(7130) == harness.CONNECTION_STREAMING, "streaming")
    for n in range(1, 5):
        sim.set(circuit=12345, dynamic=[20, 20, 20])
        until(lambda: sim.currents() == [20, 20, 20], "20 A by somebody else")
        if n <= 3:
            until(lambda n=n: len(sim.setpoints()) == 1 + n,
                  lambda: f"re-asserted: {client.setpoint()}", 90)
            arrives(sim, client, 10)
            equal(client.u32(7436), n, "re-asserts")
    until(lambda: client.u16(7301) == OVERRIDDEN, lambda: f"stage 9: {client.setpoint()}")
    assert client.u32(7128) & FOREIGN, "fault bit 7"
    equal((client.u16(7303), client.u16(7322)), (45, 13), "result, binding limit")
    throughout(lambda: len(sim.setpoints()) == 4, 6, "no more re-asserts")
    equal(client.u32(7436), 3, "re-asserts")
    client.write_one(7216, 1)  # clear latches
    arrives(sim, client, 10)
    until(lambda: client.u32(7128) & FOREIGN == 0, "no fault")


BODIES = {
    "nothing": "",
    "cut": '[{"device":"EH1',
    "a page": "<html><body>busy</body></html>",
    "a number": "7",
    "a string": '"ok"',
    "null": "null",
    "wrong types": '{"ticks":[],"commandId":{}}',
    "too much": '[{"device":"EH123456","commandId":22,"ticks":638605514168533970,"x":{"y":[{}]}}]',
    "numbers as text": '[{"device":"EH123456","commandId":"22","ticks":"638605514168533970"}]',
    "byte order mark": "\ufeff[]",
    "NUL": "[\u0000]",
    "two documents": "[][]",
    "garbage after": "[]x",
    "1e999": '[{"ticks":1e999,"commandId":22}]',
    "deep": "[" * 2000,
}


@FAULTS.test("F-35", f"{len(BODIES)} strange answers to setpoint, read-back and observations: "
                     "empty, cut, HTML, wrong types, byte order mark, NUL, 1e999, 2000 levels deep",
             "no crash, the error is counted in 7422 and shown in 7440, every wish arrives; each "
             "answer was given")
def test_f35(bench):
    # one for each: how often a gateway may try is not what this is about
    several = []
    for i, body in enumerate(BODIES.values()):
        sim = bench.sim(name=str(i))
        sim.set(hub={"websockets": False})  # the stream would answer instead
        for path in (SETTINGS, "/state/"):
            sim.fault(method="GET", path=path, status=200, count=1, body=body)
        several.append((sim, bench.gateway(sim, name=str(i)).client(), body))

    def all_arrive(amps):
        for _, client, _ in several:
            client.power(WATTS[amps])
        for sim, client, body in several:
            until(lambda s=sim, c=client: s.currents() == [amps] * 3 and c.u16(7301) >= 4,
                  lambda c=client, b=body: f"{amps} A after {b[:40]}: {c.setpoint()}", 90)
            equal(sim.call("GET", "/sim/fault"), [], f"answers not given: {body[:40]}")
            equal(client.read(7000, 2), [0x4556, 0x4757], "magic")

    all_arrive(9)
    for _, client, body in several:
        assert client.u32(7422) > 0, f"errors after {body[:40]}"
        until(lambda c=client: "answer not understood" in c.text(7440, 20),
              lambda c=client, b=body: f"{c.text(7440, 20)!r} after {b[:40]}")
    for sim, _, body in several:
        sim.fault(method="POST", path=SETTINGS, status=200, count=1, body=body)
    all_arrive(12)


@FAULTS.test("F-36", "the gateway's clock is an hour behind, then ahead of the cloud's",
             "ages of power, state and limits stay what they are")
def test_f36(bench):
    clock = Clock(bench)
    clock.set(wall_s=-3600)
    sim = bench.sim()
    client = bench.gateway(sim, env=clock.env).client()
    for ahead in (-3600, 3600):
        clock.set(wall_s=ahead)
        client.write_one(7216, 3)
        until(lambda: all(a < 60 for a in client.read(7132, 3)),
              lambda: f"ages at {ahead} s: {client.read(7132, 3)}", 90)
    assert client.u16(7135) > 0, "telemetry"


@FAULTS.test("F-37", "each call takes 9 s",
             "the newest value overtakes those that wait; clients do not")
def test_f37(bench):
    sim, _, client = settled(bench)
    sim.fault(kind="slow", delay_ms=9000, count=-1)
    took_ms = []
    for amps in (12, 6, 16, 9, 14, 8):
        client.power(WATTS[amps])
        started = time.perf_counter()
        client.read(7100, 40)
        took_ms.append(1000 * (time.perf_counter() - started))
    until(lambda: sim.currents() == [8, 8, 8], lambda: f"8 A: {client.setpoint()}", 60)
    sent = [b["dynamicCircuitCurrentP1"] for b in sim.setpoints()]
    assert len(sent) <= 3 and sent[-1] == 8, f"sent: {sent}"
    sim.heal()
    note(f"sent {sent}; slowest read {max(took_ms):.1f} ms")


@FAULTS.test("F-45", "one of three circuits is gone from the account",
             "fault bit 5 for that unit, the others go on, no unit is renumbered")
def test_f45(bench):
    sim = bench.sim()
    client = bench.gateway(sim, circuits=THREE).client()
    for unit, circuit in CIRCUITS.items():
        client.power(WATTS[10], unit=unit)
        until(lambda c=circuit: sim.currents(c) == [10] * 3, lambda u=unit: str(client.setpoint(u)))
    for path in ("/circuits/12347/", "EH300001"):
        sim.fault(path=path, status=404, count=-1)
    for unit in CIRCUITS:
        client.power(WATTS[12], unit=unit)
    until(lambda: client.read(7128, 2, unit=3)[1] & NOT_FOUND,
          lambda: f"bit 5: {client.setpoint(3)}")
    for unit in (1, 2):
        until(lambda u=unit: sim.currents(CIRCUITS[u]) == [12] * 3,
              lambda u=unit: str(client.setpoint(u)))
        equal(client.u32(7128, unit=unit) & NOT_FOUND, 0, "fault bit 5 of another unit")
        equal(client.u16(7007, unit=unit), unit, "index of the circuit")


# ---- lines to the cloud ----

@FAULTS.test("F-23", "a kept connection is closed by the cloud after it took the setpoint",
             "the same value may go twice, no older one; it arrives")
def test_f23(bench):
    sim = bench.sim()
    line = Line(bench, sim.port)
    client = bench.gateway(api=line.url).client()
    client.power(WATTS[10])
    arrives(sim, client, 10)
    line.request = "close"
    client.power(WATTS[12])
    until(lambda: len(sim.setpoints()) >= 2, "the setpoint was taken")
    line.request = None
    arrives(sim, client, 12, 60)
    sent = [b["dynamicCircuitCurrentP1"] for b in sim.setpoints()]
    note(f"sent {sent}")
    equal(sent[0], 10, "first")
    assert set(sent[1:]) == {12} and len(sent) <= 4, sent


@FAULTS.test("F-23", "the connection is closed after the cloud took a token refresh",
             "the refresh is not sent twice: one login mends it")
def test_f23_refresh(bench):
    sim = bench.sim()
    line = Line(bench, sim.port)
    client = bench.gateway(api=line.url).client()
    client.power(WATTS[10])
    arrives(sim, client, 10)
    sim.set(expire_tokens=True)
    sim.fault(path=REFRESH, kind="reset", count=1)
    client.power(WATTS[12])
    until(lambda: calls(sim, REFRESH) == 1, "a refresh", 90)
    throughout(lambda: calls(sim, REFRESH) == 1, 5, "one refresh")
    arrives(sim, client, 12, 150)
    assert calls(sim, LOGIN) <= 2, "logins"


LINES = {"stalls after the first bytes": (("stall", 10), 12),
         "breaks off in the middle of the answer": (("break", 60), 13),
         "carries one byte a second": (("drip", 1), 12),
         "refuses connections": (("refused", 0), 11),
         "answers no connection attempt": (("hole", 0), 12)}


def bad_line(mode, result):
    def test(bench):
        sim = bench.sim()
        line = Line(bench, sim.port)
        client = bench.gateway(api=line.url).client()
        client.power(WATTS[10])
        arrives(sim, client, 10)
        if mode[0] in ("refused", "hole"):
            line.cut(hole=mode[0] == "hole")
        else:
            line.answer = mode
        client.power(WATTS[12])
        until(lambda: client.u16(7303) == result, lambda: f"result: {client.setpoint()}", 60)
        client.power(WATTS[9])
        throughout(lambda: client.u16(7000) == 0x4556, 2, "clients are served")
        line.mend()
        arrives(sim, client, 9, 90)

    test.__name__ = f"test_f21_{mode[0]}"
    return test


for text, (kind, code) in LINES.items():
    function = bad_line(kind, code)
    globals()[function.__name__] = FAULTS.test(
        "F-21", f"the line to the cloud {text}",
        f"result {code} in 7303, the wish stays, the newest value arrives afterwards")(function)


if __name__ == "__main__":
    harness.main(globals())
