// SPDX-License-Identifier: MIT
// Three requests on one connection before the first answer, with npm's modbus-serial.
//   node modbus-serial.js PORT
"use strict";
const assert = require("assert");
const ModbusRTU = require("modbus-serial");

async function main(port) {
    const client = new ModbusRTU();
    await client.connectTCP("127.0.0.1", { port });
    client.setID(1);
    client.setTimeout(5000);

    const [magic, written, limit] = await Promise.all([
        client.readHoldingRegisters(7000, 2),
        client.writeRegisters(7202, [0, 7400]),
        client.readInputRegisters(7202, 2),
    ]);
    assert.deepStrictEqual(magic.data, [0x4556, 0x4757]);
    assert.deepStrictEqual(written, { address: 7202, length: 2 });
    assert.deepStrictEqual(limit.data, [0, 7400]);

    // An exception in the middle disturbs neither neighbour.
    const three = await Promise.allSettled([
        client.readHoldingRegisters(7000, 2),
        client.readHoldingRegisters(6999, 1),
        client.readHoldingRegisters(7202, 2),
    ]);
    assert.deepStrictEqual(three.map((r) => r.status), ["fulfilled", "rejected", "fulfilled"]);
    assert.strictEqual(three[1].reason.modbusCode, 2);
    assert.deepStrictEqual(three[2].value.data, [0, 7400]);

    client.close(() => console.log("modbus-serial: three requests pipelined, twice"));
}

main(Number(process.argv[2])).catch((why) => {
    console.error(why);
    process.exit(1);
});
