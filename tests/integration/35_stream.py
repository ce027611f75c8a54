#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The charger's truth comes back: over the live stream, within seconds and without polling; what
the charger made of a setpoint; others at the wheel; a hub that fails.  A charger that never does
it and others who insist are F-33 and F-34 in 63_faults_cloud.py."""
import json
import time
import urllib.request

import harness
from faulty import Clock
from harness import PASSWORD, SERIAL, SETTINGS, USER, equal, note, until

HUB = "/hubs/chargers"
OBSERVATIONS = "/observations"
LOGIN, REFRESH = "/api/accounts/login", "/api/accounts/refresh_token"

POLLING, STREAMING, STALE = 2, 3, 4  # register 7130
NONE, WAITING, SENT, ACCEPTED, CONFIRMED, EFFECTIVE = range(6)  # register 7301
REFUSED, TIMED_OUT, SUPERSEDED = range(6, 9)
REJECTED = 42  # register 7303
ONE_PHASE, THREE_PHASES = 10, 30  # outputPhase

BIT_OFFLINE = 1 << 1  # register 7128
STREAM_CONNECTS, FOREIGN_COMMANDS, REASSERTS, GAPS = (7400 + 2 * n for n in (16, 17, 18, 19))


def start(bench, *sim_args, streaming=True, **kwargs):
    sim = bench.sim(*sim_args)
    client = bench.gateway(sim, **kwargs).client()
    if streaming:
        until(lambda: client.u16(7130) == STREAMING, "streaming")
    return sim, client


def until_stage(client, *stages, limit_s=20):
    until(lambda: client.u16(7301) in stages,
          lambda: f"stage {stages}: {client.setpoint()}", limit_s)


def until_over(started, seconds):
    """Until SECONDS have passed since STARTED: for what must not happen meanwhile."""
    until(lambda: time.monotonic() > started + seconds, "time passes", seconds + 20)


def until_drawn(sim, client, amps, limit_s=30):
    """Until the car draws AMPS on L1 to L3, there and as the registers have it."""
    until(lambda: sim.charger()["current"] == amps, lambda: f"{amps}: {sim.charger()}", limit_s)
    until(lambda: [client.u32(a) for a in (7110, 7112, 7114)] == [1000 * a for a in amps],
          lambda: f"{amps} in 7110: {client.read(7110, 6)}")


def lift_limits(sim):
    sim.set(limits=False)


# What is shown.

def test_effective_within_seconds(bench):
    """Stage 5 and the power that follows, over the stream alone."""
    sim, client = start(bench)
    before = len(sim.ledger("GET"))
    started = time.monotonic()
    client.power(7400)
    until_stage(client, EFFECTIVE)
    until(lambda: client.u32(7108) == 6930, lambda: f"6930 W in 7108: {client.u32(7108)}")
    took = time.monotonic() - started
    note(f"stage 5 and live power after {took:.1f} s, round trip {client.u16(7336)} ms")
    assert took < 10, f"{took} s"
    equal([e["path"] for e in sim.ledger("GET")[before:]], [], "calls that read")
    until_drawn(sim, client, [10, 10, 10])
    equal(client.u16(7321), 100, "offered, in 0.1 A")
    equal((client.u16(7104), client.u16(7105)), (3, 7), "phases")
    sim.set(charger=SERIAL, car={"connected": False})
    until(lambda: (client.u16(7106), client.u16(7100), client.u32(7108)) == (0, ord("A"), 0),
          "no car")


def test_round_trip_is_the_chargers(bench):
    """The verdict comes by CommandResponse: at once when the charger gives it."""
    sim, client = start(bench)
    sim.set(charger=SERIAL, answer_ms=2000)
    client.write(7200, 77)
    client.power(7400)
    until_stage(client, CONFIRMED, EFFECTIVE)
    equal(client.u16(7302), 77, "sequence of the last confirmed command")
    command = sim.charger()["last_command"]
    answered_ms = command["answered_ms"] - command["sent_ms"]
    took_ms = client.u16(7336)
    note(f"round trip {took_ms} ms, the charger took {answered_ms} ms")
    assert answered_ms <= took_ms < answered_ms + 1000, took_ms
    equal(len(sim.ledger("GET", SETTINGS)), 0, "read-backs")


def test_stages_in_order(bench):
    sim, client = start(bench)
    equal(client.u16(7301), NONE, "stage without a wish")
    sim.set(charger=SERIAL, answer_ms=1500)
    sim.fault(method="POST", path=SETTINGS, kind="slow", delay_ms=1000)
    seen = [NONE]

    def effective():
        stage = client.u16(7301)
        if stage != seen[-1]:
            seen.append(stage)
        return stage == EFFECTIVE

    client.power(7400)
    until(effective, lambda: f"effective: {seen}", interval_s=0.002)
    equal([s for s in seen if s != WAITING], [NONE, SENT, ACCEPTED, CONFIRMED, EFFECTIVE],
          "stages")


def test_waiting(bench):
    sim, client = start(bench)
    sim.fault(method="POST", path=SETTINGS, status=429, headers={"Retry-After": "35"})
    client.power(7400)
    until(lambda: client.u16(7304) == 429, "429")
    until_stage(client, WAITING)
    assert 25 <= client.u16(7334) <= 35, f"back-off {client.u16(7334)} s"
    equal(client.u16(7335), 1, "pending")


def test_no_polling_while_streaming(bench):
    """Polling is once a minute; over more than that there is none, until the stream goes."""
    sim, client = start(bench)
    first = time.monotonic()
    polls = len(sim.ledger("GET", OBSERVATIONS))
    equal(polls, 1, "polls at the start")
    until_over(first, 63)
    equal(len(sim.ledger("GET", OBSERVATIONS)), polls, "polls while streaming")
    equal(client.u16(7130), STREAMING, "connection")
    sim.set(hub={"websockets": False, "drop": True})
    until(lambda: client.u16(7130) == POLLING, "polling")
    until(lambda: len(sim.ledger("GET", OBSERVATIONS)) > polls, "a poll")


def test_survives_a_bad_hub(bench):
    """Pieces, noise, doubles and old values change nothing of what is shown."""
    sim = bench.sim()
    sim.set(hub={"frames": "split", "unknown_targets": True, "garbage": True,
                 "duplicates": True, "out_of_order": True, "ticks_off": 12345})
    client = bench.gateway(sim).client()
    until(lambda: client.u16(7130) == STREAMING, "streaming")
    for watts, amps in ((7400, 10), (5600, 8), (9000, 13)):
        client.power(watts)
        until_stage(client, EFFECTIVE)
        until_drawn(sim, client, [amps] * 3)
        equal(client.u16(7321), 10 * amps, "offered, in 0.1 A")
    equal(client.u32(7128), 0, "faults")
    equal((client.u32(REASSERTS), client.u32(STREAM_CONNECTS)), (0, 1), "re-asserts, connects")


def test_restored_value_is_read_back(bench):
    """Without a CommandResponse the charger's own report of its limit confirms."""
    sim, client = start(bench)
    sim.set(hub={"no_responses": True})
    client.power(7400)
    until_stage(client, EFFECTIVE)
    assert client.u16(7336) < 5000, client.u16(7336)


