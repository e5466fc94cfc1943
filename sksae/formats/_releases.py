"""Names that people know, as repositories of the hub and places in them.

SAELens lists published autoencoders by release and id, and many papers cite them so. Most of those
names follow from the repository by a rule, which is all that is here; a repository can always be
named itself.
"""

import re
from typing import NamedTuple

_HOOK = r"blocks\.(?P<layer>\d+)\.hook_\w+"
_NOT_FIRST = r"(?!blocks\.0\.hook_resid_pre)"


class Release(NamedTuple):
    """A rule: what a release and an id look like, and where that is."""

    release: str
    name: str
    repo: str
    place: str
    facts: dict = {}


_RULES = [
    Release(
        r"(?P<release>gemma-scope-(?!2-)\w+-(pt|it)-\w+?)(-canonical)?",
        r"(?P<place>.+)",
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
    Release(
        r"gpt2-small-res-jb",
        r"(?P<place>.+)",
        "jbloom/GPT2-Small-SAEs-Reformatted",
        "{place}",
        {"centered_rows": True},
    ),
    Release(
        r"gpt2-small-res-jb-feature-splitting",
        r"(?P<place>.+)",
        "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
        "{place}",
        {"centered_rows": True},
    ),
    Release(
        r"gpt2-small-resid-post-v5-32k",
        _HOOK,
        "jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs",
        "v5_32k_layer_{layer}.pt",
    ),
    Release(
        r"gpt2-small-(?P<kind>attn-out|mlp-out|resid-mid|resid-post)-v5-(?P<width>32k|128k)",
        _HOOK,
        "jbloom/GPT2-Small-OAI-v5-{width}-{kind}-SAEs",
        "v5_{width}_layer_{layer}",
    ),
    Release(
        r"pythia-70m-deduped-(?P<kind>att|mlp|res)-sm",
        _NOT_FIRST + _HOOK,
        "ctigges/pythia-70m-deduped__{kind}-sm_processed",
        "{layer}-{kind}-sm",
    ),
    Release(
        r"sae_bench_(?P<run>gemma-2-2b_(topk|vanilla)_(?P<rest>width-2pow\d+_date-1109))",
        _HOOK.replace(r"hook_\w+", r"hook_resid_post__trainer_(?P<trainer>\d+)"),
        "canrager/saebench_gemma-2-2b_{rest}",
        "{run}/resid_post_layer_{layer}/trainer_{trainer}",
    ),
    Release(
        r"gemma-2-(?P<size>2b|9b)-res-matryoshka-dc",
        r"(?P<place>.+)",
        "chanind/gemma-2-{size}-batch-topk-matryoshka-saes-w-32k-l0-{l0}",
        "{folder}{place}",
    ),
    Release(
        r"llama-3-8b-it-res-jh",
        r"(?P<place>.+)",
        "Juliushanhanhan/llama-3-8b-it-res",
        "{place}",
    ),
]
_SITES = {"res": "resid_post", "mlp": "mlp_out", "att": "attn_out", "transcoders": "transcoder"}
_CANONICAL_L0 = 100


def resolve(release, name):
    """Return ``(repo, place, facts)`` of a release and an id of SAELens.

    Raises
    ------
    ValueError
        If no rule knows the release, or the id is not one of its ids.
    """
    for rule in _RULES:
        known = re.fullmatch(rule.release, release)
        if not known:
            continue
        if name is None:
            return rule.repo.format_map(_words(known, None)), None, dict(rule.facts)
        found = re.fullmatch(rule.name, name)
        if not found:
            raise ValueError(f"{release} has no {name!r}: its ids match {rule.name}.")
        words = _words(known, found)
        return rule.repo.format_map(words), rule.place.format_map(words), dict(rule.facts)
    raise ValueError(
        f"{release!r} is neither a path nor a release that is known here. Name the repository on "
        f"the hub, as in 'owner/{release}'."
    )


def _words(known, found):
    words = {**known.groupdict(), **(found.groupdict() if found else {})}
    kind, small = words.get("kind") or "", words.get("size") == "2b"
    return {
        **words,
        "KIND": kind.upper(),
        "site": _SITES.get(kind, kind),
        "all": "_all" if words.get("all") else "",
        "l0": 40 if small else 60,
        "folder": "standard/" if small else "",
    }


def canonical(name, places):
    """Return the place that "canonical" stands for: of a width, that with an L0 nearest to 100."""
    pattern = re.escape(name.removesuffix("/canonical")) + r"/average_l0_([\d.]+)"
    l0s = {place: float(m[1]) for place in places if (m := re.fullmatch(pattern, place))}
    return min(l0s, key=lambda place: (abs(l0s[place] - _CANONICAL_L0), l0s[place]), default=name)


def model_of(repo):
    """Return the model that a repository's autoencoders are of, where its name says so."""
    owner, _, name = repo.partition("/")
    if m := re.fullmatch(r"gemma-scope-2-(\w+)-(pt|it)", name):
        return f"google/gemma-3-{m[1]}-{m[2]}"
    if m := re.fullmatch(r"gemma-scope-(\w+)-(pt|it)-\w+", name):
        return f"google/gemma-2-{m[1]}" + ("-it" if m[2] == "it" else "")
    if owner == "fnlp" and name.startswith("Llama3_1-8B-Base"):
        return "meta-llama/Llama-3.1-8B"
    if owner == "EleutherAI" and name.startswith("sae-llama-3-8b"):
        return "meta-llama/Meta-Llama-3-8B"
    if owner == "EleutherAI" and name.startswith("sae-llama-3.1-8b"):
        return "meta-llama/Llama-3.1-8B"
    return None
