"""Values of the state whose classes are gone, or have changed, since the deploy."""

from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from broken.stage import DEPLOYED


@dataclass
class Kept:
    """A class that every version has."""

    number: int


if not DEPLOYED:

    @dataclass
    class Gone:
        number: int

    class GoneModel(BaseModel):
        number: int

    @dataclass
    class Refitted:
        number: int

    class Pickled:
        """Nothing but pickle can save it."""

        __slots__ = ("number",)

        def __init__(self, number: int) -> None:
            self.number = number

        def __getstate__(self) -> int:
            return self.number

        def __setstate__(self, number: int) -> None:
            self.number = number
else:

    @dataclass
    class Refitted:  # type: ignore[no-redef]
        amount: int


class Turned:
    """A cipher that only turns the bytes around."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "turned", plaintext[::-1]

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        assert ciphername == "turned"
        return ciphertext[::-1]


class Wrapped:
    """A serializer of the user's own around LangGraph's."""

    def __init__(self) -> None:
        self._inner = JsonPlusSerializer()

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        kind, data = self._inner.dumps_typed(obj)
        return f"wrapped {kind}", data[::-1]

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return self._inner.loads_typed((data[0].removeprefix("wrapped "), data[1][::-1]))


LISTED = JsonPlusSerializer(allowed_msgpack_modules=[("broken.values", "Gone"), ("broken.values", "Kept")])
UNLISTED = JsonPlusSerializer(allowed_msgpack_modules=[("broken.values", "Gone")])
ENCRYPTED = EncryptedSerializer(Turned())
PICKLING = JsonPlusSerializer(pickle_fallback=True)
