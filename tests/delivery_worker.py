"""A process that delivers until it is killed: STATE_FILE and settings, such as webhook=URL."""

import sys
import time
from pathlib import Path

from pipeline.watching.delivery import BackOff, Deliveries, sinks_of
from pipeline.watching.delivery_settings import DeliverySettings

if __name__ == "__main__":
    path, *settings = sys.argv[1:]
    sinks = sinks_of(DeliverySettings(**dict(each.split("=", 1) for each in settings)))
    Deliveries(Path(path), sinks, back_off=BackOff(0.01, 0.05)).start()
    print("started", flush=True)
    time.sleep(60)
