#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The Debian package in a clean Debian: installed, used, upgraded, removed, purged."""
import os
import re
import subprocess

import cleanroot
import harness
from harness import TOP, Skip, equal, note, until

CONFIG = """\
[easee]
username = owner@example.org
password_file = /etc/evecc/password
api_url = http://127.0.0.1:8787
stream_url = http://127.0.0.1:8787/hubs/chargers

[listener native]
port = 502

[circuit garage]
unit = 1
site = ABCD-1234
circuit = 1
max_current = 32
"""
PASSWORD = "correct horse;#battery\n"
MBPOLL = ["mbpoll", "-m", "tcp", "-a", "1", "-0", "-q"]
EXPOSURE_MAX = 1.4

# doc/commissioning.md, by somebody who types: without a service manager, with a simulated cloud.
TEN_MINUTES = """\
set -eu
cd /root
ip link set lo up
easeesim --quiet --port 8787 --port-file /tmp/port &
until [ -s /tmp/port ]; do sleep 0.1; done

sed -i -e 's|https://[a-z]*.easee.com|http://127.0.0.1:8787|' /etc/evecc/evecc.conf
evecc discover --write circuits.conf
sed -i -e '/^\\[circuit garage\\]/,$d' /etc/evecc/evecc.conf
awk '/^\\[circuit/ { n++ } n < 2' circuits.conf >>/etc/evecc/evecc.conf # the first of three
eveccd -t
evecc doctor

eveccd 2>/tmp/eveccd.log &
gateway=$!
until evecc read magic >/dev/null 2>&1; do
    [ -d /proc/$gateway ] || { cat /tmp/eveccd.log; exit 1; }
    sleep 0.1
done
mbpoll -m tcp -a 1 -0 -q -r 7202 -t 4:int -B 127.0.0.1 7400
tries=0
until evecc read stage | grep -qE 'confirmed|effective'; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { evecc status; exit 1; }
    sleep 0.2
done
mbpoll -m tcp -a 1 -0 -q -r 7317 -c 3 -t 4 -1 127.0.0.1
evecc status
kill $gateway
wait $gateway
"""


def configure(root):
    root.write("/etc/evecc/evecc.conf", CONFIG)
    root.write("/etc/evecc/password", PASSWORD, 0o600)


def newer(bench, deb):
    """The same package with a higher version and another default configuration."""
    folder = os.path.join(bench.folder, "newer")
    bench.run("dpkg-deb", "--raw-extract", deb, folder)
    control = os.path.join(folder, "DEBIAN/control")
    with open(control) as f:
        text = f.read()
    with open(control, "w") as f:
        f.write(re.sub(r"(?m)^Version: .*$", r"\g<0>+newer", text))
    with open(os.path.join(folder, "etc/evecc/evecc.conf"), "a") as f:
        f.write("# another default\n")
    bench.run("dpkg-deb", "--root-owner-group", "--build", folder, folder + ".deb")
    return folder + ".deb"


def test_make_install(bench):
    """Everything in its place, twice the same; uninstalled again, but for what is the owner's."""
    with open(os.path.join(harness.BUILD, "version")) as f:
        version = f.read().strip()  # a commit since then is no reason to compile

    def make(target):
        bench.run("make", "-C", TOP, "--no-print-directory", target, "PREFIX=/opt/evecc",
                  f"DESTDIR={bench.folder}/root", f"VERSION={version}", limit_s=300)

    def files():
        return set(bench.run("find", f"{bench.folder}/root", "!", "-type", "d", "-printf",
                             "/%P\\n").split())

    make("install")
    prefix = "/opt/evecc"
    wanted = {f"{prefix}/{name}" for name in (
        "sbin/eveccd", "bin/evecc", "bin/easeesim", "lib/systemd/system/eveccd.service",
        "lib/systemd/system/eveccd.socket", "share/man/man8/eveccd.8", "share/man/man1/evecc.1",
        "share/man/man1/easeesim.1", "share/man/man5/evecc.conf.5", "share/doc/evecc/README.md",
        "share/bash-completion/completions/evecc", "share/zsh/site-functions/_evecc")}
    first = files()
    equal(wanted - first, set(), "what is missing")
    equal({f for f in first if not f.startswith(prefix)}, {"/etc/evecc/evecc.conf"}, "elsewhere")
    with open(f"{bench.folder}/root{prefix}/lib/systemd/system/eveccd.service") as f:
        assert f"ExecStart={prefix}/sbin/eveccd " in f.read()
    for document in (f for f in first if f.endswith(".md")):
        folder = os.path.dirname(f"{bench.folder}/root{document}")
        with open(f"{bench.folder}/root{document}") as f:
            for link in re.findall(r"\]\(([^):#]+)[#)]", f.read()):
                assert os.path.exists(os.path.join(folder, link)), f"{document}: {link}"
    bench.write("root/etc/evecc/evecc.conf", "mine\n")
    make("install")
    equal(files(), first, "the second time")
    make("uninstall")
    equal(files(), {"/etc/evecc/evecc.conf"}, "what is left")
    with open(f"{bench.folder}/root/etc/evecc/evecc.conf") as f:
        equal(f.read(), "mine\n", "the configuration")


