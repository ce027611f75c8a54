#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every rule of the Modbus documents that can be seen from outside, by its number, over real
sockets against the real program."""
import contextlib
import os
import random
import re
import socket
import struct
import threading
import time

import harness
from harness import equal, until
from suite import (MAGIC, NOBODY, READ, Lab, Table, best_ms, closed_after, exception,
                   fc6, fc16, fc23, header, process_facts, recv_all, silent)

RULES = Table("conformance.md", "Conformance", """
Rules of the MODBUS Application Protocol V1.1b3 and of the MODBUS Messaging on TCP/IP
Implementation Guide V1.0b, each as a test over a real socket.  Where a rule leaves a choice,
the choice is in the second column.  Exceptions 4, 5, 6 and 10 are never used, and a unit that
is not configured is exception 11: see registers.md.
""")
rule = RULES.row

SERVED = {3, 4, 6, 16, 22, 23, 43}


def raw_answer(client, pdu):
    """The whole ADU that answers PDU."""
    frame = client.frame(pdu)
    client.send(frame)
    head = client._exactly(7)
    return head + client._exactly(struct.unpack(">H", head[4:6])[0] - 1)


def code_of(client, pdu, unit=None):
    """0, or the code of the exception that answers PDU."""
    reply = client.reply(pdu, unit)
    if reply[0] & 0x80:
        equal(len(reply), 2, "size of an exception")
        return reply[1]
    return 0


# ---- framing and header ----

@rule("C-01", "the default port is 502, another one is configurable",
      "without the option it listens on 502; the configured port answers")
def default_port(lab):
    equal(lab.client().read(7000, 2), [0x4556, 0x4757], "magic on the configured port")
    gateway = lab.bench.gateway(api=NOBODY, name="default-port", ready=False, address="127.0.0.1")
    gateway.configure(port="; none")  # takes the line out
    text = open(gateway.path, encoding="ascii").read().replace("port = ; none", "")
    gateway.process.kill()
    gateway.process.wait()
    lab.bench.programs.remove(gateway)
    path = lab.bench.write("default-port/502.conf", text)
    program = harness.Program([os.path.join(harness.BUILD, "eveccd"), "-c", path],
                              os.path.join(lab.bench.folder, "default-port", "502.log"))
    lab.bench.stack.callback(program.process.kill)
    # Without the right to it, or where it is taken, it says that it wanted this port.
    until(lambda: re.search(r"127\.0\.0\.1:502\b|port 502: ", program.log()),
          lambda: "502 in its log: " + program.log())
    return "bound" if "127.0.0.1:502" in program.log() else "tried, not permitted here"


@rule("C-02", "a PDU has at most 253 bytes, an ADU 260",
      "the largest request (function 16, 123 registers) and the largest answer (125 registers, "
      "259 bytes) pass")
def largest_frames(lab):
    client = lab.client()
    span = client.read(7177, 123)
    equal(code_of(client, fc16(7177, span)), 0, "function 16 with 123 registers")
    equal(len(raw_answer(client, struct.pack(">BHH", 3, 7000, 125))), 259, "bytes of the answer")


@rule("C-03", "the length counts unit and PDU: 2 to 254",
      "0, 1, 255, 256, 260, 65535: closed within 100 ms without an answer, nothing changes")
def lengths(lab):
    slowest = 0.0
    with lab.unchanged():
        for length in (0, 1, 255, 256, 260, 65535):
            def attempt(length=length):
                client = lab.client()
                client.send(header(length) + fc6(7217, 3000) + bytes(260))
                closed_after(client, 5)
            slowest = max(slowest, best_ms(attempt))
    assert slowest < 100, f"closed after {slowest:.1f} ms"
    return f"slowest {slowest:.1f} ms"


@rule("C-04", "the declared length delimits a frame",
      "two frames in one segment are answered in order; a frame hidden in a longer one is "
      "exception 3 and has no effect")
def length_delimits(lab):
    client = lab.client()
    client.send(client.frame(READ, transaction=1) + client.frame(fc6(7214, 4), transaction=2))
    equal([client.answer()[::2] for _ in range(2)], [(1, MAGIC), (2, fc6(7214, 4))], "answers")
    with lab.unchanged():
        hidden = client.frame(fc6(7217, 3000))
        equal(client.reply(READ + hidden), exception(3, 3), "answer")
        equal(client.reply(READ), MAGIC, "the next frame")


@rule("C-05", "a PDU of another size than its function has is refused",
      "exception 3, the connection stays (the border of the frame is known)")
def wrong_sizes(lab):
    client = lab.client()
    pdus = [READ, fc6(7217, 3000), fc16(7202, [0, 3000]), struct.pack(">BHHH", 22, 7217, 0, 1),
            fc23(7000, 2, 7202, [0, 3000]), b"\x2b\x0e\x01\x00"]
    with lab.unchanged():
        for pdu in pdus:
            for cut in range(1, len(pdu)):
                equal(code_of(client, pdu[:cut]), 3, f"{pdu.hex()} cut to {cut}")
            equal(code_of(client, pdu + b"\x00"), 3, f"{pdu.hex()} and a byte")


@rule("C-06", "a frame of another protocol is discarded",
      "protocol id 1, 100h, FFFFh: silence, no effect, the next frame is in step; the third closes")
def other_protocols(lab):
    with lab.unchanged():
        for protocol in (1, 0x0100, 0xFFFF):
            client = lab.client()
            foreign = header(6, protocol=protocol) + fc6(7217, 3000)
            for _ in range(2):
                client.send(foreign)
                equal(client.reply(READ), MAGIC, "next frame")
            client.send(foreign)
            closed_after(client, 5)


@rule("C-07", "the transaction id is echoed",
      "0, 1, 7FFFh, FFFFh, and 100 random ones pipelined, in order")
def transactions(lab):
    client = lab.client()
    ids = [0, 1, 0x7FFF, 0xFFFF] + [random.randrange(65536) for _ in range(100)]
    client.send(b"".join(client.frame(READ, transaction=i) for i in ids))
    equal([client.answer()[0] for _ in ids], ids, "transactions")


@rule("C-08", "the unit id is echoed", "all 256, in normal answers and in exceptions")
def units_echoed(lab):
    client = lab.client()
    client.send(b"".join(client.frame(READ, unit=u) for u in range(256)))
    equal([client.answer()[1] for _ in range(256)], list(range(256)), "units")


@rule("C-09", "an answer has protocol id 0 and its real length",
      "answers of every function read strictly, byte for byte")
def strict_answers(lab):
    client = lab.client()
    for pdu in (READ, struct.pack(">BHH", 4, 7100, 40), fc6(7214, 9), fc16(7214, [9]),
                struct.pack(">BHHH", 22, 7214, 0xFFFF, 0), fc23(7000, 3, 7214, [9]),
                b"\x2b\x0e\x03\x00", b"\x41", READ + b"\0"):
        adu = raw_answer(client, pdu)
        equal(adu[2:4], b"\0\0", "protocol")
        equal(struct.unpack(">H", adu[4:6])[0], len(adu) - 6, "length")
    silent(client)


@rule("C-10", "how the stream is cut does not matter",
      "every frame kind at every split point, byte by byte, and 64 frames in one segment")
def segmentation(lab):
    client = lab.client()
    kinds = [READ, fc6(7214, 4), fc16(7214, [4]), struct.pack(">BHHH", 22, 7214, 0xFFFF, 0),
             fc23(7000, 2, 7214, [4]), b"\x2b\x0e\x04\x01", b"\x41\0\0", READ + b"\0"]
    cuts = 0
    for pdu in kinds:
        whole = client.reply(pdu)
        frame = client.frame(pdu)
        for cut in range(1, len(frame)):
            client.send(frame[:cut])
            client.send(frame[cut:])
            equal(client.answer()[2], whole, f"{pdu.hex()} cut at {cut}")
            cuts += 1
        for byte in frame:
            client.send(bytes([byte]))
        equal(client.answer()[2], whole, f"{pdu.hex()} byte by byte")
    client.send(b"".join(client.frame(READ, transaction=i) for i in range(64)))
    equal([client.answer()[0] for _ in range(64)], list(range(64)), "64 in one segment")
    return f"{cuts} cuts"


def small_buffers(client):
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


@rule("C-11", "several requests may be outstanding",
      "16 pipelined are answered; while answers are not taken beyond the queue, reading stops, "
      "and afterwards every request is answered, in order")
def back_pressure(lab):
    client = lab.client()
    client.send(b"".join(client.frame(READ, transaction=i) for i in range(16)))
    equal([client.answer()[0] for _ in range(16)], list(range(16)), "sixteen")
    watcher, rss = lab.client(), process_facts(lab.gateway)[0]
    count = 60000
    before = watcher.u32(7410)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    stream = b"".join(client.frame(struct.pack(">BHH", 3, 7000, 125), transaction=i & 0xFFFF)
                      for i in range(count))
    sender = threading.Thread(target=client.send, args=(stream,))
    sender.start()
    served = -1

    def reading_stopped():
        nonlocal served
        last, served = served, watcher.u32(7410) - before
        return served > 32 and served - last == 1  # the watcher's own request

    until(reading_stopped, "reading stops", 10, 0.25)  # the counter may be 100 ms old
    assert served < count, "everything was answered: no back-pressure"
    grown = process_facts(lab.gateway)[0] - rss
    for i in range(count):
        equal(client.answer()[0], i & 0xFFFF, "transaction")
    sender.join()
    assert harness.SANITIZED or grown < 256, f"memory grew by {grown} KiB"
    return f"reading stopped after {served} requests, memory +{grown} KiB"


@rule("C-12", "exception 6 when no transaction is free",
      "never needed: back-pressure instead (C-11); hundreds of writes in one go are all answered "
      "normally")
def never_busy(lab):
    client = lab.client()
    client.send(b"".join(client.frame(fc6(7214, i), transaction=i) for i in range(500)))
    for i in range(500):
        equal(client.answer()[::2], (i, fc6(7214, i)), "answer")


@rule("C-13", "an answer leaves on the connection of its request",
      "64 connections with their own requests in flight, some of them reset: the others get "
      "their own answers and no more")
def own_connection(lab):
    gateway = lab.bench.gateway(api=NOBODY, name="many", listener="max_clients = 64")
    clients = [lab.client(gateway) for _ in range(64)]
    for i, client in enumerate(clients):
        client.send(b"".join(client.frame(struct.pack(">BHH", 3, 7000, i + 1), transaction=1000 + i)
                             for _ in range(30)))
    for client in clients[::3]:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    for i, client in enumerate(clients):
        if i % 3:
            for _ in range(30):
                transaction, _, pdu = client.answer()
                equal((transaction, pdu[1]), (1000 + i, 2 * (i + 1)), "answer")
            silent(client)


@rule("C-14", "answers of a connection come in the order of its requests",
      "reads, writes, refused and unknown functions mixed")
def order(lab):
    client = lab.client()
    pdus = [READ, fc6(7214, 1), b"\x41", fc16(7202, [0]), b"\x2b\x0e\x01\x00"] * 40
    client.send(b"".join(client.frame(p, transaction=i) for i, p in enumerate(pdus)))
    for i, pdu in enumerate(pdus):
        transaction, _, reply = client.answer()
        equal((transaction, reply[0] & 0x7F), (i, pdu[0] & 0x7F), "answer")


@rule("C-15", "half-close", "three requests and FIN: three answers and FIN")
def half_close(lab):
    client = lab.client()
    client.send(client.frame(READ) * 3)
    client.socket.shutdown(socket.SHUT_WR)
    equal(len(recv_all(client, 5)), 3 * (7 + len(MAGIC)), "bytes of three answers")


# ---- unit identifier ----

def two_circuits(lab):
    return lab.bench.gateway(api=NOBODY, name="two", circuits="\n".join(
        f"[circuit c{u}]\nunit = {u}\nsite = ABCD-1234\ncircuit = {u}\nmax_current = 16"
        for u in (1, 2)))


@rule("C-16", "0 and 255 mean the server itself",
      "they stand for the only circuit; with two circuits they are exception 11, the configured "
      "ones answer")
def unit_of_the_server(lab):
    client = lab.client()
    for unit in (0, 1, 255):
        equal(client.reply(READ, unit), MAGIC, f"unit {unit}")
    several = lab.client(two_circuits(lab))
    for unit, expected in ((1, MAGIC), (2, MAGIC), (0, b"\x83\x0b"), (255, b"\x83\x0b")):
        equal(several.reply(READ, unit), expected, f"unit {unit} of two")


@rule("C-17", "a unit with no target behind the gateway",
      "exception 11, for every function served and for every other code")
def unknown_unit(lab):
    client = lab.client()
    served = [READ, struct.pack(">BHH", 4, 7000, 2), fc6(7217, 3000), fc16(7202, [0, 3000]),
              struct.pack(">BHHH", 22, 7217, 0, 1), fc23(7000, 2, 7202, [0, 3000]),
              b"\x2b\x0e\x01\x00"]
    equal({pdu[0] for pdu in served}, SERVED, "functions")
    for pdu in (*served, *(bytes([code]) for code in set(range(256)) - SERVED)):
        equal(client.reply(pdu, 9), exception(pdu[0], 11), f"{pdu.hex()} to unit 9")
    codes = {u for u in range(256) if client.reply(READ, u) != exception(3, 11)}
    equal(codes, {0, 1, 255}, "units that answer")


@rule("C-18", "unit 0 is no broadcast over TCP", "a write to it is answered")
def no_broadcast(lab):
    client = lab.client()
    equal(client.reply(fc6(7214, 77), 0), fc6(7214, 77), "answer")
    equal(client.u16(7214), 77, "heartbeat")


# ---- functions ----

@rule("C-20", "an unknown function is exception 1 at once",
      "all 256 codes; the high bit is set in every answer; below 10 ms")
def all_functions(lab):
    client = lab.client()
    slowest = 0.0
    for code in set(range(256)) - SERVED:
        for data in (b"", bytes(4), bytes(250)):
            def attempt(pdu=bytes([code]) + data):
                equal(client.reply(pdu), exception(pdu[0], 1), f"function {pdu[0]}")
            slowest = max(slowest, best_ms(attempt))
    assert slowest < 10, f"{slowest:.2f} ms"
    return f"slowest of {256 - len(SERVED)} codes {slowest:.2f} ms"


def not_served(lab, function, tails):
    client = lab.client()
    with lab.unchanged():
        for tail in tails:
            equal(client.reply(bytes([function]) + tail), exception(function, 1),
                  f"function {function} {tail.hex()}")


@rule("C-21", "functions 1 and 2 (bits)", "not served: exception 1 whatever the quantity")
def bits(lab):
    for function in (1, 2):
        not_served(lab, function, [struct.pack(">HH", a, q) for a in (0, 7000, 65535)
                                   for q in (0, 1, 7, 8, 9, 2000, 2001, 65535)])


@rule("C-22", "functions 3 and 4: 1 to 125 registers",
      "every quantity; others exception 3; outside the window exception 2, also in part")
def read_quantities(lab):
    client = lab.client()
    for function in (3, 4):
        for q in range(1, 126):
            equal(len(client.reply(struct.pack(">BHH", function, 7000, q))), 2 + 2 * q,
                  f"size of {q} registers")
        for addr, q, code in ((7000, 0, 3), (7000, 126, 3), (7000, 128, 3), (7000, 65535, 3),
                              (7499, 1, 0), (7500, 1, 2), (7375, 125, 0), (7376, 125, 2),
                              (6999, 1, 2), (6999, 2, 2), (65535, 1, 2), (65535, 2, 2),
                              (65411, 125, 2), (65412, 125, 2), (0, 1, 2)):
            equal(code_of(client, struct.pack(">BHH", function, addr, q)), code,
                  f"function {function}, {q} from {addr}")


@rule("C-23", "function 5 (one bit)", "not served: exception 1 whatever the value")
def one_bit(lab):
    not_served(lab, 5, [struct.pack(">HH", 7217, v) for v in (0, 0xFF00, 1, 0xFF, 0xFF01, 0xFFFF)])


@rule("C-24", "function 6 echoes address and value",
      "first and last register of the control block and of the window's writable rest")
def write_single(lab):
    client = lab.client()
    for addr, value in ((7200, 7), (7201, 1), (7215, 0), (7214, 65535), (7239, 5), (7240, 6),
                        (7499, 7), (7460, 0)):
        equal(client.reply(fc6(addr, value)), fc6(addr, value), f"write to {addr}")


@rule("C-25", "function 15 (bits)", "not served: exception 1 whatever the counts")
def write_bits(lab):
    not_served(lab, 15, [struct.pack(">HHB", 7200, q, n) + bytes(m) for q, n, m in
                         ((9, 1, 1), (1, 2, 2), (1, 246, 246), (1968, 246, 246), (1969, 247, 247))])


@rule("C-26", "function 16: 1 to 123 registers, byte count twice that",
      "every quantity; bad pairs exception 3, the connection stays, nothing changes")
def write_multiple(lab):
    client = lab.client()
    span = client.read(7177, 123)
    for q in range(1, 124):
        cuts_a_limit = q == 26  # ends with 7202, half of a 32-bit value: C-33
        equal(client.reply(fc16(7177, span[:q])), exception(16, 3) if cuts_a_limit
              else struct.pack(">BHH", 16, 7177, q), f"{q} registers")
    with lab.unchanged():
        for q, count, words in ((2, 2, 1), (1, 4, 2), (1, 0, 0), (0, 0, 0), (124, 248, 122),
                                (127, 254, 122), (129, 2, 1), (0x8001, 2, 1), (1, 255, 122),
                                (2, 4, 1), (2, 4, 3), (123, 246, 122)):
            equal(client.reply(fc16(7214, [0] * words, q, count)), exception(16, 3),
                  f"quantity {q}, count {count}, {2 * words} bytes")
        equal(client.reply(fc16(7214, [], 1, 3) + bytes(3)), exception(16, 3), "count 3")


@rule("C-27", "function 22: (current AND and) OR (or AND NOT and)",
      "the example of the specification (12h, F2h, 25h: 17h), and 200 random ones; echo")
def mask_write(lab):
    client = lab.client()
    cases = [(0x12, 0xF2, 0x25)] + [tuple(random.randrange(65536) for _ in range(3))
                                    for _ in range(200)]
    for value, mask_and, mask_or in cases:
        client.write_one(7214, value)
        pdu = struct.pack(">BHHH", 22, 7214, mask_and, mask_or)
        equal(client.reply(pdu), pdu, "echo")
        equal(client.u16(7214), value & mask_and | mask_or & ~mask_and & 0xFFFF, "result")


@rule("C-28", "function 23: reads 1 to 125, writes 1 to 121, write before read",
      "the new value is read; a bad range or count on either side: nothing written")
def read_write(lab):
    client = lab.client()
    equal(client.reply(fc23(7214, 1, 7214, [4711])), b"\x17\x02" + struct.pack(">H", 4711),
          "written before read")
    equal(client.reply(fc23(7217, 1, 7202, [0, 4000])), b"\x17\x02" + struct.pack(">H", 4000),
          "the short power limit mirrors it")
    equal(len(client.reply(fc23(7000, 125, 7214, [1]))), 252, "125 read")
    span = client.read(7177, 121)
    equal(len(client.reply(fc23(7177, 121, 7177, span))), 244, "121 written")
    with lab.unchanged():
        for read, quantity, write, words, written, count, code in (
                (7000, 0, 7214, 1, 1, 2, 3), (7000, 126, 7214, 1, 1, 2, 3),
                (7499, 2, 7214, 1, 1, 2, 2), (65535, 2, 7214, 1, 1, 2, 2),
                (7000, 1, 7214, 0, 0, 0, 3), (7000, 1, 7214, 121, 122, 242, 3),
                (7000, 1, 7214, 1, 1, 4, 3), (7000, 1, 7214, 2, 1, 2, 3),
                (7000, 1, 7214, 1, 2, 2, 3), (7000, 1, 6999, 2, 2, 4, 2),
                (7000, 1, 7100, 1, 1, 2, 2), (7000, 1, 7202, 1, 1, 2, 3)):
            equal(code_of(client, fc23(read, quantity, write, [5] * words, written, count)), code,
                  f"read {quantity} from {read}, write {written} to {write}")


@rule("C-29", "function 43/14, device identification",
      "read codes 1 to 4; 0 and 5 to 255 exception 3; every object 0 to 255; another MEI type "
      "exception 1; more-follows continues where it stopped")
def identification(lab):
    client = lab.client()

    def objects(code, first=0):
        reply = client.reply(bytes([43, 14, code, first]))
        equal(reply[:4], bytes([43, 14, code, 0x82]), "head")
        found, at = {}, 7
        for _ in range(reply[6]):
            found[reply[at]] = reply[at + 2:at + 2 + reply[at + 1]].decode("ascii")
            at += 2 + reply[at + 1]
        equal(at, len(reply), "size")
        if reply[4] == 0xFF:
            found.update(objects(code, reply[5]))
        return found

    basic = objects(1)
    equal(sorted(basic), [0, 1, 2], "basic objects")
    equal(basic[1], "EVGW", "product code")
    assert basic[0] and basic[2], f"vendor and version: {basic}"
    equal(sorted(objects(2)), list(range(7)), "regular objects")
    equal(sorted(objects(3)), list(range(7)), "extended stream")
    for number in range(256):
        reply = client.reply(bytes([43, 14, 4, number]))
        if number < 7:
            equal(objects(4, number), {number: objects(2)[number]}, "one object")
        else:
            equal(reply, exception(43, 2), f"object {number}")
    for code in [0, *range(5, 256)]:
        equal(client.reply(bytes([43, 14, code, 0])), exception(43, 3), f"read code {code}")
    for mei in set(range(256)) - {14}:
        equal(client.reply(bytes([43, mei, 1, 0])), exception(43, 1), f"MEI type {mei}")


@rule("C-30", "functions 7, 8, 11, 12, 17 belong to serial lines",
      "exception 1 (17 would be a fingerprint)")
def serial_line(lab):
    for function in (7, 8, 11, 12, 17):
        not_served(lab, function, [b"", bytes(2), bytes(4)])


@rule("C-31", "order of the checks: function, then shape, then address, then value",
      "a request wrong in two ways gets the earlier code; an unknown unit comes first")
def check_order(lab):
    client = lab.client()
    for pdu, code in ((b"\x41" + bytes(300 - 100), 1),
                      (struct.pack(">BHH", 3, 0, 0), 3), (struct.pack(">BHH", 3, 65535, 126), 3),
                      (fc16(0, [1], 1, 4), 3), (fc16(7100, [1], 2, 2), 3),
                      (fc16(6999, [9, 9]), 2), (fc23(0, 0, 7201, [2]), 3),
                      (fc23(0, 1, 7201, [2]), 2), (fc23(7000, 1, 7100, [2]), 2),
                      (bytes([43, 13, 9, 9]), 1), (bytes([43, 14, 9, 200]), 3)):
        equal(code_of(client, pdu), code, pdu.hex()[:40])
    equal(code_of(client, struct.pack(">BHH", 3, 0, 0), 9), 11, "unit first")


@rule("C-32", "a write of several registers is all or nothing",
      "a span with a read-only register is exception 2 and changes nothing")
def all_or_nothing(lab):
    client = lab.client()
    with lab.unchanged():
        for addr, values in ((7136, [1, 1, 1]), (7299, [1, 1]), (7214, [1] * 87), (7058, [1] * 45)):
            equal(code_of(client, fc16(addr, values)), 2, f"{len(values)} from {addr}")
        for addr, values in ((7201, [0, 0, 3000, 160, 0xFFFF, 0xFFFF, 0xFFFF, 2]),
                             (7200, [5, 2]), (7208, [1, 0, 5])):
            equal(code_of(client, fc16(addr, values)), 3, f"{values} to {addr}")


@rule("C-33", "half of a 32-bit value is never acted upon",
      "one word of 7202/7203 is exception 3, by every function; no call to the cloud")
def half_words(lab):
    client = lab.client()
    until(lambda: client.u16(7301) == 0 or client.u16(7301) >= harness.STAGE_CONFIRMED,
          "what was written before is in force")
    calls = len(lab.sim.setpoints())
    with lab.unchanged():
        for pdu in (fc6(7202, 0), fc6(7203, 3000), fc16(7202, [0]), fc16(7203, [3000, 160]),
                    fc16(7201, [1, 0]), struct.pack(">BHHH", 22, 7203, 0, 3000),
                    fc23(7000, 1, 7203, [3000])):
            equal(code_of(client, pdu), 3, pdu.hex())
    equal(len(lab.sim.setpoints()), calls, "setpoint calls")


@rule("C-34", "a value outside its documented range",
      "exception 3, register unchanged; never clipped silently")
def out_of_range(lab):
    client = lab.client()
    with lab.unchanged():
        for addr, value in ((7201, 2), (7201, 65535), (7208, 2), (7208, 4), (7210, 9),
                            (7210, 65535), (7211, 3), (7213, 2), (7215, 2), (7216, 4)):
            equal(code_of(client, fc6(addr, value)), 3, f"{value} to {addr}")


@rule("C-35", "exceptions for what is not the request's fault",
      "none: with the cloud out of reach reads and writes are answered normally, registers tell")
def cloud_away(lab):
    client = lab.client(lab.bench.gateway(api=NOBODY, name="alone"))
    equal(client.read(7000, 2), [0x4556, 0x4757], "magic")
    equal(client.u16(7130), 0, "connection")
    client.power(3000)
    equal(client.u32(7202), 3000, "power limit")
    equal(client.u16(7108), 0xFFFF, "power, not available")


@rule("C-36", "registers are big-endian, 32-bit values high word first",
      "magic EVGW; 65541 W written as 1, 5")
def word_order(lab):
    client = lab.client()
    equal(client.reply(READ)[2:], b"EVGW", "magic")
    client.write(7202, 1, 5)
    equal(client.u32(7202), 65541, "power limit")
    equal(client.u16(7217), 65534, "short power limit")
    client.write(7202, 0xFFFF, 0xFFFF)


@rule("C-37", "an undefined address", "outside the window exception 2, also within a block; "
      "inside it reads as not available, and a write is ignored")
def undefined_addresses(lab):
    client = lab.client()
    image = [v for a in range(7000, 7500, 125) for v in client.read(a, 125)]
    for addr in range(7000, 7500, 7):
        equal(len(client.reply(struct.pack(">BHH", 3, addr, 1))), 4, f"read of {addr}")
    for addr in [*range(6900, 7000), *range(7500, 7600), *range(0, 65536, 499)]:
        if not 7000 <= addr < 7500:
            equal(code_of(client, struct.pack(">BHH", 3, addr, 1)), 2, f"read of {addr}")
            equal(code_of(client, fc6(addr, 0)), 2, f"write to {addr}")
    for addr in (7017, 7060, 7160, 7239, 7240, 7360, 7460, 7499):
        equal(image[addr - 7000], 0xFFFF, f"register {addr}")
        client.write_one(addr, 1)
        equal(client.u16(addr), 0xFFFF, f"register {addr}, written")


# ---- connections and TCP ----

def is_open(client):
    """Asks; false when it was closed."""
    try:
        return client.reply(READ) == MAGIC
    except ConnectionError:
        return False


@rule("C-40", "beyond the limit the oldest unused connection goes",
      "nobody idle for 10 s: the newcomer is refused; then the one idle longest gets FIN and the "
      "newcomer works", slow="max_clients = 4")
def limit(lab, gateway):
    idle, *busy = [lab.client(gateway) for _ in range(4)]
    for client in (idle, *busy):
        assert is_open(client)
    since = time.monotonic()

    def newcomer():
        for client in busy:
            assert is_open(client), "a busy one was closed"
        return is_open(lab.client(gateway))

    assert not newcomer(), "a fifth before anybody was idle"
    until(newcomer, "the newcomer gets in", 30, 0.25)
    took = time.monotonic() - since
    assert took > 9.9, f"after {took:.1f} s"
    equal(recv_all(idle, 5), b"", "bytes to the idle one")
    return f"place free after {took:.1f} s"


@rule("C-41", "two pools: marked addresses and the rest",
      "a flood of others costs a marked client neither its connection nor a place for a new one")
def marked(lab):
    gateway = lab.bench.gateway(api=NOBODY, name="marked", listener="max_clients = 8\n"
                                "max_clients_per_address = 4\npriority = 127.0.0.9")
    first = lab.client(gateway, "127.0.0.9")
    flood = [lab.client(gateway) for _ in range(40)]
    assert is_open(first)
    for _ in range(3):
        assert is_open(lab.client(gateway, "127.0.0.9")), "a marked newcomer"
    equal(sum(is_open(c) for c in flood), 8, "others that got in")
    assert not is_open(lab.client(gateway, "127.0.0.9")), "over its own limit"
    assert is_open(first)


@rule("C-42", "a limit per address", "the ninth connection of one address is refused, another "
      "address gets in")
def per_address(lab):
    eight = [lab.client(source="127.0.3.3") for _ in range(8)]
    assert all(is_open(c) for c in eight)
    assert not is_open(lab.client(source="127.0.3.3")), "a ninth"
    assert is_open(lab.client(source="127.0.3.4")), "another address"
    assert all(is_open(c) for c in eight)


@rule("C-43", "access by address", "who is not on the list is closed without a byte, and counted; "
      "who may only read gets exception 1 for a write")
def access(lab):
    gateway = lab.bench.gateway(api=NOBODY, name="access",
                                listener="allow = 127.0.0.2, 127.0.0.3\nwrite = 127.0.0.2")
    writer, reader = (lab.client(gateway, f"127.0.0.{i}") for i in (2, 3))
    closed_after(lab.client(gateway, "127.0.0.4"), 5)
    equal(writer.u32(7408), 1, "connections refused")
    equal(writer.reply(fc6(7217, 3000)), fc6(7217, 3000), "the writer's write")
    for pdu in (fc6(7217, 4000), fc16(7202, [0, 4000]), fc23(7000, 1, 7217, [4000]),
                struct.pack(">BHHH", 22, 7217, 0, 4000)):
        equal(reader.reply(pdu), exception(pdu[0], 1), "the reader's write")
    equal(reader.u16(7217), 3000, "power limit")


@rule("C-44", "TCP_NODELAY", "three requests in segments of their own: no answer waits for an "
      "acknowledgement (40 ms)")
def no_delay(lab):
    client = lab.client()
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in range(50):
        started = time.perf_counter()
        for _ in range(3):
            client.send(client.frame(READ))
        for _ in range(3):
            client.answer()
        times.append(1000 * (time.perf_counter() - started))
    p50 = harness.quantile(times, 0.5)
    assert p50 < 10, f"median {p50:.2f} ms"
    return f"median of three {p50:.2f} ms"


def tcp_timer(port_here, port_there):
    """(kind, seconds) of the timer of the connection, as the kernel lists it."""
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}", encoding="ascii") as f:
            for line in f:
                fields = line.split()
                if fields[1].endswith(f":{port_here:04X}") and \
                        fields[2].endswith(f":{port_there:04X}"):
                    kind, ticks = fields[5].split(":")
                    return int(kind, 16), int(ticks, 16) / os.sysconf("SC_CLK_TCK")
    raise AssertionError("the connection is not listed")


@rule("C-45", "keepalive: 30 s, then every 10 s, 3 times; user time-out 20 s",
      "the kernel's timer of an idle connection is a keepalive within 30 s (the other values: "
      "unit test socket_options)")
def keepalive(lab):
    client = lab.client()
    assert is_open(client)

    def timer():
        kind, seconds = tcp_timer(lab.gateway.port, client.socket.getsockname()[1])
        return seconds if kind == 2 else None

    seconds = until(timer, "a keepalive timer runs")
    assert 20 < seconds <= 30.5, f"in {seconds:.1f} s"
    return f"next probe in {seconds:.1f} s"


@rule("C-46", "SO_REUSEADDR", "ended and started again under load, it binds at once")
def restart(lab):
    gateway = lab.bench.gateway(api=NOBODY, name="restart")
    for client in [lab.client(gateway) for _ in range(5)]:
        assert is_open(client)
    gateway.stop()
    lab.bench.programs.remove(gateway)
    again = lab.bench.gateway(api=NOBODY, name="restart", port=gateway.port)
    assert is_open(lab.client(again))


@rule("C-47", "idle time-out, 0 is off",
      "an idle connection is closed at the limit, within 1 s; a busy one never; with 0 none",
      slow="idle_timeout = 2")
def idle_timeout(lab, gateway):
    idle, busy, never = lab.client(gateway), lab.client(gateway), lab.client(lab.never_idle)
    assert is_open(never)
    assert is_open(idle)
    since = time.monotonic()
    idle.socket.settimeout(0.1)
    while True:
        assert is_open(busy), "the busy one was closed"
        try:
            equal(idle.socket.recv(1), b"", "bytes to the idle one")
            break
        except TimeoutError:
            assert time.monotonic() < since + 10, "the idle one stays"
    took = time.monotonic() - since
    assert 1.9 < took < 3, f"closed after {took:.2f} s"
    assert is_open(never)
    return f"closed after {took:.2f} s"


@rule("C-48", "a client that comes back gets in although its old connections are half open",
      "an address with all its places silent: after 10 s the newcomer replaces its oldest",
      slow="")
def comes_back(lab, gateway):
    silent_ones = [lab.client(gateway, "127.0.4.4") for _ in range(8)]
    assert all(is_open(c) for c in silent_ones)
    assert not is_open(lab.client(gateway, "127.0.4.4")), "at once"
    until(lambda: is_open(lab.client(gateway, "127.0.4.4")), "gets in again", 30, 0.25)


@rule("C-49", "a connection may be kept, or opened for each request",
      "10,000 times connect, read, close: no leak; the quickest tenth below 1 ms")
def open_and_close(lab):
    count = 10000
    watcher = lab.client()
    before, open_before = process_facts(lab.gateway), watcher.u32(7404)
    times = []
    for i in range(count):
        started = time.perf_counter()
        with contextlib.closing(harness.Modbus(lab.gateway.port, source="127.0.5.5")) as client:
            equal(client.reply(READ), MAGIC, "answer")
        times.append(1000 * (time.perf_counter() - started))
        if i % 500 == 0:
            assert is_open(watcher)
    quick = harness.quantile(times, 0.1)  # what the gateway needs, without what the machine adds
    until(lambda: watcher.u32(7404) == open_before, "connections are gone")
    after = process_facts(lab.gateway)
    if not harness.SANITIZED:
        assert quick < 1, f"{quick:.2f} ms"
        assert after[0] - before[0] < 256, f"memory grew by {after[0] - before[0]} KiB"
    return f"a tenth within {quick:.2f} ms, memory +{after[0] - before[0]} KiB"


@rule("C-50", "one answer per request, none unasked",
      "a connection that asks nothing gets nothing for as long as the suite runs",
      slow="idle_timeout = 0")
def nothing_unasked(lab, gateway):
    client = lab.client(gateway)
    started = time.monotonic()
    lab.others_done.wait(120)
    silent(client)
    assert is_open(client)
    silent(client)
    return f"silent for {time.monotonic() - started:.0f} s"


def test_conformance(bench):
    sim = bench.sim()
    lab = Lab(bench, bench.gateway(sim, listener=""), sim)
    lab.never_idle = bench.gateway(api=NOBODY, name="never-idle")
    lab.others_done = threading.Event()

    def run(row, *args):
        with lab.open_connections():
            row.run(lab, *args)

    # Rows that mostly wait do so beside the others, each at a gateway with options of its own.
    slow = {row: threading.Thread(target=run, args=(row, bench.gateway(
                api=NOBODY, name=row.number, listener=row.options["slow"])))
            for row in RULES.rows if "slow" in row.options}
    for thread in slow.values():
        thread.start()
    for row in RULES.rows:
        if row not in slow:
            run(row)
    for row, thread in slow.items():
        if row.number == "C-50":
            lab.others_done.set()  # it is the last one
        thread.join()
    RULES.verdict(RULES.rows)


if __name__ == "__main__":
    RULES.main(test_conformance, globals())
