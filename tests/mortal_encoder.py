"""An encoder that runs in one thread like a network, and can be killed while it works."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from embed.encoders.wave import Wave

NAME = f"{__name__}:Mortal"
DEATHS = "MORTAL_DEATHS"
"""Environment variable with a folder; each file in it costs a process that encodes its life."""
SECONDS = "MORTAL_SECONDS"
"""Environment variable with the time that a clip takes."""


@dataclass(frozen=True, kw_only=True)
class Mortal(Wave):
    """The numbers of `wave`."""

    concurrent: ClassVar[bool] = False

    def forward(self, waveforms, wanted):
        deaths = os.environ.get(DEATHS)
        for death in Path(deaths).iterdir() if deaths else ():
            death.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get(SECONDS, "0")) * len(waveforms))
        return super().forward(waveforms, wanted)
