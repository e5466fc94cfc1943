"""A tiny model of each family: three blocks of width 16, weights far from zero."""

import torch
import transformers

TOKENS = {"vocab_size": 384, "bos_token_id": 0, "eos_token_id": 0}
STACK = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
SMALL = {**TOKENS, **STACK, "intermediate_size": 24, "max_position_embeddings": 32}
SMALL["pad_token_id"] = 0
GROUPED = {**SMALL, "num_key_value_heads": 1}
HEADS = {**GROUPED, "head_dim": 8}
GEMMA = {**HEADS, "query_pre_attn_scalar": 8}
EXPERTS = {**HEADS, "num_experts_per_tok": 2}
GPT = {**TOKENS, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32}
BLOOM = {**TOKENS, "hidden_size": 16, "n_layer": 3, "n_head": 2}
DISTIL = {"vocab_size": 384, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24}
FALCON = {**TOKENS, **STACK}
OPT = {**SMALL, "ffn_dim": 24, "word_embed_proj_dim": 16}
NEO = {**TOKENS, "hidden_size": 16, "num_layers": 3, "num_heads": 2, "intermediate_size": 24}
NEO |= {"attention_types": [[["global", "local", "global"], 1]], "max_position_embeddings": 32}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
IMAGE = {**STACK, "intermediate_size": 24, "image_size": 12, "patch_size": 4}

# By a name of ours: the type that transformers knows, and what makes it small.
CONFIGS = {
    "bert": ("bert", SMALL),
    "bloom": ("bloom", BLOOM),
    "bloom_post_norm": ("bloom", {**BLOOM, "apply_residual_connection_post_layernorm": True}),
    "clip_text": ("clip_text_model", {**SMALL, "projection_dim": 16, "eos_token_id": 2}),
    "clip_vision": ("clip_vision_model", {**IMAGE, "projection_dim": 16}),
    "cohere": ("cohere", GROUPED),
    "dinov2": ("dinov2", {**IMAGE, "mlp_ratio": 2}),
    "distilbert": ("distilbert", {**DISTIL, "max_position_embeddings": 32}),
    "falcon": ("falcon", FALCON),
    "falcon_new": ("falcon", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_serial": ("falcon", {**FALCON, "parallel_attn": False, "alibi": True}),
    "gemma": ("gemma", HEADS),
    "gemma2": ("gemma2", GEMMA),
    "gemma3": ("gemma3_text", GEMMA),
    "gpt2": ("gpt2", GPT),
    "gpt_neo": ("gpt_neo", NEO),
    "gpt_oss": ("gpt_oss", {**EXPERTS, "num_local_experts": 4, "rope_parameters": ROPE}),
    "gptj": ("gptj", {**GPT, "rotary_dim": 4}),
    "granite": ("granite", {**GROUPED, "residual_multiplier": 0.3, "logits_scaling": 4.0}),
    "llama": ("llama", GROUPED),
    "mistral": ("mistral", GROUPED),
    "mixtral": ("mixtral", {**GROUPED, "num_local_experts": 4}),
    "modernbert": ("modernbert", {**SMALL, "cls_token_id": 0, "sep_token_id": 0}),
    "neox_parallel": ("gpt_neox", {**SMALL, "use_parallel_residual": True}),
    "neox_serial": ("gpt_neox", {**SMALL, "use_parallel_residual": False}),
    "olmo2": ("olmo2", GROUPED),
    "opt": ("opt", OPT),
    "opt_post_norm": ("opt", {**OPT, "do_layer_norm_before": False}),
    "phi": ("phi", GROUPED),
    "phi3": ("phi3", GROUPED),
    "qwen2": ("qwen2", GROUPED),
    "qwen3": ("qwen3", HEADS),
    "qwen3_moe": ("qwen3_moe", {**EXPERTS, "num_experts": 4, "moe_intermediate_size": 24}),
    "roberta": ("roberta", {**SMALL, "pad_token_id": 1}),
    "siglip_vision": ("siglip_vision_model", IMAGE),
    "stablelm": ("stablelm", {**GROUPED, "use_parallel_residual": False}),
    "stablelm_parallel": ("stablelm", {**GROUPED, "use_parallel_residual": True}),
    "vit": ("vit", IMAGE),
}

KINDS = tuple(CONFIGS)
IMAGES = ("clip_vision", "dinov2", "siglip_vision", "vit")
MASKED = ("bert", "distilbert", "modernbert", "roberta")
HEADLESS = (*IMAGES, "clip_text")
CAUSAL = tuple(kind for kind in KINDS if kind not in MASKED + HEADLESS)
PARALLEL = (
    "cohere",
    "falcon",
    "falcon_new",
    "gptj",
    "neox_parallel",
    "phi",
    "stablelm_parallel",
)
POST_NORM = ("bert", "roberta", "distilbert", "opt_post_norm")  # the norm comes after the sum


def build(kind, head=False, **changed):
    """A new model of the family `kind`, with a head where it has one and `head` is true."""
    name, settings = CONFIGS[kind]
    config = transformers.AutoConfig.for_model(name, **{**settings, **changed})
    auto = transformers.AutoModel
    if head and kind not in HEADLESS:
        masked = kind in MASKED
        auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model
