"""The images, really built and really run, without a container engine: `make image-test`, docs/image-test.md.

`make test` does not collect it: it needs root, a network and Debian's mmdebstrap, buildah, podman and runc. The base
image is a Debian with Python under the official one's name, so it proves the steps and not the official image.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("mmdebstrap", "buildah", "podman", "runc")
BASE = "python:3.13-slim-trixie"
SUITE = "trixie"
PACKAGES = "python3,python3-venv,ca-certificates"
# The official image has its own Python and pip in /usr/local; Debian keeps pip away from its own.
LIKE_THE_OFFICIAL = 'chroot "$1" python3 -m venv /usr/local'
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
LIMITS = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--network", "host"]
# What deploy/kubernetes asks of the container too.
CONFINED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--log-driver", "k8s-file"]
DEADLINE = 120.0
THREADS = 16


@dataclass
class Engine:
    """Builds and runs images in a store of its own, which goes with the folder."""

    folder: Path
    started: list[str] = field(default_factory=list)

    def call(self, *command: str | Path, patience: float = 900.0) -> str:
        environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "STORAGE_DRIVER": "vfs",
            "BUILDAH_ISOLATION": "chroot",
        }
        done = subprocess.run(
            list(map(str, command)),
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def podman(self, *arguments: str | Path) -> str:
        return self.call("podman", "--cgroup-manager=cgroupfs", "--runtime", "runc", *arguments)

    def build(self, dockerfile: str, tag: str, **arguments: str) -> str:
        given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        trusted = ["--volume", f"{os.environ.get('SSL_CERT_FILE', AUTHORITIES)}:{AUTHORITIES}:ro"]
        fixed = ["--format", "docker", "--pull-never", "--network", "host"]
        self.call("buildah", "bud", *fixed, *trusted, *given, "-f", ROOT / dockerfile, "-t", tag, ROOT)
        return tag

    def run(self, image: str, *command: str, entrypoint: str | None = None, **settings: str) -> str:
        """Run a container to its end and give what it said."""
        chosen = ["--entrypoint", entrypoint] if entrypoint else []
        return self.podman("run", "--rm", *LIMITS, *CONFINED, *chosen, *_variables(settings), image, *command)

    def start(self, image: str, *command: str, entrypoint: str | None = None, **settings: str) -> str:
        """Start a container and give its name."""
        name = f"resumed-image-test-{os.getpid()}-{len(self.started)}"
        self.started.append(name)
        chosen = ["--entrypoint", entrypoint] if entrypoint else []
        options = ["--detach", "--name", name, *LIMITS, *CONFINED, *chosen, *_variables(settings)]
        self.podman("run", *options, image, *command)
        return name

    def ended(self, name: str) -> int:
        return int(self.podman("wait", name).strip())


def _variables(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A store that holds the base image and nothing else."""
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        pytest.fail(f"missing: apt-get install {' '.join(missing)}", pytrace=False)
    if os.geteuid() != 0:
        pytest.fail("only root can make the base image: run `make image-test` as root", pytrace=False)
    folder = tmp_path_factory.mktemp("images")
    folder.joinpath("storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    made = Engine(folder)
    root = folder / "root.tar"
    made.call(
        "mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook={LIKE_THE_OFFICIAL}", SUITE, root
    )
    made.podman("import", root, BASE)
    yield made
    for name in made.started:
        made.podman("rm", "--force", "--ignore", name)
    made.podman("rmi", "--all", "--force")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ours(engine: Engine) -> str:
    return engine.build("Dockerfile", "resumed:0.1.0")


@pytest.fixture(scope="module")
def example(engine: Engine) -> str:
    return engine.build("deploy/docker/Dockerfile.example", "resumed-example-orders:local")


def test_our_image_has_nothing_to_build_with_and_is_nobody(engine: Engine, ours: str) -> None:
    said = engine.run(ours, "-c", "id -u; ls /opt/resumed/bin; command -v gcc cc make || true", entrypoint="sh").split()
    assert said[0] == "65532"
    assert not {"pip", "pip3", "hatchling", "/usr/bin/gcc", "/usr/bin/cc", "/usr/bin/make"} & set(said)
    assert engine.run(ours, "--version").startswith("resumed ")


def test_our_image_migrates_becomes_ready_is_healthy_and_drains(
    engine: Engine, ours: str, langgraph_database: str
) -> None:
    settings = {"RESUMED_DATABASE_URL": langgraph_database, "RESUMED_HTTP_PORT": str(free_port())}
    assert "built" in engine.run(ours, "migrate", **settings)
    daemon = engine.start(ours, **settings)
    address = f"http://127.0.0.1:{settings['RESUMED_HTTP_PORT']}"
    eventually(lambda: answers(f"{address}/readyz"))
    assert "resumed_ready 1.0" in httpx.get(f"{address}/metrics").text
    engine.podman("healthcheck", "run", daemon)
    engine.podman("kill", "--signal", "TERM", daemon)
    assert engine.ended(daemon) == 0


def test_the_applications_own_image_is_the_sidecar_that_finishes_its_threads(
    engine: Engine, example: str, bare_database: str
) -> None:
    settings = {
        "RESUMED_DATABASE_URL": bare_database,
        "RESUMED_HTTP_PORT": str(free_port()),
        "RESUMED_MIN_AGE": "5s",
        "RESUMED_POLL_INTERVAL": "1s",
    }
    threads = ["--threads", str(THREADS)]
    engine.run(example, "resumed-example", "setup", "--dsn", bare_database)
    engine.run(example, "migrate", entrypoint="resumed", **settings)
    application = engine.start(example, "resumed-example", "run", "--dsn", bare_database, *threads)
    eventually(lambda: count(bare_database, "select count(*) from checkpoints") >= 2 * THREADS)
    engine.podman("kill", "--signal", "KILL", application)
    assert engine.ended(application) == 128 + signal.SIGKILL
    daemon = engine.start(example, "run", entrypoint="resumed", **settings)
    waiting = "select count(*) from resumed.cases where state = 'held' and verdict = 'waiting'"
    closed = "select count(*) from resumed.cases where state = 'closed'"
    eventually(lambda: count(bare_database, waiting) + count(bare_database, closed) == THREADS)
    engine.podman("kill", "--signal", "TERM", daemon)
    assert engine.ended(daemon) == 0
    told = engine.run(example, "resumed-example", "states", "--dsn", bare_database, *threads)
    expected = engine.run(example, "resumed-example", "undisturbed", *threads)
    assert without_heads(told) == without_heads(expected)


def test_resumed_goes_into_an_applications_image_that_has_never_heard_of_it(engine: Engine) -> None:
    image = engine.build("deploy/docker/Dockerfile.sidecar", "shop-resumed:1.0", APPLICATION=BASE)
    assert engine.run(image, "--version").startswith("resumed ")
    assert engine.run(image, "-u", entrypoint="id").strip() == "65532"
    assert "no workflows are registered" in engine.run(image, "workflows")


def eventually(question: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE
    while not question():
        assert time.monotonic() < end, f"not within {DEADLINE} s"
        time.sleep(0.2)


def without_heads(told: str) -> dict[str, Any]:
    """Where each thread stands; the ids of heads are made anew each time."""
    return {thread: {**place, "head": None} for thread, place in json.loads(told).items()}


def answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 200
    except httpx.TransportError:
        return False


def count(dsn: str, query: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
