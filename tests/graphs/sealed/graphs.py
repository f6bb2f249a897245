"""One graph, and registrations that save it differently. SEALED_KEY is the key, SEALED_VERSION the code's version."""

import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.serde import _msgpack
from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph

from resumed import Workflow

MARK = "what nobody may read"


@dataclass
class Kept:
    """A class that the state's schema names."""

    value: str


@dataclass
class Smuggled:
    """A class that no schema names."""

    value: str


class State(TypedDict):
    kept: Kept
    any: Any


class Sealing(CipherProtocol):
    """Keep bytes from being read or changed without the key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        nonce = os.urandom(16)
        hidden = self._mixed(nonce, plaintext)
        return "sealed", nonce + self._mark(nonce + hidden) + hidden

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        nonce, mark, hidden = ciphertext[:16], ciphertext[16:48], ciphertext[48:]
        if ciphername != "sealed" or not hmac.compare_digest(mark, self._mark(nonce + hidden)):
            raise ValueError("the seal is broken")
        return self._mixed(nonce, hidden)

    def _mixed(self, nonce: bytes, data: bytes) -> bytes:
        stream = hashlib.shake_256(self._key + nonce).digest(len(data))
        return bytes(one ^ other for one, other in zip(data, stream, strict=True))

    def _mark(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")


def note(node: str, **more: Any) -> None:
    with Path(os.environ["ZOO_LOG"]).open("a") as log:
        log.write(json.dumps({"node": node, "edge": "start", **more}) + "\n")


def first(_: Any) -> dict[str, Any]:
    return {"kept": Kept(MARK), "any": [MARK]}


def smuggling(_: Any) -> dict[str, Any]:
    return {"kept": Kept(MARK), "any": Smuggled(MARK)}


def second(state: State) -> dict[str, Any]:
    note("second", kept=type(state["kept"]).__name__, any=type(state["any"]).__name__)
    if os.environ.get("SEALED_APPLICATION"):
        os.kill(os.getpid(), 9)
    return {"kept": Kept(state["kept"].value + ", twice")}


def third(state: State) -> dict[str, Any]:
    return {"any": [state["kept"].value]}


def graph(start: Any = first) -> StateGraph[Any, Any, Any, Any]:
    built = StateGraph(State)
    built.add_node("first", start)
    built.add_node("second", second)
    built.add_node("third", third)
    built.add_edge(START, "first")
    built.add_edge("first", "second")
    built.add_edge("second", "third")
    built.add_edge("third", END)
    return built


def workflow(start: Any = first, serde: Any = None) -> Workflow:
    return Workflow(graph=graph(start), serde=serde, version=os.environ.get("SEALED_VERSION", "1"), accepts=["1"])


def sealing() -> EncryptedSerializer:
    return EncryptedSerializer(Sealing(os.environ["SEALED_KEY"]))


def listing(*names: str) -> JsonPlusSerializer:
    return JsonPlusSerializer(allowed_msgpack_modules=[(__name__, name) for name in names])


plain = workflow()
smuggler = workflow(smuggling)
sealed = workflow(serde=sealing())
listed = workflow(smuggling, listing("Kept", "Smuggled"))
unlisted = workflow(smuggling, listing("Kept"))
ALL = {"plain": plain, "smuggler": smuggler, "sealed": sealed, "listed": listed, "unlisted": unlisted}
REGISTERED = [f"{name}=sealed.graphs:{name}" for name in ALL]

at_exec = b"LANGGRAPH_STRICT_MSGPACK=true" in Path("/proc/self/environ").read_bytes().split(b"\0")
note("imported", at_exec=at_exec, strict=_msgpack.STRICT_MSGPACK_ENABLED)
