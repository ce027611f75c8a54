// SPDX-License-Identifier: MIT
// Runs a Node-RED flow of Modbus nodes with npm's modbus-serial: every modbus-read once, every
// inject once, function nodes with their own code.  Prints what reaches each debug node.
//   node node-red.js FLOW.json PORT
"use strict";
const fs = require("fs");
const ModbusRTU = require("modbus-serial");

async function main(path, port) {
    const flow = JSON.parse(fs.readFileSync(path, "utf8"));
    const node = Object.fromEntries(flow.map((n) => [n.id, n]));
    const shown = {};
    const client = new ModbusRTU();
    await client.connectTCP("127.0.0.1", { port });
    client.setTimeout(5000);

    async function pass(from, msg) {
        for (const id of from.wires[0]) await receive(node[id], { ...msg });
    }

    async function receive(n, msg) {
        if (n.type.startsWith("modbus") && node[n.server].type !== "modbus-client")
            throw new Error(`${n.id}: no client`);
        switch (n.type) {
        case "function":
            await pass(n, new Function("msg", "node", n.func)(msg, n));
            break;
        case "modbus-write":
            client.setID(Number(n.unitid));
            if (n.dataType === "MHoldingRegisters") {
                if (msg.payload.length !== Number(n.quantity)) throw new Error(`${n.id}: quantity`);
                await client.writeRegisters(Number(n.adr), msg.payload);
            } else if (n.dataType === "HoldingRegister") {
                await client.writeRegister(Number(n.adr), msg.payload);
            } else {
                throw new Error(`${n.id}: ${n.dataType}`);
            }
            break;
        case "debug":
            shown[n.name] = msg.payload;
            break;
        default:
            throw new Error(`${n.id}: unknown type ${n.type}`);
        }
    }

    for (const n of flow)
        if (n.type === "inject") await pass(n, { payload: n.payload });
    for (const n of flow)
        if (n.type === "modbus-read") {
            client.setID(Number(n.unitid));
            const read = await client.readHoldingRegisters(Number(n.adr), Number(n.quantity));
            await pass(n, { payload: read.data });
        }
    console.log(JSON.stringify(shown));
    client.close(() => {});
}

main(process.argv[2], Number(process.argv[3])).catch((why) => {
    console.error(why);
    process.exit(1);
});
