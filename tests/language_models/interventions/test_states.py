"""Models that keep a state instead of keys and values: every step is as it is without the state."""

import numpy as np
import pytest
import torch
import transformers

from sksae import TopKSAE
from sksae.language_models import steer
from tests.cases import each_case

SMALL = {
    "vocab_size": 320,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HYBRID = ["linear_attention", "full_attention", "linear_attention"]
# By the type of a model: what makes it small.
KINDS = {
    "mamba": {"state_size": 4},  # states only, in a cache that has no length
    "rwkv": {"attention_hidden_size": 64, "context_length": 32},  # a list of tensors
    "xlstm": {"num_heads": 4, "num_blocks": 3, "qk_dim_factor": 1.0, "mode": "inference"},
    "minimax": {"layer_types": HYBRID, "num_local_experts": 2, "head_dim": 8, "block_size": 4},
    "recurrent_gemma": {"lru_width": 64, "attention_window_size": 8, "head_dim": 16},  # in modules
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "mamba_d_state": 4,
        "use_mamba_kernels": False,
    },
}
PROMPT = torch.tensor([[5, 6, 7, 8, 9, 10]])
N_PROMPT, N_NEW = PROMPT.shape[1], 5
WHERE = {
    "all": "all",
    "last": "last",
    "generated": "generated",
    "positions": [1, -1],
    "mask": np.array([[False, False, True, False, False, True]]),
}
# The columns of each in the prompt and after it.
COLUMNS = {
    "all": set(range(N_PROMPT + N_NEW - 1)),
    "last": set(range(N_PROMPT - 1, N_PROMPT + N_NEW - 1)),
    "generated": set(range(N_PROMPT, N_PROMPT + N_NEW - 1)),
    "positions": {1, 5},
    "mask": {2, 5},
}


@pytest.fixture(scope="module")
def topk():
    X = np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32)
    return TopKSAE(24, k=8, max_iter=1, random_state=0).fit(X)


@pytest.fixture(scope="module", params=KINDS)
def lm(request):
    kind = request.param
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, **KINDS[kind]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def generate(model, **options):
    options = {"min_new_tokens": N_NEW, "max_new_tokens": N_NEW, "do_sample": False, **options}
    mask = torch.ones_like(PROMPT)
    with torch.no_grad():
        return model.generate(PROMPT, attention_mask=mask, **options)[0].tolist()


@pytest.mark.filterwarnings("ignore")  # that fast kernels are not installed
@each_case("where", WHERE)
def test_each_step_is_what_a_plain_hook_on_columns_does(lm, topk, where):
    added = 30 * torch.from_numpy(topk.components_[3] / np.linalg.norm(topk.components_[3]))
    block = steer(lm, "1.resid_post", topk, {3: 30.0}, where=WHERE[where])
    with block:
        stepwise, whole = generate(lm), generate(lm, use_cache=False)
        again = generate(lm)
    assert stepwise == whole == again

    def add(_module, _args, output):
        x = output if isinstance(output, torch.Tensor) else output[0]
        columns = sorted(c for c in COLUMNS[where] if c < x.shape[1])
        x = x.clone()
        x[:, columns] += added.to(x.dtype)
        return x if isinstance(output, torch.Tensor) else (x, *output[1:])

    blocks = next(
        module
        for module in lm.base_model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == 3
    )
    handle = blocks[1].register_forward_hook(add)
    expected = generate(lm, use_cache=False)
    handle.remove()
    assert stepwise == expected


@pytest.mark.filterwarnings("ignore")
def test_a_state_of_before_the_block_has_no_positions(topk):
    config = transformers.AutoConfig.for_model("mamba", **{**SMALL, **KINDS["mamba"]})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    state = {"cache_params": model(PROMPT, use_cache=True).cache_params, "use_cache": True}
    with steer(model, "1.resid_post", topk, {3: 30.0}):
        model(PROMPT[:, :1], **state)
    with steer(model, "1.resid_post", topk, {3: 30.0}, where=[0]):
        with pytest.raises(ValueError, match="a state that was made outside of the block"):
            model(PROMPT[:, :1], **state)
        # From a prompt on they are known again.
        state["cache_params"] = model(PROMPT, use_cache=True).cache_params
        model(PROMPT[:, :1], **state)
