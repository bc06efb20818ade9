"""Checks a built container image: check.py ROOT INSPECT_JSON, as root, in network, mount and process namespaces of its own.

ROOT is the image's root file system, INSPECT_JSON what `buildah inspect` says of it. First the image is looked at, then
it is run the way a container engine runs it: its own entrypoint found by its own PATH, as its own user, as process 1 of
a process namespace, on a read-only root, on its own port. The last line printed is `N passed, N failed`.
"""

import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from peers import LegacyClient, run_checks, upstream

ROOT = pathlib.Path(sys.argv[1])
CONFIG = json.loads(pathlib.Path(sys.argv[2]).read_text())["Docker"]["config"]
ROOTS = "etc/ssl/certs/ca-certificates.crt"
PORT = 8080
START_S = 10  # from exec to healthy
STOP_S = 20  # from SIGTERM to gone, with a stream open


# --- the image at rest ---


def user_is_not_root():
    """A number, because Kubernetes can tell only by the number that a user is not root."""
    uid, gid = CONFIG["User"].split(":")
    assert int(uid) > 0 and int(gid) > 0, CONFIG["User"]


def entrypoint_is_the_binary():
    """Exec form without a shell, so that signals reach the ferry and arguments are its own."""
    assert CONFIG["Entrypoint"] == ["mcp-ferry"], CONFIG["Entrypoint"]
    assert not CONFIG["Cmd"], CONFIG["Cmd"]


def stop_signal_and_port():
    assert CONFIG["StopSignal"] == "SIGTERM", CONFIG.get("StopSignal")
    assert list(CONFIG["ExposedPorts"]) == [f"{PORT}/tcp"], CONFIG["ExposedPorts"]
    assert f"MCP_FERRY_LISTEN=0.0.0.0:{PORT}" in CONFIG["Env"], CONFIG["Env"]


def health_check_needs_no_shell():
    test = CONFIG["Healthcheck"]["Test"]
    assert test == ["CMD", "mcp-ferry", "health"], test
    assert CONFIG["Healthcheck"]["Timeout"] > 0


def files():
    return [path for path in ROOT.rglob("*") if not path.is_dir() or path.is_symlink()]


def no_shell_and_no_other_program():
    programs = []
    for path in files():
        mode = path.lstat().st_mode
        is_library = re.search(r"\.so(\.\d+)*$", path.name)
        if stat.S_ISLNK(mode) or (mode & 0o111 and not is_library):
            programs.append("/" + str(path.relative_to(ROOT)))
    assert programs == ["/usr/local/bin/mcp-ferry"], programs


def nothing_for_the_user_to_write_or_become():
    for path in [ROOT, *ROOT.rglob("*")]:
        info = path.lstat()
        assert info.st_uid == 0 and info.st_gid == 0, path
        assert not info.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH), path


def ca_roots_are_there():
    count = (ROOT / ROOTS).read_text().count("BEGIN CERTIFICATE")
    assert count >= 50, f"{count} certificates"


def image_is_small():
    total = sum(path.lstat().st_size for path in files())
    binary = (ROOT / "usr/local/bin/mcp-ferry").stat().st_size
    print(f"      image {total / 1e6:.1f} MB in {len(files())} files, of it mcp-ferry {binary / 1e6:.1f} MB")
    assert total < 40e6, total


# --- the image running ---


def in_image(arguments, **env):
    """The command line and environment that run the image's entrypoint with these arguments."""
    command = [shutil.which("unshare"), "--pid", "--fork", "--kill-child"]
    command += [shutil.which("chroot"), f"--userspec={CONFIG['User']}", "--groups=" + CONFIG["User"].split(":")[1]]
    command += [str(ROOT), *CONFIG["Entrypoint"], *arguments]
    return {"args": command, "env": dict(entry.split("=", 1) for entry in CONFIG["Env"]) | env}


