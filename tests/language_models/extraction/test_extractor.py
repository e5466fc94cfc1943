import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from sksae.language_models import ActivationExtractor
from tests.cases import each_case

TEXTS = ["The cat sat on the mat.", "hello", "희소 특징 👩", "a dog and a log and a cat and a mat"]
LONG = "the cat sat on the mat and " * 12


def hidden_states(model, tokenizer, text, layer):
    """What transformers says enters block `layer`, for one text without padding."""
    with torch.no_grad():
        output = model(**tokenizer([text], return_tensors="pt"), output_hidden_states=True)
    return output.hidden_states[layer][0].numpy()


@pytest.fixture(scope="module")
def extractor(gpt2, bpe):
    return ActivationExtractor(gpt2, 1, tokenizer=bpe, drop_first_position=False)


# Values


def test_rows_are_the_hidden_states(extractor, gpt2, bpe):
    rows, tokens = extractor.extract(TEXTS)
    assert rows.dtype == np.float32
    expected = [hidden_states(gpt2, bpe, text, 2) for text in TEXTS]
    np.testing.assert_allclose(rows, np.concatenate(expected), atol=1e-5)
    assert tokens.text.tolist() == [i for i, x in enumerate(expected) for _ in x]
    np.testing.assert_array_equal(extractor.transform(TEXTS), rows)


def test_special_tokens_are_no_rows(bert, wordpiece):
    texts = ["the cat", "hello hello world ."]
    expected = [hidden_states(bert, wordpiece, text, 1) for text in texts]
    extractor = ActivationExtractor(bert, 1, "resid_pre", tokenizer=wordpiece)
    inner = np.concatenate([states[1:-1] for states in expected])
    np.testing.assert_allclose(extractor.transform(texts), inner, atol=1e-5)
    extractor.set_params(include_special_tokens=True)
    np.testing.assert_allclose(extractor.transform(texts), np.concatenate(expected), atol=1e-5)
    extractor.set_params(pooling="first")
    np.testing.assert_allclose(extractor.transform(texts), [e[0] for e in expected], atol=1e-5)


def test_first_positions_are_left_out(gpt2, bpe):
    rows = ActivationExtractor(gpt2, 1, tokenizer=bpe).transform(TEXTS)
    expected = [hidden_states(gpt2, bpe, text, 2)[1:] for text in TEXTS]
    np.testing.assert_allclose(rows, np.concatenate(expected), atol=1e-5)


@each_case(
    "pooling, expected",
    [
        ("mean", lambda x: x.mean(0)),
        ("max", lambda x: x.max(0)),
        ("first", lambda x: x[0]),
        ("last", lambda x: x[-1]),
    ],
)
def test_pooled_rows_follow_from_token_rows(extractor, pooling, expected):
    texts = [*TEXTS, LONG]
    rows, tokens = extractor.extract(texts)
    pooled = clone(extractor).set_params(pooling=pooling, batch_tokens=40)
    wanted = [expected(rows[tokens.text == i]) for i in range(len(texts))]
    np.testing.assert_allclose(pooled.transform(texts), wanted, atol=1e-5)
    # The rows of the tokens are there whatever the pooling is.
    assert pooled.extract(texts)[0].shape == rows.shape


# Batches and windows


@each_case("kind", ["gpt2", "llama", "bert", "roberta"])
def test_other_texts_and_batches_change_nothing(kind, tiny, bpe, wordpiece):
    tokenizer = wordpiece if kind == "bert" else bpe
    extractor = ActivationExtractor(tiny(kind), -1, tokenizer=tokenizer)
    texts = [*TEXTS, LONG]
    alone = np.concatenate([extractor.transform([text]) for text in texts])
    for batch_tokens in (1, 50, 10**6):
        rows = extractor.set_params(batch_tokens=batch_tokens).transform(texts)
        np.testing.assert_allclose(rows, alone, atol=2e-5)


def test_the_order_of_the_texts_is_kept(extractor):
    texts = ["a", LONG, "the cat", "", "hello world " * 5]
    rows, tokens = extractor.extract(texts)
    for i, text in enumerate(texts):
        np.testing.assert_allclose(rows[tokens.text == i], extractor.transform([text]), atol=1e-5)
    assert np.all(np.diff(tokens.text) >= 0)


