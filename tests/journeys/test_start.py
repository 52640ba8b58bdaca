"""What trains no network starts without torch, and without other libraries that take seconds."""

import os
import subprocess
import sys
from pathlib import Path

from small_recordings import write_recordings

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path

import run_pipeline

def run(*arguments):
    sys.argv = ["run_pipeline.py", *arguments]
    code = run_pipeline.main()
    heavy = {"torch", "transformers", "librosa", "pytest"} & set(sys.modules)
    print("exit code", code, *sorted(heavy), flush=True)

run("--quiet")
for name in ("matplotlib", "matplotlib.figure", "matplotlib.ticker"):
    sys.modules[name] = None  # whoever imports it now fails
run("--quiet", "--page-clips", "0")
model = max(Path("runs").glob("*-auto"))
clip = "dev_data/valve/test/normal_id_00_00000000.wav"
run("check", clip, "--model", str(model), "--machine", "valve id_00")
run("--quiet", "--page-clips", "0", "--encoder", "logmel", "--detector", "knn,ocsvm,gmm,lof")
"""


def test_a_run_a_rerun_a_check_and_a_grid_import_no_torch_and_a_rerun_draws_nothing(tmp_path):
    write_recordings(tmp_path / "dev_data")

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    codes = [line for line in done.stdout.splitlines() if line.startswith("exit code")]
    assert codes == ["exit code 0"] * 4, done.stderr
    assert len(list((tmp_path / "runs").glob("*-auto/roc.png"))) == 2