def once(arguments, **env):
    return subprocess.run(
        **in_image(arguments, **env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )


def health():
    """The image's own health check, to the letter."""
    return once(CONFIG["Healthcheck"]["Test"][2:]).returncode


class Ferry:
    """The image started as a container; `stop` sends the stop signal to its process 1."""

    def __init__(self, upstream_url):
        self.log = tempfile.TemporaryFile("w+")
        self.outer = subprocess.Popen(
            **in_image([], MCP_FERRY_UPSTREAM=upstream_url), stdout=self.log, stderr=self.log
        )

    def __enter__(self):
        try:
            deadline = time.monotonic() + START_S
            while health() != 0:
                assert self.outer.poll() is None, f"ended with {self.outer.returncode}: {self.output()}"
                assert time.monotonic() < deadline, f"not healthy after {START_S} s: {self.output()}"
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.outer.poll() is None:
            # Killing process 1 of the namespace ends everything in it; the outer process follows.
            os.kill(self.first(), signal.SIGKILL)
            self.outer.wait(timeout=10)

    def first(self):
        """Process 1 of the container, by its number out here."""
        children = pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text()
        return int(children.split()[0])

    def output(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        os.kill(self.first(), getattr(signal, CONFIG["StopSignal"]))
        return self.outer.wait(timeout=STOP_S)


def binary_runs_in_the_image():
    result = once(["--version"])
    assert result.returncode == 0 and result.stdout.startswith("mcp-ferry "), result


def wrong_settings_are_refused():
    result = once([])
    assert result.returncode == 2 and "upstream" in result.stdout, result


def demo_runs_in_the_image():
    result = once(["demo", "--once"])
    assert result.returncode == 0, result.stdout[-2000:]


def serves_and_stops():
    """Health before, during and after; a legacy client served; SIGTERM with its stream open ends process 1 with 0."""
    assert health() != 0, "healthy before it runs"
    with upstream() as url, Ferry(url) as ferry:
        client = LegacyClient(PORT)
        answer = client.initialize()
        assert answer["result"]["serverInfo"]["name"] == "smallest-upstream", answer
        begin = time.monotonic()
        status = ferry.stop()
        print(f"      stopped in {time.monotonic() - begin:.2f} s")
        assert status == 0, f"exit code {status}: {ferry.output()}"
        while client.stream.readline():  # to the orderly end; IncompleteRead is a failure
            pass
    assert health() != 0, "healthy after its end"


def certificate(directory):
    """A CA and a server certificate for 127.0.0.1."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=image check CA", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (directory / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san"]
    openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.pem")
    return directory / "server.pem", directory / "server.key"


def https_upstream_is_checked_against_the_roots():
    """Refused while our CA is not among the image's roots, served once it is."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        pair = certificate(directory)
        with upstream(pair) as url:
            with Ferry(url) as ferry:
                answer = LegacyClient(PORT).initialize()
                assert "error" in answer, f"an unknown certificate was accepted: {answer}"
                ferry.stop()
            bundle = directory / "roots.pem"
            bundle.write_text((ROOT / ROOTS).read_text() + (directory / "ca.pem").read_text())
            bundle.chmod(0o644)
            mount("--bind", bundle, ROOT / ROOTS)
            try:
                with Ferry(url) as ferry:
                    answer = LegacyClient(PORT).initialize()
                    assert "result" in answer, answer
                    ferry.stop()
            finally:
                subprocess.run(["umount", ROOT / ROOTS], check=True)


# --- running the checks ---


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def loopback_up():
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP


def main():
    loopback_up()
    mount("--bind", ROOT, ROOT)
    mount("-o", "remount,bind,ro", ROOT)
    checks = [
        user_is_not_root,
        entrypoint_is_the_binary,
        stop_signal_and_port,
        health_check_needs_no_shell,
        no_shell_and_no_other_program,
        nothing_for_the_user_to_write_or_become,
        ca_roots_are_there,
        image_is_small,
        binary_runs_in_the_image,
        wrong_settings_are_refused,
        serves_and_stops,
        https_upstream_is_checked_against_the_roots,
        demo_runs_in_the_image,
    ]
    return run_checks(checks)


if __name__ == "__main__":
    sys.exit(main())
