"""A container engine of a test's own: from Debian's packages, unpacked and not installed, in a
network namespace and a directory of its own, which are gone afterwards.

Where no image registry can be reached, a root made by debootstrap has the name of the base image.
It knows this machine's certificates, so that packages come from wherever they come from here.

What was downloaded is kept in `.venv/engine` and used again.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".venv" / "engine"
BASE_IMAGE = "debian:bookworm-slim"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
RELEASE, NEWER = "bookworm", "trixie"
PACKAGES = {
    RELEASE: (
        *("docker.io", "containerd", "runc", "debootstrap", "iptables", "libip4tc2", "libip6tc2"),
        *("libxtables12", "libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11"),
    ),
    NEWER: ("docker-compose", "docker-buildx", "docker-cli"),
}
"""By Debian release: compose is in the newer one alone."""
READY_S, STOP_S = 60.0, 30.0


@dataclass(frozen=True)
class Engine:
    """One that runs; `namespace` is its host's network."""

    directory: Path
    namespace: str
    variables: Mapping[str, str]

    def docker(
        self, *arguments: str | Path, timeout_s: float = 300, input: str | None = None
    ) -> str:
        return run("docker", *arguments, timeout_s=timeout_s, variables=self.variables, input=input)


def run(
    *command: str | Path,
    timeout_s: float = 120,
    variables: Mapping[str, str] | None = None,
    input: str | None = None,
    directory: Path = ROOT,
) -> str:
    """What the command printed; AssertionError, with what it said, if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **(variables or {})},
        input=input,
        cwd=directory,
        check=False,
    )
    if done.returncode:
        shown = f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        raise AssertionError(f"{command} ended with {done.returncode}:\n{shown}")
    return done.stdout


def unpacked() -> Path:
    """The engine's programs, downloaded if they are not there."""
    programs = KEPT / "root"
    if programs.exists():
        return programs
    draft = KEPT / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    for release, packages in PACKAGES.items():
        place = draft / release
        for part in ("lists/partial", "debs"):
            (place / part).mkdir(parents=True)
        key = "/usr/share/keyrings/debian-archive-keyring.gpg"
        sources = place / "sources.list"
        sources.write_text(f"deb [signed-by={key}] {_mirror()} {release} main\n")
        options = {
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": place / "lists",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
        }
        given = [f"-o{name}={value}" for name, value in options.items()]
        run("apt-get", *given, "-qq", "update")
        fetch = ("apt-get", *given, "-qq", "download", *packages)
        run(*fetch, timeout_s=300, directory=place / "debs")
        for package in (place / "debs").glob("*.deb"):
            run("dpkg", "-x", package, draft / "root")
    for name in ("iptables", "ip6tables"):
        (draft / "root/usr/sbin" / name).symlink_to("xtables-legacy-multi")
    (draft / "root").rename(programs)
    shutil.rmtree(draft)
    return programs


def base_root(programs: Path) -> Path:
    """The base image's root, as an archive."""
    archive = KEPT / "base.tar"
    if archive.exists():
        return archive
    root = KEPT / "base"
    shutil.rmtree(root, ignore_errors=True)
    scripts = programs / "usr/share/debootstrap"
    make = (programs / "usr/sbin/debootstrap", "--variant=minbase", "--include=ca-certificates")
    own = {"DEBOOTSTRAP_DIR": str(scripts)}
    run("sh", *make, RELEASE, root, _mirror(), timeout_s=600, variables=own)
    for litter in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / litter)
        (root / litter / "partial").mkdir(parents=True)
    shutil.copy(Path("/") / CERTIFICATES, root / CERTIFICATES)
    run("tar", "-C", root, "-cf", f"{archive}.draft", ".")
    shutil.rmtree(root)
    return Path(f"{archive}.draft").rename(archive)


def _mirror() -> str:
    """Where this machine has Debian's packages from."""
    found = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    return next(line for line in found.split() if line.rstrip("/").endswith("/debian"))


@contextlib.contextmanager
def engine(
    programs: Path, directory: Path, namespace: str, where: Sequence[str] = ()
) -> Iterator[Engine]:
    """An engine on `directory`, begun by `where` (a command's beginning), until the block ends."""
    libraries = programs / "usr/lib/x86_64-linux-gnu"
    configuration = directory / "client"
    plugins = configuration / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    for name in ("docker-compose", "docker-buildx"):
        with contextlib.suppress(FileExistsError):
            (plugins / name).symlink_to(programs / "usr/libexec/docker/cli-plugins" / name)
    path = f"{programs}/usr/sbin:{programs}/usr/bin:{os.environ['PATH']}"
    variables = {
        "PATH": path,
        "DOCKER_HOST": f"unix://{directory}/docker.sock",
        "DOCKER_CONFIG": str(configuration),
        "DOCKER_BUILDKIT": "0",
    }
    command = [
        *where,
        f"{programs}/usr/sbin/dockerd",
        f"--data-root={directory}/data",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/dockerd.pid",
        f"--host=unix://{directory}/docker.sock",
        f"--cgroup-parent=/{namespace}",
        "--storage-driver=overlay2",
        *(() if where else ("--bridge=none", "--iptables=false")),
    ]
    # Set for the engine alone: what else the run starts has its own libraries.
    own = {"LD_LIBRARY_PATH": str(libraries), "XTABLES_LIBDIR": str(libraries / "xtables")}
    with (directory / "dockerd.log").open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **variables, **own}, stdout=log, stderr=log, process_group=0
        )
    found = Engine(directory, namespace, variables)
    try:
        _await_ready(found, process)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await_ready(found: Engine, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_S
    while True:
        try:
            found.docker("version")
        except AssertionError:
            log = (found.directory / "dockerd.log").read_text()[-3000:]
            assert process.poll() is None, f"dockerd ended with {process.returncode}:\n{log}"
            assert time.monotonic() < until, f"dockerd was not ready in {READY_S:g} s:\n{log}"
            time.sleep(0.2)
        else:
            return


def clear(directory: Path, namespace: str) -> None:
    """Take away what an engine that ended left: mounts, control groups, its directory."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False)
    groups = [path for path in Path("/sys/fs/cgroup").glob(f"*/{namespace}") if path.is_dir()]
    for group in (*groups, Path("/sys/fs/cgroup") / namespace):
        for inner in sorted(group.rglob("*"), reverse=True):
            if inner.is_dir():
                with contextlib.suppress(OSError):
                    inner.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
    shutil.rmtree(directory)
