"""The bpf(2) system call, as far as a dataplane needs it (uapi/linux/bpf.h, union bpf_attr), and
membarrier(2).

Functions raise OSError as the kernel gives it; descriptors are plain ints with close-on-exec set.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

_NUMBER: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_MEMBARRIER: Final = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "s390x": 356, "ppc64le": 365}
_libc = ctypes.CDLL(None, use_errno=True)

# enum bpf_cmd
(
    _MAP_CREATE,
    _MAP_LOOKUP,
    _MAP_UPDATE,
    _MAP_DELETE,
    _MAP_GET_NEXT_KEY,
    _PROG_LOAD,
    _OBJ_PIN,
    _OBJ_GET,
) = range(8)
_PROG_TEST_RUN, _OBJ_GET_INFO = 10, 15
_MAP_LOOKUP_BATCH, _MAP_UPDATE_BATCH, _MAP_DELETE_BATCH = 24, 26, 27
_LINK_CREATE, _LINK_UPDATE = 28, 29
_MEMBARRIER_GLOBAL = 1
_EXIST = 2  # BPF_EXIST

_PROG_TYPE_SCHED_CLS = 3
TC_ACT_OK = 0
TCX_INGRESS, TCX_EGRESS = 46, 47
PSEUDO_MAP_FD: Final = 1
LOG_BYTES: Final = 1 << 20
ENOTSUPP: Final = 524
"""The kernel's own number for `not supported`; no errno of user space (include/linux/errno.h)."""
LD_IMM64: Final = 0x18
INSTRUCTION = struct.Struct("=BBhi")
"""Opcode, registers (destination in the low four bits, source in the high), offset, immediate."""


def _number(call: str, numbers: Mapping[str, int]) -> int:
    machine = platform.machine()
    if machine not in numbers:
        raise OSError(errno.ENOSYS, f"{call}(2)'s number on {machine} is not known")
    return numbers[machine]


