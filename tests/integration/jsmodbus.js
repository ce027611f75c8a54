// SPDX-License-Identifier: MIT
// Reads, writes, identifies and is refused, with npm's jsmodbus.
//   node jsmodbus.js PORT
"use strict";
const assert = require("assert");
const net = require("net");
const Modbus = require("jsmodbus");

const body = (result) => result.response.body;

async function main(port) {
    const socket = new net.Socket();
    const client = new Modbus.client.TCP(socket, 1, 5000);
    await new Promise((resolve, reject) => {
        socket.once("error", reject);
        socket.connect({ host: "127.0.0.1", port }, resolve);
    });

    assert.deepStrictEqual(body(await client.readHoldingRegisters(7000, 2)).valuesAsArray,
        [0x4556, 0x4757]);
    assert.strictEqual(body(await client.writeMultipleRegisters(7202, [0, 7400])).quantity, 2);
    assert.deepStrictEqual(body(await client.readInputRegisters(7202, 2)).valuesAsArray, [0, 7400]);
    assert.strictEqual(body(await client.writeSingleRegister(7214, 12)).value, 12);

    // Several at once: jsmodbus keeps them in order.
    const many = await Promise.all([...Array(20).keys()].map((i) =>
        client.readHoldingRegisters(7000, i + 1)));
    many.forEach((result, i) => assert.strictEqual(body(result).valuesAsArray.length, i + 1));

    const refused = await client.readHoldingRegisters(6999, 1).then(() => null, (why) => why);
    assert.strictEqual(refused.response.body.code, 2);
    assert.deepStrictEqual(body(await client.readHoldingRegisters(7202, 2)).valuesAsArray, [0, 7400]);

    socket.end(() => console.log("jsmodbus: 26 requests, one of them refused"));
}

main(Number(process.argv[2])).catch((why) => {
    console.error(why);
    process.exit(1);
});
