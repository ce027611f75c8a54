// SPDX-License-Identifier: MIT
// ioBroker's Modbus adapter, its own code, with the REGISTERS of a JSON file: polls them, and writes
// the VALUEs when all of them were read.  Each state it sets becomes a line of JSON.
//   node iobroker.js PORT REGISTERS ID=VALUE...
"use strict";
const { EventEmitter } = require("events");
const fs = require("fs");
const Module = require("module");

const [port, registers, ...writes] = process.argv.slice(2);

// What of ioBroker the adapter needs: objects and states in memory, nobody else.
class Adapter extends EventEmitter {
    constructor(options) {
        super();
        this.namespace = "modbus.0";
        this.objects_ = {};
        this.states = {};
        this.common = { loglevel: "info" };
        this.log = {};
        for (const level of ["silly", "debug", "info"])
            this.log[level] = () => {};
        for (const level of ["warn", "error"])
            this.log[level] = (text) => console.log(JSON.stringify({ [level]: String(text) }));
        this.config = {
            params: { host: "127.0.0.1", port, deviceId: 1, poll: 200, showAliases: false },
            holdingRegs: JSON.parse(fs.readFileSync(registers)),
        };
        this.setTimeout = setTimeout;
        this.clearTimeout = clearTimeout;
        this.setInterval = setInterval;
        this.clearInterval = clearInterval;
        this.options_ = options;
        setImmediate(options.ready);
    }

    setState(name, state, ack, done) {
        this.states[name] = { val: state, ack };
        console.log(JSON.stringify({ id: name, value: state }));
        (typeof ack === "function" ? ack : done)?.(null);
        if (this.config.holdingRegs.every((r) => !r.poll || this.states[r.id]))
            for (const [id, value] of writes.splice(0).map((write) => write.split("=")))
                this.options_.stateChange(`${this.namespace}.${id}`,
                    { val: Number(value), ack: false });
        return Promise.resolve();
    }
    setStateAsync(name, state, ack) { return this.setState(name, state, ack); }
    async getStateAsync(name) { return this.states[name]; }
    async getStatesAsync() { return {}; }
    async getForeignStatesAsync() { return {}; }
    async getForeignObjects() { return {}; }
    async getForeignObjectAsync() { return null; }
    async setForeignObjectAsync() {}
    async getObjectAsync(name) { return this.objects_[name]; }
    async setObjectAsync(name, object) { this.objects_[name] = object; }
    async setObjectNotExistsAsync(name, object) { this.objects_[name] ??= object; }
    async extendObjectAsync(name, object) { Object.assign(this.objects_[name] ??= {}, object); }
    async delObjectAsync(name) { delete this.objects_[name]; }
    async delForeignObjectAsync() {}
    async getEnumAsync() { return { result: {} }; }
    subscribeStates() {}
    sendTo() {}
    terminate(why) { console.log(JSON.stringify({ error: `terminated: ${why}` })); process.exit(1); }
}

const load = Module._load;
Module._load = (name, ...rest) =>
    name === "@iobroker/adapter-core" ? { Adapter } : load(name, ...rest);
const { default: ModbusAdapter } = require("@iobroker/modbus");
new ModbusAdapter("modbus");
