"""The library that everything here calls."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

ABI = 2
NAMES = ("libportabert.so", "libportabert.dylib")


_ADDRESS, _TEXT, _INT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_uint64
# By name, without "portabert_": what a function of cpp/portabert.h gives, then what it takes.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "instruction_sets": (_TEXT,),
    "error": (_TEXT,),
    "open": (_ADDRESS, _ADDRESS, _TEXT, _INT),
    "close": (None, _ADDRESS),
    "set": (ctypes.c_int, _ADDRESS, _TEXT, _ADDRESS, _SIZE),
    "ready": (ctypes.c_int, _ADDRESS),
    "instruction_set": (_TEXT, _ADDRESS),
    "run": (ctypes.c_int, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _INT, _INT, _ADDRESS, _SIZE),
    "wordpiece_open": (_ADDRESS, _ADDRESS, _TEXT, _SIZE, _ADDRESS, _INT),
    "wordpiece_close": (None, _ADDRESS),
    "wordpiece_learn": (ctypes.c_int, _ADDRESS, ctypes.c_uint32, _TEXT, _SIZE, _TEXT, _INT),
    "wordpiece_leave": (ctypes.c_int, _ADDRESS, _TEXT, _SIZE),
    "wordpiece_encode": (
        ctypes.c_int,
        *(_ADDRESS, _TEXT, _ADDRESS, _INT),
        *(_ADDRESS, _ADDRESS, _SIZE),
        _ADDRESS,
        _ADDRESS,
    ),
}


class NativeError(Exception):
    """The library refused something; the message says what."""


def check(status: int) -> None:
    """Raise what the library says, where a function of it failed."""
    if status:
        raise NativeError(last_error())


def last_error() -> str:
    """Say what went wrong last in this thread."""
    message: bytes = library().portabert_error()
    return message.decode()


@cache
def library() -> Any:
    """Load the library, once."""
    found = [file for name in NAMES if (file := Path(__file__).with_name(name)).is_file()]
    if not found:
        raise NativeError("the library is missing. Install portabert-native again.")
    loaded = ctypes.CDLL(str(found[0]))
    if loaded.portabert_abi() != ABI:
        raise NativeError(
            f"the library has interface {loaded.portabert_abi()}, and {ABI} is wanted. Install portabert-native again."
        )
    for name, (result, *arguments) in FUNCTIONS.items():
        function = getattr(loaded, f"portabert_{name}")
        function.restype, function.argtypes = result, arguments
    return loaded
