"""What the device says right now, as one frozen Snapshot. Every source is injectable, and one that fails or hangs means "unknown".

    snapshot.py   the values                  device.py     where they come from on any system, by psutil
    sensors.py    asks the sources in time    sysfs.py      what Linux's own files add: power, throttling, memory pressure
    rehearsal.py  `--simulate`                darwin.py     what macOS's commands add: throttling, memory pressure
    energy.py     joules                      windows.py    what Windows adds: memory pressure
    token_energy.py  joules a token, where a meter once told them

Knows nothing of policies: it reports, it never judges.
"""

from leanto.signals.device import DEVICE
from leanto.signals.rehearsal import simulate
from leanto.signals.sensors import Sensors, Source
from leanto.signals.snapshot import Link, Snapshot

__all__ = ["DEVICE", "Link", "Sensors", "Snapshot", "Source", "simulate"]