def test_long_texts_are_cut_into_windows_of_the_context(extractor, gpt2, bpe):
    ids = bpe(LONG).input_ids
    assert len(ids) > 64  # three windows of a context of 32
    rows, tokens = extractor.extract(["x", LONG])
    tokens, rows = tokens[tokens.text == 1], rows[tokens.text == 1]
    assert tokens.position.tolist() == list(range(len(ids)))
    assert tokens.id.tolist() == ids
    assert "".join(tokens.string) == LONG
    for begin in range(0, len(ids), 32):
        with torch.no_grad():
            states = gpt2(torch.tensor([ids[begin : begin + 32]]), output_hidden_states=True)
        np.testing.assert_allclose(
            rows[begin : begin + 32], states.hidden_states[2][0].numpy(), atol=1e-5
        )


def test_shorter_windows(extractor):
    short = clone(extractor).set_params(max_length=5)
    rows, tokens = short.extract([LONG])
    np.testing.assert_allclose(rows[:5], extractor.transform([LONG[: tokens.end[4]]]), atol=1e-5)
    assert len(rows) == len(extractor.transform([LONG]))
    with pytest.raises(ValueError, match="max_length=33 is more than the 32 positions"):
        short.set_params(max_length=33).transform(["a"])


def test_positions_of_roberta_start_after_the_padding_id(tiny, bpe):
    # 32 positions, of which RoBERTa leaves the first two unused.
    extractor = ActivationExtractor(tiny("roberta"), 0, tokenizer=bpe, drop_first_position=False)
    assert len(extractor.transform([LONG])) == len(bpe(LONG).input_ids)
    with pytest.raises(ValueError, match="more than the 30 positions"):
        extractor.set_params(max_length=31).transform(["a"])


def test_the_limit_of_the_tokenizer_counts(gpt2, trained):
    tokenizer = trained()
    tokenizer.model_max_length = 7
    short = ActivationExtractor(gpt2, 1, tokenizer=tokenizer)
    same = ActivationExtractor(gpt2, 1, tokenizer=trained(), max_length=7)
    np.testing.assert_array_equal(short.transform([LONG]), same.transform([LONG]))


def test_tokenizers_are_left_alone(gpt2, trained):
    tokenizer = trained()
    tokenizer.padding_side, tokenizer.truncation_side = "left", "left"
    tokenizer.pad_token = "<|endoftext|>"
    before = tokenizer(TEXTS, padding=True).input_ids
    rows = ActivationExtractor(gpt2, 1, tokenizer=tokenizer).transform(TEXTS)
    assert tokenizer.padding_side == "left"
    assert tokenizer(TEXTS, padding=True).input_ids == before
    np.testing.assert_array_equal(
        rows, ActivationExtractor(gpt2, 1, tokenizer=trained()).transform(TEXTS)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_give_float32_rows(tiny, bpe, dtype):
    rest = {"tokenizer": bpe, "drop_first_position": False}
    full = ActivationExtractor(tiny("llama"), 1, **rest)
    half = ActivationExtractor(tiny("llama").to(dtype), 1, **rest)
    for pooling in (None, "mean"):
        exact = full.set_params(pooling=pooling).transform(TEXTS)
        rows = half.set_params(pooling=pooling).transform(TEXTS)
        assert rows.dtype == np.float32
        assert np.abs(rows - exact).mean() < 0.05 * np.abs(exact).mean()


def test_no_rows(extractor):
    for texts in ([], [""], ["", ""], ["<|endoftext|>"]):
        rows, tokens = extractor.extract(texts)
        assert rows.shape == (0, 16)
        assert rows.dtype == np.float32
        assert len(tokens) == 0
    assert clone(extractor).set_params(pooling="max").transform([]).shape == (0, 16)


def test_texts_without_tokens_cannot_be_pooled(extractor):
    mean = clone(extractor).set_params(pooling="mean")
    with pytest.raises(ValueError, match=r"without tokens: X\[1\] and 1 more\."):
        mean.transform(["a", "", "b", "<|endoftext|>"])
    with pytest.raises(ValueError, match=r"without tokens: X\[0\]\..*drop_first_position=False"):
        mean.set_params(drop_first_position=True).transform(["a", "a cat"])


def test_literal_special_tokens_are_no_rows(extractor):
    _, tokens = extractor.extract(["hello<|endoftext|>world"])
    assert "".join(tokens.string) == "helloworld"
    assert tokens.start[0] == 0
    assert tokens.end[-1] == 23


def test_module_paths_of_any_width(gpt2, bpe):
    extractor = ActivationExtractor(
        gpt2, site="transformer.h.1.mlp.c_fc", tokenizer=bpe, drop_first_position=False
    )
    assert extractor.transform(["hello world"]).shape == (2, 64)
    assert extractor.transform([]).shape == (0, 64)
    assert len(extractor.get_feature_names_out()) == 64


def test_modules_without_one_row_a_token_are_refused(tiny, bert, bpe, wordpiece):
    pooler = ActivationExtractor(bert, site="pooler", tokenizer=wordpiece)
    with pytest.raises(ValueError, match=r"module 'pooler' has shape \(1, 16\) for 1 sequences"):
        pooler.transform(["the cat"])
    rotary = ActivationExtractor(tiny("llama"), site="norm.missing", tokenizer=bpe)
    with pytest.raises(ValueError, match="neither one of"):
        rotary.transform(["a"])


# scikit-learn


@each_case(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_mixin_order,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ],
)
def test_what_scikit_learn_checks_without_data(check, extractor):
    # The common tests leave estimators of texts out, but for these.
    for estimator in (ActivationExtractor("name", 0), clone(extractor)):
        check("ActivationExtractor", estimator)


