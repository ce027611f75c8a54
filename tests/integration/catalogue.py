#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The fault catalogue: its rows are tests of their own, in several files.

    from catalogue import FAULTS

    @FAULTS.test("F-02", "SIGTERM", "ends with status 0 within three seconds")
    def test_f02(bench): ...

    ./catalogue.py              runs every row and prints the table as a document
    ./catalogue.py --check      every fault has a row, and the document shows these rows
"""
import concurrent.futures
import glob
import importlib.util
import inspect
import os
import subprocess
import sys

import harness
from suite import Row, Table

HERE = os.path.dirname(os.path.abspath(__file__))
NUMBERS = [f"F-{n:02}" for n in range(1, 51)]
AT_ONCE = 6
LIMIT_S = 1200


class Catalogue(Table):
    """A table whose rows are tests."""

    def test(self, number, subject, expects):
        def add(function):
            self.elsewhere(number, subject, expects, inspect.stack()[1].filename, function.__name__)
            return function
        return add

    def elsewhere(self, number, subject, expects, script, test, **env):
        """TEST of SCRIPT stands for this row; ENV is for the document's run."""
        argv = [os.path.join(HERE, script), test]
        self.rows.append(Row(number, subject, expects, None, argv=argv, env=env))

    def left_out(self, number, subject, why):
        self.rows.append(Row(number, subject, f"left out: {why}", None))

    def load(self):
        """Takes the rows of all files, in the order of their numbers."""
        for script in sorted(glob.glob(os.path.join(HERE, "[0-9]*_faults_*.py"))):
            spec = importlib.util.spec_from_file_location("faults", script)
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        self.rows.sort(key=lambda r: r.number)

    def run(self):
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda r: r.run(r.options, run=run) if r.options else None, self.rows))
        for r in self.rows:
            if not r.options:
                r.result = ""


def run(options):
    """The remarks of a test."""
    done = subprocess.run(options["argv"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=LIMIT_S,
                          env={**os.environ, **options["env"]})
    if done.returncode == harness.SKIPPED:
        raise harness.Skip(done.stdout.strip().splitlines()[-1].split("skipped: ")[-1])
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise AssertionError(f"exit status {done.returncode}")
    return "; ".join(line[2:] for line in done.stdout.splitlines() if line.startswith("# "))


FAULTS = Catalogue("faults.md", "Faults", """
Every entry of the fault catalogue with the real gateway against the simulated cloud.  What a fault
must not do: lose what was answered, send what is old, exceed a limit, call the cloud in a loop, let
a Modbus client wait.
""")


def main():
    FAULTS.load()
    missing = [n for n in NUMBERS if not any(r.number == n for r in FAULTS.rows)]
    assert not missing, f"no row for {missing}"
    if "--check" in sys.argv:
        FAULTS.check_document()
        return
    FAULTS.run()
    print(FAULTS.markdown("Made by `make docs-suites` from a run of `tests/integration`."), end="")
    sys.exit(any(r.result == "FAILED" for r in FAULTS.rows))


if __name__ == "__main__":
    import catalogue  # the one that the files with the rows know

    catalogue.main()
