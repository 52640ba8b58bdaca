"""From flags to combinations: what is run, under which name, and what is refused and why."""

import re

import pytest

from detect import DETECTORS
from embed import ENCODERS, POOLINGS
from pipeline.exits import UsageError
from pipeline.names import FUSION, KINDS
from pipeline.plan import combinations_of, unused_flags
from pipeline.settings import Settings
from pipeline.systems import SYSTEMS


def names(**flags) -> list[str]:
    return [combination.name for combination in combinations_of(Settings(**flags))[0]]


def test_nothing_named_is_the_fusion_of_four_members():
    ((combination,), refused) = combinations_of(Settings())

    assert (combination.name, refused) == ("auto", [])
    assert [member.name for member in combination.members] == list(SYSTEMS["auto"].fuse)
    assert dict(combination.members[0].pooling.options) == {"groups": 16}


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"detector": "knn"}, "logmel-fluctuation-knn"),
        ({"encoder": "mfcc"}, "mfcc-mean-mahalanobis"),
        ({"pooling": "quiet"}, "logmel-quiet-mahalanobis"),
        ({"detector": "official_ae"}, "logmel-frames-official_ae"),
        ({"encoder": "ast", "detector": "beam"}, "ast-bands-beam"),
        ({"system": "twfr-gmm"}, "logmel-gwrp-twfr_gmm"),
        ({"system": "twfr-gmm", "detector": "gmm"}, "logmel-gwrp-gmm"),
        ({"fuse": "logmel/mean/knn,mfcc/mean/knn"}, "fusion"),
    ],
)
def test_a_part_that_is_not_named_is_the_one_that_goes_with_the_others(flags, name):
    assert names(**flags) == [name]


def test_several_names_are_a_grid_of_all_that_go_together():
    combinations, refused = combinations_of(
        Settings(encoder="logmel,mfcc", pooling="mean,fluctuation", detector="knn")
    )

    assert [c.name for c in combinations] == [
        "logmel-mean-knn", "logmel-fluctuation-knn", "mfcc-mean-knn"
    ]  # fmt: skip
    ((combination, reason),) = refused
    assert combination.name == "mfcc-fluctuation-knn"
    assert "needs log-mel in dB" in reason


def test_several_systems_are_a_grid_and_each_keeps_its_own_options():
    combinations, _ = combinations_of(Settings(system="auto,twfr-gmm"))

    assert [c.columns["system"] for c in combinations] == ["auto", "twfr-gmm"]
    assert [len(c.members) for c in combinations] == [4, 1]
    assert dict(combinations[1].members[0].pooling.options) == {"r": 0.88}


def test_systems_that_would_share_a_name_are_told_apart():
    assert names(system="conv-vae,fc-vae", detector="fc_vae") == [
        "conv-vae-logmel-frames-fc_vae", "fc-vae-logmel-frames-fc_vae"
    ]  # fmt: skip


def test_a_sweep_is_a_combination_per_value_each_with_each():
    combinations, _ = combinations_of(
        Settings(detector="ocsvm", sweep=["ocsvm.nu=.05,.1", "detector.gamma=scale,.001"])
    )

    assert [dict(c.swept) for c in combinations] == [
        {"nu": nu, "gamma": gamma} for nu in (0.05, 0.1) for gamma in ("scale", 0.001)
    ]
    alone = combinations_of(combinations[1].settings)[0]
    assert [c.members for c in alone] == [combinations[1].members]


def test_several_layers_are_a_combination_each_and_members_of_a_fusion():
    layers = {"set": ["panns.layer=2,4,last"], "weights": "random"}

    assert names(encoder="panns", detector="knn", **layers) == [
        f"panns.layer={layer}-clip-knn" for layer in (2, 4, "last")
    ]
    ((combination,), _) = combinations_of(Settings(fuse="panns/clip/knn,wave/clip/knn", **layers))
    assert [member.name for member in combination.members] == [
        *(f"panns.layer={layer}/clip/knn" for layer in (2, 4, "last")), "wave/clip/knn"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "flags",
    [
        {"encoder": "logmel,mfcc", "pooling": "mean", "detector": "knn,gmm", "seeds": 2},
        {"encoder": "panns", "detector": "knn", "set": ["panns.layer=2,last"]},
    ],
)
def test_the_settings_of_a_combination_run_it_alone(flags):
    grid, _ = combinations_of(Settings(**flags))

    assert len(grid) > 1
    for combination in grid:
        (alone,), _ = combinations_of(combination.settings)
        assert alone.members == combination.members
        assert alone.settings.seed == (combination.seed or 0)


def test_seeds_run_what_they_change_and_the_rest_once():
    settings = Settings(detector="knn,iforest", seed=4, seeds=2)

    grid, _ = combinations_of(settings)
    (fused, again), _ = combinations_of(Settings(system="auto", seeds=2))
    (alone,), _ = combinations_of(Settings(detector="knn", seeds=3))

    assert [(c.name.split("-")[2], c.seed) for c in grid] == [
        ("knn", None),
        ("iforest", 4),
        ("iforest", 5),
    ]
    assert grid[0].settings.seed == 4
    assert (fused.seed, again.seed) == (0, 1)
    told = list(unused_flags(Settings(detector="knn", seeds=3), [alone]))
    assert told == ["--seeds 3: no detector of this run is random, so it is run once"]


def test_a_detector_that_tells_ids_apart_is_fitted_per_type_with_all_that_it_is_fused_with():
    for flags in ({"detector": "id_logistic"}, {"fuse": "logmel/mean/id_logistic,wave/clip/knn"}):
        ((combination,), _) = combinations_of(Settings(**flags))
        assert combination.fit_per == "type"


def test_members_that_are_written_twice_are_one():
    ((combination,), _) = combinations_of(Settings(fuse="wave/clip/knn, wave/clip/knn"))

    assert len(combination.members) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"encoder": "logmell"}, "did you mean 'logmel'"),
        ({"set": ["knn.foo=1"]}, "no option 'foo'"),
        ({"set": ["rdp.gamma=-5"]}, "rdp.gamma"),
        ({"set": ["logmel.n_mels=0"]}, "logmel.n_mels"),
        ({"set": ["panns.layer=2,first"]}, "panns.layer should be a valid integer or 'last'"),
        ({"set": ["auto.rule=worst"]}, "there is no fusion rule 'worst'"),
        ({"sweep": ["knn.k=1,2"]}, "knn is not in this run"),
        ({"sweep": ["knn.k=0,2"], "detector": "knn"}, "greater than or equal to 1"),
        ({"fuse": "logmel/mean"}, "expected encoder/pooling/detector"),
        ({"fuse": "logmel/mean/official_ae"}, "takes sequences, --pooling mean gives vectors"),
        ({"system": "auto,b"}, "unknown system 'b'"),
        ({"false_alarms": "1"}, "above 0 and below 1"),
        ({"device": "mps"}, "expected cpu, cuda"),
        ({"weights": "nowhere.pth"}, "no such file"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_read(flags, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        combinations_of(Settings(**flags))


def test_a_known_option_of_a_name_that_is_not_in_the_run_is_a_remark():
    settings = Settings(set=["knn.k=3", "wave.device=cpu", "auto.rule=min"])
    combinations, _ = combinations_of(settings)

    assert list(unused_flags(settings, combinations)) == ["--set knn.k=3: knn is not in this run"]
    assert combinations[0].rule == "min"


def test_a_name_stands_for_one_kind_of_part():
    registries = (ENCODERS, POOLINGS, DETECTORS, (*KINDS, FUSION))

    every = [name for registry in registries for name in registry]
    assert len(every) == len(set(every))


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_a_run(name):
    combinations, refused = combinations_of(Settings(system=name))

    assert (len(combinations), refused) == (1, [])
    assert combinations[0].settings.fit_per == SYSTEMS[name].fit_per
