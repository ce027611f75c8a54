# SPDX-License-Identifier: MIT
"""Traffic nobody would send on purpose, made from traffic that is right; seeded."""
import random
import struct

PDUS = [
    struct.pack(">BHH", 3, 7100, 40), struct.pack(">BHH", 4, 7000, 60), struct.pack(">BHH", 3, 7300, 38),
    struct.pack(">BHH", 6, 7214, 1), struct.pack(">BHHBHH", 16, 7202, 2, 4, 0, 7400),
    struct.pack(">BHHBH", 16, 7214, 1, 2, 5), struct.pack(">BHHH", 22, 7214, 0xFFF0, 3),
    struct.pack(">BHHHHBH", 23, 7100, 2, 7214, 1, 2, 160), b"\x2b\x0e\x01\x00", b"\x2b\x0e\x04\x02",
    b"\x01\x00\x00\x00\x08", b"\x05\x1c\x21\xff\x00", b"\x0f\x1c\x21\x00\x09\x02\xff\x01",
    b"\x07", b"\x08\x00\x00\x12\x34", b"\x11", b"\x14\x07\x06\x00\x01\x00\x00\x00\x02",
]
EDGES = (0, 1, 2, 3, 6, 16, 22, 23, 43, 124, 125, 126, 127, 128, 0xFD, 0xFE, 0xFF)


class Mutator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def frame(self):
        r = self.random
        pdu = r.choice(PDUS)
        unit = r.choice((0, 1, 1, 1, 255, r.randrange(256)))
        return bytearray(struct.pack(">HHHB", r.randrange(65536), 0, len(pdu) + 1, unit) + pdu)

    def change(self, data):
        """One to three small changes, anywhere."""
        r = self.random
        for _ in range(r.randint(1, 3)):
            at = r.randrange(len(data)) if data else 0
            kind = r.randrange(6)
            if not data or kind == 0:
                data[at:at] = r.randbytes(r.randint(1, 9))
            elif kind == 1:
                data[at] ^= 1 << r.randrange(8)
            elif kind == 2:
                data[at] = r.choice(EDGES)
            elif kind == 3:
                del data[at:at + r.randint(1, 4)]
            elif kind == 4:
                data += data[at:]
            else:  # a length that is right for what is left, or one at an edge
                data[4:6] = struct.pack(">H", len(data) - 6 if len(data) > 6 and
                                        r.random() < 0.6 else r.choice(EDGES))
        return data

    def stream(self):
        """What one connection sends: some frames, right, changed or noise, in pieces."""
        r = self.random
        data = bytearray()
        for _ in range(r.choice((1, 1, 2, 3, 8, 20))):
            kind = r.random()
            frame = self.frame()
            data += frame if kind < 0.4 else self.change(frame) if kind < 0.95 else \
                r.randbytes(r.randint(1, 300))
        while data:
            n = r.choice((1, 2, 7, 12, 100, len(data)))
            yield bytes(data[:n])
            del data[:n]
