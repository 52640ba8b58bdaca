"""Files without a published hash: the first copy is recorded, another one is refused."""

import json
from pathlib import Path

import pytest

from embed.first_seen import verify_first_seen


def test_the_first_hash_of_a_source_is_recorded_and_another_one_refused(tmp_path: Path) -> None:
    record, file = tmp_path / "deep" / "first_seen.json", tmp_path / "weights.bin"
    verify_first_seen("hub/model@1", "aa", file, record)
    verify_first_seen("hub/model@1", "aa", file, record)
    verify_first_seen("hub/model@2", "bb", file, record)
    with pytest.raises(ValueError, match=r"weights.bin has sha256 cc, but hub/model@1 was aa"):
        verify_first_seen("hub/model@1", "cc", file, record)
    assert json.loads(record.read_text()) == {"hub/model@1": "aa", "hub/model@2": "bb"}
