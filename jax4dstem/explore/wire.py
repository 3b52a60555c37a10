"""How an answer travels: a line of JSON, then its array as little-endian float32."""

import json
from base64 import b64decode
from typing import Any, NamedTuple

import numpy as np

from jax4dstem.errors import InputError


class Answer(NamedTuple):
    """What a host answers.

    Attributes:
        about: Numbers and texts, as JSON has them.
        array: An array, where there is one.
    """

    about: dict[str, Any]
    array: np.ndarray | None = None

    @property
    def head(self) -> dict[str, Any]:
        """``about``, and the array's shape."""
        return self.about if self.array is None else self.about | {"shape": self.array.shape}

    @property
    def body(self) -> bytes:
        """The array's numbers."""
        return b"" if self.array is None else self.array.astype("<f4").tobytes()

    def packed(self) -> bytes:
        """Both, one after the other."""
        return json.dumps(self.head, allow_nan=False).encode() + b"\n" + self.body


def unpacked(args: Any) -> dict[str, Any]:
    """Arguments of a question, masks (``{"shape", "dtype", "base64"}``) as arrays.

    Raises:
        InputError: They cannot be read.
    """
    if not isinstance(args, dict):
        raise InputError("arguments must have names")
    return {name: _mask(item) if isinstance(item, dict) else item for name, item in args.items()}


def _mask(item: dict[str, Any]) -> np.ndarray:
    kind = {"uint8": np.uint8, "float32": np.dtype("<f4")}.get(str(item.get("dtype")))
    try:
        return np.frombuffer(b64decode(item["base64"]), kind).reshape(item["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a mask cannot be read: {error}") from error
