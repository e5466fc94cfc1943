"""Graphs of circuit-tracer of tiny random models, as files that tests compare with.

    python tests/golden/circuit_tracer/make.py

needs circuit-tracer 0.5.0, transformer-lens 2.16 and transformers 4.57, which cannot be installed
beside what sksae needs.
"""

import importlib.machinery
import sys
import types
from pathlib import Path

import numpy as np
import torch
import transformers

# transformer-lens imports it for training, which is not done here.
sys.modules["wandb"] = types.ModuleType("wandb")
sys.modules["wandb"].__spec__ = importlib.machinery.ModuleSpec("wandb", None)

from circuit_tracer.attribution.attribute import attribute  # noqa: E402
from circuit_tracer.graph import compute_graph_scores, prune_graph  # noqa: E402
from circuit_tracer.replacement_model.replacement_model_transformerlens import (  # noqa: E402
    TransformerLensReplacementModel,
)
from circuit_tracer.transcoder import TranscoderSet  # noqa: E402
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder  # noqa: E402
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder  # noqa: E402
from transformer_lens import HookedTransformer, HookedTransformerConfig  # noqa: E402
from transformer_lens.pretrained.weight_conversions.gemma import (  # noqa: E402
    convert_gemma_weights,
)
from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights  # noqa: E402
from transformer_lens.pretrained.weight_conversions.llama import (  # noqa: E402
    convert_llama_weights,
)

PROMPT = torch.tensor([0, 9, 30, 7, 44, 12])  # 0 is a special token
N_LAYERS, WIDTH, N_FEATURES, VOCABULARY = 3, 16, 12, 48
SHAPE = {
    "d_model": WIDTH, "d_head": 8, "n_heads": 2, "n_layers": N_LAYERS, "n_ctx": 32,
    "d_vocab": VOCABULARY,
}  # fmt: skip
ROTARY = {
    "d_mlp": 24, "gated_mlp": True, "positional_embedding_type": "rotary", "rotary_dim": 8,
    "rotary_base": 10000, "final_rms": True, "normalization_type": "RMS", "n_key_value_heads": 1,
    "rotary_adjacent_pairs": False,
}  # fmt: skip
COMMON = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
GROUPED = {**COMMON, "hidden_size": WIDTH, "num_hidden_layers": N_LAYERS, "intermediate_size": 24,
           "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32,
           "head_dim": 8, "pad_token_id": 0}  # fmt: skip
CASES = {
    "gpt2": (
        transformers.GPT2Config(**COMMON, n_embd=WIDTH, n_layer=N_LAYERS, n_head=2, n_positions=32),
        convert_gpt2_weights,
        {"d_mlp": 64, "act_fn": "gelu_new", "normalization_type": "LN", "eps": 1e-5},
        ("mlp.hook_in", "mlp.hook_out", False),
    ),
    "llama": (
        transformers.LlamaConfig(**GROUPED),
        convert_llama_weights,
        {**ROTARY, "act_fn": "silu", "eps": 1e-6},
        ("hook_resid_mid", "hook_mlp_out", True),
    ),
    "gemma2": (
        transformers.Gemma2Config(**GROUPED, query_pre_attn_scalar=8),
        convert_gemma_weights,
        {**ROTARY, "act_fn": "gelu_pytorch_tanh", "eps": 1e-6, "attn_scores_soft_cap": 50.0,
         "output_logits_soft_cap": 30.0, "use_normalization_before_and_after": True,
         "use_local_attn": True, "window_size": 4096, "attn_types": ["local", "global", "local"]},
        ("mlp.hook_in", "hook_mlp_out", False),
    ),
}  # fmt: skip
# The same model as "gpt2", with a cross-layer transcoder.
CASES["gpt2_across"] = CASES["gpt2"]


class Tokenizer:
    """As much of a tokenizer as there must be."""

    all_special_ids = (0,)
    vocab_size = VOCABULARY
    padding_side = "right"
    bos_token_id = eos_token_id = pad_token_id = 0

    def decode(self, ids):
        return str(ids)


def rounded(x):
    return x.to(torch.float16).to(torch.float32)


def transcoders_of(read, write, skip, generator):
    made = {}
    for layer in range(N_LAYERS):
        one = SingleLayerTranscoder(
            WIDTH, N_FEATURES, torch.nn.ReLU(), layer, skip, device=torch.device("cpu"),
            dtype=torch.float32,
        )  # fmt: skip
        with torch.no_grad():
            for name, x in one.named_parameters():
                x.copy_(
                    rounded(
                        torch.randn(x.shape, generator=generator) / (4 if "skip" in name else 1)
                    )
                )
            one.b_enc -= 2.0
        made[layer] = one
    return TranscoderSet(made, read, write, scan="random")


def across_layers(read, write, generator):
    one = CrossLayerTranscoder(
        N_LAYERS, N_FEATURES, WIDTH, lazy_decoder=False, feature_input_hook=read,
        feature_output_hook=write, scan="random", device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip
    with torch.no_grad():
        for x in one.parameters():
            x.copy_(rounded(torch.randn(x.shape, generator=generator)))
        one.b_enc -= 2.0
    return one


def main(folder):
    for kind, (config, convert, settings, (read, write, skip)) in CASES.items():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        model.eval()
        with torch.no_grad():
            for x in model.parameters():
                x.copy_(rounded(x + 0.2 * torch.randn_like(x)))
        hooked = HookedTransformer(
            HookedTransformerConfig(**{**SHAPE, **settings}, device="cpu", tokenizer_name=None)
        )
        state = convert(model, hooked.cfg)
        hooked.load_and_process_state_dict(
            state, fold_ln=False, center_writing_weights=False, center_unembed=False,
            fold_value_biases=False,
        )  # fmt: skip
        ids = PROMPT[None]
        with torch.no_grad():
            difference = (model(ids).logits - hooked(ids)).abs().max()
        print(kind, float(difference))
        hooked.tokenizer = Tokenizer()
        hooked.__class__ = TransformerLensReplacementModel
        generator = torch.Generator().manual_seed(1)
        if kind.endswith("across"):
            transcoders = across_layers(read, write, generator)
        else:
            transcoders = transcoders_of(read, write, skip, generator)
        hooked._configure_replacement_model(transcoders)
        arrays = {f"model/{name}": x.half() for name, x in model.state_dict().items()}
        for name, x in transcoders.state_dict().items():
            arrays[f"transcoders/{name.removeprefix('transcoders.')}"] = x
        for name, budget in (("all", None), ("some", 24)):
            graph = attribute(
                PROMPT, hooked, max_n_logits=3, batch_size=4, max_feature_nodes=budget,
                update_interval=4,
            )  # fmt: skip
            nodes, edges, cumulative = prune_graph(graph, 0.6, 0.9)
            arrays |= {
                f"{name}/features": graph.active_features[graph.selected_features],
                f"{name}/activation": graph.activation_values[graph.selected_features],
                f"{name}/adjacency": graph.adjacency_matrix,
                f"{name}/logits": graph.logit_token_ids,
                f"{name}/probabilities": graph.logit_probabilities,
                f"{name}/nodes": nodes,
                f"{name}/edges": edges,
                f"{name}/cumulative": cumulative,
                f"{name}/scores": torch.tensor(compute_graph_scores(graph)),
            }
            print(
                name,
                graph.adjacency_matrix.shape,
                int(nodes.sum()),
                int(edges.sum()),
                compute_graph_scores(graph),
            )
        np.savez_compressed(
            folder / f"{kind}.npz", **{name: x.detach().numpy() for name, x in arrays.items()}
        )


if __name__ == "__main__":
    main(Path(__file__).parent)
