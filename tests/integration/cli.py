# SPDX-License-Identifier: MIT
"""Runs the command line tool and looks at what it says."""
import contextlib
import json
import os
import pty
import select
import shutil
import subprocess

from harness import BUILD, PASSWORD, USER, die_with_parent, until

# A circuit of the simulated account, on the command line.
HOME = ("--site-key", "ABCD-1234", "--circuit-panel-id", 1)

OK, FAILED, USAGE, CONFIG, CLOUD, THROTTLED, NOT_FOUND, REFUSED, GATEWAY = range(9)


class Said:
    """What evecc said: its status, standard output and standard error."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __str__(self):
        return f"status {self.status}\n{self.out}\n{self.err}"

    def json(self):
        return json.loads(self.out)


def evecc(*args, status=OK, env=None, text=None, limit_s=60, quiet=False, **kwargs):
    """Runs it with ARGS; another exit status than STATUS (None: any) is a failure, and so is a
    command that fails without an explanation, but for one that is QUIET on standard error."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("EVECC_PASS")}
    done = subprocess.run([os.path.join(BUILD, "evecc"), *map(str, args)], text=True,
                          input=text or "", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=limit_s, check=False, env={**clean, **(env or {})}, **kwargs)
    said = Said(done.returncode, done.stdout, done.stderr)
    assert status in (None, done.returncode), f"evecc {args}: not status {status} but {said}"
    if said.status != OK and not quiet:
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


class Owner:
    """Somebody with an account, a laptop and nothing else: no configuration, a state and a
    runtime directory of his own."""

    def __init__(self, bench, url, password=PASSWORD):
        self.bench = bench
        self.env = {}
        for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            self.env[name] = os.path.join(bench.folder, name)
            os.makedirs(self.env[name], mode=0o700, exist_ok=True)
        self.account = ["--username", USER, "--api-url", url, "--password-file",
                        bench.write("laptop-password", password + "\n")]

    def evecc(self, *args, status=OK, env=None, **kwargs):
        return evecc(args[0], *self.account, *args[1:], status=status, env={**self.env, **(env or {})},
                         **kwargs)

    def forget_token(self):
        os.unlink(os.path.join(self.env["XDG_RUNTIME_DIR"], "evecc-token"))

    def forget_logins(self):
        """As after a while: it may log in at once."""
        shutil.rmtree(os.path.join(self.env["XDG_STATE_HOME"], "evecc"))


def typed(owner, question, answer, *args):
    """Runs evecc in a terminal and types ANSWER at its QUESTION: (status, what it showed)."""
    master, slave = pty.openpty()
    process = subprocess.Popen([os.path.join(BUILD, "evecc"), *map(str, args), *owner.account],
                               stdin=slave, stdout=slave, stderr=slave,
                               env={**os.environ, **owner.env, "TERM": "dumb"},
                               preexec_fn=die_with_parent)
    shown = b""

    def read():
        nonlocal shown
        while select.select([master], [], [], 0)[0]:
            shown += os.read(master, 65536)
        return shown.decode()

    with contextlib.ExitStack() as stack:
        stack.callback(os.close, master)
        stack.callback(os.close, slave)
        stack.callback(process.kill)
        until(lambda: question in read(), lambda: f"the question, not {shown}")
        os.write(master, answer.encode() + b"\n")
        status = process.wait(60)
        return status, read()