def test_clone_never_copies_the_model(extractor, gpt2, bpe):
    pipeline = make_pipeline(clone(extractor), LogisticRegression())
    for twin in (clone(extractor), clone(pipeline)[0], clone(clone(extractor))):
        assert twin is not extractor
        assert twin.model is gpt2
        assert twin.tokenizer is bpe
        assert twin.get_params() == extractor.get_params()


def test_clone_keeps_the_output_container(extractor):
    twin = clone(clone(extractor).set_params(pooling="mean").set_output(transform="pandas"))
    frame = twin.fit_transform(["hello", "the cat"])
    assert isinstance(frame, pd.DataFrame)
    assert frame.shape == (2, 16)
    assert list(frame)[:2] == ["activationextractor0", "activationextractor1"]
    assert list(twin.get_feature_names_out()) == list(frame)
    # One row a token fits a frame as well.
    assert len(twin.set_params(pooling=None).transform(["hello world"])) == 2


def test_grid_search_over_layers(extractor):
    texts, y = ["the cat", "hello"] * 3, [0, 1] * 3
    pipeline = make_pipeline(clone(extractor).set_params(pooling="mean"), LogisticRegression())
    grid = {"activationextractor__layer": [0, 2], "activationextractor__site": ["resid_post"]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(texts, y)
    assert search.best_score_ == 1
    assert search.best_estimator_[0].model is extractor.model
    assert search.predict(["hello"]).tolist() == [1]


def test_a_name_in_a_pickle_and_a_model_without_one(extractor, saved, tiny):
    named = ActivationExtractor(saved, 1, device="cpu").fit(TEXTS)
    expected = named.transform(TEXTS)
    data = pickle.dumps(named)
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data).transform(TEXTS), expected)
    same = clone(extractor).set_params(drop_first_position=True)
    np.testing.assert_allclose(expected, same.transform(TEXTS), atol=1e-6)
    # transformers leaves a hook that cannot be pickled once output_hidden_states was asked for.
    again = pickle.loads(pickle.dumps(clone(same).set_params(model=tiny("gpt2"))))
    np.testing.assert_array_equal(again.transform(TEXTS), expected)


def refuse_to_be_copied(*_):
    raise AssertionError("the model was copied")


@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForCausalLM"])
def test_a_model_that_has_a_name_is_in_no_pickle(auto, saved, bpe, monkeypatch):
    model = getattr(transformers, auto).from_pretrained(saved, dtype="float16")

    monkeypatch.setattr(type(model), "__reduce_ex__", refuse_to_be_copied)
    monkeypatch.setattr(type(model), "__deepcopy__", refuse_to_be_copied, raising=False)
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    expected = extractor.transform(TEXTS)
    assert copy.copy(extractor).model is model
    assert copy.deepcopy(extractor).model is model
    again = pickle.loads(pickle.dumps(extractor))
    assert (again.model, again.dtype) == (str(saved), "float16")
    np.testing.assert_array_equal(clone(again).transform(TEXTS), expected)


@pytest.mark.slow
def test_a_search_in_processes_copies_no_model_that_has_a_name(saved, bpe, monkeypatch):
    model = transformers.AutoModel.from_pretrained(saved)
    monkeypatch.setattr(type(model), "__reduce_ex__", refuse_to_be_copied)
    pooled = ActivationExtractor(model, 1, tokenizer=bpe, pooling="mean", drop_first_position=False)
    search = GridSearchCV(make_pipeline(pooled, LogisticRegression()), {}, cv=2, n_jobs=2)
    search.fit(TEXTS * 2, [0, 1, 0, 1] * 2)


