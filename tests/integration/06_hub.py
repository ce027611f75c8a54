#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The simulated cloud's hub by itself: negotiation, transports, messages, faults."""
import base64
import contextlib
import http.client
import json
import os
import socket
import ssl
import struct
import time

import harness
from harness import PASSWORD, SERIAL, USER, equal, until

HUB = "/hubs/chargers"
SEPARATOR = "\x1e"
TEXT, CLOSE = 1, 8


class Refused(Exception):
    def __init__(self, status, headers):
        super().__init__(f"status {status}")
        self.status, self.headers = status, headers


def product_update(message):
    """The argument of a ProductUpdate that is one; None."""
    arguments = message.get("arguments")
    good = (message.get("target") == "ProductUpdate" and isinstance(arguments, list)
            and isinstance(arguments[0], dict) and arguments[0].get("mid"))
    return arguments[0] if good else None


class Stream:
    """What a client of the hub hears, over any transport: a subclass has send() and hear()."""

    def __init__(self):
        self.text, self.frames = "", []

    def say(self, **message):
        self.send(json.dumps(message) + SEPARATOR)

    def next(self):
        """The next message; None: the end."""
        while SEPARATOR not in self.text:
            frame = self.hear()
            if frame is None:
                return None
            self.frames.append(frame)
            self.text += frame
        message, self.text = self.text.split(SEPARATOR, 1)
        return message

    def wait(self, what, wanted, limit=2000):
        """The first message that WANTED() accepts; others are skipped."""
        for _ in range(limit):
            text = self.next()
            assert text is not None, f"the end, before {what}"
            with contextlib.suppress(ValueError):
                message = json.loads(text)
                if isinstance(message, dict) and wanted(message):
                    return message
        raise AssertionError(f"{limit} messages without {what}")

    def greet(self):
        self.say(protocol="json", version=1)
        return json.loads(self.next())

    def subscribe(self, serial=SERIAL, replay=True, call="1"):
        """The updates of the replay, by id, and the completion."""
        self.say(type=1, invocationId=call, target="SubscribeWithCurrentState",
                 arguments=[serial, replay])
        updates = {}

        def completed(message):
            update = product_update(message)
            if update:
                updates.setdefault(update["id"], update)
            return message.get("type") == 3

        return updates, self.wait("completion", completed)

    def update(self, number, value, serial=SERIAL):
        """Waits for an update of observation NUMBER to VALUE."""
        def wanted(message):
            update = product_update(message)
            return update and (update["mid"], update["id"], update.get("value")) == (serial, number,
                                                                                 value)

        return self.wait(f"{number} = {value}", wanted)["arguments"][0]

    def all_updates(self, wanted, serial=SERIAL):
        """Waits until each observation in WANTED was updated to its value, in any order."""
        left = dict(wanted)

        def last(message):
            update = product_update(message)
            if update and update["mid"] == serial and left.get(update["id"], "") == update.get("value"):
                del left[update["id"]]
            return not left

        self.wait(left, last)

    def response(self):
        return self.wait("CommandResponse",
                         lambda m: m.get("target") == "CommandResponse")["arguments"][0]