def membarrier() -> None:
    """Wait for an RCU grace period (MEMBARRIER_CMD_GLOBAL, kernel/sched/membarrier.c).

    EINVAL if the kernel was booted with nohz_full.
    """
    if _libc.syscall(_number("membarrier", _MEMBARRIER), _MEMBARRIER_GLOBAL, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _bpf(command: int, attributes: bytearray) -> int:
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    number = _number("bpf", _NUMBER)
    while True:
        result = int(_libc.syscall(number, command, buffer, len(attributes)))
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def _buffer(content: bytes | int) -> ctypes.Array[ctypes.c_char]:
    """Memory that holds the bytes, or that many of them."""
    if isinstance(content, int):
        return ctypes.create_string_buffer(content)
    return ctypes.create_string_buffer(content, len(content))


@contextmanager
def closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


# ---- objects


def pin(descriptor: int, path: str) -> None:
    name = _buffer(path.encode() + b"\0")
    _bpf(_OBJ_PIN, bytearray(struct.pack("=QII", _address(name), descriptor, 0)))


def get(path: str) -> int:
    """A descriptor of the pinned object."""
    name = _buffer(path.encode() + b"\0")
    return _bpf(_OBJ_GET, bytearray(struct.pack("=QII", _address(name), 0, 0)))


def _info(descriptor: int, size: int) -> bytes:
    memory = _buffer(size)
    _bpf(_OBJ_GET_INFO, bytearray(struct.pack("=IIQ", descriptor, size, _address(memory))))
    return memory.raw


@dataclass(frozen=True, slots=True)
class MapInfo:
    kind: int
    id: int
    key: int
    value: int
    entries: int
    flags: int


def map_info(descriptor: int) -> MapInfo:
    return MapInfo(*struct.unpack_from("=IIIIII", _info(descriptor, 80)))


def program_id(descriptor: int) -> int:
    (number,) = struct.unpack_from("=4xI", _info(descriptor, 16))
    return int(number)


@dataclass(frozen=True, slots=True)
class LinkInfo:
    program: int
    """The program's id."""
    ifindex: int
    """0 once its device is gone."""


def link_info(descriptor: int) -> LinkInfo:
    # type, id, prog_id, then per type: tcx {ifindex, attach_type}
    return LinkInfo(*struct.unpack_from("=8xI4xI", _info(descriptor, 32)))


# ---- maps


def map_create(kind: int, key: int, value: int, entries: int, flags: int, name: str) -> int:
    attributes = struct.pack(
        "=IIIIIII16sI", kind, key, value, entries, flags, 0, 0, name.encode()[:15], 0
    )
    return _bpf(_MAP_CREATE, bytearray(attributes))


def _element(descriptor: int, key: int, value: int, flags: int = 0) -> bytearray:
    return bytearray(struct.pack("=I4xQQQ", descriptor, key, value, flags))


def map_lookup(descriptor: int, key: bytes, value_size: int) -> bytes:
    """The value; KeyError if there is none. Of a per-CPU map: 8-byte values, one for each CPU."""
    k, v = _buffer(key), _buffer(value_size)
    try:
        _bpf(_MAP_LOOKUP, _element(descriptor, _address(k), _address(v)))
    except FileNotFoundError:
        raise KeyError(key) from None
    return v.raw


def map_update(descriptor: int, key: bytes, value: bytes) -> None:
    k, v = _buffer(key), _buffer(value)
    _bpf(_MAP_UPDATE, _element(descriptor, _address(k), _address(v)))


def map_replace(descriptor: int, key: bytes, value: bytes) -> None:
    """It is no error if the key is not there; then it is not added."""
    k, v = _buffer(key), _buffer(value)
    try:
        _bpf(_MAP_UPDATE, _element(descriptor, _address(k), _address(v), _EXIST))
    except FileNotFoundError:
        return


def map_delete(descriptor: int, key: bytes) -> None:
    """It is no error if the key is not there."""
    k = _buffer(key)
    try:
        _bpf(_MAP_DELETE, _element(descriptor, _address(k), 0))
    except FileNotFoundError:
        return


def map_keys(descriptor: int, key_size: int) -> Iterator[bytes]:
    """Key by key; for a map that something else writes meanwhile, any key may be missed."""
    previous: ctypes.Array[ctypes.c_char] | None = None
    while True:
        following = _buffer(key_size)
        at = _address(previous) if previous is not None else 0
        try:
            _bpf(_MAP_GET_NEXT_KEY, _element(descriptor, at, _address(following)))
        except FileNotFoundError:
            return
        yield following.raw
        previous = following


class BatchError(OSError):
    """A batch stopped; `done` entries of it were written."""

    def __init__(self, code: int, done: int) -> None:
        super().__init__(code, os.strerror(code))
        self.done = done


def _batch(command: int, descriptor: int, keys: bytes, values: bytes, count: int) -> None:
    k, v = _buffer(keys), _buffer(values)
    attributes = bytearray(
        struct.pack(
            "=QQQQIIQQ", 0, 0, _address(k), _address(v) if values else 0, count, descriptor, 0, 0
        )
    )
    try:
        _bpf(command, attributes)
    except OSError as error:
        # On a fault before the first entry the kernel leaves `count` as it was.
        (done,) = struct.unpack_from("=I", attributes, 32)
        raise BatchError(error.errno or 0, done if done < count else 0) from error


def map_update_batch(descriptor: int, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Add or replace; BatchError, also where the kernel has no batches for the map's type."""
    pairs = list(entries)
    keys, values = b"".join([k for k, _ in pairs]), b"".join([v for _, v in pairs])
    _batch(_MAP_UPDATE_BATCH, descriptor, keys, values, len(pairs))


def map_delete_batch(descriptor: int, keys: Iterable[bytes]) -> None:
    """BatchError with ENOENT at the first key that is not there."""
    listed = list(keys)
    _batch(_MAP_DELETE_BATCH, descriptor, b"".join(listed), b"", len(listed))


def _pieces(raw: bytes, size: int, count: int) -> list[bytes]:
    return [raw[start : start + size] for start in range(0, size * count, size)]


def map_items_batch(
    descriptor: int, key_size: int, value_size: int, size: int
) -> Iterator[tuple[bytes, bytes]]:
    """All entries, up to `size` at a call; OSError ENOSPC if one hash bucket holds more."""
    cursor_size = max(key_size, 4)  # the kernel's cursor: a bucket number, or an LPM map's key
    position: ctypes.Array[ctypes.c_char] | None = None
    keys, values = _buffer(key_size * size), _buffer(value_size * size)
    while True:
        following = _buffer(cursor_size)
        attributes = bytearray(
            struct.pack(
                "=QQQQIIQQ",
                _address(position) if position is not None else 0,
                _address(following),
                _address(keys),
                _address(values),
                size,
                descriptor,
                0,
                0,
            )
        )
        ended = False
        try:
            _bpf(_MAP_LOOKUP_BATCH, attributes)
        except FileNotFoundError:
            ended = True
        (count,) = struct.unpack_from("=I", attributes, 32)
        yield from zip(
            _pieces(keys.raw, key_size, count), _pieces(values.raw, value_size, count), strict=True
        )
        if ended:
            return
        position = following


# ---- programs


class Refused(OSError):
    """The verifier's refusal, with the end of its log."""


def program_load(instructions: bytes, name: str) -> int:
    """A traffic-control program. Its licence must be one that the kernel's helpers admit."""
    code, licence = _buffer(instructions), _buffer(b"GPL\0")

    def load(log: ctypes.Array[ctypes.c_char] | None) -> int:
        attributes = struct.pack(
            "=IIQQIIQII16sII",
            _PROG_TYPE_SCHED_CLS,
            len(instructions) // INSTRUCTION.size,
            _address(code),
            _address(licence),
            1 if log is not None else 0,
            len(log) if log is not None else 0,
            _address(log) if log is not None else 0,
            0,
            0,
            name.encode()[:15],
            0,
            0,
        )
        return _bpf(_PROG_LOAD, bytearray(attributes))

    try:
        return load(None)
    except OSError as first:
        log = _buffer(LOG_BYTES)
        try:
            return load(log)
        except OSError as error:
            # A log that does not fit is itself an error (ENOSPC): the first one says why.
            text = log.value.decode(errors="replace")[-2000:]
            raise Refused(first.errno, f"{first.strerror}: {text}") from error


@dataclass(frozen=True, slots=True)
class TestRun:
    returned: int
    packet: bytes
    nanoseconds: int
    mark: int


def program_test_run(
    descriptor: int, packet: bytes, *, ifindex: int = 1, mark: int = 0, repeat: int = 1
) -> TestRun:
    """Run the program on one frame (BPF_PROG_TEST_RUN); nanoseconds are a run's mean."""
    data, out = _buffer(packet), _buffer(len(packet) + 256)
    # struct __sk_buff: mark is its third word, ifindex its eleventh.
    context = bytearray(192)
    struct.pack_into("=I", context, 8, mark)
    struct.pack_into("=I", context, 40, ifindex)
    given, got = _buffer(bytes(context)), _buffer(len(context))
    attributes = bytearray(
        struct.pack(
            "=IIIIQQIIIIQQ",
            descriptor,
            0,
            len(packet),
            len(out),
            _address(data),
            _address(out),
            repeat,
            0,
            len(context),
            len(context),
            _address(given),
            _address(got),
        )
    )
    _bpf(_PROG_TEST_RUN, attributes)
    returned, size = struct.unpack_from("=I4xI", attributes, 4)
    (duration,) = struct.unpack_from("=I", attributes, 36)
    (mark_after,) = struct.unpack_from("=I", got.raw, 8)
    return TestRun(returned, out.raw[:size], duration, mark_after)


# ---- links


def link_create(program: int, ifindex: int, hook: int) -> int:
    """Attach; the interface is found in the calling thread's network namespace."""
    return _bpf(
        _LINK_CREATE,
        bytearray(struct.pack("=IIIIII8x", program, ifindex, hook, 0, 0, 0)),
    )


def link_update(link: int, program: int) -> None:
    """Put another program in the link's place: no packet meets both, or neither."""
    _bpf(_LINK_UPDATE, bytearray(struct.pack("=IIII", link, program, 0, 0)))
