"""Names that people know, as repositories of the hub and places in them.

SAELens lists published autoencoders by release and id, and many papers cite them so. Most of those
names follow from the repository by a rule, which is all that is here; a repository can always be
named itself.
"""

import re
from typing import NamedTuple

_LAYER = r"blocks\.(?P<layer>\d+)\.hook_\w+?"
_TRAINER = r"blocks\.(?P<layer>\d+)\.hook_resid_post__trainer_(?P<trainer>\d+(?P<step>_step_\d+)?)"
_ANY = r"(?P<place>.+)"
_RUN = "{run}/resid_post_layer_{layer}{step}/trainer_{trainer}"


class Release(NamedTuple):
    """A rule: patterns of a release and its ids, and where those are."""

    release: str
    name: str
    repo: str
    place: str


_RULES = [
    Release(
        r"(?P<release>gemma-scope-(?!2-)\w+-(pt|it)-\w+?)(-canonical)?",
        _ANY,
        "google/{release}",
        "{place}",
    ),
    Release(
        r"(?P<repo>gemma-scope-2-\w+-(pt|it))-(?P<kind>res|mlp|att|transcoders)(?P<all>-all)?",
        r"(?:[a-z_]+/)?(?P<place>[^/]+)",
        "google/{repo}",
        "{site}{all}/{place}",
    ),
    Release(
        r"llama_scope_lx(?P<kind>[ram])_(?P<width>8x|32x)",
        r"l(?P<layer>\d+)[ram]_(8x|32x)",
        "fnlp/Llama3_1-8B-Base-LX{KIND}-{width}",
        "Llama3_1-8B-Base-L{layer}{KIND}-{width}",
    ),
    Release("gpt2-small-res-jb", _ANY, "jbloom/GPT2-Small-SAEs-Reformatted", "{place}"),
    Release(
        "gpt2-small-res-jb-feature-splitting",
        _ANY,
        "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
        "{place}",
    ),
    Release(
        "gpt2-small-resid-post-v5-32k",
        _LAYER,
        "jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs",
        "v5_32k_layer_{layer}.pt",
    ),
    Release(
        "gpt2-small-(?P<kind>attn-out|mlp-out|resid-mid|resid-post)-v5-(?P<width>32k|128k)",
        _LAYER,
        "jbloom/GPT2-Small-OAI-v5-{width}-{kind}-SAEs",
        "v5_{width}_layer_{layer}",
    ),
    Release(
        r"gpt2-small-(?P<kind>res_\w+-ajt)",
        _LAYER,
        "neuronpedia/gpt2-small__{kind}",
        "{layer}-{kind}",
    ),
    Release(
        "pythia-70m-deduped-res-sm",
        r"blocks\.0\.hook_resid_pre",
        "ctigges/pythia-70m-deduped__res-sm_processed",
        "e-res-sm",
    ),
    Release(
        "pythia-70m-deduped-(?P<kind>att|mlp|res)-sm",
        _LAYER,
        "ctigges/pythia-70m-deduped__{kind}-sm_processed",
        "{layer}-{kind}-sm",
    ),
    Release(r"sae_bench_(?P<run>pythia70m_sweep_\w+)", _TRAINER, "canrager/lm_sae", _RUN),
    Release(
        r"sae_bench_(?P<run>gemma-2-2b_(topk|vanilla)_(?P<rest>width-2pow\d+_date-1109))",
        _TRAINER,
        "canrager/saebench_gemma-2-2b_{rest}",
        _RUN,
    ),
    Release(
        r"saebench_gemma-2-2b_(?P<rest>width-2pow\d+_date-0107)",
        _TRAINER,
        "canrager/saebench_gemma-2-2b_{rest}",
        "gemma-2-2b_matryoshka_batch_top_k_{rest}/resid_post_layer_{layer}/trainer_{trainer}",
    ),
    Release(
        "saebench_gemma-2-2b_width-2pow12_date-0108",
        _TRAINER,
        "adamkarvonen/saebench_gemma-2-2b_width-2pow12_date-0108",
        "MatryoshkaBatchTopK_gemma-2-2b__0108/resid_post_layer_{layer}/trainer_{trainer}",
    ),
    Release(
        "gemma-2-2b-res(?P<kind>-snap)?-matryoshka-dc",
        _ANY,
        "chanind/gemma-2-2b-batch-topk-matryoshka-saes-w-32k-l0-40",
        "{loss}/{place}",
    ),
    Release(
        "gemma-2-9b-res-matryoshka-dc",
        _ANY,
        "chanind/gemma-2-9b-batch-topk-matryoshka-saes-w-32k-l0-60",
        "{place}",
    ),
    Release(
        "gemma-3-1b-res-matryoshka-dc",
        _ANY,
        "chanind/gemma-3-1b-batch-topk-matryoshka-saes-w-32k-l0-40",
        "{place}",
    ),
    Release(
        r"(?P<model>[\w.-]+)-andyrdt",
        r"(?P<run>resid_post_layer_\d+)_trainer_(?P<trainer>\d+)",
        "andyrdt/saes-{model}",
        "{run}/trainer_{trainer}",
    ),
    Release("llama-3-8b-it-res-jh", _ANY, "Juliushanhanhan/llama-3-8b-it-res", "{place}"),
]
CENTERED = (
    "jbloom/GPT2-Small-SAEs-Reformatted",
    "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
)
"""Repositories of autoencoders of rows without their mean, whose files do not say so."""