def test_lintian(bench):
    cleanroot.needs("lintian")
    bench.run("lintian", "--fail-on", "error,warning", "--allow-root", cleanroot.package())


def test_exposure(bench):
    """What the installed unit leaves open, by systemd's own measure."""
    cleanroot.needs("systemd-analyze")
    bench.run("dpkg-deb", "--extract", cleanroot.package(), bench.folder)
    for unit in ("eveccd.service", "eveccd.socket"):
        path = os.path.join(bench.folder, "lib/systemd/system", unit)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", path],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        wrong = [line for line in done.stdout.splitlines()
                 if "eveccd" in line and "is not executable" not in line]
        equal(wrong, [], unit)
    shown = bench.run("systemd-analyze", "security", "--no-pager", "--offline=true",
                      os.path.join(bench.folder, "lib/systemd/system/eveccd.service"))
    exposure = float(re.search(r"exposure level for eveccd\.service: ([0-9.]+)", shown)[1])
    note(f"exposure {exposure} of 10")
    assert exposure <= EXPOSURE_MAX, shown


def test_same_bits(bench):
    """The same commit gives the same package, wherever it is checked out."""
    cleanroot.needs("dpkg-buildpackage")
    first = cleanroot.package()
    version = os.path.basename(first).split("_")[1]
    if version.endswith("+dirty"):
        raise Skip("the package in build/ holds changes that are not committed")
    commit = re.search(r"\+g([0-9a-f]+)$", version)
    clone = os.path.join(bench.folder, "clone")
    bench.run("git", "clone", "--quiet", "--shared", TOP, clone)
    bench.run("git", "-C", clone, "checkout", "--quiet", commit[1] if commit else "v" + version)
    bench.run(os.path.join(clone, "tools/debian/build"), limit_s=300)
    bench.run("cmp", first, os.path.join(clone, "build", os.path.basename(first)))


def test_by_hand(bench):
    """Package to confirmed setpoint, then away again, where there is no service manager."""
    cleanroot.needs("mmdebstrap", "unshare", "chroot")
    root = cleanroot.Root(bench)
    before = root.traces()
    root.install(cleanroot.package())
    equal(root.run("stat", "-c", "%a", "/etc/evecc", "/etc/evecc/evecc.conf").split(),
          ["755", "644"], "modes")
    root.write("/etc/evecc/password", PASSWORD, 0o600)
    shown = root.run("sh", "-c", TEN_MINUTES)
    print(shown)
    equal(re.findall(r"\[73..\]:\s+(\d+)", shown), ["100", "100", "100"], "confirmed, 0.1 A")
    assert re.search(r"confirmed", shown.split("[7319]")[1]), shown

    root.run("dpkg", "--remove", "evecc")
    assert root.exists("/etc/evecc/evecc.conf") and root.exists("/etc/evecc/password")
    root.run("dpkg", "--purge", "evecc")
    equal(root.traces(), before, "what a purge leaves behind")


def test_service(bench):
    """The same as a service, with its sandbox, through restart, upgrade and removal."""
    cleanroot.needs("mmdebstrap", "systemd-nspawn", "nsenter")
    root = cleanroot.Booted(bench)
    before = root.traces()
    deb = cleanroot.package()

    def state(unit):
        return root.property(unit, "ActiveState")

    def confirmed():
        shown = root.run(*MBPOLL, "-r", "7301", "-c", "20", "-t", "4", "-1", "127.0.0.1")
        values = dict(re.findall(r"\[(\d+)\]:\s+(\d+)", shown))
        return values["7301"] in "45" and [values[a] for a in ("7317", "7318", "7319")]

    def controls():
        """A setpoint goes all the way, and the cloud's stream is there."""
        root.run(*MBPOLL, "-r", "7202", "-t", "4:int", "-B", "127.0.0.1", "7400")
        until(lambda: confirmed() == ["100", "100", "100"], lambda: root.run(
            "journalctl", "--no-pager", "-u", "eveccd"), 60, 0.2)
        shown = root.run(*MBPOLL, "-r", "7130", "-t", "4", "-1", "127.0.0.1")
        assert re.search(r"\[7130\]:\s+3$", shown, re.MULTILINE), shown

    # Installed: nothing runs, nothing is called.
    root.install(deb)
    for unit in ("eveccd.service", "eveccd.socket"):
        equal((root.property(unit, "UnitFileState"), state(unit)), ("disabled", "inactive"), unit)

    # Started without a password: it says what is missing.
    root.write("/etc/evecc/evecc.conf", CONFIG)
    root.run("systemctl", "start", "eveccd", status=1)
    log = root.run("journalctl", "--no-pager", "-u", "eveccd")
    assert "/etc/evecc/password: No such file" in log, log
    root.run("systemctl", "stop", "eveccd.service", "eveccd.socket")

    # Configured.
    root.write("/etc/systemd/system/cloud.service",
               "[Service]\nExecStart=/usr/bin/easeesim --port 8787\n")
    root.run("systemctl", "daemon-reload")
    root.run("systemctl", "start", "cloud")
    configure(root)
    root.run("eveccd", "-t")
    root.run("systemctl", "enable", "--now", "eveccd")
    equal((state("eveccd.service"), state("eveccd.socket")), ("active", "active"), "states")
    equal(root.property("eveccd.socket", "UnitFileState"), "enabled", "eveccd.socket")
    pid = root.property("eveccd", "MainPID")
    status = root.run("cat", f"/proc/{pid}/status")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1",
                 "Seccomp:\t2"):
        assert line in status, status
    assert not re.search(r"(?m)^Uid:\s+0\b", status), status
    equal(root.run("stat", "-Lc", "%a", "/var/lib/evecc").strip(), "700", "mode of the state")

    controls()
    said = root.run("evecc", "doctor")
    for words in ("in use by the gateway", "by the token of the gateway", "answers on", "0 errors"):
        assert words in said, said

    # A reload keeps the process; after a crash another one serves those who wait.
    root.run("systemctl", "reload", "eveccd")
    equal(root.property("eveccd", "MainPID"), pid, "MainPID after a reload")
    root.run("systemctl", "kill", "--signal", "KILL", "eveccd")
    root.run(*MBPOLL, "-r", "7000", "-o", "10", "-1", "127.0.0.1")
    assert root.property("eveccd", "MainPID") not in ("0", pid)
    controls()

    # Upgraded: runs again, with the owner's configuration.
    pid = root.property("eveccd", "MainPID")
    root.install(newer(bench, deb), "--force-confdef", "--force-confold")
    equal(root.read("/etc/evecc/evecc.conf"), CONFIG, "configuration after an upgrade")
    equal(state("eveccd.service"), "active", "after an upgrade")
    assert root.property("eveccd", "MainPID") != pid
    controls()

    # Removed: what the owner made stays.  Purged: nothing does.
    root.run("dpkg", "--remove", "evecc")
    root.run(*MBPOLL, "-r", "7000", "-1", "127.0.0.1", status=1)
    equal(root.read("/etc/evecc/evecc.conf"), CONFIG, "configuration after removal")
    assert root.exists("/etc/evecc/password") and root.exists("/var/lib/private/evecc")
    root.run("dpkg", "--purge", "evecc")
    root.run("systemctl", "stop", "cloud")
    left = [f for f in root.traces() if f not in before]
    equal([f for f in left if not f.startswith(("/run/", "/sys/"))], [], "what a purge leaves")


if __name__ == "__main__":
    harness.main(globals())
