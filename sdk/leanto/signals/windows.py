"""What Windows adds, by its own interface: whether it says that memory is low (CreateMemoryResourceNotification and
QueryMemoryResourceNotification, memoryapi.h). Charge, free memory and load are psutil's. Elsewhere there is none, and nothing is said.

Checked on a stand-in of the documented form; nobody has run this on Windows.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from typing import Any

LOW_MEMORY = 0  # LowMemoryResourceNotification


class Memory:
    """`kernel32` stands in for the system's library; None is that one, where there is one. The handle lasts as long as the process."""

    def __init__(self, kernel32: Any = None) -> None:
        self._kernel32 = kernel32
        self._handle: Any = None

    def __call__(self) -> Mapping[str, Any]:
        """Pressure 1 while Windows calls its memory low, else 0: it tells no share of the time."""
        if self._kernel32 is None:
            if sys.platform != "win32":
                return {}
            self._kernel32 = ctypes.WinDLL("kernel32")
        if not self._handle:
            create = self._kernel32.CreateMemoryResourceNotification
            create.restype = ctypes.c_void_p
            self._handle = create(ctypes.c_int(LOW_MEMORY))
        low = ctypes.c_int(0)
        if not self._handle or not self._kernel32.QueryMemoryResourceNotification(ctypes.c_void_p(self._handle), ctypes.byref(low)):
            return {}
        return {"memory_pressure": 1.0 if low.value else 0.0}
