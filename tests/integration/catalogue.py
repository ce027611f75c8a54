#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Suites whose tests stand for numbered entries of a catalogue, and the page that shows them.

A suite is a test file with rows:

    suite = catalogue.Suite("faults")

    @suite.row("F-02", "SIGTERM", "ends with status 0 within three seconds")
    def test_f02_sigterm(bench): ...

    suite.left_out("F-50", "30 days", "a simulated month stands in: tests/unit/test_month.c")

    ./catalogue.py faults >faults.md   runs every row of the suites of that name and writes the page:
                                       entry, what is done, what is expected, result
    ./catalogue.py faults --check FILE is FILE complete, and of these rows?  Runs nothing.

What a test notes is shown with its result.  The exit status is 1 when a row failed.
"""
import concurrent.futures
import dataclasses
import glob
import importlib.util
import os
import re
import subprocess
import sys

import harness

# name: title, what it is about, numbers that have to be there
PAGES = {
    "faults": ("Faults",
               "The fault catalogue with the real gateway against the simulated cloud. What a fault "
               "must not do: lose what was answered, send what is old, exceed a limit, call the cloud "
               "in a loop, or let a Modbus client wait.",
               [f"F-{n:02}" for n in range(1, 51)]),
}
AT_ONCE = 6
LIMIT_S = 400


@dataclasses.dataclass
class Row:
    entries: tuple
    what: str
    expected: str
    script: str = ""
    test: str = ""
    why: str = ""  # it was left out

    def cells(self):
        """What of it does not depend on a run."""
        return [", ".join(self.entries), self.what, self.why and f"left out: {self.why}"
                or self.expected]


class Suite:
    def __init__(self, page):
        self.page, self.rows = page, []

    def row(self, entries, what, expected):
        """The decorated test stands for ENTRIES, one number or several."""
        def take(function):
            self.rows.append(Row(tuple(entries.split()), what, expected, test=function.__name__))
            return function
        return take

    def left_out(self, entries, what, why):
        self.rows.append(Row(tuple(entries.split()), what, "", why=why))


def rows(page):
    """All rows of PAGE, in the order of their numbers."""
    here = os.path.dirname(os.path.abspath(__file__))
    found = []
    for script in sorted(glob.glob(os.path.join(here, "[0-9]*.py"))):
        with open(script) as f:
            if "catalogue.Suite(" not in f.read():
                continue
        spec = importlib.util.spec_from_file_location("suite", script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        suite = next(v for v in vars(module).values() if isinstance(v, Suite))
        if suite.page == page:
            found += [dataclasses.replace(r, script=script) for r in suite.rows]
    return sorted(found, key=lambda r: r.entries)


def run(row):
    """(result, remarks) of ROW."""
    if row.why:
        return "left out", []
    done = subprocess.run([row.script, row.test], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=LIMIT_S)
    remarks = [line[2:] for line in done.stdout.splitlines() if line.startswith("# ")]
    if done.returncode == harness.SKIPPED:
        return "skipped", [done.stdout.strip().splitlines()[-1].split("skipped: ")[-1]]
    if done.returncode:
        sys.stderr.write(done.stdout)
    return "failed" if done.returncode else "passed", remarks


def line(*cells):
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def document(page):
    """Runs all rows; (text, nothing failed)."""
    title, about, _ = PAGES[page]
    todo = rows(page)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(run, todo))
    counts = {r: sum(1 for result, _ in results if result == r)
              for r in ("passed", "failed", "skipped", "left out")}
    text = [f"# {title}", "", about, "",
            f"Made by `make docs-suites` from a run of `tests/integration`; "
            + ", ".join(f"{n} {r}" for r, n in counts.items() if n) + ".", "",
            line("entry", "what is done", "what is expected", "result"), "|---|---|---|---|"]
    for row, (result, remarks) in zip(todo, results):
        text.append(line(*row.cells(), "; ".join([result, *remarks]) if not row.why else ""))
    return "\n".join(text) + "\n", counts["failed"] == 0


def check(page, path):
    """Complaints about the page at PATH and the rows for it."""
    with open(path) as f:
        text = f.read()
    have = rows(page)
    shown = re.findall(r"^\| ([A-Z]-\d.*?) \| (.*) \| .* \|$", text, re.M)
    wanted = [tuple(line(*r.cells())[2:-2].split(" | ", 1)) for r in have]
    for number in PAGES[page][2]:
        if not any(number in r.entries for r in have):
            yield f"{number} has no row"
    if shown != wanted:
        yield f"{path} is stale: make docs-suites"
        for row in sorted(set(wanted) ^ set(shown)):
            yield f"    {row[0]}: {row[1]}"


def main():
    page = sys.argv[1]
    if sys.argv[2:3] == ["--check"]:
        complaints = list(check(page, sys.argv[3]))
        print("\n".join(complaints))
        sys.exit(bool(complaints))
    text, good = document(page)
    sys.stdout.write(text)
    sys.exit(not good)


if __name__ == "__main__":
    main()