# Verdicts.

def test_rejected(bench):
    sim, client = start(bench)
    sim.set(charger=SERIAL, confirm="reject")
    client.power(7400)
    until_stage(client, REFUSED)
    equal(client.u16(7303), REJECTED, "result")
    equal(len(sim.setpoints()), 1, "setpoints: a rejected one is not repeated")
    sim.set(charger=SERIAL, confirm="normal")
    client.power(9000)
    until_stage(client, EFFECTIVE)
    equal(client.u16(7303), 0, "result")


def test_late_confirmation_is_not_foreign(bench):
    """Also after the time-out and the repetition it is ours."""
    sim, client = start(bench)
    sim.set(charger=SERIAL, answer_ms=23000)
    client.power(7400)
    until_stage(client, ACCEPTED)
    until_stage(client, CONFIRMED, EFFECTIVE, limit_s=40)
    until_stage(client, EFFECTIVE)
    equal((client.u32(FOREIGN_COMMANDS), client.u32(REASSERTS)), (0, 0), "foreign, re-asserts")
    equal(client.u32(7128), 0, "faults")
    assert 22000 < client.u16(7336) < 30000, client.u16(7336)


# Somebody else at the wheel.

def test_charger_limit_of_others(bench):
    """Another knob than ours: shown, not fought; nor is a resume by others."""
    sim, client = start(bench)
    client.power(11000)
    until_stage(client, EFFECTIVE)
    sim.set(charger=SERIAL, dynamic_current=8)
    until_drawn(sim, client, [8, 8, 8])
    until(lambda: (client.u16(7321), client.u16(7322)) == (80, 11),
          lambda: f"8 A, held by the charger: {client.read(7321, 2)}")
    until_stage(client, EFFECTIVE)
    sim.set(charger=SERIAL, dynamic_current=32)
    until_drawn(sim, client, [15, 15, 15])
    equal(client.u32(FOREIGN_COMMANDS), 2, "foreign commands")
    equal((client.u32(REASSERTS), client.u32(7128)), (0, 0), "re-asserts, faults")


