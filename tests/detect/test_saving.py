"""A fitted detector comes back from disk as it was, and nothing in its file can run."""

import argparse
import pickle
import zipfile

import numpy as np
import pytest
from fitted_units import SHAPES, Embeddings, quick, table
from safetensors.numpy import save_file

from detect import DETECTORS, facts_of, make_detector
from detect.detector import anomaly_scores
from detect.detectors.autoencoder import Autoencoder
from detect.detectors.distance import KNN
from detect.detectors.recurrent import LSTMPredictor
from detect.fitting import fit, read_for, units
from detect.saving import load_detector, save_detector
from ground import files
from ground.files import sha256_of


def rated(name, detector, unit, read):
    X = read_for(name, unit.test_keys, read)
    ids = unit.test_ids if facts_of(name).needs_ids else None
    return anomaly_scores(detector, X, ids)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_loaded_detector_rates_as_the_saved_one(name, tmp_path):
    choice, facts = quick(name)
    read = Embeddings(SHAPES[facts.takes])
    unit = units(table(), "type" if facts.needs_ids else "id")[0]
    detector = fit(unit, read, choice)
    before = rated(name, detector, unit, read)

    save_detector(detector, tmp_path / "one")
    loaded = load_detector(tmp_path / "one")

    np.testing.assert_allclose(rated(name, loaded, unit, read), before, rtol=1e-12)
    np.testing.assert_array_equal(rated(name, detector, unit, read), before)


def test_banks_per_domain_are_saved_with_their_detector(tmp_path, rng):
    X, domains = rng.normal(size=(20, 2, 3)), np.array(["source", "target"]).repeat(10)
    detector = make_detector("beam", per_domain=True, normalize="varmin").fit(X, None, domains)

    save_detector(detector, tmp_path / "one")

    loaded = load_detector(tmp_path / "one")
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


def test_a_detector_without_a_scaler_is_saved_too(tmp_path):
    from sklearn.ensemble import IsolationForest

    X = np.random.default_rng(0).normal(size=(50, 3))
    forest = IsolationForest(random_state=0).fit(X)

    save_detector(forest, tmp_path / "forest")

    loaded = load_detector(tmp_path / "forest")
    np.testing.assert_array_equal(loaded.score_samples(X), forest.score_samples(X))


def dump(path, detector, version=1, weights=""):
    """Write what `save_detector` writes, with any content."""
    from skops import io

    saved = {"format": version, "weights": weights, "detector": detector}
    io.dump(saved, path.with_name(f"{path.name}.skops"))


def refusal(path, **options):
    """Return the message of the ValueError that opening raises, which is one line."""
    with pytest.raises(ValueError, match=r"\.skops cannot be loaded|\.skops is damaged") as error:
        load_detector(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def saved(tmp_path):
    """Save a small autoencoder, which has both files."""
    X = np.random.default_rng(0).normal(size=(20, 6))
    save_detector(make_detector("mlp", epochs=1).fit(X), tmp_path / "one")
    return tmp_path / "one"


def test_a_type_from_elsewhere_is_refused(tmp_path):
    dump(tmp_path / "foreign", argparse.Namespace(a=1))

    assert "no detector of ours: it holds argparse.Namespace" in refusal(tmp_path / "foreign")


def test_a_class_from_outside_is_opened_only_where_it_is_trusted(tmp_path, rng):
    X = rng.normal(size=(20, 3))
    detector = make_detector("fitted_units:MedianDistance", power=2.0).fit(X)
    save_detector(detector, tmp_path / "own")

    assert "it holds fitted_units.MedianDistance" in refusal(tmp_path / "own")

    loaded = load_detector(tmp_path / "own", trusted_classes=["fitted_units:MedianDistance"])
    np.testing.assert_array_equal(loaded.predict(X), detector.predict(X))


def test_no_function_is_called_by_opening_a_file(tmp_path):
    detector = Autoencoder(network=eval)  # a network of the fitted shape is network(n_features_in_)
    detector.n_features_in_ = f"open({str(tmp_path / 'ran')!r}, 'w')"
    save_file({"network_/weight": np.zeros(1)}, tmp_path / "evil.safetensors")
    dump(tmp_path / "evil", detector, weights=sha256_of(tmp_path / "evil.safetensors"))

    assert "no detector of ours: it holds builtins.eval" in refusal(tmp_path / "evil")
    assert not (tmp_path / "ran").exists()


def test_a_schema_that_names_a_function_to_be_called_is_refused(saved):
    """The type of a node is exchanged for os.system in the file itself."""
    file = saved.with_name("one.skops")
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = members["schema.json"].decode()
    tampered = schema.replace('"ColumnScaler"', '"system"').replace('"detect.scaler"', '"os"')
    assert tampered != schema
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**members, "schema.json": tampered.encode()}.items():
            archive.writestr(name, content)

    assert "no detector of ours: it holds os.system" in refusal(saved)


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "evil.skops").write_bytes(pickle.dumps({"a": 1}))

    assert "File is not a zip file" in refusal(tmp_path / "evil")


@pytest.mark.parametrize("suffix", ["skops", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_half_written_file_is_refused(saved, suffix, share):
    file = saved.with_name(f"one.{suffix}")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])

    refusal(saved)


def test_a_missing_file_is_named(saved):
    saved.with_name("one.safetensors").unlink()

    with pytest.raises(FileNotFoundError, match=r"one\.safetensors"):
        load_detector(saved)
    with pytest.raises(FileNotFoundError, match=r"other\.skops"):
        load_detector(saved.with_name("other"))