_SITES = {"res": "resid_post", "mlp": "mlp_out", "att": "attn_out", "transcoders": "transcoder"}
_CANONICAL_L0 = 100
# Of two that are as near, SAELens has this one.
_UPPER = ("gemma-scope-9b-pt-att", "layer_27/width_16k/canonical")


def resolve(release, name):
    """Return ``(repo, place)`` of a release and an id of SAELens; without an id the place is None.

    Raises
    ------
    ValueError
        If no rule knows the release, or the id is not one of its ids.
    """
    # Several rules may share a pattern, with other ids.
    rules = [rule for rule in _RULES if re.fullmatch(rule.release, release)]
    if not rules:
        raise ValueError(
            f"{release!r} is neither a path nor a release that is known here. Name the repository "
            f"on the hub, as in 'owner/{release}'."
        )
    for rule in rules:
        name_match = re.fullmatch(rule.name, name or "")
        words = _words(re.fullmatch(rule.release, release), name_match)
        repo = rule.repo.format_map(words)
        if name is None:
            return repo, None
        if name_match:
            return repo, rule.place.format_map(words)
    raise ValueError(
        f"{release} has no {name!r}: that is none of the ids that SAELens has for it. Folders of "
        f"its repository can be named as they are: from_pretrained({repo!r}, ...)."
    )


def _words(release_match, name_match):
    words = {**release_match.groupdict(), **(name_match.groupdict() if name_match else {})}
    kind = words.get("kind") or ""
    return {
        **words,
        "KIND": kind.upper(),
        "site": _SITES.get(kind, kind),
        "all": "_all" if words.get("all") else "",
        "step": "_checkpoints" if words.get("step") else "",
        "loss": "snap" if kind == "-snap" else "standard",
    }


def canonical(repo, name, places):
    """Return the place that "canonical" stands for: of a width, that with an L0 nearest to 100."""
    pattern = re.escape(name.removesuffix("/canonical")) + r"/average_l0_([\d.]+)"
    l0s = {place: float(m[1]) for place in places if (m := re.fullmatch(pattern, place))}
    sign = -1 if (repo.partition("/")[2], name) == _UPPER else 1
    return min(
        l0s, key=lambda place: (abs(l0s[place] - _CANONICAL_L0), sign * l0s[place]), default=name
    )


def model_of(repo):
    """Return the model that a repository's autoencoders are of, where its name says so."""
    owner, _, name = repo.partition("/")
    if m := re.fullmatch(r"gemma-scope-2-(\w+)-(pt|it)", name):
        base = m[1] == "270m" and m[2] == "pt"  # the one pretrained model without an ending
        return f"google/gemma-3-{m[1]}" + ("" if base else f"-{m[2]}")
    if m := re.fullmatch(r"gemma-scope-(\w+)-(pt|it)-\w+", name):
        return f"google/gemma-2-{m[1]}" + ("-it" if m[2] == "it" else "")
    if owner == "fnlp" and name.startswith("Llama3_1-8B-Base"):
        return "meta-llama/Llama-3.1-8B"
    if owner == "EleutherAI" and name.startswith("sae-llama-3-8b"):
        return "meta-llama/Meta-Llama-3-8B"
    if owner == "EleutherAI" and name.startswith("sae-llama-3.1-8b"):
        return "meta-llama/Llama-3.1-8B"
    return None
