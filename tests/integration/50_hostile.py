#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Frames no decent client sends.  Numbers as in the attack catalogue: A-01 and so on."""
import contextlib
import random
import struct
import time

import harness
from harness import equal, until

NOBODY = "http://127.0.0.1:9"


def start(bench):
    return bench.gateway(api=NOBODY)


def closed_after(client, limit_s):
    """Seconds until the gateway closes; it says nothing before."""
    client.socket.settimeout(limit_s)
    started = time.monotonic()
    try:
        data = client.socket.recv(1)
    except ConnectionResetError:
        data = b""
    except TimeoutError:
        raise AssertionError(f"still open after {limit_s} s") from None
    equal(data, b"", "bytes before the end")
    return time.monotonic() - started


def test_unknown_functions_at_once(bench):
    """A-01 to A-03: all 256 function codes, none of them slow."""
    client = start(bench).client()
    served = {3, 4, 6, 16, 22, 23, 43}
    slowest = 0
    for code in set(range(256)) - served:
        client.send(client.frame(bytes([code, 0, 0, 0, 0])))
        started = time.monotonic()
        _, _, reply = client.answer()
        slowest = max(slowest, time.monotonic() - started)
        equal(reply, bytes([code | 0x80, 1]), f"answer to function {code}")
    harness.note(f"slowest of {256 - len(served)}: {1000 * slowest:.2f} ms")
    assert slowest < 0.25, "libmodbus's sleep of 500 ms is back"


def test_bad_quantities(bench):
    """A-04, A-29 to A-36: exception 3, the connection stays, nothing changes."""
    client = start(bench).client()
    bad = [struct.pack(">BHH", 3, 7000, q) for q in (0, 126, 128, 65535)]
    bad += [struct.pack(">BHHB", 16, 7202, q, n) + bytes(m)
            for q, n, m in ((2, 2, 2), (1, 4, 4), (1, 3, 3), (1, 0, 0), (0, 0, 0), (124, 248, 246),
                            (129, 2, 2), (0x8001, 2, 2), (2, 4, 3), (2, 4, 5))]
    bad += [struct.pack(">BHHHHB", 23, 7000, 2, 7202, q, n) + bytes(n)
            for q, n in ((122, 240), (2, 2), (0, 0))]
    bad += [b"\x06\x1c\x22\x00", b"\x06\x1c\x22\x00\x01\x00", b"\x16\x1c\x22\x00\x01"]
    for pdu in bad:
        client.send(client.frame(pdu))
        equal(client.answer()[2], bytes([pdu[0] | 0x80, 3]), f"answer to {pdu.hex()}")
    equal(client.u32(7202), harness.NA32, "power limit")


def test_pipelined_around_an_unknown_function(bench):
    """A-06: write, unknown, write, write in one segment."""
    client = start(bench).client()

    def write(transaction, addr, value):
        return client.frame(struct.pack(">BHH", 6, addr, value), transaction=transaction)

    client.send(write(1, 7217, 3000) + client.frame(b"\x41", transaction=2) +
                write(3, 7204, 160) + write(4, 7208, 1))
    answers = [client.answer() for _ in range(4)]
    equal([t for t, _, _ in answers], [1, 2, 3, 4], "transactions in order")
    equal([pdu[0] for _, _, pdu in answers], [6, 0xC1, 6, 6], "functions")
    equal((client.u32(7202), client.u16(7204), client.u16(7208)), (3000, 160, 1), "values")


def test_many_pipelined(bench):
    """A-27: 2000 reads in one go, answered in order."""
    client = start(bench).client()
    frames = b"".join(client.frame(struct.pack(">BHH", 3, 7000, 2), transaction=i)
                      for i in range(2000))
    client.send(frames)
    equal([client.answer()[0] for i in range(2000)], list(range(2000)), "transactions")


def test_every_split_point(bench):
    """C-10: a frame cut anywhere is the same frame."""
    client = start(bench).client()
    frame = client.frame(struct.pack(">BHHBHH", 16, 7202, 2, 4, 0, 7400))
    for cut in range(1, len(frame)):
        client.send(frame[:cut])
        client.send(frame[cut:])
        equal(client.answer()[2], frame[7:12], f"answer, cut at {cut}")


def test_lengths_no_frame_has(bench):
    """A-07, A-10, A-37 to A-39: closed at the first header, nothing changes."""
    gateway = start(bench)
    write = struct.pack(">BHHBHH", 16, 7202, 2, 4, 0, 7400)
    for length in (0, 1, 255, 256, 260, 65535):
        client = gateway.client()
        client.send(struct.pack(">HHHB", 1, 0, length, 1) + write)
        closed_after(client, 2)
    for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n",
                 b"\x16\x03\x01\x02\x00\x01\x00", b"\xff" * 300):
        client = gateway.client()
        client.send(text)
        closed_after(client, 3)
    equal(gateway.client().u32(7202), harness.NA32, "power limit")


def test_hidden_write(bench):
    """A-08, A-09: a longer length hides a write behind a read."""
    client = start(bench).client()
    read = struct.pack(">BHH", 3, 7000, 2)
    hidden = client.frame(struct.pack(">BHH", 6, 7217, 3000))
    client.send(client.frame(read + hidden))
    equal(client.answer()[2], bytes([0x83, 3]), "answer")
    equal(client.u16(7217), harness.NA16, "power limit")


