import gc
import pickle
import weakref

import pytest
import torch
from sklearn.base import clone

from sksae.language_models import ActivationExtractor
from sksae.language_models.model import load_model
from tests.cases import each_case


def test_clones_and_other_extractors_share_one_model(saved):
    one = ActivationExtractor(saved, 1)
    model, tokenizer = load_model(clone(one))
    assert load_model(one)[0] is model
    assert load_model(one)[1] is tokenizer
    assert load_model(clone(one).set_params(layer=2))[0] is model
    assert load_model(ActivationExtractor(str(saved), 0))[0] is model
    assert not model.training


def test_a_model_loaded_by_a_clone_outlives_it(saved):
    original = ActivationExtractor(saved, 1)
    reference = weakref.ref(load_model(clone(original))[0])
    gc.collect()
    assert reference() is not None
    del original
    gc.collect()
    assert reference() is None


def test_loaded_models_stay_out_of_the_estimator(saved):
    extractor = ActivationExtractor(saved, 1)
    before = dict(extractor.__dict__)
    extractor.transform(["hello"])
    assert extractor.__dict__ == before
    assert len(pickle.dumps(extractor)) < 2000


def test_dtype_and_tokenizer_by_path(saved):
    model, tokenizer = load_model(
        ActivationExtractor(saved, 1, tokenizer=str(saved), dtype="bfloat16", device="cpu")
    )
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert tokenizer("hello").input_ids


@each_case("name", ["/no/such/model", "./missing", "~/missing", "a/b/c", "a\\b"])
def test_paths_that_do_not_exist_are_no_downloads(name):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load_model(ActivationExtractor(name, 1))


def test_missing_path_objects_are_no_downloads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder 'missing'"):
        load_model(ActivationExtractor(type(tmp_path)("missing"), 1))


def test_loading_leaves_the_random_stream_alone(saved, tmp_path, bert, wordpiece):
    state = {k: v for k, v in bert.state_dict().items() if not k.startswith("pooler")}
    bert.save_pretrained(tmp_path, state_dict=state)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_model(ActivationExtractor(tmp_path, 1, tokenizer=wordpiece))
    assert torch.equal(torch.rand(1), expected)
