#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The files for other people's tools, in doc/integrations: each address and type is compared with
the register map, and what a file reads and writes is read from and written to a gateway."""
import csv
import json
import os
import re

import harness
from harness import TOP, Skip, equal, until

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(TOP, "doc/integrations")
BITS = {"u16": 16, "i16": 16, "u32": 32, "u64": 64}


def path(name):
    return os.path.join(FOLDER, name)


def register_map():
    """Rows of registers.csv by address."""
    with open(os.path.join(TOP, "doc/registers.csv"), newline="") as f:
        return {int(row["address"]): row for row in csv.DictReader(f)}


def load_yaml(name):
    try:
        import yaml
    except ImportError as why:
        raise Skip(f"python3-yaml: {why}") from why
    with open(path(name)) as f:
        return yaml.safe_load(f)


def words_of(row):
    return int(row["words"])


def is_writable(row):
    return row["access"].startswith("write")


def value_of(row, words):
    """The registers of a row as a number; None: not available."""
    number = 0
    for word in words:
        number = number << 16 | word
    bits = BITS[row["type"]]
    if number == (0x8000 if row["type"] == "i16" else (1 << bits) - 1):
        return None
    return number - 0x10000 if row["type"] == "i16" and number & 0x8000 else number


def fits(row, scale, unit=None):
    """SCALE turns the register into its unit, or into a thousand times that."""
    factor = float(row["factor"])
    kilo = {"mA": "A", "Wh": "kWh"}.get(row["unit"])
    if abs(scale - factor) < 1e-9:
        return unit in (None, row["unit"])
    return kilo is not None and abs(scale - factor / 1000) < 1e-9 and unit in (None, kilo)


def start(bench):
    sim = bench.sim()
    gateway = bench.gateway(sim)
    client = gateway.client()
    until(lambda: client.u16(7130) in (2, 3), "connected to the cloud")
    return sim, gateway, client


def reaches(sim, amps):
    until(lambda: sim.currents() == amps, lambda: f"{amps} at the charger: {sim.circuit()}")


def dictionaries(tree):
    if isinstance(tree, dict):
        yield tree
    for branch in (tree.values() if isinstance(tree, dict) else
                   tree if isinstance(tree, list) else []):
        yield from dictionaries(branch)


def test_evcc(bench):
    rows = register_map()
    charger = load_yaml("evcc.yaml")["chargers"][0]
    sources = [d for d in dictionaries(charger) if d.get("source") == "modbus"]
    assert len(sources) > 10, sources
    for source in sources:
        register, scale = source["register"], source.get("scale", 1)
        row = rows[register["address"]]
        equal(re.sub("nan$", "", register["encoding"]), row["type"].replace("u", "uint"), register)
        equal(source["uri"].split(":")[1], "502", "port")
        if register["type"] == "writesingle":
            assert is_writable(row) and words_of(row) == 1, register
            equal(scale * float(row["factor"]), 1, register)
        else:
            equal(register["type"], "holding", register)
            assert fits(row, scale), register

    # The way evcc uses it: status, current, enable, phases.
    sim, _, client = start(bench)

    def read(source):
        row = rows[source["register"]["address"]]
        return value_of(row, client.read(int(row["address"]), words_of(row)))

    def write(source, value):
        source = source.get("set", source)
        client.write_one(source["register"]["address"], value * source.get("scale", 1))

    until(lambda: chr(read(charger["status"]) or 0) in "ABCDEF", "a state")
    write(charger["maxcurrent"], 13)
    reaches(sim, [13, 13, 13])
    equal(read(charger["enabled"]), 1, "enabled")
    write(charger["phases1p3p"], 1)
    reaches(sim, [13, 0, 0])
    write(charger["enable"], 0)
    reaches(sim, [0, 0, 0])
    equal(read(charger["enabled"]), 0, "enabled")
    for source in [charger["power"], charger["energy"], *charger["currents"],
                   *charger["voltages"]]:
        read(source)


def test_home_assistant(bench):
    rows = register_map()
    package = load_yaml("home-assistant.yaml")
    hub = package["modbus"][0]
    sim, gateway, _ = start(bench)
    client = harness.pymodbus(bench, gateway)

    def read(entity):
        row = rows[entity["address"]]
        answer = client.read_holding_registers(entity["address"], words_of(row),
                                               slave=entity["slave"])
        assert not answer.isError(), answer
        return value_of(row, answer.registers)

    for sensor in hub["sensors"]:
        row = rows[sensor["address"]]
        equal(sensor["input_type"], "holding", sensor)
        equal(sensor["data_type"], row["type"].replace("u", "uint"), sensor)
        assert fits(row, sensor.get("scale", 1), sensor.get("unit_of_measurement")) or \
            not row["unit"] or row["unit"] in ("bits", "ASCII"), sensor
        equal(sensor.get("nan_value", (1 << BITS[row["type"]]) - 1), (1 << BITS[row["type"]]) - 1,
              sensor)
        read(sensor)
    equal(len({s["unique_id"] for s in hub["sensors"]}), len(hub["sensors"]), "unique ids")

    written = {}
    for action in [a for rule in package["automation"] for a in rule["action"]]:
        data = action["data"]
        assert data["hub"] == hub["name"] and is_writable(rows[data["address"]]), action
        equal(words_of(rows[data["address"]]), 1, "one value: function 6")
        written[data["address"]] = data
    limit = package["input_number"]["ev_power_limit"]
    assert limit["max"] < 65535, limit
    equal(set(written), {7217, 7214}, "what the automations write")
    assert not client.write_register(7214, 17, slave=1).isError()
    assert not client.write_register(7217, 7400, slave=1).isError()
    reaches(sim, [10, 10, 10])

    for switch in hub["switches"]:
        assert is_writable(rows[switch["address"]]), switch
        for command, state in (("command_off", "state_off"), ("command_on", "state_on")):
            assert not client.write_register(switch["address"], switch[command], slave=1).isError()
            equal(read({**switch["verify"], "slave": 1}), switch["verify"][state], switch)


SHOW = "node.log(JSON.stringify(msg.payload));"
NODE_RED = """\
module.exports = {{ flowFile: "flows.json", uiHost: "127.0.0.1", uiPort: {port}, credentialSecret: false,
    httpAdminRoot: false, httpNodeRoot: false, logging: {{ console: {{ level: "info" }} }} }};
