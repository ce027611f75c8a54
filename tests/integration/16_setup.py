#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""tools/setup on a machine that lacks something, or cannot install it.  The machine is this one
with some of its programs hidden; apt-get and sudo are stand-ins that write down what they do."""
import os
import subprocess

import harness
from harness import TOP, Skip, equal

SYSTEM = "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"
HIDDEN = "apt-get", "sudo", "mbpoll", "pkg-config"

# No library but libmodbus is missing.
PKG_CONFIG = """\
#!/bin/sh
case "$*" in *libmodbus*) exit 1 ;; esac
"""
# Installs nothing, or mbpoll.
APT_GET = """\
#!/bin/sh
echo "apt-get $*" >>"$0.log"
case "$*" in *install*) {install} ;; esac
"""
SUDO = """\
#!/bin/sh
echo sudo >>"$0.log"
exec "$@"
"""
BOTH = ["libmodbus-dev", "mbpoll"]


class Machine:
    def __init__(self, bench):
        self.bench, self.bin = bench, os.path.join(bench.folder, "bin")
        os.mkdir(self.bin)
        for folder in SYSTEM:
            for name in os.listdir(folder) if os.path.isdir(folder) else []:
                if name not in HIDDEN and not os.path.lexists(os.path.join(self.bin, name)):
                    os.symlink(os.path.join(folder, name), os.path.join(self.bin, name))
        # Whoever runs this, it is an ordinary user.
        self.put("id", "#!/bin/sh\necho 1000\n")
        self.put("pkg-config", PKG_CONFIG)
        self.put("apt-get", APT_GET.format(install="true"))
        self.put("sudo", SUDO)

    def put(self, name, text="#!/bin/sh\n"):
        self.take(name)
        self.bench.write(os.path.join("bin", name), text, 0o755)

    def take(self, name):
        path = os.path.join(self.bin, name)
        if os.path.lexists(path):
            os.unlink(path)

    def setup(self, *args, status):
        """What tools/setup says, by line."""
        done = subprocess.run([os.path.join(TOP, "tools", "setup"), *args], text=True, cwd="/",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, check=False,
                              env={"PATH": self.bin, "HOME": self.bench.folder})
        equal(done.returncode, status, f"exit status of setup {args}, which said {done.stdout}")
        return done.stdout.splitlines()

    def did(self, name):
        path = os.path.join(self.bin, name + ".log")
        if not os.path.exists(path):
            return []
        with open(path) as f:
            return f.read().splitlines()


def machine(bench):
    """One that lacks BOTH; everything else of the set `run` is there, or nothing can be told."""
    lacks = Machine(bench)
    others = [p for p in named(lacks.setup("--check", "run", status=1)) if p not in BOTH]
    if others:
        raise Skip("this machine lacks " + " ".join(others))
    return lacks


def named(lines):
    """The packages in what it says."""
    return [line.split()[0] for line in lines if line.startswith("    ")]


def test_check(bench):
    """Everything that is missing is named at once, with what it is for, and nothing is done."""
    lacks = machine(bench)
    lines = lacks.setup("--check", "run", status=1)
    equal(named(lines), BOTH, "packages that are named")
    assert any("mbpoll" in line and "Modbus client to try it with" in line for line in lines), lines
    assert "make setup" in lines[-1], lines
    equal(named(lacks.setup("--check", "build", status=1)), BOTH[:1], "what building needs")
    equal(named(lacks.setup("--check", "build", "mbpoll", status=1)), BOTH, "and one more")
    equal(lacks.did("apt-get"), [], "calls of apt-get")
    lacks.setup("--check", "everything", status=2)


def test_nothing_is_missing(bench):
    """Then it says nothing and calls nobody."""
    lacks = machine(bench)
    lacks.put("mbpoll")
    lacks.put("pkg-config")
    equal(lacks.setup("--check", "run", status=0), [], "what --check says")
    equal(lacks.setup("run", status=0), [], "what it says")
    equal(lacks.did("apt-get") + lacks.did("sudo"), [], "calls")


def test_installs_what_it_named(bench):
    lacks = machine(bench)
    lacks.put("pkg-config")
    lacks.put("apt-get", APT_GET.format(install=f"ln -s true {lacks.bin}/mbpoll"))
    lines = lacks.setup("run", status=0)
    equal(named(lines), ["mbpoll"], "packages that are named")
    assert lines.index("setup: installing them with apt-get") > lines.index(
        "setup: these Debian packages are missing:"), lines
    equal(lacks.did("sudo"), ["sudo"], "calls of sudo")
    update, install = lacks.did("apt-get")
    assert update.endswith("update") and "install --no-install-recommends mbpoll" in install, install


def test_installation_fails(bench):
    """Each way it can fail has a sentence, and the status tells `make` to stop."""
    lacks = machine(bench)
    lines = lacks.setup("run", status=1)
    assert "setup: installed, and still not usable:" in lines, lines
    equal(lacks.did("apt-get")[1].split()[-2:], BOTH, "packages that are installed")

    lacks.put("apt-get", APT_GET.format(install="exit 100"))
    equal(lacks.setup("run", status=1)[-1], "setup: installation failed", "the last word")

    lacks.take("sudo")
    assert "neither root nor sudo" in "\n".join(lacks.setup("run", status=1)), "without sudo"
    lacks.take("apt-get")
    assert "no apt-get here" in "\n".join(lacks.setup("run", status=1)), "on another system"


if __name__ == "__main__":
    harness.main(globals())