def another_program(sim):
    """What posts BODY to PATH, with the same account but a token of its own."""
    def post(path, body, **headers):
        headers["Content-Type"] = "application/json"
        request = urllib.request.Request(sim.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    token = json.loads(post(LOGIN, {"userName": USER, "password": PASSWORD}))["accessToken"]
    return lambda path, body: post(path, body, Authorization=f"Bearer {token}")


def test_another_program(bench):
    """Pauses and resumes the charger, which is shown; then sets the circuit, which is not left."""
    sim, client = start(bench)
    client.power(7400)
    until_stage(client, EFFECTIVE)
    post = another_program(sim)
    commands = f"/api/chargers/{SERIAL}/commands/"
    post(commands + "pause_charging", {})
    until_drawn(sim, client, [0, 0, 0])
    until(lambda: client.u16(7322) == 11, lambda: f"held by the charger: {client.setpoint()}")
    post(commands + "resume_charging", {})
    until_drawn(sim, client, [10, 10, 10])
    equal((client.u32(FOREIGN_COMMANDS), client.u32(REASSERTS)), (2, 0), "foreign, re-asserts")

    sent = len(sim.setpoints())
    post("/api/sites/54321/circuits/12345" + SETTINGS,
         {f"dynamicCircuitCurrentP{p}": 20 for p in (1, 2, 3)})
    until(lambda: client.u32(REASSERTS) == 1, "re-asserted")
    until_drawn(sim, client, [10, 10, 10])
    until_stage(client, EFFECTIVE)
    equal(len(sim.setpoints()), sent + 2, "setpoints: theirs and ours")
    equal(client.u32(7128), 0, "faults")


def test_restart_of_the_charger(bench):
    """Its dynamic values are gone; ours are set again when it is back."""
    sim, client = start(bench)
    client.power(7400)
    until_stage(client, EFFECTIVE)
    lift_limits(sim)
    sim.set(charger=SERIAL, reboot=True)
    until(lambda: client.u32(7128) & BIT_OFFLINE, "offline")
    equal((client.u16(7131), sim.currents()), (0, [40, 40, 40]), "online, currents")
    sim.set(speed=20)
    until(lambda: sim.charger()["online"], "back", 30)
    sim.set(speed=1)
    until(lambda: sim.currents() == [10, 10, 10], lambda: f"10/10/10: {client.setpoint()}")
    until(lambda: client.u32(7128) == 0 and client.u16(7131) == 1, "online")
    until_stage(client, EFFECTIVE)


# Several chargers on one circuit.

def test_several_chargers(bench):
    sim, client = start(bench, which="site = EFGH-5678\ncircuit = 1")
    serials = ("EH200001", "EH200002")
    for serial in serials:
        sim.set(charger=serial, car={"connected": True, "wants_a": 32, "phases": 3})
    until(lambda: (client.u16(7136), client.u16(7137)) == (2, 2),
          lambda: f"two cars that charge: {client.read(7136, 2)}", 30)
    client.power(16 * 690)
    until_stage(client, EFFECTIVE)
    until(lambda: [sim.charger(s)["current"] for s in serials] == [[8, 8, 8]] * 2, "8 A each", 30)
    until(lambda: client.u32(7108) == sum(round(sim.charger(s)["power_w"]) for s in serials),
          lambda: f"sum of the power: {client.u32(7108)}")
    until(lambda: [client.u32(a) for a in (7110, 7112, 7114)] == [16000] * 3,
          lambda: f"sum of the currents: {client.read(7110, 6)}")
    equal(client.u32(7010) & 0b1001, 0, "phase switching, alone")
    client.power(3000)  # 13 A on one phase, were it alone
    until(lambda: sim.currents(12346) == [0, 0, 0], "pause")
    client.write_one(7208, 1)
    until_stage(client, EFFECTIVE)
    for body in sim.setpoints():
        equal(len({body[f"dynamicCircuitCurrentP{p}"] for p in (1, 2, 3)}), 1, f"phases of {body}")


# Phases, by what the charger does.

def test_phases(bench):
    sim, client = start(bench)
    client.power(11000)
    until_drawn(sim, client, [15, 15, 15])
    equal(sim.charger()["output_phase"], THREE_PHASES, "outputPhase")
    until(lambda: client.u16(7330) == 0, "dwell over")

    client.power(3000)
    until_drawn(sim, client, [13, 0, 0])
    equal(sim.charger()["output_phase"], ONE_PHASE, "outputPhase")
    until(lambda: (client.u16(7104), client.u16(7105)) == (1, 1), "one phase: L1")
    until_stage(client, EFFECTIVE)
    until(lambda: client.u16(7330) == 0, "dwell over")

    client.power(11000)
    until_drawn(sim, client, [15, 15, 15], 60)
    equal(sim.charger()["output_phase"], THREE_PHASES, "outputPhase")
    until(lambda: (client.u16(7104), client.u16(7105)) == (3, 7), "three phases")
    until_stage(client, EFFECTIVE)
    equal(client.u16(7337), 2, "phase switches")
    amps = [[b[f"dynamicCircuitCurrentP{p}"] for p in (1, 2, 3)] for b in sim.setpoints()]
    equal(amps, [[15, 15, 15], [13, 0, 0], [0, 0, 0], [15, 15, 15]], "setpoints")


# Fallback.

def test_superseded_by_the_watchdog(bench):
    sim, client = start(bench)
    client.write(7210, 10, 2, 60, 0)  # watchdog, fallback limit 6 A
    client.power(7400)
    until_stage(client, EFFECTIVE)
    until_stage(client, SUPERSEDED)
    until(lambda: sim.currents() == [6, 6, 6], "6/6/6")
    equal(client.u16(7327), 2, "watchdog tripped")
    client.power(7400)
    until(lambda: sim.currents() == [10, 10, 10], "10/10/10")
    until_stage(client, EFFECTIVE)


# A stream that fails.

def test_dropped_and_closed(bench):
    sim, client = start(bench)
    for n, change in ((2, {"drop": True}), (3, {"close": {"error": "x",
                                                          "allow_reconnect": True}})):
        sim.set(hub=change)
        until(lambda n=n: client.u32(STREAM_CONNECTS) == n, "connected again")
        until(lambda: client.u16(7130) == STREAMING, "streaming")
        client.power(5000 + 690 * n)
        until_stage(client, EFFECTIVE)
    connections = sim.call("GET", "/sim/state")["hub"]["connections"]
    equal([c["subscribed"] for c in connections], [[SERIAL]], "subscriptions")


def test_negotiates(bench):
    """A hub that wants it, and sends elsewhere with another token."""
    sim = bench.sim()
    sim.set(hub={"direct": False, "redirect": True})
    client = bench.gateway(sim).client()
    until(lambda: client.u16(7130) == STREAMING, "streaming", 40)
    client.power(7400)
    until_stage(client, EFFECTIVE)
    equal([e["path"] for e in sim.ledger(path="/hubs/")][-3:],
          [HUB + "/negotiate", "/hubs/elsewhere/negotiate", "/hubs/elsewhere"], "ways")


def test_zombie(bench):
    """Open and silent for a minute: given up, and connected again."""
    sim, client = start(bench)
    sim.set(hub={"silent": True})
    started = time.monotonic()
    client.power(7400)
    until_stage(client, CONFIRMED, EFFECTIVE)  # by a read-back
    until(lambda: client.u16(7130) == POLLING, "given up", 80)
    took = time.monotonic() - started
    assert 55 < took < 75, f"given up after {took} s"
    sim.set(hub={"silent": False})
    until(lambda: client.u16(7130) == STREAMING, "streaming", 80)
    until_stage(client, EFFECTIVE)


def test_silent_for_twenty_minutes(bench):
    """The hub is heard but tells nothing of the charger: that is shown as stale, it is asked for
    again and read once by REST.  The gateway's clock runs faster."""
    clock = Clock(bench)
    sim, client = start(bench, env=clock.env)
    client.power(7400)
    until_stage(client, EFFECTIVE)
    until_drawn(sim, client, [10, 10, 10])
    polls, ahead_s = len(sim.ledger("GET", OBSERVATIONS)), 0
    sim.set(hub={"no_data": True, "unknown_targets": True}, speed=20)

    def messages(direction):
        return sim.call("GET", "/sim/state")["hub"]["connections"][0]["messages_" + direction]

    def later(seconds):
        """The hub has said something meanwhile, as it does by itself in that time."""
        nonlocal ahead_s
        said, ahead_s = messages("out"), ahead_s + seconds
        sim.set(charger=SERIAL, car={"wants_a": 7 + ahead_s // seconds % 2})
        until(lambda: messages("out") > said, "the hub is heard")
        time.sleep(0.05)  # until the gateway has heard it, too
        clock.set(suspended_s=ahead_s)
        client.write_one(7214, ahead_s)  # it looks at the clock when there is something to do

    while ahead_s < 1160:
        later(20)
    equal(client.u16(7130), STREAMING, "connection after 19 minutes")
    equal((client.u32(GAPS), len(sim.ledger("GET", OBSERVATIONS))), (0, polls), "gaps, polls")

    sim.fault(method="GET", path=OBSERVATIONS, kind="slow", delay_ms=3000)
    said = messages("out")
    while ahead_s < 1300 and client.u16(7130) != STALE:
        later(20)
        time.sleep(0.2)
    note(f"stale after {ahead_s} s; ages {client.read(7132, 3)}")
    equal(client.u16(7130), STALE, "connection")
    assert all(age >= 1190 for age in client.read(7132, 3)), client.read(7132, 3)
    until(lambda: client.u32(GAPS) == 1, "a gap is counted")
    until(lambda: messages("out") > said + 40, "all is sent again, as after a subscription")
    until(lambda: client.u16(7130) == STREAMING, "no longer stale")
    assert client.u16(7132) < 60, f"age of the power: {client.u16(7132)} s"
    equal(len(sim.ledger("GET", OBSERVATIONS)), polls + 1, "polls")

    sim.set(hub={"no_data": False, "unknown_targets": False}, speed=1)
    sim.set(charger=SERIAL, car={"wants_a": 16})
    client.power(5600)
    until_stage(client, EFFECTIVE)
    until_drawn(sim, client, [8, 8, 8])
    equal((client.u32(GAPS), client.u32(STREAM_CONNECTS), len(sim.ledger("GET", OBSERVATIONS))),
          (1, 1, polls + 1), "gaps, connects, polls")


def test_refused_subscription(bench):
    """The stream is up but tells nothing of the charger: it is polled, and asked for again."""
    sim = bench.sim()
    sim.set(hub={"refuse_subscription": True})
    client = bench.gateway(sim).client()
    until(lambda: client.u32(STREAM_CONNECTS) == 1, "connected")
    client.power(7400)
    until_stage(client, CONFIRMED, EFFECTIVE)
    equal(client.u16(7130), POLLING, "connection")
    polls = len(sim.ledger("GET", OBSERVATIONS))
    sim.set(hub={"refuse_subscription": False})
    until(lambda: client.u16(7130) == STREAMING, "streaming", 80)
    equal(len(sim.ledger("GET", OBSERVATIONS)), polls + 1, "polls")
    equal(client.u32(STREAM_CONNECTS), 1, "connects")


def test_no_websockets(bench):
    """Only transports we do not speak: polling, and control all the same."""
    sim = bench.sim()
    sim.set(hub={"websockets": False})
    client = bench.gateway(sim).client()
    until(lambda: client.u16(7130) == POLLING, "polling")
    client.power(7400)
    until_stage(client, CONFIRMED, EFFECTIVE)
    equal(sim.currents(), [10, 10, 10], "currents")
    sim.set(hub={"websockets": True})
    until(lambda: client.u16(7130) == STREAMING, "streaming", 60)


def hub_answers(status, most):
    """A test: the hub answers STATUS for ever; there are at most MOST attempts in half a minute,
    no login but the first, and control by REST goes on."""
    def test(bench):
        sim = bench.sim()
        sim.fault(path="/hubs", status=status, count=-1)
        client = bench.gateway(sim).client()
        until(lambda: sim.ledger(path="/hubs"), "an attempt")
        started = time.monotonic()
        for amps in (10, 12, 8, 14, 9):
            client.power(690 * amps)
            until(lambda amps=amps: sim.currents() == [amps] * 3,
                  lambda: f"{amps} A: {client.setpoint()}", 15)
            until_stage(client, CONFIRMED, EFFECTIVE)
        until_over(started, 30)
        attempts = len(sim.ledger(path="/hubs"))
        note(f"{status}: {attempts} attempts in 30 s")
        assert attempts <= most, f"{attempts} attempts"
        equal(client.u16(7130), POLLING, "connection")
        equal(len(sim.ledger("POST", LOGIN)), 1, "logins")
        equal(client.u32(7128), 0, "faults")

    test.__name__ = f"test_hub_answers_{status}"
    return test


for refusal in (hub_answers(401, 1), hub_answers(403, 1), hub_answers(429, 1),
                hub_answers(503, 7)):
    globals()[refusal.__name__] = refusal
del refusal


def test_hub_takes_the_next_token(bench):
    """Refused with the token that the calls still use: renewed once, no login; a hub that goes
    on refusing is left alone."""
    sim = bench.sim()
    sim.fault(path="/hubs", status=401, count=2)
    client = bench.gateway(sim).client()
    client.power(7400)
    until_stage(client, CONFIRMED, EFFECTIVE)
    until(lambda: len(sim.ledger("POST", REFRESH)) == 1, "renewed", 80)
    until(lambda: len(sim.ledger(path="/hubs")) == 2, "second attempt")
    mark = time.monotonic()
    client.power(9000)
    until_stage(client, CONFIRMED, EFFECTIVE)
    until_over(mark, 8)
    equal(len(sim.ledger(path="/hubs")), 2, "attempts")
    equal((len(sim.ledger("POST", LOGIN)), len(sim.ledger("POST", REFRESH))), (1, 1),
          "logins, refreshes")


def test_token_expires_before_reconnecting(bench):
    sim, client = start(bench)
    sim.set(expire_tokens=True)
    sim.set(hub={"drop": True})
    until(lambda: client.u32(STREAM_CONNECTS) == 2, "connected again", 90)
    until(lambda: client.u16(7130) == STREAMING, "streaming")
    equal(len(sim.ledger("POST", LOGIN)), 1, "logins")
    client.power(7400)
    until_stage(client, EFFECTIVE)


if __name__ == "__main__":
    harness.main(globals())
