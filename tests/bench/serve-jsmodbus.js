// SPDX-License-Identifier: MIT
// serve-jsmodbus.js PORT - a server with npm's jsmodbus, as its documentation has it.
"use strict";
const net = require("net");
const { server } = require("../integration/node_modules/jsmodbus");

const socket = new net.Server();
new server.TCP(socket, { holding: Buffer.alloc(2 * 8000) });
socket.on("connection", (client) => client.on("error", () => {})); // else a reset ends it
socket.listen(Number(process.argv[2]), "127.0.0.1");