def test_a_model_that_was_changed_after_loading_does_not_come_back_unnoticed(saved, bpe):
    model = transformers.AutoModel.from_pretrained(saved)
    with torch.no_grad():
        model.h[2].mlp.c_fc.weight.mul_(1.01)
    again = pickle.loads(pickle.dumps(ActivationExtractor(model, 1, tokenizer=bpe)))
    for one in (again, clone(again)):
        with pytest.raises(ValueError, match=r"not those of the model.*save_pretrained"):
            one.transform(TEXTS)
    # Another model is asked for on purpose.
    again.set_params(model=saved).transform(TEXTS)


def test_fit_is_optional_and_learns_nothing(extractor):
    fresh = clone(extractor)
    before = dict(fresh.__dict__)
    assert fresh.fit(TEXTS) is fresh
    assert fresh.__dict__ == before
    np.testing.assert_array_equal(fresh.transform(TEXTS), clone(extractor).transform(TEXTS))
    assert ActivationExtractor("no/such-model-anywhere", 1).fit(TEXTS) is not None


def test_texts_may_come_in_any_container(extractor):
    expected = extractor.transform(TEXTS)
    for texts in (tuple(TEXTS), np.array(TEXTS), pd.Series(TEXTS), iter(TEXTS)):
        np.testing.assert_array_equal(extractor.transform(texts), expected)


def test_same_bits_again(extractor):
    np.testing.assert_array_equal(extractor.transform(TEXTS), extractor.transform(TEXTS))


@each_case(
    "parameters, message",
    [
        ({"model": 3}, "'model' parameter.*name or the path of a Hugging"),
        ({"model": torch.nn.Linear(2, 2)}, "'model' parameter.*Hugging Face model"),
        ({"tokenizer": 3}, "'tokenizer' parameter.*name or the path"),
        ({"layer": 1.5}, "'layer' parameter"),
        ({"site": None}, "'site' parameter"),
        ({"pooling": "sum"}, "'pooling' parameter.*'mean'"),
        ({"batch_tokens": 0}, "'batch_tokens' parameter"),
        ({"max_length": 0}, "'max_length' parameter"),
        ({"tokenizer": None}, "'tokenizer' parameter is needed"),
        ({"device": "cpu"}, r"leave device='auto'.*model.to\('cpu'\)"),
        ({"dtype": "float32"}, "leave dtype='auto'"),
    ],
)
def test_bad_parameters(extractor, parameters, message):
    bad = clone(extractor).set_params(**parameters)
    for method in (bad.fit, bad.transform, bad.extract):
        with pytest.raises(ValueError, match=message):
            method(TEXTS)


def test_bad_texts(extractor):
    for method in (extractor.transform, extractor.extract):
        with pytest.raises(ValueError, match=r"X\[1\] is None"):
            method(["a", None])


def test_fit_refuses_a_single_text(extractor):
    with pytest.raises(ValueError, match="wrap it"):
        extractor.fit("one text")


def test_a_tokenizer_of_another_model_is_noticed(tiny, trained):
    tokenizer = trained()
    tokenizer.add_tokens([f"word{i}" for i in range(100)])
    extractor = ActivationExtractor(tiny("gpt2"), 0, tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"tokenizer does not belong to the model.*384 tokens"):
        extractor.transform(["word99"])


def test_slow_tokenizers(tiny):
    tokenizer = transformers.ByT5Tokenizer()
    assert not tokenizer.is_fast
    extractor = ActivationExtractor(tiny("gpt2"), 0, tokenizer=tokenizer, drop_first_position=False)
    rows, tokens = extractor.extract(["특a", "b👩"])
    assert tokens.string.tolist() == ["특", "특", "특", "a", "b", *["👩"] * 4]
    assert tokens.group.tolist() == [0, 0, 0, 3, 0, 1, 1, 1, 1]
    assert rows.shape == (9, 16)


def test_progress_is_shown_on_request(extractor, capsys):
    extractor.transform(TEXTS)
    assert capsys.readouterr().out == ""
    clone(extractor).set_params(verbose=1, batch_tokens=8).transform(["hello", "the cat"])
    out = capsys.readouterr().out
    assert " 4/4 [" in out
    assert out.endswith(" tokens/s]\n")
