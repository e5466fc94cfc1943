"""Table of model families: the modules inside a block, one row per family.

Checked against transformers 5.23 by `tests/language_models/model/test_sites.py`, which builds every
family with random weights and adds the parts up.
"""

from typing import NamedTuple


class Family(NamedTuple):
    """Module paths inside one block.

    Parameters
    ----------
    attn_out, mlp_out : str
        Modules whose output is added to the residual stream: in families that normalise after the
        sublayer the norm, not the sublayer.
    middle : str, default=None
        The module whose input is the stream between attention and MLP.
    parallel : bool or tuple of str, default=False
        Whether attention and MLP both read the block's input and are added together, or the flags
        of the configuration one of which says so.
    norms : tuple of str, default=()
        The norms on the stream itself, after attention and after the MLP, in models that normalise
        sums (BERT).
    multiplier : str, default=None
        The configuration's factor of everything that is added to the stream.
    adds_stream : bool, default=False
        Whether the outputs of attention and MLP have the stream added already.
    flat_mlp : bool, default=False
        Whether the MLP sees all sequences as one, (n_sequences * n_tokens, n_features).
    """

    attn_out: str
    mlp_out: str
    middle: str | None = None
    parallel: bool | tuple = False
    norms: tuple = ()
    multiplier: str | None = None
    adds_stream: bool = False
    flat_mlp: bool = False


# A norm in front of each sublayer, whose output goes into the stream as it is.
_LLAMA = Family("self_attn", "mlp", "post_attention_layernorm")
_GPT2 = Family("attn", "mlp", "ln_2")
_PARALLEL = Family("self_attn", "mlp", parallel=True)  # both sublayers read the input of the block
# Norms before and after each sublayer.
_SANDWICH = Family(
    "post_attention_layernorm", "post_feedforward_layernorm", "pre_feedforward_layernorm"
)
# Norms after each sublayer, before its output goes into the stream.
_POST_NORM = Family("post_attention_layernorm", "post_feedforward_layernorm", "mlp")
# Norms of the sums of stream and sublayer.
_BERT = Family(
    "attention.output.dense",
    "output.dense",
    "intermediate",
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
)
_CLIP = Family("self_attn", "mlp", "layer_norm2")
# Its MLP works on the tokens of all sequences as one.
_OPT = Family("self_attn", "fc2", "final_layer_norm", flat_mlp=True)
_OPT_POST_NORM = _OPT._replace(middle="fc1", norms=("self_attn_layer_norm", "final_layer_norm"))

FAMILIES = {
    "bert": _BERT,
    "bloom": Family("self_attention", "mlp", "post_attention_layernorm", adds_stream=True),
    "clip_text_model": _CLIP,
    "clip_vision_model": _CLIP,
    "cohere": _PARALLEL,
    "dinov2": Family("layer_scale1", "layer_scale2", "norm2"),
    "distilbert": Family("attention", "ffn", "ffn", norms=("sa_layer_norm", "output_layer_norm")),
    "falcon": Family(
        "self_attention",
        "mlp",
        "post_attention_layernorm",
        # One of two flags, by the age of the model.
        parallel=("parallel_attn", "new_decoder_architecture"),
    ),
    "gemma": _LLAMA,
    "gemma2": _SANDWICH,
    "gemma3_text": _SANDWICH,
    "gpt2": _GPT2,
    "gpt_neo": _GPT2,
    "gpt_neox": Family(
        "attention", "mlp", "post_attention_layernorm", parallel=("use_parallel_residual",)
    ),
    "gpt_oss": _LLAMA,
    "gptj": Family("attn", "mlp", parallel=True),
    "granite": _LLAMA._replace(multiplier="residual_multiplier"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "modernbert": Family("attn", "mlp", "mlp_norm"),
    "olmo2": _POST_NORM,
    "opt": _OPT,
    "phi": _PARALLEL,
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "qwen3_moe": _LLAMA,
    "roberta": _BERT,
    "siglip_vision_model": _CLIP,
    "stablelm": _LLAMA._replace(parallel=("use_parallel_residual",)),
    "vit": Family("attention", "mlp", "layernorm_after"),
}
"""Families by ``config.model_type``."""


def family_of(config):
    """Return the `Family` of a configuration, its flags resolved, or None if it is not known."""
    kind = getattr(config, "model_type", None)
    family = FAMILIES.get(kind)
    if kind == "opt" and not config.do_layer_norm_before:
        family = _OPT_POST_NORM
    if family is None or isinstance(family.parallel, bool):
        return family
    flags = tuple(flag for flag in family.parallel if getattr(config, flag, False))
    return family._replace(parallel=flags or False)
