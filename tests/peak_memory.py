"""The peak memory of a piece of code, measured in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CODE = """
import json, resource, sys, time
{imports}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
result = None
{body}
seconds = time.process_time() - start
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
figures = dict(added_mb=(after - before) / 1024, peak_mb=after / 1024, seconds=seconds)
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
