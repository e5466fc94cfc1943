"""Models and their inside: sites and hooks, loading, pickling, heads, dictionaries in torch."""

from sksae.language_models.model._head import check_head, final_hidden, logits_of
from sksae.language_models.model._hooks import (
    HookPoint,
    capture,
    interventions_ignored,
    one_pass_at_a_time,
    own_pass,
    visiting,
    without_cache,
    without_interventions,
)
from sksae.language_models.model._model_loading import (
    Loadable,
    is_name,
    load_causal,
    load_image_processor,
    load_model,
    share_loaded,
)
from sksae.language_models.model._pickling import check_weights, state_by_name
from sksae.language_models.model._random_weights import randomized_model
from sksae.language_models.model._readout import find_readout
from sksae.language_models.model._scopes import inherited_by_threads, scope
from sksae.language_models.model._site_checks import (
    check_runs_once,
    checked_hook_point,
    refuse_repeated,
    short_inputs,
)
from sksae.language_models.model._sites import (
    SITES,
    base_of,
    find_blocks,
    find_hook_point,
    input_device,
    plain,
    reads_images,
    site_label,
    split_site,
    takes,
    text_config,
)
from sksae.language_models.model._target_sites import Target, find_target
from sksae.language_models.model._torch_dictionary import (
    TorchDictionary,
    check_fitted_on,
    fitted_estimator,
    is_transcoder,
    reconstruct,
    wide,
)

__all__ = [
    "SITES",
    "HookPoint",
    "Loadable",
    "Target",
    "TorchDictionary",
    "base_of",
    "capture",
    "check_fitted_on",
    "check_head",
    "check_runs_once",
    "check_weights",
    "checked_hook_point",
    "final_hidden",
    "find_blocks",
    "find_hook_point",
    "find_readout",
    "find_target",
    "fitted_estimator",
    "inherited_by_threads",
    "input_device",
    "interventions_ignored",
    "is_name",
    "is_transcoder",
    "load_causal",
    "load_image_processor",
    "load_model",
    "logits_of",
    "one_pass_at_a_time",
    "own_pass",
    "plain",
    "randomized_model",
    "reads_images",
    "reconstruct",
    "refuse_repeated",
    "scope",
    "share_loaded",
    "short_inputs",
    "site_label",
    "split_site",
    "state_by_name",
    "takes",
    "text_config",
    "visiting",
    "wide",
    "without_cache",
    "without_interventions",
]
