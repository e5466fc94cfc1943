"""`save` and `load`: everything comes back, and nothing that is damaged or hostile gets in."""

import json
import re
import shutil
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import sksae
from sksae import ActivationExtractor, Crosscoder, GatedSAE, TopKSAE, Transcoder, _files
from sksae._files import digest_of
from sksae.datasets import TINY_LM_PATH
from sksae.formats._sksae import check_generator
from sksae.interpret import Explanation
from tests.cases import each_case, tries
from tests.estimators import FAMILY, PREDICTORS, SAES, wide

SOURCE = {"model": "gpt2", "layer": 3, "hook_name": "blocks.3.hook_resid_post"}


def fit(cls, X, **params):
    sae = wide(cls, max_iter=3, **params)
    return sae.fit(X, np.abs(X[:, :5])) if cls in PREDICTORS else sae.fit(X)


def go_on(sae, X):
    return sae.partial_fit(X, np.abs(X[:, :5])) if type(sae) in PREDICTORS else sae.partial_fit(X)


def state_of(sae):
    """All that an estimator is, with arrays as bytes so that it can be compared."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, BaseEstimator):
            return type(value), plain(value.get_params())
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        if isinstance(value, np.ndarray) and value.dtype != object:
            return value.dtype.str, value.shape, value.tobytes()
        return value.tolist() if isinstance(value, np.ndarray) else value

    return plain(vars(sae))


@pytest.fixture
def saved(X, tmp_path):
    """A file with something of everything, and its estimator."""
    sae = go_on(fit(GatedSAE, X), X)
    sae.set_feature_names({3: Explanation(3, "cold", "hand", {"detection": {"value": 0.9}})})
    sae.source_ = dict(SOURCE)
    return sae.save(tmp_path / "sae.safetensors"), sae


def copy_of(saved):
    """Path of a copy of the file, to damage."""
    path, _ = saved
    return shutil.copy(path, path.with_name("copy.safetensors"))


def rewrite(path, change=lambda header: None, arrays=lambda arrays: None):
    """Write the file anew with a changed header and arrays; return the path."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["sksae"])
    tensors = load_file(path)
    header = change(header) or header
    arrays(tensors)
    text = header if isinstance(header, str) else json.dumps(header)
    digest = digest_of(text, tensors)
    save_file(tensors, path, metadata={"sksae": text, "sha256": digest})
    return path


@each_case("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cls", FAMILY)
def test_everything_comes_back(cls, dtype, X, tmp_path):
    X = X.astype(dtype)
    sae = fit(cls, X)
    sae.set_feature_names({1: "cold", 5: "추위 ❄"})
    sae.source_ = dict(SOURCE)
    again = sksae.load(sae.save(tmp_path / "sae.safetensors"))
    assert type(again) is cls
    assert state_of(again) == state_of(sae)
    assert repr(again) == repr(sae)
    assert_array_equal(again.transform(X), sae.transform(X))
    assert repr(clone(again)) == repr(sae)


@each_case("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cls", FAMILY)
def test_a_stream_goes_on_to_the_same_bits(cls, dtype, X, tmp_path):
    X = X.astype(dtype)
    sae = wide(cls)
    for _ in range(2):
        go_on(sae, X)
    again = sksae.load(sae.save(tmp_path / "sae.safetensors"))
    assert state_of(again) == state_of(sae)
    assert state_of(go_on(again, X)) == state_of(go_on(sae, X))


@pytest.mark.parametrize("cls", FAMILY)
def test_a_warm_start_goes_on_to_the_same_bits(cls, X, tmp_path):
    sae = fit(cls, X, warm_start=True)
    again = sksae.load(sae.save(tmp_path / "sae.safetensors"))
    targets = [np.abs(X[:, :5])] if cls in PREDICTORS else []
    assert state_of(again.fit(X, *targets)) == state_of(sae.fit(X, *targets))


def test_transcoders_of_all_kinds(X, tmp_path):
    for cls in SAES:
        sae = Transcoder(wide(cls, max_iter=3), skip=True).fit(X, np.abs(X[:, :5]))
        again = sksae.load(sae.save(tmp_path / "sae.safetensors"))
        assert state_of(again) == state_of(sae)
        assert_array_equal(again.predict(X), sae.predict(X))
    single = Transcoder(TopKSAE(8, k=2, max_iter=1)).fit(X, X[:, 0])
    assert sksae.load(single.save(tmp_path / "single")).predict(X).shape == (len(X),)


