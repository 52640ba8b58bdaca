"""The page of a check is one file that needs nothing else, whatever the names are."""

import numpy as np
from small_runs import Page

from detect.profile import NormalProfile
from detect.reasons import explain
from detect.reconstruction import Reconstruction
from report.check_page import Findings, JudgedClip, clock, timelines, write_check_page
from report.heard_clips import Rebuilt

EDGES = np.linspace(0, 8000, 17)


def clip(key="a.wav", verdict="anomalous", score=1.0, start_s=None, p_value=0.01, **more):
    values = {"machine": "press7", "reason": "louder", "remarks": ()}
    end_s = None if start_s is None else start_s + 10
    return JudgedClip(
        key,
        verdict=verdict,
        score=score,
        p_value=p_value,
        start_s=start_s,
        end_s=end_s,
        **{**values, **more},
    )


def found(*clips, seconds=1.0, rebuilt=None):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(31, 16))
    profile = NormalProfile.of([frames, frames + 0.1], EDGES[:-1], EDGES[1:], 0.032)
    odd = frames.copy()
    odd[:, 5] += 20
    findings = Findings()
    wave = rng.normal(size=round(16_000 * seconds)).astype(np.float32) * 0.1
    for one in clips:
        findings.add(one, wave, 16_000, odd, profile, explain(odd, profile), rebuilt)
    return findings


def test_names_are_shown_and_never_obeyed(tmp_path):
    evil = "<script>alert(1)</script>\x1b[31m.wav"
    clips = [clip(evil, reason=evil, remarks=(evil,), machine=evil)]

    write_check_page(tmp_path / "p.html", evil, clips, found(*clips), {})

    page = Page((tmp_path / "p.html").read_text())
    assert "script" not in page.tags
    assert "\x1b" not in "".join(page.text)
    assert all(link.startswith("data:") for link in page.links)


def test_a_few_clips_per_machine_are_shown_the_worst_first(tmp_path):
    clips = [clip(f"{i}.wav", score=float(i)) for i in range(13)]

    shown = found(*clips).worst_first()

    assert [finding.clip.key for finding in shown] == [f"{i}.wav" for i in range(12, 2, -1)]
    write_check_page(tmp_path / "p.html", "t", clips, found(*clips), {})
    assert "3 more that are not normal are in the list only" in (tmp_path / "p.html").read_text()


def test_what_an_autoencoder_rebuilds_is_shown_beside_the_reason(tmp_path):
    frames = np.zeros((31, 16))
    shown = Reconstruction(frames, frames + 1, np.ones((31, 16)), np.full(16, 0.5))
    rebuilt = Rebuilt(shown, EDGES[:-1], EDGES[1:], 0.032)

    findings = found(clip(), rebuilt=rebuilt)

    write_check_page(tmp_path / "p.html", "t", [clip()], findings, {})
    page = (tmp_path / "p.html").read_text()
    assert page.count('<img src="data:image/png') == 2
    assert 'alt="the clip, what the autoencoder rebuilds of it, and the error' in page


def test_a_long_sound_is_cut_to_30_seconds():
    (finding,) = found(clip(), seconds=40).worst_first()

    assert finding.sound_note == "from 00:00 to 00:30 of the clip"


def test_a_timeline_has_a_point_per_window_and_lists_the_worst_first():
    windows = [
        clip(
            verdict="anomalous" if i == 7 else "normal",
            score=float(i == 7),
            start_s=5.0 * i,
            p_value=0.01 if i == 7 else 0.5,
        )
        for i in range(20)
    ]

    (line,) = timelines([clip("whole.wav"), *windows], {"press7": 0.5})

    assert line.path.count(" L") == 19 or line.path.count("L") == 19
    assert (line.n_windows, line.n_anomalous, len(line.marks)) == (20, 1, 1)
    assert line.worst[0].start_s == 35.0
    assert line.threshold_y is not None


def test_a_day_is_drawn_with_few_points_that_keep_the_peaks():
    windows = [clip(score=float(i == 9999), start_s=5.0 * i) for i in range(17_280)]

    (line,) = timelines(windows, {})

    assert line.path.count("L") < 700
    peak = min(float(point.split()[1]) for point in line.path[1:].split(" L"))
    assert peak < 20


def test_constant_scores_are_drawn():
    (line,) = timelines([clip(score=1.0, start_s=0.0), clip(score=1.0, start_s=5.0)], {})

    assert "nan" not in line.path


def test_seconds_are_written_as_a_clock_shows_them():
    assert [clock(s) for s in (0, 61.5, 3725)] == ["00:00", "01:01.5", "1:02:05"]