class WebSocket(Stream):
    def __init__(self, sim, token, path=HUB, query=None, timeout_s=20):
        super().__init__()
        self.socket = socket.create_connection(("127.0.0.1", sim.port), timeout=timeout_s)
        if sim.tls:
            self.socket = ssl._create_unverified_context().wrap_socket(self.socket)
        key = base64.b64encode(os.urandom(16)).decode()
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self.socket.sendall((f"GET {path}{'?' + query if query else ''} HTTP/1.1\r\n"
                             f"Host: 127.0.0.1:{sim.port}\r\nUpgrade: websocket\r\n"
                             f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                             f"Sec-WebSocket-Key: {key}\r\n{authorization}\r\n").encode())
        self.file = self.socket.makefile("rb")
        status = int(self.file.readline().split()[1])
        headers = http.client.parse_headers(self.file)
        if status != 101:
            raise Refused(status, headers)

    def send(self, text):
        data = text.encode()
        mask = os.urandom(4)
        head = struct.pack(">BB", 0x80 | TEXT, 0x80 | min(len(data), 126))
        if len(data) >= 126:
            head += struct.pack(">H", len(data))
        self.socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def hear(self):
        head = self.file.read(2)
        if len(head) < 2 or head[0] & 15 == CLOSE:
            return None
        length = head[1] & 127
        if length == 126:
            length = struct.unpack(">H", self.file.read(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self.file.read(8))[0]
        return self.file.read(length).decode("latin-1")

    def close(self):
        self.file.close()
        self.socket.close()


class Account:
    """A client that is logged in."""

    def __init__(self, sim):
        self.sim = sim
        body = json.dumps({"userName": USER, "password": PASSWORD})
        self.token = None
        self.token = self.json("POST", "/api/accounts/login", body)["accessToken"]

    def ask(self, method, path, body=None, **headers):
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        connection = http.client.HTTPConnection("127.0.0.1", self.sim.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("latin-1"), answer.headers

    def json(self, method, path, body=None, **headers):
        status, text, _ = self.ask(method, path, body, **headers)
        assert status in (200, 202), f"{method} {path}: {status} {text}"
        return json.loads(text) if text else None

    def negotiate(self, version=1, path=HUB):
        return self.json("POST", f"{path}/negotiate?negotiateVersion={version}")

    def limit(self, *amps):
        self.json("POST", "/api/sites/54321/circuits/12345/settings",
                  json.dumps({f"dynamicCircuitCurrentP{p + 1}": a for p, a in enumerate(amps)}))

    def open(self, **kwargs):
        """A WebSocket, greeted."""
        stream = WebSocket(self.sim, self.token, **kwargs)
        equal(stream.greet(), {}, "answer to the handshake")
        return stream


def start(bench, *args, **kwargs):
    sim = bench.sim(*args, **kwargs)
    return sim, Account(sim)


def refused(*args, **kwargs):
    try:
        WebSocket(*args, **kwargs).close()
    except Refused as why:
        return why
    raise AssertionError("was not refused")


# Connecting.

def test_direct(bench):
    sim, account = start(bench)
    stream = account.open()
    updates, completion = stream.subscribe()
    equal(completion, {"type": 3, "invocationId": "1", "result": None}, "completion")
    assert len(updates) > 50, sorted(updates)
    equal([updates[i]["value"] for i in (109, 110, 111, 250, 100)], ["3", "30", "40", "1", "C"],
          "values of the replay")
    equal(updates[109]["mid"], SERIAL, "mid")
    assert all(isinstance(u["value"], str) for u in updates.values())
    equal(sim.call("GET", "/sim/state")["hub"]["connections"][0]["subscribed"], [SERIAL],
          "subscribed")
    entry = sim.ledger("GET", HUB)[0]
    equal((entry["status"], entry["class"]), (101, "hub"), "ledger")


def test_refused_connections(bench):
    sim, account = start(bench)
    equal(refused(sim, None).status, 401, "no token")
    equal(refused(sim, "nonsense").status, 401, "bad token")
    equal(refused(sim, account.token, query="id=unknown").status, 404, "unknown id")
    equal(refused(sim, account.token, path="/hubs/nowhere").status, 404, "unknown hub")
    equal(account.ask("POST", HUB + "/negotiate", Authorization="x")[0], 200, "negotiate")
    WebSocket(sim, None, query="access_token=" + account.token).greet()
    sim.set(hub={"direct": False})
    equal(refused(sim, account.token).status, 400, "no id where one is needed")
    sim.set(expire_tokens=True)
    equal(refused(sim, account.token).status, 401, "expired token")
    equal(account.ask("POST", HUB + "/negotiate")[0], 401, "negotiate with an expired token")


def test_faults_on_connecting(bench):
    """The faults of HTTP are those of connecting, too."""
    sim, account = start(bench)
    for status in (401, 403, 404, 429, 500, 503):
        sim.fault(path="/hubs", status=status, count=2, headers={"Retry-After": "7"})
        why = refused(sim, account.token)
        equal((why.status, why.headers["Retry-After"]), (status, "7"), "fault")
        equal(account.ask("POST", HUB + "/negotiate")[0], status, "negotiate")
    sim.fault(path="/hubs", kind="reset")
    with contextlib.suppress(ConnectionError, IndexError):
        WebSocket(sim, account.token)
        raise AssertionError("connected in spite of a reset")
    account.open().subscribe()


def test_too_many_connections(bench):
    sim, account = start(bench)
    statuses = [account.ask("POST", HUB + "/negotiate")[0] for _ in range(62)]
    equal(statuses, [200] * 60 + [429] * 2, "statuses")
    assert int(refused(sim, account.token).headers["Retry-After"]) > 0
    account.json("GET", "/api/sites")


def test_negotiation(bench):
    sim, account = start(bench)
    old = account.negotiate(0)
    equal((old["negotiateVersion"], "connectionToken" in old), (0, False), "version 0")
    equal([t["transport"] for t in old["availableTransports"]],
          ["WebSockets", "ServerSentEvents", "LongPolling"], "transports")
    account.open(query="id=" + old["connectionId"]).subscribe()
    new = account.negotiate(1)
    assert new["connectionToken"] != new["connectionId"]
    equal(refused(sim, account.token, query="id=" + new["connectionId"]).status, 404, "wrong id")
    stream = account.open(query="id=" + new["connectionToken"])
    equal(refused(sim, account.token, query="id=" + new["connectionToken"]).status, 409, "twice")
    stream.subscribe()
    sim.set(hub={"sse": False, "websockets": False})
    equal([t["transport"] for t in account.negotiate()["availableTransports"]],
          ["LongPolling"], "transports left")
    equal(refused(sim, account.token).status, 404, "WebSocket switched off")


def test_redirect(bench):
    sim, account = start(bench)
    sim.set(hub={"redirect": True})
    there = account.negotiate()
    assert there["url"].startswith(sim.url) and there["accessToken"] != account.token, there
    account.token = there["accessToken"]
    path = there["url"][len(sim.url):]
    connection = account.negotiate(path=path)
    account.open(path=path, query="id=" + connection["connectionToken"]).subscribe()


# Other transports.

class Polling(Stream):
    def __init__(self, account):
        super().__init__()
        self.account = account
        self.path = f"{HUB}?id={account.negotiate()['connectionToken']}"
        equal(account.ask("GET", self.path)[:2], (200, ""), "first poll")

    def send(self, text):
        equal(self.account.ask("POST", self.path, text)[0], 200, "sending")

    def hear(self):
        status, text, _ = self.account.ask("GET", self.path)
        assert status in (200, 204), status
        return text if status == 200 else None


class Events(Stream):
    def __init__(self, account):
        super().__init__()
        self.account = account
        self.path = f"{HUB}?id={account.negotiate()['connectionToken']}"
        self.connection = http.client.HTTPConnection("127.0.0.1", account.sim.port, timeout=20)
        self.connection.request("GET", self.path, headers={
            "Accept": "text/event-stream", "Authorization": "Bearer " + account.token})
        self.answer = self.connection.getresponse()
        equal((self.answer.status, self.answer.headers["Content-Type"]),
              (200, "text/event-stream"), "answer")

    def send(self, text):
        equal(self.account.ask("POST", self.path, text)[0], 200, "sending")

    def hear(self):
        for line in iter(self.answer.readline, b""):
            if line.startswith(b"data: "):
                return line[6:].decode("latin-1").rstrip("\r\n")
        return None


def test_polling_ends(bench):
    sim, account = start(bench)
    stream = Polling(account)
    stream.greet()
    equal(account.ask("DELETE", stream.path)[0], 202, "end")
    equal(stream.next(), None, "after the end")
    equal(account.ask("GET", stream.path)[0], 404, "poll of what has ended")
    path = f"{HUB}?id={account.negotiate()['connectionToken']}"
    equal(account.ask("POST", path, "x")[0], 400, "sending before it is connected")
    equal(account.ask("DELETE", path)[0], 400, "ending before it is connected")
    equal(account.ask("POST", HUB, "x")[0], 400, "without an id")
    sim.set(hub={"long_polling": False})
    equal(account.ask("GET", path)[0], 404, "long polling switched off")


def over(transport):
    def test(bench):
        sim, account = start(bench)
        stream = transport(account)
        equal(stream.greet(), {}, "handshake")
        updates, completion = stream.subscribe()
        equal((len(updates) > 50, completion["result"]), (True, None), "replay")
        account.limit(10, 10, 10)
        equal(stream.response()["id"], 22, "command")
        stream.update(111, "10")
        sim.set(hub={"close": {"error": "over", "allow_reconnect": True}})
        stream.wait("close", lambda m: m == {"type": 7, "error": "over", "allowReconnect": True})
        equal(stream.next(), None, "after the close")

    test.__name__ = f"test_over_{transport.__name__.lower()}"
    return test


for test_over in (over(WebSocketOrNot) for WebSocketOrNot in (Polling, Events)):
    globals()[test_over.__name__] = test_over
del test_over


# What is said.

def test_command_and_updates(bench):
    """Response within 0.5 to 1 s, then limits, reason, offer, and the car's current."""
    sim, account = start(bench)
    stream = account.open()
    stream.subscribe()
    started = time.monotonic()
    command = account.json("POST", "/api/sites/54321/circuits/12345/dynamicCurrent",
                           json.dumps({"phase1": 10, "phase2": 10, "phase3": 10}))[0]
    response = stream.response()
    assert 0.4 < time.monotonic() - started < 3, time.monotonic() - started
    equal((response["serialNumber"], response["id"], response["ticks"], response["wasAccepted"],
           response["resultCode"]), (SERIAL, 22, command["ticks"], True, 0), "response")
    stream.all_updates({111: "10", 112: "10", 113: "10", 114: "10", 183: "10", 120: "6.93"})
    took = time.monotonic() - started
    assert took < 8, f"{took} s until the power was there"

    account.limit(8, 8, 8)  # settings: 200 without ticks, yet a response
    response = stream.response()
    assert response["ticks"] > command["ticks"], response
    stream.update(112, "8")


def test_verdicts(bench):
    sim, account = start(bench)
    stream = account.open()
    stream.subscribe()
    sim.set(charger=SERIAL, confirm="reject")
    account.limit(9, 9, 9)
    response = stream.response()
    equal((response["wasAccepted"], response["resultCode"]), (False, 4), "rejected")
    sim.set(charger=SERIAL, confirm="normal", answer_ms=2500)
    started = time.monotonic()
    account.limit(11, 11, 11)
    equal(stream.response()["wasAccepted"], True, "accepted")
    assert time.monotonic() - started > 2.4, "answered too early"
    sim.set(hub={"no_responses": True})
    account.limit(12, 12, 12)
    stream.update(111, "12")
    sim.set(hub={"no_responses": False, "ticks_off": -70}, )
    sim.set(charger=SERIAL, answer_ms=0)
    account.limit(13, 13, 13)
    response = stream.response()
    equal(sim.charger()["last_command"]["ticks"] - response["ticks"], 70, "ticks apart")


def test_foreign_control(bench):
    """Others command, too: through the cloud, so that it shows."""
    sim, account = start(bench)
    stream = account.open()
    stream.subscribe()
    sim.set(circuit=12345, dynamic=[20, 20, 20])
    equal(stream.response()["id"], 22, "circuit limit by others")
    stream.update(113, "20")
    sim.set(charger=SERIAL, dynamic_current=16)
    equal(stream.response()["id"], 48, "charger limit by others")
    stream.update(48, "16")
    account.json("POST", f"/api/chargers/{SERIAL}/commands/resume_charging")
    equal(stream.response()["id"], 48, "resume by others")
    stream.update(48, "32")
    sim.set(charger=SERIAL, reboot=True)
    stream.update(109, "0")
    sim.set(speed=200)
    stream.update(250, "1")
    stream.update(111, "40")


def test_subscriptions(bench):
    sim, account = start(bench)
    stream = account.open()
    for serial in ("NOBODY", None, 5):
        _, completion = stream.subscribe(serial)
        assert "error" in completion, completion
    stream.say(type=1, invocationId="9", target="Nonsense", arguments=[])
    assert "error" in stream.wait("completion", lambda m: m.get("invocationId") == "9")
    equal(stream.subscribe("EH200001", replay=False, call="x")[0], {}, "replay")
    stream.say(type=1, target="SubscribeWithCurrentState", arguments=["EH300001", True])
    stream.update(109, "3", "EH300001")
    sim.set(circuit=12346, dynamic=[20, 20, 20])
    equal(stream.response()["serialNumber"], "EH200001", "charger")
    stream.say(type=1, target="Unsubscribe", arguments=["EH200001"])
    stream.subscribe("EH300001", call="y")
    sim.set(circuit=12346, dynamic=[21, 21, 21])
    sim.set(circuit=12347, dynamic=[21, 21, 21])
    equal(stream.response()["serialNumber"], "EH300001", "charger")


def test_handshake(bench):
    sim, account = start(bench)
    for protocol, version in (("messagepack", 1), ("json", 2), (None, None)):
        stream = WebSocket(sim, account.token)
        stream.say(protocol=protocol, version=version)
        assert "error" in json.loads(stream.next())
        equal(stream.next(), None, "after a refused handshake")
    sim.set(hub={"refuse_handshake": True})
    assert "error" in WebSocket(sim, account.token).greet()


def test_old_values_are_replayed_as_such(bench):
    """The replay has the original times; the heartbeat comes every 15 simulated minutes."""
    sim, account = start(bench, "--speed", "1000")
    until(lambda: sim.call("GET", "/sim/state")["now_ms"] > 2 * 3600 * 1000, "two hours", 20)
    sim.set(speed=1)
    stream = Account(sim).open()
    updates, _ = stream.subscribe()
    now = sim.call("GET", "/sim/state")["unix_ms"] / 1000

    def age_s(number):
        stamp = updates[number]["timestamp"]
        return now - time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone

    assert 7200 <= age_s(21) < 9000, age_s(21)
    assert age_s(150) < 1000, age_s(150)


# Faults.

def test_frames(bench):
    sim, account = start(bench)
    stream = account.open()
    sim.set(hub={"frames": "many"})
    equal(len(stream.subscribe()[0]) > 50, True, "replay in few frames")
    assert max(f.count(SEPARATOR) for f in stream.frames) > 5, "several messages in a frame"
    sim.set(hub={"frames": "split"})
    before = len(stream.frames)
    equal(len(stream.subscribe()[0]) > 50, True, "replay in pieces")
    assert max(map(len, stream.frames[before:])) <= 40
    assert len(stream.frames) - before > 100


def test_duplicates_and_old_ones(bench):
    sim, account = start(bench)
    stream = account.open()
    stream.subscribe()
    sim.set(hub={"duplicates": True, "out_of_order": True})
    account.limit(10, 10, 10)
    stamps = [stream.update(111, value)["timestamp"] for value in ("10", "10", "40")]
    assert stamps[0] == stamps[1] > stamps[2], stamps


def test_noise(bench):
    """Between unknown and broken messages the good ones come all the same."""
    sim, account = start(bench)
    stream = account.open()
    sim.set(hub={"unknown_targets": True, "garbage": True})
    equal(len(stream.subscribe()[0]) > 50, True, "replay")
    account.limit(10, 10, 10)
    stream.update(111, "10")


def test_zombies(bench):
    sim, account = start(bench)
    stream = account.open()
    stream.subscribe()
    sim.set(hub={"no_data": True})
    account.limit(10, 10, 10)
    until(lambda: sim.currents() == [10, 10, 10], "10/10/10")
    account.limit(12, 12, 12)
    until(lambda: sim.currents() == [12, 12, 12], "12/12/12")
    sim.set(hub={"no_data": False})
    account.limit(13, 13, 13)
    # whatever was reported meanwhile is lost
    response = stream.response()
    equal(sim.charger()["last_command"]["ticks"], response["ticks"], "ticks of the last command")
    sim.set(hub={"silent": True})
    stream.say(type=1, invocationId="z", target="SubscribeWithCurrentState",
               arguments=[SERIAL, True])
    account.limit(14, 14, 14)
    until(lambda: sim.currents() == [14, 14, 14], "14/14/14")
    stream.socket.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        while stream.hear().find('"z"') < 0:
            pass
        raise AssertionError("a zombie answered")
    silent = WebSocket(sim, account.token, timeout_s=0.2)
    with contextlib.suppress(TimeoutError):
        raise AssertionError(f"a zombie greeted: {silent.greet()}")


def test_drop_and_close(bench):
    sim, account = start(bench)
    stream = account.open()
    sim.set(hub={"drop": True})
    with contextlib.suppress(ConnectionError):
        equal(stream.next(), None, "after the drop")
    stream = account.open()
    sim.set(hub={"close": {}})
    equal(json.loads(stream.next()), {"type": 7}, "close")
    equal(stream.next(), None, "after the close")
    stream = account.open()
    sim.call("POST", "/sim/reset")
    with contextlib.suppress(ConnectionError):
        equal(stream.next(), None, "after the reset")


def test_hub_changes_are_checked(bench):
    sim, _ = start(bench)
    for change in ({"nonsense": True}, {"silent": 1}, {"frames": "torn"}, {"close": True}, [],
                   {"ticks_off": "1"}, {"drop": 0}):
        try:
            sim.set(hub=change)
        except AssertionError as complaint:
            assert "400" in str(complaint), complaint
            continue
        raise AssertionError(f"{change} was accepted")


def test_pings(bench):
    """A ping each 15 s; who is silent for 30 s is closed."""
    _, account = start(bench)
    stream = account.open()
    started = time.monotonic()
    equal(json.loads(stream.next()), {"type": 6}, "first message")
    took = time.monotonic() - started
    assert 14 < took < 17, f"first ping after {took} s"
    last = until(lambda: (lambda text: text != '{"type":6}' and text)(stream.next()), "the end")
    equal(json.loads(last)["type"], 7, "close")
    equal(stream.next(), None, "after the close")
    took = time.monotonic() - started
    assert 29 < took < 34, f"closed after {took} s"


def test_date_is_the_worlds(bench):
    """Every answer has a Date, of the simulated clock."""
    sim, account = start(bench, "--speed", "1000")
    first = http.client.HTTPConnection("127.0.0.1", sim.port)
    first.request("GET", "/sim/state")
    answer = first.getresponse()
    now_s = json.loads(answer.read())["unix_ms"] / 1000
    stamp = time.mktime(time.strptime(answer.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT"))
    assert abs(stamp - time.timezone - now_s) < 5, (answer.headers["Date"], now_s)
    assert account.ask("GET", "/api/sites")[2]["Date"]
    assert account.ask("GET", "/nonsense")[2]["Date"]


if __name__ == "__main__":
    harness.main(globals())