def test_parameters_of_all_kinds(X, tmp_path):
    state = np.random.RandomState(3)
    state.normal()
    sae = TopKSAE(
        np.int64(64), k=np.int32(5), betas=[0.5, 0.75], tol=np.float32(0.5), random_state=state
    ).set_params(max_iter=2, early_stopping=True)
    with pytest.warns(ConvergenceWarning):
        sae.fit(X)
    sae.loss_curve_[0] = float("nan")  # as after an interruption
    again = sksae.load(sae.save(tmp_path / "sae.safetensors"))
    assert (again.n_components, again.k, again.tol) == (64, 5, 0.5)
    assert again.betas == (0.5, 0.75)
    assert_array_equal(again.random_state.normal(size=5), sae.random_state.normal(size=5))
    assert np.isnan(again.loss_curve_[0])
    assert again.validation_scores_ == sae.validation_scores_
    sae.set_params(device=object())
    with pytest.raises(TypeError, match="parameter 'device' cannot be saved"):
        sae.save(tmp_path / "sae.safetensors")


def test_names_of_columns_and_explanations(X, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"π{i}" for i in range(12)])
    sae = fit(TopKSAE, frame)
    scores = {"fuzzing": {"value": 0.8, "n": 5, "se": float("inf")}}
    words = Explanation(7, "rivers", "gpt", scores, seen=(1, 4))
    sae.set_feature_names({7: words, 8: "cold"})
    again = sksae.load(sae.save(tmp_path / "sae.safetensors"))
    assert list(again.feature_names_in_) == list(frame.columns)
    assert again.get_feature_names_out()[7] == "rivers"
    assert set(again.explanations_) == {7}
    restored = Explanation(**again.explanations_[7])
    assert (restored.text, restored.source, restored.scores) == ("rivers", "gpt", words.scores)
    again.set_feature_names({8: "cold"})
    assert not hasattr(again, "explanations_")


def test_where_activations_are_from(X, tmp_path):
    extractor = ActivationExtractor(TINY_LM_PATH, layer=2, site="mlp_out", max_length=64)
    sae = fit(TopKSAE, X)
    again = sksae.load(sae.save(tmp_path / "a", extractor=extractor))
    assert again.source_["model"] == str(TINY_LM_PATH)
    assert (again.source_["layer"], again.source_["site"]) == (2, "mlp_out")
    assert again.source_["max_length"] == 64
    assert again.source_["drop_first_position"] is True
    assert not {"verbose", "device", "batch_tokens", "tokenizer"} & set(again.source_)
    assert not hasattr(sae, "source_")
    with pytest.raises(TypeError, match="must be an ActivationExtractor"):
        sae.save(tmp_path / "a", extractor=sae)
    with pytest.raises(TypeError, match="must be an ActivationExtractor"):
        sae.save(tmp_path / "a", extractor="gpt2")


def test_tensors_come_back_as_numpy(X, tmp_path):
    with config_context(array_api_dispatch=True):
        sae = fit(TopKSAE, torch.from_numpy(X))
        assert isinstance(sae.components_, torch.Tensor)
        again = sksae.load(sae.save(tmp_path / "sae.safetensors"))
    assert_array_equal(again.components_, sae.components_.numpy())
    assert_array_equal(again.transform(X), fit(TopKSAE, X).transform(X))


def test_a_pickle_never_holds_another_device(X):
    """What a GPU made must load where there is none: "meta" stands in for it."""
    sae = fit(TopKSAE, X)
    sae.components_ = torch.empty(3, 4)
    assert sae.__getstate__()["components_"].device.type == "cpu"
    moved = []
    sae.components_ = torch.empty(3, 4, device="meta")
    sae.components_.cpu = lambda: moved.append("cpu") or torch.zeros(3, 4)
    assert sae.__getstate__()["components_"].device.type == "cpu"
    assert moved == ["cpu"]


def test_what_cannot_be_saved(X, tmp_path):
    with pytest.raises(NotFittedError):
        TopKSAE(8).save(tmp_path / "sae.safetensors")
    sae = fit(Transcoder, X)
    with pytest.raises(ValueError, match="changed since it was fitted: it has no skip_coef"):
        sae.set_params(skip=True).save(tmp_path / "sae.safetensors")
    with pytest.raises(TypeError, match="Mine is a class of your own"):
        type("Mine", (TopKSAE,), {})(8, k=1, max_iter=1).fit(X).save(tmp_path / "mine")
    sae = fit(TopKSAE, X)
    sae.source_ = {"text": "é" * 30_000_000}
    with pytest.raises(ValueError, match="more than a header holds"):
        sae.save(tmp_path / "sae.safetensors")
    assert not list(tmp_path.iterdir())


