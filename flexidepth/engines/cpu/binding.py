"""step.cpp as a library in this process: compiled on first use, kept in a cache, its structures as Python sees them.

Knows compilers and pointers; knows no model and no tokens.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import shutil
import subprocess
import sys
from ctypes import POINTER, c_float, c_int32, c_int64, c_uint8, c_void_p
from pathlib import Path

from filelock import FileLock

from flexidepth.base_models import cache_directory
from flexidepth.errors import EngineError

SOURCES = (Path(__file__).with_name("step.cpp"), Path(__file__).with_name("kernels.inl"))
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-fvisibility=hidden", "-ffp-contract=off", "-Wno-psabi")
LEVELS = ("plain", "AVX2", "AVX-512")  # by the number that step.cpp knows them by

FLOATS, BYTES, INTS = POINTER(c_float), POINTER(c_uint8), POINTER(c_int32)


class Matrix(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("scale", c_void_p),
        ("bias", c_void_p),
        ("rows", c_int64),
        ("columns", c_int64),
        ("kind", c_int64),
    )


class Layer(ctypes.Structure):
    _fields_ = (
        ("input_norm", c_void_p),
        ("post_norm", c_void_p),
        *((name, Matrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
        ("place", c_int64),
        ("router_in", Matrix),
        ("router_norm", c_void_p),
        ("router_out", c_void_p),
        *((name, Matrix) for name in ("adapter_gate", "adapter_up", "adapter_down")),
    )


class Shape(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("layers", "routed", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")),
        *(
            (name, c_int64)
            for name in ("router_width", "adapter_width", "positions", "tanh_first", "scaled", "half_cache")
        ),
        ("eps", c_float),
        ("rope_scale", c_float),
    )


class Routes(ctypes.Structure):
    _fields_ = (("forced", BYTES), ("threshold", c_float), ("unscaled", c_int64), ("routers", c_int64))


def library(directory: Path | None = None, *, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The compiled library, from the cache where it is; compiling takes a few seconds. directory: of the cache, the
    user's own by default. flags: more of them, for sanitizers. Raises EngineError without a compiler, or on a system
    that is not POSIX.
    """
    if sys.platform == "win32":
        raise EngineError("the cpu engine needs Linux or macOS")
    directory = directory or cache_directory() / "engines"
    stamp = hashlib.sha256(repr((platform.machine(), sys.platform, FLAGS, flags)).encode())
    for source in SOURCES:
        stamp.update(source.read_bytes())
    path = directory / f"step-{stamp.hexdigest()[:16]}.so"
    if not path.exists():
        _compile(path, flags)
    try:
        return _typed(ctypes.CDLL(str(path)))
    except OSError as error:
        raise EngineError(f"{path} cannot be loaded ({error}): delete it, and it is compiled again") from None


def _compile(path: Path, flags: tuple[str, ...]) -> None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise EngineError("the cpu engine needs a C++ compiler: install g++ or clang++")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():  # by another process, while this one waited
                return
            fresh = path.with_suffix(".new")
            command = [compiler, *FLAGS, *flags, str(SOURCES[0]), "-o", str(fresh)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-200:])
                raise EngineError(f"{compiler} could not compile the cpu engine ({reason.strip()})")
            fresh.replace(path)
    except OSError as error:
        raise EngineError(f"the cpu engine cannot be kept in {path.parent} ({error.strerror})") from None


def _typed(loaded: ctypes.CDLL) -> ctypes.CDLL:
    signatures: dict[str, tuple[object, list[object]]] = {
        "fdx_best_level": (c_int64, []),
        "fdx_model_new": (
            c_void_p,
            [POINTER(Shape), POINTER(Layer), POINTER(Matrix), POINTER(Matrix), c_void_p, c_void_p, c_int64, c_int64],
        ),
        "fdx_model_free": (None, [c_void_p]),
        "fdx_sequence_new": (c_void_p, [c_void_p]),
        "fdx_sequence_free": (None, [c_void_p]),
        "fdx_feed": (
            c_int64,
            [c_void_p, c_void_p, c_void_p, c_int64, POINTER(Routes), c_void_p, c_int64, c_void_p, c_void_p],
        ),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded
