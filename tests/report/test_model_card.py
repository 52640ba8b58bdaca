"""The card of a model says in plain words what it promises, and what it does not."""

from report.model_card import model_card

MACHINE = {
    "machine_type": "press7",
    "machine_id": "",
    "ids": [""],
    "n_train": 25,
    "facts": {"recordings": 25, "minutes": 4.2, "promise": "at most 5 % false alarms"},
}
FACTS = {
    "created": "2026-01-02T03:04:05",
    "package": "1.0",
    "libraries": {"numpy": "2.0"},
    "rule": "mean",
    "fit_per": "id",
    "settings": {"false_alarms": "auto", "threshold": "conformal", "normalize": "rms"},
    "data": ["/recordings"],
    "members": [{"name": "logmel/mean/knn", "configuration": {"rebuild": {}}}],
    "machines": [MACHINE],
}


def test_it_names_machines_promise_members_and_data():
    card = model_card(FACTS)

    assert "- press7: 25 recordings, 4.2 minutes; at most 5 % false alarms" in card
    assert "No share of found faults is promised" in card
    assert "- member: logmel/mean/knn" in card
    assert "- normalize: rms" in card
    assert "- recordings: /recordings" in card


def test_a_model_without_thresholds_promises_nothing():
    card = model_card({**FACTS, "settings": {"false_alarms": "none"}})

    assert "Nothing: it was made without thresholds" in card


def test_thresholds_of_domains_promise_it_in_each():
    settings = {**FACTS["settings"], "threshold": "domains"}

    assert "on average, in each domain." in model_card({**FACTS, "settings": settings})


def test_the_model_of_a_run_counts_training_clips():
    card = model_card({**FACTS, "machines": [{**MACHINE, "facts": {}}]})

    assert "- press7: 25 training clips" in card


def test_random_weights_are_a_limit():
    rebuild = {"rebuild": {"encoder_options": {"weights": "random"}}}
    members = [{"name": "ast/cls/unet", "configuration": rebuild}]

    assert "random weights" in model_card({**FACTS, "members": members})


def test_very_many_machines_are_counted():
    card = model_card({**FACTS, "machines": [MACHINE] * 501})

    assert "- and 1 more in model.json" in card


def test_control_characters_are_written_out():
    assert "\x1b" not in model_card({**FACTS, "data": ["/\x1b[31m"]})
