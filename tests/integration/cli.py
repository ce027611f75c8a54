# SPDX-License-Identifier: MIT
"""Runs the command line tool and looks at what it says."""
import json
import os
import subprocess

import harness
from harness import BUILD, equal

OK, FAILED, USAGE, CONFIG, CLOUD, THROTTLED, NOT_FOUND, REFUSED, GATEWAY = range(9)


class Said:
    """What evecc said: its status, standard output and standard error."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __str__(self):
        return f"status {self.status}\n{self.out}\n{self.err}"

    def json(self):
        return json.loads(self.out)


def evecc(*args, status=OK, env=None, text=None, limit_s=60, **kwargs):
    """Runs it with ARGS; another exit status than STATUS is a failure."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("EVECC_PASS")}
    done = subprocess.run([os.path.join(BUILD, "evecc"), *map(str, args)], text=True,
                          input=text or "", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=limit_s, check=False, env={**clean, **(env or {})}, **kwargs)
    said = Said(done.returncode, done.stdout, done.stderr)
    assert done.returncode == status, f"evecc {args}: not status {status} but {said}"
    if status != OK:
        explained(said)
    return said


def explained(said):
    """A failure names its cause on one line and says what to do on the next."""
    lines = said.err.splitlines()
    cause = next((i for i, line in enumerate(lines) if line.startswith("evecc: ")), None)
    assert cause is not None, f"no cause: {said}"


def says(said, *words):
    both = said.out + said.err
    for word in words:
        assert word in both, f"no '{word}' in: {said}"


__all__ = ["evecc", "says", "equal", "harness", "OK", "FAILED", "USAGE", "CONFIG", "CLOUD",
           "THROTTLED", "NOT_FOUND", "REFUSED", "GATEWAY"]
