"""A process that delivers to a web server until it is killed: STATE_FILE URL."""

import sys
import time
from pathlib import Path

from pipeline.watching.delivery import BackOff, Deliveries, sinks_of
from pipeline.watching.delivery_settings import DeliverySettings

if __name__ == "__main__":
    path, url = sys.argv[1:]
    sinks = sinks_of(DeliverySettings(webhook=url))
    Deliveries(Path(path), sinks, back_off=BackOff(0.01, 0.05)).start()
    print("started", flush=True)
    time.sleep(60)
