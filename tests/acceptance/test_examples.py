"""The examples do what they say, as processes that are killed."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.bench import Bench
from support.daemon import Daemon
from support.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVICE = EXAMPLES / "service" / "src"
ENTRY = ["orders=shop_service.workflow:orders"]


def environment(bench: Bench, **settings: str) -> dict[str, str]:
    kept = bench.environment(ENTRY, **settings)
    path = os.pathsep.join([str(SERVICE), kept["PYTHONPATH"]])
    return {**kept, "PYTHONPATH": path, "DATABASE_URL": bench.dsn}


def daemon(bench: Bench, **settings: str) -> Daemon:
    return bench.daemon(ENTRY, **environment(bench, RESUMED_MIN_AGE="10m", **settings)).until_ready()


def script(bench: Bench, *command: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, *command], env=environment(bench), cwd=bench.folder, stdout=subprocess.PIPE, text=True
    )
    bench.processes.append(process)
    return process


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def service(bench: Bench, address: str, **settings: str) -> "subprocess.Popen[Any]":
    command = [sys.executable, "-m", "uvicorn", "shop_service.main:app", "--port", address.split(":")[1]]
    process = subprocess.Popen(command, env=environment(bench, **settings), cwd=bench.folder)
    bench.processes.append(process)
    eventually(lambda: answers(address))
    return process


def answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/orders/0").status_code == 404
    except httpx.TransportError:
        return False


def test_the_orders_of_a_killed_service_are_finished_by_its_sidecar(bench: Bench, address: str) -> None:
    sidecar = daemon(bench)
    running = service(bench, address, SHIPPING_SECONDS="60")
    orders = f"http://{address}/orders"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{orders}/7", timeout=2)
    assert httpx.get(f"{orders}/7").json()["complete"] is False
    running.kill()
    running.wait()
    again = service(bench, address)
    eventually(lambda: httpx.get(f"{orders}/7").json() == {"verdict": "finished", "complete": True})
    assert httpx.post(f"{orders}/8").json() == {"number": 8, "paid": "receipt for orders_8:pay", "shipped": True}
    for _ in range(2):
        assert httpx.post(f"{orders}/9/later").json() == {"thread_id": "orders_9"}
    eventually(lambda: httpx.get(f"{orders}/9").json().get("complete"))
    assert bench.one("select count(*) from checkpoints where metadata->>'source' = 'input'") == 3
    again.terminate()
    again.wait(30)
    assert sidecar.terminate() == 0


@pytest.mark.thorough
def test_an_order_that_is_being_run_is_refused(bench: Bench, address: str) -> None:
    service(bench, address, SHIPPING_SECONDS="30")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"http://{address}/orders/7", timeout=2)
    assert httpx.post(f"http://{address}/orders/7").status_code == 409


def test_the_script_goes_on_where_it_was_killed(bench: Bench) -> None:
    first = script(bench, str(EXAMPLES / "script" / "plain.py"), bench.dsn)
    assert first.stdout is not None
    assert [first.stdout.readline() for _ in range(2)] == ["collect …\n", "compute …\n"]
    first.kill()
    first.communicate()
    second = script(bench, str(EXAMPLES / "script" / "plain.py"), bench.dsn)
    said, _ = second.communicate(timeout=60)
    assert said.splitlines() == ["compute …", "write …", "['collect', 'compute', 'write']"]


@pytest.mark.thorough
def test_the_batch_is_run_once_however_often_it_is_given(bench: Bench) -> None:
    file = bench.folder / "numbers"
    file.write_text("1\n2\n3\n")
    for _ in range(2):
        said, _ = script(bench, str(EXAMPLES / "batch" / "batch.py"), bench.dsn, str(file)).communicate(timeout=60)
        assert said == "3 orders are on record\n"
    daemon(bench)
    eventually(lambda: bench.one("select count(*) from resumed.runs where state = 'finished'") == 3)
    assert bench.one("select count(*) from resumed.runs") == 3
