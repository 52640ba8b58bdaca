"""Names of other programs and keys of clips: matched by the strictest rule, or refused."""

import unicodedata

import pytest

from cache.matching import match

KEYS = ["fan/train/a.wav", "fan/test/b.wav", "pump/train/a.wav"]


@pytest.mark.parametrize(
    ("names", "how", "pairs"),
    [
        (["fan/train/a.wav", "pump/train/a.wav"], "path", {0: 0, 2: 1}),
        (["/data/dev/fan/train/a.wav".strip("/"), "test/b.wav"], "path", {0: 0, 1: 1}),
        (["fan/train/a", "fan/test/b.flac"], "path", {0: 0, 1: 1}),
        (["elsewhere/b.wav", "c.wav"], "name", {1: 0}),
        (["elsewhere/b"], "stem", {1: 0}),
    ],
)
def test_names_are_matched_by_the_strictest_rule_that_fits(names, how, pairs):
    matching = match(names, KEYS)

    assert matching.how == how
    assert matching.names == {KEYS[key]: names[name] for key, name in pairs.items()}
    assert len(matching.unmatched_names) == len(names) - len(pairs)
    assert f"matched {len(pairs)} by {how}" in matching.summary


@pytest.mark.parametrize("how", ["", "path", "name", "stem"])
def test_ambiguous_names_are_refused_with_examples(how):
    with pytest.raises(ValueError, match=r"1 of 1 names are ambiguous by .*'fan/train/a.wav' and"):
        match(["a.wav"], KEYS, how)
    with pytest.raises(ValueError, match=r"'a/b.wav' and 'c/b.wav' both fit 'fan/test/b.wav'"):
        match(["a/b.wav", "c/b.wav"], KEYS, "name")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("how", ["path", "name", "stem"])
def test_names_match_whatever_form_of_unicode_they_have(form, how):
    other = "NFD" if form == "NFC" else "NFC"
    name = unicodedata.normalize(form, "ventilateur/été.wav")
    key = unicodedata.normalize(other, "ventilateur/été.wav")

    assert match([name], [key], how).names == {key: name}
