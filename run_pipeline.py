"""Point it at recordings of machines; it tells, per machine, how anomalous each clip is.

    find_clips -> load_recording -> encode -> append | read -> fit -> anomaly_scores -> auc, pauc

The only file that knows all three rooms: `embed` makes vectors, `cache` keeps them, `detect`
judges them. Heavy imports happen where they are used, so that `--help` is fast.
"""

from __future__ import annotations

import sys

from pipeline.command_line import main

if __name__ == "__main__":
    sys.exit(main())
