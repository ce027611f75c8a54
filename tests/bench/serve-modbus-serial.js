// SPDX-License-Identifier: MIT
// serve-modbus-serial.js PORT - a server with npm's modbus-serial, as its documentation has it.
"use strict";
const { ServerTCP } = require("../integration/node_modules/modbus-serial");

const registers = new Uint16Array(65536);

new ServerTCP({
    getMultipleHoldingRegisters: (addr, length) => Array.from(registers.subarray(addr, addr + length)),
    setRegister: (addr, value) => { registers[addr] = value; },
}, { host: "127.0.0.1", port: Number(process.argv[2]), unitID: 1, maxConnections: 4096 });