def test_every_damaged_byte_is_refused_or_changes_no_score(saved, rng):
    X = rng.normal(size=(5, 6))
    expected = load_detector(saved).score_samples(X)
    file = saved.with_name("one.skops")
    content = bytearray(file.read_bytes())
    n_refused = 0
    for place in rng.integers(len(content), size=60):
        damaged = content.copy()
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            detector = load_detector(saved)
        except ValueError as error:
            assert "\n" not in str(error)
            n_refused += 1
        else:
            np.testing.assert_array_equal(detector.score_samples(X), expected)
    assert n_refused > 10


@pytest.mark.parametrize(
    ("version", "text"), [(2, "its format is 2"), (None, "its format is None")]
)
def test_another_format_is_refused(tmp_path, version, text):
    dump(tmp_path / "one", KNN().fit(np.eye(4)), version)

    assert f"{text}, this version reads 1; fit the detector again" in refusal(tmp_path / "one")


def test_a_file_of_an_earlier_version_is_refused(tmp_path):
    from skops import io

    io.dump(KNN().fit(np.eye(4)), tmp_path / "old.skops")

    assert "its format is None" in refusal(tmp_path / "old")


@pytest.mark.parametrize("content", [[1, 2], "knn", {"k": 3}])
def test_something_else_in_place_of_a_detector_is_refused(tmp_path, content):
    dump(tmp_path / "one", content)

    assert f"it holds a {type(content).__name__} in place of a detector" in refusal(
        tmp_path / "one"
    )


def test_options_that_no_detector_can_have_are_refused(tmp_path):
    dump(tmp_path / "one", LSTMPredictor(layers=10**9))

    assert "layers should be less than or equal to 16; got 1000000000" in refusal(tmp_path / "one")


def test_a_deeply_nested_schema_is_refused(saved):
    file = saved.with_name("one.skops")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", '{"a":' * 100_000 + "1" + "}" * 100_000)

    assert "RecursionError" in refusal(saved)


def test_a_compressed_file_is_refused_before_it_is_unpacked(saved):
    file = saved.with_name("one.skops")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", " " * 10**7)

    assert "it is compressed, and ours are not" in refusal(saved)


def test_weights_of_another_shape_or_of_another_save_are_refused(saved, rng):
    file = saved.with_name("one.safetensors")
    detector = load_detector(saved)
    other = make_detector("mlp", epochs=1).fit(rng.normal(size=(20, 8)))
    save_detector(other, saved.with_name("other"))
    file.write_bytes(saved.with_name("other.safetensors").read_bytes())

    assert "one.safetensors is not the file that was written with it" in refusal(saved)

    detector.detector.network_ = None
    dump(saved, detector, weights=sha256_of(file))
    assert "size mismatch" in refusal(saved)


def test_a_huge_network_takes_no_memory_before_its_weights_are_compared(saved):
    detector = load_detector(saved)
    detector.detector.network_ = None
    detector.detector.n_features_in_ = 10**6  # weights of 2 TB
    dump(saved, detector, weights=sha256_of(saved.with_name("one.safetensors")))

    assert "size mismatch" in refusal(saved)


def test_a_disk_that_fills_leaves_the_earlier_detector_as_it_was(saved, rng, monkeypatch):
    X = rng.normal(size=(20, 6))
    before = load_detector(saved).score_samples(X)
    other = make_detector("mlp", epochs=1, seed=1).fit(X)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        save_detector(other, saved)

    np.testing.assert_array_equal(load_detector(saved).score_samples(X), before)
    assert sorted(p.name for p in saved.parent.iterdir()) == ["one.safetensors", "one.skops"]


class TestAPublishedNetwork:
    @pytest.fixture
    def folder(self, tmp_path):
        from transformers import ResNetConfig, ResNetModel

        ResNetModel(ResNetConfig()).eval().save_pretrained(tmp_path / "resnet50")
        return tmp_path / "resnet50"

    @pytest.fixture
    def clips(self, rng):
        return rng.normal(size=(6, 24, 6)).astype(np.float32)

    @pytest.fixture
    def fitted(self, folder, clips):
        options = {"weights": str(folder), "widths": (8, 8, 8, 8, 8), "epochs": 1}
        return make_detector("resnet50_cnn", **options).fit(clips)

    def test_is_referred_to_and_not_stored(self, fitted, clips, tmp_path):
        written = save_detector(fitted, tmp_path / "one")

        assert sum(path.stat().st_size for path in written) < 2e6
        loaded = load_detector(tmp_path / "one")
        np.testing.assert_array_equal(loaded.score_samples(clips), fitted.score_samples(clips))

    def test_is_found_by_its_hash_where_the_caller_says(self, fitted, clips, folder, tmp_path):
        save_detector(fitted, tmp_path / "one")
        moved = folder.rename(tmp_path / "moved")
        hashes = []

        loaded = load_detector(tmp_path / "one", lambda sha256: hashes.append(sha256) or str(moved))

        assert hashes == [sha256_of(moved / "model.safetensors")]
        np.testing.assert_array_equal(loaded.score_samples(clips), fitted.score_samples(clips))

    def test_that_is_missing_or_another_one_is_named_by_its_hash(self, fitted, folder, tmp_path):
        save_detector(fitted, tmp_path / "one")
        expected = sha256_of(folder / "model.safetensors")
        with (folder / "model.safetensors").open("r+b") as file:
            file.seek(-4, 2)
            file.write(b"abcd")

        assert f"needs the ResNet50 with sha256 {expected}; that of" in refusal(tmp_path / "one")

        folder.rename(tmp_path / "gone")
        message = refusal(tmp_path / "one", weights_of=lambda sha256: "")
        assert f"needs the ResNet50 with sha256 {expected}, which was in {folder}" in message