def test_foreign_protocol(bench):
    """A-11: silence, no effect, the next frame is in step; three of them close."""
    client = start(bench).client()
    for protocol in (1, 0x0100):
        client.send(struct.pack(">HHHB", 9, protocol, 6, 1) + struct.pack(">BHH", 6, 7217, 3000))
    equal(client.u16(7217), harness.NA16, "power limit")
    client.send(struct.pack(">HHHB", 9, 0xFFFF, 6, 1) + bytes(5))
    closed_after(client, 2)


def test_unfinished_frames(bench):
    """A-12, A-14: cut one second after the first byte, however the rest comes."""
    gateway = start(bench)
    silent = gateway.client()
    silent.send(b"\x00\x01\x00")
    took = closed_after(silent, 3)
    assert 0.5 < took < 2.5, f"closed after {took:.2f} s"

    frame = gateway.client().frame(struct.pack(">BHH", 6, 7217, 3000))
    slow = gateway.client()
    started = time.monotonic()
    slow.socket.settimeout(0.3)
    with contextlib.suppress(ConnectionError):
        for byte in frame:
            slow.send(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                equal(slow.socket.recv(1), b"", "bytes before the end")
                break
    took = time.monotonic() - started
    assert took < 2.5, f"closed after {took:.2f} s"
    equal(gateway.client().u16(7217), harness.NA16, "power limit")


def test_others_do_not_wait(bench):
    """One client drips, one asks nonsense, one takes no answers: a fourth never waits."""
    gateway = bench.gateway(api=NOBODY, listener="max_clients_per_address = 32")
    good, nonsense, deaf = gateway.client(), gateway.client(), gateway.client()
    drips = [gateway.client() for _ in range(20)]
    for drip in drips:
        drip.send(b"\x00\x01")
    deaf.socket.setblocking(False)
    read = struct.pack(">BHH", 3, 7000, 125)
    took_ms = []
    for i in range(300):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            deaf.socket.send(deaf.frame(read) * 20)
        nonsense.send(nonsense.frame(b"\x41"))
        started = time.perf_counter()
        good.read(7100, 40)
        took_ms.append(1000 * (time.perf_counter() - started))
    p50, p99 = harness.quantile(took_ms, 0.5), harness.quantile(took_ms, 0.99)
    harness.note(f"beside hostile neighbours: p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
                 f"max {max(took_ms):.2f} ms")
    assert p50 < 5 and max(took_ms) < 250, "a neighbour delays others"


def test_deaf_client_is_closed(bench):
    """A-17: who takes no answer for five seconds is closed."""
    gateway = start(bench)
    deaf, watcher = gateway.client(), gateway.client()
    until(lambda: watcher.u32(7404) == 2, "two connections")
    deaf.socket.setblocking(False)
    frames = deaf.frame(struct.pack(">BHH", 3, 7000, 125)) * 500
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while True:
            deaf.socket.send(frames)
    until(lambda: watcher.u32(7404) == 1, "the deaf client is closed", 15, 0.1)


def test_units(bench):
    """Unit 0 and 255 mean the only circuit, any other is exception 11, at once."""
    client = start(bench).client()
    for unit in range(256):
        expected = b"\x03\x02\x45\x56" if unit in (0, 1, 255) else b"\x83\x0b"
        client.send(client.frame(struct.pack(">BHH", 3, 7000, 1), unit=unit))
        equal(client.answer()[1:], (unit, expected), f"answer of unit {unit}")


def test_half_a_word_and_read_only(bench):
    """C-32, C-33: all or nothing."""
    client = start(bench).client()
    for addr, values, code in ((7202, [0], 3), (7203, [7400], 3), (7201, [0, 0], 3),
                               (7201, [2], 3), (7100, [1], 2),
                               (7137, [0, 0], 2), (7499, [1, 1], 2), (65535, [1], 2),
                               (7199, [1], None), (7240, [1], None)):
        try:
            client.write(addr, *values)
            got = None
        except harness.ModbusError as error:
            got = error.code
        equal(got, code, f"write of {values} to {addr}")
    equal(client.u32(7202), harness.NA32, "power limit")
    equal(client.u16(7201), 1, "enable")
    equal(client.u16(7199), harness.NA16, "a register between blocks")


def test_flipped_bytes(bench):
    """A-40: every valid frame with one byte changed gives an answer, silence or a close, and a
    good client on another connection still reads."""
    gateway = start(bench)
    seed = random.randrange(2 ** 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    good = gateway.client()
    pdus = [struct.pack(">BHH", 3, 7100, 40), struct.pack(">BHH", 6, 7217, 3000),
            struct.pack(">BHHBHH", 16, 7202, 2, 4, 0, 7400), b"\x2b\x0e\x01\x00",
            struct.pack(">BHHH", 22, 7204, 0xFFFF, 0),
            struct.pack(">BHHHHBH", 23, 7100, 2, 7204, 1, 2, 160)]
    for pdu in pdus:
        frame = bytearray(good.frame(pdu))
        for at in range(len(frame)):
            client = harness.Modbus(gateway.port)
            changed = bytearray(frame)
            changed[at] ^= rng.randrange(1, 256)
            client.send(changed)
            client.close()
    equal(good.read(7000, 2), [0x4556, 0x4757], "magic")
    assert gateway.alive()


if __name__ == "__main__":
    harness.main(globals())
