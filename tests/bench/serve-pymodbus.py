#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""serve-pymodbus.py PORT - a server with Debian's pymodbus, as its documentation has it."""
import sys

from pymodbus.datastore import (ModbusSequentialDataBlock, ModbusServerContext,
                                ModbusSlaveContext)
from pymodbus.server import StartTcpServer

registers = ModbusSequentialDataBlock(7000, [0] * 500)
StartTcpServer(context=ModbusServerContext(ModbusSlaveContext(hr=registers, zero_mode=True)),
               address=("127.0.0.1", int(sys.argv[1])))
