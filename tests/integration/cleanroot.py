# SPDX-License-Identifier: MIT
"""A clean Debian with the package in it: a folder to chroot into, or a booted one.

tools/debian/root makes the Debian once, as an archive in build/; each test unpacks its own.
"""
import contextlib
import glob
import os
import shutil
import subprocess

from harness import SANITIZED, TOP, Skip, until


def package():
    """The package in build/, made by `make deb`."""
    found = glob.glob(os.path.join(TOP, "build", "evecc_*.deb"))
    if not found:
        raise Skip("no package in build/: make deb")
    return found[0]


def needs(*programs):
    if SANITIZED:
        raise Skip("the package is the same for every build")
    if os.geteuid() != 0:
        raise Skip("needs root")
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


class Root:
    """A clean Debian in a folder of its own, removed at the end, without a network."""

    def __init__(self, bench):
        made = subprocess.run([os.path.join(TOP, "tools/debian/root"), package()],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=False)
        if made.returncode != 0:
            raise Skip("no clean root in build/, and mmdebstrap makes none: " +
                       (made.stderr.strip() or "?").splitlines()[-1])
        self.path = os.path.join(bench.folder, "root")
        os.mkdir(self.path)
        subprocess.run(["tar", "-xf", os.path.join(TOP, made.stdout.strip()), "-C", self.path],
                       check=True)
        self.prefix = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork",
                       "--kill-child", "--mount-proc=" + self.path + "/proc",
                       "chroot", self.path]
        self.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")

    def run(self, *argv, status=0, limit_s=120):
        """Output of a program in there."""
        try:
            done = subprocess.run(
                [*self.prefix, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=limit_s, text=True, check=False,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                     "DEBIAN_FRONTEND": "noninteractive"})
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{argv}: not within {limit_s} s\n" +
                                 (late.stdout or b"").decode(errors="replace")) from None
        assert done.returncode == status, \
            f"{argv}: status {done.returncode} instead of {status}\n{done.stdout}"
        return done.stdout

    def write(self, path, text, mode=0o644):
        path = self.path + path
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
            f.write(text)
        os.chmod(path, mode)

    def read(self, path):
        with open(self.path + path) as f:
            return f.read()

    def exists(self, path):
        return os.path.lexists(self.path + path)

    def install(self, deb, *options):
        shutil.copy(deb, self.path + "/root/evecc.deb")
        return self.run("dpkg", *options, "--install", "/root/evecc.deb")

    def traces(self):
        """Files that name us, besides those of dpkg's and the journal's own records."""
        return [line for line in self.run("find", "/", "-xdev", "-iname", "*evecc*").split()
                if not line.startswith(("/tmp/", "/root/", "/proc/"))]


class Booted(Root):
    """The same with its own service manager."""

    def __init__(self, bench):
        super().__init__(bench)
        name = f"evecc-test-{os.getpid()}"
        self.log = open(os.path.join(bench.folder, "nspawn.log"), "w+")
        # No registration: no machined is asked for.
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
             "--machine", name, "--console=pipe", "--boot", "--directory", self.path],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        bench.stack.callback(self.stop)
        until(self.is_running, "the system in there has booted", 60, 0.2)

    def is_running(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise Skip("no system can be booted here: " + self.log.read().strip()[-200:])
        # Its first child is not the one that stays.
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            pid = f.read().strip()
        self.prefix = ["nsenter", "--target", pid, "--all"]
        done = subprocess.run([*self.prefix, "systemctl", "is-system-running"], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return done.stdout.strip() in ("running", "degraded")

    def property(self, unit, name):
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def stop(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
            return
        self.process.kill()
        self.process.wait()
