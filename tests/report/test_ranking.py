"""`ranking.csv` is read back as it was written, and anything else is refused by its name."""

from __future__ import annotations

import numpy as np
import pytest

from detect.fitting import ClipTable, FitUnit, Scores
from report.ranking import as_scores, read_ranking
from report.result_files import write_ranking


def written(folder, **more):
    keys = ("=1.wav", "b/section_00_target_test_anomaly_0001.wav", "c.wav")
    table = ClipTable(
        keys,
        ("fan",) * 3,
        ("id_00",) * 3,
        ("test",) * 3,
        ("normal", "anomalous", "unknown"),
        **more,
    )
    unit = FitUnit("fan", "id_00", (), (), keys, ("id_00",) * 3)
    judged = {("fan", "id_00"): {"=1.wav": (0.5, "normal")}}
    return write_ranking(
        folder, table, [Scores(unit, np.array([0.1, 2.0, np.nan]), None, 0)], judged
    )


def test_a_ranking_is_read_back_as_it_was_written(tmp_path):
    clips = {c.key: c for c in read_ranking(written(tmp_path, domain=("source", "target", "")))}

    assert clips["=1.wav"].score == 0.1
    assert (clips["=1.wav"].p_value, clips["=1.wav"].verdict) == (0.5, "normal")
    assert (clips["=1.wav"].domain, clips["c.wav"].domain) == ("source", "")
    assert np.isnan(clips["c.wav"].score)


def test_a_ranking_without_domains_takes_them_from_names(tmp_path):
    clips = {clip.key: clip for clip in read_ranking(written(tmp_path))}

    assert clips["b/section_00_target_test_anomaly_0001.wav"].domain == "target"


def test_clips_become_a_table_and_scores_in_the_order_of_their_keys(tmp_path):
    table, (scores,) = as_scores(read_ranking(written(tmp_path)))

    assert set(table.label) == {"normal", "anomalous", "unknown"}
    assert scores.unit.test_keys == tuple(sorted(table.key))
    assert scores.scores[0] == 0.1


HEADING = "machine_type,machine_id,rank,key,anomaly_score,label\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no ranking of a run: it lacks machine_type"),
        ("a,b\n1,2\n", "is no ranking of a run"),
        (f"{HEADING}fan,id,1,a.wav,nan,normal\n", "'a.wav' has 'nan' where a finite number"),
        (f"{HEADING}fan,id,1,a.wav,1,odd\n", "'a.wav' has the label 'odd'"),
        (f"{HEADING}fan,id,1,a.wav,1,normal\nfan,id,2,a.wav,1,normal\n", "lists 'a.wav' twice"),
    ],
)
def test_what_is_no_ranking_is_refused_by_its_file(tmp_path, text, message):
    path = tmp_path / "ranking.csv"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ValueError, match=message):
        read_ranking(path)