def test_blocks_that_are_not_those_of_the_arrays_are_refused(X, tmp_path):
    sae = fit(Crosscoder, X)
    assert sae.blocks_ == {"block0": 6, "block1": 6}
    for blocks in ({"a": 4, "b": 9}, {"a": 6, "b": "6"}, {}, {"a": 0, "b": 12}, 2, [6, 6]):
        path = rewrite(
            sae.save(tmp_path / "sae.safetensors"),
            lambda h, b=blocks: h["fitted"].update(blocks_=b),
        )
        with pytest.raises(ValueError, match="cannot be loaded"):
            sksae.load(path)


def test_a_crash_leaves_the_old_file(saved, monkeypatch):
    path, sae = saved
    before = path.read_bytes()

    def crash(arrays, part, metadata):
        save_file(arrays, part, metadata=metadata)
        part.write_bytes(part.read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(_files, "save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        sae.set_feature_names({0: "warm"}).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["sae.safetensors"]


def test_it_replaces_what_was_there(saved, X):
    path, _ = saved
    assert type(sksae.load(fit(TopKSAE, X).save(path))) is TopKSAE
    assert sksae.load(str(path)).n_components_ == 64


def seed_of(change):
    """Give the header a RandomState whose state is changed."""

    def changed(header):
        name, words, *rest = np.random.RandomState(0).get_state()
        state = [name, words.tolist(), *rest]
        change(state)
        header["params"]["random_state"] = {"RandomState": state}

    return changed


def position_of(left, following):
    """Change the position of torch's generator among its words."""

    def changed(arrays):
        raw = arrays["stream.generator"] = arrays["stream.generator"].copy()
        raw[8:12] = np.frombuffer(np.int32(left).tobytes(), np.uint8)
        raw[16:24] = np.frombuffer(np.int64(following).tobytes(), np.uint8)

    return changed


HEADERS = {
    "no class": (lambda h: h.pop("class"), "lacks ['class']"),
    "a foreign class": (lambda h: h.update({"class": "os.system"}), "no estimator 'os.system'"),
    "the base class": (lambda h: h.update({"class": "BaseSAE"}), "no estimator 'BaseSAE'"),
    "a function": (lambda h: h.update({"class": "load"}), "no estimator 'load'"),
    "another class": (lambda h: h.update({"class": "TopKSAE"}), "has no parameters ['alpha'"),
    "a later version": (lambda h: h.update(version=2), "version 2 of the format, this sksae reads"),
    "no version": (lambda h: h.pop("version"), "version is None"),
    "version as text": (lambda h: h.update(version="1"), "version is '1'"),
    "unknown entry": (lambda h: h.update(code="print()"), "['code'] that are not known"),
    "unknown parameter": (lambda h: h["params"].update(hook=1), "no parameters ['hook']"),
    "wrong parameter": (lambda h: h["params"].update(alpha=-1), "'alpha' parameter"),
    "huge parameter": (lambda h: h["params"].update(max_iter="9" * 10), "'max_iter' parameter"),
    "object parameter": (lambda h: h["params"].update(tol={"a": "b"}), "a parameter is an object"),
    "bad seed": (seed_of(lambda s: s.pop()), "five parts"),
    "other generator": (seed_of(lambda s: s.__setitem__(0, "PCG64")), "not a MT19937"),
    "few words": (seed_of(lambda s: s[1].pop()), "not a MT19937 with 624 words"),
    "large word": (seed_of(lambda s: s[1].__setitem__(3, 2**32)), "not a MT19937"),
    "negative word": (seed_of(lambda s: s[1].__setitem__(3, -1)), "not a MT19937"),
    "word of text": (seed_of(lambda s: s[1].__setitem__(3, "7")), "not a MT19937"),
    "no words": (seed_of(lambda s: s[1].__setitem__(slice(None), [0] * 624)), "no generator has"),
    "far position": (seed_of(lambda s: s.__setitem__(2, 10**9)), "a position that is not in"),
    "next position": (seed_of(lambda s: s.__setitem__(2, 625)), "a position that is not in"),
    "position before": (seed_of(lambda s: s.__setitem__(2, -5)), "a position that is not in"),
    "position as flag": (seed_of(lambda s: s.__setitem__(2, True)), "a position that is not in"),
    "gauss flag": (seed_of(lambda s: s.__setitem__(3, 7)), "a position that is not in"),
    "no gauss": (seed_of(lambda s: s.__setitem__(4, None)), "a normal number"),
    "no counts": (lambda h: h["fitted"].pop("n_iter_"), "lacks ['n_iter_']"),
    "other width": (lambda h: h["fitted"].update(n_components_=63), "its arrays say 64"),
    "other rows": (lambda h: h["fitted"].update(n_features_in_=13), "its arrays say 12"),
    "flag for count": (lambda h: h["fitted"].update(n_iter_=True), "n_iter_ is True"),
    "unknown fact": (lambda h: h["fitted"].update(secret_=1), "['secret_'] that are not known"),
    "curve of words": (lambda h: h["curves"].update(loss_curve_=["a"]), "loss_curve_ has entries"),
    "unknown curve": (lambda h: h["curves"].update(other_=[1]), "curve 'other_'"),
    "name of no one": (lambda h: h["feature_names"].update({"64": "x"}), "no component 64"),
    "key no number": (lambda h: h["feature_names"].update({"../x": "x"}), "by their number"),
    "huge key": (lambda h: h["feature_names"].update({"9" * 5000: "x"}), "by their number"),
    "empty name": (lambda h: h["feature_names"].update({"1": " "}), "is empty"),
    "a name of a number": (
        lambda h: h["curves"].update(loss_curve_=[{"float": "1"}]),
        "not numbers",
    ),
    "words of no one": (lambda h: h["explanations"].update({"64": {}}), "explains components"),
    "too few columns": (lambda h: h.update(feature_names_in=["a"]), "one name per column"),
    "columns of numbers": (lambda h: h.update(feature_names_in=[1] * 12), "one name per column"),
    "names as list": (lambda h: h.update(feature_names=["a"]), "'feature_names' in its header"),
    "no stream": (lambda h: h.pop("stream"), "partial_fit is not whole"),
    "half a stream": (lambda h: h["stream"].pop("density"), "numbers that are not right"),
    "bad stream": (lambda h: h["stream"].update(n_steps=-1), "numbers that are not right"),
    "no JSON": (lambda h: "{", "Expecting"),
    "a list": (lambda h: "[]", "not an object"),
    "nested": (lambda h: "[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "twice": (lambda h: '{"version": 1, "version": 1}', "a key twice"),
    "not a number": (lambda h: '{"version": NaN}', "has a NaN"),
}

ARRAYS = {
    "no array": (lambda a: a.pop("components"), "missing: components"),
    "no threshold": (lambda a: a.pop("threshold"), "missing: threshold"),
    "unknown array": (lambda a: a.update(x=a["gain"]), "no such weights: x"),
    "a skip": (lambda a: a.update(skip_coef=np.zeros((12, 12))), "no such weights: skip_coef"),
    "NaN": (lambda a: a["components"].fill(np.nan), "components has entries that are not finite"),
    "infinity": (lambda a: a["intercept"].fill(np.inf), "intercept has entries that are not"),
    "wrong shape": (lambda a: a.update(intercept=np.zeros(11)), "intercept has shape (11,)"),
    "transposed": (
        lambda a: a.update(components=a["components"].T.copy()),
        "has shape (64,); (12,) is needed",
    ),
    "a vector": (lambda a: a.update(components=np.zeros(64)), "components must be a matrix"),
    "empty": (lambda a: a.update(components=np.zeros((0, 12))), "must be a matrix"),
    "integers": (lambda a: a.update(gain=np.ones(64, np.int64)), "not all float32 or all float64"),
    "halves": (lambda a: a.update(gain=np.ones(64, np.float16)), "not all float32 or all float64"),
    "mixed": (lambda a: a.update(gain=np.ones(64, np.float32)), "not all float32 or all float64"),
    "stream shape": (
        lambda a: a.update({"stream.weights.intercept": np.zeros(3)}),
        "stream.weights.intercept is float64 of shape (3,)",
    ),
    "stream NaN": (lambda a: a["stream.mean"].fill(np.nan), "stream.mean has entries"),
    "stream gone": (lambda a: a.pop("stream.first.intercept"), "partial_fit is not whole"),
    "stream more": (lambda a: a.update({"stream.x": np.zeros(3)}), "partial_fit is not whole"),
    "bad generator": (lambda a: a["stream.generator"].fill(255), "random numbers"),
    "short generator": (lambda a: a.update({"stream.generator": np.zeros(9, "u1")}), "not right"),
    "position beyond": (position_of(624, 624), "position outside of its words"),
    "position at 0": (position_of(625, 0), "position outside of its words"),
    "far position": (position_of(3, 10**9), "position outside of its words"),
    "no words": (lambda a: a["stream.generator"][24:5016].fill(0), "no generator has"),
}


@each_case("case", HEADERS)
def test_headers_that_are_refused(case, saved):
    path = copy_of(saved)
    change, message = HEADERS[case]
    changed = change if case in ("no JSON", "a list", "nested", "twice", "not a number") else None
    rewrite(path, changed or (lambda header: change(header) and None))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        sksae.load(path)
    assert str(path) in str(error.value)


@each_case("case", ARRAYS)
def test_arrays_that_are_refused(case, saved):
    path = copy_of(saved)
    change, message = ARRAYS[case]
    rewrite(path, arrays=change)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        sksae.load(path)
    assert str(path) in str(error.value)


def test_k_must_fit(X, tmp_path):
    path = fit(TopKSAE, X).save(tmp_path / "sae.safetensors")
    for k in (65, 2.5):
        rewrite(path, lambda h, k=k: h["fitted"].update(k_=k))
        with pytest.raises(ValueError, match=f"k_ is {k}"):
            sksae.load(path)


def test_huge_claims_take_no_memory(saved):
    """Shapes and headers that claim more than the file has are refused before they are believed."""
    path, _ = saved
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header["components"]["shape"] = [10**12, 12]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        sksae.load(path)
    path.write_bytes(struct.pack("<Q", 2**62) + raw[8:])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        sksae.load(path)


def test_other_files(saved, tmp_path):
    path, _ = saved
    with pytest.raises(FileNotFoundError, match="no file"):
        sksae.load(tmp_path / "absent")
    with pytest.raises(ValueError, match="is not a file"):
        sksae.load(tmp_path)
    save_file({"a": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(ValueError, match=r"sksae did not write it.*formats\.read"):
        sksae.load(tmp_path / "other")
    raw = path.read_bytes()
    for end in (0, 4, 8, 100, len(raw) - 1):
        path.write_bytes(raw[:end])
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            sksae.load(path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises((OSError, RuntimeError)):
        sksae.load(loop)


def outcome(path):
    """The estimator of a file, or the message of the only error that may come."""
    try:
        return sksae.load(path), None
    except ValueError as error:
        return None, str(error)


FIXTURE = settings(
    max_examples=tries(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FIXTURE
@given(data=st.data())
def test_random_damage_is_an_error_or_the_same_estimator(saved, data):
    """Whatever a few bytes are changed to: a ValueError, or what was saved."""
    path, sae = saved
    raw, expected = bytearray(sae.save(path).read_bytes()), state_of(sksae.load(path))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, min(len(raw) - 1, 4000)))
        kind = data.draw(st.sampled_from(["change", "cut", "insert", "swap"]))
        if kind == "change":
            raw[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del raw[place : place + data.draw(st.integers(1, 50))]
        elif kind == "insert":
            raw[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            raw[place : place + 8] = raw[place : place + 8][::-1]
    path.write_bytes(raw)
    again, message = outcome(path)
    if again is None:
        assert str(path) in message
    else:
        assert state_of(again) == expected


@each_case("position", [0, 1, 300, 623, 624])
def test_every_position_of_a_random_state_comes_back(position, X, tmp_path):
    state = np.random.RandomState(1)
    name, words, *rest = state.get_state()
    state.set_state((name, words, position, *rest[1:]))
    sae = fit(TopKSAE, X).set_params(random_state=state)
    again = sksae.load(sae.save(tmp_path / "sae.safetensors"))
    assert_array_equal(again.random_state.normal(size=700), state.normal(size=700))


@each_case("n_drawn", [0, 1, 2, 622, 623, 624, 625, 1000])
def test_every_position_of_a_generator_is_accepted(n_drawn):
    generator = torch.Generator().manual_seed(0)
    torch.rand(n_drawn, generator=generator)
    check_generator(generator.get_state().numpy())


def test_a_missing_digest_is_an_error(saved):
    path, _ = saved
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata={"sksae": metadata["sksae"]})
    with pytest.raises(ValueError, match=r"it is damaged: its digest"):
        sksae.load(path)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@FIXTURE
@given(data=st.data())
def test_random_headers_are_an_error_or_an_estimator(saved, data):
    path, sae = saved
    sae.save(path)

    def change(header):
        place = header
        while True:
            key = data.draw(st.sampled_from(sorted(place)))
            inner = place[key]
            if not (isinstance(inner, dict) and inner and data.draw(st.booleans())):
                break
            place = inner
        if data.draw(st.booleans()):
            del place[key]
        else:
            place[key] = data.draw(JUNK)

    again, message = outcome(rewrite(path, change))
    if again is None:
        assert str(path) in message
    else:
        assert again.transform(np.zeros((2, 12))).shape == (2, 64)