"""


def test_node_red(bench):
    """The flow as Node-RED itself runs it: its buttons pressed, what it debugs in the log."""
    node = harness.node_with("node-red-contrib-modbus", "node-red")
    rows = register_map()
    names = {row["name"]: row for row in rows.values()}
    with open(path("node-red.json")) as f:
        flow = json.load(f)
    ids = {n["id"] for n in flow}
    for n in flow:
        assert all(to in ids for port in n.get("wires", []) for to in port), n
        if n["type"] == "modbus-write":
            row = rows[int(n["adr"])]
            assert is_writable(row), n
            equal(int(n["quantity"]), words_of(row), n["id"])

    sim, gateway, client = start(bench)
    for n in flow:
        if n["type"] == "modbus-client":
            n.update(tcpHost="127.0.0.1", tcpPort=str(gateway.port))
        if n["type"] == "inject":  # pressed again and again: it connects when it likes
            n.update(once=True, repeat="1")
        if n["type"] == "debug":
            n.update(type="function", func=SHOW, outputs=0)
    bench.write("flows.json", json.dumps(flow))
    bench.write("settings.js", NODE_RED.format(port=harness.free_port()))
    program = bench.start(harness.Program(
        [node, f"{HERE}/node-red/node_modules/node-red/red.js", "-u", bench.folder],
        os.path.join(bench.folder, "node-red.log")))

    def shown(name):
        """What it showed last."""
        found = re.findall(r"\[function:" + name + r"\] (.*)", program.log())
        return json.loads(found[-1]) if found else {}

    until(lambda: client.u32(7202) == 7400, program.log, 60)
    reaches(sim, [10, 10, 10])
    beat = client.u16(7214)
    until(lambda: client.u16(7214) != beat, "another heartbeat")
    until(lambda: shown("acknowledgement").get("confirmed_l1") == 100, program.log)
    assert set(shown("status")) - {"state"} <= set(names), shown("status")
    assert set(shown("acknowledgement")) <= set(names), shown("acknowledgement")
    assert shown("status")["state"] in "ABCDEF", shown("status")
    for name in ("faults", "connection"):
        row = names[name]
        equal(shown("status")[name],
              value_of(row, client.read(int(row["address"]), words_of(row))), name)


def iobroker_rows():
    with open(path("iobroker.csv"), newline="") as f:
        return list(csv.DictReader(f, delimiter=";"))


def test_iobroker_file(_):
    """Every register with its type."""
    rows = register_map()
    types = {"u16": "uint16be", "i16": "int16be", "u32": "uint32be", "u64": "uint64be",
             "text": "string"}
    imported = iobroker_rows()
    equal([int(i["_address"]) for i in imported], list(rows), "addresses")
    for i in imported:
        row = rows[int(i["_address"])]
        equal((i["name"], i["type"], i["len"], float(i["factor"]), i["unit"]),
              (row["name"], types[row["type"]], row["words"], float(row["factor"]), row["unit"]),
              i)
        equal(i["role"], "level" if is_writable(row) else "value", i)
        assert None not in i and None not in i.values(), i


def shown_by_iobroker(imported, client):
    """What its states have to be, by id: of registers that are constant or a wish."""
    shown = {}
    for i in imported:
        address, count = int(i["_address"]), int(i["len"])
        if i["poll"] != "true" or not 7200 <= address < 7320:
            continue
        words = client.read(address, count)
        number = sum(word << 16 * n for n, word in enumerate(reversed(words)))
        shown[f"holdingRegisters.{address}_{i['name']}"] = round(number * float(i["factor"]), 2)
    return shown


def test_iobroker(bench):
    """The adapter's own code, with the file as its settings page imports it: every register that
    is polled becomes a state, the values are right, and states that are written arrive."""
    node = harness.node_with("@iobroker/modbus")
    sim, gateway, client = harness.settled(bench)
    imported = iobroker_rows()
    marks = {"true": True, "false": False}
    registers = bench.write("iobroker.json", json.dumps(
        [{name: marks.get(value, value) for name, value in i.items()} for i in imported]))
    adapter = harness.Program([node, os.path.join(HERE, "iobroker.js"), str(gateway.port),
                               registers, "holdingRegisters.7202_power_limit=7400",
                               "holdingRegisters.7204_current_limit=8"],
                              os.path.join(bench.folder, "iobroker.log"))
    bench.stack.callback(adapter.process.wait)
    bench.stack.callback(adapter.process.kill)

    def states():
        assert adapter.alive(), adapter.log()
        lines = [json.loads(line) for line in adapter.log().splitlines(True) if line[-1] == "\n"]
        equal([line for line in lines if "id" not in line], [], "what it complains of")
        return {line["id"]: line["value"] for line in lines}

    until(lambda: sim.currents() == [8] * 3, lambda: f"8 A: {client.setpoint()}, {adapter.log()}")
    until(lambda: client.u16(7301) >= harness.STAGE_CONFIRMED, "confirmed")
    equal(client.u32(7202), 7400, "power limit")
    until(lambda: shown_by_iobroker(imported, client).items() <= states().items(),
          lambda: f"{set(shown_by_iobroker(imported, client).items()) - set(states().items())}")
    polled = {f"holdingRegisters.{i['_address']}_{i['name']}" for i in imported
              if i["poll"] == "true"}
    equal(polled - states().keys(), set(), "registers without a state")
    harness.note(f"ioBroker: {len(polled)} registers")


# What the conversions and operators of structured text mean for Python.
ST = {"SHL": lambda value, bits: value << bits, "SHR": lambda value, bits: value >> bits,
      "WORD_TO_INT": lambda v: v - 0x10000 if v & 0x8000 else v, "BOOL_TO_WORD": int,
      "__builtins__": {}}
ST.update({name: (lambda v: v) for name in (
    "WORD_TO_UINT", "WORD_TO_DWORD", "WORD_TO_LWORD", "DWORD_TO_UDINT", "LWORD_TO_ULINT",
    "UINT_TO_WORD", "UDINT_TO_DWORD")})
ST["DWORD_TO_WORD"] = lambda v: v & 0xFFFF


def st_block(text, name):
    """(header comment, statements) of a function block."""
    block = re.search(r"\(\* ([^*]*) \*\)\nFUNCTION_BLOCK " + name +
                      r"\n(.*?)END_FUNCTION_BLOCK", text, re.DOTALL)
    statements = re.findall(r"(?m)^(\w+(?:\[\d+\])?) := (.*);$", block[2])
    return block[1], block[2], statements


def st_value(expression, variables):
    expression = re.sub(r"16#([0-9A-F]+)", r"0x\1", expression)
    expression = expression.replace(" OR ", " | ").replace(" AND ", " & ")
    return eval(expression, dict(ST), variables)  # our own file


def test_structured_text(bench):
    """CODESYS and TwinCAT: what the function blocks compute, on registers of a gateway."""
    with open(path("evecc.st")) as f:
        text = f.read()
    rows = register_map()
    for name, address in re.findall(r"EVECC_(\w+) : UINT := (\d+);", text):
        equal(rows[int(address)]["name"], name.lower(), address)
    sim, _, client = start(bench)

    where, _, statements = st_block(text, "EveccSetpoint")
    first, count = (int(n) for n in re.findall(r"(\d+)", where)[1:3])
    inputs = {"sequence": 77, "enable": True, "power_limit": 70000, "current_limit": 130,
              "phase_mode": 3}
    words = [st_value(expression, inputs) for _, expression in statements]
    equal([target for target, _ in statements], [f"words[{i}]" for i in range(count)], "words")
    client.write(first, *words)
    equal(client.u32(7202), 70000, "7202")
    reaches(sim, [13, 13, 13])
    until(lambda: client.u16(7301) in (4, 5) and client.u16(7302) == 77, "confirmed")

    checked = 0
    for name in ("Identity", "Status", "Acknowledgement", "Diagnostics"):
        where, body, statements = st_block(text, "Evecc" + name)
        first, count = (int(n) for n in re.findall(r"(\d+)", where)[1:3])
        assert f"ARRAY[0..{count - 1}]" in body, where
        words = client.read(first, count)
        for target, expression in statements:
            row = next(r for r in rows.values() if r["name"] == target)
            raw = words[int(row["address"]) - first:][:words_of(row)]
            got, expected = st_value(expression, {"words": words}), value_of(row, raw)
            assert got == expected or expected is None, (target, got, expected)
            checked += 1
    equal(checked, sum(r["type"] != "text" and not 7200 <= int(r["address"]) < 7300
                       for r in rows.values()), "registers checked")


if __name__ == "__main__":
    harness.main(globals())
