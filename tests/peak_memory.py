"""The peak memory of a piece of code, measured in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CODE = """
import json, time

def peak_mb():  # of this program alone: getrusage counts what its parent held before the fork
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) / 1024

{imports}
before = peak_mb()
start = time.process_time()
result = None
{body}
figures = dict(peak_mb=peak_mb(), added_mb=peak_mb() - before, seconds=time.process_time() - start)
print(json.dumps(dict(result=result, **figures)))
"""


def measured(imports: str, body: str) -> dict:
    """Run `imports`, then `body`, which sets `result`; return peak memory in MB and CPU seconds."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(imports=imports, body=body)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
