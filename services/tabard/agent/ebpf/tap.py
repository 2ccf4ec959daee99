"""The device through which packets come to the DNS proxy and go on: a TAP, which is there while its
descriptor is open (Documentation/networking/tuntap.rst)."""

import errno
import fcntl
import os
import struct
from pathlib import Path

from tabard.dataplane.port import DataplaneError

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_TUN_EXCL = 2, 0x1000, 0x8000


def open_device(name: str) -> int:
    """Make the device, down, in the calling thread's network namespace; its descriptor, on which
    a read gives a frame that was sent out of it and a write lets it receive one. Never blocks."""
    descriptor = -1
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_TUN_EXCL
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        try:
            # Nobody lives on this link: no address, no solicitations.
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        except OSError as error:
            # A kernel without IPv6, or a container that may not: what it sends then bears no mark,
            # and is passed over.
            if error.errno not in (errno.ENOENT, errno.EROFS):
                raise
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise DataplaneError(f"TAP device {name!r} cannot be made: {error}") from error
    return descriptor
